//! Runs one seed from beginning to end, and turns a panic of the code under test into a failure with its text.

use crate::Broken;
use crate::options::Options;
use crate::report::{Failure, Report};
use crate::trace::Focus;
use crate::world::World;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// The text of this thread's last panic while a run is under way; `None` outside of runs.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lines of a timeline: what one can read.
const TIMELINE_LINES: usize = 300;

static HOOK: Once = Once::new();

/// Panics within a run are kept for its report; all others are shown as ever.
fn keep_panics() {
    HOOK.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = PANIC.with_borrow_mut(|kept| kept.as_mut().map(|text| *text = info.to_string()));
            if kept.is_none() {
                shown(info);
            }
        }));
    });
}

/// Plays what the options say.
pub fn run(options: &Options) -> Report {
    play(options).0
}

/// Plays a failed run once more, and gives its last lines: those about the log at fault, and those about no log.
pub fn timeline(options: &Options, failure: &Failure) -> Vec<String> {
    let focus = Some(Focus { log: failure.log, lines: TIMELINE_LINES });
    play(&Options { focus, trace: false, ..options.clone() }).1
}

fn play(options: &Options) -> (Report, Vec<String>) {
    let mut world = World::new(options.clone());
    let failure = guarded(options.broken, || world.play()).err();
    let lines = world.trace.take_kept();
    (world.report(failure), lines)
}

/// Plays something with this wrong; a panic is a failure.
///
/// # Errors
/// What it says, or the panic's text.
pub fn guarded(broken: Broken, play: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    keep_panics();
    PANIC.set(Some(String::new()));
    broken.begin();
    let played = panic::catch_unwind(AssertUnwindSafe(play));
    Broken::No.begin();
    let text = PANIC.take().unwrap_or_default();
    played.unwrap_or_else(|_| Err(Failure::crash(text)))
}
