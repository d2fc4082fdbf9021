//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// For what takes a cluster one election, one start or one catch-up: far more than it needs, on a loaded machine too.
pub const LONG: Duration = Duration::from_secs(90);
/// Between two looks at a condition that is cheap to look at.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is something; panics past the bound.
#[track_caller]
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], where the look says what is missing: the panic repeats the last answer.
#[track_caller]
pub fn until_ok<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}; at last: {missing}"),
        }
        std::thread::sleep(PAUSE);
    }
}
