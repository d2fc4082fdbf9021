//! Ways to do it wrong on purpose: each must be found by a checker, or the checkers prove nothing.
//!
//! They stand in the simulator's shell, where they are chosen at run time: the production code has no switches for them.

use crate::protobuf;
use bytes::Bytes;
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
    /// Snapshots carry no producers.
    SnapshotWithoutProducers,
    /// The receiver of a snapshot takes its state for that of the place where the log goes on, and applies what comes up to the
    /// state's own entry once more.
    SnapshotStateTooOld,
}

impl Broken {
    /// All that are wrong.
    pub const ALL: [Broken; 7] = [
        Broken::NoSync,
        Broken::SyncLater,
        Broken::VotesForgotten,
        Broken::UncommittedRead,
        Broken::RetryWithoutSequence,
        Broken::SnapshotWithoutProducers,
        Broken::SnapshotStateTooOld,
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
            Broken::SnapshotWithoutProducers => "snapshot-without-producers",
            Broken::SnapshotStateTooOld => "snapshot-state-too-old",
        }
    }

    /// A snapshot's data as this build sends it, for a log that goes on behind entry `index`.
    pub fn spoil(self, data: &Bytes, index: u64) -> Bytes {
        // Of its fields 2 is the entry that the state is as of, and 6 the table of producers.
        let field = match self {
            Broken::SnapshotWithoutProducers => 6,
            Broken::SnapshotStateTooOld => 2,
            _ => return data.clone(),
        };
        let mut fields = protobuf::without(data, field);
        match self {
            Broken::SnapshotWithoutProducers => fields.extend([0x32, 2, 8, 1]),
            _ => {
                fields.push(0x10);
                protobuf::put_varint(&mut fields, index);
            }
        }
        Bytes::from(fields)
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
