//! `Mending`: a replica that can't start before its disk has back frames that the start must see.
//!
//! It knows its members, and asks them; it doesn't vote, ack, or answer anything else. When all is mended the shell loads it
//! anew. One whose damage no frames can mend stands still until it is deleted: the rest of the node goes on.

use crate::error::{LoadError, Refusal};
use crate::input::Input;
use crate::membership::Membership;
use crate::message::{MessageKind, PeerMessage};
use crate::output::{Output, Progress, Role, WriteId};
use crate::repair::{FaultStatus, Next, Part, Repair};
use crate::status::Status;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::write::{LogPoint, ReplicaWrite, RestoredReplica, WriteOp};
use dlog_core::{Fault, LogId, LogIndex, ReplicaId, Term};
use dlog_replication::Intent;
use std::collections::BTreeSet;

/// A replica on its way to being whole.
#[derive(Debug)]
pub struct Mending {
    restored: RestoredReplica,
    membership: Membership,
    repair: Repair,
    /// Why no frames can help.
    stuck: Option<String>,
    /// The newest that came meanwhile.
    intent: Option<Intent>,
}

/// A replica that can be loaded.
#[derive(Debug)]
pub struct Whole {
    /// What storage gave.
    pub restored: RestoredReplica,
    /// What the catalogue wants, for [`Input::Intend`] once it runs.
    pub intent: Option<Intent>,
}

impl Mending {
    /// One that lacks frames.
    ///
    /// # Errors
    /// [`LoadError::Membership`] if nobody knows whom to ask.
    pub fn new(restored: RestoredReplica, faults: &[Fault]) -> Result<Mending, LoadError> {
        let mut repair = Repair::default();
        repair.add(faults);
        Ok(Mending { membership: membership_of(&restored)?, restored, repair, stuck: None, intent: None })
    }

    /// One that lacks something else, for this reason.
    ///
    /// # Errors
    /// [`LoadError::Membership`] if its members aren't known.
    pub fn stuck(restored: RestoredReplica, reason: String) -> Result<Mending, LoadError> {
        let membership = membership_of(&restored)?;
        Ok(Mending { membership, restored, repair: Repair::default(), stuck: Some(reason), intent: None })
    }

    /// The replica.
    pub fn id(&self) -> ReplicaId {
        self.restored.replica
    }

    /// Its log.
    pub fn log(&self) -> LogId {
        self.restored.log
    }

    /// Who belongs to the log, as far as storage knows.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What of its log the disk can't give, and whether others can.
    pub fn faults(&self) -> Vec<FaultStatus> {
        self.repair.statuses()
    }

    /// Whether nothing is missing any more: then the replica can be loaded.
    pub fn is_done(&self) -> bool {
        self.repair.is_empty() && self.stuck.is_none()
    }

    /// What it is loaded from.
    pub fn into_whole(self) -> Whole {
        Whole { restored: self.restored, intent: self.intent }
    }

    /// Takes one input. All but ticks, repairs and their answers are refused or passed over.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.repair.tick(),
            Input::Peer(message) => self.on_peer(message, out),
            Input::Faulty { faults } => self.repair.add(&faults),
            Input::Mended { fault, result } => self.repair.wrote(&fault, result),
            Input::Intend(intent) => self.intent = Some(intent),
            Input::LocalStart { start } => self.clip(start),
            other => self.refuse(&other, out),
        }
        let members: Vec<ReplicaId> = self.members().into_iter().collect();
        match self.repair.next(self.restored.replica, &members) {
            Some(Next::Ask(question)) => {
                let request = self.blank(MessageKind::RepairRequest, question.to, question.after);
                out.push(Output::Send { message: PeerMessage { commit: question.through, ..request } });
            }
            Some(Next::Write(part)) => out.push(part.into()),
            None => {}
        }
    }

    /// Whom to ask: who belonged to the log when storage last heard, and who should hold it now. All that were known before may
    /// have left it while the node was down.
    fn members(&self) -> BTreeSet<ReplicaId> {
        let wanted = self.intent.iter().flat_map(|intent| intent.voters.iter().chain(&intent.learners));
        // Who has left for good answers nothing, and would be waited for.
        let is_settled = self.intent.as_ref().is_some_and(|intent| intent.confirmed);
        let known = if is_settled { BTreeSet::new() } else { self.membership.members() };
        known.into_iter().chain(wanted.copied()).collect()
    }

    /// Storage keeps nothing up to and with `start` any more.
    fn clip(&mut self, start: LogPoint) {
        if start.index > self.restored.local_start.index {
            self.restored.local_start = start;
            self.restored.term_starts.retain(|term| term.index > start.index);
        }
    }

    fn on_peer(&mut self, message: PeerMessage, out: &mut Vec<Output>) {
        let from = message.from;
        let ours = message.to == self.restored.replica && message.log == self.restored.log;
        if !ours || message.validate().is_err() || !self.members().contains(&from) {
            out.push(Output::Refused { from, refusal: Refusal::NotAMember(from) });
            return;
        }
        match message.kind {
            // What it has may be damaged as well: whoever asks does better elsewhere, and comes again.
            MessageKind::RepairRequest => {
                let answer = self.blank(MessageKind::RepairResponse, from, message.index);
                out.push(Output::Send { message: PeerMessage { reject: true, ..answer } });
            }
            MessageKind::RepairResponse => {
                let entries = (!message.reject).then_some(message.entries);
                match self.repair.answered(self.restored.log, from, message.index, entries) {
                    Ok(part) => out.extend(part.map(Output::from)),
                    Err(refusal) => out.push(Output::Refused { from, refusal }),
                }
            }
            _ => {}
        }
    }

    fn blank(&self, kind: MessageKind, to: ReplicaId, index: LogIndex) -> PeerMessage {
        let RestoredReplica { log, replica, term, .. } = self.restored;
        PeerMessage::of_repair(kind, (log, replica, to), term.max(Term(1)), index)
    }

    fn refuse(&self, input: &Input, out: &mut Vec<Output>) {
        let requests = match input {
            Input::Propose(proposal) => vec![proposal.request],
            Input::ProposeAll(proposals) => proposals.iter().map(|proposal| proposal.request).collect(),
            Input::ProposeCommand { request, .. }
            | Input::ReadIndex { request }
            | Input::MoveLogStart { request, .. } => vec![*request],
            _ => Vec::new(),
        };
        let text = "this replica's log is damaged here and is being repaired; another replica serves the partition";
        let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, text);
        out.extend(requests.into_iter().map(|request| Output::Reply { request, result: Err(error.clone()) }));
    }

    /// Ends it for good, as [`crate::Replica::delete`].
    pub fn delete(self, ended: LogIndex, out: &mut Vec<Output>) {
        let RestoredReplica { replica, log, commit, .. } = self.restored;
        let write = ReplicaWrite { replica, log, commit, ops: vec![WriteOp::Delete { ended }] };
        out.push(Output::Write { id: WriteId(1), write });
    }

    /// What can be told of it now.
    pub fn status(&self) -> Status {
        let restored = &self.restored;
        Status {
            log: restored.log,
            replica: restored.replica,
            role: Role::Follower,
            term: restored.term,
            leader: None,
            progress: Progress { log_start: restored.log_start, ..Progress::default() },
            local_start: restored.local_start.index,
            local_start_offset: restored.local_start.next_offset,
            last: restored.last.index,
            persisted: restored.last.index,
            written: restored.last.index,
            applied: LogIndex::ZERO,
            state_applied: LogIndex::ZERO,
            membership: self.membership.clone(),
            membership_index: restored.membership_index,
            standing: self.membership.standing_of(restored.replica),
            change: None,
            as_of: LogIndex::ZERO,
            peers: Vec::new(),
            pinned_bytes: 0,
            pending_requests: 0,
            producers: 0,
            unpersisted_since: None,
            failed_fetches: 0,
            sent_snapshots: 0,
            failed_snapshots: 0,
            installed_snapshots: 0,
            faults: self.faults(),
            mended_faults: self.repair.mended(),
            stuck: self.stuck.clone(),
        }
    }
}

fn membership_of(restored: &RestoredReplica) -> Result<Membership, LoadError> {
    let replica = restored.replica;
    Membership::decode(&restored.membership)
        .map_err(|error| LoadError::Membership { replica, reason: error.to_string() })
}

impl From<Part> for Output {
    fn from(part: Part) -> Output {
        Output::Mend { fault: part.fault, place: part.place, frames: part.frames }
    }
}
