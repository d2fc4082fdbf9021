//! What is left of the journal's operations on frames once all of them are known: a file that a later cut, reset or delete
//! removed may be gone, so replay must not ask for it, and frames that were cut again need not be written.

use crate::checkpoint::Checkpoint;
use dlog_core::write::{LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{LogId, LogIndex, Offset, ReplicaId};
use std::collections::BTreeMap;

/// Frames of one append that are still there at the end.
///
/// Invariant: `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    append: u64,
    first: LogIndex,
    last: LogIndex,
}

/// One replica's net.
///
/// Invariants: runs are contiguous, the first follows the base; their `append` rises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    /// Its log.
    pub log: LogId,
    /// Nothing else matters.
    pub deleted: Option<LogIndex>,
    /// The journal starts it; the base is this point.
    pub created: Option<LogPoint>,
    /// The base holds nothing any more; the log goes on after this point.
    pub reset: Option<LogPoint>,
    /// The base holds nothing at or above this index any more.
    pub cut: Option<LogIndex>,
    /// The furthest move of the log start, resets included.
    pub log_start: Option<Offset>,
    base_last: LogIndex,
    appends: u64,
    runs: Vec<Run>,
}

/// All replicas' nets.
pub(crate) struct Nets {
    nets: BTreeMap<ReplicaId, Net>,
    ends: BTreeMap<ReplicaId, LogIndex>,
}

impl Nets {
    /// Nothing is behind the checkpoint yet.
    pub fn new(checkpoint: &Checkpoint) -> Nets {
        let ends = checkpoint.replicas.iter().map(|replica| (replica.replica, replica.log_state.last.index));
        Nets { nets: BTreeMap::new(), ends: ends.collect() }
    }

    /// Takes the next group.
    pub fn take(&mut self, writes: &[ReplicaWrite]) {
        for write in writes {
            let base_last = self.ends.get(&write.replica).copied().unwrap_or_default();
            let net = self.nets.entry(write.replica).or_insert_with(|| Net::new(write.log, base_last));
            write.ops.iter().for_each(|op| net.take(op));
        }
    }

    /// One replica's net, if the journal has a record of it.
    pub fn get(&self, replica: ReplicaId) -> Option<&Net> {
        self.nets.get(&replica)
    }

    /// Every replica that the journal has a record of.
    pub fn created(&self) -> impl Iterator<Item = (LogId, ReplicaId)> {
        self.nets.iter().map(|(replica, net)| (net.log, *replica))
    }
}

impl Net {
    fn new(log: LogId, base_last: LogIndex) -> Net {
        let (created, reset, cut, log_start) = (None, None, None, None);
        Net { log, deleted: None, created, reset, cut, log_start, base_last, appends: 0, runs: Vec::new() }
    }

    fn take(&mut self, op: &WriteOp) {
        match op {
            WriteOp::Create(create) => {
                self.created = Some(create.start);
                self.base_last = create.start.index;
            }
            WriteOp::Append(frames) => {
                if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
                    self.runs.push(Run { append: self.appends, first: first.index, last: last.index });
                }
                self.appends += 1;
            }
            WriteOp::Cut { from } => self.cut_at(*from),
            WriteOp::LogStart(offset) => self.log_start = self.log_start.max(Some(*offset)),
            WriteOp::Reset(point) => {
                (self.reset, self.cut, self.base_last) = (Some(*point), None, point.index);
                self.log_start = self.log_start.max(Some(point.next_offset));
                self.runs.clear();
            }
            WriteOp::Delete { ended } => self.deleted = Some(*ended),
            WriteOp::HardState { .. } | WriteOp::Configuration { .. } | WriteOp::Producers { .. } => {}
        }
    }

    fn cut_at(&mut self, from: LogIndex) {
        self.runs.retain(|run| run.first < from);
        if let Some(run) = self.runs.last_mut() {
            run.last = run.last.min(from.previous());
        }
        if from <= self.base_last {
            (self.cut, self.base_last) = (Some(from), from.previous());
        }
    }

    /// Whether a frame of the replica's append with this number (from 0, over the whole journal behind the checkpoint) is
    /// still in the log at the end.
    pub fn keeps(&self, append: u64, index: LogIndex) -> bool {
        let at = self.runs.partition_point(|run| run.append < append);
        self.runs.get(at).is_some_and(|run| run.append == append && run.first <= index && index <= run.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dlog_core::{Frame, FrameKind, Term};

    fn append(first: u64, last: u64) -> WriteOp {
        let frame = |index| {
            let index = LogIndex(index);
            Frame::new(LogId(1), FrameKind::NoOp, Term(1), index, Offset(0), 0, 0, Bytes::new())
        };
        WriteOp::Append((first..=last).map(frame).collect())
    }

    fn kept(net: &Net, append: u64) -> Vec<u64> {
        (0..100).filter(|index| net.keeps(append, LogIndex(*index))).collect()
    }

    #[test]
    fn cuts_reach_into_runs_and_base() {
        let mut net = Net::new(LogId(1), LogIndex(10));
        net.take(&append(11, 15));
        net.take(&WriteOp::Cut { from: LogIndex(14) });
        net.take(&append(14, 20));
        assert_eq!((kept(&net, 0), kept(&net, 1)), ((11..=13).collect(), (14..=20).collect()));
        assert_eq!(net.cut, None, "the base is whole");
        net.take(&WriteOp::Cut { from: LogIndex(8) });
        net.take(&append(8, 9));
        net.take(&WriteOp::Cut { from: LogIndex(9) });
        assert_eq!((kept(&net, 0), kept(&net, 2), net.cut), (vec![], vec![8], Some(LogIndex(8))));
    }

    #[test]
    fn a_reset_forgets_what_was_before() {
        let mut net = Net::new(LogId(1), LogIndex(10));
        net.take(&WriteOp::Cut { from: LogIndex(5) });
        net.take(&append(5, 6));
        let point = LogPoint { index: LogIndex(50), ..LogPoint::default() };
        net.take(&WriteOp::Reset(point));
        net.take(&append(51, 52));
        assert_eq!((kept(&net, 0), kept(&net, 1)), (vec![], vec![51, 52]));
        assert_eq!((net.reset, net.cut), (Some(point), None));
    }
}
