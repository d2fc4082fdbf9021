//! How a leader takes proposals: all checks first, then one step of the raft crate, so that a proposal is appended whole or not
//! at all and its base offsets are known.

use super::Replica;
use crate::input::{Acks, Proposal};
use crate::message::raft_entry;
use crate::options::{BATCHES_PER_PROPOSAL_MAX, COMMAND_BYTES_MAX, PENDING_REQUESTS_MAX};
use crate::output::{Appended, Output, Reply};
use crate::producers::{Decision, SequenceError};
use crate::proposal::Pending;
use bytes::Bytes;
use dlog_core::batch::{self, BatchHeader, ProducerSequence};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::mutants::{self, Mutant};
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, Offset, RequestId, Term, limits};
use raft_proto::eraftpb::{Entry, Message, MessageType};

/// Bytes of entries that one step appends, beyond its first batch: they become one write, which must fit into one group of the
/// journal.
const STEP_BYTES_MAX: usize = limits::FRAME_PAYLOAD_BYTES_MAX;
/// When a client that was refused for want of room or of a leader may try again.
const RETRY_SOON_MS: u32 = 20;

/// Entries and requests that one step will take.
struct Step {
    entries: Vec<Entry>,
    waiting: Vec<Pending>,
    bytes: usize,
    next_index: LogIndex,
    next_offset: Offset,
}

impl Replica {
    fn begin_step(&self) -> Step {
        let last = self.driver.storage().view.last();
        let (next_index, next_offset) = (last.index.next(), last.next_offset);
        Step { entries: Vec::new(), waiting: Vec::new(), bytes: 0, next_index, next_offset }
    }

    pub(super) fn propose_all(&mut self, now: MonotonicTime, proposals: Vec<Proposal>, out: &mut Vec<Output>) {
        let mut step = self.begin_step();
        for proposal in proposals {
            let bytes: usize = proposal.batches.iter().map(Bytes::len).sum();
            if step.bytes > 0 && step.bytes + bytes > STEP_BYTES_MAX {
                self.take_step(now, step, out);
                step = self.begin_step();
            }
            let (request, mark) = (proposal.request, self.producers.mark());
            if let Err(error) = self.admit(proposal, bytes, &mut step) {
                self.producers.undo_to(mark);
                out.push(Output::Reply { request, result: Err(error) });
            }
        }
        self.take_step(now, step, out);
    }

    pub(super) fn propose_command(
        &mut self,
        now: MonotonicTime,
        request: RequestId,
        command: Bytes,
        out: &mut Vec<Output>,
    ) {
        let mut step = self.begin_step();
        match self.admit_command(request, command, &mut step) {
            Ok(()) => self.take_step(now, step, out),
            Err(error) => out.push(Output::Reply { request, result: Err(error) }),
        }
    }

    /// Appends an entry of the replica's own making, with the request that waits for it if there is one. Nothing else may be
    /// appended between the choice of `waiting`'s index and this.
    pub(super) fn propose_entry(
        &mut self,
        now: MonotonicTime,
        kind: FrameKind,
        payload: Bytes,
        waiting: Option<Pending>,
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorDetail> {
        let mut step = self.begin_step();
        self.check_room(payload.len(), &step)?;
        step.bytes = payload.len();
        step.entries.push(raft_entry(kind, self.term(), step.next_index, payload));
        step.waiting.extend(waiting);
        self.take_step(now, step, out);
        Ok(())
    }

    /// Steps what was admitted. It was checked against everything for which the crate drops proposals.
    fn take_step(&mut self, now: MonotonicTime, step: Step, out: &mut Vec<Output>) {
        if !step.entries.is_empty() {
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.replica.0;
            message.set_entries(step.entries.into());
            if let Err(error) = self.driver.call(|raw| raw.step(message)) {
                self.producers.undo_to(0);
                let text = format!("the proposal was dropped ({error}); send it again");
                let error = ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Replication, text);
                let replies = step.waiting.into_iter();
                out.extend(replies.map(|p| Output::Reply { request: p.request, result: Err(error.clone()) }));
                return;
            }
            self.driver.fill_windows();
        }
        self.producers.keep();
        for pending in step.waiting {
            if mutants::is(Mutant::DuplicateAckedAtOnce) && pending.index == LogIndex::ZERO {
                out.push(Output::Reply { request: pending.request, result: Ok(pending.reply) });
                continue;
            }
            self.pending.push(pending);
        }
        self.settle(now, out);
    }

    /// Checks one proposal and adds it to the step.
    fn admit(&mut self, proposal: Proposal, bytes: usize, step: &mut Step) -> Result<(), ErrorDetail> {
        self.check_leading()?;
        self.check_room(bytes, step)?;
        let count = proposal.batches.len();
        if count == 0 || count > BATCHES_PER_PROPOSAL_MAX || (count > 1 && bytes > STEP_BYTES_MAX) {
            let text = format!(
                "a request may have 1 to {BATCHES_PER_PROPOSAL_MAX} batches of {STEP_BYTES_MAX} bytes together, this one has {count} of {bytes}"
            );
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text));
        }
        if self.log == LogId::GROUP_ZERO {
            let text = "the metadata group takes no records";
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text));
        }
        let term = self.term();
        let (mut next_index, mut next_offset) = (step.next_index, step.next_offset);
        let mut plan: Vec<(Offset, LogIndex)> = Vec::with_capacity(count);
        let mut appended = Vec::with_capacity(count);
        let mut waits_for = LogIndex::ZERO;
        for bytes in &proposal.batches {
            let header = BatchHeader::decode(bytes).map_err(|error| error.to_detail(Stage::Admission))?;
            check_batch(bytes, &header, next_offset)?;
            if let Some(original) = self.admit_sequence(&header, next_offset, next_index)? {
                let (base_offset, last_offset) = (original.base_offset, original.last_offset);
                appended.push(Appended { base_offset, last_offset, duplicate: true });
                let at_once = mutants::is(Mutant::DuplicateAckedAtOnce);
                waits_for = waits_for.max(if at_once { LogIndex::ZERO } else { original.index });
                plan.push((Offset::ZERO, LogIndex::ZERO));
                continue;
            }
            self.check_space()?;
            let last_offset = next_offset.plus(u64::from(header.record_count - 1));
            appended.push(Appended { base_offset: next_offset, last_offset, duplicate: false });
            plan.push((next_offset, next_index));
            waits_for = next_index;
            (next_index, next_offset) = (next_index.next(), last_offset.plus(1));
        }
        // From here on nothing fails: now the batches are copied.
        for (bytes, (base_offset, index)) in proposal.batches.iter().zip(plan) {
            if index > LogIndex::ZERO {
                let payload = batch::stamp(bytes, base_offset, term, proposal.append_time);
                step.entries.push(raft_entry(FrameKind::Records, term, index, payload));
                step.bytes += bytes.len();
            }
        }
        (step.next_index, step.next_offset) = (next_index, next_offset);
        let (request, acks, reply) = (proposal.request, proposal.acks, Reply::Appended(appended));
        step.waiting.push(Pending { request, acks, index: waits_for, term, reply });
        Ok(())
    }

    fn admit_command(&mut self, request: RequestId, command: Bytes, step: &mut Step) -> Result<(), ErrorDetail> {
        self.check_leading()?;
        self.check_room(command.len(), step)?;
        if self.log != LogId::GROUP_ZERO || command.is_empty() || command.len() > COMMAND_BYTES_MAX {
            let text = format!("log {} does not take a command of {} bytes", self.log, command.len());
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text));
        }
        let (term, index) = (self.term(), step.next_index);
        step.bytes += command.len();
        step.entries.push(raft_entry(FrameKind::Command, term, index, command));
        step.waiting.push(Pending { request, acks: Acks::Quorum, index, term, reply: Reply::Command { index } });
        Ok(())
    }

    /// What the producer table says of a batch: the original if it is a duplicate.
    fn admit_sequence(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        index: LogIndex,
    ) -> Result<Option<crate::producers::KnownBatch>, ErrorDetail> {
        let Some(sequence) = header.producer() else { return Ok(None) };
        if !self.driver.raft().apply_to_current_term() && !mutants::is(Mutant::EarlyProducers) {
            let text = "the new leader has not yet applied what its predecessors left; send again in a moment";
            let error = ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Admission, text);
            return Err(error.with_retry_after_ms(RETRY_SOON_MS));
        }
        match self.producers.admit(sequence, header.record_count, base_offset, index) {
            Ok(Decision::Append) => Ok(None),
            Ok(Decision::Duplicate(original)) => Ok(Some(original)),
            Err(error) => Err(sequence_error(sequence, error)),
        }
    }

    /// Whether this replica may append at all.
    pub(super) fn check_leading(&self) -> Result<(), ErrorDetail> {
        if self.stopping.is_some() {
            let text = "the node is stopping; ask for the partition's new leader";
            return Err(ErrorDetail::rejected(ErrorCode::ShuttingDown, Stage::Admission, text));
        }
        if !self.driver.is_leader() {
            return Err(self.not_leader(false));
        }
        if self.is_handing_over() {
            let text = "leadership is being handed over; ask for the partition's leader again";
            let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Admission, text);
            return Err(error.with_retry_after_ms(RETRY_SOON_MS));
        }
        Ok(())
    }

    /// The bounds: requests, bytes not committed (the crate drops what is beyond), bytes held in memory.
    fn check_room(&self, bytes: usize, step: &Step) -> Result<(), ErrorDetail> {
        let uncommitted = self.driver.raft().uncommitted_size() + step.bytes;
        let pinned = self.driver.storage().view.pinned_bytes() + step.bytes;
        let full = if self.pending.len() + step.waiting.len() >= PENDING_REQUESTS_MAX {
            "requests"
        } else if uncommitted > 0 && uncommitted + bytes > self.options.uncommitted_bytes_max {
            "bytes that are not yet replicated"
        } else if pinned > 0 && pinned + bytes > self.options.pinned_bytes_max {
            "bytes that are not yet written out"
        } else {
            return Ok(());
        };
        let text = format!("the partition has as many {full} as it may; send again in a moment");
        let error = ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, text);
        Err(error.with_retry_after_ms(RETRY_SOON_MS))
    }

    /// "Not the leader", with a hint. `unknown`: for entries that may survive.
    pub(super) fn not_leader(&self, unknown: bool) -> ErrorDetail {
        let leader = self.leader().filter(|leader| *leader != self.replica).map(|leader| leader.node());
        let (code, text) = match (unknown, leader) {
            (true, _) => {
                (ErrorCode::NotLeader, "leadership was lost before the records were safe; they may or may not survive")
            }
            (false, Some(_)) => (ErrorCode::NotLeader, "another replica leads this partition"),
            (false, None) => {
                (ErrorCode::NoLeader, "no leader is known; an election is under way or a majority is missing")
            }
        };
        let error = if unknown {
            ErrorDetail::unknown(code, Stage::Replication, text)
        } else {
            ErrorDetail::rejected(code, Stage::Admission, text)
        };
        error.with_leader(leader, None).with_retry_after_ms(RETRY_SOON_MS)
    }
}

/// What the header must say for the frame to be made. The service has validated the batch whole.
fn check_batch(bytes: &Bytes, header: &BatchHeader, next_offset: Offset) -> Result<(), ErrorDetail> {
    let wrong = |code, text: String| Err(ErrorDetail::rejected(code, Stage::Admission, text));
    if bytes.len() > limits::BATCH_BYTES_MAX {
        return wrong(ErrorCode::BatchTooLarge, format!("the batch has {} bytes", bytes.len()));
    }
    let records = header.record_count;
    let counts = records > 0
        && records <= limits::RECORDS_PER_BATCH_MAX
        && records == header.last_offset_delta.saturating_add(1);
    if header.total_bytes() != bytes.len() || !counts {
        return wrong(ErrorCode::InvalidBatch, "the batch's length or record count is wrong".to_owned());
    }
    if next_offset.0 + u64::from(records) > Offset::MAX.0 {
        return wrong(ErrorCode::InvalidArgument, "the partition has no offsets left".to_owned());
    }
    Ok(())
}

fn sequence_error(batch: ProducerSequence, error: SequenceError) -> ErrorDetail {
    let code = match error {
        SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequence,
        SequenceError::Epoch { .. } => ErrorCode::InvalidProducerEpoch,
        SequenceError::Unknown { .. } => ErrorCode::UnknownProducerId,
    };
    ErrorDetail::rejected(code, Stage::Admission, format!("producer {}: {error}", batch.id))
}

impl Replica {
    pub(super) fn term(&self) -> Term {
        Term(self.driver.raft().term)
    }
}
