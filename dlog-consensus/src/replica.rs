//! One replica of one log: the machine that the shell steps.
//!
//! [`Replica::step`] takes one input and says what to do. Everything that must happen in order is ordered in here: messages
//! behind syncs (`ready.rs`), replies behind acks (`proposal.rs`), reads behind a majority (`replica/reads.rs`). The clock and the
//! seed are arguments; two replicas given the same inputs say the same.

pub(crate) mod admission;
pub(crate) mod guard;
pub(crate) mod handover;
pub(crate) mod peers;
pub(crate) mod reads;

use crate::error::LoadError;
use crate::input::{FetchError, Input};
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::message::PeerMessage;
use crate::options::ReplicaOptions;
use crate::output::{FetchId, Output, Progress, Role, RoleChange};
use crate::producers::{ProducerTable, Producers};
use crate::proposal::{PendingQueue, Reached};
use crate::ready::{Drained, Driver};
use crate::replica_loader::ReplicaLoader;
use crate::status::{PeerStatus, Status};
use dlog_core::batch::BatchHeader;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::write::{Create, RestoredReplica};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, MonotonicTime, ReplicaId, RequestId, Term};
use handover::{Handover, Stopping};
use peers::Peers;
use raft::StateRole;
use reads::Reads;

/// What a loader has put together.
pub(crate) struct Parts {
    pub(crate) restored: RestoredReplica,
    pub(crate) membership: Membership,
    pub(crate) view: LogView,
    pub(crate) table: ProducerTable,
    pub(crate) commit: LogIndex,
    pub(crate) state_applied: LogIndex,
    pub(crate) commands: Vec<Frame>,
}

/// One replica.
///
/// Invariants ([`Replica::assert_invariants`]): between two steps the log view is the raft crate's log; requests wait only on a
/// leader, and all of them in its current term; the read bound is at most the high watermark, and neither goes back.
pub struct Replica {
    log: LogId,
    replica: ReplicaId,
    options: ReplicaOptions,
    membership: Membership,
    membership_index: LogIndex,
    driver: Driver,
    producers: Producers,
    pending: PendingQueue,
    reads: Reads,
    peers: Peers,
    /// Term, role and leader as last told.
    standing: RoleChange,
    /// As last told.
    progress: Progress,
    /// Commands that were committed before the start and not yet applied: said with the first step.
    unsaid: Vec<Frame>,
    ticks: u64,
    state_applied: LogIndex,
    failed_fetches: u64,
    handover: Option<Handover>,
    stopping: Option<Stopping>,
    halted: bool,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {:?}: {:?} {:?}", self.replica, self.log, self.standing, self.progress)
    }
}

impl Replica {
    /// A replica that this node never had. Its first output makes it known to storage.
    ///
    /// # Errors
    /// [`LoadError`] if membership or options are not valid.
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
        let loader = ReplicaLoader::new(restored, LogIndex::ZERO, &options)?;
        let mut created = loader.finish(options, seed)?;
        created.driver.write_create(now, create, out);
        Ok(created)
    }

    /// Of what a loader has put together.
    pub(crate) fn assemble(parts: Parts, options: ReplicaOptions, seed: u64) -> Result<Replica, LoadError> {
        let Parts { restored, membership, view, table, commit, state_applied, commands } = parts;
        let mut random = fastrand::Rng::with_seed(seed ^ restored.replica.0.rotate_left(17));
        let driver = Driver::load(&restored, &membership, view, &options, commit, random.u64(..))?;
        let mut replica = Replica {
            log: restored.log,
            replica: restored.replica,
            peers: Peers::new(options.election_ticks, options.heartbeat_ticks),
            options,
            membership,
            membership_index: restored.membership_index,
            standing: RoleChange { term: Term(driver.raft().term), ..RoleChange::default() },
            driver,
            producers: Producers::new(table),
            pending: PendingQueue::default(),
            reads: Reads::new(restored.replica, random.u64(..)),
            progress: Progress::default(),
            unsaid: commands,
            ticks: 0,
            state_applied,
            failed_fetches: 0,
            handover: None,
            stopping: None,
            halted: false,
        };
        replica.progress = replica.measure();
        Ok(replica)
    }

    /// Takes one input. Whatever is to be done because of it is appended to `out`, in order.
    pub fn step(&mut self, now: MonotonicTime, input: Input, out: &mut Vec<Output>) {
        if !self.unsaid.is_empty() {
            out.push(Output::Apply { frames: std::mem::take(&mut self.unsaid) });
        }
        if self.halted {
            refuse_halted(input, out);
            return;
        }
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Propose(proposal) => self.propose_all(now, vec![proposal], out),
            Input::ProposeAll(proposals) => self.propose_all(now, proposals, out),
            Input::ProposeCommand { request, command } => self.propose_command(now, request, command, out),
            Input::Peer(message) => self.on_peer(message, out),
            Input::Persisted { write } => {
                if !self.driver.on_persisted(write, out) {
                    self.halt(format!("write {} was acknowledged but never made", write.0), out);
                }
            }
            Input::WrittenOut { index, .. } => self.driver.on_written_out(index),
            Input::EntriesRead { fetch, result } => self.on_entries_read(fetch, result),
            Input::ReadIndex { request } => self.on_read_index(request, out),
            Input::TransferLeadership { to } => self.begin_handover(to),
            Input::Campaign => self.on_campaign(),
            Input::Unreachable { peer } => self.driver.call(|raw| raw.report_unreachable(peer.0)),
            Input::Applied { index } => self.state_applied = self.state_applied.max(index),
            Input::TakeProducers => {
                let (index, bytes) = self.producer_table();
                out.push(Output::Producers { index, bytes });
            }
            Input::Shutdown => self.begin_stop(),
        }
        self.advance_handover(now, out);
        self.settle(now, out);
        self.advance_stop(out);
    }

    /// Draws everything out of the raft crate, then acts on it.
    fn settle(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        let drained = self.driver.drain(now, out);
        self.note_standing(out);
        self.apply(drained, out);
        if self.driver.is_leader() {
            self.pending.release(self.term(), self.reached(), out);
        }
        self.note_progress(out);
        self.reads.release(self.progress.commit, self.progress.high_watermark, out);
    }

    fn on_tick(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        self.ticks += 1;
        self.peers.tick(self.driver.commit());
        let text = "no majority confirmed the leader in time; `dlog cluster health` says which replicas are missing";
        self.reads.expire(self.ticks, &ErrorDetail::rejected(ErrorCode::Timeout, Stage::Replication, text), out);
        // A follower's timer stands still while it writes: if it were to win with frames that aren't durable, the crate would
        // panic, and with a stuck disk it could not serve anyway.
        if self.driver.is_leader() || (!self.driver.is_writing() && self.stopping.is_none()) {
            self.driver.call(|raw| raw.tick());
        }
        let stuck = self.driver.writing_since().is_some_and(|since| now.since(since) > self.options.stuck_disk);
        if stuck && self.driver.is_leader() {
            self.begin_handover(None);
        }
        self.driver.note_commit(out);
    }

    fn on_peer(&mut self, message: PeerMessage, out: &mut Vec<Output>) {
        let from = message.from;
        if let Err(refusal) = self.check_message(&message) {
            out.push(Output::Refused { from, refusal });
            return;
        }
        let term = message.term;
        let Some(message) = message.into_raft() else { return };
        // An error means that the crate had no use for it.
        let _ = self.driver.call(|raw| raw.step(message));
        if self.driver.is_leader() && term == self.term() {
            self.peers.hear(from);
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

    fn on_read_index(&mut self, request: RequestId, out: &mut Vec<Output>) {
        let refused = if self.reads.is_full() {
            let text = "too many reads wait for the leader's confirmation; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Replication, text))
        } else if self.driver.is_leader() && !self.driver.raft().commit_to_current_term() {
            let text = "the new leader does not know the end of the log yet; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Replication, text))
        } else if self.leader().is_none() {
            Some(self.not_leader(false))
        } else {
            None
        };
        if let Some(error) = refused {
            out.push(Output::Reply { request, result: Err(error) });
            return;
        }
        let deadline = self.ticks + 2 * u64::from(self.options.election_ticks);
        let context = self.reads.begin(request, deadline);
        self.driver.call(|raw| raw.read_index(context));
    }

    fn on_campaign(&mut self) {
        // A candidate waits for the votes that it asked for: to ask again would throw them away.
        let idle = self.driver.raft().state != StateRole::Candidate && !self.driver.is_writing();
        let may = self.leader().is_none() && idle && self.stopping.is_none();
        if may && self.membership.is_voter(self.replica) {
            // Only fails where the crate had no use for it.
            let _ = self.driver.call(|raw| raw.campaign());
        }
    }

    /// Tells a change of term, role or leader, after failing what depended on the old one.
    fn note_standing(&mut self, out: &mut Vec<Output>) {
        let role = match self.driver.raft().state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        };
        let standing = RoleChange { term: self.term(), role, leader: self.leader() };
        let before = self.standing;
        if standing == before {
            return;
        }
        self.standing = standing;
        if (standing.term, standing.role == Role::Leader) != (before.term, before.role == Role::Leader) {
            if before.role == Role::Leader {
                let error = self.not_leader(true);
                self.pending.fail_all(&error, out);
                self.producers.drop_overlay();
                self.handover = None;
            }
            self.peers.reset();
            self.driver.storage_mut().drop_fetches();
        }
        if (standing.term, standing.leader) != (before.term, before.leader) {
            let text = "the leader changed while the read waited; ask again";
            let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, text);
            self.reads.fail_unconfirmed(&error, out);
        }
        out.push(Output::Role(standing));
    }

    fn apply(&mut self, drained: Drained, out: &mut Vec<Output>) {
        let mut commands = Vec::new();
        for frame in drained.committed {
            match frame.kind {
                FrameKind::Records => {
                    let header =
                        BatchHeader::decode(&frame.payload).expect("frames are checked before they are appended");
                    self.producers.apply(&header, frame.index);
                }
                FrameKind::Command => commands.push(frame),
                FrameKind::NoOp => {}
                kind => {
                    self.halt(format!("frame {} of kind {kind:?} can't be applied by this version", frame.index), out);
                    return;
                }
            }
        }
        if !commands.is_empty() {
            out.push(Output::Apply { frames: commands });
        }
        for (context, index) in drained.reads {
            self.reads.confirm(&context, index);
        }
    }

    fn measure(&self) -> Progress {
        let view = &self.driver.storage().view;
        let commit = self.driver.commit();
        let high_watermark = view.offset_after(commit).expect("every frame above the applied one is pinned");
        let read_bound = high_watermark.min(view.written().next_offset);
        Progress { high_watermark, commit, read_bound, log_end: view.last().next_offset }
    }

    fn note_progress(&mut self, out: &mut Vec<Output>) {
        let progress = self.measure();
        if progress == self.progress {
            return;
        }
        let before = std::mem::replace(&mut self.progress, progress);
        assert!(
            progress.commit >= before.commit,
            "the commit index went from {} to {}",
            before.commit,
            progress.commit
        );
        assert!(progress.high_watermark >= before.high_watermark && progress.read_bound >= before.read_bound);
        out.push(Output::Progress(progress));
    }

    /// How far entries are for each kind of ack. Only of a leader.
    fn reached(&self) -> Reached {
        let (quorum, leader) = (self.driver.commit(), self.driver.persisted());
        let mut all = quorum.min(leader);
        for voter in self.membership.voters.iter().filter(|voter| **voter != self.replica) {
            let matched = self.matched(*voter);
            if self.peers.is_awaited(*voter, matched) {
                all = all.min(matched);
            }
        }
        Reached { quorum, leader, all }
    }

    fn matched(&self, member: ReplicaId) -> LogIndex {
        LogIndex(self.driver.raft().prs().get(member.0).map_or(0, |progress| progress.matched))
    }

    fn leader(&self) -> Option<ReplicaId> {
        let leader = self.driver.raft().leader_id;
        (leader != 0).then_some(ReplicaId(leader))
    }

    /// Goes on no more. Whoever waits is told.
    fn halt(&mut self, reason: String, out: &mut Vec<Output>) {
        self.halted = true;
        let text = format!("the replica has stopped: {reason}");
        let error = ErrorDetail::unknown(ErrorCode::Internal, Stage::Replication, text);
        self.pending.fail_all(&error, out);
        self.reads.fail_all(&error, out);
        out.push(Output::Fatal { reason });
    }

    /// The producer table and the entry it is as of. That entry is committed and durable here.
    pub fn producer_table(&self) -> (LogIndex, bytes::Bytes) {
        (self.driver.storage().view.applied(), self.producers.table().encode())
    }

    /// The replica's id.
    pub fn id(&self) -> ReplicaId {
        self.replica
    }

    /// Its log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Whether it leads now.
    pub fn is_leader(&self) -> bool {
        !self.halted && self.driver.is_leader()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What it is in its term, and who leads.
    pub fn role(&self) -> RoleChange {
        self.standing
    }

    /// Every member, itself included.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Ends the replica: everything that waits fails, and its last write deletes it.
    pub fn delete(mut self, out: &mut Vec<Output>) {
        let text = "the replica was removed from this node; ask for the partition's leader again";
        let error = ErrorDetail::unknown(ErrorCode::NotLeader, Stage::Replication, text);
        self.pending.fail_all(&error, out);
        self.reads.fail_all(&error, out);
        self.driver.write_delete(out);
    }

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
            last: view.last().index,
            persisted: self.driver.persisted(),
            written: view.written().index,
            applied: view.applied(),
            state_applied: self.state_applied,
            membership: self.membership.clone(),
            membership_index: self.membership_index,
            peers: if self.driver.is_leader() { self.peer_statuses() } else { Vec::new() },
            pinned_bytes: view.pinned_bytes(),
            pending_requests: self.pending.len() + self.reads.len(),
            producers: self.producers.table().len(),
            unpersisted_since: self.driver.writing_since(),
            failed_fetches: self.failed_fetches,
            snapshots_wanted: self.driver.storage().snapshots_wanted(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let status = |member: ReplicaId| {
            let ours = member == self.replica;
            let matched = self.matched(member);
            PeerStatus {
                replica: member,
                voter: self.membership.is_voter(member),
                matched,
                silent_ticks: if ours { Some(0) } else { self.peers.silent_ticks(member) },
                in_sync: if ours { self.peers.keeps_up(matched) } else { self.peers.in_sync(member, matched) },
            }
        };
        self.membership.members().into_iter().map(status).collect()
    }

    /// Checks what the type promises; cheap enough for every step of a test.
    pub fn assert_invariants(&self) {
        let (view, raft) = (&self.driver.storage().view, self.driver.raft());
        view.assert_invariants();
        assert_eq!(view.last().index.0, raft.raft_log.last_index(), "the view is the crate's log");
        assert_eq!(view.applied().0, raft.raft_log.applied, "what is applied is applied on both sides");
        assert!(raft.raft_log.unstable_entries().is_empty(), "every entry is in the view");
        assert!(self.pending.is_empty() || self.driver.is_leader(), "requests wait only on a leader");
        assert!(self.progress.read_bound <= self.progress.high_watermark);
        assert!(self.progress.high_watermark <= self.progress.log_end);
    }
}

/// A replica that stopped still answers.
fn refuse_halted(input: Input, out: &mut Vec<Output>) {
    let requests = match input {
        Input::Propose(proposal) => vec![proposal.request],
        Input::ProposeAll(proposals) => proposals.into_iter().map(|proposal| proposal.request).collect(),
        Input::ProposeCommand { request, .. } | Input::ReadIndex { request } => vec![request],
        _ => Vec::new(),
    };
    let text = "the replica has stopped after a fault; the node's trace says why";
    let error = ErrorDetail::rejected(ErrorCode::Internal, Stage::Replication, text);
    out.extend(requests.into_iter().map(|request| Output::Reply { request, result: Err(error.clone()) }));
}
