//! Handing leadership over, and stopping: first what is in flight is finished, then the most caught-up voter is told to campaign.

use super::Replica;
use crate::output::Output;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{MonotonicTime, ReplicaId};
use raft::StateRole;

/// After so many election timeouts a handover is given up: the leader goes on, and takes proposals again.
const HANDOVER_ELECTIONS: u64 = 4;

/// A handover under way. Until it ends, proposals are rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    to: Option<ReplicaId>,
    /// The tick at which it is given up.
    until: u64,
}

/// A stop under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopping {
    until: u64,
    told: bool,
}

impl Replica {
    /// Tries to lead now, because the catalogue prefers this replica.
    pub(super) fn on_campaign(&mut self) {
        // A candidate waits for the votes that it asked for: to ask again would throw them away.
        let idle = self.driver.raft().state != StateRole::Candidate && !self.driver.is_writing();
        let fit = !self.repair.is_mending() && !self.driver.disk.stuck;
        let may = self.leader().is_none() && idle && fit && self.stopping.is_none();
        // Nor one whose vote ends with the change under way: it would have to hand over again.
        if may && self.membership.voters.contains(&self.replica) {
            // Only fails where the crate had no use for it.
            let _ = self.driver.call(|raw| raw.campaign());
        }
    }

    /// Only a leader with another voter has something to hand over.
    pub(super) fn begin_handover(&mut self, to: Option<ReplicaId>) {
        let voters = &self.membership.voters;
        let possible = voters.iter().any(|voter| *voter != self.replica)
            && to.is_none_or(|to| to != self.replica && voters.contains(&to) && self.may_lead_records(to));
        if self.driver.is_leader() && possible && self.handover.is_none() {
            self.handover = Some(Handover { to, until: self.handover_deadline() });
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.handover.is_some() || self.driver.raft().lead_transferee.is_some()
    }

    fn handover_deadline(&self) -> u64 {
        self.ticks + HANDOVER_ELECTIONS * u64::from(self.options.election_ticks)
    }

    pub(super) fn begin_stop(&mut self) {
        if self.stopping.is_none() {
            self.begin_handover(None);
            self.stopping = Some(Stopping { until: self.handover_deadline(), told: false });
        }
    }

    /// Whether every request is answered and every entry committed. Requests that wait for a stuck disk of this node wait for
    /// ever: they fail with the leadership.
    fn is_idle(&self) -> bool {
        let answered = self.pending.is_empty() || self.driver.disk.stuck;
        answered && self.driver.commit() == self.driver.storage().view.last().index
    }

    /// Takes the next step of a handover. The crate gives each attempt up after one election timeout; it is then made again.
    pub(super) fn advance_handover(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        let Some(handover) = self.handover else { return };
        if !self.driver.is_leader() || self.ticks >= handover.until {
            self.handover = None;
            return;
        }
        // Acks that wait for the last input are given first, so that nobody is told "unknown" for want of one step.
        self.settle(now, out);
        if self.driver.is_leader() && self.is_idle() && self.driver.raft().lead_transferee.is_none() {
            let named = handover.to.filter(|to| self.membership.voters.contains(to));
            let to = named.or_else(|| self.successor());
            if let Some(to) = to {
                self.driver.call(|raw| raw.transfer_leader(to.0));
            }
        }
    }

    /// The voter to hand over to: one that was heard lately, knows that it is one, has room for records,
    /// and has most of the log; of equals the one with
    /// the lowest id. Never one that is to lose its vote.
    pub(super) fn successor(&self) -> Option<ReplicaId> {
        let others = self.membership.voters.iter().copied().filter(|voter| *voter != self.replica);
        let rank = |voter: &ReplicaId| {
            let silent = self.peers.silent_ticks(*voter).unwrap_or(u64::MAX);
            let lately = silent <= u64::from(self.options.election_ticks);
            let able = (self.is_ready_to_lead(*voter), self.may_lead_records(*voter));
            (lately, able, self.matched(*voter), std::cmp::Reverse(*voter))
        };
        others.max_by_key(rank)
    }

    /// Says once that the stop is complete, or that it has waited long enough.
    pub(super) fn advance_stop(&mut self, out: &mut Vec<Output>) {
        let Some(stopping) = self.stopping.filter(|stopping| !stopping.told) else { return };
        let alone = self.membership.voters.iter().all(|voter| *voter == self.replica);
        let leads_others = self.driver.is_leader() && !alone;
        let done = !leads_others && self.pending.is_empty() && !self.driver.is_writing();
        if done || self.ticks >= stopping.until {
            let text = "the node stopped before the records were safe; they may or may not survive";
            let error = ErrorDetail::unknown(ErrorCode::ShuttingDown, Stage::Replication, text);
            self.pending.fail_all(&error, out);
            self.reads.fail_all(&error, out);
            self.stopping = Some(Stopping { told: true, ..stopping });
            out.push(Output::Stopped);
        }
    }
}
