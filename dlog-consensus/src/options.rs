//! What a replica may be told about itself, and the bounds it keeps.

use crate::error::LoadError;
use crate::replica::repairing::PATIENCE;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogId, ReplicaId, limits};
use raft::{Config, ReadOnlyOption};
use std::time::Duration;

/// Bytes of one command of the catalogue.
pub const COMMAND_BYTES_MAX: usize = limits::COMMAND_BYTES_MAX;
/// Batches of one proposal; they become one step of raft, which must fit into one write.
pub const BATCHES_PER_PROPOSAL_MAX: usize = 256;
/// Requests that wait at one replica: acks and reads. Each costs some hundred bytes.
pub const PENDING_REQUESTS_MAX: usize = 64 * 1024;
/// Reads that wait for one confirmation each; more would only repeat each other.
pub const PENDING_READS_MAX: usize = 4096;

/// The settings of one replica. [`ReplicaOptions::default`] is what production runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// A leader sends a heartbeat every so many ticks.
    pub heartbeat_ticks: u32,
    /// A follower that heard nothing for this many ticks, up to twice as many (drawn), asks for votes. A leader that heard of no
    /// majority for this long steps down.
    pub election_ticks: u32,
    /// Bytes of entries in one append message, beyond its first entry.
    pub append_bytes_max: usize,
    /// Bytes of entries in flight to one peer.
    pub in_flight_bytes_max: usize,
    /// Bytes of a batch: what this topic allows. Bounds how many appends may be in flight.
    pub batch_bytes_max: usize,
    /// Bytes proposed but not yet committed and durable here; beyond, producers get `overloaded`.
    pub uncommitted_bytes_max: usize,
    /// Bytes of frames held in memory because they aren't committed or not yet in their segment; beyond, producers get
    /// `overloaded`, and a follower whose writing out lags takes no more entries.
    pub pinned_bytes_max: usize,
    /// Producers that are remembered. The one that was silent longest (by index) is forgotten first.
    pub producers_max: usize,
    /// A producer that has appended nothing for so long is forgotten; up to a sixteenth later, and later still after a restart.
    pub producer_expiry: Duration,
    /// A leader of several voters whose oldest write waits for the disk longer than this hands leadership over.
    pub stuck_disk: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            heartbeat_ticks: 2,
            election_ticks: 10,
            append_bytes_max: limits::APPEND_BYTES_MAX,
            in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_DEFAULT,
            uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
            pinned_bytes_max: 2 * limits::UNCOMMITTED_BYTES_MAX,
            producers_max: limits::PRODUCERS_PER_PARTITION_MAX,
            producer_expiry: Duration::from_secs(24 * 3600),
            stuck_disk: Duration::from_secs(10),
        }
    }
}

impl ReplicaOptions {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// The sentence says which don't.
    pub fn validate(&self) -> Result<(), &'static str> {
        let rules = [
            (self.heartbeat_ticks >= 1, "heartbeat_ticks must be at least 1"),
            (self.election_ticks > 2 * self.heartbeat_ticks, "election_ticks must be more than two heartbeats"),
            ((1..=limits::APPEND_BYTES_MAX).contains(&self.append_bytes_max), "append_bytes_max is out of its range"),
            (self.batch_bytes_max <= limits::BATCH_BYTES_MAX, "batch_bytes_max is more than a batch may have"),
            (self.uncommitted_bytes_max >= self.append_bytes_max, "uncommitted_bytes_max is less than one append"),
            (
                self.pinned_bytes_max >= self.uncommitted_bytes_max,
                "pinned_bytes_max is less than uncommitted_bytes_max",
            ),
            (
                (1..=limits::PRODUCERS_PER_PARTITION_MAX).contains(&self.producers_max),
                "producers_max is out of its range",
            ),
            (!self.producer_expiry.is_zero(), "producer_expiry must be more than 0"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(broken),
            None => Ok(()),
        }
    }

    /// Appends that may be in flight to one peer so that their bytes stay within the bound: an append is at most the larger of
    /// its own bound and one batch.
    pub fn appends_in_flight_max(&self) -> usize {
        let append = self.append_bytes_max.max(self.batch_bytes_max).max(1);
        (self.in_flight_bytes_max / append).clamp(1, limits::APPENDS_IN_FLIGHT_MAX)
    }

    pub(crate) fn raft_config(&self, log: LogId, replica: ReplicaId, applied: u64) -> Result<Config, LoadError> {
        let options = |reason: String| LoadError::Options { replica, reason };
        self.validate().map_err(|reason| options(reason.to_owned()))?;
        let config = Config {
            id: replica.0,
            election_tick: self.election_ticks as usize,
            // Timeouts are drawn in `election.rs`, usually below twice the shortest.
            max_election_tick: 2 * (self.election_ticks * PATIENCE) as usize,
            heartbeat_tick: self.heartbeat_ticks as usize,
            applied,
            max_size_per_msg: self.append_bytes_max as u64,
            max_inflight_msgs: self.appends_in_flight_max(),
            check_quorum: true,
            pre_vote: true,
            read_only_option: match mutants::is(Mutant::LeaseRead) {
                true => ReadOnlyOption::LeaseBased,
                false => ReadOnlyOption::Safe,
            },
            skip_bcast_commit: false,
            max_uncommitted_size: self.uncommitted_bytes_max as u64,
            ..Config::default()
        };
        config.validate().map_err(|error| options(format!("log {log}: {error}")))?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;

    #[test]
    fn the_default_is_valid() {
        let options = ReplicaOptions::default();
        assert_eq!(options.validate(), Ok(()));
        options.raft_config(LogId(1), ReplicaId::new(NodeId(1), 1), 0).expect("a valid configuration");
    }

    #[test]
    fn appends_in_flight_are_bounded_by_bytes() {
        let mut options = ReplicaOptions::default();
        assert_eq!(options.appends_in_flight_max(), 16);
        options.batch_bytes_max = limits::BATCH_BYTES_MAX;
        assert_eq!(options.appends_in_flight_max(), 2);
        options.in_flight_bytes_max = 1;
        assert_eq!(options.appends_in_flight_max(), 1);
    }

    #[test]
    fn contradictions_are_refused() {
        let options = ReplicaOptions { election_ticks: 4, ..ReplicaOptions::default() };
        assert!(options.validate().is_err());
        let options = ReplicaOptions { append_bytes_max: 0, ..ReplicaOptions::default() };
        assert!(options.raft_config(LogId(1), ReplicaId::new(NodeId(1), 1), 0).is_err());
    }
}
