//! What is known of the cluster from outside: the newest catalogue that any node has, and every placement that any one ever named.

use crate::node::node_of;
use dlog_core::{LogId, NodeId, PartitionIndex, ReplicaId, TopicId};
use dlog_replication::Catalogue;
use dlog_replication::bootstrap::group_zero_replica;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The cluster as clients know it.
///
/// Invariants: a replica id is of one log for ever, a log of one partition.
#[derive(Debug, Default)]
pub struct Directory {
    group_zero: Vec<ReplicaId>,
    newest: Rc<Catalogue>,
    placed: BTreeMap<ReplicaId, LogId>,
    logs: BTreeMap<LogId, (TopicId, PartitionIndex)>,
}

impl Directory {
    /// Before anything is known but the nodes.
    pub fn new(nodes: usize) -> Directory {
        let group_zero: Vec<ReplicaId> = (1..=nodes as u32).map(|node| group_zero_replica(NodeId(node))).collect();
        let placed = group_zero.iter().map(|replica| (*replica, LogId::GROUP_ZERO)).collect();
        Directory { group_zero, placed, ..Directory::default() }
    }

    /// A node has this catalogue. Whether it is the newest so far.
    ///
    /// # Errors
    /// If it gives an id to something else than was said before.
    pub fn see(&mut self, catalogue: &Rc<Catalogue>) -> Result<bool, String> {
        if catalogue.applied() <= self.newest.applied() {
            return Ok(false);
        }
        for partition in catalogue.partitions() {
            let place = (partition.topic, partition.index);
            if *self.logs.entry(partition.log).or_insert(place) != place {
                return Err(format!("log {} was of another partition than {place:?}", partition.log));
            }
            for replica in &partition.holders {
                if *self.placed.entry(*replica).or_insert(partition.log) != partition.log {
                    return Err(format!("replica id {replica} was of another log than {}", partition.log));
                }
            }
        }
        self.newest = Rc::clone(catalogue);
        Ok(true)
    }

    /// The newest catalogue.
    pub fn catalogue(&self) -> &Rc<Catalogue> {
        &self.newest
    }

    /// The log that a replica is, or was, of.
    pub fn log_of(&self, replica: ReplicaId) -> Option<LogId> {
        self.placed.get(&replica).copied()
    }

    /// The logs of the topics that there are.
    pub fn logs(&self) -> Vec<LogId> {
        self.newest.partitions().map(|partition| partition.log).collect()
    }

    /// Whether a log's topic is deleted.
    pub fn is_deleted(&self, log: LogId) -> bool {
        self.newest.was_deleted(log)
    }

    /// The replicas that a log should have; none if its topic is deleted.
    pub fn replicas_of(&self, log: LogId) -> &[ReplicaId] {
        if log == LogId::GROUP_ZERO {
            return &self.group_zero;
        }
        self.newest.partition_of_log(log).map_or(&[], |partition| &partition.intended)
    }

    /// Whether a log's members are surely those that it should have.
    pub fn is_settled(&self, log: LogId) -> bool {
        if log == LogId::GROUP_ZERO {
            return self.newest.metadata_voters().is_confirmed();
        }
        self.newest.partition_of_log(log).is_none_or(dlog_replication::catalogue::PartitionInfo::is_confirmed)
    }

    /// The nodes that vote, or should vote, in group 0.
    pub fn metadata_voters(&self) -> Vec<usize> {
        self.newest.metadata_voters().replicas().into_iter().map(node_of).collect()
    }

    /// The nodes that should hold a log.
    pub fn nodes_of(&self, log: LogId) -> Vec<usize> {
        self.replicas_of(log).iter().map(|replica| node_of(*replica)).collect()
    }
}
