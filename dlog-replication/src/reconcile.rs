//! What one node has to do so that its replicas are those that the catalogue intends: a plan, computed and not carried out.
//!
//! Intent only ever starts replicas. A replica is deleted only when the catalogue *says* that its topic was deleted, above
//! the index at which the replica was intended; a log that the catalogue doesn't know is left alone, since the catalogue of a
//! node that lags (or was lost) doesn't know the newest.

use crate::catalogue::{Catalogue, PartitionInfo};
use crate::settings::TopicSettings;
use dlog_core::{LogId, LogIndex, NodeId, PartitionIndex, ReplicaId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// A replica that stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReplica {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log; group 0's is left alone.
    pub log: LogId,
    /// From its create record.
    pub intent: LogIndex,
    /// The settings that it runs with; `None` if none were given to it since the node's start.
    pub settings: Option<TopicSettings>,
}

/// What to do. Actions of one plan may be carried out in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAction {
    /// Start a replica that this node never had.
    Start(StartReplica),
    /// Give a running replica its topic's settings.
    Configure {
        /// The replica.
        replica: ReplicaId,
        /// Its topic's settings.
        settings: TopicSettings,
    },
    /// Delete a replica with its files, for good.
    Delete {
        /// The replica.
        replica: ReplicaId,
        /// Its log.
        log: LogId,
    },
}

/// All that a new replica is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReplica {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: PartitionIndex,
    /// The voters that the partition was created with.
    pub voters: Vec<ReplicaId>,
    /// The group 0 index that intended it; goes into its create record.
    pub intent: LogIndex,
    /// Should it lead? Then it campaigns at once, so that the others needn't wait for a timeout.
    pub preferred: bool,
    /// Its topic's settings.
    pub settings: TopicSettings,
}

/// What `node` has to do. `local` is every replica that stands there; `marks` are replicas that it once had and must never
/// start again (deleted or retired ones).
pub fn plan(
    catalogue: &Catalogue,
    node: NodeId,
    local: &[LocalReplica],
    marks: &BTreeSet<ReplicaId>,
) -> Vec<LocalAction> {
    let standing: BTreeMap<ReplicaId, &LocalReplica> = local.iter().map(|local| (local.replica, local)).collect();
    let mut actions = Vec::new();
    for (replica, partition) in catalogue.replicas_on(node) {
        let Some(topic) = catalogue.topic(partition.topic) else { continue };
        match standing.get(&replica) {
            Some(local) if local.settings.as_ref() == Some(&topic.settings) => {}
            Some(_) => actions.push(LocalAction::Configure { replica, settings: topic.settings.clone() }),
            None if marks.contains(&replica) => {}
            None => actions.push(LocalAction::Start(start(replica, partition, topic.settings.clone()))),
        }
    }
    let deleted = standing.values().filter(|local| is_deleted(catalogue, local));
    actions.extend(deleted.map(|local| LocalAction::Delete { replica: local.replica, log: local.log }));
    actions
}

fn start(replica: ReplicaId, partition: &PartitionInfo, settings: TopicSettings) -> StartReplica {
    StartReplica {
        replica,
        log: partition.log,
        topic: partition.topic,
        partition: partition.index,
        voters: partition.creation.clone(),
        intent: partition.intent,
        preferred: partition.preferred == replica,
        settings,
    }
}

fn is_deleted(catalogue: &Catalogue, local: &LocalReplica) -> bool {
    local.log != LogId::GROUP_ZERO && catalogue.deleted_at(local.log).is_some_and(|at| at > local.intent)
}

#[cfg(test)]
mod tests;
