//! Placement: the replica set of each partition of a new topic.
//!
//! Leaders first: they go round all nodes, those that lead least first, so that within a topic no node leads more than one
//! partition more than another. Then each partition takes, of the copysets that hold its leader, the one whose nodes hold
//! the fewest replicas. The answer depends on the catalogue alone.

use crate::catalogue::Catalogue;
use crate::copyset::{Candidate, Copysets, Fnv, SCATTER_WIDTH_DEFAULT};
use dlog_core::NodeId;
use std::collections::BTreeMap;

/// Why there is no placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A node holds at most one replica of a partition.
    #[error(
        "{replicas} replicas need as many nodes, the cluster has {nodes}; start more nodes or ask for fewer replicas \
         (--replicas {nodes})"
    )]
    NotEnoughNodes {
        /// How many replicas were asked for.
        replicas: u32,
        /// How many nodes there are.
        nodes: u32,
    },
    /// Nothing would hold the data.
    #[error("0 replicas hold no data; ask for at least one (--replicas 1)")]
    NoReplicas,
}

/// The nodes of each of `partitions` new partitions with `replicas` replicas; the first of each set should lead.
///
/// # Errors
/// [`PlacementError`] if there are fewer nodes than replicas, or no replicas.
pub fn place(catalogue: &Catalogue, partitions: u32, replicas: u32) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    let nodes = catalogue.nodes().len() as u32;
    if replicas == 0 {
        return Err(PlacementError::NoReplicas);
    }
    if nodes < replicas {
        return Err(PlacementError::NotEnoughNodes { replicas, nodes });
    }
    let copysets = copysets(catalogue, replicas);
    let mut load = Load::of(catalogue);
    let leaders = load.nodes_by_leaderships(catalogue);
    let mut sets_of: BTreeMap<NodeId, Vec<&[NodeId]>> = BTreeMap::new();
    for set in copysets.sets() {
        set.iter().for_each(|&node| sets_of.entry(node).or_default().push(set));
    }
    let mut placed = Vec::with_capacity(partitions as usize);
    for (partition, &leader) in (0..partitions as usize).zip(leaders.iter().cycle()) {
        let sets = sets_of.get(&leader).map_or(&[][..], Vec::as_slice);
        // Of equal sets another one is first each time round, so that a leader's partitions don't share one.
        let first = partition / leaders.len();
        let rotated = (0..sets.len()).map(|at| sets[(first + at) % sets.len()]);
        let set = rotated.min_by_key(|set| load.replicas_of(set)).unwrap_or_default();
        placed.push(load.take(leader, set));
    }
    Ok(placed)
}

/// The copysets of this catalogue's nodes for a number of replicas.
pub fn copysets(catalogue: &Catalogue, replicas: u32) -> Copysets {
    let candidates: Vec<Candidate> =
        catalogue.nodes().map(|info| Candidate { node: info.node, rack: info.rack.clone() }).collect();
    Copysets::generate(&candidates, replicas as usize, SCATTER_WIDTH_DEFAULT)
}

/// What each node has to carry, with what was placed so far.
struct Load {
    replicas: BTreeMap<NodeId, u64>,
    leaderships: BTreeMap<NodeId, u64>,
}

impl Load {
    fn of(catalogue: &Catalogue) -> Load {
        let zero: BTreeMap<NodeId, u64> = catalogue.nodes().map(|info| (info.node, 0)).collect();
        let mut load = Load { replicas: zero.clone(), leaderships: zero };
        for partition in catalogue.partitions() {
            *load.leaderships.entry(partition.preferred.node()).or_default() += 1;
            for replica in &partition.intended {
                *load.replicas.entry(replica.node()).or_default() += 1;
            }
        }
        load
    }

    /// All nodes, those that should lead the fewest partitions first; equals in an order that differs from topic to topic.
    fn nodes_by_leaderships(&self, catalogue: &Catalogue) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = catalogue.nodes().map(|info| info.node).collect();
        let mut seed = Fnv::new();
        seed.add(&(catalogue.partitions().len() as u64).to_le_bytes());
        nodes.iter().for_each(|node| seed.add(&node.0.to_le_bytes()));
        fastrand::Rng::with_seed(seed.0).shuffle(&mut nodes);
        nodes.sort_by_key(|node| self.leaderships.get(node).copied().unwrap_or_default());
        nodes
    }

    /// How loaded a set is: its most loaded node first, then all of them.
    fn replicas_of(&self, set: &[NodeId]) -> (u64, u64) {
        let loads = set.iter().filter_map(|node| self.replicas.get(node).copied());
        loads.fold((0, 0), |(most, all), load| (most.max(load), all + load))
    }

    /// Puts a partition on `set`: the leader first, the others after it in the set's order.
    fn take(&mut self, leader: NodeId, set: &[NodeId]) -> Vec<NodeId> {
        set.iter().for_each(|&node| *self.replicas.entry(node).or_default() += 1);
        let at = set.iter().position(|&node| node == leader).unwrap_or_default();
        set[at..].iter().chain(&set[..at]).copied().collect()
    }
}

#[cfg(test)]
mod tests;
