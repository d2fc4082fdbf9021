//! One replica: a pure machine around the raft crate's `RawNode`. [`Replica::step`] takes an input and appends outputs.

mod guard;
mod propose;
mod reads;
mod report;

use crate::election::ElectionTimer;
use crate::input::Input;
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::message::PeerMessage;
use crate::options::ReplicaOptions;
use crate::output::{FetchId, Output, Progress, Role, RoleChange, WriteId};
use crate::producers::Producers;
use crate::proposal::Proposals;
use crate::raft_storage::RaftStorage;
use crate::ready;
use crate::writes::Writes;
use crate::error::{LoadError, Refusal};
use crate::input::FetchError;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, Term};
use raft::eraftpb::HardState;
use raft::{RawNode, StateRole};
use reads::Reads;
use std::collections::BTreeMap;

/// One replica of one log.
///
/// Invariants ([`Replica::assert_invariants`]): everything the raft crate has said was taken out of it (no ready is left
/// behind); the view ends where the crate's log ends; only a leader has waiting requests or an overlay of producers; the
/// high watermark and the read bound never go back.
pub struct Replica {
    pub(crate) options: ReplicaOptions,
    pub(crate) log: LogId,
    pub(crate) replica: ReplicaId,
    pub(crate) raw: RawNode<RaftStorage>,
    pub(crate) membership: Membership,
    pub(crate) election: ElectionTimer,
    pub(crate) writes: Writes,
    pub(crate) producers: Producers,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    /// Term and vote as last written.
    pub(crate) hard_state: (Term, Option<ReplicaId>),
    /// The commit index as last written or noted.
    pub(crate) commit_said: LogIndex,
    /// The commit index that storage knew to be persisted and safe for raft.
    pub(crate) told: Progress,
    pub(crate) role: RoleChange,
    pub(crate) ticks: u64,
    pub(crate) heard: BTreeMap<ReplicaId, u64>,
    /// The commit index of one heartbeat ago: who has that is in sync.
    pub(crate) commit_before: [LogIndex; 2],
    pub(crate) state_applied: LogIndex,
    pub(crate) failed_fetches: u64,
    pub(crate) stopping: bool,
    pub(crate) stopped_said: bool,
    pub(crate) fatal: bool,
}

/// The parts that a loader has put together.
pub(crate) struct Parts {
    pub(crate) options: ReplicaOptions,
    pub(crate) restored: RestoredReplica,
    pub(crate) commit: LogIndex,
    pub(crate) applied: LogIndex,
    pub(crate) membership: Membership,
    pub(crate) view: LogView,
    pub(crate) producers: Producers,
    pub(crate) high_watermark: Offset,
    pub(crate) seed: u64,
}

impl Replica {
    /// A replica that this node never had. The first output is its create record.
    ///
    /// # Errors
    /// [`LoadError::Options`] or [`LoadError::Membership`].
    pub fn create(
        options: ReplicaOptions,
        replica: ReplicaId,
        log: LogId,
        create: Create,
        seed: u64,
        now: MonotonicTime,
        out: &mut Vec<Output>,
    ) -> Result<Replica, LoadError> {
        let restored = RestoredReplica {
            replica,
            log,
            intent: create.intent,
            term: Term::ZERO,
            vote: None,
            commit: create.start.index,
            membership_index: LogIndex::ZERO,
            membership: create.membership.clone(),
            local_start: create.start,
            log_start: create.start.next_offset,
            last: create.start,
            term_starts: Vec::new(),
            producers: None,
        };
        let mut this = crate::replica_loader::ReplicaLoader::new(restored, create.start.index, &options)?
            .finish(options, seed)?;
        let commit = create.start.index;
        let id = this.writes.next_id();
        this.writes.push(id, 0, false, false, now);
        let ops = vec![WriteOp::Create(create)];
        out.push(Output::Write { id, write: ReplicaWrite { replica, log, commit, ops } });
        Ok(this)
    }

    pub(crate) fn from_parts(parts: Parts) -> Result<Replica, LoadError> {
        let Parts { options, restored, commit, applied, membership, view, producers, high_watermark, seed } = parts;
        let (log, replica) = (restored.log, restored.replica);
        let mut hard_state = HardState::default();
        hard_state.term = restored.term.0;
        hard_state.vote = restored.vote.map_or(0, |vote| vote.0);
        hard_state.commit = commit.0;
        let config = options.raft_config(log, replica, applied.0)?;
        let storage = RaftStorage::new(view, hard_state, membership.clone());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, storage, &logger)
            .map_err(|error| LoadError::Options { replica, reason: error.to_string() })?;
        let ticks = options.election_ticks;
        let told = Progress {
            high_watermark,
            commit,
            read_bound: high_watermark.min(restored.last.next_offset),
            log_end: restored.last.next_offset,
        };
        Ok(Replica {
            election: ElectionTimer::new(seed, ticks),
            log,
            replica,
            raw,
            membership,
            writes: Writes::default(),
            producers,
            proposals: Proposals::default(),
            reads: Reads::default(),
            hard_state: (restored.term, restored.vote),
            commit_said: commit,
            told,
            role: RoleChange { term: restored.term, role: Role::Follower, leader: None },
            ticks: 0,
            heard: BTreeMap::new(),
            commit_before: [LogIndex::ZERO; 2],
            state_applied: applied,
            failed_fetches: 0,
            stopping: false,
            stopped_said: false,
            fatal: false,
            options,
        })
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The replica's id.
    pub fn id(&self) -> ReplicaId {
        self.replica
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.told
    }

    /// What it is in its term.
    pub fn role(&self) -> RoleChange {
        self.role
    }

    /// The producer table as of the last applied entry.
    pub fn producer_table(&self) -> (LogIndex, bytes::Bytes) {
        (self.view().applied(), self.producers.encode())
    }

    pub(crate) fn view(&self) -> &LogView {
        &self.raw.store().view
    }

    pub(crate) fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0).map(ReplicaId)
    }

    /// Takes one input, and says what is to be done. After [`Output::Fatal`] it does nothing any more.
    pub fn step(&mut self, now: MonotonicTime, input: Input, out: &mut Vec<Output>) {
        if self.fatal {
            return;
        }
        match input {
            Input::Tick => self.on_tick(now),
            Input::Propose(proposal) => self.on_propose(vec![proposal], out),
            Input::ProposeAll(proposals) => self.on_propose(proposals, out),
            Input::ProposeCommand { request, command } => self.on_command(request, command, out),
            Input::Peer(message) => self.on_peer(message, out),
            Input::Persisted { write } => self.on_persisted(write, out),
            Input::WrittenOut { index, .. } => self.on_written(index),
            Input::EntriesRead { fetch, result } => self.on_entries_read(fetch, result),
            Input::ReadIndex { request } => self.on_read_index(request, out),
            Input::TransferLeadership { to } => self.on_transfer(to),
            Input::Campaign => self.on_campaign(),
            Input::Unreachable { peer } => self.raw.report_unreachable(peer.0),
            Input::Applied { index } => self.state_applied = self.state_applied.max(index),
            Input::TakeProducers => {
                let (index, bytes) = self.producer_table();
                out.push(Output::Producers { index, bytes });
            }
            Input::Shutdown => self.stopping = true,
        }
        ready::drain(self, now, out);
        self.finish_step(out);
    }

    fn finish_step(&mut self, out: &mut Vec<Output>) {
        self.report_role(out);
        self.ask_for_fetches(out);
        self.release(out);
        self.report_progress(out);
        if self.stopping && !self.stopped_said && self.proposals.is_empty() && self.writes.is_empty() {
            if self.is_leader() && self.membership.voters.len() > 1 {
                self.on_transfer(None);
            } else {
                self.stopped_said = true;
                out.push(Output::Stopped);
            }
        }
        self.assert_cheap_invariants();
    }

    fn on_tick(&mut self, now: MonotonicTime) {
        self.ticks += 1;
        // The election timer stands still while frames wait for the disk: a candidate that wins with entries that aren't
        // durable panics the crate, and a node with a slow disk is a bad leader anyway.
        if self.is_leader() || self.writes.is_empty() {
            self.raw.tick();
        }
        if self.ticks.is_multiple_of(u64::from(self.options.heartbeat_ticks)) {
            self.commit_before = [self.commit_before[1], self.committed()];
        }
        let stuck = self.writes.oldest().is_some_and(|since| now.since(since) > self.options.stuck_disk);
        if stuck && self.is_leader() && self.raw.raft.lead_transferee.is_none() {
            self.on_transfer(None);
        }
    }

    fn on_peer(&mut self, message: PeerMessage, out: &mut Vec<Output>) {
        let from = message.from;
        if let Err(refusal) = self.admit(&message) {
            out.push(Output::Refused { from, refusal });
            return;
        }
        self.heard.insert(from, self.ticks);
        let Some(message) = message.into_raft() else {
            out.push(Output::Refused { from, refusal: Refusal::Field("kind") });
            return;
        };
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(replica = self.replica.0, %error, "a message had no effect");
        }
    }

    fn on_persisted(&mut self, write: WriteId, out: &mut Vec<Output>) {
        let (messages, number) = self.writes.persisted(write);
        out.extend(messages.into_iter().map(|message| Output::Send { message }));
        if let Some(number) = number.filter(|n| *n > 0) {
            self.raw.on_persist_ready(number);
        }
    }

    fn on_written(&mut self, index: LogIndex) {
        // Told before a cut was durable, it speaks of frames that are gone.
        if !self.writes.has_cut() {
            self.raw.mut_store().view.set_written(index);
        }
    }

    fn on_entries_read(&mut self, fetch: FetchId, result: Result<Vec<Frame>, FetchError>) {
        let frames = match result {
            Ok(frames) if !frames.is_empty() => frames,
            _ => {
                self.failed_fetches += 1;
                self.raw.mut_store().forget_fetch(fetch);
                return;
            }
        };
        let Some(contexts) = self.raw.mut_store().begin_fetched(fetch, frames) else { return };
        for context in contexts {
            self.raw.on_entries_fetched(context);
        }
        self.raw.mut_store().end_fetched();
    }

    fn on_transfer(&mut self, to: Option<ReplicaId>) {
        if !self.is_leader() {
            return;
        }
        let raft = &self.raw.raft;
        let best = || {
            let others = self.membership.voters.iter().filter(|voter| **voter != self.replica);
            let alive = others.filter(|voter| self.heard_lately(**voter));
            alive.max_by_key(|voter| raft.prs().get(voter.0).map_or(0, |progress| progress.matched)).copied()
        };
        let Some(target) = to.or_else(best) else { return };
        if self.membership.voters.contains(&target) && raft.lead_transferee != Some(target.0) {
            self.raw.transfer_leader(target.0);
        }
    }

    fn on_campaign(&mut self) {
        let waiting = self.leader().is_none() && !self.is_leader() && self.writes.is_empty();
        if waiting && self.membership.voters.contains(&self.replica) {
            // Refused only for want of a vote, which was looked at.
            let _ = self.raw.campaign();
        }
    }

    pub(crate) fn heard_lately(&self, peer: ReplicaId) -> bool {
        let limit = u64::from(self.options.election_ticks);
        self.heard.get(&peer).is_some_and(|at| self.ticks - at <= limit)
    }

    /// What a leader loses with its leadership.
    pub(crate) fn lose_leadership(&mut self, out: &mut Vec<Output>) {
        self.producers.drop_overlay();
        let leader = self.leader().filter(|leader| *leader != self.replica);
        self.proposals.fail_all(leader, out);
        self.fail_reads(out);
        self.raw.mut_store().drop_fetches();
    }

    /// Stops for good: something is broken that only an operator or a newer program can mend.
    pub(crate) fn fail(&mut self, reason: String, out: &mut Vec<Output>) {
        self.fatal = true;
        out.push(Output::Fatal { reason });
    }

    fn assert_cheap_invariants(&self) {
        assert_eq!(self.view().last().index.0, self.raw.raft.raft_log.last_index(), "the view ends with the crate's log");
        assert!(self.is_leader() || self.proposals.is_empty(), "only a leader has waiting requests");
    }

    /// Checks what the type promises, the view included; for tests and the simulator.
    pub fn assert_invariants(&self) {
        if !self.fatal {
            self.assert_cheap_invariants();
            self.view().assert_invariants();
            assert!(!self.raw.has_ready(), "a ready was left behind");
        }
    }

    /// Where its log ends.
    pub fn last(&self) -> LogPoint {
        self.view().last()
    }
}
