//! [`TailCache`]: the newest frames of a shard's logs, shared with the producers' buffers, so that readers at the tail cost
//! no disk and one buffer for all of them.

use crate::segment::lock;
use bytes::Bytes;
use dlog_core::frame::FRAME_HEADER_BYTES;
use dlog_core::{Frame, FrameKind, LogIndex, Offset, ReplicaId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What one cached frame is counted as beyond its payload: header, places in two collections.
const ENTRY_OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + 132;

/// A bounded store of recent frames. Clones share it. The bytes counted are the frames' own; a payload that is a slice of a
/// larger buffer pins all of that, so writers hand in payloads with buffers of their own.
#[derive(Clone, Debug)]
pub struct TailCache {
    bytes_max: usize,
    inner: Arc<Mutex<Inner>>,
}

/// Invariants: each run is contiguous by index; `order` names every cached frame once, oldest first; `bytes` is the sum of
/// their costs and at most `bytes_max`.
#[derive(Debug, Default)]
struct Inner {
    runs: BTreeMap<ReplicaId, VecDeque<Cached>>,
    order: BTreeMap<u64, ReplicaId>,
    next_number: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Cached {
    number: u64,
    frame: Frame,
}

fn cost(frame: &Frame) -> usize {
    frame.payload.len() + ENTRY_OVERHEAD_BYTES
}

impl TailCache {
    /// A cache that holds at most `bytes_max` bytes, its own overhead counted; 0 keeps nothing.
    pub fn new(bytes_max: usize) -> TailCache {
        TailCache { bytes_max, inner: Arc::default() }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        lock(&self.inner).bytes
    }

    /// Adds frames behind those of `replica`. If they don't follow, the older ones are dropped first: a run has no gap.
    pub fn push(&self, replica: ReplicaId, frames: &[Frame]) {
        let mut inner = lock(&self.inner);
        for frame in frames {
            if cost(frame) > self.bytes_max {
                inner.cut(replica, LogIndex::ZERO);
                continue;
            }
            let follows = inner.last(replica).is_none_or(|last| last.next() == frame.index);
            if !follows {
                inner.cut(replica, LogIndex::ZERO);
            }
            while inner.bytes + cost(frame) > self.bytes_max {
                inner.drop_oldest();
            }
            let number = inner.next_number;
            inner.next_number += 1;
            inner.bytes += cost(frame);
            inner.order.insert(number, replica);
            inner.runs.entry(replica).or_default().push_back(Cached { number, frame: frame.clone() });
        }
        inner.assert_invariants(self.bytes_max, replica);
    }

    /// Drops the frames of `replica` at and above `from`.
    pub fn cut(&self, replica: ReplicaId, from: LogIndex) {
        lock(&self.inner).cut(replica, from);
    }

    /// Drops everything of `replica`.
    pub fn forget(&self, replica: ReplicaId) {
        self.cut(replica, LogIndex::ZERO);
    }

    /// The batches from the one that holds `from`, up to `bound`, of about `bytes_max` bytes but at least one. `None` if
    /// `from` isn't here: it may be older, or not written yet.
    pub fn batches(
        &self,
        replica: ReplicaId,
        from: Offset,
        bound: Offset,
        bytes_max: usize,
    ) -> Option<(Vec<Bytes>, Offset)> {
        let inner = lock(&self.inner);
        let run = inner.runs.get(&replica)?;
        if run.front()?.frame.base_offset > from {
            return None;
        }
        let first = run.partition_point(|cached| cached.frame.next_offset() <= from);
        let (mut batches, mut next, mut bytes) = (Vec::new(), from, 0usize);
        for Cached { frame, .. } in run.range(first..) {
            if frame.kind != FrameKind::Records {
                continue;
            }
            let full = !batches.is_empty() && bytes + frame.payload.len() > bytes_max;
            if full || frame.next_offset() > bound {
                break;
            }
            bytes += frame.payload.len();
            next = frame.next_offset();
            batches.push(frame.payload.clone());
        }
        (!batches.is_empty()).then_some((batches, next))
    }

    /// The frames from `from` up to, not with, `to`, of about `bytes_max` bytes but at least one. `None` if `from` isn't
    /// here.
    pub fn frames(&self, replica: ReplicaId, from: LogIndex, to: LogIndex, bytes_max: usize) -> Option<Vec<Frame>> {
        let inner = lock(&self.inner);
        let run = inner.runs.get(&replica)?;
        let at = usize::try_from(from.0.checked_sub(run.front()?.frame.index.0)?).ok()?;
        if at >= run.len() {
            return None;
        }
        let (mut frames, mut bytes) = (Vec::new(), 0usize);
        for Cached { frame, .. } in run.range(at..).take_while(|cached| cached.frame.index < to) {
            if !frames.is_empty() && bytes + frame.encoded_bytes() > bytes_max {
                break;
            }
            bytes += frame.encoded_bytes();
            frames.push(frame.clone());
        }
        (!frames.is_empty()).then_some(frames)
    }
}

impl Inner {
    fn last(&self, replica: ReplicaId) -> Option<LogIndex> {
        self.runs.get(&replica)?.back().map(|cached| cached.frame.index)
    }

    fn cut(&mut self, replica: ReplicaId, from: LogIndex) {
        let Some(run) = self.runs.get_mut(&replica) else { return };
        while run.back().is_some_and(|cached| cached.frame.index >= from) {
            let cached = run.pop_back().expect("it was just seen");
            self.order.remove(&cached.number);
            self.bytes -= cost(&cached.frame);
        }
        if run.is_empty() {
            self.runs.remove(&replica);
        }
    }

    fn drop_oldest(&mut self) {
        let (number, replica) = self.order.pop_first().expect("bytes are held, so frames are");
        let run = self.runs.get_mut(&replica).expect("every number has its run");
        let cached = run.pop_front().expect("a run is never empty");
        assert_eq!(cached.number, number, "the oldest number is the front of its run");
        self.bytes -= cost(&cached.frame);
        if run.is_empty() {
            self.runs.remove(&replica);
        }
    }

    /// Cheap enough for every push: only the ends of one run.
    fn assert_invariants(&self, bytes_max: usize, replica: ReplicaId) {
        debug_assert!(self.bytes <= bytes_max, "the bound holds");
        debug_assert_eq!(self.order.is_empty(), self.bytes == 0);
        if let Some(run) = self.runs.get(&replica) {
            let (first, last) = (run.front().expect("never empty"), run.back().expect("never empty"));
            debug_assert_eq!(last.frame.index.0 - first.frame.index.0 + 1, run.len() as u64, "a run has no gap");
        }
    }
}

#[cfg(test)]
#[path = "tail_cache_tests.rs"]
mod tests;
