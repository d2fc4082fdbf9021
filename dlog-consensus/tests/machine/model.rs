//! What storage promises, as a value: the state of one replica, and what one write does to it.

use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, TermStart, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset, ReplicaId, Term};

/// One replica's state. `apply` asserts what the machine promises of its writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub created: Option<Create>,
    pub term: Term,
    pub vote: Option<ReplicaId>,
    pub commit: LogIndex,
    pub frames: Vec<Frame>,
    pub producers: Option<(LogIndex, Bytes)>,
}

impl Model {
    pub fn last(&self) -> LogPoint {
        self.frames.last().map_or(LogPoint::default(), |frame| LogPoint {
            index: frame.index,
            term: frame.term,
            next_offset: frame.next_offset(),
            crc: frame.crc,
        })
    }

    pub fn frame(&self, index: LogIndex) -> Option<&Frame> {
        self.frames.get(usize::try_from(index.0).expect("small").checked_sub(1)?)
    }

    pub fn offset_after(&self, index: LogIndex) -> Offset {
        if index == LogIndex::ZERO {
            return Offset::ZERO;
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
                self.frames.truncate(usize::try_from(from.0 - 1).expect("small"));
            }
            WriteOp::Append(frames) => {
                assert!(!frames.is_empty());
                for frame in frames {
                    self.append(log, frame);
                }
            }
            other => panic!("{other:?} isn't said by this version"),
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
            membership_index: LogIndex::ZERO,
            membership: create.membership,
            local_start: LogPoint::default(),
            log_start: Offset::ZERO,
            last: self.last(),
            term_starts,
            producers: self.producers.clone(),
        })
    }

    /// Commands in the log up to and with `index`.
    pub fn commands(&self, index: LogIndex) -> Vec<Frame> {
        let frames = self.frames.iter().take_while(|frame| frame.index <= index);
        frames.filter(|frame| frame.kind == FrameKind::Command).cloned().collect()
    }
}
