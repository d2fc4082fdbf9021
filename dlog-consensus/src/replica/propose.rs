//! What a leader is asked to append: duplicates are found, offsets given, and all that is accepted goes in at once.

use super::Replica;
use crate::input::{Acks, Proposal};
use crate::message::raft_entry;
use crate::options::{BATCHES_PER_PROPOSAL_MAX, COMMAND_BYTES_MAX, PENDING_REQUESTS_MAX};
use crate::output::{Appended, Output};
use crate::producers::Verdict;
use crate::proposal::{Answer, Pending, Reached, not_leader};
use bytes::Bytes;
use dlog_core::batch::{BatchHeader, stamp};
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::{FrameKind, LogIndex, Offset, RequestId, Term};
use raft::eraftpb::{Entry, Message, MessageType};

/// Entries on their way into the log, and where the next one will stand.
struct Staged {
    entries: Vec<Entry>,
    index: LogIndex,
    offset: Offset,
}

impl Replica {
    pub(crate) fn on_propose(&mut self, proposals: Vec<Proposal>, out: &mut Vec<Output>) {
        let last = self.view().last();
        let first = last.index.next();
        let mut staged = Staged { entries: Vec::new(), index: first, offset: last.next_offset };
        let mut accepted = Vec::new();
        for proposal in proposals {
            let request = proposal.request;
            match self.may_propose().and_then(|()| self.stage(proposal, &mut staged)) {
                Ok(pending) => accepted.push(pending),
                Err(error) => out.push(Output::Reply { request, result: Err(error) }),
            }
        }
        match self.append(staged.entries) {
            Ok(()) => accepted.into_iter().for_each(|pending| self.proposals.push(pending)),
            Err(error) => {
                self.producers.retract(first);
                for pending in accepted {
                    out.push(Output::Reply { request: pending.request, result: Err(error.clone()) });
                }
            }
        }
    }

    pub(crate) fn on_command(&mut self, request: RequestId, command: Bytes, out: &mut Vec<Output>) {
        let index = self.view().last().index.next();
        let fits = if command.len() <= COMMAND_BYTES_MAX && !command.is_empty() {
            Ok(())
        } else {
            let text = format!("a command has 1 to {COMMAND_BYTES_MAX} bytes, not {}", command.len());
            Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text))
        };
        let entry = || vec![raft_entry(FrameKind::Command, Term::ZERO, LogIndex::ZERO, command)];
        match fits.and_then(|()| self.may_propose()).and_then(|()| self.append(entry())) {
            Ok(()) => self.proposals.push(Pending { request, index, acks: Acks::Quorum, answer: Answer::Command }),
            Err(error) => out.push(Output::Reply { request, result: Err(error) }),
        }
    }

    fn may_propose(&self) -> Result<(), ErrorDetail> {
        if !self.is_leader() {
            return Err(not_leader(self.leader(), Outcome::Rejected));
        }
        if self.stopping || self.raw.raft.lead_transferee.is_some() {
            return Err(not_leader(None, Outcome::Rejected));
        }
        if self.proposals.len() >= PENDING_REQUESTS_MAX
            || self.view().pinned_bytes() > self.options.pinned_bytes_max
        {
            return Err(overloaded());
        }
        Ok(())
    }

    /// Judges and stamps the batches of one proposal: all of them, or none.
    fn stage(&mut self, proposal: Proposal, staged: &mut Staged) -> Result<Pending, ErrorDetail> {
        let (kept, index, offset) = (staged.entries.len(), staged.index, staged.offset);
        let result = self.stage_batches(&proposal, staged);
        match result {
            Ok((wait_for, batches)) => Ok(Pending {
                request: proposal.request,
                index: wait_for,
                acks: proposal.acks,
                answer: Answer::Appended(batches),
            }),
            Err(error) => {
                staged.entries.truncate(kept);
                (staged.index, staged.offset) = (index, offset);
                self.producers.retract(index);
                Err(error)
            }
        }
    }

    fn stage_batches(
        &mut self,
        proposal: &Proposal,
        staged: &mut Staged,
    ) -> Result<(LogIndex, Vec<Appended>), ErrorDetail> {
        if proposal.batches.is_empty() || proposal.batches.len() > BATCHES_PER_PROPOSAL_MAX {
            let text = format!("a request holds 1 to {BATCHES_PER_PROPOSAL_MAX} batches, not {}", proposal.batches.len());
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text));
        }
        let mut wait_for = LogIndex::ZERO;
        let mut appended = Vec::with_capacity(proposal.batches.len());
        for batch in &proposal.batches {
            let header = BatchHeader::decode(batch).map_err(|error| error.to_detail(Stage::Admission))?;
            let (base_offset, index, duplicate) = self.place(&header, staged)?;
            if !duplicate {
                let stamped = stamp(batch, base_offset, self.term(), proposal.append_time);
                staged.entries.push(raft_entry(FrameKind::Records, Term::ZERO, LogIndex::ZERO, stamped));
                staged.index = index.next();
                staged.offset = base_offset.plus(u64::from(header.record_count));
            }
            wait_for = wait_for.max(index);
            let last_offset = base_offset.plus(u64::from(header.record_count) - 1);
            appended.push(Appended { base_offset, last_offset, duplicate });
        }
        Ok((wait_for, appended))
    }

    /// Where a batch stands or will stand, and whether it is there already.
    fn place(&mut self, header: &BatchHeader, staged: &Staged) -> Result<(Offset, LogIndex, bool), ErrorDetail> {
        let fresh = (staged.offset, staged.index, false);
        let Some(sequence) = header.producer() else { return Ok(fresh) };
        if self.view().term(self.view().applied()) != Some(self.term()) {
            // Entries of earlier terms may still hold batches of this producer that the table doesn't know yet.
            let text = "the new leader is not ready for idempotent producers yet; send again in a moment";
            let error = ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Admission, text);
            return Err(error.with_retry_after_ms(10));
        }
        match self.producers.judge(sequence, header.record_count) {
            Verdict::Fresh => {
                self.producers.propose(sequence, header.record_count, staged.offset, staged.index);
                Ok(fresh)
            }
            Verdict::Duplicate { base_offset } => Ok((base_offset, LogIndex::ZERO, true)),
            Verdict::InFlight { base_offset, index } => Ok((base_offset, index, true)),
            Verdict::Refused(code, text) => Err(ErrorDetail::rejected(code, Stage::Admission, text)),
        }
    }

    fn append(&mut self, entries: Vec<Entry>) -> Result<(), ErrorDetail> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.replica.0;
        message.set_entries(entries.into());
        self.raw.step(message).map_err(|_| overloaded())
    }

    /// Answers what has become durable enough.
    pub(crate) fn release(&mut self, out: &mut Vec<Output>) {
        if self.proposals.is_empty() {
            return;
        }
        let persisted = LogIndex(self.raw.raft.raft_log.persisted);
        let everywhere = if self.proposals.wants_all() { self.everywhere(persisted) } else { LogIndex::ZERO };
        self.proposals.release(Reached { committed: self.committed(), persisted, everywhere }, out);
    }

    /// Durable on every voter that is in sync now.
    fn everywhere(&self, own: LogIndex) -> LogIndex {
        let others = self.membership.voters.iter().filter(|voter| **voter != self.replica);
        let matched = |voter: &dlog_core::ReplicaId| self.matched(*voter);
        others.filter(|voter| self.is_in_sync(**voter)).map(matched).fold(own, LogIndex::min)
    }
}

fn overloaded() -> ErrorDetail {
    let text = "too much is waiting to be replicated in this partition; send again in a moment";
    ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, text).with_retry_after_ms(20)
}
