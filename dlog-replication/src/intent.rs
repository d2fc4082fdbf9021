//! [`Intent`]: what the catalogue wants of a log's membership, as every node tells it to its replica of that log.
//!
//! Intents are levels, not steps: whoever leads the log goes from wherever the log stands to the newest intent, so nothing of
//! a change is lost with a leader, and an older set as a newer intent takes a change back.

use crate::catalogue::Catalogue;
use dlog_core::{LogId, LogIndex, ReplicaId, limits};
use std::collections::BTreeSet;

/// What the catalogue wants of a log's membership.
///
/// Invariant: no replica is both voter and learner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// The group 0 index that made it: of two intents the one with the higher version counts.
    pub version: LogIndex,
    /// Those who should vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who should follow without a vote (group 0 only: one on each other node).
    pub learners: BTreeSet<ReplicaId>,
    /// Whether the catalogue knows that the log has reached it.
    pub confirmed: bool,
}

impl Intent {
    /// Checks that no log would be harmed by it.
    ///
    /// # Errors
    /// The sentence names what is wrong: such an intent is not followed.
    pub fn validate(&self) -> Result<(), &'static str> {
        let mut all = self.voters.iter().chain(&self.learners);
        let rules = [
            (!self.voters.is_empty(), "it names no voter"),
            (
                self.voters.len() <= limits::REPLICAS_PER_PARTITION_MAX as usize,
                "it names more voters than a log may have",
            ),
            (self.learners.len() <= limits::NODES_MAX, "it names more learners than a log may have"),
            (self.voters.is_disjoint(&self.learners), "it names a voter as a learner too"),
            (all.all(|replica| replica.node().0 != 0), "it names a replica id without a node"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(broken),
            None => Ok(()),
        }
    }

    /// The newest intent for `log`. `None`: this catalogue doesn't know the log (or group 0 isn't founded in it).
    pub fn of(catalogue: &Catalogue, log: LogId) -> Option<Intent> {
        if log != LogId::GROUP_ZERO {
            let partition = catalogue.partition_of_log(log)?;
            return Some(Intent {
                version: partition.intent,
                voters: partition.intended.iter().copied().collect(),
                learners: BTreeSet::new(),
                confirmed: partition.is_confirmed(),
            });
        }
        let metadata = catalogue.metadata_voters();
        let voters: BTreeSet<ReplicaId> = metadata.replicas().into_iter().collect();
        let all = catalogue.nodes().map(|info| crate::bootstrap::group_zero_replica(info.node));
        let learners = all.filter(|replica| !voters.contains(replica)).collect();
        let confirmed = metadata.is_confirmed();
        (!voters.is_empty()).then_some(Intent { version: metadata.intent, voters, learners, confirmed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;

    #[test]
    fn a_dangerous_intent_is_told_from_a_good_one() {
        let ids = |nodes: std::ops::Range<u32>| -> BTreeSet<ReplicaId> {
            nodes.map(|node| ReplicaId::new(NodeId(node), 1)).collect()
        };
        let intent = |voters, learners| Intent { version: LogIndex(1), voters, learners, confirmed: false };
        assert_eq!(intent(ids(1..4), ids(4..6)).validate(), Ok(()));
        assert!(intent(ids(1..1), ids(4..6)).validate().is_err());
        assert!(intent(ids(1..4), ids(3..6)).validate().is_err());
        assert!(intent(ids(1..2 + limits::REPLICAS_PER_PARTITION_MAX), ids(0..0)).validate().is_err());
        assert!(intent([ReplicaId(7)].into(), ids(0..0)).validate().is_err());
    }
}
