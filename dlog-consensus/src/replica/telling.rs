//! What is told of a replica to whoever asks, and what its type promises.

use super::Replica;
use crate::input::Input;
use crate::membership::Standing;
use crate::output::Output;
use crate::status::{PeerStatus, Status};
use bytes::Bytes;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogId, LogIndex, ReplicaId};

impl Replica {
    /// What can be told of it now.
    pub fn status(&self) -> Status {
        let view = &self.driver.storage().view;
        Status {
            log: self.log,
            replica: self.replica,
            role: self.standing.role,
            term: self.term(),
            leader: self.leader(),
            progress: self.progress,
            local_start: view.local_start().index,
            local_start_offset: view.local_start().next_offset,
            last: view.last().index,
            persisted: self.driver.persisted(),
            written: view.written().index,
            applied: view.applied(),
            state_applied: self.state_applied,
            membership: self.membership.clone(),
            membership_index: self.membership_index,
            standing: self.membership.standing_of(self.replica),
            change: self.change_status(),
            peers: if self.driver.is_leader() { self.peer_statuses() } else { Vec::new() },
            pinned_bytes: view.pinned_bytes(),
            pending_requests: self.pending.len() + self.reads.len(),
            producers: self.producers.table().len(),
            unpersisted_since: self.driver.writing_since(),
            failed_fetches: self.failed_fetches,
            as_of: self.as_of,
            sent_snapshots: self.sending.sent(),
            failed_snapshots: self.sending.failed(),
            installed_snapshots: self.installed_snapshots,
            faults: self.repair.statuses(),
            mended_faults: self.repair.mended(),
            stuck: None,
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let status = |member: ReplicaId| {
            let ours = member == self.replica;
            let matched = self.matched(member);
            let standing = self.membership.standing_of(member)?;
            Some(PeerStatus {
                replica: member,
                voter: standing != Standing::Learner,
                standing,
                matched,
                silent_ticks: if ours { Some(0) } else { self.peers.silent_ticks(member) },
                in_sync: if ours { self.peers.keeps_up(matched) } else { self.peers.in_sync(member, matched) },
                has_room: self.has_room(member),
            })
        };
        self.membership.members().into_iter().filter_map(status).collect()
    }

    /// The producer table and the entry it is as of; `None` for group 0, which has none, and while a snapshot is being installed,
    /// whose table isn't durable, or a membership isn't: a start looks for changes of it behind the table's entry alone. The entry
    /// is committed, and durable here unless a snapshot named it: then the log here may end before it.
    pub fn producer_table(&self) -> Option<(LogIndex, Bytes)> {
        let known = if mutants::is(Mutant::StateOfApplied) { LogIndex::ZERO } else { self.as_of };
        let as_of = self.driver.storage().view.applied().max(known);
        let durable = !self.driver.is_installing() && !self.driver.is_writing_membership();
        (durable && self.log != LogId::GROUP_ZERO).then(|| (as_of, self.producers.table().encode()))
    }

    pub(super) fn tell_producers(&mut self, out: &mut Vec<Output>) {
        if self.producers_wanted
            && let Some((index, bytes)) = self.producer_table()
        {
            self.producers_wanted = false;
            out.push(Output::Producers { index, bytes });
        }
    }

    /// Ends the replica, which is out of use as of the group 0 index `ended`: everything that waits fails, and its last write
    /// deletes it.
    pub fn delete(mut self, ended: LogIndex, out: &mut Vec<Output>) {
        let text = "the replica was removed from this node; ask for the partition's leader again";
        let error = ErrorDetail::unknown(ErrorCode::NotLeader, Stage::Replication, text);
        self.pending.fail_all(&error, out);
        self.reads.fail_all(&error, out);
        self.driver.write_delete(ended, out);
    }

    /// Checks what the type promises; cheap enough for every step of a test.
    pub fn assert_invariants(&self) {
        let (view, raft) = (&self.driver.storage().view, self.driver.raft());
        view.assert_invariants();
        assert_eq!(view.last().index.0, raft.raft_log.last_index(), "the view is the crate's log");
        if !self.driver.is_installing() {
            assert_eq!(view.applied().0, raft.raft_log.applied, "what is applied is applied on both sides");
            assert_eq!(&self.membership, self.driver.membership(), "the membership is the crate's");
        }
        let (counted, ours) = (raft.prs().conf().to_conf_state(), self.driver.membership().to_conf_state());
        assert!(raft_proto::conf_state_eq(&counted, &ours), "the crate counts with {counted:?}, here it is {ours:?}");
        assert!(!self.driver.is_leader() || self.driver.membership().is_voter(self.replica), "only a voter leads");
        assert!(raft.raft_log.unstable_entries().is_empty(), "every entry is in the view");
        assert!(self.pending.is_empty() || self.driver.is_leader(), "requests wait only on a leader");
        assert!(self.progress.read_bound <= self.progress.high_watermark);
        assert!(self.progress.high_watermark <= self.progress.log_end);
    }
}

/// A replica that stopped still answers.
pub(super) fn refuse_halted(input: Input, out: &mut Vec<Output>) {
    let requests = match input {
        Input::Propose(proposal) => vec![proposal.request],
        Input::ProposeAll(proposals) => proposals.into_iter().map(|proposal| proposal.request).collect(),
        Input::ProposeCommand { request, .. } | Input::ReadIndex { request } | Input::MoveLogStart { request, .. } => {
            vec![request]
        }
        _ => Vec::new(),
    };
    let text = "the replica has stopped after a fault; the node's trace says why";
    let error = ErrorDetail::rejected(ErrorCode::Internal, Stage::Replication, text);
    out.extend(requests.into_iter().map(|request| Output::Reply { request, result: Err(error.clone()) }));
}
