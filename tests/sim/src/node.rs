//! A simulated node: a disk that outlives its processes, and at most one process.

use crate::clients::Asker;
use bytes::Bytes;
use dlog_consensus::{FetchError, FetchId, Host, Output, PeerMessage, Progress, Proposal, WriteId};
use dlog_core::write::{LogPoint, ReplicaWrite};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, NodeId, ReplicaId, RequestId};
use dlog_storage::{LogReader, LoseUnsynced, ShardStore, SimDisk, WrittenOut};
use std::collections::{BTreeMap, VecDeque};

/// What waits for a node's consensus thread.
#[derive(Debug)]
pub enum Inbound {
    /// A producer's request.
    Propose {
        /// At which replica.
        replica: ReplicaId,
        /// Who waits.
        asker: Asker,
        /// The request; its id is given when it is taken.
        proposal: Proposal,
    },
    /// Where does the log end?
    ReadIndex {
        /// At which replica.
        replica: ReplicaId,
        /// Who waits.
        asker: Asker,
    },
    /// Move the log start, to this many thousandths of what is committed.
    MoveLogStart {
        /// At which replica.
        replica: ReplicaId,
        /// Who waits.
        asker: Asker,
        /// How far.
        per_mille: u64,
    },
    /// Segments were dropped.
    LocalStarts(Vec<(ReplicaId, LogPoint)>),
    /// A message of another node.
    Peer(Box<PeerMessage>),
    /// Writes are durable.
    Persisted(Vec<(ReplicaId, WriteId)>),
    /// Frames are in segments.
    WrittenOut(Vec<WrittenOut>),
    /// The answer of the read thread.
    EntriesRead {
        /// Who asked.
        replica: ReplicaId,
        /// Which question.
        fetch: FetchId,
        /// The frames.
        result: Result<Vec<Frame>, FetchError>,
    },
    /// A connection broke.
    Unreachable(NodeId),
    /// An operator wants another leader.
    Transfer(ReplicaId),
    /// Hand over what is led here, before a stop.
    HandOver,
    /// The disk thread wants producer tables for a checkpoint.
    TakeProducers,
    /// Stop in order.
    Stop,
}

/// A replica's producers as of an index.
pub type ProducerTable = (ReplicaId, LogIndex, Bytes);

/// What waits for a node's disk thread.
#[derive(Debug)]
pub enum DiskMessage {
    /// Writes of one turn.
    Writes(Vec<(WriteId, ReplicaWrite)>),
    /// Tables for a checkpoint.
    Producers(Vec<ProducerTable>),
    /// Close the store with these tables.
    Stop(Vec<ProducerTable>),
}

/// What the disk thread does next.
#[derive(Debug, Default)]
pub enum DiskStep {
    /// Wait for a message.
    #[default]
    Rest,
    /// Collect what queued.
    Begin,
    /// Make a group durable.
    Commit(Vec<(WriteId, ReplicaWrite)>),
    /// Tell that it is.
    Tell(Vec<(ReplicaId, WriteId)>, bool),
    /// Bring the segments up.
    WriteOut,
    /// Write a checkpoint.
    Checkpoint(Vec<ProducerTable>),
    /// Close the store.
    Close(Vec<ProducerTable>),
    /// Nothing came for a while.
    Idle,
}

/// The disk thread's state.
#[derive(Debug, Default)]
pub struct DiskThread {
    /// Not yet looked at.
    pub queue: VecDeque<DiskMessage>,
    /// In the order in which they were said.
    pub writes: VecDeque<(WriteId, ReplicaWrite)>,
    /// What is scheduled.
    pub step: DiskStep,
    /// Names the scheduled step; events with an older one are void.
    pub token: u64,
    /// The last sync isn't proved yet.
    pub unsealed: bool,
    /// Segments could not be written for want of room.
    pub write_out_owed: bool,
    /// Tables were asked for.
    pub checkpoint_asked: bool,
}

/// A process.
pub struct Process {
    /// The replicas.
    pub host: Host,
    /// `None` once it is closed.
    pub store: Option<ShardStore<SimDisk>>,
    /// Readers of the logs that are written out.
    pub readers: BTreeMap<ReplicaId, LogReader<SimDisk>>,
    /// As published to readers.
    pub progress: BTreeMap<ReplicaId, Progress>,
    /// The last index that the checkers have looked at in this life.
    pub observed: BTreeMap<ReplicaId, LogIndex>,
    /// What waits for the consensus thread.
    pub inbox: VecDeque<Inbound>,
    /// Whether a turn is scheduled.
    pub turn_due: bool,
    /// Whether a tick is due at the next turn.
    pub tick_due: bool,
    /// New replicas that should lead first, with the ticks for which they try.
    pub preferred: BTreeMap<ReplicaId, u32>,
    /// Who waits for which request.
    pub waiting: BTreeMap<RequestId, Asker>,
    /// The next request's id.
    pub next_request: u64,
    /// What the host said and nobody carried out yet.
    pub outputs: Vec<(ReplicaId, Output)>,
    /// The disk thread.
    pub disk: DiskThread,
    /// Turns so far.
    pub turns: u64,
}

/// A node.
pub struct Node {
    /// Outlives its processes.
    pub disk: SimDisk,
    /// Counts the processes; events of an earlier one are void.
    pub life: u64,
    /// The running one.
    pub process: Option<Process>,
    /// Whether a start is scheduled.
    pub start_due: bool,
    /// It stays down until this is lifted.
    pub held_down: bool,
    /// What its monotonic clock is ahead, in nanoseconds.
    pub clock_ahead: u64,
    /// The length of its ticks, in nanoseconds.
    pub tick_ns: u64,
    /// Until then the process stands still, in nanoseconds.
    pub paused_until: u64,
    /// Until then its syncs are slow, in nanoseconds.
    pub slow_until: u64,
    /// How slow, in nanoseconds.
    pub slow_ns: u64,
    /// Errors were asked for: what the store says because of them is no bug.
    pub disk_faulted: bool,
    /// The disk will lose power in the middle of a call: how.
    pub power_armed: Option<LoseUnsynced>,
    /// Leaves for an orderly stop.
    pub stopping: bool,
}

impl Node {
    /// The node's own time.
    pub fn clock(&self, now: u64) -> MonotonicTime {
        MonotonicTime(now + self.clock_ahead)
    }
}

/// The replica of a partition on a node; both count from 0.
pub fn replica_of(node: usize, partition: usize) -> ReplicaId {
    ReplicaId::new(NodeId(node as u32 + 1), partition as u32 + 1)
}

/// The node of a replica, from 0.
pub fn node_of(replica: ReplicaId) -> usize {
    replica.node().0 as usize - 1
}

/// The partition of a replica, from 0.
pub fn partition_of(replica: ReplicaId) -> usize {
    replica.number() as usize - 1
}

/// The log of a partition.
pub fn log_of(partition: usize) -> LogId {
    LogId(partition as u64 + 1)
}
