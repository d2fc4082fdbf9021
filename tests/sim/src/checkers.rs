//! What must hold, one file for each rule. They know only what a client or an operator could see, and the frames.

pub mod acks;
pub mod leaders;
pub mod log_matching;
pub mod progress;
pub mod promises;

use acks::Acks;
use leaders::Leaders;
use log_matching::CommittedLog;
use promises::Promises;

/// The checkers of one run.
#[derive(Debug)]
pub struct Checkers {
    /// One for each partition: the one log that all its replicas must agree on.
    pub logs: Vec<CommittedLog>,
    /// One for each partition: what was sent and acked.
    pub acks: Vec<Acks>,
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
            leaders: Leaders::default(),
            promises: Promises::default(),
        }
    }
}
