//! What one replica must make durable in one step: the words between the consensus machine, which says it, and the
//! storage engine, which journals it.
//!
//! A [`ReplicaWrite`] is atomic: after a crash all of its operations took effect or none did. All writes of a shard that
//! are queued at once become one journal group under one fdatasync.

use crate::{Frame, LogId, LogIndex, Offset, ReplicaId, Term};
use bytes::Bytes;

/// One replica's operations of one step, in the order in which they take effect.
///
/// Invariants: `commit` never goes back for a replica; frames within and across [`WriteOp::Append`] are contiguous unless
/// a [`WriteOp::Cut`] or [`WriteOp::Reset`] stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaWrite {
    /// The replica that writes.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// The commit index known when the write was made. Carried by every record, so that a commit is never dropped though it
    /// needs no sync of its own. May exceed the last index of the log on this disk.
    pub commit: LogIndex,
    /// What is to be made durable. Empty: only the commit index is noted, and no sync is owed for it.
    pub ops: Vec<WriteOp>,
}

/// One operation on a replica's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Start a replica that this node never had. Always the first operation of a replica's first write.
    Create(Create),
    /// Append frames behind the last one. Never empty.
    Append(Vec<Frame>),
    /// Raft's current term, and the vote in it (`None`: no vote yet).
    HardState {
        /// The current term; never goes back.
        term: Term,
        /// Whom this replica voted for in `term`.
        vote: Option<ReplicaId>,
    },
    /// The membership as of the entry at `index`, encoded by `dlog-consensus` (opaque here).
    Configuration {
        /// The entry that made it.
        index: LogIndex,
        /// The encoded membership.
        membership: Bytes,
    },
    /// Every frame at or above this index is gone: it conflicts with the leader's log. Never at or below the commit index.
    Cut {
        /// The first index that goes.
        from: LogIndex,
    },
    /// The first readable offset, agreed on by all replicas; never goes back.
    LogStart(Offset),
    /// The log is empty and goes on after `at` (a snapshot without records was installed). What came with the snapshot
    /// stands behind it in the same write: [`WriteOp::LogStart`], [`WriteOp::Configuration`], [`WriteOp::Producers`].
    Reset(LogPoint),
    /// The producer table of a snapshot, encoded by `dlog-consensus`. It stands in a file of its own, which is synced before
    /// the group that names it: a journal read back gives the index alone, with an empty table.
    Producers {
        /// The index that the table is as of. May lie above the last frame: entries at or below it change no producer.
        index: LogIndex,
        /// The table.
        table: Bytes,
    },
    /// The replica is deleted for good: its files go once this is durable, its id stays as a mark.
    Delete {
        /// The group 0 index as of which the catalogue says that the replica is out of use. A catalogue of before may still
        /// intend it, so the mark stays until no power loss can bring such a one back.
        ended: LogIndex,
    },
}

/// What is known of a replica from its first moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The group 0 index at which the catalogue intended this replica; 0 for group 0's own.
    pub intent: LogIndex,
    /// The membership that the partition was created with, encoded by `dlog-consensus`.
    pub membership: Bytes,
    /// Where the log starts: everything zero for a log that begins at index 1.
    pub start: LogPoint,
}

/// A place between two frames: what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogPoint {
    /// Index of the frame before; 0 if there is none.
    pub index: LogIndex,
    /// Its term; 0 if there is none.
    pub term: Term,
    /// The offset that the next record takes.
    pub next_offset: Offset,
    /// The CRC of the frame before; 0 if there is none.
    pub crc: u32,
}

impl LogPoint {
    /// Whether a frame can follow: false for numbers that no log reaches. Whoever reads a point from bytes asks this.
    pub fn can_be_followed(&self) -> bool {
        self.index < LogIndex::MAX && self.next_offset <= Offset::MAX
    }
}

/// Where a term begins in a log. Kept for each log in order: strictly rising terms and indexes. They answer Raft's
/// `term(index)` without touching the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStart {
    /// The term.
    pub term: Term,
    /// The index of its first frame here.
    pub index: LogIndex,
    /// The base offset of that frame.
    pub offset: Offset,
}

/// What storage gives back of a replica after a start: all that `dlog-consensus` needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredReplica {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// From its create record.
    pub intent: LogIndex,
    /// The current term.
    pub term: Term,
    /// The vote in `term`.
    pub vote: Option<ReplicaId>,
    /// The greatest commit index that was persisted, at most `last.index`.
    pub commit: LogIndex,
    /// The index of the entry that made `membership`; 0 for the one of creation.
    pub membership_index: LogIndex,
    /// The latest membership persisted.
    pub membership: Bytes,
    /// What stands before the first frame kept here (its index + 1 is the local start).
    pub local_start: LogPoint,
    /// The first readable offset.
    pub log_start: Offset,
    /// The last frame (equal to `local_start` if the log is empty).
    pub last: LogPoint,
    /// The starts of the terms from `local_start` to `last`.
    pub term_starts: Vec<TermStart>,
    /// The newest usable producer table: the index that it is as of, and its encoding by `dlog-consensus`.
    pub producers: Option<(LogIndex, Bytes)>,
}
