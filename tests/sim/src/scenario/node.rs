//! `Node` of a scenario: a disk that outlives its processes, and at most one process.

use super::requests::Asked;
use dlog_consensus::{FetchId, Host, WriteId};
use dlog_core::write::ReplicaWrite;
use dlog_core::{LogIndex, NodeId, ReplicaId, RequestId, Term};
use dlog_storage::{
    Boot, BootTable, BootstrapMember, ClusterId, DirectoryId, GroupNumber, Identity, ShardStore, SimDisk,
    SimDiskOptions,
};
use std::collections::BTreeMap;

/// The cluster's name.
pub const CLUSTER: ClusterId = ClusterId([0x5c; 16]);

/// Old frames that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// Who wants them.
    pub replica: ReplicaId,
    /// Names the answer.
    pub fetch: FetchId,
    /// The first.
    pub from: LogIndex,
    /// The one to stop before.
    pub to: LogIndex,
    /// Bytes at most.
    pub max_bytes: u64,
    /// For whom.
    pub peer: ReplicaId,
}

/// A running process.
pub struct Process {
    /// Its replicas.
    pub host: Host,
    /// Its files.
    pub store: ShardStore<SimDisk>,
    /// Said, but not yet durable.
    pub writes: Vec<(WriteId, ReplicaWrite)>,
    /// Frames to read for peers that lag.
    pub fetches: Vec<Fetch>,
    /// Who waits for an answer.
    pub waiting: BTreeMap<RequestId, Asked>,
    /// The next request's id.
    pub next_request: u64,
    /// The boots that were admitted in this life, and those that were told to go away.
    pub met: BTreeMap<u32, (Boot, bool)>,
}

/// A node.
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Outlives its processes.
    pub disk: SimDisk,
    /// As on its disk, with the latest boot.
    pub identity: Identity,
    /// What its last start recovered.
    pub recovered: GroupNumber,
    /// The boots it has seen, as on its disk, and what it was told in this life.
    pub boots: BootTable,
    /// The running process.
    pub process: Option<Process>,
    /// Neither ticks nor takes anything, until it is resumed.
    pub paused: bool,
    /// Syncs only when a command says so.
    pub slow: bool,
    /// The highest term it has answered or led in: a promise that must outlive its process.
    pub told: BTreeMap<ReplicaId, Term>,
    /// A copy of its directory.
    pub copy: Option<SimDisk>,
    /// Counts its lives and its disks, so that no two use the same seed.
    pub lives: u64,
}

impl Node {
    /// A node with an empty disk.
    pub fn new(id: u32) -> Node {
        let disk = SimDisk::new(SimDiskOptions { seed: u64::from(id), ..SimDiskOptions::default() });
        Node {
            id,
            disk,
            identity: Identity::new(&name(id), 1, directory(id, 0)),
            recovered: GroupNumber(0),
            boots: BootTable::default(),
            process: None,
            paused: false,
            slow: false,
            told: BTreeMap::new(),
            copy: None,
            lives: 0,
        }
    }

    /// Gives a node that was just made its place in the cluster of these nodes, on disk too.
    ///
    /// # Errors
    /// The disk's.
    pub fn join(&mut self, nodes: &[u32]) -> Result<(), String> {
        self.identity.cluster = CLUSTER;
        self.identity.node = NodeId(self.id);
        let member = |id: &u32| BootstrapMember { name: name(*id), directory: directory(*id, 0) };
        self.identity.bootstrap = nodes.iter().map(member).collect();
        self.identity.save(&self.disk, "").map_err(|error| error.to_string())
    }
}

/// A node's name.
pub fn name(id: u32) -> String {
    format!("node-{id}")
}

/// The id of a node's directory; a wiped node has another.
pub fn directory(id: u32, wiped: u8) -> DirectoryId {
    let mut bytes = [wiped; 16];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    DirectoryId(bytes)
}
