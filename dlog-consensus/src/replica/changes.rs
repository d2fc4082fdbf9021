//! Driving a log's membership to what the catalogue wants: only on the leader, one safe step at a time (`change_step.rs`).
//!
//! Nothing is proposed while an entry of configuration may stand unapplied: the crate would put an empty entry in its place and
//! say nothing. It may do so anyway; so the next step is always taken from the applied membership, never from a proposal. Nothing
//! is proposed either before the leader has applied an entry of its own term, for only then does it know the last membership.
//!
//! When the log is where the intent wants it, the leader asks a majority whether it still leads, and then says so, with the index
//! up to which no other membership can stand: such indexes rise from one confirmation to the next, whoever leads.

use super::Replica;
use super::change_step::{Step, next_step};
use crate::configuration::{Change, ChangeEntry};
use crate::membership::Membership;
use crate::output::Output;
use crate::status::{ChangeStatus, ChangeStep};
use bytes::Bytes;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{FrameKind, LogIndex, MonotonicTime, ReplicaId};
use dlog_replication::Intent;

/// A question whether this replica leads is asked again after so many election timeouts without an answer.
const ASK_ELECTIONS: u64 = 1;
/// A confirmation that the catalogue doesn't know of is said again after so many election timeouts.
const SAY_ELECTIONS: u64 = 4;

/// A read index that was begun once the log was where the intent wants it.
#[derive(Clone, Debug)]
struct Asked {
    intent: LogIndex,
    context: Vec<u8>,
    /// The tick at which it is asked again.
    again: u64,
    /// The commit index that a majority has confirmed.
    confirmed: Option<LogIndex>,
}

/// What a replica knows of the change that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The newest intent; a replica that doesn't lead keeps it for the day when it does.
    intent: Option<Intent>,
    /// The tick at which it came.
    since: u64,
    /// Something happened that may allow the next step.
    due: bool,
    asked: Option<Asked>,
    /// The intent that was last confirmed in this term, and the tick at which it is said again.
    said: Option<(LogIndex, u64)>,
}

impl Changes {
    /// The next step is to be looked for.
    pub(crate) fn wake(&mut self) {
        self.due = true;
    }

    /// Term or role changed.
    pub(crate) fn reset(&mut self) {
        (self.asked, self.said, self.due) = (None, None, true);
    }

    /// Takes the answer to its own question; `false` if it is another's.
    pub(crate) fn take_answer(&mut self, context: &Bytes, index: LogIndex) -> bool {
        let ours = self.asked.as_mut().filter(|asked| asked.context[..] == context[..]);
        let is_ours = ours.is_some();
        if let Some(asked) = ours {
            asked.confirmed = Some(index);
            self.due = true;
        }
        is_ours
    }

    /// Takes an intent unless it is older than the newest that is known.
    fn take_intent(&mut self, intent: Intent, tick: u64) {
        match &mut self.intent {
            Some(known) if known.version > intent.version => {}
            Some(known) if known.version == intent.version => known.confirmed |= intent.confirmed,
            known => {
                *known = Some(intent);
                self.since = tick;
            }
        }
        self.due = true;
    }
}

impl Replica {
    pub(super) fn on_intend(&mut self, intent: Intent) {
        match intent.validate() {
            Ok(()) => self.changes.take_intent(intent, self.ticks),
            Err(reason) => {
                let version = intent.version.0;
                tracing::warn!(
                    log = self.log.0,
                    replica = self.replica.0,
                    version,
                    reason,
                    "an intent is not followed"
                );
            }
        }
    }

    /// The membership that committed entries have made.
    pub(super) fn take_membership(
        &mut self,
        now: MonotonicTime,
        index: LogIndex,
        membership: Membership,
        out: &mut Vec<Output>,
    ) {
        self.driver.write_membership(now, index, membership.encode(), out);
        let left = self.membership.contains(self.replica) && !membership.contains(self.replica);
        tracing::info!(log = self.log.0, replica = self.replica.0, %index, left, "the membership changed");
        (self.membership, self.membership_index) = (membership, index);
        self.changes.wake();
    }

    /// Takes the next step, if one may be taken now.
    pub(super) fn advance_changes(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        if !std::mem::take(&mut self.changes.due) || !self.may_change() {
            return;
        }
        match self.next_change() {
            Step::Rest | Step::Wait(_) => self.changes.asked = None,
            Step::Propose(change) => {
                self.changes.asked = None;
                let intent = self.changes.intent.as_ref().map_or(LogIndex::ZERO, |intent| intent.version);
                let payload = ChangeEntry { change, intent }.encode();
                // Without room the next tick tries again.
                let _ = self.propose_entry(now, FrameKind::Configuration, payload, None, out);
            }
            Step::HandOver => {
                if self.successor().is_some_and(|to| self.is_ready_to_lead(to)) {
                    self.begin_handover(None);
                    self.advance_handover(now, out);
                    self.settle(now, out);
                }
            }
            Step::Reached => self.confirm(now, out),
        }
    }

    fn may_change(&self) -> bool {
        let raft = self.driver.raft();
        let leads = self.is_leader() && self.stopping.is_none() && !self.is_handing_over();
        leads && raft.apply_to_current_term() && (!self.driver.is_configuring() || mutants::is(Mutant::ChangeInFlight))
    }

    fn next_change(&self) -> Step {
        next_step(self.replica, &self.membership, self.changes.intent.as_ref(), |replica| self.is_caught_up(replica))
    }

    /// In sync, and with all that was there before this leader: how far others are committed it only learns in its term. Heard in
    /// a tick after the intent came, too: what was heard before may have waited here while this process stood still.
    fn is_caught_up(&self, replica: ReplicaId) -> bool {
        let matched = self.matched(replica);
        let view = &self.driver.storage().view;
        let heard_since =
            self.peers.silent_ticks(replica).is_some_and(|silent| self.ticks - silent > self.changes.since);
        heard_since && self.peers.in_sync(replica, matched) && view.term(matched) == Some(self.term())
    }

    /// Whether a peer was heard lately and knows that it is a voter: before it has applied that, it would not campaign.
    pub(super) fn is_ready_to_lead(&self, peer: ReplicaId) -> bool {
        let silent = self.peers.silent_ticks(peer).unwrap_or(u64::MAX);
        let knows =
            self.driver.raft().prs().get(peer.0).is_some_and(|peer| peer.committed_index >= self.membership_index.0);
        silent <= u64::from(self.options.election_ticks) && knows
    }

    /// Says that the log is where the intent wants it, once a majority has said that this replica leads.
    fn confirm(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        let Some((version, confirmed)) = self.changes.intent.as_ref().map(|intent| (intent.version, intent.confirmed))
        else {
            return;
        };
        let ticks = self.ticks;
        let election = u64::from(self.options.election_ticks);
        if confirmed || self.changes.said.is_some_and(|(said, again)| said == version && ticks < again) {
            self.changes.asked = None;
            return;
        }
        match self.changes.asked.take().filter(|asked| asked.intent == version) {
            Some(Asked { confirmed: Some(index), .. }) => {
                self.changes.said = Some((version, ticks + SAY_ELECTIONS * election));
                let membership = self.membership.clone();
                out.push(Output::Confirmed { intent: version, membership_index: index, membership });
            }
            Some(asked) if ticks < asked.again => self.changes.asked = Some(asked),
            _ => {
                let context = self.reads.next_context();
                let again = ticks + ASK_ELECTIONS * election;
                let asked = Asked { intent: version, context: context.clone(), again, confirmed: None };
                self.changes.asked = Some(asked);
                self.driver.call(|raw| raw.read_index(context));
                self.settle(now, out);
                // A lone voter has its answer at once.
                self.changes.due |= self.changes.asked.as_ref().is_some_and(|asked| asked.confirmed.is_some());
            }
        }
    }

    /// What a change of membership is at. `None` where nothing is known of one, and on others than the leader.
    pub(super) fn change_status(&self) -> Option<ChangeStatus> {
        if !self.is_leader() {
            return None;
        }
        let intent = self.changes.intent.as_ref();
        let (step, waits_for) = match self.next_change() {
            Step::Rest => return None,
            Step::Wait(replicas) => (ChangeStep::CatchUp, replicas.into_iter().collect()),
            Step::Propose(Change::AddLearner(replica)) => (ChangeStep::AddLearner, vec![replica]),
            Step::Propose(Change::RemoveLearner(replica)) => (ChangeStep::RemoveLearner, vec![replica]),
            Step::Propose(Change::Enter(_)) => (ChangeStep::EnterJoint, Vec::new()),
            Step::Propose(Change::Leave) => (ChangeStep::LeaveJoint, Vec::new()),
            Step::HandOver => (ChangeStep::HandOver, self.successor().into_iter().collect()),
            Step::Propose(Change::Note) => (ChangeStep::Confirm, Vec::new()),
            Step::Reached if intent.is_some_and(|intent| intent.confirmed) => (ChangeStep::Done, Vec::new()),
            Step::Reached => (ChangeStep::Confirm, Vec::new()),
        };
        Some(ChangeStatus { intent: intent.map(|intent| intent.version), step, waits_for })
    }
}
