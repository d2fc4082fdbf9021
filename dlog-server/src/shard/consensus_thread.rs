//! The consensus thread: owns a shard's replicas, steps them, and executes what they say. It never waits for the disk, for a
//! peer or for a client.
//!
//! One turn: take what has queued (and a tick if one is due), step the host, then carry out the outputs in order: journal
//! writes go to the disk thread as one message, messages to each peer as one bundle, replies to their requests.

mod repairs;

use super::disk_health::DiskWatch;
use super::disk_thread::DiskMessage;
use super::inbox::{AdmissionPermit, Inbox, ProposeRequest, ReplyResult, ShardMessage, StartReplica};
use super::read_thread::{FetchRequest, ReadRequest};
use super::retention::Retention;
use crate::clock::Clock;
use crate::clock::agreement::ClockAgreement;
use crate::metadata::apply_thread::ApplyMessage;
use crate::metadata::confirmations::Confirmation;
use crate::metrics::Metrics;
use crate::peer::outbox::Outboxes;
use crate::replicas::{ReplicaHandle, ReplicaProgress, Replicas};
use dlog_consensus::{
    FetchError, Host, Input, Output, PeerMessage, Proposal, Refusal, ReplicaOptions, Role, RoleChange, Status, WriteId,
};
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::write::{Create, LogPoint, ReplicaWrite};
use dlog_core::{LogId, LogIndex, MonotonicTime, ReplicaId, RequestId, limits};
use dlog_storage::retention::RetentionLimits;
use repairs::Repairs;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Length of a tick: the unit of election and heartbeat timers (dlog-consensus counts in it).
pub const TICK: Duration = Duration::from_millis(50);
/// Ticks for which the preferred replica of a new partition tries to lead before anyone may: one election timeout.
const CAMPAIGN_TICKS: u32 = 20;
/// Messages taken in one turn: bounds how long replies and writes of a turn wait for its last input.
const MESSAGES_PER_TURN: usize = 512;

/// Bytes of proposals that go into the log in one step: well below what a journal group may hold.
const PROPOSED_BYTES_PER_STEP: usize = 4 << 20;

/// What every replica of a shard looked like at the last tick: for `describe`, health and the leadership balancer.
pub type ShardStatus = Arc<Mutex<BTreeMap<ReplicaId, Status>>>;

/// Where the thread sends what its replicas say.
pub struct Exits {
    /// The disk thread.
    pub disk: mpsc::Sender<DiskMessage>,
    /// The read thread.
    pub reads: mpsc::Sender<ReadRequest>,
    /// The apply thread of group 0 (only the shard that owns it sends).
    pub apply: mpsc::Sender<ApplyMessage>,
    /// What leaders here say of their logs' members, for the catalogue.
    pub confirmations: tokio::sync::mpsc::Sender<Confirmation>,
    /// Other nodes.
    pub outboxes: Arc<Outboxes>,
    /// The node's counters.
    pub metrics: Arc<Metrics>,
    /// Whether the wall clock may decide what is too old.
    pub clock_agreement: Arc<ClockAgreement>,
}

struct Waiter {
    reply: oneshot::Sender<ReplyResult>,
    /// Given back when the reply is sent.
    _permit: Option<AdmissionPermit>,
}

/// The thread's state.
pub struct ConsensusThread {
    host: Host,
    clock: Clock,
    inbox: Inbox,
    queue: mpsc::Receiver<ShardMessage>,
    exits: Exits,
    replicas: Arc<Replicas>,
    status: ShardStatus,
    progress: BTreeMap<ReplicaId, watch::Sender<ReplicaProgress>>,
    logs: BTreeMap<ReplicaId, LogId>,
    /// New replicas that should lead first, with the ticks for which they try: their peers may not have started yet.
    preferred: BTreeMap<ReplicaId, u32>,
    waiting: BTreeMap<RequestId, Waiter>,
    next_request: u64,
    outputs: Vec<(ReplicaId, Output)>,
    writes: Vec<(WriteId, ReplicaWrite)>,
    messages: Vec<PeerMessage>,
    /// Proposals of this turn, which go into the log together: one write and one message a peer for all of them.
    proposals: BTreeMap<ReplicaId, Vec<Proposal>>,
    proposed_bytes: usize,
    retention: Retention,
    repairs: Repairs,
    disk: DiskWatch,
    received: usize,
    stopping: bool,
}

impl ConsensusThread {
    /// A thread over restored replicas.
    pub fn new(
        host: Host,
        clock: Clock,
        inbox: Inbox,
        queue: mpsc::Receiver<ShardMessage>,
        exits: Exits,
        replicas: Arc<Replicas>,
        (status, disk): (ShardStatus, DiskWatch),
    ) -> ConsensusThread {
        ConsensusThread {
            host,
            clock,
            inbox,
            queue,
            exits,
            replicas,
            status,
            progress: BTreeMap::new(),
            logs: BTreeMap::new(),
            preferred: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_request: 1,
            outputs: Vec::new(),
            writes: Vec::new(),
            messages: Vec::new(),
            proposals: BTreeMap::new(),
            proposed_bytes: 0,
            retention: Retention::default(),
            repairs: Repairs::default(),
            disk,
            received: 0,
            stopping: false,
        }
    }

    /// Registers a replica that was restored, before [`ConsensusThread::run`].
    pub fn adopt(
        &mut self,
        log: LogId,
        replica: ReplicaId,
        progress: ReplicaProgress,
        reader: Option<dlog_storage::LogReader<dlog_storage::OsDisk>>,
    ) {
        let (sender, receiver) = watch::channel(progress);
        self.progress.insert(replica, sender);
        self.logs.insert(replica, log);
        self.replicas.insert(Arc::new(ReplicaHandle::new(log, replica, self.inbox.clone(), receiver, reader)));
    }

    /// Runs until [`ShardMessage::Stop`].
    pub fn run(mut self) {
        let mut next_tick = self.clock.now().plus(TICK);
        while !self.stopping {
            match self.queue.recv_timeout(next_tick.since(self.clock.now())) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for _ in 1..MESSAGES_PER_TURN {
                let Ok(message) = self.queue.try_recv() else { break };
                self.take(message);
            }
            self.propose();
            let now = self.clock.now();
            if now >= next_tick {
                // A process that was paused gets one tick, not all it missed: a timer must not fire for time in which
                // nothing could be heard.
                next_tick = now.plus(TICK);
                if let Some(disk) = self.disk.look(now) {
                    self.host.set_disk(now, disk, &mut self.outputs);
                }
                self.host.tick_all(now, &mut self.outputs);
                self.campaign();
                self.retain(now);
                self.publish_status();
            }
            self.execute();
        }
        // One last tick notes every commit index that no write has carried yet.
        self.host.tick_all(self.clock.now(), &mut self.outputs);
        self.execute();
        let _ = self.exits.disk.send(DiskMessage::Stop(self.host.producer_tables()));
    }

    fn take(&mut self, message: ShardMessage) {
        if let ShardMessage::Propose(request) = message {
            return self.take_proposal(request);
        }
        // What came before goes in before.
        self.propose();
        match message {
            ShardMessage::Propose(request) => self.take_proposal(request),
            ShardMessage::Command { replica, command, reply } => {
                let id = self.wait(reply, None);
                self.ask(replica, id, Input::ProposeCommand { request: id, command });
            }
            ShardMessage::ReadIndex { replica, reply } => {
                let id = self.wait(reply, None);
                self.ask(replica, id, Input::ReadIndex { request: id });
            }
            ShardMessage::Peers { messages, bytes } => {
                self.received += bytes;
                for message in messages {
                    self.host.receive(self.clock.now(), message, &mut self.outputs);
                }
            }
            ShardMessage::Space(space) => {
                let disk = self.disk.room(space);
                self.host.set_disk(self.clock.now(), disk, &mut self.outputs);
            }
            ShardMessage::Persisted(writes) => {
                for (replica, write) in writes {
                    self.step(replica, Input::Persisted { write });
                }
            }
            ShardMessage::WrittenOut(written) => {
                for out in written {
                    self.step(out.replica, Input::WrittenOut { index: out.index, next_offset: out.next_offset });
                }
            }
            ShardMessage::LocalStarts(starts) => {
                for (replica, start) in starts {
                    self.step(replica, Input::LocalStart { start });
                }
            }
            ShardMessage::EntriesRead { replica, fetch, frames } => {
                let result = frames.map_err(|reason| FetchError { reason });
                self.step(replica, Input::EntriesRead { fetch, result });
            }
            ShardMessage::Applied { replica, index } => self.step(replica, Input::Applied { index }),
            ShardMessage::StateTaken { replica, index, state } => {
                self.step(replica, Input::StateTaken { index, state })
            }
            ShardMessage::StateInstalled { replica, index, result } => {
                self.step(replica, Input::StateInstalled { index, result });
            }
            ShardMessage::Unreachable { node } => {
                self.host.unreachable(self.clock.now(), node, &mut self.outputs);
            }
            ShardMessage::Start(start) => self.start(start),
            // The largest batch is checked where batches come in; a running replica takes any that was let in.
            ShardMessage::Settings { replica, segment_bytes, retention_bytes, retention_ms, batch_bytes_max: _ } => {
                let _ = self.exits.disk.send(DiskMessage::SegmentBytes(replica, segment_bytes));
                self.retention.set(replica, RetentionLimits { bytes: retention_bytes, ms: retention_ms });
            }
            ShardMessage::Intend { replica, intent } => self.intend(replica, intent),
            ShardMessage::Repair(message) => self.take_repair(message),
            ShardMessage::Delete { replica, ended } => self.delete(replica, ended),
            ShardMessage::Transfer { replica, to } => self.step(replica, Input::TransferLeadership { to: Some(to) }),
            ShardMessage::TakeProducers => self.take_producers(),
            ShardMessage::HandOver { reply } => self.hand_over(reply),
            ShardMessage::Stop => self.stopping = true,
        }
    }

    fn take_proposal(&mut self, request: ProposeRequest) {
        if !self.host.contains(request.replica) {
            let _ = request.reply.send(Err(gone()));
            return;
        }
        self.proposed_bytes += request.batches.iter().map(bytes::Bytes::len).sum::<usize>();
        let id = self.wait(request.reply, Some(request.permit));
        let proposal =
            Proposal { request: id, batches: request.batches, append_time: request.append_time, acks: request.acks };
        self.proposals.entry(request.replica).or_default().push(proposal);
        if self.proposed_bytes >= PROPOSED_BYTES_PER_STEP {
            self.propose();
        }
    }

    /// Hands this turn's proposals to their replicas.
    fn propose(&mut self) {
        self.proposed_bytes = 0;
        for (replica, proposals) in std::mem::take(&mut self.proposals) {
            self.step(replica, Input::ProposeAll(proposals));
        }
    }

    fn step(&mut self, replica: ReplicaId, input: Input) {
        self.host.step(self.clock.now(), replica, input, &mut self.outputs);
    }

    /// Steps a request, or answers it if the replica is gone.
    fn ask(&mut self, replica: ReplicaId, id: RequestId, input: Input) {
        if self.host.contains(replica) {
            self.step(replica, input);
        } else {
            self.reply(id, Err(gone()));
        }
    }

    fn wait(&mut self, reply: oneshot::Sender<ReplyResult>, permit: Option<AdmissionPermit>) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(id, Waiter { reply, _permit: permit });
        id
    }

    fn reply(&mut self, id: RequestId, result: ReplyResult) {
        if let Some(waiter) = self.waiting.remove(&id) {
            // A caller that has gone away needs no answer.
            let _ = waiter.reply.send(result);
        }
    }

    fn start(&mut self, start: StartReplica) {
        if self.host.contains(start.replica) {
            return;
        }
        let _ = self.exits.disk.send(DiskMessage::SegmentBytes(start.replica, start.segment_bytes));
        let now = self.clock.now();
        let options = ReplicaOptions { batch_bytes_max: start.batch_bytes_max, ..ReplicaOptions::default() };
        let create = Create { intent: start.intent, membership: start.membership, start: LogPoint::default() };
        match self.host.create(now, options, start.replica, start.log, create, &mut self.outputs) {
            Ok(()) => {
                self.adopt(start.log, start.replica, ReplicaProgress::default(), None);
                let limits = RetentionLimits { bytes: start.retention_bytes, ms: start.retention_ms };
                self.retention.set(start.replica, limits);
                if start.preferred {
                    self.preferred.insert(start.replica, CAMPAIGN_TICKS);
                }
            }
            Err(error) => {
                tracing::error!(replica = %start.replica, log = %start.log, %error, "a replica can't be started")
            }
        }
    }

    /// Lets new preferred replicas ask for votes, every tick until someone leads.
    fn campaign(&mut self) {
        let mut preferred = std::mem::take(&mut self.preferred);
        preferred.retain(|_, ticks| {
            *ticks -= 1;
            *ticks > 0
        });
        for replica in preferred.keys() {
            self.step(*replica, Input::Campaign);
        }
        self.preferred = preferred;
    }

    fn delete(&mut self, replica: ReplicaId, ended: LogIndex) {
        if self.delete_later(replica, ended) {
            return;
        }
        self.host.delete(replica, ended, &mut self.outputs);
        self.preferred.remove(&replica);
        self.logs.remove(&replica);
        self.progress.remove(&replica);
        self.retention.remove(replica);
        self.replicas.remove(replica);
    }

    /// Moves the starts of logs that are led here and hold more than is wanted.
    fn retain(&mut self, now: MonotonicTime) {
        for replica in self.retention.due(now, || self.exits.clock_agreement.wall_clock()) {
            let Some(progress) = self.progress.get(&replica).map(|progress| *progress.borrow()) else { continue };
            let reader = self.logs.get(&replica).and_then(|log| self.replicas.reader(*log));
            let Some(reader) = reader.filter(|_| progress.role == Role::Leader) else { continue };
            let bounds = (progress.log_start, progress.high_watermark);
            let plan = self.retention.plan(replica, now, bounds, &reader.segments());
            if plan.end_segment {
                let _ = self.exits.disk.send(DiskMessage::EndSegment(replica));
            }
            if let Some(to) = plan.log_start {
                tracing::info!(%replica, from = %progress.log_start, %to, "retention moves the log start");
                let (reply, answer) = oneshot::channel();
                self.retention.asked(replica, answer);
                let request = self.wait(reply, None);
                self.ask(replica, request, Input::MoveLogStart { request, to });
            }
        }
    }

    fn take_producers(&mut self) {
        // What was said before must reach the disk thread before the tables that include it.
        self.execute();
        let tables = self.host.producer_tables();
        let _ = self.exits.disk.send(DiskMessage::Producers(tables));
    }

    fn hand_over(&mut self, reply: oneshot::Sender<usize>) {
        let led = self.host.led();
        for replica in &led {
            self.step(*replica, Input::TransferLeadership { to: None });
        }
        let _ = reply.send(led.len());
    }

    fn publish_status(&mut self) {
        let statuses = self.host.statuses();
        *self.status.lock().expect("no holder panics") = statuses;
    }

    /// Carries out everything the host said in this turn.
    fn execute(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for (replica, output) in outputs.drain(..) {
            self.carry_out(replica, output);
        }
        self.outputs = outputs;
        if !self.messages.is_empty() {
            self.exits.outboxes.send(std::mem::take(&mut self.messages), &self.inbox);
        }
        let received = std::mem::take(&mut self.received);
        if !self.writes.is_empty() {
            let writes = std::mem::take(&mut self.writes);
            let _ = self.exits.disk.send(DiskMessage::Writes { writes, received, said: Instant::now() });
        } else {
            self.inbox.received().release(received);
        }
    }

    fn carry_out(&mut self, replica: ReplicaId, output: Output) {
        match output {
            Output::Write { id, write } => self.writes.push((id, write)),
            Output::Send { message } => self.messages.push(message),
            Output::ReadEntries { fetch, from, to, max_bytes, .. } => {
                if let Some(&log) = self.logs.get(&replica) {
                    let max_bytes =
                        usize::try_from(max_bytes).unwrap_or(usize::MAX).min(limits::CATCH_UP_READ_BYTES_MAX);
                    let request = FetchRequest { replica, log, fetch, from, to, max_bytes };
                    let _ = self.exits.reads.send(ReadRequest::Fetch(request));
                }
            }
            Output::Progress(now) => self.publish(replica, |p| {
                (p.high_watermark, p.commit) = (now.high_watermark, now.commit);
                (p.read_bound, p.log_end, p.log_start) = (now.read_bound, now.log_end, now.log_start);
            }),
            Output::Role(now) => {
                tracing::info!(%replica, term = %now.term, role = ?now.role, leader = ?now.leader, "role");
                if now.leader.is_some() {
                    self.preferred.remove(&replica);
                }
                self.count_role(replica, now);
                self.publish(replica, |p| (p.term, p.role, p.leader) = (now.term, now.role, now.leader));
            }
            Output::Reply { request, result } => self.reply(request, result),
            Output::Apply { frames } => {
                let _ = self.exits.apply.send(ApplyMessage::Frames { replica, frames });
            }
            Output::Confirmed { intent, membership_index, membership } => {
                if let Some(&log) = self.logs.get(&replica) {
                    // One that doesn't fit is said again.
                    let said = Confirmation { log, intent, membership_index, membership };
                    let _ = self.exits.confirmations.try_send(said);
                }
            }
            Output::TakeState => {
                let _ = self.exits.apply.send(ApplyMessage::TakeState { replica });
            }
            Output::InstallState { index, state, origin } => {
                let _ = self.exits.apply.send(ApplyMessage::Install { replica, index, state, origin });
            }
            Output::Mend { fault, place, frames } => self.mend(replica, fault, place, frames),
            Output::Whole => self.load_whole(replica),
            Output::Producers { .. } | Output::Stopped => {}
            // The raft crate repeats its wish that a replica campaigns; the first has begun a write. Who has just left a log may
            // answer what it was asked before. And a leader hears of this disk only with the next heartbeat.
            Output::Refused { from, refusal } if is_usual(&refusal) => {
                tracing::debug!(%replica, %from, %refusal, "a peer's message came too early, or too late");
            }
            Output::Refused { from, refusal } => {
                tracing::warn!(%replica, %from, %refusal, "a peer's message was refused");
            }
            Output::Fatal { reason } => crate::fatal(&format!("replica {replica}: {reason}")),
        }
    }

    fn count_role(&self, replica: ReplicaId, now: RoleChange) {
        let Some(before) = self.progress.get(&replica).map(|sender| *sender.borrow()) else { return };
        let metrics = &self.exits.metrics;
        metrics.elections_started.add(u64::from(now.role == Role::Candidate && before.role != Role::Candidate));
        metrics.elections_won.add(u64::from(now.role == Role::Leader && before.role != Role::Leader));
        metrics.leader_changes.add(u64::from(now.leader.is_some() && now.leader != before.leader));
    }

    fn publish(&mut self, replica: ReplicaId, change: impl FnOnce(&mut ReplicaProgress)) {
        if let Some(sender) = self.progress.get(&replica) {
            sender.send_if_modified(|progress| {
                let before = *progress;
                change(progress);
                before != *progress
            });
        }
    }
}

/// Whether a refusal is part of ordinary life.
fn is_usual(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NotDurable | Refusal::NotAMember(_) | Refusal::DiskFull | Refusal::DiskStuck)
}

/// The answer of a replica that was here when the request was made.
fn gone() -> ErrorDetail {
    ErrorDetail::new(
        ErrorCode::NotLeader,
        Stage::Admission,
        Outcome::Rejected,
        "the replica has left this node; ask for the partition's leader again".to_string(),
    )
}
