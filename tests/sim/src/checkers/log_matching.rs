//! One log: what any replica has committed is, frame by frame, what every other one has, for ever.

use crate::trace::fingerprint;
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, FrameKind, LogIndex, Offset, Term};
use std::collections::BTreeSet;
use std::ops::Range;

/// A committed frame, as the first replica showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    term: Term,
    kind: FrameKind,
    base_offset: Offset,
    next_offset: Offset,
    /// Of the payload.
    hash: u64,
    /// Covers the frame, and through the chain all before it.
    crc: u32,
}

/// The log of one partition as far as any replica has committed it.
///
/// Invariants: indexes are contiguous from 1, offsets from 0; terms don't go back. `unseen` are indexes of `frames`.
#[derive(Debug, Default)]
pub struct CommittedLog {
    frames: Vec<Committed>,
    /// Frames that retention dropped before anyone looked: only where they end is known.
    unseen: BTreeSet<LogIndex>,
    /// Terms whose leader's own empty entry was seen.
    opened: BTreeSet<Term>,
}

/// What [`CommittedLog::observe`] learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The frame was known, and is the same.
    Known,
    /// It is the first to be seen at its index.
    New,
}

impl CommittedLog {
    /// A replica has this frame at or below its commit index.
    ///
    /// # Errors
    /// If it differs from what was committed there, or doesn't follow what stands before.
    pub fn observe(&mut self, frame: &Frame) -> Result<Seen, String> {
        let now = Committed {
            term: frame.term,
            kind: frame.kind,
            base_offset: frame.base_offset,
            next_offset: frame.next_offset(),
            hash: fingerprint(&frame.payload),
            crc: frame.crc,
        };
        let index = frame.index;
        let known = index.0 as usize <= self.frames.len() && !self.unseen.contains(&index);
        if !known && frame.kind == FrameKind::NoOp && !self.opened.insert(frame.term) {
            // The raft crate puts one in the place of a change that it doesn't take, and says nothing.
            return Err(format!("frame {index} is a second empty one of term {}", frame.term));
        }
        if self.unseen.remove(&index) {
            self.frames[index.0 as usize - 1] = now;
            return Ok(Seen::New);
        }
        if let Some(known) = self.frames.get(index.0 as usize - 1) {
            let text = || format!("frame {index} was committed as {known:?}, and here it is {now:?}");
            return if *known == now { Ok(Seen::Known) } else { Err(text()) };
        }
        if index.0 as usize != self.frames.len() + 1 {
            return Err(format!("frame {index} is committed, but only {} before it were seen", self.frames.len()));
        }
        if frame.base_offset != self.end() {
            return Err(format!(
                "frame {index} begins at offset {} but the log ends at {}",
                frame.base_offset,
                self.end()
            ));
        }
        if self.frames.last().is_some_and(|last| last.term > now.term) {
            return Err(format!("frame {index} is of term {}, older than the one before", now.term));
        }
        self.frames.push(now);
        Ok(Seen::New)
    }

    /// A replica keeps nothing up to here any more. What nobody has seen of that was committed, and may never be seen.
    /// Gives the offsets that are passed over.
    pub fn pass_over(&mut self, start: LogPoint) -> Range<Offset> {
        let from = self.end();
        for index in self.last().0 + 1..=start.index.0 {
            self.unseen.insert(LogIndex(index));
            self.frames.push(Committed {
                term: start.term,
                kind: FrameKind::NoOp,
                base_offset: from,
                next_offset: start.next_offset,
                hash: 0,
                crc: start.crc,
            });
        }
        from..self.end()
    }

    /// The offset after the last record.
    pub fn end(&self) -> Offset {
        self.frames.last().map_or(Offset::ZERO, |frame| frame.next_offset)
    }

    /// The last index.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.frames.len() as u64)
    }

    /// A reader that asked for `from` was given `batches`, up to `next`.
    ///
    /// # Errors
    /// If they aren't the committed ones, in order, without a gap.
    pub fn read(&self, from: Offset, batches: &[Bytes], next: Offset) -> Result<(), String> {
        let first = self.frames.partition_point(|frame| frame.next_offset <= from);
        let mut expected = self.frames[first..].iter().filter(|frame| frame.kind == FrameKind::Records);
        let mut at = from;
        for batch in batches {
            let Some(frame) = expected.next() else {
                return Err(format!("a read from offset {from} gave a batch at {at}, beyond what is committed"));
            };
            if frame.hash != fingerprint(batch) {
                return Err(format!("a read from offset {from} gave a batch at {at} that isn't the committed one"));
            }
            at = frame.next_offset;
        }
        if at == next { Ok(()) } else { Err(format!("a read from {from} ended at {at}, but says {next}")) }
    }
}
