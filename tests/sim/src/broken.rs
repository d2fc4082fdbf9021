//! Ways to do it wrong on purpose: each must be found by a checker, or the checkers prove nothing.
//!
//! A few stand in the simulator's shell. All others are mutants of production code (`dlog_core::mutants`), which only a build
//! with the feature `mutants` has. `gate` runs them all.

#[cfg(feature = "mutants")]
use dlog_core::mutants::{self, Mutant};
use std::fmt;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    No,
    /// Syncs say "done" and do nothing: as a build without the sync.
    NoSync,
    /// The machine is told at once that its writes are durable, and they are synced in the background.
    SyncLater,
    /// Votes and terms aren't written.
    VotesForgotten,
    /// Readers are given what is in the log, committed or not.
    UncommittedRead,
    /// A producer retries a batch whose fate is unknown under a new sequence, as one without idempotence would.
    RetryWithoutSequence,
    /// Production code does it wrong.
    #[cfg(feature = "mutants")]
    Production(Mutant),
}

impl Broken {
    /// Those of the simulator's shell, which every build has.
    pub const SHELL: [Broken; 5] = [
        Broken::NoSync,
        Broken::SyncLater,
        Broken::VotesForgotten,
        Broken::UncommittedRead,
        Broken::RetryWithoutSequence,
    ];

    /// All that this build can do wrong.
    pub fn all() -> Vec<Broken> {
        let all = Broken::SHELL.into_iter();
        #[cfg(feature = "mutants")]
        let all = all.chain(Mutant::ALL.iter().copied().map(Broken::Production));
        all.collect()
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Broken::No => "no",
            Broken::NoSync => "no-sync",
            Broken::SyncLater => "sync-later",
            Broken::VotesForgotten => "votes-forgotten",
            Broken::UncommittedRead => "uncommitted-read",
            Broken::RetryWithoutSequence => "retry-without-sequence",
            #[cfg(feature = "mutants")]
            Broken::Production(mutant) => mutant.name(),
        }
    }

    /// What is wrong, in a sentence.
    pub const fn wrong(self) -> &'static str {
        match self {
            Broken::No => "Nothing is wrong.",
            Broken::NoSync => "Syncs do nothing.",
            Broken::SyncLater => "Writes count as durable at once, and are synced in the background.",
            Broken::VotesForgotten => "Votes and terms aren't written.",
            Broken::UncommittedRead => "Readers are given what is in the log, committed or not.",
            Broken::RetryWithoutSequence => "A producer that isn't idempotent sends again what may have been appended.",
            #[cfg(feature = "mutants")]
            Broken::Production(mutant) => mutant.wrong(),
        }
    }

    /// From now on production code on this thread does this wrong, and nothing else.
    pub fn begin(self) {
        #[cfg(feature = "mutants")]
        mutants::choose(match self {
            Broken::Production(mutant) => Some(mutant),
            _ => None,
        });
    }

    /// Whether the checker of promises is left out, which would find it at the first start: another one must, too.
    pub const fn spares_promises(self) -> bool {
        matches!(self, Broken::SyncLater)
    }

    /// By its name on the command line.
    pub fn by_name(name: &str) -> Option<Broken> {
        Broken::all().into_iter().chain([Broken::No]).find(|broken| broken.name() == name)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
