//! Runs a target: every member of its corpus, then random mutations of them, and the shortest failing input if one fails.

use crate::bound;
use crate::corpus::Member;
use crate::mutate::recipe;
use crate::target::Target;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// An input for which something doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The target.
    pub target: &'static str,
    /// The input, as short as was found.
    pub input: Vec<u8>,
    /// What doesn't hold.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "target {}: {}", self.target, self.reason)?;
        writeln!(f, "the input, {} bytes; `make fuzz` with the same seed keeps it in the corpus:", self.input.len())?;
        self.input.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a run of random inputs met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Inputs.
    pub inputs: u64,
    /// Those that the decoder took for valid.
    pub taken: u64,
}

/// Checks the bytes as they are and with their checksums mended; says which of the two were taken.
///
/// # Errors
/// The first of them for which something doesn't hold.
pub fn check(target: &Target, input: &[u8]) -> Result<[bool; 2], Failure> {
    let mended = target.mend.mended(input.to_vec());
    let one = |input: &[u8]| {
        caught(target, input).map_err(|reason| Failure { target: target.name, input: input.to_vec(), reason })
    };
    Ok([one(input)?, one(&mended)?])
}

/// Checks every member of a corpus.
///
/// # Errors
/// The first that fails, and a seed that is not taken: mutations of it would find nothing.
pub fn replay(target: &Target, members: &[Member]) -> Result<(), Failure> {
    for member in members {
        let [taken, _] = check(target, &member.bytes)?;
        if member.is_seed() && !taken {
            let reason = format!("{} is no longer valid; if the format changed, `make fuzz-corpus`", member.name);
            return Err(Failure { target: target.name, input: member.bytes.clone(), reason });
        }
    }
    Ok(())
}

/// Checks `runs` random inputs made of these members. The same seed gives the same inputs.
///
/// # Errors
/// The shortest failing input that was found.
pub fn random(target: &Target, members: &[Member], seed: u64, runs: u32) -> Result<RunReport, Failure> {
    let corpus: Vec<Vec<u8>> = members.iter().map(|member| member.bytes.clone()).collect();
    let config = Config { cases: runs, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    // Each target has a run of its own, whichever others there are.
    bytes[8..12].copy_from_slice(&crc32c::crc32c(target.name.as_bytes()).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (inputs, taken) = (Cell::new(0), Cell::new(0));
    let input_of = |recipe: &crate::mutate::Recipe| {
        let input = recipe.bytes(&corpus);
        if recipe.mended { target.mend.mended(input) } else { input }
    };
    let result = runner.run(&recipe(), |recipe| {
        let input = input_of(&recipe);
        let was = caught(target, &input).map_err(TestCaseError::fail)?;
        inputs.set(inputs.get() + 1);
        taken.set(taken.get() + u64::from(was));
        Ok(())
    });
    match result {
        Ok(()) => Ok(RunReport { inputs: inputs.get(), taken: taken.get() }),
        Err(TestError::Fail(reason, recipe)) => {
            let (input, reason) = (input_of(&recipe), reason.message().to_string());
            Err(Failure { target: target.name, input, reason })
        }
        Err(TestError::Abort(reason)) => {
            Err(Failure { target: target.name, input: Vec::new(), reason: reason.message().to_string() })
        }
    }
}

thread_local! {
    static IS_CHECKING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs one check; an error is what it panicked with, and where. Nothing is printed: while a failing input is cut down, hundreds
/// of checks panic.
fn caught(target: &Target, input: &[u8]) -> Result<bool, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_CHECKING.get() {
                PANIC.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
    IS_CHECKING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| bound::check(target, input)));
    IS_CHECKING.set(false);
    result.map_err(|_| PANIC.take())
}
