//! What a peer's message must pass before the raft crate sees it: a bad one panics the crate, or makes it take what isn't so.

use super::Replica;
use crate::error::Refusal;
use crate::message::{MessageKind, PeerMessage, WireEntry};
use dlog_core::batch::{BatchLimits, validate};
use dlog_core::{FrameKind, LogId, LogIndex, Offset, limits};

impl Replica {
    /// Refuses what must not be stepped. Changes nothing.
    pub(crate) fn admit(&self, message: &PeerMessage) -> Result<(), Refusal> {
        message.validate()?;
        if message.to != self.replica {
            return Err(Refusal::NotForUs(message.to));
        }
        if message.log != self.log {
            return Err(Refusal::AnotherLog(message.log));
        }
        let last = self.view().last().index;
        let beyond = |index: LogIndex| if index > last { Err(Refusal::Beyond { index, last }) } else { Ok(()) };
        match message.kind {
            MessageKind::Append => self.admit_append(message),
            // The crate panics on a commit beyond its log; an honest leader never sends more than this replica acked.
            MessageKind::Heartbeat => beyond(message.commit),
            MessageKind::AppendResponse => {
                if !self.membership.members().contains(&message.from) {
                    return Err(Refusal::NotAMember(message.from));
                }
                if message.reject { Ok(()) } else { beyond(message.index) }
            }
            MessageKind::HeartbeatResponse
            | MessageKind::RequestVoteResponse
            | MessageKind::RequestPreVoteResponse
            | MessageKind::TimeoutNow
                if !self.membership.members().contains(&message.from) =>
            {
                Err(Refusal::NotAMember(message.from))
            }
            // It would campaign at once, with frames that aren't durable.
            MessageKind::TimeoutNow if !self.writes.is_empty() => Err(Refusal::NotDurable),
            MessageKind::ReadIndex | MessageKind::ReadIndexResponse => Err(Refusal::Field("kind")),
            _ => Ok(()),
        }
    }

    fn admit_append(&self, message: &PeerMessage) -> Result<(), Refusal> {
        if message.term < self.term() {
            // Answered with the newer term, not appended.
            return Ok(());
        }
        let view = self.view();
        if view.pinned_bytes() > self.options.pinned_bytes_max {
            return Err(Refusal::Overloaded);
        }
        if message.index < self.committed() {
            // Answered with the commit index, not appended.
            return Ok(());
        }
        if message.index > view.last().index || view.term(message.index) != Some(message.log_term) {
            // The crate rejects it, and nothing of it is appended.
            return Ok(());
        }
        let known = |entry: &&WireEntry| view.term(entry.index) == Some(entry.term);
        let new = &message.entries[message.entries.iter().take_while(known).count()..];
        let Some(first) = new.first() else { return Ok(()) };
        if first.index <= self.committed() {
            return Err(Refusal::Committed(first.index));
        }
        let Some(mut expected) = view.offset_after(first.index.previous()) else {
            return Err(Refusal::Committed(first.index));
        };
        for entry in new {
            expected = self.admit_entry(entry, expected)?;
        }
        Ok(())
    }

    /// The offset after an entry that would be appended at `expected`.
    fn admit_entry(&self, entry: &WireEntry, expected: Offset) -> Result<Offset, Refusal> {
        let bad = |reason: String| Refusal::Entry { index: entry.index, reason };
        if entry.payload.len() > limits::FRAME_PAYLOAD_BYTES_MAX {
            return Err(bad("payload too large".to_owned()));
        }
        match entry.kind {
            FrameKind::NoOp if entry.payload.is_empty() => Ok(expected),
            FrameKind::Command if self.log == LogId::GROUP_ZERO => Ok(expected),
            FrameKind::Records if self.log != LogId::GROUP_ZERO => {
                let header = validate(&entry.payload, BatchLimits::HARD).map_err(|error| bad(error.to_string()))?;
                if header.base_offset != expected {
                    let found = header.base_offset;
                    return Err(Refusal::BaseOffset { index: entry.index, expected, found });
                }
                Ok(expected.plus(u64::from(header.record_count)))
            }
            kind => Err(bad(format!("kind {kind:?} may not stand in this log in this version"))),
        }
    }
}
