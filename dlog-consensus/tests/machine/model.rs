//! What storage promises, as a value: the state of one replica, and what one write does to it.

use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, TermStart, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, Offset, ReplicaId, Term};

/// One replica's state. `apply` asserts what the machine promises of its writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub created: Option<Create>,
    pub term: Term,
    pub vote: Option<ReplicaId>,
    pub commit: LogIndex,
    /// What stands before the first frame.
    pub start: LogPoint,
    pub frames: Vec<Frame>,
    pub log_start: Offset,
    pub membership: Option<(LogIndex, Bytes)>,
    pub producers: Option<(LogIndex, Bytes)>,
}

impl Model {
    pub fn last(&self) -> LogPoint {
        self.frames.last().map_or(self.start, |frame| LogPoint {
            index: frame.index,
            term: frame.term,
            next_offset: frame.next_offset(),
            crc: frame.crc,
        })
    }

    pub fn frame(&self, index: LogIndex) -> Option<&Frame> {
        let at = index.0.checked_sub(self.start.index.0 + 1)?;
        self.frames.get(usize::try_from(at).expect("small"))
    }

    pub fn offset_after(&self, index: LogIndex) -> Offset {
        if index == self.start.index {
            return self.start.next_offset;
        }
        self.frame(index).expect("an index in the log").next_offset()
    }

    pub fn apply(&mut self, log: LogId, write: &ReplicaWrite) {
        assert_eq!(write.log, log);
        assert!(write.commit >= self.commit, "the commit index never goes back");
        for op in &write.ops {
            self.apply_op(log, op);
        }
        assert!(self.last().term <= self.term, "an entry's term is known as soon as the entry is");
        self.commit = write.commit;
    }

    fn apply_op(&mut self, log: LogId, op: &WriteOp) {
        match op {
            WriteOp::Create(create) => {
                assert_eq!(self.created, None, "a replica is created once");
                self.created = Some(create.clone());
            }
            WriteOp::HardState { term, vote } => {
                assert!(*term >= self.term, "the term never goes back");
                assert!(*term > self.term || self.vote.is_none() || self.vote == *vote, "a vote is never changed");
                (self.term, self.vote) = (*term, *vote);
            }
            WriteOp::Cut { from } => {
                assert!(*from > self.commit, "nothing committed is cut");
                assert!(*from <= self.last().index, "a cut takes something away");
                self.frames.truncate(usize::try_from(from.0 - self.start.index.0 - 1).expect("small"));
            }
            WriteOp::Append(frames) => {
                assert!(!frames.is_empty());
                for frame in frames {
                    self.append(log, frame);
                }
            }
            WriteOp::LogStart(offset) => self.log_start = self.log_start.max(*offset),
            WriteOp::Reset(at) => {
                assert!(at.index > self.commit, "a log is reset only to go forward");
                (self.start, self.frames) = (*at, Vec::new());
            }
            WriteOp::Configuration { index, membership } => self.membership = Some((*index, membership.clone())),
            WriteOp::Producers { index, table } => self.keep_producers(*index, table.clone()),
            WriteOp::Delete { .. } => panic!("nobody asked for it"),
        }
    }

    pub fn keep_producers(&mut self, index: LogIndex, table: Bytes) {
        assert!(self.producers.as_ref().is_none_or(|(known, _)| *known <= index), "tables go forward");
        assert!(index >= self.start.index, "a start could not replay from there");
        self.producers = Some((index, table));
    }

    /// The last index that may be dropped: below the log start, and not needed to replay the table.
    pub fn droppable(&self) -> LogIndex {
        let table = self.producers.as_ref().map_or(LogIndex::ZERO, |(index, _)| *index);
        let below =
            self.frames.iter().take_while(|frame| frame.next_offset() <= self.log_start && frame.index <= table);
        below.last().map_or(self.start.index, |frame| frame.index)
    }

    /// Frames up to and with `index` are dropped, if they are still here.
    pub fn drop_through(&mut self, index: LogIndex) {
        if let Some(frame) = self.frame(index) {
            let (index, term, next_offset, crc) = (frame.index, frame.term, frame.next_offset(), frame.crc);
            self.start = LogPoint { index, term, next_offset, crc };
            self.frames.retain(|frame| frame.index > index);
        }
    }

    fn append(&mut self, log: LogId, frame: &Frame) {
        let last = self.last();
        assert_eq!(frame.index, last.index.next(), "frames are contiguous");
        assert_eq!((frame.base_offset, frame.previous_crc), (last.next_offset, last.crc), "frames are chained");
        assert!(frame.term >= last.term, "terms never go back");
        let mut bytes = Vec::new();
        frame.encode_into(&mut bytes);
        assert_eq!(Frame::decode(log, &Bytes::from(bytes)).as_ref(), Ok(frame), "frames are whole");
        self.frames.push(frame.clone());
    }

    pub fn restored(&self, log: LogId, replica: ReplicaId) -> Option<RestoredReplica> {
        let create = self.created.clone()?;
        let mut term_starts: Vec<TermStart> = Vec::new();
        // As storage has it: where the log begins in the middle of a term, that term is named again.
        for frame in &self.frames {
            if term_starts.last().is_none_or(|start| start.term < frame.term) {
                term_starts.push(TermStart { term: frame.term, index: frame.index, offset: frame.base_offset });
            }
        }
        Some(RestoredReplica {
            replica,
            log,
            intent: create.intent,
            term: self.term,
            vote: self.vote,
            commit: self.commit.min(self.last().index),
            membership_index: self.membership.as_ref().map_or(LogIndex::ZERO, |(index, _)| *index),
            membership: self.membership.clone().map_or(create.membership, |(_, membership)| membership),
            local_start: self.start,
            log_start: self.log_start,
            last: self.last(),
            term_starts,
            producers: self.producers.clone(),
        })
    }
}
