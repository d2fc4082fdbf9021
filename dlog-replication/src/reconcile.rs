//! What one node has to do so that its replicas are those that the catalogue intends: a plan, computed and not carried out.
//!
//! Intent only ever starts replicas; those of the last confirmed set are started too, for the log may need their majority. A
//! replica is deleted only when the catalogue *says* so, above the index at which it was intended: its topic was deleted, or its
//! partition's leader has confirmed a set without it. A log that the catalogue doesn't know is left alone, since the catalogue of a
//! node that lags (or was lost) doesn't know the newest.

use crate::catalogue::{Catalogue, PartitionInfo, TopicInfo};
use crate::intent::Intent;
use crate::settings::TopicSettings;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogId, LogIndex, NodeId, PartitionIndex, ReplicaId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// A replica that stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReplica {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log; group 0's is only ever told its intent.
    pub log: LogId,
    /// From its create record.
    pub intent: LogIndex,
    /// The settings that it runs with; `None` if none were given to it since the node's start.
    pub settings: Option<TopicSettings>,
    /// The version of the intent that it was last told since the node's start, and whether that was confirmed.
    pub told: Option<(LogIndex, bool)>,
}

impl LocalReplica {
    /// One that was told nothing since the node's start.
    pub fn untold(replica: ReplicaId, log: LogId, intent: LogIndex) -> LocalReplica {
        LocalReplica { replica, log, intent, settings: None, told: None }
    }

    /// One that is started so.
    pub fn started(start: &StartReplica) -> LocalReplica {
        let settings = Some(start.settings.clone());
        LocalReplica { settings, ..LocalReplica::untold(start.replica, start.log, start.intent) }
    }
}

/// What to do, in the order given: a replica goes before another one of the same log comes.
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
    /// Tell a replica what is wanted of its log's membership.
    Intend {
        /// The replica.
        replica: ReplicaId,
        /// The newest intent.
        intent: Intent,
    },
    /// Delete a replica with its files, for good.
    Delete {
        /// The replica.
        replica: ReplicaId,
        /// Its log.
        log: LogId,
        /// The group 0 index as of which the catalogue says so.
        ended: LogIndex,
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
    /// The group 0 index that created it: the intent of those voters.
    pub created: LogIndex,
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
    let ended = catalogue.applied();
    let gone = local.iter().filter(|local| is_out_of_use(catalogue, local));
    let mut actions: Vec<LocalAction> =
        gone.map(|local| LocalAction::Delete { replica: local.replica, log: local.log, ended }).collect();
    for (replica, partition) in catalogue.replicas_on(node) {
        let Some(topic) = catalogue.topic(partition.topic) else { continue };
        match standing.get(&replica) {
            Some(local) if local.settings.as_ref() == Some(&topic.settings) => {}
            Some(_) => actions.push(LocalAction::Configure { replica, settings: topic.settings.clone() }),
            None if marks.contains(&replica) => {}
            None => {
                actions.push(LocalAction::Start(start(replica, partition, topic)));
                let intent = Intent::of(catalogue, partition.log);
                actions.extend(intent.map(|intent| LocalAction::Intend { replica, intent }));
            }
        }
    }
    actions.extend(local.iter().filter_map(|local| tell(catalogue, local)));
    actions
}

/// What a replica is to be told of its log's intent, if it doesn't know.
fn tell(catalogue: &Catalogue, local: &LocalReplica) -> Option<LocalAction> {
    let newest = match local.log {
        LogId::GROUP_ZERO => {
            let metadata = catalogue.metadata_voters();
            (metadata.intent, metadata.is_confirmed())
        }
        log => {
            let partition = catalogue.partition_of_log(log).filter(|known| known.holders.contains(&local.replica))?;
            (partition.intent, partition.is_confirmed())
        }
    };
    if local.told == Some(newest) {
        return None;
    }
    let intent = Intent::of(catalogue, local.log)?;
    Some(LocalAction::Intend { replica: local.replica, intent })
}

fn start(replica: ReplicaId, partition: &PartitionInfo, topic: &TopicInfo) -> StartReplica {
    StartReplica {
        replica,
        log: partition.log,
        topic: partition.topic,
        partition: partition.index,
        voters: partition.creation.clone(),
        created: topic.created_at,
        intent: partition.intent,
        preferred: partition.preferred == replica,
        settings: topic.settings.clone(),
    }
}

fn is_out_of_use(catalogue: &Catalogue, local: &LocalReplica) -> bool {
    if local.log == LogId::GROUP_ZERO {
        return false;
    }
    let deleted = catalogue.deleted_at(local.log).is_some_and(|at| at > local.intent);
    // The holders are fewer only by a confirmation of the newest intent, and no id comes back.
    let partition = catalogue.partition_of_log(local.log).filter(|_| catalogue.applied() > local.intent);
    if mutants::is(Mutant::DeletedOnIntent) {
        return deleted || partition.is_some_and(|known| !known.intended.contains(&local.replica));
    }
    deleted || partition.is_some_and(|known| !known.holders.contains(&local.replica))
}

#[cfg(test)]
mod tests;
