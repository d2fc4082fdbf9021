//! What of a peer's message is checked against this replica before the raft crate sees it. The crate trusts its input: a commit
//! index beyond the log, a gap, or a vote at the wrong moment panics it. A refused message changes nothing.

use super::Replica;
use crate::configuration::ChangeEntry;
use crate::error::Refusal;
use crate::message::{MessageKind, PeerMessage, WireEntry};
use crate::options::PENDING_READS_MAX;
use crate::payload;
use dlog_core::batch::{self, BatchLimits};
use dlog_core::{FrameKind, LogId, LogIndex, Offset, Term};

impl Replica {
    pub(super) fn check_message(&self, message: &PeerMessage) -> Result<(), Refusal> {
        if message.to != self.replica {
            return Err(Refusal::NotForUs(message.to));
        }
        if message.log != self.log {
            return Err(Refusal::AnotherLog(message.log));
        }
        message.validate()?;
        if message.kind.is_response() && self.driver.raft().prs().get(message.from.0).is_none() {
            return Err(Refusal::NotAMember(message.from));
        }
        match message.kind {
            MessageKind::Append => self.check_append(message),
            MessageKind::Heartbeat => self.check_beyond(message, message.commit),
            MessageKind::AppendResponse => self.check_append_response(message),
            // A genuine vote comes after our request for it left, and that waited for every write. The crate panics if a
            // replica becomes leader while its frames aren't durable.
            MessageKind::RequestVoteResponse | MessageKind::RequestPreVoteResponse
                if self.driver.is_candidate() && self.driver.is_writing_frames() =>
            {
                Err(Refusal::NotDurable)
            }
            MessageKind::TimeoutNow if self.driver.is_writing_frames() => Err(Refusal::NotDurable),
            MessageKind::TimeoutNow if self.driver.disk.stuck => Err(Refusal::DiskStuck),
            MessageKind::TimeoutNow if self.stopping.is_some() => Err(Refusal::Stopping),
            MessageKind::TimeoutNow if self.repair.is_mending() => Err(Refusal::Damaged),
            MessageKind::RepairRequest if !self.membership.contains(message.from) => {
                Err(Refusal::NotAMember(message.from))
            }
            MessageKind::ReadIndex if !self.driver.is_leader() => Err(Refusal::NotLeader),
            MessageKind::ReadIndex if self.driver.raft().pending_read_count() >= PENDING_READS_MAX => {
                Err(Refusal::Overloaded)
            }
            MessageKind::ReadIndexResponse if !self.reads.is_pending(&message.context) => Err(Refusal::Unasked),
            _ => Ok(()),
        }
    }

    /// `index` counts only if the message isn't of an older term.
    fn check_beyond(&self, message: &PeerMessage, index: LogIndex) -> Result<(), Refusal> {
        let last = self.driver.storage().view.last().index;
        if message.term >= self.term() && index > last {
            return Err(Refusal::Beyond { index, last });
        }
        Ok(())
    }

    fn check_append_response(&self, message: &PeerMessage) -> Result<(), Refusal> {
        if message.reject && message.reject_hint > message.index {
            return Err(Refusal::Field("reject_hint"));
        }
        // Others than the leader of its term ignore it: it may speak of what a restart has lost.
        if message.term > self.term() || !self.driver.is_leader() {
            return Ok(());
        }
        self.check_beyond(message, message.index)
    }

    fn check_append(&self, message: &PeerMessage) -> Result<(), Refusal> {
        let view = &self.driver.storage().view;
        if message.term < self.term() || message.index < self.driver.commit() {
            // Answered by the crate without a look at the entries.
            return Ok(());
        }
        // A leader has every committed entry, so its terms from there on are no lower. Refused because the crate would look for
        // the place where the terms meet one index at a time, down to the log's beginning.
        if view.term(self.driver.commit()).is_some_and(|term| message.log_term < term) {
            return Err(Refusal::Committed(message.index));
        }
        if view.term(message.index) != Some(message.log_term) {
            // The crate answers where the logs differ.
            return Ok(());
        }
        let is_new = |entry: &&WireEntry| view.term(entry.index) != Some(entry.term);
        let Some(first) = message.entries.iter().position(|entry| is_new(&entry)) else { return Ok(()) };
        let new = &message.entries[first..];
        let bytes: usize = new.iter().map(|entry| entry.payload.len()).sum();
        // Only while writing out will free some: what isn't committed is freed by taking more entries, and what isn't durable is
        // bounded by what a leader has in flight.
        let frees = view.written().index < view.applied();
        if frees && view.pinned_bytes() + bytes > self.options.pinned_bytes_max {
            return Err(Refusal::Overloaded);
        }
        let before = new[0].index.previous();
        if before < self.driver.commit() {
            return Err(Refusal::Committed(new[0].index));
        }
        let mut next_offset = view.offset_after(before).ok_or(Refusal::Committed(new[0].index))?;
        for entry in new {
            next_offset = check_entry(self.log, entry, next_offset)?;
        }
        Ok(())
    }
}

/// Checks an entry that would be appended at `next_offset`; gives the offset after it.
pub(crate) fn check_entry(log: LogId, entry: &WireEntry, next_offset: Offset) -> Result<Offset, Refusal> {
    let index = entry.index;
    let wrong = |reason: String| Refusal::Entry { index, reason };
    match entry.kind {
        FrameKind::Records if log != LogId::GROUP_ZERO => {
            let header =
                batch::validate(&entry.payload, BatchLimits::HARD).map_err(|error| wrong(error.to_string()))?;
            if header.base_offset != next_offset {
                return Err(Refusal::BaseOffset { index, expected: next_offset, found: header.base_offset });
            }
            if header.term() != Some(stamped_term(entry.term)) {
                return Err(wrong("the batch is stamped with another term".to_owned()));
            }
            let end = next_offset.0.checked_add(u64::from(header.record_count)).filter(|end| *end <= Offset::MAX.0);
            end.map(Offset).ok_or_else(|| wrong("no offsets are left".to_owned()))
        }
        FrameKind::Configuration => {
            ChangeEntry::decode(&entry.payload).map_err(|error| wrong(error.to_string()))?;
            Ok(next_offset)
        }
        FrameKind::NoOp if entry.payload.is_empty() => Ok(next_offset),
        FrameKind::Command if log == LogId::GROUP_ZERO && entry.payload.len() <= crate::options::COMMAND_BYTES_MAX => {
            Ok(next_offset)
        }
        FrameKind::LogStart if log != LogId::GROUP_ZERO => {
            let to = payload::decode_log_start(&entry.payload).map_err(|error| wrong(error.to_string()))?;
            if to > next_offset {
                return Err(wrong(format!("the log would start at {to}, behind its end {next_offset}")));
            }
            Ok(next_offset)
        }
        FrameKind::ProducerExpiry if log != LogId::GROUP_ZERO => {
            payload::decode_expiry(&entry.payload).map_err(|error| wrong(error.to_string()))?;
            Ok(next_offset)
        }
        kind => Err(wrong(format!("{kind:?} can't stand in this log, or not like this"))),
    }
}

/// The term as a batch's 32-bit field holds it.
fn stamped_term(term: Term) -> Term {
    Term(term.0.min(i32::MAX as u64))
}
