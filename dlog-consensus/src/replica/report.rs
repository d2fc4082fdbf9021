//! What a replica tells of itself: progress, role, fetches, status.

use super::Replica;
use crate::output::{Output, Progress, Role, RoleChange};
use crate::status::{PeerStatus, Status};
use dlog_core::{LogIndex, ReplicaId};
use raft::StateRole;

impl Replica {
    pub(crate) fn report_role(&mut self, out: &mut Vec<Output>) {
        let role = match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let now = RoleChange { term: self.term(), role, leader: self.leader() };
        if now == self.role {
            return;
        }
        let was_leader = self.role.role == Role::Leader;
        let same_leadership = role == Role::Leader && now.term == self.role.term;
        self.role = now;
        if was_leader && !same_leadership {
            self.lose_leadership(out);
        }
        if role == Role::Leader && !same_leadership {
            self.heard.clear();
            self.commit_before = [self.committed(); 2];
        }
        out.push(Output::Role(now));
    }

    pub(crate) fn report_progress(&mut self, out: &mut Vec<Output>) {
        self.expire_reads(out);
        let commit = self.committed();
        let view = self.view();
        // A frame at the commit index that is neither pinned nor last was told of when it was.
        let high_watermark = view.offset_after(commit).unwrap_or(self.told.high_watermark).max(self.told.high_watermark);
        let readable = high_watermark.min(view.written().next_offset);
        let now = Progress {
            high_watermark,
            commit: commit.max(self.told.commit),
            read_bound: readable.max(self.told.read_bound),
            log_end: view.last().next_offset,
        };
        if now != self.told {
            self.told = now;
            out.push(Output::Progress(now));
        }
    }

    pub(crate) fn ask_for_fetches(&mut self, out: &mut Vec<Output>) {
        if !self.is_leader() {
            return;
        }
        let raft = &self.raw.raft;
        let waiting: Vec<(ReplicaId, LogIndex)> =
            raft.prs().iter().map(|(id, progress)| (ReplicaId(*id), LogIndex(progress.next_idx))).collect();
        for request in self.raw.mut_store().take_fetch_requests(&waiting) {
            out.push(Output::ReadEntries {
                fetch: request.id,
                from: request.from,
                to: request.to,
                max_bytes: request.max_bytes,
                peer: request.peer,
            });
        }
    }

    /// Durable on `peer` up to here, as far as this leader knows.
    pub(crate) fn matched(&self, peer: ReplicaId) -> LogIndex {
        LogIndex(self.raw.raft.prs().get(peer.0).map_or(0, |progress| progress.matched))
    }

    /// Heard within one election timeout, and durable up to the commit index of one heartbeat ago.
    pub(crate) fn is_in_sync(&self, peer: ReplicaId) -> bool {
        if peer == self.replica {
            return self.raw.raft.raft_log.persisted >= self.commit_before[0].0;
        }
        self.heard_lately(peer) && self.matched(peer) >= self.commit_before[0]
    }

    /// The replica at a glance.
    pub fn status(&self) -> Status {
        let peer = |replica: ReplicaId| PeerStatus {
            replica,
            voter: self.membership.is_voter(replica),
            matched: if replica == self.replica {
                LogIndex(self.raw.raft.raft_log.persisted)
            } else {
                self.matched(replica)
            },
            silent_ticks: self.heard.get(&replica).map(|at| self.ticks - at),
            in_sync: self.is_in_sync(replica),
        };
        let members = self.membership.members();
        Status {
            log: self.log,
            replica: self.replica,
            role: self.role.role,
            term: self.role.term,
            leader: self.role.leader,
            progress: self.told,
            local_start: self.view().local_start().index,
            last: self.view().last().index,
            persisted: LogIndex(self.raw.raft.raft_log.persisted),
            written: self.view().written().index,
            applied: self.view().applied(),
            state_applied: self.state_applied,
            membership: self.membership.clone(),
            peers: if self.is_leader() { members.into_iter().map(peer).collect() } else { Vec::new() },
            pinned_bytes: self.view().pinned_bytes(),
            pending_requests: self.proposals.len() + self.reads.len(),
            producers: self.producers.len(),
            unpersisted_since: self.writes.oldest(),
            failed_fetches: self.failed_fetches + self.raw.store().snapshots_wanted(),
        }
    }
}
