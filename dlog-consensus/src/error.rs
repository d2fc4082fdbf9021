//! Why a replica can't be started, and why a peer's message is refused.

use dlog_core::{LogId, LogIndex, Offset, ReplicaId};

/// Why the machine can't start from what storage gave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The options contradict each other.
    #[error("the options of replica {replica} are not valid: {reason}")]
    Options {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong.
        reason: String,
    },
    /// The stored membership can't be read.
    #[error("the membership of replica {replica} can't be read: {reason}; retire this replica and add another")]
    Membership {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong.
        reason: String,
    },
    /// The indexes that storage gave contradict each other.
    #[error(
        "replica {replica} has first {first}, last {last}, commit {commit}, applied {applied}: that can't be; retire this replica and add another"
    )]
    Indexes {
        /// The replica.
        replica: ReplicaId,
        /// The local start.
        first: LogIndex,
        /// The last frame.
        last: LogIndex,
        /// The persisted commit index.
        commit: LogIndex,
        /// The state store's applied index.
        applied: LogIndex,
    },
    /// The term starts don't cover the log in order.
    #[error("the term starts of replica {replica} don't match its log; run `dlog verify` on the data directory")]
    TermStarts {
        /// The replica.
        replica: ReplicaId,
    },
    /// A frame given for replay isn't the next one.
    #[error("replica {replica} was given frame {found} for replay where {expected} was due: {reason}")]
    Frame {
        /// The replica.
        replica: ReplicaId,
        /// The index due.
        expected: LogIndex,
        /// The index given.
        found: LogIndex,
        /// What doesn't fit.
        reason: String,
    },
    /// Not all wanted frames were given.
    #[error("replica {replica} was started before frame {missing} was replayed")]
    Incomplete {
        /// The replica.
        replica: ReplicaId,
        /// The first frame missing.
        missing: LogIndex,
    },
    /// What is kept with group 0's state doesn't belong to it.
    #[error("the origin of replica {replica}'s state can't be used: {reason}; retire this replica and add another")]
    Origin {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong.
        reason: String,
    },
    /// The producer table can't be read.
    #[error("the producer table of replica {replica} can't be read: {reason}; replay from an older one")]
    Producers {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong.
        reason: String,
    },
    /// A replica is started only once.
    #[error("replica {replica} is here already")]
    Exists {
        /// The replica.
        replica: ReplicaId,
    },
}

/// Why a peer's message was refused. Refusing changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Addressed to another replica.
    #[error("the message is for replica {0}")]
    NotForUs(ReplicaId),
    /// Of another log.
    #[error("the message is of log {0}")]
    AnotherLog(LogId),
    /// No such sender can be.
    #[error("replica {0} can't have sent this")]
    Sender(ReplicaId),
    /// A field is out of its bounds.
    #[error("field {0} is out of bounds")]
    Field(&'static str),
    /// Entries aren't contiguous, or their terms go back.
    #[error("entry {0} is not the next one")]
    Sequence(LogIndex),
    /// An entry that may not stand in this log.
    #[error("entry {index} can't be appended: {reason}")]
    Entry {
        /// The entry.
        index: LogIndex,
        /// What is wrong.
        reason: String,
    },
    /// A batch that would leave a gap or overlap.
    #[error("entry {index} has base offset {found} where {expected} is due")]
    BaseOffset {
        /// The entry.
        index: LogIndex,
        /// The offset that is due.
        expected: Offset,
        /// The offset it has.
        found: Offset,
    },
    /// It contradicts what is committed here.
    #[error("entry {0} conflicts with a committed one")]
    Committed(LogIndex),
    /// It names an index beyond the log's end.
    #[error("index {index} is beyond the last one, {last}")]
    Beyond {
        /// The index named.
        index: LogIndex,
        /// The last one here.
        last: LogIndex,
    },
    /// The sender is no member that this leader knows.
    #[error("replica {0} is not a member")]
    NotAMember(ReplicaId),
    /// Only a leader can answer.
    #[error("this replica does not lead")]
    NotLeader,
    /// Nobody waits for this answer.
    #[error("nobody waits for this answer")]
    Unasked,
    /// Frames wait for the disk: nothing may change that needs them durable.
    #[error("frames are not durable yet")]
    NotDurable,
    /// Too much waits here already.
    #[error("too many bytes wait for the disk")]
    Overloaded,
    /// Records for which the disk has no room. The leader sends them again.
    #[error("the disk is full")]
    DiskFull,
    /// The disk doesn't answer: this replica could not lead.
    #[error("the disk is stuck")]
    DiskStuck,
    /// A snapshot that can't be installed.
    #[error("the snapshot can't be installed: {0}")]
    Snapshot(String),
    /// The replica is being stopped.
    #[error("the replica is stopping")]
    Stopping,
    /// The replica's disk has lost frames that others still have: until it is mended, others lead better.
    #[error("the replica's log is being repaired")]
    Damaged,
}
