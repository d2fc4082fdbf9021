//! A simulated node: a disk that outlives its processes, and at most one process.

use crate::clients::Asker;
use crate::world::door::Door;
use bytes::Bytes;
use dlog_consensus::{FetchError, FetchId, Host, Output, PeerMessage, Progress, Proposal, StateImage, WriteId};
use dlog_core::write::{LogPoint, ReplicaWrite};
use dlog_core::{
    DiskState, Fault, Frame, LogId, LogIndex, MendPlace, Mended, MonotonicTime, NodeId, ReplicaId, RequestId,
};
use dlog_replication::leadership::Balancer;
use dlog_replication::{Catalogue, Intent, LocalReplicas};
use dlog_storage::state_store::memory::MemoryStateStore;
use dlog_storage::{LogReader, LoseUnsynced, ShardStore, SimDisk, SpaceKeeper, StallWatch, WrittenOut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// What waits for a node's consensus thread.
#[derive(Debug)]
pub enum Inbound {
    /// A producer's request.
    Propose {
        /// Of which log.
        log: LogId,
        /// Who waits.
        asker: Asker,
        /// The request; its id is given when it is taken.
        proposal: Proposal,
    },
    /// Where does the log end?
    ReadIndex {
        /// Of which log.
        log: LogId,
        /// Who waits.
        asker: Asker,
    },
    /// Move the log start, to this many thousandths of what is committed.
    MoveLogStart {
        /// Of which log.
        log: LogId,
        /// Who waits.
        asker: Asker,
        /// How far.
        per_mille: u64,
    },
    /// Segments were dropped.
    LocalStarts(Vec<(ReplicaId, LogPoint)>),
    /// A message of another node.
    Peer(Box<PeerMessage>),
    /// What the disk allows from now on.
    Disk(DiskState),
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
    /// Frames of a replica can't be read.
    Faulty(ReplicaId, Vec<Fault>),
    /// What became of frames that were put back.
    Mended(ReplicaId, Box<(Fault, Result<Mended, String>)>),
    /// A connection broke.
    Unreachable(NodeId),
    /// Somebody wants another leader of a log.
    Transfer(LogId),
    /// Hand leadership to the replica that the catalogue prefers.
    Prefer {
        /// Which leads here.
        replica: ReplicaId,
        /// Which should.
        to: ReplicaId,
    },
    /// A command for the catalogue.
    Command {
        /// Who waits.
        asker: Asker,
        /// Encoded.
        command: Bytes,
    },
    /// The apply thread applied group 0's commands up to here.
    Applied(ReplicaId, LogIndex),
    /// The apply thread gives group 0's state.
    StateTaken(ReplicaId, LogIndex, StateImage),
    /// What became of a state that came with a snapshot.
    StateInstalled(ReplicaId, LogIndex, Result<(), String>),
    /// The reconciler wants a replica started.
    Start(NewReplica),
    /// The reconciler wants a replica deleted.
    Delete(ReplicaId, LogIndex),
    /// What the catalogue wants of the membership of a replica's log.
    Intend(ReplicaId, Box<Intent>),
    /// Hand over what is led here, before a stop.
    HandOver,
    /// The disk thread wants producer tables for a checkpoint.
    TakeProducers,
    /// Stop in order.
    Stop,
}

impl Inbound {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Inbound::Propose { proposal, .. } => proposal.batches.iter().map(Bytes::len).sum(),
            Inbound::Command { command, .. } => command.len(),
            Inbound::Peer(message) => message.entries.iter().map(|entry| entry.payload.len()).sum(),
            _ => 0,
        }
    }
}

/// A replica that is to be made.
#[derive(Clone, Debug)]
pub struct NewReplica {
    /// Its id.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// Its members, encoded.
    pub membership: Bytes,
    /// The group 0 index that intended it.
    pub intent: LogIndex,
    /// Whether it campaigns at once.
    pub preferred: bool,
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
    /// Group 0's state can't be lost any more, as of here.
    CatalogueSynced(LogIndex),
    /// Put frames back that were lost.
    Mend(ReplicaId, Box<(Fault, MendPlace, Vec<Frame>)>),
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
    /// When the last one was given up for want of space, in nanoseconds, if none was made since.
    pub checkpoint_failed: Option<u64>,
}

/// Who watches a node's disk.
pub struct DiskWatch {
    /// Its room.
    pub keeper: SpaceKeeper<SimDisk>,
    /// Whether it answers.
    pub stall: StallWatch,
    /// The sync in flight.
    pub in_flight: Option<u64>,
    /// What replicas were told last.
    pub told: DiskState,
}

/// What the apply thread has to do, and what it has done.
#[derive(Debug, Default)]
pub struct ApplyThread {
    /// The catalogue that it changes.
    pub catalogue: Catalogue,
    /// What it hasn't looked at.
    pub queue: VecDeque<(ReplicaId, ApplyMessage)>,
    /// Whether it is scheduled.
    pub due: bool,
    /// When it last synced the state store, in nanoseconds.
    pub synced_at: u64,
    /// Who waits until an index is applied here.
    pub waiting: Vec<(LogIndex, Asker)>,
}

/// What the apply thread is told.
#[derive(Debug)]
pub enum ApplyMessage {
    /// Committed commands.
    Commands(Vec<Frame>),
    /// A peer needs the state.
    TakeState,
    /// A state came with a snapshot.
    Install {
        /// What it is as of.
        index: LogIndex,
        /// All of it.
        state: StateImage,
        /// To be kept with it.
        origin: Bytes,
    },
}

/// Why a node is out of the cluster for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Its disk was emptied. It starts, as another directory.
    Wiped,
    /// An old copy of its disk was put back. It starts, as one that has forgotten.
    Restored,
    /// Its disk decayed, and it found so. It doesn't start.
    Damaged,
}

/// A copy of a node's directory.
pub struct Copy {
    /// Its files.
    pub disk: SimDisk,
    /// Group 0's state.
    pub state: MemoryStateStore,
}

/// A process.
pub struct Process {
    /// Who it is, and whom it believes.
    pub door: Door,
    /// The replicas.
    pub host: Host,
    /// Which of them is of which log: a node has at most one of each.
    pub by_log: BTreeMap<LogId, ReplicaId>,
    /// The catalogue as it is published here.
    pub catalogue: Rc<Catalogue>,
    /// The apply thread of group 0.
    pub apply: ApplyThread,
    /// Whether the reconciler is scheduled.
    pub reconcile_due: bool,
    /// What should be led elsewhere.
    pub balancer: Balancer,
    /// What the reconciler takes for standing here.
    pub local: LocalReplicas,
    /// `None` once it is closed.
    pub store: Option<ShardStore<SimDisk>>,
    /// Readers of the logs that are written out.
    pub readers: BTreeMap<ReplicaId, LogReader<SimDisk>>,
    /// As published to readers.
    pub progress: BTreeMap<ReplicaId, Progress>,
    /// Replicas with damage that is known.
    pub faulty: BTreeSet<ReplicaId>,
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
    /// Its disk.
    pub watch: DiskWatch,
    /// Turns so far.
    pub turns: u64,
    /// Ticks so far.
    pub ticks: u64,
}

/// A node.
pub struct Node {
    /// Outlives its processes.
    pub disk: SimDisk,
    /// Group 0's state store; outlives them too.
    pub state: MemoryStateStore,
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
    /// What its wall clock is ahead of the others', in milliseconds; below 0: behind.
    pub wall_ahead_ms: i64,
    /// The length of its ticks, in nanoseconds.
    pub tick_ns: u64,
    /// Until then the process stands still, in nanoseconds.
    pub paused_until: u64,
    /// Until then its syncs are slow, in nanoseconds.
    pub slow_until: u64,
    /// How slow, in nanoseconds.
    pub slow_ns: u64,
    /// Until then its disk is full, in nanoseconds; 0: it has room.
    pub full_until: u64,
    /// Errors were asked for: what the store says because of them is no bug.
    pub disk_faulted: bool,
    /// The disk will lose power in the middle of a call: how.
    pub power_armed: Option<LoseUnsynced>,
    /// Leaves for an orderly stop.
    pub stopping: bool,
    /// Bytes that it had synced were changed: it may find so, and isn't counted on.
    pub decayed: bool,
    /// It is out for good.
    pub lost: Option<Lost>,
    /// What an operator could put back.
    pub copy: Option<Copy>,
}

impl Node {
    /// The node's own time.
    pub fn clock(&self, now: u64) -> MonotonicTime {
        MonotonicTime(now + self.clock_ahead)
    }
}

/// The id of a node, counted from 0 here.
pub fn id_of(node: usize) -> NodeId {
    NodeId(node as u32 + 1)
}

/// The name of a node, counted from 0 here.
pub fn name_of(node: usize) -> String {
    format!("n{}", node + 1)
}

/// The directory id of a node, counted from 0 here.
pub fn directory_of(node: usize) -> [u8; 16] {
    [node as u8 + 1; 16]
}

/// The node with this id, from 0.
pub fn number_of(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// The node of a replica, from 0.
pub fn node_of(replica: ReplicaId) -> usize {
    number_of(replica.node())
}
