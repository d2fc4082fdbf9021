//! Two kinds of time that must not be mixed: a monotonic instant that decides, and a wall-clock stamp that only informs.

use std::fmt;
use std::time::Duration;

/// A point on the process's own monotonic clock, in nanoseconds since an arbitrary start. Passed into the pure crates as
/// an argument; under the simulator it is virtual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MonotonicTime(pub u64);

impl MonotonicTime {
    /// This point plus `duration`.
    pub fn plus(self, duration: Duration) -> MonotonicTime {
        MonotonicTime(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// The time from `earlier` to this point; zero if `earlier` is later.
    pub fn since(self, earlier: MonotonicTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since the Unix epoch, as producers stamp their records. May jump in either direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct TimestampMs(pub i64);

impl TimestampMs {
    /// "No time": what Kafka's format writes for a batch without time stamps.
    pub const NONE: TimestampMs = TimestampMs(-1);
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
