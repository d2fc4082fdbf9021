//! One replica of one log: the machine that the shell steps.
//!
//! [`Replica::step`] takes one input and says what to do. Everything that must happen in order is ordered in here: messages
//! behind syncs (`ready.rs`), replies behind acks (`proposal.rs`), reads behind a majority (`replica/reads.rs`). The clock and the
//! seed are arguments; two replicas given the same inputs say the same.

pub(crate) mod admission;
pub(crate) mod change_step;
pub(crate) mod changes;
pub(crate) mod disk;
pub(crate) mod expiry;
pub(crate) mod guard;
pub(crate) mod handover;
pub(crate) mod log_start;
pub(crate) mod peers;
pub(crate) mod reads;
pub(crate) mod repairing;
pub(crate) mod snapshots;
pub(crate) mod state_receiving;
pub(crate) mod state_sending;
pub(crate) mod telling;

use crate::error::LoadError;
use crate::input::Input;
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::message::{MessageKind, PeerMessage};
use crate::options::ReplicaOptions;
use crate::output::{Output, Progress, Role, RoleChange};
use crate::payload;
use crate::producers::{ProducerTable, Producers};
use crate::proposal::{PendingQueue, Reached};
use crate::ready::{Drained, Driver};
use crate::repair::Repair;
use crate::replica_loader::ReplicaLoader;
use crate::snapshot::Snapshot;
use changes::Changes;
use dlog_core::batch::BatchHeader;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::{Create, LogPoint, RestoredReplica};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, Term};
use expiry::Expiry;
use handover::{Handover, Stopping};
use log_start::LogStartMove;
use peers::Peers;
use raft::StateRole;
use reads::Reads;
use repairing::Giving;
use snapshots::Sending;
use state_receiving::Incoming;
use state_sending::StateSending;
use telling::refuse_halted;

/// What a loader has put together.
pub(crate) struct Parts {
    pub(crate) restored: RestoredReplica,
    pub(crate) membership: Membership,
    pub(crate) membership_index: LogIndex,
    pub(crate) view: LogView,
    pub(crate) table: ProducerTable,
    pub(crate) commit: LogIndex,
    /// Entries up to here change neither membership nor producers.
    pub(crate) as_of: LogIndex,
    pub(crate) state_applied: LogIndex,
    pub(crate) commands: Vec<Frame>,
    /// Where the state store's last command stands (group 0).
    pub(crate) state_place: LogPoint,
    /// The log begins behind this one, which storage must be told.
    pub(crate) restart: Option<Box<Snapshot>>,
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
    /// The membership must be written: a start found it in the log, and storage has an older one.
    membership_unsaid: bool,
    /// C of the last snapshot that was installed: entries up to it change neither membership nor producers.
    as_of: LogIndex,
    /// The first readable offset.
    log_start: Offset,
    /// The log start must be written again: storage may not have it.
    log_start_unsaid: bool,
    moving: Option<LogStartMove>,
    /// Where the log begins in storage, if the view's start has yet to follow.
    dropped: Option<LogPoint>,
    driver: Driver,
    producers: Producers,
    expiry: Expiry,
    /// Snapshots that are on their way.
    sending: Sending,
    /// Group 0's state on its way to peers, and from one.
    states: StateSending,
    incoming: Option<Incoming>,
    restart: Option<Box<Snapshot>>,
    /// The producer table was asked for while a snapshot was being installed.
    producers_wanted: bool,
    pending: PendingQueue,
    reads: Reads,
    peers: Peers,
    /// Term, role and leader as last told.
    standing: RoleChange,
    /// As last told.
    progress: Progress,
    /// Commands that are committed and that the state machine wasn't given: said with the first step, or once a membership before
    /// them is durable.
    untold: Vec<Frame>,
    ticks: u64,
    state_applied: LogIndex,
    failed_fetches: u64,
    installed_snapshots: u64,
    changes: Changes,
    handover: Option<Handover>,
    stopping: Option<Stopping>,
    /// What the disk has lost, and what others' disks have.
    repair: Repair,
    giving: Giving,
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
            producers: Some((create.start.index, ProducerTable::new(options.producers_max).encode())),
        };
        let loader = ReplicaLoader::new(restored, LogIndex::ZERO, &options)?;
        let mut created = loader.finish(options, seed)?;
        created.driver.write_create(now, create, out);
        Ok(created)
    }

    /// Of what a loader has put together.
    pub(crate) fn assemble(parts: Parts, options: ReplicaOptions, seed: u64) -> Result<Replica, LoadError> {
        let Parts { restored, membership, membership_index, view, table, commit, as_of, .. } = parts;
        let Parts { state_applied, commands, state_place, restart, .. } = parts;
        let mut random = fastrand::Rng::with_seed(seed ^ restored.replica.0.rotate_left(17));
        let driver = Driver::load(&restored, &membership, view, &options, (commit, as_of), random.u64(..))?;
        let mut replica = Replica {
            log: restored.log,
            replica: restored.replica,
            peers: Peers::new(options.election_ticks, options.heartbeat_ticks),
            expiry: Expiry::new(options.producer_expiry),
            options,
            membership,
            membership_index,
            membership_unsaid: membership_index > restored.membership_index,
            as_of,
            log_start: restored.log_start.max(table.log_start()),
            log_start_unsaid: table.log_start() > restored.log_start,
            moving: None,
            dropped: None,
            standing: RoleChange { term: Term(driver.raft().term), ..RoleChange::default() },
            driver,
            producers: Producers::new(table),
            sending: Sending::default(),
            states: StateSending::new(state_place),
            incoming: None,
            restart,
            producers_wanted: false,
            pending: PendingQueue::default(),
            reads: Reads::new(restored.replica, random.u64(..)),
            progress: Progress::default(),
            untold: commands,
            ticks: 0,
            state_applied,
            failed_fetches: 0,
            installed_snapshots: 0,
            changes: Changes::default(),
            handover: None,
            stopping: None,
            repair: Repair::default(),
            giving: Giving::default(),
            halted: false,
        };
        if replica.log == LogId::GROUP_ZERO {
            replica.driver.storage_mut().set_state_place(None);
        }
        replica.progress = replica.measure();
        Ok(replica)
    }

    /// Takes one input. Whatever is to be done because of it is appended to `out`, in order.
    pub fn step(&mut self, now: MonotonicTime, input: Input, out: &mut Vec<Output>) {
        if self.halted {
            refuse_halted(input, out);
            return;
        }
        self.begin(now, out);
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
                self.install_snapshot(out);
                self.tell_producers(out);
            }
            Input::WrittenOut { index, .. } => self.driver.on_written_out(index),
            Input::EntriesRead { fetch, result } => self.on_read(fetch, result, out),
            Input::Faulty { faults } => self.on_faulty(&faults),
            Input::Mended { fault, result } => self.on_mended(&fault, result),
            Input::ReadIndex { request } => self.on_read_index(request, out),
            Input::MoveLogStart { request, to } => self.move_log_start(now, request, to, out),
            Input::LocalStart { start } => self.on_local_start(start, out),
            Input::TransferLeadership { to } => self.begin_handover(to),
            Input::Intend(intent) => self.on_intend(intent),
            Input::Campaign => self.on_campaign(),
            Input::Unreachable { peer } => {
                self.driver.call(|raw| raw.report_unreachable(peer.0));
                self.give_up_snapshot(peer);
            }
            Input::Applied { index } => self.on_applied(index),
            Input::StateTaken { index, state } => self.on_state_taken(index, state),
            Input::StateInstalled { index, result } => self.on_state_installed(index, result, out),
            Input::Disk(disk) => self.set_disk(disk),
            Input::TakeProducers => {
                self.producers_wanted = true;
                self.tell_producers(out);
            }
            Input::Shutdown => self.begin_stop(),
        }
        self.advance_handover(now, out);
        self.settle(now, out);
        self.advance_changes(now, out);
        self.advance_repair(out);
        self.advance_stop(out);
    }

    /// What a start has to say, with the first step.
    fn begin(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        if let Some(snapshot) = self.restart.take() {
            self.driver.write_restart(now, &snapshot, out);
        }
        if std::mem::take(&mut self.log_start_unsaid) {
            self.driver.write_log_start(now, self.log_start, out);
        }
        if std::mem::take(&mut self.membership_unsaid) {
            self.driver.write_membership(now, self.membership_index, self.membership.encode(), out);
        }
        self.tell_commands(out);
    }

    /// Draws everything out of the raft crate, then acts on it.
    fn settle(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        let drained = self.driver.drain(now, out);
        self.note_standing(out);
        let snapshots = self.apply(now, drained, out);
        self.send_snapshots(snapshots, out);
        self.ask_for_state(out);
        self.clip();
        if self.driver.is_leader() {
            self.pending.release(self.term(), self.reached(), out);
        }
        self.note_progress(out);
        self.reads.release(self.progress.commit, self.progress.high_watermark, out);
    }

    fn on_tick(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        self.ticks += 1;
        self.repair.tick();
        self.changes.wake();
        self.peers.tick(self.driver.commit());
        self.reads.expire(self.ticks, out);
        self.ask_again();
        self.expire_snapshots();
        self.tick_states(out);
        // A follower's timer stands still while it writes: if it were to win with frames that aren't durable, the crate would
        // panic, and with a stuck disk it could not serve anyway.
        let rests = self.driver.is_writing() || self.driver.disk.stuck || self.stopping.is_some();
        if self.driver.is_leader() || !rests {
            self.driver.call(|raw| raw.tick());
        }
        let slow = self.driver.writing_since().is_some_and(|since| now.since(since) > self.options.stuck_disk);
        if (slow || self.driver.disk.stuck) && self.driver.is_leader() {
            self.begin_handover(None);
        } else if let Some(to) = self.roomier() {
            self.begin_handover(Some(to));
        }
        self.expire_producers(now, out);
        self.driver.note_commit(out);
    }

    fn on_peer(&mut self, mut message: PeerMessage, out: &mut Vec<Output>) {
        let from = message.from;
        let checked = self.check_message(&message).and_then(|()| self.trim(&mut message));
        let snapshot = match checked.and_then(|()| self.check_snapshot(&message)) {
            Ok(snapshot) => snapshot,
            Err(refusal) => {
                out.push(Output::Refused { from, refusal });
                return;
            }
        };
        match message.kind {
            MessageKind::SnapshotResponse => return self.on_snapshot_response(&message, out),
            MessageKind::RepairRequest => return self.on_repair_request(&message, out),
            MessageKind::RepairResponse => return self.on_repair_response(message, out),
            _ => {}
        }
        self.note_snapshot_answer(&message);
        self.note_space(&mut message);
        match snapshot {
            Some(snapshot) if self.needs_state(&snapshot) => self.take_state_part(message, snapshot, out),
            snapshot => self.step_message(message, snapshot),
        }
    }

    /// Hands a checked message to the crate.
    fn step_message(&mut self, message: PeerMessage, snapshot: Option<Snapshot>) {
        let (from, term) = (message.from, message.term);
        let mut message = message.into_raft();
        if let Some(snapshot) = snapshot {
            message.mut_snapshot().mut_metadata().set_conf_state(snapshot.membership.to_conf_state());
            self.driver.offer(snapshot);
        }
        // An error means that the crate had no use for it.
        let _ = self.driver.call(|raw| raw.step(message));
        let tracked = self.driver.raft().prs().get(from.0).is_some();
        if tracked && self.driver.is_leader() && term == self.term() {
            self.peers.hear(from);
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
                if !mutants::is(Mutant::OverlayKept) {
                    self.producers.drop_overlay();
                }
                self.handover = None;
                self.moving = None;
                self.sending.clear();
                self.forget_states();
            }
            self.peers.reset();
            self.driver.peer_space.clear();
            self.changes.reset();
            self.driver.storage_mut().drop_fetches();
        }
        if (standing.term, standing.leader) != (before.term, before.leader) {
            let text = "the leader changed while the read waited; ask again";
            let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, text);
            self.reads.fail_unconfirmed(&error, out);
        }
        out.push(Output::Role(standing));
    }

    /// Applies what is committed and durable here. Gives the snapshots that are to be sent: they hold the state after it.
    fn apply(&mut self, now: MonotonicTime, drained: Drained, out: &mut Vec<Output>) -> Vec<PeerMessage> {
        let log_start = self.log_start;
        for frame in drained.committed {
            match frame.kind {
                FrameKind::Command => self.untold.push(frame),
                // What an entry of configuration has made comes with them.
                FrameKind::NoOp | FrameKind::Configuration => {}
                _ => {
                    if let Err(reason) = self.apply_frame(&frame) {
                        self.halt(format!("frame {} can't be applied: {reason}", frame.index), out);
                        return Vec::new();
                    }
                }
            }
        }
        if self.log_start > log_start {
            self.driver.write_log_start(now, self.log_start, out);
        }
        if let Some((index, membership)) = drained.membership {
            self.take_membership(now, index, membership, out);
        }
        self.tell_commands(out);
        for (context, index) in drained.reads {
            if !self.changes.take_answer(&context, index) {
                self.reads.confirm(&context, index);
            }
        }
        drained.snapshots
    }

    /// Gives committed commands to the state machine. Not while a membership waits for the disk: what a state has synced may be
    /// dropped from the log, and a change that a start must replay would go with it.
    fn tell_commands(&mut self, out: &mut Vec<Output>) {
        if !self.untold.is_empty() && !self.driver.is_writing_membership() {
            let frames = std::mem::take(&mut self.untold);
            self.states.hand_over(&frames, self.state_applied);
            out.push(Output::Apply { frames });
        }
    }

    /// One committed frame that changes what this replica knows. Checked before it was appended.
    fn apply_frame(&mut self, frame: &Frame) -> Result<(), String> {
        let is_news = frame.index > self.as_of;
        match frame.kind {
            FrameKind::Records if is_news => {
                let header = BatchHeader::decode(&frame.payload).map_err(|error| error.to_string())?;
                self.producers.apply(&header, frame.index);
            }
            FrameKind::LogStart => {
                let to = payload::decode_log_start(&frame.payload).map_err(|error| error.to_string())?;
                self.log_start = self.log_start.max(to);
                if is_news {
                    self.producers.move_log_start(to);
                }
            }
            FrameKind::ProducerExpiry if is_news => {
                let expired = payload::decode_expiry(&frame.payload).map_err(|error| error.to_string())?;
                self.producers.expire(&expired);
            }
            FrameKind::Records | FrameKind::ProducerExpiry => {}
            kind => return Err(format!("this version knows nothing of {kind:?} here")),
        }
        Ok(())
    }

    fn measure(&self) -> Progress {
        let view = &self.driver.storage().view;
        let commit = self.driver.commit();
        let high_watermark = view.offset_after(commit).expect("every frame above the applied one is pinned");
        // While the log is being reset, its segments may still show frames of before: nobody may read beyond what was committed
        // then.
        let read_bound = match self.driver.is_installing() {
            true => self.progress.read_bound,
            false if mutants::is(Mutant::ReadPastWritten) => high_watermark,
            false if mutants::is(Mutant::ReadUncommitted) => view.written().next_offset,
            false => high_watermark.min(view.written().next_offset),
        };
        let (log_end, log_start) = (view.last().next_offset, self.log_start);
        Progress { high_watermark, commit, read_bound, log_end, log_start }
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
        let (quorum, leader) = match (self.driver.commit(), self.driver.persisted()) {
            (_, leader) if mutants::is(Mutant::AckedOnLeader) => (leader, leader),
            reached => reached,
        };
        let quorum = if mutants::is(Mutant::LearnerCounted) { self.reached_with_learners(leader) } else { quorum };
        let mut all = quorum.min(leader);
        for voter in self.membership.voting().filter(|voter| *voter != self.replica) {
            let matched = self.matched(voter);
            if self.peers.is_awaited(voter, matched) {
                all = all.min(matched);
            }
        }
        Reached { quorum, leader, all }
    }

    /// How far a majority's worth of members has the log, learners among them.
    fn reached_with_learners(&self, leader: LogIndex) -> LogIndex {
        let has = |member: ReplicaId| if member == self.replica { leader } else { self.matched(member) };
        let mut reached: Vec<LogIndex> = self.membership.members().into_iter().map(has).collect();
        reached.sort_unstable_by(|one, other| other.cmp(one));
        reached[self.membership.voters.len() / 2]
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
}
