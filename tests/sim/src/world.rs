//! The world: nodes, network and clients, and the loop that takes one event after the other.

mod clocks;
mod cluster;
pub mod directory;
mod disks;
pub mod door;
mod ends;
mod faults;
mod full_disks;
mod lanes;
mod lost;
mod metadata;
mod phases;
mod reading;
mod repairs;
mod requests;
mod starts;
mod turns;

use crate::checkers::Checkers;
use crate::clients::lanes::LaneProducer;
use crate::clients::operators::Operators;
use crate::clients::producers::Producer;
use crate::clients::readers::Reader;
use crate::clients::{Answer, Asker};
use crate::network::{Cuts, Network};
use crate::node::{Inbound, Node, id_of};
use crate::options::{Options, Shape};
use crate::report::{Counts, Failure};
use crate::schedule::{MILLISECOND, Schedule};
use crate::trace::Trace;
use directory::Directory;
use dlog_consensus::FetchId;
use dlog_core::{LogId, LogIndex, Offset, ReplicaId, TopicId};
use dlog_storage::state_store::memory::MemoryStateStore;
use dlog_storage::{LoseUnsynced, SimDisk, SimDiskOptions};
use door::Letter;
use std::collections::BTreeSet;

/// A tick of production, in nanoseconds.
const TICK_NS: u64 = 50 * MILLISECOND;
/// More events than any run has: a loop without end is a failure, too.
const EVENTS_MAX: u64 = 20_000_000;

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    /// A node's clock ticks.
    Tick { node: usize, life: u64 },
    /// A consensus thread takes what has queued.
    Turn { node: usize, life: u64 },
    /// A disk thread goes on.
    Disk { node: usize, life: u64, token: u64 },
    /// A read thread reads old frames.
    Read { node: usize, life: u64, replica: ReplicaId, fetch: FetchId, from: LogIndex, to: LogIndex, max_bytes: u64 },
    /// A message arrives.
    Arrive(Box<Letter>),
    /// A node is started.
    Start { node: usize },
    /// A client's request arrives at a node.
    Ask { node: usize, inbound: Box<Inbound> },
    /// A node's answer arrives at a client.
    Answer { asker: Asker, answer: Answer },
    /// A producer may send something new.
    Produce { producer: usize },
    /// A producer sends a request again.
    Resend { producer: usize, number: u64 },
    /// A producer waits no longer for an attempt.
    Timeout { producer: usize, number: u64, attempt: u64 },
    /// A lane's caller may give it something new.
    LaneGive { lane: usize },
    /// A lane wants its turn.
    LaneWake { lane: usize, at: u64 },
    /// A lane's search for the leader is over.
    LaneFind { lane: usize },
    /// A reader polls.
    Poll { reader: usize },
    /// Somebody asks where a log ends.
    AskEnd,
    /// Somebody who was told an end reads up to it.
    ReadEnd { node: usize, life: u64, log: LogId, known: Offset },
    /// A log start is to move.
    Retain,
    /// An apply thread takes what has queued.
    Apply { node: usize, life: u64 },
    /// A reconciler looks at its catalogue.
    Reconcile { node: usize, life: u64 },
    /// The first topics are made, if there is a cluster.
    FoundTopics,
    /// An operator changes something.
    Operate,
    /// Operators look what is still on lost nodes.
    Evacuate,
    /// A command is sent again.
    ResendCommand { number: u64 },
    /// Its maker waits no longer for an attempt.
    CommandTimeout { number: u64, attempt: u64 },
    /// Something breaks.
    Fault,
    /// Somebody makes room on a full disk.
    Room { node: usize },
    /// Cut links are connected again, if nothing was cut since.
    Connect { partition: u64 },
    /// Links that come and go do so, until then.
    Flap { partition: u64, until: u64 },
    /// A node that was asked to hand over its leaderships is stopped.
    StopNode { node: usize, life: u64 },
    /// A look at whether the phase is over.
    Watch,
}

/// What the run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults come.
    Safety,
    /// Only a core of the nodes is up, and must go on.
    Core,
    /// All is healed, and must go on.
    Healed,
    /// Nothing new is sent; the replicas become equal.
    Quiet,
    /// Done.
    Over,
}

/// All of it.
pub struct World {
    pub(crate) options: Options,
    pub(crate) schedule: Schedule<Event>,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) producers: Vec<Producer>,
    /// Those that run the client library's lane.
    pub(crate) lanes: Vec<LaneProducer>,
    pub(crate) operators: Operators,
    /// Whether the first topics were asked for.
    pub(crate) founded: bool,
    /// How many topics were asked for.
    pub(crate) topics_made: u32,
    /// The topics whose producers were made, or will be.
    pub(crate) served: BTreeSet<TopicId>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) checkers: Checkers,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    pub(crate) phase: Phase,
    /// When the phase began, in nanoseconds.
    pub(crate) phase_since: u64,
    /// Counts the cuts of the network.
    pub(crate) partition: u64,
    /// The last of them.
    pub(crate) cuts: Cuts,
    /// What is known of the cluster from outside.
    pub(crate) directory: Directory,
    /// The logs that acked something which was sent since the phase began.
    pub(crate) fresh: BTreeSet<LogId>,
    /// How often in a row in the last phase all replicas were found equal.
    pub(crate) equal_looks: u32,
    /// Decides about nodes and their threads.
    pub(crate) random: fastrand::Rng,
    /// Decides about faults.
    pub(crate) fault_random: fastrand::Rng,
    /// Decides about clients.
    pub(crate) client_random: fastrand::Rng,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(options: Options) -> World {
        let mut seeds = fastrand::Rng::with_seed(options.seed);
        let (network, random) = (seeds.fork(), seeds.fork());
        let (fault_random, client_random) = (seeds.fork(), seeds.fork());
        let ignore_sync = options.broken == crate::Broken::NoSync;
        let node = |seeds: &mut fastrand::Rng| Node {
            disk: SimDisk::new(SimDiskOptions { seed: seeds.u64(..), ignore_sync, ..SimDiskOptions::default() }),
            state: MemoryStateStore::new(),
            life: 0,
            process: None,
            start_due: false,
            held_down: false,
            clock_ahead: seeds.u64(0..clocks::MONOTONIC_START_MAX),
            wall_ahead_ms: 0,
            tick_ns: TICK_NS * seeds.u64(970..=1030) / 1000,
            paused_until: 0,
            slow_until: 0,
            slow_ns: 0,
            full_until: 0,
            disk_faulted: false,
            power_armed: None,
            stopping: false,
            decayed: false,
            lost: None,
            copy: None,
        };
        World {
            network: Network::new(options.network, options.nodes, network),
            nodes: (0..options.nodes).map(|_| node(&mut seeds)).collect(),
            producers: Vec::new(),
            lanes: Vec::new(),
            operators: Operators::default(),
            founded: false,
            topics_made: 0,
            served: BTreeSet::new(),
            readers: (0..options.readers).map(|_| Reader::default()).collect(),
            checkers: Checkers::default(),
            counts: Counts::default(),
            trace: Trace::new(options.trace, options.focus),
            schedule: Schedule::default(),
            phase: Phase::Safety,
            phase_since: 0,
            partition: 0,
            cuts: Cuts::new(),
            directory: Directory::new(options.nodes),
            fresh: BTreeSet::new(),
            equal_looks: 0,
            random,
            fault_random,
            client_random,
            options,
        }
    }

    /// Plays until the run is over.
    ///
    /// # Errors
    /// What broke.
    pub fn play(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            self.start_after(node, node as u64 * MILLISECOND);
        }
        self.schedule.after(MILLISECOND, Event::FoundTopics);
        for reader in 0..self.readers.len() {
            self.schedule.after(reader as u64 * MILLISECOND, Event::Poll { reader });
        }
        self.schedule.after(10 * MILLISECOND, Event::AskEnd);
        if self.options.retention_ms > 0 {
            self.schedule.after(self.options.retention_ms * MILLISECOND, Event::Retain);
        }
        self.schedule_fault();
        self.schedule.after(MILLISECOND, Event::Watch);
        while self.phase != Phase::Over {
            let Some(event) = self.schedule.take() else { return Err(Failure::liveness("nothing happens any more")) };
            self.happen(event)?;
            if self.schedule.taken() > EVENTS_MAX {
                return Err(Failure::liveness(format!("more than {EVENTS_MAX} events")));
            }
        }
        self.finish()
    }

    /// How it ended.
    pub fn report(&self, failure: Option<Failure>) -> crate::Report {
        crate::Report {
            seed: self.options.seed,
            hash: self.trace.hash(),
            lines: self.trace.lines(),
            events: self.schedule.taken(),
            virtual_ns: self.schedule.now(),
            counts: self.counts.clone(),
            failure,
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Tick { node, life } => return self.on_tick(node, life),
            Event::Turn { node, life } => self.on_turn(node, life)?,
            Event::Disk { node, life, token } => self.on_disk(node, life, token)?,
            Event::Read { node, life, replica, fetch, from, to, max_bytes } => {
                self.on_read(node, life, replica, fetch, from..to, max_bytes);
            }
            Event::Arrive(letter) => self.on_arrive(*letter)?,
            Event::Start { node } => self.on_start(node)?,
            Event::Ask { node, inbound } => self.on_ask(node, *inbound),
            Event::Answer { asker, answer } => self.on_answer(asker, answer)?,
            Event::Produce { producer } => self.on_produce(producer),
            Event::Resend { producer, number } => self.send(producer, number),
            Event::Timeout { producer, number, attempt } => self.on_timeout(producer, number, attempt)?,
            Event::LaneGive { lane } => self.on_lane_give(lane)?,
            Event::LaneWake { lane, at } => self.on_lane_wake(lane, at)?,
            Event::LaneFind { lane } => self.on_lane_find(lane)?,
            Event::Poll { reader } => self.on_poll(reader)?,
            Event::AskEnd => self.on_ask_end(),
            Event::ReadEnd { node, life, log, known } => self.on_read_end(node, life, log, known)?,
            Event::Retain => self.on_retain(),
            Event::Apply { node, life } => self.on_apply(node, life)?,
            Event::Reconcile { node, life } => self.on_reconcile(node, life),
            Event::FoundTopics => self.on_found_topics(),
            Event::Operate => self.on_operate(),
            Event::Evacuate => self.on_evacuate(),
            Event::ResendCommand { number } => self.send_command(number),
            Event::CommandTimeout { number, attempt } => self.command_failed(number, attempt, &Answer::Broken),
            Event::Fault => self.on_fault()?,
            Event::Room { node } => self.on_room(node),
            Event::Connect { partition } => self.on_connect(partition),
            Event::Flap { partition, until } => self.on_flap(partition, until),
            Event::StopNode { node, life } => self.on_stop_node(node, life),
            Event::Watch => self.on_watch()?,
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.schedule.now(), None, line);
    }

    /// Notes what happens to a replica.
    pub(crate) fn note_of(&mut self, replica: ReplicaId, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.schedule.now(), self.directory.log_of(replica), line);
    }

    /// Whether this process is the one that runs.
    pub(crate) fn is_alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].process.is_some()
    }

    /// Puts something into a process's inbox and sees that it is looked at.
    pub(crate) fn push(&mut self, node: usize, inbound: Inbound) {
        if let Some(process) = &mut self.nodes[node].process {
            process.inbox.push_back(inbound);
            self.want_turn(node);
        }
    }

    /// The process is gone, and with it (or not) what its disk wasn't told to sync. It comes back unless it is held down.
    pub(crate) fn kill(&mut self, node: usize, lose: LoseUnsynced) {
        self.note(format_args!("node {node} dies, losing {lose:?}"));
        self.counts.power_losses += u64::from(lose != LoseUnsynced::Nothing);
        let was = &mut self.nodes[node];
        was.life += 1;
        let process = was.process.take();
        (was.disk_faulted, was.power_armed, was.stopping) = (false, None, false);
        was.disk.set_lose_unsynced(lose);
        was.disk.crash();
        // Group 0's state goes back to its last sync, or stays as it was: both are allowed.
        let goes_back = match lose {
            LoseUnsynced::Nothing => false,
            LoseUnsynced::All => true,
            LoseUnsynced::Random => self.fault_random.bool(),
        };
        if goes_back {
            was.state.crash();
        }
        if lose != LoseUnsynced::Nothing {
            self.reboot_clock(node);
        }
        if let Some(process) = process {
            self.counts.deaths += 1;
            let applying = process.apply.waiting.into_iter().map(|(_, asker)| asker);
            for asker in process.waiting.into_values().chain(applying) {
                self.answer(asker, Answer::Broken);
            }
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                self.push(other, Inbound::Unreachable(id_of(node)));
            }
        }
        let most = if self.options.shape == Shape::PowerLoss { 300 } else { 3_000 };
        let down_ms = if self.phase == Phase::Safety { self.fault_random.u64(5..most) } else { 5 };
        self.start_after(node, down_ms * MILLISECOND);
    }

    pub(crate) fn start_after(&mut self, node: usize, delay: u64) {
        if !self.nodes[node].start_due {
            self.nodes[node].start_due = true;
            self.schedule.after(delay, Event::Start { node });
        }
    }
}
