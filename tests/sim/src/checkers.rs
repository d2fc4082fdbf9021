//! What must hold, one file for each rule. They know only what a client or an operator could see, and the frames.

pub mod acks;
pub mod bounds;
pub mod catalogues;
pub mod leaders;
pub mod log_matching;
pub mod members;
pub mod progress;
pub mod promises;
pub mod stamps;
pub mod tables;

use acks::Acks;
use catalogues::Catalogues;
use dlog_core::{LogId, Offset};
use leaders::Leaders;
use log_matching::CommittedLog;
use members::Members;
use promises::Promises;
use stamps::Stamps;
use std::collections::BTreeMap;
use tables::Tables;

/// What is known of one log.
#[derive(Debug, Default)]
pub struct LogChecks {
    /// The one log that all its replicas must agree on.
    pub log: CommittedLog,
    /// What was sent and acked.
    pub acks: Acks,
    /// Its append times.
    pub stamps: Stamps,
    /// Its producers as replicas keep them.
    pub tables: Tables,
    /// Its members as replicas keep them.
    pub members: Members,
    /// Where it was said to start, at least.
    pub log_start: Offset,
}

/// The checkers of one run.
#[derive(Debug, Default)]
pub struct Checkers {
    /// By log; those of deleted topics stay.
    pub logs: BTreeMap<LogId, LogChecks>,
    /// What nodes have of the catalogue, and what its commands' makers were told.
    pub catalogues: Catalogues,
    /// Who led when.
    pub leaders: Leaders,
    /// What nodes told each other that they had written.
    pub promises: Promises,
}

impl Checkers {
    /// Those of one log.
    pub fn of(&mut self, log: LogId) -> &mut LogChecks {
        self.logs.entry(log).or_default()
    }
}
