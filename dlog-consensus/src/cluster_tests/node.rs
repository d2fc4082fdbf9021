//! One simulated node: a replica, a disk that keeps only what was persisted, and what its shell has queued.

use crate::output::{FetchId, Output, WriteId};
use crate::{Input, Membership, Replica, ReplicaLoader, ReplicaOptions};
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, TermStart, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, Term};
use std::collections::VecDeque;

/// What a disk holds after its last sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) created: Option<Bytes>,
    pub(super) term: Term,
    pub(super) vote: Option<ReplicaId>,
    pub(super) commit: LogIndex,
    /// What stands before the first frame.
    pub(super) start: LogPoint,
    pub(super) frames: Vec<Frame>,
    pub(super) log_start: Offset,
    pub(super) membership: Option<(LogIndex, Bytes)>,
    pub(super) producers: Option<(LogIndex, Bytes)>,
}

impl Disk {
    pub(super) fn apply(&mut self, write: ReplicaWrite) {
        assert!(write.commit >= self.commit, "a commit index went back");
        for op in write.ops {
            match op {
                WriteOp::Create(create) => {
                    assert!(self.created.is_none(), "created once");
                    self.created = Some(create.membership);
                }
                WriteOp::Append(frames) => {
                    assert!(!frames.is_empty());
                    append(self.start, &mut self.frames, frames);
                }
                WriteOp::Reset(at) => (self.start, self.frames) = (at, Vec::new()),
                WriteOp::LogStart(offset) => self.log_start = self.log_start.max(offset),
                WriteOp::Configuration { index, membership } => self.membership = Some((index, membership)),
                WriteOp::Producers { index, table } => self.producers = Some((index, table)),
                WriteOp::HardState { term, vote } => {
                    assert!(term > self.term || (term == self.term && self.vote.is_none()), "a vote is changed");
                    (self.term, self.vote) = (term, vote);
                }
                WriteOp::Cut { from } => {
                    assert!(from > self.commit, "a committed frame is cut");
                    self.frames.retain(|frame| frame.index < from);
                }
                WriteOp::Delete { .. } => panic!("nobody asked for it"),
            }
        }
        // Known when the write was made: it counts once the write's own frames stand.
        self.commit = write.commit;
    }

    pub(super) fn last(&self) -> LogPoint {
        self.frames.last().map_or(self.start, |frame| LogPoint {
            index: frame.index,
            term: frame.term,
            next_offset: frame.next_offset(),
            crc: frame.crc,
        })
    }

    pub(super) fn restored(&self, log: LogId, replica: ReplicaId) -> RestoredReplica {
        let mut term_starts: Vec<TermStart> = Vec::new();
        for frame in &self.frames {
            if term_starts.last().is_none_or(|start| start.term < frame.term) {
                term_starts.push(TermStart { term: frame.term, index: frame.index, offset: frame.base_offset });
            }
        }
        RestoredReplica {
            replica,
            log,
            intent: LogIndex(1),
            term: self.term,
            vote: self.vote,
            commit: self.commit.min(self.last().index),
            membership_index: self.membership.as_ref().map_or(LogIndex::ZERO, |(index, _)| *index),
            membership: self.membership.clone().map_or_else(|| self.created.clone().expect("created"), |(_, m)| m),
            local_start: self.start,
            log_start: self.log_start,
            last: self.last(),
            term_starts,
            producers: self.producers.clone(),
        }
    }
}

/// Appends frames, checking what storage would check.
pub(super) fn append(start: LogPoint, log: &mut Vec<Frame>, frames: Vec<Frame>) {
    for frame in frames {
        let before = (start.index, start.next_offset, start.crc);
        let (index, offset, crc) = log.last().map_or(before, |last| (last.index, last.next_offset(), last.crc));
        assert_eq!((frame.index, frame.base_offset, frame.previous_crc), (index.next(), offset, crc), "the chain");
        log.push(frame);
    }
}

/// A node.
pub(super) struct Node {
    pub(super) id: ReplicaId,
    pub(super) log: LogId,
    pub(super) options: ReplicaOptions,
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
    /// The log with everything that the machine has said, durable or not.
    pub(super) memory: Vec<Frame>,
    /// What stands before its first frame.
    memory_start: LogPoint,
    pub(super) writes: VecDeque<(WriteId, ReplicaWrite)>,
    pub(super) fetches: VecDeque<(FetchId, LogIndex, LogIndex, u64)>,
    /// What the disk thread has said and the machine has not yet been told, in order.
    pub(super) told: VecDeque<Input>,
    /// What readers find in the segments.
    pub(super) segments: Vec<Frame>,
    pub(super) applied: Vec<Frame>,
    starts: u64,
    seed: u64,
}

impl Node {
    pub(super) fn new(id: ReplicaId, log: LogId, options: ReplicaOptions, seed: u64) -> Node {
        Node {
            id,
            log,
            options,
            replica: None,
            disk: Disk::default(),
            memory: Vec::new(),
            memory_start: LogPoint::default(),
            writes: VecDeque::new(),
            fetches: VecDeque::new(),
            told: VecDeque::new(),
            segments: Vec::new(),
            applied: Vec::new(),
            starts: 0,
            seed,
        }
    }

    /// Starts it: from its disk, or empty. Gives the first outputs.
    pub(super) fn start(&mut self, membership: &Membership, now: MonotonicTime) -> Vec<Output> {
        self.starts += 1;
        let seed = self.seed ^ (self.starts << 32) ^ self.id.0;
        let mut out = Vec::new();
        (self.memory_start, self.memory) = (self.disk.start, self.disk.frames.clone());
        self.segments = self.disk.frames.clone();
        self.applied.clear();
        let replica = if self.disk.created.is_some() {
            let restored = self.disk.restored(self.log, self.id);
            let mut loader = ReplicaLoader::new(restored, LogIndex::ZERO, &self.options).expect("a consistent disk");
            let wanted = loader.wanted();
            for frame in self.disk.frames.iter().filter(|frame| wanted.contains(&frame.index)) {
                loader.replay(frame.clone()).expect("its own frames");
            }
            loader.finish(self.options.clone(), seed).expect("a consistent disk")
        } else {
            let create = Create { intent: LogIndex(1), membership: membership.encode(), start: LogPoint::default() };
            Replica::create(self.options.clone(), self.id, self.log, create, seed, now, &mut out).expect("valid")
        };
        replica.assert_invariants();
        self.replica = Some(replica);
        out
    }

    /// Power loss: what wasn't synced is gone.
    pub(super) fn crash(&mut self) {
        self.replica = None;
        self.writes.clear();
        self.fetches.clear();
        self.told.clear();
    }

    /// Syncs the first `count` queued writes.
    pub(super) fn sync(&mut self, count: usize) {
        let count = count.min(self.writes.len());
        let mut last = None;
        for (id, write) in self.writes.drain(..count) {
            self.disk.apply(write);
            last = Some(id);
        }
        self.told.extend(last.map(|write| Input::Persisted { write }));
    }

    /// What is durable is now in its segment too.
    pub(super) fn write_out(&mut self) {
        if self.segments != self.disk.frames {
            self.segments = self.disk.frames.clone();
            let last = self.disk.last();
            self.told.push_back(Input::WrittenOut { index: last.index, next_offset: last.next_offset });
        }
    }

    pub(super) fn answer_fetch(&mut self) -> Option<Input> {
        let (fetch, from, to, max_bytes) = self.fetches.pop_front()?;
        let mut bytes = 0;
        let mut frames = Vec::new();
        for frame in self.disk.frames.iter().filter(|frame| frame.index >= from && frame.index < to) {
            bytes += frame.payload.len() as u64;
            if !frames.is_empty() && bytes > max_bytes {
                break;
            }
            frames.push(frame.clone());
        }
        Some(Input::EntriesRead { fetch, result: Ok(frames) })
    }

    /// Notes a write that the machine said.
    pub(super) fn take_write(&mut self, id: WriteId, write: ReplicaWrite) {
        assert!(self.writes.back().is_none_or(|(last, _)| *last < id), "write ids rise");
        for op in &write.ops {
            match op {
                WriteOp::Append(frames) => append(self.memory_start, &mut self.memory, frames.clone()),
                WriteOp::Reset(at) => (self.memory_start, self.memory) = (*at, Vec::new()),
                WriteOp::Cut { from } => self.memory.retain(|frame| frame.index < *from),
                _ => {}
            }
        }
        self.writes.push_back((id, write));
    }

    pub(super) fn leads(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::is_leader)
    }
}
