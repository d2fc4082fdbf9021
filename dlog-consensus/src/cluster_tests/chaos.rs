//! Random schedules: messages are lost, doubled and reordered, disks are slow, nodes crash and lose what wasn't synced. The
//! cluster's own checks run at every step; what was acked must stand exactly once in every log at the end.

use super::cluster::{Cluster, Fate, batch};
use crate::{Acks, Input, ReplicaOptions};
use dlog_core::error::ErrorCode;
use dlog_core::{LogId, RequestId};
use proptest::prelude::*;

const STEPS: usize = 3000;

/// Small bounds, so that catch-up by reads, several appends in flight and refusals for want of room all happen.
fn tight_options() -> ReplicaOptions {
    ReplicaOptions {
        append_bytes_max: 300,
        in_flight_bytes_max: 900,
        batch_bytes_max: 300,
        uncommitted_bytes_max: 2000,
        pinned_bytes_max: 6000,
        ..ReplicaOptions::default()
    }
}

/// A producer that retries its batch until it is acked.
#[derive(Default)]
struct Producer {
    sequence: i32,
    waiting: Option<RequestId>,
}

struct Chaos {
    cluster: Cluster,
    producer: Producer,
    loss: f64,
    crashes: f64,
    steps: usize,
}

impl Chaos {
    fn new(count: usize, learners: usize, seed: u64) -> Chaos {
        let mut cluster = Cluster::of_log(LogId(9), count, learners, &tight_options(), seed);
        let loss = cluster.random.f64() * 0.3;
        let crashes = cluster.random.f64() * 0.01;
        Chaos { cluster, producer: Producer::default(), loss, crashes, steps: 0 }
    }

    fn any_node(&mut self) -> usize {
        self.cluster.random.usize(..self.cluster.nodes.len())
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.steps += 1;
            let number = self.any_node();
            match self.cluster.random.u32(..100) {
                0..45 => {
                    for _ in 0..self.cluster.random.usize(1..8) {
                        self.deliver();
                    }
                }
                45..52 => self.cluster.tick(number),
                52..61 => {
                    let count = self.cluster.random.usize(..4);
                    self.cluster.nodes[number].sync(count);
                }
                61..73 => {
                    for _ in 0..self.cluster.random.usize(1..4) {
                        self.cluster.tell(number);
                    }
                }
                73..77 => self.cluster.nodes[number].write_out(),
                77..81 => self.cluster.answer_fetch(number),
                81..88 => self.propose(),
                88..96 => self.produce(),
                96 => self.read(number),
                97 => self.hand_over(number),
                98 => self.checkpoint(number),
                _ => self.cluster.step(number, Input::Unreachable { peer: super::cluster::replica_id(0) }),
            }
            if self.cluster.random.f64() < self.crashes {
                self.crash(number);
            }
        }
    }

    fn deliver(&mut self) {
        let cluster = &mut self.cluster;
        if cluster.network.is_empty() {
            return;
        }
        // Mostly the oldest, sometimes any.
        let at = if cluster.random.f64() < 0.7 { 0 } else { cluster.random.usize(..cluster.network.len()) };
        let message =
            if cluster.random.f64() < 0.05 { cluster.network[at].clone() } else { cluster.network.remove(at) };
        if cluster.random.f64() >= self.loss {
            cluster.deliver(message);
        }
    }

    fn crash(&mut self, number: usize) {
        if self.cluster.nodes[number].replica.is_some() {
            // The disk may have got some way.
            let count = self.cluster.random.usize(..3);
            self.cluster.nodes[number].sync(count);
            self.cluster.crash(number);
        }
        self.cluster.start(number);
    }

    fn propose(&mut self) {
        let number = match self.cluster.leader() {
            Some(leader) if self.cluster.random.f64() < 0.9 => leader,
            _ => self.any_node(),
        };
        let acks = match self.cluster.random.u32(..4) {
            0 => Acks::Leader,
            1 => Acks::All,
            _ => Acks::Quorum,
        };
        let count = self.cluster.random.usize(1..4);
        let batches = (0..count).map(|part| batch(&format!("{}-{part}", self.steps), None)).collect();
        self.cluster.propose(number, acks, batches);
    }

    fn produce(&mut self) {
        if let Some(waiting) = self.producer.waiting.take() {
            match self.cluster.fate(waiting) {
                Fate::Waiting => {
                    self.producer.waiting = Some(waiting);
                    return;
                }
                Fate::Acked(_) => self.producer.sequence += 1,
                Fate::Failed(error) => {
                    let codes =
                        [ErrorCode::OutOfOrderSequence, ErrorCode::UnknownProducerId, ErrorCode::InvalidProducerEpoch];
                    assert!(!codes.contains(&error.code), "an honest producer was told {error}");
                }
            }
        }
        let Some(number) = self.cluster.leader() else { return };
        let sequence = self.producer.sequence;
        let batch = batch(&format!("sequence {sequence}"), Some((5, 0, sequence)));
        self.producer.waiting = Some(self.cluster.propose(number, Acks::Quorum, vec![batch]));
    }

    fn read(&mut self, number: usize) {
        self.cluster.read(number);
    }

    fn hand_over(&mut self, number: usize) {
        if self.cluster.random.u32(..10) == 0 {
            self.cluster.step(number, Input::TransferLeadership { to: None });
        }
    }

    /// A producer table is kept, as a checkpoint would.
    fn checkpoint(&mut self, number: usize) {
        let node = &mut self.cluster.nodes[number];
        let table = node.replica.as_ref().expect("up").producer_table().expect("no snapshot is installed");
        assert!(table.0 <= node.disk.last().index, "a table is never ahead of the disk");
        node.disk.producers = Some(table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acked_is_lost_doubled_or_reordered(seed in any::<u64>(), (count, learners) in prop::sample::select(vec![(1, 0), (2, 0), (2, 1), (3, 0), (3, 0), (3, 0), (4, 1), (5, 0)])) {
        let mut chaos = Chaos::new(count, learners, seed);
        chaos.run(STEPS);
        chaos.cluster.heal_and_check();
        let sequences: Vec<i32> = chaos.cluster.nodes[0].disk.frames.iter().filter_map(|frame| {
            let header = dlog_core::BatchHeader::decode(&frame.payload).ok()?;
            header.producer().map(|producer| producer.base_sequence)
        }).collect();
        prop_assert_eq!(&sequences, &(0..sequences.len() as i32).collect::<Vec<_>>());
    }
}

/// The schedules above do what they are meant to: elect, append, lose leadership, lag, refuse.
#[test]
fn random_schedules_reach_what_they_are_meant_to() {
    let (mut acked, mut unknown, mut rejected, mut committed) = (0, 0, 0, 0);
    for seed in 0..12 {
        let mut chaos = Chaos::new(3, 0, seed);
        chaos.run(STEPS);
        committed += chaos.cluster.committed.len();
        for request in chaos.cluster.requests.values() {
            match &request.fate {
                Fate::Acked(_) => acked += 1,
                Fate::Failed(error) if error.outcome == dlog_core::Outcome::Unknown => unknown += 1,
                Fate::Failed(_) => rejected += 1,
                Fate::Waiting => {}
            }
        }
    }
    assert!(
        acked > 100 && unknown > 10 && rejected > 10 && committed > 100,
        "{acked} {unknown} {rejected} {committed}"
    );
}

#[test]
fn the_same_seed_says_the_same() {
    let run = |seed| {
        let mut chaos = Chaos::new(3, 0, seed);
        chaos.cluster.keep_trace = true;
        chaos.run(STEPS);
        chaos.cluster.trace
    };
    for seed in [1, 99] {
        let (first, second) = (run(seed), run(seed));
        assert!(first.len() > 200, "{}", first.len());
        assert_eq!(first, second);
    }
    assert_ne!(run(1), run(2));
}
