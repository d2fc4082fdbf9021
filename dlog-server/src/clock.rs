//! The process's clocks: the one place where the server asks for the time.

pub mod agreement;

use dlog_core::{MonotonicTime, TimestampMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that starts at zero when it is made. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(self) -> MonotonicTime {
        MonotonicTime(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The wall clock. It stamps records; what it may decide beyond that says [`agreement::ClockAgreement`].
pub fn wall_clock() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
