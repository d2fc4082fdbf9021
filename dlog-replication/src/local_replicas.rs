//! [`LocalReplicas`]: what stands on one node as its reconciler takes it, kept up with the actions that it gives out.

use crate::catalogue::Catalogue;
use crate::reconcile::{LocalAction, LocalReplica, plan};
use dlog_core::{NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// The replicas of one node, and those that once stood there and never will again.
///
/// Invariant: no replica is both.
#[derive(Clone, Debug)]
pub struct LocalReplicas {
    node: NodeId,
    standing: BTreeMap<ReplicaId, LocalReplica>,
    marks: BTreeSet<ReplicaId>,
}

impl LocalReplicas {
    /// Those of `node` as its start found them.
    pub fn new(
        node: NodeId,
        standing: impl IntoIterator<Item = LocalReplica>,
        marks: impl IntoIterator<Item = ReplicaId>,
    ) -> LocalReplicas {
        let standing = standing.into_iter().map(|local| (local.replica, local)).collect();
        LocalReplicas { node, standing, marks: marks.into_iter().collect() }
    }

    /// One that stands here, if it does.
    pub fn get(&self, replica: ReplicaId) -> Option<&LocalReplica> {
        self.standing.get(&replica)
    }

    /// One more stands here than the catalogue says: group 0's own, at the node's first start.
    pub fn add(&mut self, local: LocalReplica) {
        self.standing.insert(local.replica, local);
    }

    /// What has to be done so that the node has what this catalogue intends. Every action counts as carried out: the caller does
    /// so, in this order.
    pub fn follow(&mut self, catalogue: &Catalogue) -> Vec<LocalAction> {
        let standing: Vec<LocalReplica> = self.standing.values().cloned().collect();
        let actions = plan(catalogue, self.node, &standing, &self.marks);
        for action in &actions {
            self.note(action);
        }
        self.assert_invariants();
        actions
    }

    fn note(&mut self, action: &LocalAction) {
        match action {
            LocalAction::Start(start) => self.add(LocalReplica::started(start)),
            LocalAction::Configure { replica, settings } => {
                if let Some(local) = self.standing.get_mut(replica) {
                    local.settings = Some(settings.clone());
                }
            }
            LocalAction::Intend { replica, intent } => {
                if let Some(local) = self.standing.get_mut(replica) {
                    local.told = Some((intent.version, intent.confirmed));
                }
            }
            LocalAction::Delete { replica, .. } => {
                self.standing.remove(replica);
                self.marks.insert(*replica);
            }
        }
    }

    fn assert_invariants(&self) {
        debug_assert!(self.marks.iter().all(|mark| !self.standing.contains_key(mark)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandBody;
    use crate::support_tests::{apply, cluster, create_topic, delete};

    #[test]
    fn what_was_given_out_is_not_given_out_again() {
        let mut catalogue = cluster(&["", "", ""]);
        create_topic(&mut catalogue, "t", 2, 3);
        let mut local = LocalReplicas::new(NodeId(1), [], []);
        let first = local.follow(&catalogue);
        let starts = |actions: &[LocalAction]| actions.iter().filter(|a| matches!(a, LocalAction::Start(_))).count();
        assert_eq!(starts(&first), 2);
        assert_eq!(local.follow(&catalogue), []);
        apply(&mut catalogue, CommandBody::DeleteTopic(delete("t")));
        let gone = local.follow(&catalogue);
        assert!(gone.len() == 2 && gone.iter().all(|action| matches!(action, LocalAction::Delete { .. })), "{gone:?}");
        assert_eq!(local.follow(&catalogue), []);
    }
}
