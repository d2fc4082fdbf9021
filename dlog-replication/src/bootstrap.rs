//! The bootstrap set: from the names and directory ids of the nodes that form a cluster, everything that all of them must
//! agree on before there is a group 0 to ask.
//!
//! Every node computes it from the same set, so it is a pure function: node ids count the sorted names from 1, the cluster
//! id is a hash of the set, and the first nodes are group 0's voters.

use crate::command::{FoundCluster, FoundingMember};
use dlog_core::limits::{NODE_NAME_BYTES_MAX, NODES_MAX};
use dlog_core::{NodeId, ReplicaId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Goes into the hash first: a later form of the set gives another cluster id.
const DOMAIN: &[u8] = b"dlog bootstrap set 1";
/// Voters of group 0, at most: they outlive two failures; more would slow every change of the catalogue.
pub const GROUP_ZERO_VOTERS_MAX: usize = 5;
/// The number of a node's replica of group 0.
const GROUP_ZERO_NUMBER: u32 = 1;

/// Why a set can't form a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// Nobody is in it.
    #[error("the initial cluster names no node; write --initial-cluster n1=HOST:PORT,n2=HOST:PORT,…")]
    Empty,
    /// Too many are in it.
    #[error("the initial cluster names {0} nodes; allowed are 1 to {NODES_MAX}")]
    TooMany(usize),
    /// A name can't be a node's.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// A name is given twice.
    #[error("the initial cluster names {0:?} twice; give every node a name of its own")]
    NameTwice(String),
    /// Two nodes have one data directory.
    #[error("the nodes {0:?} and {1:?} have one directory id: one directory is a copy of the other; empty one of them")]
    DirectoryTwice(String, String),
}

/// Why a string can't name a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} can't name a node: write 1 to {NODE_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ -, not . or ..")]
pub struct NodeNameError {
    /// The string, cut.
    pub name: String,
}

/// Checks a node's name: 1 to [`NODE_NAME_BYTES_MAX`] of `[A-Za-z0-9._-]`, not `.` or `..`.
///
/// # Errors
/// [`NodeNameError`] if it isn't one.
pub fn check_node_name(name: &str) -> Result<(), NodeNameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let possible = (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != "..";
    match possible && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(NodeNameError { name: name[..name.floor_char_boundary(64)].to_owned() }),
    }
}

/// The nodes that form a cluster.
///
/// Invariants: not empty, at most [`NODES_MAX`]; names are valid; names and directory ids are distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapSet {
    directories: BTreeMap<String, [u8; 16]>,
}

/// One node of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place among the sorted names, from 1.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its directory id.
    pub directory: [u8; 16],
}

/// Group 0's first replicas: one on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupZero {
    /// Who votes.
    pub voters: Vec<ReplicaId>,
    /// Who only follows.
    pub learners: Vec<ReplicaId>,
}

impl BootstrapSet {
    /// A set from names and directory ids, in any order.
    ///
    /// # Errors
    /// [`BootstrapError`] says why these can't form a cluster.
    pub fn new(members: impl IntoIterator<Item = (String, [u8; 16])>) -> Result<BootstrapSet, BootstrapError> {
        let mut directories = BTreeMap::new();
        let mut names: BTreeMap<[u8; 16], String> = BTreeMap::new();
        for (name, directory) in members {
            check_node_name(&name)?;
            if directories.insert(name.clone(), directory).is_some() {
                return Err(BootstrapError::NameTwice(name));
            }
            if let Some(other) = names.insert(directory, name.clone()) {
                return Err(BootstrapError::DirectoryTwice(other, name));
            }
        }
        match directories.len() {
            0 => Err(BootstrapError::Empty),
            count if count > NODES_MAX => Err(BootstrapError::TooMany(count)),
            _ => Ok(BootstrapSet { directories }),
        }
    }

    /// The nodes, by id (and so by name).
    pub fn members(&self) -> impl Iterator<Item = Member> {
        (1u32..).zip(&self.directories).map(|(number, (name, &directory))| Member {
            node: NodeId(number),
            name: name.clone(),
            directory,
        })
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.directories.len()
    }

    /// The id of the node with this name.
    pub fn node_of(&self, name: &str) -> Option<NodeId> {
        self.members().find(|member| member.name == name).map(|member| member.node)
    }

    /// Does the set name this directory?
    pub fn names_directory(&self, directory: [u8; 16]) -> bool {
        self.directories.values().any(|&known| known == directory)
    }

    /// The bytes that are hashed: the domain, the number of nodes, then each name with its length, and its directory id.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend((self.directories.len() as u32).to_be_bytes());
        for (name, directory) in &self.directories {
            bytes.extend((name.len() as u32).to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(directory);
        }
        bytes
    }

    /// The cluster id: the first half of the SHA-256 of [`encode`](Self::encode).
    pub fn cluster_id(&self) -> [u8; 16] {
        let digest = Sha256::digest(self.encode());
        std::array::from_fn(|at| digest[at])
    }

    /// Group 0's first replicas. One node votes alone, from three nodes three vote, from five five: an even number of voters
    /// outlives no more failures than one fewer.
    pub fn group_zero(&self) -> GroupZero {
        let mut replicas: Vec<ReplicaId> = self.members().map(|member| group_zero_replica(member.node)).collect();
        let learners = replicas.split_off(voter_count(replicas.len()));
        GroupZero { voters: replicas, learners }
    }

    /// The first command of the cluster's catalogue.
    pub fn found_command(&self) -> FoundCluster {
        let member = |member: Member| FoundingMember {
            node: member.node.0,
            name: member.name,
            directory: member.directory.to_vec(),
        };
        FoundCluster { cluster: self.cluster_id().to_vec(), members: self.members().map(member).collect() }
    }
}

/// The replica of group 0 on a node of the bootstrap set.
pub const fn group_zero_replica(node: NodeId) -> ReplicaId {
    ReplicaId::new(node, GROUP_ZERO_NUMBER)
}

/// How many of so many nodes vote in group 0: the largest odd number, at most five.
pub const fn voter_count(nodes: usize) -> usize {
    if nodes >= GROUP_ZERO_VOTERS_MAX {
        GROUP_ZERO_VOTERS_MAX
    } else {
        nodes.saturating_sub(1) / 2 * 2 + if nodes > 0 { 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[&str]) -> BootstrapSet {
        let members = (1u8..).zip(names).map(|(number, name)| ((*name).to_owned(), [number; 16]));
        BootstrapSet::new(members).expect("valid")
    }

    #[test]
    fn ids_follow_the_names() {
        let set = set(&["n2", "n10", "n1"]);
        let members: Vec<(u32, String)> = set.members().map(|member| (member.node.0, member.name)).collect();
        assert_eq!(members, [(1, "n1".to_owned()), (2, "n10".to_owned()), (3, "n2".to_owned())]);
        assert_eq!(set.node_of("n2"), Some(NodeId(3)));
        assert_eq!(set.node_of("n3"), None);
        assert!(set.names_directory([2; 16]));
        assert!(!set.names_directory([9; 16]));
    }

    #[test]
    fn golden_cluster_id() {
        let set = set(&["n1", "n2"]);
        assert_eq!(set.encode().len(), DOMAIN.len() + 4 + 2 * (4 + 2 + 16));
        let hex: String = set.cluster_id().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "1c29a44065a9d226260ea53c7a99412d");
    }

    #[test]
    fn voters_are_one_three_or_five() {
        let counts: Vec<usize> = (0..8).map(voter_count).collect();
        assert_eq!(counts, [0, 1, 1, 3, 3, 5, 5, 5]);
        let group = set(&["a", "b", "c", "d"]).group_zero();
        assert_eq!(group.voters, [1, 2, 3].map(|node| ReplicaId::new(NodeId(node), 1)));
        assert_eq!(group.learners, [ReplicaId::new(NodeId(4), 1)]);
    }

    #[test]
    fn impossible_sets_are_refused() {
        let new = |members: &[(&str, u8)]| {
            BootstrapSet::new(members.iter().map(|(name, id)| ((*name).to_owned(), [*id; 16])))
        };
        assert_eq!(new(&[]), Err(BootstrapError::Empty));
        assert_eq!(new(&[("a", 1), ("a", 2)]), Err(BootstrapError::NameTwice("a".to_owned())));
        let copied = BootstrapError::DirectoryTwice("a".to_owned(), "b".to_owned());
        assert_eq!(new(&[("a", 1), ("b", 1)]), Err(copied));
        for name in ["", ".", "..", "a b", "é", &"a".repeat(254)] {
            assert!(matches!(new(&[(name, 1)]), Err(BootstrapError::Name(_))), "{name:?}");
        }
    }

    proptest! {
        /// Neither the order of the answers nor anything else but the set decides.
        #[test]
        fn the_order_does_not_matter(members in proptest::collection::btree_map("[a-z]{1,8}", any::<[u8; 16]>(), 1..8)) {
            let forward = BootstrapSet::new(members.clone());
            let backward = BootstrapSet::new(members.into_iter().rev());
            if let (Ok(forward), Ok(backward)) = (forward, backward) {
                prop_assert_eq!(forward.cluster_id(), backward.cluster_id());
                prop_assert_eq!(forward.found_command(), backward.found_command());
                prop_assert_eq!(&forward, &backward);
            }
        }

        /// Another directory or name gives another cluster.
        #[test]
        fn the_id_covers_everything(name in "[a-z]{1,8}", directory in any::<[u8; 16]>(), at in 0usize..16) {
            let one = BootstrapSet::new([(name.clone(), directory)]).expect("valid").cluster_id();
            let mut other = directory;
            other[at] ^= 1;
            prop_assert_ne!(BootstrapSet::new([(name.clone(), other)]).expect("valid").cluster_id(), one);
            prop_assert_ne!(BootstrapSet::new([(name + "x", directory)]).expect("valid").cluster_id(), one);
        }
    }
}
