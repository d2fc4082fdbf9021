//! Who should hold a partition from now on: intents, and what the partition's leader confirms of them.
//!
//! An intent says which replicas a partition should have. It only ever starts replicas. The partition's leader drives its log
//! there and confirms the very intent; only then is a replica that is not intended out of use for good. A replica whose id
//! no set names any more is never named again, so a node may delete it whenever it sees that.

use super::{PartitionInfo, Topics, put_partition};
use crate::catalogue::nodes::Nodes;
use crate::catalogue::state::Changes;
use crate::command::{ConfirmReplicas, SetReplicas};
use crate::outcome::{CommandOutcome, Rejection, RejectionCode};
use dlog_core::limits::REPLICAS_PER_PARTITION_MAX;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogId, LogIndex, NodeId, PartitionIndex, ReplicaId, TopicId};
use std::collections::BTreeSet;

/// A `SetReplicas` that was found possible.
pub(crate) struct IntentPlan {
    place: (TopicId, PartitionIndex),
    nodes: Vec<NodeId>,
    /// Those of `nodes` that hold no replica of the partition.
    pub(crate) fresh: Vec<NodeId>,
}

impl Topics {
    /// Is the command possible? `None`: the set is intended already.
    pub(crate) fn check_set_replicas(&self, set: &SetReplicas, nodes: &Nodes) -> Result<Option<IntentPlan>, Rejection> {
        let reject = |code, message: String| Err(Rejection::new(code, message));
        let place = (TopicId(set.topic), PartitionIndex(set.partition));
        let Some(partition) = self.partition(place.0, place.1) else {
            let message = format!("there is no partition {} of a topic with id {}; was it deleted?", place.1, place.0);
            return reject(RejectionCode::UnknownTopic, message);
        };
        if set.intent != 0 && set.intent != partition.intent.0 {
            let message = format!(
                "the replicas of partition {} were changed meanwhile (intent {}); look at them and decide anew",
                place.1, partition.intent
            );
            return reject(RejectionCode::StaleIntent, message);
        }
        let wanted: Vec<NodeId> = set.nodes.iter().copied().map(NodeId).collect();
        let distinct: BTreeSet<NodeId> = wanted.iter().copied().collect();
        if wanted.is_empty() || wanted.len() > REPLICAS_PER_PARTITION_MAX as usize || distinct.len() != wanted.len() {
            let message =
                format!("name 1 to {REPLICAS_PER_PARTITION_MAX} nodes, each once, for a partition's replicas");
            return reject(RejectionCode::InvalidArgument, message);
        }
        if let Some(stranger) = wanted.iter().find(|node| nodes.get(**node).is_none()) {
            return reject(
                RejectionCode::InvalidArgument,
                format!("there is no node {stranger}; see `dlog node list`"),
            );
        }
        let intended: BTreeSet<NodeId> = partition.intended.iter().map(|replica| replica.node()).collect();
        if intended == distinct {
            return Ok(None);
        }
        let fresh = wanted.iter().copied().filter(|node| partition.holder_on(*node).is_none()).collect();
        Ok(Some(IntentPlan { place, nodes: wanted, fresh }))
    }

    /// What the maker of a `SetReplicas` is told of a set that is intended already.
    pub(crate) fn intended_already(&self, set: &SetReplicas) -> CommandOutcome {
        let known = self.partition(TopicId(set.topic), PartitionIndex(set.partition)).map(|partition| partition.intent);
        CommandOutcome::ReplicasIntended { intent: known.unwrap_or_default() }
    }

    /// Makes the intent of `index`. `fresh` are the new replicas' ids, as the plan names their nodes.
    pub(crate) fn set_replicas(
        &mut self,
        index: LogIndex,
        plan: &IntentPlan,
        fresh: &[ReplicaId],
        changes: &mut Changes,
    ) -> CommandOutcome {
        let before = self.partitions.get(&plan.place).cloned().expect("check_set_replicas found it");
        let mut after = before.clone();
        let new = |node: NodeId| fresh.iter().copied().find(|replica| replica.node() == node);
        let id = |node: &NodeId| before.holder_on(*node).or_else(|| new(*node)).expect("each fresh node got an id");
        after.intended = plan.nodes.iter().map(id).collect();
        after.intent = index;
        after.holders.extend(fresh);
        after.holders.sort_unstable();
        if !after.intended.contains(&after.preferred) {
            after.preferred = after.intended[0];
        }
        self.replace_partition(&before, after, changes);
        CommandOutcome::ReplicasIntended { intent: index }
    }

    /// Takes a leader's word that its log's members are those of the newest intent.
    pub(crate) fn confirm_replicas(
        &mut self,
        confirm: &ConfirmReplicas,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        let log = LogId(confirm.log);
        let Some(before) = self.partition_of_log(log).cloned() else {
            let message = format!("log {log} is no partition's; was its topic deleted?");
            return Err(Rejection::new(RejectionCode::UnknownTopic, message));
        };
        check_confirm(confirm, before.intent, before.confirmed_membership, &before.intended)?;
        let mut after = before.clone();
        after.confirmed = before.intended.clone();
        after.confirmed_intent = before.intent;
        after.confirmed_membership = LogIndex(confirm.membership);
        after.holders = before.intended.clone();
        after.holders.sort_unstable();
        if after != before {
            self.replace_partition(&before, after, changes);
        }
        Ok(CommandOutcome::ReplicasConfirmed { intent: before.intent })
    }

    fn replace_partition(&mut self, before: &PartitionInfo, after: PartitionInfo, changes: &mut Changes) {
        self.unindex_partition(before);
        self.index_partition(&after);
        put_partition(&after, changes);
        self.partitions.insert((after.topic, after.index), after);
    }
}

impl PartitionInfo {
    /// The replica on `node` that may still stand, intended or not.
    pub fn holder_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.holders.iter().copied().find(|replica| replica.node() == node)
    }

    /// Whether the leader has confirmed the newest intent.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed_intent == self.intent
    }
}

/// Does a confirmation speak of the newest intent, with the members it asks for, and not from the past?
pub(crate) fn check_confirm(
    confirm: &ConfirmReplicas,
    intent: LogIndex,
    membership: LogIndex,
    intended: &[ReplicaId],
) -> Result<(), Rejection> {
    if mutants::is(Mutant::LateConfirmation) {
        return Ok(());
    }
    if confirm.intent != intent.0 || confirm.membership < membership.0 {
        let message = format!(
            "the confirmation of intent {} as of membership {} is late: the newest intent is {intent}, confirmed up to \
             membership {membership}",
            confirm.intent, confirm.membership
        );
        return Err(Rejection::new(RejectionCode::StaleIntent, message));
    }
    let told: BTreeSet<u64> = confirm.voters.iter().copied().collect();
    let wanted: BTreeSet<u64> = intended.iter().map(|replica| replica.0).collect();
    match told == wanted {
        true => Ok(()),
        false => {
            let message = format!("the voters {told:?} are not those that intent {intent} asks for: {wanted:?}");
            Err(Rejection::new(RejectionCode::InvalidArgument, message))
        }
    }
}

#[cfg(test)]
#[path = "intents_tests.rs"]
mod tests;
