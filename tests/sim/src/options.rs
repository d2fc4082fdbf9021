//! What one seed draws: the size of the cluster's work, the network, the disks, and which faults come how often.
//!
//! Each seed leaves out some faults and exaggerates others (a swarm): a run in which everything happens all the time tests
//! little but the first seconds after a start.

use crate::broken::Broken;
use crate::trace::Focus;
use dlog_consensus::ReplicaOptions;
use dlog_storage::{GroupZeroOptions, JournalOptions, LogOptions, StoreOptions};
use std::fmt;

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything that can be drawn.
    Mixed,
    /// All nodes lose power at once, again and again, and every unsynced write with it; little else happens.
    PowerLoss,
    /// Leaders are cut off again and again, for moments, while disks are slow: logs part and are cut.
    Splits,
    /// Disks fail in the middle of checkpoints, and power goes soon after.
    BadDisks,
    /// Everybody asks where logs end, all the time, over a network that loses much.
    Asked,
    /// Replicas are moved all the time, while single nodes die, lose power or stand still.
    Moves,
    /// Disks are wiped, put back from old copies, or decay, while nodes die.
    LostDisks,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 7] =
        [Shape::Mixed, Shape::PowerLoss, Shape::Splits, Shape::BadDisks, Shape::Asked, Shape::Moves, Shape::LostDisks];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::Mixed => "mixed",
            Shape::PowerLoss => "power-loss",
            Shape::Splits => "splits",
            Shape::BadDisks => "bad-disks",
            Shape::Asked => "asked",
            Shape::Moves => "moves",
            Shape::LostDisks => "lost-disks",
        }
    }

    /// By its name on the command line.
    pub fn by_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name() == name)
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug)]
pub struct NetworkOptions {
    /// The shortest way, in microseconds.
    pub latency_us_min: u64,
    /// The usual longest, in microseconds: what lies between reorders messages.
    pub latency_us_max: u64,
    /// Lost, of a thousand.
    pub lost_per_mille: u32,
    /// Delivered twice, of a thousand.
    pub twice_per_mille: u32,
    /// Up to fifty times as late, of a thousand.
    pub late_per_mille: u32,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Some processes die; what their disks were told stays readable, synced or not.
    Kill,
    /// Some nodes lose power: each unsynced sector and name is old or new.
    Power,
    /// All nodes lose power at once, and every unsynced write.
    PowerAll,
    /// A node loses power in the middle of a call to come.
    PowerSoon,
    /// Links are cut: a node from the rest, two from each other, one way only, in two parts with or without a bridge.
    Partition,
    /// The same, but the links come and go.
    Flapping,
    /// A process stands still, then goes on.
    Pause,
    /// A disk is slow for a while.
    SlowDisk,
    /// A sync, a write or a read fails, or the disk is full for a moment.
    DiskError,
    /// A disk has no room, for seconds and over restarts.
    FullDisk,
    /// A node's wall clock jumps, back or forth, by up to hours.
    ClockJump,
    /// The sync of a segment fails, as checkpoints make them. Not drawn: mixed runs have [`Fault::DiskError`].
    CheckpointError,
    /// A leader is asked to hand over.
    Transfer,
    /// A node is stopped in order, and started again.
    Graceful,
    /// A copy of a node's directory is taken, while it runs or not. This one and the next three are drawn together.
    CopyDisk,
    /// An old copy takes the place of a directory.
    RestoreDisk,
    /// A directory is emptied.
    WipeDisk,
    /// Synced bytes of a disk change.
    DecayDisk,
}

impl Fault {
    /// Those that may cost a node for good, with their weights.
    pub const LOSSES: [(Fault, u32); 4] =
        [(Fault::CopyDisk, 4), (Fault::RestoreDisk, 6), (Fault::WipeDisk, 1), (Fault::DecayDisk, 4)];

    /// All that mixed runs draw.
    pub const ALL: [Fault; 13] = [
        Fault::Kill,
        Fault::Power,
        Fault::PowerAll,
        Fault::PowerSoon,
        Fault::Partition,
        Fault::Flapping,
        Fault::Pause,
        Fault::SlowDisk,
        Fault::DiskError,
        Fault::FullDisk,
        Fault::ClockJump,
        Fault::Transfer,
        Fault::Graceful,
    ];
}

/// A topic as an operator asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// How many partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replicas: u32,
}

/// All that a seed draws.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// The kind of run.
    pub shape: Shape,
    /// What is done wrong on purpose.
    pub broken: Broken,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// The topics that there are from the beginning.
    pub topics: Vec<TopicOptions>,
    /// Producers for each partition; one of three isn't idempotent.
    pub producers: u32,
    /// Of the idempotent ones so many of a hundred run the client library's lane.
    pub lanes_percent: u32,
    /// Readers, each of all logs.
    pub readers: u32,
    /// How long faults come, in milliseconds.
    pub safety_ms: u64,
    /// The mean time between two faults, in milliseconds.
    pub fault_ms: u64,
    /// Which faults come, with their weights.
    pub faults: Vec<(Fault, u32)>,
    /// The network.
    pub network: NetworkOptions,
    /// The longest usual sync, in microseconds.
    pub sync_us_max: u64,
    /// The mean time between two batches of one producer, in microseconds.
    pub think_us: u64,
    /// The most bytes of a record's value.
    pub value_bytes_max: usize,
    /// Whether only a core of the nodes is healed at first, and the others when it has shown that it goes on.
    pub core_first: bool,
    /// The mean time between two moves of a log start, in milliseconds; 0: logs are kept whole.
    pub retention_ms: u64,
    /// The mean time between two changes of the catalogue, in milliseconds; 0: there are only the first topics.
    pub operate_ms: u64,
    /// Whether those changes are mostly moves of replicas.
    pub moving: bool,
    /// How often group 0's state is synced, in milliseconds.
    pub state_sync_ms: u64,
    /// The store's files.
    pub store: StoreOptions,
    /// The replicas' settings.
    pub replica: ReplicaOptions,
    /// Whether the trace goes to standard error.
    pub trace: bool,
    /// What of the trace is kept as text.
    pub focus: Option<Focus>,
}

impl Options {
    /// What `seed` draws for a run of this shape.
    pub fn draw(seed: u64, shape: Shape) -> Options {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed_0000_0000_0000);
        let value_bytes_max = [200, 2_000, 20_000][random.usize(0..3)];
        let nodes = [1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7, 7][random.usize(0..16)];
        let topics = draw_topics(&mut random, nodes as u32);
        let partitions: u32 = topics.iter().map(|topic| topic.partitions).sum();
        let producers = if partitions > 6 { 1 } else { random.u32(1..=3) };
        let mut options = Options {
            seed,
            shape,
            broken: Broken::No,
            nodes,
            topics,
            producers,
            lanes_percent: 0,
            readers: random.u32(1..=2),
            safety_ms: random.u64(6_000..=14_000),
            fault_ms: random.u64(300..=2_000),
            faults: draw_faults(&mut random),
            network: draw_network(&mut random),
            sync_us_max: [300, 2_000, 15_000][random.usize(0..3)],
            // As many batches in all, however many there are to send them.
            think_us: random.u64(10_000..=80_000) * u64::from((partitions * producers / 6).max(1)),
            value_bytes_max,
            core_first: random.bool(),
            store: draw_store(&mut random, value_bytes_max),
            replica: draw_replica(&mut random, value_bytes_max),
            retention_ms: 0,
            operate_ms: if random.bool() { random.u64(150..=2_000) } else { 0 },
            moving: random.bool(),
            state_sync_ms: [200, 1_000, 10_000][random.usize(0..3)],
            trace: false,
            focus: None,
        };
        if random.u8(0..3) > 0 {
            options.retention_ms = random.u64(50..=800);
            // Whole segments go: they must end within a short run.
            options.store.log.segment_bytes = (8 << 10).max(8 * value_bytes_max as u64);
        }
        if random.u8(0..4) == 0 {
            options.faults.extend(Fault::LOSSES);
        }
        options.take_shape(&mut random);
        options.lanes_percent = [0, 50, 50, 100][random.usize(0..4)];
        options
    }

    /// What a shape says instead of the draw.
    fn take_shape(&mut self, random: &mut fastrand::Rng) {
        match self.shape {
            Shape::Mixed => {}
            Shape::PowerLoss => {
                self.faults = vec![(Fault::PowerAll, 1)];
                self.safety_ms = random.u64(5_000..=9_000);
                self.fault_ms = random.u64(1_800..=3_000);
                self.core_first = false;
            }
            Shape::Splits => {
                let (split, slow) = ((Fault::Partition, 6), (Fault::SlowDisk, 3));
                self.faults = vec![split, slow, (Fault::Transfer, 2), (Fault::Kill, 1), (Fault::PowerSoon, 1)];
                self.store.log.segment_bytes = 4 << 10;
                self.retention_ms = random.u64(100..=400);
                self.fault_ms = random.u64(300..=900);
                self.be_small(1, 3);
                self.think_us = random.u64(5_000..=20_000);
            }
            Shape::BadDisks => {
                let error = (Fault::CheckpointError, 4);
                self.faults = vec![error, (Fault::Power, 3), (Fault::PowerSoon, 2), (Fault::SlowDisk, 3)];
                self.be_small(random.u32(1..=3), random.u32(1..=3));
                self.fault_ms = random.u64(200..=600);
                self.think_us = random.u64(5_000..=20_000);
            }
            Shape::Asked => {
                self.faults = vec![(Fault::Partition, 4), (Fault::Transfer, 1)];
                self.fault_ms = random.u64(300..=900);
                self.be_small(1, 3);
                self.think_us = random.u64(2_000..=8_000);
                self.sync_us_max = 300;
                self.network.latency_us_max = self.network.latency_us_min + [1_000, 4_000][random.usize(0..2)];
                (self.network.lost_per_mille, self.network.late_per_mille) = (100, 50);
            }
            Shape::LostDisks => {
                self.nodes = random.usize(3..=5);
                self.topics = vec![TopicOptions { partitions: random.u32(1..=3), replicas: 3 }];
                self.faults = vec![(Fault::Kill, 5), (Fault::Power, 3), (Fault::Partition, 2), (Fault::Graceful, 1)];
                self.faults.extend(Fault::LOSSES);
                self.fault_ms = random.u64(200..=700);
                self.think_us = random.u64(5_000..=30_000);
            }
            Shape::Moves => {
                self.be_small(random.u32(1..=2), random.u32(1..=2));
                self.nodes = random.usize(3..=5);
                self.topics[0].replicas = [1, 3, 3][random.usize(0..3)];
                let soon = (Fault::PowerSoon, 2);
                self.faults = vec![(Fault::Kill, 3), (Fault::Power, 3), soon, (Fault::Pause, 2), (Fault::Partition, 3)];
                self.fault_ms = random.u64(200..=900);
                (self.operate_ms, self.moving) = (random.u64(100..=500), true);
                // What a node knows of the catalogue goes far back when its power goes.
                self.state_sync_ms = [200, 10_000][random.usize(0..2)];
                self.think_us = random.u64(5_000..=30_000);
            }
        }
    }

    /// Three nodes, and one topic that stays as it is.
    fn be_small(&mut self, partitions: u32, producers: u32) {
        (self.nodes, self.producers, self.operate_ms) = (3, producers, 0);
        self.topics = vec![TopicOptions { partitions, replicas: 3 }];
    }
}

/// Mostly few partitions with three replicas.
fn draw_topics(random: &mut fastrand::Rng, nodes: u32) -> Vec<TopicOptions> {
    let count = [1, 1, 2, 3][random.usize(0..4)];
    let most = [2, 2, 2, 2, 2, 5, 5, 16][random.usize(0..8)];
    let topic = |random: &mut fastrand::Rng| TopicOptions {
        partitions: random.u32(1..=most),
        replicas: [1, 3, 3, 3, 5][random.usize(0..5)].min(nodes),
    };
    (0..count).map(|_| topic(random)).collect()
}

fn draw_faults(random: &mut fastrand::Rng) -> Vec<(Fault, u32)> {
    let weight = |random: &mut fastrand::Rng| if random.u8(0..5) < 2 { 0 } else { random.u32(1..=10) };
    let drawn = Fault::ALL.into_iter().map(|fault| (fault, weight(random)));
    let faults: Vec<(Fault, u32)> = drawn.filter(|(_, weight)| *weight > 0).collect();
    if faults.is_empty() { vec![(Fault::Kill, 1)] } else { faults }
}

fn draw_network(random: &mut fastrand::Rng) -> NetworkOptions {
    let latency_us_min = random.u64(20..=300);
    NetworkOptions {
        latency_us_min,
        latency_us_max: latency_us_min + [100, 2_000, 20_000][random.usize(0..3)],
        lost_per_mille: [0, 5, 50][random.usize(0..3)],
        twice_per_mille: [0, 10, 100][random.usize(0..3)],
        late_per_mille: [0, 2, 20][random.usize(0..3)],
    }
}

/// Small files, so that a short run fills, checkpoints and reuses them.
fn draw_store(random: &mut fastrand::Rng, value_bytes_max: usize) -> StoreOptions {
    let file_bytes = if value_bytes_max > 2_000 { 2 << 20 } else { [256 << 10, 512 << 10][random.usize(0..2)] };
    // A segment for every batch would be all names and no frames.
    let segment_bytes_min = 16 * value_bytes_max as u64;
    StoreOptions {
        journal: JournalOptions {
            first_file_bytes: file_bytes,
            file_bytes,
            files_max: random.usize(4..=6),
            reserve_bytes: 32 << 10,
        },
        log: LogOptions {
            segment_bytes: [8 << 10, 64 << 10, 1 << 20][random.usize(0..3)].max(segment_bytes_min),
            index_interval_bytes: 1024,
        },
        tail_cache_bytes: [0, 16 << 10, 1 << 20][random.usize(0..3)],
        group_zero: GroupZeroOptions {
            segment_bytes: [1 << 10, 4 << 10][random.usize(0..2)],
            kept_entries: random.u64(1..=40),
            kept_bytes: [2 << 10, 4 << 20][random.usize(0..2)],
        },
    }
}

/// An append and a step's proposals must fit into one group of the small journal files.
fn draw_replica(random: &mut fastrand::Rng, value_bytes_max: usize) -> ReplicaOptions {
    let batch_bytes = 8 * (value_bytes_max + 200);
    let append_bytes_max = [4 << 10, 16 << 10][random.usize(0..2)];
    let uncommitted_bytes_max = [128 << 10, 4 << 20][random.usize(0..2)].max(2 * batch_bytes);
    ReplicaOptions {
        append_bytes_max,
        in_flight_bytes_max: append_bytes_max.max(batch_bytes) * random.usize(1..=16),
        batch_bytes_max: batch_bytes,
        uncommitted_bytes_max,
        pinned_bytes_max: [uncommitted_bytes_max, 8 << 20][random.usize(0..2)],
        ..ReplicaOptions::default()
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed={} shape={} broken={}", self.seed, self.shape.name(), self.broken)?;
        write!(f, "  nodes={} topics=", self.nodes)?;
        for (number, topic) in self.topics.iter().enumerate() {
            write!(f, "{}{}x{}", if number > 0 { "," } else { "" }, topic.partitions, topic.replicas)?;
        }
        write!(f, " producers={} lanes_percent={}", self.producers, self.lanes_percent)?;
        write!(f, " readers={}", self.readers)?;
        write!(f, " think_us={} value_bytes_max={}", self.think_us, self.value_bytes_max)?;
        writeln!(f, " safety_ms={} core_first={} retention_ms={}", self.safety_ms, self.core_first, self.retention_ms)?;
        write!(f, "  operate_ms={} moving={}", self.operate_ms, self.moving)?;
        writeln!(f, " state_sync_ms={}", self.state_sync_ms)?;
        write!(f, "  faults every {} ms:", self.fault_ms)?;
        for (fault, weight) in &self.faults {
            write!(f, " {fault:?}={weight}")?;
        }
        let n = &self.network;
        write!(f, "\n  network: {}..{} us", n.latency_us_min, n.latency_us_max)?;
        write!(f, ", lost {} twice {} late {} per mille", n.lost_per_mille, n.twice_per_mille, n.late_per_mille)?;
        writeln!(f, "; sync up to {} us", self.sync_us_max)?;
        let (journal, log) = (&self.store.journal, &self.store.log);
        write!(f, "  store: journal {} x {} bytes", journal.files_max, journal.file_bytes)?;
        writeln!(f, ", segments {}, tail cache {}", log.segment_bytes, self.store.tail_cache_bytes)?;
        let replica = &self.replica;
        write!(f, "  replica: append {} in flight {}", replica.append_bytes_max, replica.in_flight_bytes_max)?;
        write!(f, " uncommitted {}", replica.uncommitted_bytes_max)
    }
}
