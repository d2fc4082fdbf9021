//! Quorums: how many replicas are enough, and which nodes may be lost, as values with reasons.

use dlog_core::{NodeId, ReplicaId};
use std::collections::BTreeSet;

/// How many of `voters` are a majority; 1 for none, so that no one is never enough.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Who must agree: a majority of the voters, and, while a change of membership is under way, one of the outgoing voters too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The voters (the incoming ones during a change).
    pub voters: BTreeSet<ReplicaId>,
    /// The outgoing voters; empty unless a change is under way.
    pub outgoing: BTreeSet<ReplicaId>,
}

impl Quorum {
    /// The quorum of a plain majority.
    pub fn of(voters: impl IntoIterator<Item = ReplicaId>) -> Quorum {
        Quorum { voters: voters.into_iter().collect(), outgoing: BTreeSet::new() }
    }

    /// The quorum of the joint state between two memberships.
    pub fn joint(
        incoming: impl IntoIterator<Item = ReplicaId>,
        outgoing: impl IntoIterator<Item = ReplicaId>,
    ) -> Quorum {
        Quorum { voters: incoming.into_iter().collect(), outgoing: outgoing.into_iter().collect() }
    }

    /// Are the replicas for which `agrees` says so enough? A quorum without voters never is.
    pub fn is_met(&self, agrees: impl Fn(ReplicaId) -> bool) -> bool {
        let enough =
            |set: &BTreeSet<ReplicaId>| set.iter().filter(|&&replica| agrees(replica)).count() >= majority(set.len());
        enough(&self.voters) && (self.outgoing.is_empty() || enough(&self.outgoing))
    }

    /// How many more replicas of those that agree may stop to, whichever they are, with the quorum still met; `None` if it
    /// isn't met.
    pub fn spare(&self, agrees: impl Fn(ReplicaId) -> bool) -> Option<usize> {
        let spare = |set: &BTreeSet<ReplicaId>| {
            set.iter().filter(|&&replica| agrees(replica)).count().checked_sub(majority(set.len()))
        };
        let voters = spare(&self.voters)?;
        if self.outgoing.is_empty() {
            return Some(voters);
        }
        Some(voters.min(spare(&self.outgoing)?))
    }

    /// All replicas that vote, on either side.
    pub fn members(&self) -> impl Iterator<Item = ReplicaId> {
        self.voters.union(&self.outgoing).copied()
    }
}

/// One partition as the question "which nodes may I lose" sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// How it is named in an answer, as `topic/partition`.
    pub name: String,
    /// Who must agree.
    pub quorum: Quorum,
    /// The voters that are in sync now.
    pub in_sync: BTreeSet<ReplicaId>,
}

/// What losing one node would mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossAnswer {
    /// The node.
    pub node: NodeId,
    /// The subjects that would be without a quorum, in the order in which they were given. Empty: it may be lost. A subject
    /// that has no quorum now isn't counted against a node that holds none of its in-sync voters.
    pub stopped: Vec<String>,
    /// The subjects that would keep a quorum, with no voter to spare.
    pub on_the_edge: usize,
}

impl LossAnswer {
    /// Would everything that takes writes now still take them?
    pub fn is_safe(&self) -> bool {
        self.stopped.is_empty()
    }
}

/// Which of `nodes` may be lost, one at a time: an answer for each, in their order.
pub fn may_lose(nodes: &[NodeId], subjects: &[Subject]) -> Vec<LossAnswer> {
    nodes.iter().map(|&node| answer(node, subjects)).collect()
}

fn answer(node: NodeId, subjects: &[Subject]) -> LossAnswer {
    let mut answer = LossAnswer { node, stopped: Vec::new(), on_the_edge: 0 };
    for subject in subjects {
        if !subject.quorum.members().any(|replica| replica.node() == node && subject.in_sync.contains(&replica)) {
            continue;
        }
        match subject.quorum.spare(|replica| replica.node() != node && subject.in_sync.contains(&replica)) {
            None => answer.stopped.push(subject.name.clone()),
            Some(0) => answer.on_the_edge += 1,
            Some(_) => {}
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), 2)
    }

    fn replicas(nodes: &[u32]) -> BTreeSet<ReplicaId> {
        nodes.iter().map(|&node| replica(node)).collect()
    }

    #[test]
    fn majorities() {
        let expected = [1, 1, 2, 2, 3, 3, 4];
        assert_eq!(std::array::from_fn::<usize, 7, _>(majority), expected);
        assert!(!Quorum::default().is_met(|_| true), "nobody is never enough");
    }

    #[test]
    fn a_joint_quorum_needs_both_sides() {
        let quorum = Quorum::joint(replicas(&[1, 2, 3]), replicas(&[3, 4, 5]));
        let met = |nodes: &[u32]| quorum.is_met(|replica| nodes.contains(&replica.node().0));
        assert!(!met(&[1, 2]));
        assert!(!met(&[4, 5]));
        assert!(met(&[1, 3, 4]));
        assert!(met(&[1, 2, 4, 5]));
        assert_eq!(quorum.spare(|_| true), Some(1));
        assert_eq!(quorum.members().count(), 5);
    }

    #[test]
    fn which_nodes_may_be_lost() {
        let subject = |name: &str, voters: &[u32], in_sync: &[u32]| Subject {
            name: name.to_owned(),
            quorum: Quorum::of(replicas(voters)),
            in_sync: replicas(in_sync),
        };
        let subjects =
            [subject("a/0", &[1, 2, 3], &[1, 2, 3]), subject("a/1", &[2, 3, 4], &[2, 3]), subject("a/2", &[4], &[])];
        let answers = may_lose(&[NodeId(1), NodeId(2), NodeId(4), NodeId(9)], &subjects);
        assert!(answers[0].is_safe());
        assert_eq!(answers[0].on_the_edge, 1);
        assert_eq!(answers[1].stopped, ["a/1"]);
        assert!(answers[2].is_safe(), "node 4 holds nothing that is in sync");
        assert!(answers[3].is_safe());
    }

    proptest! {
        /// Any two sets that meet a quorum share a voter: what makes an acked record survive.
        #[test]
        fn quorums_intersect(voters in 1usize..8, one in any::<u8>(), other in any::<u8>()) {
            let quorum = Quorum::of((1..=voters as u32).map(replica));
            let in_mask = |mask: u8| move |replica: ReplicaId| mask & (1 << (replica.node().0 - 1)) != 0;
            if quorum.is_met(in_mask(one)) && quorum.is_met(in_mask(other)) {
                prop_assert!(quorum.voters.iter().any(|&replica| in_mask(one & other)(replica)));
            }
        }

        /// `spare` says exactly how many may go.
        #[test]
        fn spare_is_exact(voters in 1usize..8, mask in any::<u8>()) {
            let quorum = Quorum::of((1..=voters as u32).map(replica));
            let mut left: Vec<u32> = (1..=voters as u32).filter(|node| mask & (1 << (node - 1)) != 0).collect();
            match quorum.spare(|replica| left.contains(&replica.node().0)) {
                None => prop_assert!(!quorum.is_met(|replica| left.contains(&replica.node().0))),
                Some(spare) => {
                    left.truncate(left.len() - spare);
                    prop_assert!(quorum.is_met(|replica| left.contains(&replica.node().0)));
                    left.pop();
                    prop_assert!(!quorum.is_met(|replica| left.contains(&replica.node().0)));
                }
            }
        }
    }
}
