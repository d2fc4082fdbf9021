//! Damage on this replica's disk, and on others': frames are asked for, given, and told to storage (`repair.rs` says when).
//!
//! A replica with damage that others may be able to mend doesn't campaign for a while, hands over what it leads, and refuses to
//! be handed anything: whoever catches up might need just those frames. It votes and takes entries as ever: its log still ends
//! where it ended, and nothing of it is dropped.

use super::Replica;
use crate::input::FetchError;
use crate::message::{MessageKind, PeerMessage};
use crate::output::{FetchId, Output};
use crate::repair::{FaultStatus, Next, Question};
use dlog_core::{Fault, Frame, LogId, LogIndex, Mended, ReplicaId, Term};
use std::collections::BTreeMap;

/// Numbers of reads for others' repairs begin here: far from those of appends.
const FETCHES_FROM: u64 = 1 << 62;

/// Elections are put off by so many timeouts while damage may be mended. Longer than a usual repair takes; if nobody else can
/// lead, a leader with damage is better than none.
pub(crate) const PATIENCE: u32 = 8;

/// Reads for others' repairs that are under way: for whom, and behind which index. At most one for each.
#[derive(Debug, Default)]
pub(crate) struct Giving {
    reads: BTreeMap<FetchId, (ReplicaId, LogIndex)>,
    count: u64,
}

impl Replica {
    /// What of its log the disk can't give, and whether others can.
    pub fn faults(&self) -> Vec<FaultStatus> {
        self.repair.statuses()
    }

    pub(super) fn on_faulty(&mut self, faults: &[Fault]) {
        self.repair.add(faults);
        let other = |member: &ReplicaId| *member != self.replica && self.peers.in_sync(*member, self.matched(*member));
        // Whoever takes over reads it from a whole disk.
        if self.repair.is_mending() && self.membership.voters.iter().any(other) {
            self.begin_handover(None);
        }
    }

    pub(super) fn on_mended(&mut self, fault: &Fault, result: Result<Mended, String>) {
        if let Err(reason) = &result {
            tracing::warn!(log = self.log.0, replica = self.replica.0, reason, "damage can't be mended now");
        }
        self.repair.wrote(fault, result);
    }

    /// Asks, or writes, what is next; elections wait as long as that may help.
    pub(super) fn advance_repair(&mut self, out: &mut Vec<Output>) {
        if self.repair.is_empty() {
            self.driver.put_off_elections(1);
            return;
        }
        if self.log != LogId::GROUP_ZERO {
            self.repair.forget_below(self.log_start);
        }
        let members: Vec<ReplicaId> = self.membership.members().into_iter().collect();
        let next = self.repair.next(self.replica, &members);
        self.driver.put_off_elections(if self.repair.is_mending() { PATIENCE } else { 1 });
        match next {
            Some(Next::Ask(question)) => {
                let message = ask(self, question);
                out.push(Output::Send { message });
            }
            Some(Next::Write(part)) => out.push(part.into()),
            None => {}
        }
    }

    pub(super) fn on_repair_response(&mut self, message: PeerMessage, out: &mut Vec<Output>) {
        let (from, after) = (message.from, message.index);
        let entries = (!message.reject).then_some(message.entries);
        match self.repair.answered(self.log, from, after, entries) {
            Ok(part) => out.extend(part.map(Output::from)),
            Err(refusal) => out.push(Output::Refused { from, refusal }),
        }
    }

    /// Somebody asks for frames: they are read, if they are kept here.
    pub(super) fn on_repair_request(&mut self, message: &PeerMessage, out: &mut Vec<Output>) {
        let view = &self.driver.storage().view;
        let (after, first) = (message.index, message.index.next());
        let to = message.commit.min(view.written().index).next();
        if after < view.local_start().index || first >= to {
            self.give(message.from, after, None, out);
            return;
        }
        self.giving.reads.retain(|_, (peer, _)| *peer != message.from);
        self.giving.count += 1;
        let fetch = FetchId(FETCHES_FROM + self.giving.count);
        self.giving.reads.insert(fetch, (message.from, after));
        let max_bytes = self.options.append_bytes_max as u64;
        out.push(Output::ReadEntries { fetch, from: first, to, max_bytes, peer: message.from });
    }

    /// Frames were read, for somebody's repair or for a peer that lags.
    pub(super) fn on_read(&mut self, fetch: FetchId, result: Result<Vec<Frame>, FetchError>, out: &mut Vec<Output>) {
        if fetch.0 < FETCHES_FROM {
            return self.on_entries_read(fetch, result);
        }
        if let Some((peer, after)) = self.giving.reads.remove(&fetch) {
            let follows = |frames: &Vec<Frame>| frames.first().is_some_and(|frame| frame.index == after.next());
            self.give(peer, after, result.ok().filter(follows), out);
        }
    }

    fn on_entries_read(&mut self, fetch: FetchId, result: Result<Vec<Frame>, FetchError>) {
        let read = match result {
            Ok(frames) => !frames.is_empty() && self.driver.entries_read(fetch, frames),
            Err(error) => {
                tracing::warn!(log = self.log.0, replica = self.replica.0, %error, "frames for a lagging peer can't be read");
                false
            }
        };
        if !read {
            self.failed_fetches += 1;
            self.driver.storage_mut().forget_fetch(fetch);
        }
    }

    fn give(&self, to: ReplicaId, after: LogIndex, frames: Option<Vec<Frame>>, out: &mut Vec<Output>) {
        let reject = frames.is_none();
        let entries = frames.unwrap_or_default().iter().map(crate::message::WireEntry::of_frame).collect();
        let message = PeerMessage { entries, reject, ..blank(self, MessageKind::RepairResponse, to, after) };
        out.push(Output::Send { message });
    }
}

fn ask(replica: &Replica, question: Question) -> PeerMessage {
    let request = blank(replica, MessageKind::RepairRequest, question.to, question.after);
    PeerMessage { commit: question.through, ..request }
}

fn blank(replica: &Replica, kind: MessageKind, to: ReplicaId, index: LogIndex) -> PeerMessage {
    PeerMessage::of_repair(kind, (replica.log, replica.replica, to), replica.term().max(Term(1)), index)
}
