//! [`Clock`]: the runtime's clock, as the machines of this crate count time.

use dlog_core::MonotonicTime;
use std::time::Duration;
use tokio::time::Instant;

/// Turns the runtime's instants into times of the machines, and back. Times of two clocks have nothing to do with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Its time 0 is now.
    pub(crate) fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> MonotonicTime {
        self.time(Instant::now())
    }

    /// An instant; one from before the clock was made is time 0.
    pub(crate) fn time(&self, at: Instant) -> MonotonicTime {
        MonotonicTime::default().plus(at.saturating_duration_since(self.origin))
    }

    pub(crate) fn instant(&self, at: MonotonicTime) -> Instant {
        self.origin + Duration::from_nanos(at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_instant_leads_to_a_time_and_back() {
        let clock = Clock::new();
        let at = Instant::now() + Duration::from_secs(600);
        assert_eq!(clock.instant(clock.time(at)), at);
        assert!(clock.now() < clock.time(at));
    }
}
