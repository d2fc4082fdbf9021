//! The cluster: executes what the machines say as dumbly as a shell may, and lets a seed decide what arrives when.

mod checks;
mod members;

use crate::node::{ApplyJob, Job, Node, Read};
use bytes::Bytes;
use dlog_consensus::{Acks, Input, Membership, Output, PeerMessage, Proposal, Replica, ReplicaLoader, ReplicaOptions};
use dlog_consensus::{FetchError, Intent, Reply, Role};
use dlog_core::error::ErrorDetail;
use dlog_core::write::{Create, LogPoint, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, NodeId, Offset, ReplicaId, RequestId, Term};
use fastrand::Rng;
use members::Confirmation;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A tick of the production clock.
const TICK: Duration = Duration::from_millis(50);

/// How bad the network and the disks are, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub drop: u32,
    pub double: u32,
    pub delay: u32,
    pub slow_disk: u32,
    pub late_segments: u32,
}

/// What is asked of the machines and not answered yet.
#[derive(Clone, Debug)]
pub struct Asked {
    pub node: ReplicaId,
    pub acks: Acks,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub request: RequestId,
    pub node: ReplicaId,
    pub acks: Acks,
    pub result: Result<Reply, ErrorDetail>,
}

pub struct Cluster {
    pub random: Rng,
    pub now: MonotonicTime,
    pub log: LogId,
    pub options: ReplicaOptions,
    /// That of creation: every replica starts from it.
    pub membership: Membership,
    /// The memberships of the ledger, each with the entry that made it.
    pub history: Vec<(LogIndex, Membership)>,
    /// All intents, in the order of their versions from 1.
    pub intents: Vec<Intent>,
    pub confirmations: Vec<Confirmation>,
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub network: Vec<PeerMessage>,
    pub blocked: BTreeSet<(ReplicaId, ReplicaId)>,
    pub weather: Weather,
    /// Disks that do nothing.
    pub stuck: BTreeSet<ReplicaId>,
    /// Every frame that any node knew to be committed.
    pub ledger: Vec<Frame>,
    pub leaders: BTreeMap<Term, ReplicaId>,
    pub tables: BTreeMap<LogIndex, Bytes>,
    pub asked: BTreeMap<RequestId, Asked>,
    pub answers: Vec<Answer>,
    pub refusals: Vec<(ReplicaId, dlog_consensus::Refusal)>,
    /// A number that depends on every output, if wanted.
    pub trace: Option<u32>,
    /// Answers to fetches, for tests that count them.
    pub fetches: u64,
    /// Snapshots that logs were reset to.
    pub installs: u64,
    /// Whether faults include retention.
    pub retention: bool,
    /// A node that loses power after so many more steps.
    pub doomed: Option<(ReplicaId, u32)>,
    /// Whether the machine looks through all that it holds after every step.
    pub thorough: bool,
    next_request: u64,
}

/// The replica of the node with this number.
pub fn replica(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

/// A cluster of three voters, and who leads it.
pub fn three(seed: u64, options: ReplicaOptions) -> (Cluster, ReplicaId) {
    let mut cluster = Cluster::new(seed, LogId(5), 3, 0, options);
    let leader = cluster.elect();
    (cluster, leader)
}

/// Who else is one of three.
pub fn others(leader: ReplicaId) -> Vec<ReplicaId> {
    (1..=3).map(replica).filter(|id| *id != leader).collect()
}

impl Cluster {
    /// Voters 1 to `voters`, learners after them, all running.
    pub fn new(seed: u64, log: LogId, voters: u32, learners: u32, options: ReplicaOptions) -> Cluster {
        let mut membership = Membership::of_voters((1..=voters).map(replica));
        membership.learners = (voters + 1..=voters + learners).map(replica).collect();
        let nodes = membership.members().into_iter().map(|id| (id, Node::new(id))).collect();
        let mut cluster = Cluster {
            random: Rng::with_seed(seed),
            now: MonotonicTime(0),
            log,
            options,
            history: vec![(LogIndex::ZERO, membership.clone())],
            intents: Vec::new(),
            confirmations: Vec::new(),
            membership,
            nodes,
            network: Vec::new(),
            blocked: BTreeSet::new(),
            weather: Weather::default(),
            stuck: BTreeSet::new(),
            ledger: Vec::new(),
            leaders: BTreeMap::new(),
            tables: BTreeMap::new(),
            asked: BTreeMap::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            trace: None,
            fetches: 0,
            installs: 0,
            retention: false,
            doomed: None,
            thorough: true,
            next_request: 0,
        };
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster
    }

    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&self, id: ReplicaId) -> &Node {
        &self.nodes[&id]
    }

    pub fn node_mut(&mut self, id: ReplicaId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    pub fn is_up(&self, id: ReplicaId) -> bool {
        self.node(id).machine.is_some()
    }

    pub fn machine(&self, id: ReplicaId) -> &Replica {
        self.node(id).machine.as_ref().expect("the node runs")
    }

    /// The leader of the highest term that still thinks so.
    pub fn leader(&self) -> Option<ReplicaId> {
        let machines = self.nodes.values().filter_map(|node| node.machine.as_ref());
        let leaders = machines.filter(|machine| machine.role().role == Role::Leader);
        leaders.max_by_key(|machine| machine.role().term).map(Replica::id)
    }

    /// Starts a node from what is durable there.
    pub fn start(&mut self, id: ReplicaId) {
        let seed = self.random.u64(..);
        let (log, options, now) = (self.log, self.options.clone(), self.now);
        let membership = self.membership.encode();
        let node = self.node_mut(id);
        node.last_write = dlog_consensus::WriteId(0);
        let mut out = Vec::new();
        let machine = match node.durable.restored(log, id) {
            None => {
                let create = Create { intent: LogIndex(7), membership, start: LogPoint::default() };
                Replica::create(options, id, log, create, seed, now, &mut out).expect("a new replica")
            }
            Some(restored) => {
                let state = node.store.found();
                let mut loader = ReplicaLoader::with_state(restored, state, &options).expect("own state");
                let wanted = loader.wanted();
                for index in wanted.start.0..wanted.end.0 {
                    let frame = node.durable.frame(LogIndex(index)).expect("a wanted frame is there");
                    loader.replay(frame.clone()).expect("frames in order");
                }
                loader.finish(options, seed).expect("everything was replayed")
            }
        };
        machine.assert_invariants();
        let (membership, known) = (machine.membership().clone(), machine.status().as_of.max(machine.progress().commit));
        node.written = node.durable.last().index;
        node.progress = machine.progress();
        node.checked = LogIndex::ZERO;
        let restarted = machine.status().local_start > node.said.start.index;
        node.machine = Some(machine);
        self.execute(id, out);
        if restarted {
            // The log was reset to its state's origin: it says so with the first step.
            self.tick(id);
        }
        self.check_progress(id);
        assert_eq!(&membership, self.members_as_of(known), "a start finds the membership as of {known}");
    }

    /// Power loss of one node; its requests will never be answered.
    pub fn crash(&mut self, id: ReplicaId) {
        let survivors = self.random.usize(0..=self.node(id).jobs.len());
        self.crash_with(id, survivors);
    }

    pub fn crash_with(&mut self, id: ReplicaId, survivors: usize) {
        let log = self.log;
        self.node_mut(id).lose_power(log, survivors);
        self.asked.retain(|_, asked| asked.node != id);
    }

    pub fn step(&mut self, id: ReplicaId, input: Input) {
        if let Some((doomed, steps)) = self.doomed.filter(|(doomed, _)| *doomed == id && self.is_up(id)) {
            self.doomed = steps.checked_sub(1).map(|left| (doomed, left));
            if steps == 0 {
                self.crash(id);
                return;
            }
        }
        let (now, thorough) = (self.now, self.thorough);
        // Whoever was deleted hears nothing more.
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Input::WrittenOut { index, .. } = &input {
            node.written = *index;
        }
        let Some(machine) = node.machine.as_mut() else { return };
        let mut out = Vec::new();
        machine.step(now, input, &mut out);
        if thorough {
            machine.assert_invariants();
        }
        self.execute(id, out);
    }

    fn execute(&mut self, id: ReplicaId, outputs: Vec<Output>) {
        let (mut replies, mut memberships) = (Vec::new(), Vec::new());
        for output in outputs {
            if let Some(crc) = self.trace {
                self.trace = Some(mix(crc, &format!("{id} {output:?}")));
            }
            match output {
                Output::Reply { request, result } => replies.push((request, result)),
                other => {
                    memberships.extend(members::written(&other));
                    self.carry_out(id, other);
                }
            }
        }
        for (index, membership) in memberships {
            assert_eq!(membership, self.members_as_of(index).encode(), "the membership as of {index}");
        }
        for (request, result) in replies {
            let asked = self.asked.remove(&request).expect("every request is answered once");
            assert_eq!(asked.node, id);
            let answer = Answer { request, node: id, acks: asked.acks, result };
            self.check_answer(&answer);
            self.answers.push(answer);
        }
    }

    fn carry_out(&mut self, id: ReplicaId, output: Output) {
        let log = self.log;
        match output {
            Output::Write { id: write_id, write } => {
                let node = self.node_mut(id);
                assert!(write_id > node.last_write, "writes are numbered in order");
                node.last_write = write_id;
                node.said.apply(log, &write);
                if write.ops.iter().any(|op| matches!(op, WriteOp::Reset(_))) {
                    self.check_reset(id, &write);
                    self.installs += 1;
                }
                let node = self.node_mut(id);
                node.jobs.push_back(Job::Write(write_id, write));
            }
            Output::Send { message } => {
                self.check_message(id, &message);
                if !self.blocked.contains(&(id, message.to)) {
                    self.network.push(message);
                }
            }
            Output::ReadEntries { fetch, from, to, max_bytes, .. } => {
                self.node_mut(id).reads.push_back(Read { fetch, from, to, max_bytes });
            }
            Output::Progress(progress) => {
                self.check_told(id, progress);
                self.node_mut(id).progress = progress;
                self.check_progress(id);
            }
            Output::Role(change) => self.check_role(id, change),
            Output::Apply { frames } => {
                let node = self.node_mut(id);
                let durable = frames.iter().all(|frame| node.durable.frame(frame.index) == Some(frame));
                assert!(durable, "what is applied is durable here");
                let last = frames.last().expect("none is told without need").index;
                let earlier = node.jobs.iter().flat_map(Job::memberships).find(|index| *index < last);
                assert_eq!(earlier, None, "a state knows of nothing behind a membership that isn't durable");
                node.apply.extend(frames.into_iter().map(ApplyJob::Command));
            }
            Output::TakeState => self.node_mut(id).apply.push_back(ApplyJob::Take),
            Output::InstallState { index, state, origin } => {
                self.node_mut(id).apply.push_back(ApplyJob::Install(index, state, origin));
            }
            Output::Producers { index, bytes } => {
                let known = self.tables.entry(index).or_insert_with(|| bytes.clone());
                assert_eq!(known, &bytes, "the table as of {index} is the same everywhere");
                self.node_mut(id).jobs.push_back(Job::Producers(index, bytes));
            }
            Output::Confirmed { intent, membership_index, membership } => {
                self.check_confirmed(intent, membership_index, &membership);
            }
            Output::Refused { refusal, .. } => self.refusals.push((id, refusal)),
            Output::Stopped => self.node_mut(id).stopped = true,
            Output::Mend { .. } | Output::Whole => panic!("no disk is damaged here"),
            Output::Fatal { reason } => panic!("replica {id}: {reason}"),
            Output::Reply { .. } => unreachable!("kept for the end of the step"),
        }
    }

    /// A number for a request to `node`.
    pub fn ask(&mut self, node: ReplicaId, acks: Acks) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.asked.insert(request, Asked { node, acks });
        request
    }

    pub fn propose(&mut self, node: ReplicaId, batches: Vec<Bytes>, acks: Acks) -> RequestId {
        let request = self.ask(node, acks);
        self.step(node, Input::Propose(Proposal { request, batches, append_time: None, acks }));
        request
    }

    pub fn move_log_start(&mut self, node: ReplicaId, to: Offset) -> RequestId {
        let request = self.ask(node, Acks::Quorum);
        self.step(node, Input::MoveLogStart { request, to });
        request
    }

    pub fn take_answer(&mut self, request: RequestId) -> Option<Result<Reply, ErrorDetail>> {
        let at = self.answers.iter().position(|answer| answer.request == request)?;
        Some(self.answers.swap_remove(at).result)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    pub fn tick(&mut self, id: ReplicaId) {
        self.step(id, Input::Tick);
    }

    /// The disk does one group, and the machine hears of what was done.
    pub fn disk(&mut self, id: ReplicaId) {
        let weather = self.weather;
        if !self.is_up(id) {
            return;
        }
        if !self.stuck.contains(&id) && !self.chance(weather.slow_disk) {
            let jobs = self.node(id).jobs.len();
            let count = if weather.slow_disk > 0 { self.random.usize(0..=jobs) } else { jobs };
            let written = !self.chance(weather.late_segments);
            let log = self.log;
            self.node_mut(id).sync(log, count, written);
            if weather.late_segments > 0 && self.random.bool() {
                self.node_mut(id).write_out();
            }
        }
        let heard = self.node(id).told.len();
        let heard = if weather.slow_disk > 0 { self.random.usize(0..=heard) } else { heard };
        for _ in 0..heard {
            if let Some(input) = self.node_mut(id).told.pop_front() {
                self.step(id, input);
            }
        }
        self.read(id);
    }

    fn read(&mut self, id: ReplicaId) {
        let Some(read) = self.node_mut(id).reads.pop_front() else { return };
        self.fetches += 1;
        let fails = self.weather.drop > 0 && self.random.u32(0..10) == 0;
        let result = if fails { Err(FetchError { reason: "drawn".to_owned() }) } else { self.node(id).answer(&read) };
        self.step(id, Input::EntriesRead { fetch: read.fetch, result });
    }

    /// Delivers what is on the way, in a drawn order; some of it is lost, doubled or late.
    pub fn deliver(&mut self) {
        let mut messages = std::mem::take(&mut self.network);
        if self.weather.delay > 0 {
            self.random.shuffle(&mut messages);
        }
        for message in messages {
            if self.chance(self.weather.drop) || self.blocked.contains(&(message.from, message.to)) {
                continue;
            }
            if self.chance(self.weather.delay) {
                self.network.push(message);
                continue;
            }
            if self.chance(self.weather.double) {
                self.network.push(message.clone());
            }
            self.step(message.to, Input::Peer(message));
        }
    }

    /// One round: every disk and the network do something, and about every other clock ticks.
    pub fn round(&mut self) {
        self.now = self.now.plus(TICK / 2);
        for id in self.ids() {
            if self.random.bool() {
                self.tick(id);
            }
            self.disk(id);
        }
        self.deliver();
    }

    /// Rounds until `done`, or the test fails.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Cluster) -> bool) {
        for _ in 0..2000 {
            if done(self) {
                return;
            }
            self.round();
        }
        panic!("never came: {what}");
    }

    /// Good weather, everything runs, nothing is blocked.
    pub fn heal(&mut self) {
        self.weather = Weather::default();
        self.blocked.clear();
        self.stuck.clear();
        for id in self.ids() {
            if self.node(id).stopped {
                self.crash(id);
            }
            if !self.is_up(id) {
                self.start(id);
            }
        }
    }

    /// A leader whose own entry is committed.
    pub fn elect(&mut self) -> ReplicaId {
        self.run_until("a leader", |cluster| {
            cluster.leader().is_some_and(|id| {
                let term = cluster.machine(id).role().term;
                let commit = cluster.node(id).progress.commit;
                cluster.node(id).said.frame(commit).is_some_and(|frame| frame.term == term)
                    && cluster.machine(id).status().applied == commit
            })
        });
        self.leader().expect("one leads")
    }
}

/// Makes one number of a run.
fn mix(crc: u32, text: &str) -> u32 {
    text.bytes().fold(crc, |crc, byte| (crc.rotate_left(5) ^ u32::from(byte)).wrapping_mul(0x9E37_79B1))
}
