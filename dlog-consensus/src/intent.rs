//! What the catalogue wants of a log's membership.

use crate::configuration::VOTERS_MAX;
use dlog_core::{LogIndex, ReplicaId, limits};
use std::collections::BTreeSet;

/// The replicas that a log is to have. Told to every replica of it, at any time and any number of times; the one that leads
/// drives the log there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The entry of group 0 that made it: a newer one takes its place.
    pub version: LogIndex,
    /// Those who are to vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who are only to follow.
    pub learners: BTreeSet<ReplicaId>,
    /// The catalogue knows that the log is there: it need not be told any more.
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
            (self.voters.len() <= VOTERS_MAX, "it names more voters than a log may have"),
            (self.learners.len() <= limits::NODES_MAX, "it names more learners than a log may have"),
            (self.voters.is_disjoint(&self.learners), "it names a voter as a learner too"),
            (all.all(|replica| replica.node().0 != 0), "it names a replica id without a node"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(broken),
            None => Ok(()),
        }
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
        assert!(intent(ids(1..2 + VOTERS_MAX as u32), ids(0..0)).validate().is_err());
        assert!(intent([ReplicaId(7)].into(), ids(0..0)).validate().is_err());
    }
}
