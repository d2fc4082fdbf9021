//! What a node counts of its own work: [`Metrics`], written by the threads that do the work, read by `/metrics`.
//!
//! Writing is a few relaxed atomic additions for each batch, journal group or connection, never for a record, and never a
//! lock. What is a state rather than an event (leaders, offsets, queues, sizes) is not counted here at all: [`page`] looks at
//! it when somebody asks.

pub mod families;
pub mod histogram;
pub mod page;
pub mod process;
pub mod render;

use crate::service::listener::door::DoorStats;
use dlog_core::error::ErrorCode;
use dlog_protocol::Acks;
use histogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Records on their way in or out.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Batches.
    pub batches: Count,
    /// Records in them.
    pub records: Count,
    /// Bytes of the batches, as sent.
    pub bytes: Count,
}

impl Traffic {
    /// Adds to all three.
    pub fn add(&self, batches: u64, records: u64, bytes: u64) {
        self.batches.add(batches);
        self.records.add(records);
        self.bytes.add(bytes);
    }
}

/// The connections of each listener.
#[derive(Debug, Default)]
pub struct Doors {
    /// Clients'.
    pub client: Arc<DoorStats>,
    /// Other nodes'.
    pub peer: Arc<DoorStats>,
    /// HTTP.
    pub ops: Arc<DoorStats>,
}

/// The rooms of the log service: how much of them is taken tells how much is in flight.
#[derive(Debug)]
pub struct Rooms {
    /// Bytes of produce requests.
    pub in_flight: Arc<Semaphore>,
    /// Consume streams.
    pub consumers: Arc<Semaphore>,
}

/// What one node counts. Several nodes may live in one process, each with its own.
#[derive(Debug)]
pub struct Metrics {
    /// From a batch's arrival to its ack, by what was asked for: quorum, leader, all.
    ack: [Histogram; 3],
    /// From what the consensus thread says to its durability on this node's disk.
    pub append: Histogram,
    /// Write and fdatasync of one journal group.
    pub journal_sync: Histogram,
    /// Bytes of one journal group.
    pub group_bytes: Histogram,
    /// Writes in one journal group.
    pub group_writes: Histogram,
    /// Acked batches.
    pub produced: Traffic,
    /// Acked batches that were there before.
    pub duplicates: Count,
    /// Batches sent to readers.
    pub consumed: Traffic,
    /// Elections that replicas here began.
    pub elections_started: Count,
    /// Elections that replicas here won.
    pub elections_won: Count,
    /// Times that a replica here saw another leader than before.
    pub leader_changes: Count,
    /// Runs of frames that were found damaged.
    pub faults_found: Count,
    /// Those that were mended with other replicas' frames.
    pub faults_mended: Count,
    /// Bytes that the scrub read.
    pub scrub_bytes: Count,
    /// Times that the scrub has read everything.
    pub scrub_passes: Count,
    /// Connections.
    pub doors: Doors,
    /// Set once clients are served.
    pub rooms: OnceLock<Rooms>,
    errors: Vec<Count>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            ack: std::array::from_fn(|_| Histogram::of_durations()),
            append: Histogram::of_durations(),
            journal_sync: Histogram::of_durations(),
            group_bytes: Histogram::new(families::GROUP_BYTES_BOUNDS),
            group_writes: Histogram::new(families::GROUP_WRITES_BOUNDS),
            produced: Traffic::default(),
            duplicates: Count::default(),
            consumed: Traffic::default(),
            elections_started: Count::default(),
            elections_won: Count::default(),
            leader_changes: Count::default(),
            faults_found: Count::default(),
            faults_mended: Count::default(),
            scrub_bytes: Count::default(),
            scrub_passes: Count::default(),
            doors: Doors::default(),
            rooms: OnceLock::new(),
            errors: ErrorCode::ALL.iter().map(|_| Count::default()).collect(),
        }
    }
}

/// The levels of acks, as metrics name them.
pub const ACKS: [(Acks, &str); 3] = [(Acks::Quorum, "quorum"), (Acks::Leader, "leader"), (Acks::All, "all")];

impl Metrics {
    /// Counts an acked batch.
    pub fn acked(&self, acks: Acks, took: Duration, records: u64, bytes: u64, duplicate: bool) {
        self.ack(acks).observe_duration(took);
        self.produced.add(1, records, bytes);
        if duplicate {
            self.duplicates.add(1);
        }
    }

    /// The latencies of one level of acks.
    pub fn ack(&self, acks: Acks) -> &Histogram {
        &self.ack[ACKS.iter().position(|(known, _)| *known == acks).unwrap_or(0)]
    }

    /// Counts an error that a client is told.
    pub fn error(&self, code: ErrorCode) {
        if let Some(at) = ErrorCode::ALL.iter().position(|known| *known == code) {
            self.errors[at].add(1);
        }
    }

    /// How often each error was told.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        ErrorCode::ALL.iter().copied().zip(self.errors.iter().map(Count::get))
    }
}
