//! What consensus may look at of its log without I/O: where it begins and ends, its term starts, and the frames that are still
//! needed at any moment.
//!
//! A frame is *pinned* (held in memory, whole) while it isn't both applied and written to its segment. The raft crate asks for
//! unapplied entries in places where it takes no "not now" for an answer, and a cut needs the chain's CRC before it: both lie
//! above the applied index, so both are always here.

use dlog_core::write::{LogPoint, RestoredReplica, TermStart};
use dlog_core::{Frame, LogIndex, Offset, Term};
use std::collections::VecDeque;

/// The view of one replica's log.
///
/// Invariants ([`LogView::assert_invariants`]): the pinned frames are contiguous and end at `last`; every frame above
/// min(applied, written) is pinned; term starts rise strictly in term and index and lie in the log.
#[derive(Debug)]
pub(crate) struct LogView {
    local_start: LogPoint,
    last: LogPoint,
    term_starts: Vec<TermStart>,
    pinned: VecDeque<Frame>,
    pinned_bytes: usize,
    applied: LogIndex,
    written: LogPoint,
}

impl LogView {
    /// The view of a log as storage restored it. All of it stands in segments; frames above `applied` must be pushed by
    /// [`LogView::pin_restored`] before anything else.
    pub(crate) fn new(restored: &RestoredReplica, applied: LogIndex) -> LogView {
        LogView {
            local_start: restored.local_start,
            last: restored.last,
            term_starts: restored.term_starts.clone(),
            pinned: VecDeque::new(),
            pinned_bytes: 0,
            applied,
            written: restored.last,
        }
    }

    pub(crate) fn local_start(&self) -> LogPoint {
        self.local_start
    }

    pub(crate) fn last(&self) -> LogPoint {
        self.last
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The last frame in a segment; only index and next offset of the point are meant.
    pub(crate) fn written(&self) -> LogPoint {
        self.written
    }

    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// The first pinned index; one above the last frame if there is none.
    pub(crate) fn pinned_start(&self) -> LogIndex {
        LogIndex(self.last.index.0 + 1 - self.pinned.len() as u64)
    }

    /// The pinned frame at `index`.
    pub(crate) fn frame(&self, index: LogIndex) -> Option<&Frame> {
        let at = index.0.checked_sub(self.pinned_start().0)?;
        self.pinned.get(at as usize)
    }

    /// The term of the entry at `index`, from the one before the first to the last.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.local_start.index {
            return Some(self.local_start.term);
        }
        if index < self.local_start.index || index > self.last.index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        let start = after.checked_sub(1).and_then(|at| self.term_starts.get(at));
        // A log that begins in the middle of a term needs no start for it.
        Some(start.map_or(self.local_start.term, |start| start.term))
    }

    /// The offset after the entry at `index`: known for the last one and for every one before a pinned one.
    pub(crate) fn offset_after(&self, index: LogIndex) -> Option<Offset> {
        if index == self.last.index {
            return Some(self.last.next_offset);
        }
        self.frame(index.next()).map(|frame| frame.base_offset)
    }

    /// A restored frame above the applied index, in order.
    pub(crate) fn pin_restored(&mut self, frame: Frame) {
        self.pinned_bytes += frame.encoded_bytes();
        self.pinned.push_back(frame);
    }

    /// The frame that follows the last one, made of an entry. Its CRC chains to the last frame's, so every replica makes the
    /// same bytes.
    pub(crate) fn push(&mut self, frame: Frame) {
        assert_eq!(frame.index, self.last.index.next(), "frames are contiguous");
        assert_eq!(frame.base_offset, self.last.next_offset, "offsets are gapless");
        assert_eq!(frame.previous_crc, self.last.crc, "frames are chained");
        if frame.term > self.last.term {
            self.term_starts.push(TermStart { term: frame.term, index: frame.index, offset: frame.base_offset });
        }
        assert!(frame.term >= self.last.term, "terms never go back within a log");
        self.last = LogPoint { index: frame.index, term: frame.term, next_offset: frame.next_offset(), crc: frame.crc };
        self.pinned_bytes += frame.encoded_bytes();
        self.pinned.push_back(frame);
    }

    /// Every frame at or above `from` is gone. `from` is not committed, so it is pinned.
    pub(crate) fn cut(&mut self, from: LogIndex) {
        assert!(from > self.applied, "cut at {from}, applied {}", self.applied);
        let first_gone = self.frame(from).expect("frames above the applied one are pinned");
        let (next_offset, crc) = (first_gone.base_offset, first_gone.previous_crc);
        let index = from.previous();
        let term = self.term(index).expect("the index before a frame has a term");
        while self.last.index >= from {
            let Some(frame) = self.pinned.pop_back() else { break };
            self.pinned_bytes -= frame.encoded_bytes();
            self.last.index = frame.index.previous();
        }
        self.last = LogPoint { index, term, next_offset, crc };
        self.term_starts.retain(|start| start.index < from);
        if self.written.index > index {
            self.written = self.last;
        }
    }

    /// The log is empty and goes on after `at`, which lies above everything applied. What is before it counts as applied and
    /// written: it is nobody's business here any more.
    pub(crate) fn reset(&mut self, at: LogPoint) {
        assert!(at.index > self.applied, "reset to {}, applied {}", at.index, self.applied);
        (self.local_start, self.last, self.written) = (at, at, at);
        self.applied = at.index;
        self.term_starts.clear();
        self.pinned.clear();
        self.pinned_bytes = 0;
    }

    /// Frames up to and with `start`, all of them applied and written, are no longer kept. A place before the local start says
    /// nothing new.
    pub(crate) fn clip(&mut self, start: LogPoint) {
        if start.index <= self.local_start.index {
            return;
        }
        assert!(start.index <= self.applied.min(self.written.index), "frames up to {} are still needed", start.index);
        assert_eq!(self.term(start.index), Some(start.term), "the log begins at a place of its own");
        self.local_start = start;
        self.term_starts.retain(|term| term.index > start.index);
    }

    /// Entries up to and with `index` are applied.
    pub(crate) fn set_applied(&mut self, index: LogIndex) {
        assert!(index >= self.applied && index <= self.last.index, "applied {} then {index}", self.applied);
        self.applied = index;
        self.unpin();
    }

    /// Frames up to and with `index` stand in their segments. An index beyond the last frame (told before a cut) counts as far
    /// as the log goes; it never goes back.
    pub(crate) fn set_written(&mut self, index: LogIndex) {
        let index = index.min(self.last.index);
        if index <= self.written.index {
            return;
        }
        let next_offset = self.offset_after(index).expect("frames above the written one are pinned");
        self.written = LogPoint { index, next_offset, ..LogPoint::default() };
        self.unpin();
    }

    fn unpin(&mut self) {
        let keep_above = self.applied.min(self.written.index);
        while self.pinned.front().is_some_and(|frame| frame.index <= keep_above) {
            if let Some(frame) = self.pinned.pop_front() {
                self.pinned_bytes -= frame.encoded_bytes();
            }
        }
    }

    /// Checks what the type promises; cheap enough for every step of a test.
    pub(crate) fn assert_invariants(&self) {
        let needed = self.applied.min(self.written.index);
        assert!(self.pinned_start() <= needed.next(), "pinned from {}, needed above {needed}", self.pinned_start());
        let mut expected = self.pinned_start();
        for frame in &self.pinned {
            assert_eq!(frame.index, expected, "pinned frames are contiguous");
            expected = expected.next();
        }
        assert_eq!(expected, self.last.index.next(), "pinned frames end at the last one");
        let bytes: usize = self.pinned.iter().map(Frame::encoded_bytes).sum();
        assert_eq!(bytes, self.pinned_bytes, "pinned bytes are counted");
        for pair in self.term_starts.windows(2) {
            assert!(pair[0].term < pair[1].term && pair[0].index < pair[1].index, "term starts rise");
        }
        assert!(self.term_starts.iter().all(|start| start.index > self.local_start.index));
        assert!(self.term_starts.last().is_none_or(|start| start.index <= self.last.index));
        assert_eq!(self.term(self.last.index), Some(self.last.term), "the last term start is the last frame's term");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dlog_core::{FrameKind, LogId, NodeId, ReplicaId};

    fn empty() -> LogView {
        let restored = RestoredReplica {
            replica: ReplicaId::new(NodeId(1), 1),
            log: LogId(3),
            intent: LogIndex(0),
            term: Term(0),
            vote: None,
            commit: LogIndex(0),
            membership_index: LogIndex(0),
            membership: Bytes::new(),
            local_start: LogPoint::default(),
            log_start: Offset(0),
            last: LogPoint::default(),
            term_starts: Vec::new(),
            producers: None,
        };
        LogView::new(&restored, LogIndex(0))
    }

    fn push(view: &mut LogView, term: u64, count: u32) {
        let last = view.last();
        let kind = if count == 0 { FrameKind::NoOp } else { FrameKind::Records };
        let frame = Frame::new(
            LogId(3),
            kind,
            Term(term),
            last.index.next(),
            last.next_offset,
            count,
            last.crc,
            Bytes::from_static(b"x"),
        );
        view.push(frame);
        view.assert_invariants();
    }

    #[test]
    fn terms_are_answered_from_their_starts() {
        let mut view = empty();
        for term in [1, 1, 3, 3, 7] {
            push(&mut view, term, 2);
        }
        let terms: Vec<Option<Term>> = (0..=6).map(|index| view.term(LogIndex(index))).collect();
        assert_eq!(terms, [Some(0), Some(1), Some(1), Some(3), Some(3), Some(7), None].map(|t| t.map(Term)));
        assert_eq!(view.offset_after(LogIndex(0)), Some(Offset(0)));
        assert_eq!(view.offset_after(LogIndex(3)), Some(Offset(6)));
    }

    #[test]
    fn a_frame_stays_until_it_is_applied_and_written() {
        let mut view = empty();
        for _ in 0..4 {
            push(&mut view, 1, 1);
        }
        view.set_written(LogIndex(3));
        assert_eq!(view.pinned_start(), LogIndex(1));
        view.set_applied(LogIndex(2));
        view.assert_invariants();
        assert_eq!(view.pinned_start(), LogIndex(3));
        view.set_written(LogIndex(99));
        view.set_applied(LogIndex(4));
        view.assert_invariants();
        assert_eq!((view.pinned_start(), view.pinned_bytes()), (LogIndex(5), 0));
        assert_eq!(view.written().next_offset, Offset(4));
    }

    #[test]
    fn a_clipped_log_still_knows_the_term_before_its_first_frame() {
        let mut view = empty();
        let mut points = vec![view.last()];
        for term in [1, 1, 3, 3, 7] {
            push(&mut view, term, 2);
            points.push(view.last());
        }
        view.set_written(LogIndex(5));
        view.set_applied(LogIndex(3));
        view.clip(points[3]);
        view.assert_invariants();
        assert_eq!(view.local_start(), points[3]);
        let terms: Vec<Option<Term>> = (2..=6).map(|index| view.term(LogIndex(index))).collect();
        assert_eq!(terms, [None, Some(3), Some(3), Some(7), None].map(|t| t.map(Term)));
        view.clip(points[2]);
        assert_eq!(view.local_start(), points[3]);
        view.set_applied(LogIndex(5));
        view.clip(points[5]);
        view.assert_invariants();
        assert_eq!((view.term(LogIndex(5)), view.last()), (Some(Term(7)), points[5]));
        push(&mut view, 7, 1);
        assert_eq!(view.term(LogIndex(6)), Some(Term(7)));
    }

    #[test]
    fn a_reset_log_goes_on_behind_its_point() {
        let mut view = empty();
        push(&mut view, 1, 3);
        push(&mut view, 1, 3);
        let at = LogPoint { index: LogIndex(9), term: Term(4), next_offset: Offset(40), crc: 77 };
        view.reset(at);
        view.assert_invariants();
        assert_eq!((view.local_start(), view.last(), view.applied()), (at, at, LogIndex(9)));
        assert_eq!((view.term(LogIndex(1)), view.term(LogIndex(9))), (None, Some(Term(4))));
        view.set_written(LogIndex(2));
        push(&mut view, 4, 2);
        push(&mut view, 5, 2);
        view.cut(LogIndex(11));
        view.assert_invariants();
        assert_eq!(view.offset_after(LogIndex(9)), Some(Offset(40)));
    }

    #[test]
    fn a_cut_goes_back_to_the_chain_before_it() {
        let mut view = empty();
        push(&mut view, 1, 3);
        let before = view.last();
        push(&mut view, 2, 2);
        push(&mut view, 2, 2);
        view.set_written(LogIndex(3));
        view.set_applied(LogIndex(1));
        view.cut(LogIndex(2));
        view.assert_invariants();
        assert_eq!(view.last(), before);
        assert_eq!(view.written().index, LogIndex(1));
        assert_eq!(view.written().next_offset, Offset(3));
        push(&mut view, 4, 1);
        assert_eq!(view.term(LogIndex(2)), Some(Term(4)));
    }
}
