//! The nodes' clocks: a wall clock that stamps records and may jump, and a monotonic one that begins elsewhere after a reboot.

use super::World;
use crate::node::Inbound;
use crate::schedule::MILLISECOND;
use dlog_core::{LogId, TimestampMs};

/// What an unmoved wall clock shows when the run begins, in milliseconds.
const WALL_AT_START: i64 = 1_700_000_000_000;
/// The furthest jump: six hours.
const JUMP_MS_MAX: i64 = 6 * 3_600_000;
/// A monotonic clock begins somewhere below this, in nanoseconds.
pub(super) const MONOTONIC_START_MAX: u64 = 1 << 40;

/// Every second log wants the time of its appends in its records. Which one a node fills in when it takes the request.
pub(super) fn wants_append_time(log: LogId) -> Option<TimestampMs> {
    log.0.is_multiple_of(2).then_some(TimestampMs::NONE)
}

impl World {
    /// What a node's wall clock shows.
    fn wall_clock(&self, node: usize) -> TimestampMs {
        let since = (self.schedule.now() / MILLISECOND) as i64;
        TimestampMs(WALL_AT_START + since + self.nodes[node].wall_ahead_ms)
    }

    /// Somebody sets the wall clock, or what keeps it right goes wrong: back or forth, by seconds or by hours.
    pub(crate) fn jump_clock(&mut self, node: usize) {
        let most = [2_000, 60_000, JUMP_MS_MAX][self.fault_random.usize(0..3)];
        self.nodes[node].wall_ahead_ms += self.fault_random.i64(-most..=most);
        self.counts.clock_jumps += 1;
    }

    /// After a loss of power the monotonic clock counts from another start.
    pub(crate) fn reboot_clock(&mut self, node: usize) {
        if self.fault_random.bool() {
            self.nodes[node].clock_ahead = self.fault_random.u64(0..MONOTONIC_START_MAX);
        }
    }

    /// The service that takes a request reads the wall clock, where the topic wants append times, before the request queues.
    pub(crate) fn stamp(&mut self, node: usize, inbound: &mut Inbound) {
        let now = self.wall_clock(node);
        if let Inbound::Propose { log, proposal, .. } = inbound
            && proposal.append_time.is_some()
        {
            proposal.append_time = Some(now);
            self.checkers.of(*log).stamps.given(now);
        }
    }
}
