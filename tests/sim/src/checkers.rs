//! What must hold, one file for each rule. They know only what a client or an operator could see, and the frames.

pub mod acks;
pub mod leaders;
pub mod log_matching;
pub mod progress;
pub mod promises;
pub mod tables;

use acks::Acks;
use dlog_core::Offset;
use leaders::Leaders;
use log_matching::CommittedLog;
use promises::Promises;
use tables::Tables;

/// The checkers of one run.
#[derive(Debug)]
pub struct Checkers {
    /// One for each partition: the one log that all its replicas must agree on.
    pub logs: Vec<CommittedLog>,
    /// One for each partition: what was sent and acked.
    pub acks: Vec<Acks>,
    /// One for each partition: its producers as replicas keep them.
    pub tables: Vec<Tables>,
    /// One for each partition: where its log was said to start, at least.
    pub log_starts: Vec<Offset>,
    /// Who led when.
    pub leaders: Leaders,
    /// What nodes told each other that they had written.
    pub promises: Promises,
}

impl Checkers {
    /// For so many partitions.
    pub fn new(partitions: usize) -> Checkers {
        Checkers {
            logs: (0..partitions).map(|_| CommittedLog::default()).collect(),
            acks: (0..partitions).map(|_| Acks::default()).collect(),
            tables: (0..partitions).map(|_| Tables::default()).collect(),
            log_starts: vec![Offset::ZERO; partitions],
            leaders: Leaders::default(),
            promises: Promises::default(),
        }
    }
}
