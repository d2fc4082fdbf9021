//! The nodes of the cluster: their names, where they are reached, and the numbers of their replicas.

use super::state::{Changes, Key, NodeValue};
use crate::bootstrap::check_node_name;
use crate::command::{FoundingMember, RegisterNode};
use crate::outcome::{CommandOutcome, Rejection, RejectionCode, shown};
use dlog_core::limits::{ADDRESS_BYTES_MAX, NODE_NAME_BYTES_MAX, NODES_MAX, SHARDS_MAX};
use dlog_core::{NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a directory id.
pub const DIRECTORY_ID_BYTES: usize = 16;
/// Bytes of a node's version string: shown to people, compared for equality.
const VERSION_BYTES_MAX: usize = 64;
/// The number of the first replica that the catalogue gives on a node: 1 is its replica of group 0.
const FIRST_REPLICA_NUMBER: u32 = 2;

/// What the catalogue knows of one node.
///
/// Invariants: `node` and `name` never change; `boot` never goes back; `directory`, once known, stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, from 1.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its rack, or nothing: then it is a rack of its own.
    pub rack: Option<String>,
    /// `HOST:PORT` for clients; empty until it has registered.
    pub client_address: String,
    /// `HOST:PORT` for other nodes; empty until it has registered.
    pub peer_address: String,
    /// The version of its software; empty until it has registered.
    pub version: String,
    /// Its number of shards; 0 until it has registered.
    pub shards: u32,
    /// Its boot number; 0 until it has registered.
    pub boot: u64,
    /// Its directory id, if it was told.
    pub directory: Option<[u8; DIRECTORY_ID_BYTES]>,
    next_replica: u32,
}

impl NodeInfo {
    fn new(node: NodeId, name: &str) -> NodeInfo {
        NodeInfo {
            node,
            name: name.to_owned(),
            rack: None,
            client_address: String::new(),
            peer_address: String::new(),
            version: String::new(),
            shards: 0,
            boot: 0,
            directory: None,
            next_replica: FIRST_REPLICA_NUMBER,
        }
    }

    /// Has the node itself registered (or is it only known from the bootstrap set)?
    pub fn is_registered(&self) -> bool {
        self.boot > 0
    }

    /// The number that the next replica on this node gets.
    pub fn next_replica(&self) -> u32 {
        self.next_replica
    }
}

/// All nodes.
///
/// Invariant: `by_name` holds the same nodes as `by_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    by_id: BTreeMap<NodeId, NodeInfo>,
    by_name: BTreeMap<String, NodeId>,
}

impl Nodes {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&NodeInfo> {
        self.by_id.get(&node)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|node| self.by_id.get(node))
    }

    pub(crate) fn load(&mut self, node: NodeId, value: NodeValue) -> Result<(), String> {
        let directory = match value.directory.as_slice() {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| "a directory id has 16 bytes".to_owned())?),
        };
        let info = NodeInfo {
            node,
            name: value.name,
            rack: Some(value.rack).filter(|rack| !rack.is_empty()),
            client_address: value.client_address,
            peer_address: value.peer_address,
            version: value.version,
            shards: value.shards,
            boot: value.boot,
            directory,
            next_replica: value.next_replica,
        };
        self.by_name.insert(info.name.clone(), node);
        self.by_id.insert(node, info);
        Ok(())
    }

    pub(crate) fn save_all(&self, changes: &mut Changes) {
        for info in self.by_id.values() {
            put(info, changes);
        }
    }

    fn insert(&mut self, info: NodeInfo, changes: &mut Changes) {
        put(&info, changes);
        self.by_name.insert(info.name.clone(), info.node);
        self.by_id.insert(info.node, info);
    }

    /// Enters the bootstrap set. Nodes that registered before must be in it.
    pub(crate) fn found(&mut self, members: &[FoundingMember], changes: &mut Changes) -> Result<(), Rejection> {
        if members.is_empty() || members.len() > NODES_MAX {
            let message = format!("a bootstrap set has 1 to {NODES_MAX} nodes, this one has {}", members.len());
            return Err(Rejection::new(RejectionCode::InvalidNode, message));
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut infos = Vec::with_capacity(members.len());
        for member in members {
            let node = NodeId(member.node);
            check_name(node, &member.name)?;
            let Ok(directory) = <[u8; DIRECTORY_ID_BYTES]>::try_from(member.directory.as_slice()) else {
                return Err(Rejection::new(RejectionCode::InvalidNode, "a directory id has 16 bytes"));
            };
            if !ids.insert(node) || !names.insert(member.name.as_str()) {
                let message = format!("node {} ({}) stands twice in the bootstrap set", node, shown(&member.name));
                return Err(Rejection::new(RejectionCode::NodeConflict, message));
            }
            self.check_known(node, &member.name, Some(directory))?;
            let mut info = self.get(node).cloned().unwrap_or_else(|| NodeInfo::new(node, &member.name));
            info.directory = Some(directory);
            infos.push(info);
        }
        if let Some(stranger) = self.by_id.values().find(|info| !ids.contains(&info.node)) {
            let message = format!("node {} is registered but not in the bootstrap set", stranger.name);
            return Err(Rejection::new(RejectionCode::NodeConflict, message));
        }
        infos.into_iter().for_each(|info| self.insert(info, changes));
        Ok(())
    }

    /// Registers a node. Once the cluster is `founded`, only a node of its set can.
    pub(crate) fn register(
        &mut self,
        register: &RegisterNode,
        founded: bool,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        let node = NodeId(register.node);
        check_name(node, &register.name)?;
        check_register(register)?;
        let directory = <[u8; DIRECTORY_ID_BYTES]>::try_from(register.directory.as_slice()).ok();
        self.check_known(node, &register.name, directory)?;
        let known = self.get(node);
        if known.is_none() && founded {
            let message = format!("node {} ({}) is not a node of this cluster", node, shown(&register.name));
            return Err(Rejection::new(RejectionCode::NodeConflict, message));
        }
        if known.is_none() && self.by_id.len() >= NODES_MAX {
            let message = format!("the cluster has {NODES_MAX} nodes, which is the limit");
            return Err(Rejection::new(RejectionCode::LimitReached, message));
        }
        if let Some(boot) = known.map(|info| info.boot).filter(|&boot| register.boot < boot) {
            let message = format!(
                "node {} registers with boot {}, but boot {boot} did before; is a copy of its data directory running?",
                register.name, register.boot
            );
            return Err(Rejection::new(RejectionCode::StaleBoot, message));
        }
        let mut info = known.cloned().unwrap_or_else(|| NodeInfo::new(node, &register.name));
        info.rack = Some(register.rack.clone()).filter(|rack| !rack.is_empty());
        info.client_address.clone_from(&register.client_address);
        info.peer_address.clone_from(&register.peer_address);
        info.version.clone_from(&register.version);
        info.shards = register.shards;
        info.boot = register.boot;
        info.directory = directory.or(info.directory);
        self.insert(info, changes);
        Ok(CommandOutcome::NodeRegistered { node })
    }

    /// Do id, name and directory belong together, as far as they are known?
    fn check_known(
        &self,
        node: NodeId,
        name: &str,
        directory: Option<[u8; DIRECTORY_ID_BYTES]>,
    ) -> Result<(), Rejection> {
        let conflict = |message: String| Err(Rejection::new(RejectionCode::NodeConflict, message));
        if let Some(other) = self.by_name(name).filter(|other| other.node != node) {
            return conflict(format!("the name {} belongs to node {}; choose another --name", shown(name), other.node));
        }
        let Some(known) = self.get(node) else { return Ok(()) };
        if known.name != name {
            return conflict(format!("node {node} is named {}, not {}", shown(&known.name), shown(name)));
        }
        match (known.directory, directory) {
            (Some(one), Some(other)) if one != other => conflict(format!(
                "node {name} is known with another data directory; a wiped or copied directory is a new node"
            )),
            _ => Ok(()),
        }
    }

    /// Are all nodes of these sets known, with a number left for each new replica?
    pub(crate) fn check_replicas(&self, sets: &[Vec<NodeId>]) -> Result<(), Rejection> {
        let mut wanted: BTreeMap<NodeId, u32> = BTreeMap::new();
        sets.iter().flatten().for_each(|&node| *wanted.entry(node).or_default() += 1);
        for (node, count) in wanted {
            if self.get(node).and_then(|info| info.next_replica.checked_add(count)).is_none() {
                let message = format!("node {node} has no replica ids left");
                return Err(Rejection::new(RejectionCode::LimitReached, message));
            }
        }
        Ok(())
    }

    /// Gives every member of every set its replica id. [`check_replicas`](Self::check_replicas) went before.
    pub(crate) fn take_replicas(&mut self, sets: &[Vec<NodeId>], changes: &mut Changes) -> Vec<Vec<ReplicaId>> {
        let mut take = |node: NodeId| {
            let info = self.by_id.get_mut(&node).expect("check_replicas found every node");
            let replica = ReplicaId::new(node, info.next_replica);
            info.next_replica += 1;
            replica
        };
        let replicas = sets.iter().map(|set| set.iter().map(|&node| take(node)).collect()).collect();
        let touched: BTreeSet<NodeId> = sets.iter().flatten().copied().collect();
        touched.iter().filter_map(|&node| self.get(node)).for_each(|info| put(info, changes));
        replicas
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.by_name.len() != self.by_id.len() {
            return Err("two nodes have one name".to_owned());
        }
        for info in self.by_id.values() {
            if check_name(info.node, &info.name).is_err() || info.next_replica < FIRST_REPLICA_NUMBER {
                return Err(format!("node {} has a name or a replica number that is not possible", info.node));
            }
        }
        Ok(())
    }
}

fn put(info: &NodeInfo, changes: &mut Changes) {
    let value = NodeValue {
        name: info.name.clone(),
        rack: info.rack.clone().unwrap_or_default(),
        client_address: info.client_address.clone(),
        peer_address: info.peer_address.clone(),
        version: info.version.clone(),
        shards: info.shards,
        boot: info.boot,
        directory: info.directory.map(Vec::from).unwrap_or_default(),
        next_replica: info.next_replica,
    };
    changes.put(Key::Node(info.node), &value);
}

fn check_name(node: NodeId, name: &str) -> Result<(), Rejection> {
    if node.0 == 0 {
        return Err(Rejection::new(RejectionCode::InvalidNode, "node ids begin at 1"));
    }
    check_node_name(name).map_err(|error| Rejection::new(RejectionCode::InvalidNode, error.to_string()))
}

fn check_register(register: &RegisterNode) -> Result<(), Rejection> {
    let invalid = |message: String| Err(Rejection::new(RejectionCode::InvalidNode, message));
    let printable = |text: &str| text.chars().all(|c| !c.is_control());
    for (what, address) in [("client", &register.client_address), ("peer", &register.peer_address)] {
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX || !printable(address) {
            return invalid(format!(
                "the {what} address {} is not possible: write HOST:PORT, at most {ADDRESS_BYTES_MAX} bytes",
                shown(address)
            ));
        }
    }
    if register.rack.len() > NODE_NAME_BYTES_MAX || !printable(&register.rack) {
        return invalid(format!(
            "the rack {} is not a name of at most {NODE_NAME_BYTES_MAX} bytes",
            shown(&register.rack)
        ));
    }
    if register.version.len() > VERSION_BYTES_MAX || !printable(&register.version) {
        return invalid(format!("the version {} is not possible", shown(&register.version)));
    }
    if !(1..=u32::from(SHARDS_MAX)).contains(&register.shards) {
        return invalid(format!("{} shards are not possible; allowed are 1 to {SHARDS_MAX}", register.shards));
    }
    if register.boot == 0 {
        return invalid("boot numbers begin at 1".to_owned());
    }
    if !register.directory.is_empty() && register.directory.len() != DIRECTORY_ID_BYTES {
        return invalid("a directory id has 16 bytes".to_owned());
    }
    Ok(())
}
