//! What the threads of a shard tell each other of damaged segments.

use dlog_consensus::{Mending, Replica};
use dlog_core::{Fault, Mended, ReplicaId};
use dlog_storage::SegmentName;

/// One step between damage that was met and a replica that is whole.
pub enum RepairMessage {
    /// A read met damage in this segment.
    Met {
        /// Whose log it is.
        replica: ReplicaId,
        /// Which file.
        segment: SegmentName,
    },
    /// A segment was examined.
    Found {
        /// Whose log it is.
        replica: ReplicaId,
        /// Which file.
        segment: SegmentName,
        /// What of it can't be read; empty if nothing is wrong.
        faults: Vec<Fault>,
    },
    /// Frames were put back, or couldn't be.
    Mended {
        /// Whose log it is.
        replica: ReplicaId,
        /// Which fault.
        fault: Fault,
        /// What became of them.
        result: Result<Mended, String>,
    },
    /// A replica that had to be mended first was loaded.
    Loaded {
        /// Which one.
        replica: ReplicaId,
        /// It runs, or must wait on.
        loaded: Loaded,
    },
}

/// What became of a replica that was to be loaded.
pub enum Loaded {
    /// It runs.
    Running(Box<Replica>),
    /// It lacks something.
    Waits(Box<Mending>),
}
