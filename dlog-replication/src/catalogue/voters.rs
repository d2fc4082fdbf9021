//! Who should vote in group 0 itself: an intent like a partition's, but for nodes. Every node holds a replica of group 0; those
//! that don't vote follow.

use super::nodes::Nodes;
use super::state::{Changes, Key, MetadataValue};
use super::topics::intents::check_confirm;
use crate::bootstrap::{GROUP_ZERO_VOTERS_MAX, group_zero_replica};
use crate::command::{ConfirmReplicas, SetMetadataVoters};
use crate::outcome::{CommandOutcome, Rejection, RejectionCode};
use dlog_core::{LogIndex, NodeId, ReplicaId};
use std::collections::BTreeSet;

/// Group 0's voters.
///
/// Invariants: the nodes are known, each stands once; no confirmation is of a later intent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataVoters {
    /// The nodes that should vote; none before the cluster is founded.
    pub intended: Vec<NodeId>,
    /// The group 0 index that made `intended`.
    pub intent: LogIndex,
    /// The intent that group 0's leader last confirmed.
    pub confirmed_intent: LogIndex,
    /// The index of the membership that was confirmed.
    pub confirmed_membership: LogIndex,
}

impl MetadataVoters {
    /// The voters' replicas of group 0.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.intended.iter().copied().map(group_zero_replica).collect()
    }

    /// Whether group 0's leader has confirmed the newest intent.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed_intent == self.intent
    }

    /// The voters that the cluster is founded with.
    pub(crate) fn found(&mut self, index: LogIndex, voters: Vec<NodeId>, changes: &mut Changes) {
        *self = MetadataVoters {
            intended: voters,
            intent: index,
            confirmed_intent: index,
            confirmed_membership: LogIndex::ZERO,
        };
        self.save(changes);
    }

    pub(crate) fn set(
        &mut self,
        index: LogIndex,
        set: &SetMetadataVoters,
        nodes: &Nodes,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        if set.intent != 0 && set.intent != self.intent.0 {
            let message = format!("the voters were changed meanwhile (intent {}); decide anew", self.intent);
            return Err(Rejection::new(RejectionCode::StaleIntent, message));
        }
        let wanted: BTreeSet<NodeId> = set.nodes.iter().copied().map(NodeId).collect();
        if wanted.is_empty() || wanted.len() != set.nodes.len() || wanted.len() > GROUP_ZERO_VOTERS_MAX {
            let message = format!("name 1 to {GROUP_ZERO_VOTERS_MAX} nodes, each once, to vote in the metadata group");
            return Err(Rejection::new(RejectionCode::InvalidArgument, message));
        }
        if let Some(stranger) = wanted.iter().find(|node| nodes.get(**node).is_none()) {
            let message = format!("there is no node {stranger}; see `dlog node list`");
            return Err(Rejection::new(RejectionCode::InvalidArgument, message));
        }
        if wanted != self.intended.iter().copied().collect() {
            self.intended = wanted.into_iter().collect();
            self.intent = index;
            self.save(changes);
        }
        Ok(CommandOutcome::ReplicasIntended { intent: self.intent })
    }

    pub(crate) fn confirm(
        &mut self,
        confirm: &ConfirmReplicas,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        check_confirm(confirm, self.intent, self.confirmed_membership, &self.replicas())?;
        let before = self.clone();
        self.confirmed_intent = self.intent;
        self.confirmed_membership = LogIndex(confirm.membership);
        if *self != before {
            self.save(changes);
        }
        Ok(CommandOutcome::ReplicasConfirmed { intent: self.intent })
    }

    pub(crate) fn load(&mut self, value: MetadataValue) {
        *self = MetadataVoters {
            intended: value.intended.into_iter().map(NodeId).collect(),
            intent: LogIndex(value.intent),
            confirmed_intent: LogIndex(value.confirmed_intent),
            confirmed_membership: LogIndex(value.confirmed_membership),
        };
    }

    /// Nothing is stored before the cluster is founded, so that a new catalogue has no entries.
    pub(crate) fn save(&self, changes: &mut Changes) {
        if *self == MetadataVoters::default() {
            return;
        }
        let value = MetadataValue {
            intended: self.intended.iter().map(|node| node.0).collect(),
            intent: self.intent.0,
            confirmed_intent: self.confirmed_intent.0,
            confirmed_membership: self.confirmed_membership.0,
        };
        changes.put(Key::Metadata, &value);
    }

    pub(crate) fn check(&self, nodes: &Nodes, applied: LogIndex) -> Result<(), String> {
        let distinct: BTreeSet<&NodeId> = self.intended.iter().collect();
        if distinct.len() != self.intended.len() || self.intended.iter().any(|node| nodes.get(*node).is_none()) {
            return Err("a voter of the metadata group is not known, or stands twice".to_owned());
        }
        match self.intent > applied || self.confirmed_intent > self.intent {
            true => Err("the intent for the metadata group's voters is of the future".to_owned()),
            false => Ok(()),
        }
    }
}
