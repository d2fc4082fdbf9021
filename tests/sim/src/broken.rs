//! Ways to do it wrong on purpose: each must be found by a checker, or the checkers prove nothing.
//!
//! They stand in the simulator's shell, where they are chosen at run time: the production code has no switches for them.

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
}

impl Broken {
    /// All that are wrong.
    pub const ALL: [Broken; 5] = [
        Broken::NoSync,
        Broken::SyncLater,
        Broken::VotesForgotten,
        Broken::UncommittedRead,
        Broken::RetryWithoutSequence,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Broken::No => "no",
            Broken::NoSync => "no-sync",
            Broken::SyncLater => "sync-later",
            Broken::VotesForgotten => "votes-forgotten",
            Broken::UncommittedRead => "uncommitted-read",
            Broken::RetryWithoutSequence => "retry-without-sequence",
        }
    }

    /// Whether the checker of promises is left out, which would find it at the first start: another one must, too.
    pub const fn spares_promises(self) -> bool {
        matches!(self, Broken::SyncLater)
    }

    /// By its name on the command line.
    pub fn by_name(name: &str) -> Option<Broken> {
        Broken::ALL.into_iter().chain([Broken::No]).find(|broken| broken.name() == name)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
