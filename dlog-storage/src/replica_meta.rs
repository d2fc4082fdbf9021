//! What a shard knows of one replica beside its frames, and which writes may follow: applied alike when a group is
//! committed and when it is replayed.

use crate::error::StorageError;
use crate::journal::group::is_batch_sized;
use bytes::Bytes;
use dlog_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, ReplicaId, Term};

/// One replica as of the last group of the journal.
///
/// Invariants: `local_start <= last_index`; `term` and `commit` never go back; `last` is known unless a cut moved the end;
/// `producers` is never below `local_start`, but may lie above `last_index` behind a snapshot; it is `None` or `producers_newest`,
/// which never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaMeta {
    /// Its log.
    pub log: LogId,
    /// The group 0 index of the intent that started it.
    pub intent: LogIndex,
    /// Raft's current term.
    pub term: Term,
    /// The vote in it.
    pub vote: Option<ReplicaId>,
    /// The greatest commit index told so far; what a record carries is at most `last_index`.
    pub commit: LogIndex,
    /// The entry that made `membership`.
    pub membership_index: LogIndex,
    /// Opaque here.
    pub membership: Bytes,
    /// Label of its newest producer file, which stands in its folder, synced.
    pub producers: Option<LogIndex>,
    /// The greatest label that was given, as far as known. Labels only rise, over a reset too: so a file with a lower label than
    /// both checkpoints have is named by nothing in the journal either, and can go.
    pub producers_newest: Option<LogIndex>,
    /// The index before the first one kept.
    pub local_start: LogIndex,
    /// The last frame's index.
    pub last_index: LogIndex,
    /// All of the last frame that the next one is checked against; `None` behind a cut, until frames follow.
    pub last: Option<LogPoint>,
    /// Gone for good; its files go with the next write-out.
    pub deleted: Option<LogIndex>,
}

impl ReplicaMeta {
    /// A replica that never was here.
    pub fn create(log: LogId, create: &Create) -> ReplicaMeta {
        ReplicaMeta {
            log,
            intent: create.intent,
            term: Term::ZERO,
            vote: None,
            commit: LogIndex::ZERO,
            membership_index: LogIndex::ZERO,
            membership: create.membership.clone(),
            producers: None,
            producers_newest: None,
            local_start: create.start.index,
            last_index: create.start.index,
            last: Some(create.start),
            deleted: None,
        }
    }

    /// The commit index that a record carries: never above the frames that stand in the journal up to it, so that a torn
    /// group can't hold frames that an earlier record calls committed.
    pub fn recorded_commit(&self) -> LogIndex {
        self.commit.min(self.last_index)
    }

    /// Takes one write, `Create` apart. On an error it is half taken: work on a copy.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] says which invariant the write breaks.
    pub fn apply(&mut self, write: &ReplicaWrite) -> Result<(), StorageError> {
        let invalid = |what: String| {
            let detail = format!("replica {}: {what}", write.replica);
            StorageError::Invalid { detail }
        };
        if write.log != self.log {
            return Err(invalid(format!("a write for log {}, but it is of log {}", write.log, self.log)));
        }
        for op in &write.ops {
            if self.deleted.is_some() {
                return Err(invalid("an operation after its delete".to_string()));
            }
            self.apply_op(op).map_err(invalid)?;
        }
        self.commit = self.commit.max(write.commit);
        Ok(())
    }

    fn apply_op(&mut self, op: &WriteOp) -> Result<(), String> {
        match op {
            WriteOp::Create(_) => {}
            WriteOp::Append(frames) => {
                if frames.is_empty() {
                    return Err("an append without frames".to_string());
                }
                frames.iter().try_for_each(|frame| self.append(frame))?;
            }
            WriteOp::HardState { term, vote } => {
                let other_vote = *term == self.term && self.vote.is_some() && *vote != self.vote;
                if *term < self.term || other_vote {
                    return Err(format!("hard state {term}, {vote:?} after {}, {:?}", self.term, self.vote));
                }
                (self.term, self.vote) = (*term, *vote);
            }
            WriteOp::Configuration { index, membership } => {
                (self.membership_index, self.membership) = (*index, membership.clone());
            }
            WriteOp::Cut { from } => self.cut(*from)?,
            WriteOp::LogStart(_) => {}
            WriteOp::Reset(point) => {
                (self.local_start, self.last_index, self.last) = (point.index, point.index, Some(*point));
                self.producers = None;
            }
            WriteOp::Producers { index, .. } => {
                if *index < self.local_start || Some(*index) < self.producers_newest {
                    let (start, known) = (self.local_start, self.producers_newest);
                    return Err(format!("producers as of {index}, local start {start}, known as of {known:?}"));
                }
                self.label_producers(*index);
            }
            WriteOp::Delete { ended } => self.deleted = Some(*ended),
        }
        Ok(())
    }

    /// Its newest producer file is the one of this label.
    pub fn label_producers(&mut self, index: LogIndex) {
        (self.producers, self.producers_newest) = (Some(index), Some(index));
    }

    fn append(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.index != self.last_index.next() {
            return Err(format!("frame {} behind {}", frame.index, self.last_index));
        }
        let follows = |last: LogPoint| {
            frame.previous_crc == last.crc && frame.base_offset == last.next_offset && frame.term >= last.term
        };
        if let Some(last) = self.last.filter(|last| !follows(*last)) {
            return Err(format!("frame {} does not continue the chain behind {last:?}", frame.index));
        }
        if frame.payload.len() > FRAME_PAYLOAD_BYTES_MAX || !is_batch_sized(frame) {
            return Err(format!("frame {} has {} bytes of payload", frame.index, frame.payload.len()));
        }
        self.last_index = frame.index;
        self.last =
            Some(LogPoint { index: frame.index, term: frame.term, next_offset: frame.next_offset(), crc: frame.crc });
        Ok(())
    }

    fn cut(&mut self, from: LogIndex) -> Result<(), String> {
        if from > self.last_index {
            return Ok(());
        }
        if from <= self.commit.min(self.last_index) || from <= self.local_start {
            return Err(format!("a cut at {from}, committed {}, local start {}", self.commit, self.local_start));
        }
        (self.last_index, self.last) = (from.previous(), None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::Offset;

    fn write(ops: Vec<WriteOp>) -> ReplicaWrite {
        ReplicaWrite { log: LogId(2), replica: ReplicaId(9), commit: LogIndex::ZERO, ops }
    }

    /// A second snapshot with an older table took the file of the first one's label for the newer: the file that the journal
    /// named was removed with the next checkpoint but one.
    #[test]
    fn labels_only_rise_over_a_reset_too() {
        let at = |index| LogPoint { index: LogIndex(index), term: Term(1), next_offset: Offset(index), crc: 7 };
        let table = |index| WriteOp::Producers { index: LogIndex(index), table: Bytes::new() };
        let start = at(0);
        let mut meta = ReplicaMeta::create(LogId(2), &Create { intent: LogIndex(1), membership: Bytes::new(), start });
        meta.apply(&write(vec![WriteOp::Reset(at(67)), table(70)])).expect("a snapshot");
        let back = meta.clone().apply(&write(vec![WriteOp::Reset(at(68)), table(69)]));
        assert!(matches!(back, Err(StorageError::Invalid { .. })), "{back:?}");
        meta.apply(&write(vec![WriteOp::Reset(at(68)), table(70)])).expect("the same state");
        assert_eq!((meta.producers, meta.producers_newest), (Some(LogIndex(70)), Some(LogIndex(70))));
        meta.apply(&write(vec![WriteOp::Reset(at(69))])).expect("without a table");
        assert_eq!((meta.producers, meta.producers_newest), (None, Some(LogIndex(70))));
    }
}
