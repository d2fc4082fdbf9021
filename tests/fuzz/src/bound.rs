//! What one check may cost: bytes allocated at once, and time.

use crate::target::{MEMORY_PER_BYTE, Target};
use peak_alloc::PeakAlloc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Allocated bytes are counted for the whole process, so one check runs at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What a check of at most [`crate::mutate::INPUT_BYTES_MAX`] may take. The usual ones take a hundred thousandth of it, so that only
/// work without a bound gets there; and it must get there three times, since a busy machine may stop the process once.
const TIME_MAX: Duration = Duration::from_secs(5);
const SLOW_TRIES: u32 = 3;

/// Waits until no other thread checks.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one check; says whether the input was taken.
///
/// # Panics
/// As the check, and if it costs more than it may.
pub fn check(target: &Target, input: &[u8]) -> bool {
    let mut tries = 0;
    loop {
        tries += 1;
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let begin = Instant::now();
        let taken = (target.check)(input);
        let peak = ALLOCATED.peak_usage().saturating_sub(before);
        let may = target.memory + input.len() * MEMORY_PER_BYTE;
        assert!(peak <= may, "an input of {} bytes had {peak} bytes allocated at once, {may} are allowed", input.len());
        if begin.elapsed() <= TIME_MAX {
            return taken;
        }
        assert!(tries < SLOW_TRIES, "an input of {} bytes takes more than {TIME_MAX:?}", input.len());
    }
}
