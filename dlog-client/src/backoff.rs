//! [`Backoff`]: how long to wait before the next try.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait: about a round trip and a hint's way.
const FIRST: Duration = Duration::from_millis(10);
/// The longest wait. An election takes about a second; a client should notice its end soon.
const LONGEST: Duration = Duration::from_millis(250);

/// Doubling waits with jitter, so that clients that failed together don't come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// `seed` decides the jitter.
    pub(crate) fn new(seed: u64) -> Backoff {
        Backoff { next: FIRST, random: fastrand::Rng::with_seed(seed) }
    }

    /// The wait before the next try: between half and all of the current step, or what the server asked for if that is
    /// longer.
    pub(crate) fn step(&mut self, asked_ms: Option<u32>) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        let half = step.as_micros() as u64 / 2;
        let wait = Duration::from_micros(half + self.random.u64(0..=half));
        wait.max(Duration::from_millis(u64::from(asked_ms.unwrap_or(0))))
    }

    /// Something succeeded: the next failure begins anew.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// A seed that differs between processes and calls.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_begins_anew() {
        let mut backoff = Backoff::new(1);
        assert!(backoff.step(None) <= FIRST);
        for _ in 0..10 {
            assert!(backoff.step(None) <= LONGEST);
        }
        assert!(backoff.step(None) >= LONGEST / 2);
        assert!(backoff.step(Some(900)) >= Duration::from_millis(900));
        backoff.reset();
        assert!(backoff.step(None) <= FIRST);
    }
}
