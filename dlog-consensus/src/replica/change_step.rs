//! The next safe step from one membership to another: a pure function of what the log says now, what is wanted, and who is in
//! sync. Every leader takes it anew, so nothing has to be remembered of a change but what the log holds.
//!
//! In order: a joint state is left, by a leader that goes on to vote; replicas that are missing come in as learners; when the
//! voters to come are in sync, the joint state is entered; learners that nobody wants go; the log says for which intent it is as
//! it is. Nothing is entered that a majority of the voters to come couldn't leave again, and no intent is followed that is older
//! than the one that the log names.

use crate::configuration::Change;
use crate::membership::Membership;
use dlog_core::ReplicaId;
use dlog_core::mutants::{self, Mutant};
use dlog_replication::Intent;
use std::collections::BTreeSet;

/// What a leader does next about its log's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: no intent is known that may be followed.
    Rest,
    /// Nothing before these are in sync.
    Wait(BTreeSet<ReplicaId>),
    /// Append an entry that says so.
    Propose(Change),
    /// Let a voter lead that goes on to vote.
    HandOver,
    /// Nothing: the log has the members that are wanted, and says so.
    Reached,
}

/// The next step of leader `me`. `in_sync`: whether another replica has everything, or nearly so.
pub(crate) fn next_step(
    me: ReplicaId,
    membership: &Membership,
    intent: Option<&Intent>,
    in_sync: impl Fn(ReplicaId) -> bool,
) -> Step {
    if membership.is_joint() {
        let stays = membership.voters.contains(&me) || mutants::is(Mutant::LeavesWithoutHandover);
        return if stays { Step::Propose(Change::Leave) } else { Step::HandOver };
    }
    let Some(intent) = intent.filter(|intent| intent.version >= membership.intent) else { return Step::Rest };
    let missing = intent.voters.union(&intent.learners).find(|replica| !membership.contains(**replica));
    if let Some(replica) = missing {
        return Step::Propose(Change::AddLearner(*replica));
    }
    if intent.voters != membership.voters {
        let here =
            |replica: &ReplicaId| *replica == me || in_sync(*replica) || mutants::is(Mutant::NewcomersNotAwaited);
        let behind: BTreeSet<ReplicaId> = intent.voters.iter().copied().filter(|voter| !here(voter)).collect();
        let all_new_are_here = behind.is_subset(&membership.voters);
        if all_new_are_here && behind.len() * 2 < intent.voters.len() {
            return Step::Propose(Change::entering(membership, &intent.voters));
        }
        return Step::Wait(behind);
    }
    match membership.learners.difference(&intent.learners).next() {
        Some(unwanted) => Step::Propose(Change::RemoveLearner(*unwanted)),
        None if membership.intent < intent.version => Step::Propose(Change::Note),
        None => Step::Reached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::ChangeEntry;
    use dlog_core::{LogIndex, NodeId};
    use proptest::prelude::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), 1)
    }

    fn set(nodes: &[u32]) -> BTreeSet<ReplicaId> {
        nodes.iter().copied().map(replica).collect()
    }

    fn intent(voters: &[u32], learners: &[u32]) -> Intent {
        Intent { version: LogIndex(1), voters: set(voters), learners: set(learners), confirmed: false }
    }

    fn step(me: u32, membership: &Membership, intent: &Intent, here: &[u32]) -> Step {
        next_step(replica(me), membership, Some(intent), |replica| set(here).contains(&replica))
    }

    #[test]
    fn a_move_takes_its_steps_in_order() {
        let mut membership = Membership::of_voters(set(&[1, 2, 3]));
        let wanted = intent(&[1, 2, 4], &[]);
        assert_eq!(step(1, &membership, &wanted, &[2, 3]), Step::Propose(Change::AddLearner(replica(4))));
        membership.learners = set(&[4]);
        assert_eq!(step(1, &membership, &wanted, &[2, 3]), Step::Wait(set(&[4])));
        let Step::Propose(enter) = step(1, &membership, &wanted, &[2, 4]) else { panic!("everyone is there") };
        membership = enter.applied_to(&membership).expect("it fits");
        assert_eq!(step(1, &membership, &wanted, &[]), Step::Propose(Change::Leave));
        assert_eq!(step(3, &membership, &wanted, &[]), Step::HandOver, "it has no vote when the change is done");
        membership = Change::Leave.applied_to(&membership).expect("it fits");
        assert_eq!(membership.learners, set(&[3]), "it hears that it has no vote");
        assert_eq!(step(1, &membership, &wanted, &[]), Step::Propose(Change::RemoveLearner(replica(3))));
        membership.learners.clear();
        assert_eq!(step(1, &membership, &wanted, &[]), Step::Propose(Change::Note));
        membership.intent = wanted.version;
        assert_eq!(step(1, &membership, &wanted, &[]), Step::Reached);
        membership.intent = wanted.version.next();
        assert_eq!(step(1, &membership, &intent(&[5], &[]), &[]), Step::Rest, "the log names a newer intent");
    }

    #[test]
    fn a_joint_state_is_left_whatever_is_wanted() {
        let mut membership = Membership::of_voters(set(&[1, 2]));
        membership.voters_outgoing = set(&[1, 3]);
        assert_eq!(next_step(replica(1), &membership, None, |_| false), Step::Propose(Change::Leave));
        assert_eq!(next_step(replica(3), &membership, None, |_| false), Step::HandOver);
        let other = intent(&[5], &[]);
        assert_eq!(step(1, &membership, &other, &[]), Step::Propose(Change::Leave));
    }

    #[test]
    fn nothing_is_entered_that_could_not_be_left() {
        let membership = Membership::of_voters(set(&[1, 2, 3]));
        assert_eq!(step(1, &membership, &intent(&[1, 2], &[]), &[3]), Step::Wait(set(&[2])));
        assert!(matches!(step(1, &membership, &intent(&[1, 2], &[]), &[2]), Step::Propose(Change::Enter(_))));
        // A voter that is away is no hindrance while the others are a majority.
        let mut membership = Membership::of_voters(set(&[1, 2, 3]));
        membership.learners = set(&[4]);
        let replace = intent(&[1, 2, 4], &[]);
        assert!(matches!(step(1, &membership, &replace, &[4]), Step::Propose(Change::Enter(_))));
        assert_eq!(step(1, &membership, &replace, &[2]), Step::Wait(set(&[4])), "whoever comes must be there");
    }

    #[test]
    fn a_cancelled_change_goes_back() {
        let mut membership = Membership::of_voters(set(&[1, 2, 3]));
        membership.learners = set(&[4]);
        let old = intent(&[1, 2, 3], &[]);
        assert_eq!(step(1, &membership, &old, &[]), Step::Propose(Change::RemoveLearner(replica(4))));
        let kept = intent(&[1, 2, 3], &[4]);
        membership.intent = kept.version;
        assert_eq!(step(1, &membership, &kept, &[]), Step::Reached);
    }

    proptest! {
        /// From anywhere to anywhere, with intents that change on the way: every step fits, and in the end the last is reached.
        #[test]
        fn every_intent_is_reached(
            voters in proptest::collection::btree_set(1u32..7, 1..5),
            intents in proptest::collection::vec(
                (proptest::collection::btree_set(1u32..7, 1..5), proptest::collection::btree_set(1u32..7, 0..3), 0usize..12),
                1..5,
            ),
        ) {
            let ids = |nodes: &BTreeSet<u32>| -> BTreeSet<ReplicaId> { nodes.iter().copied().map(replica).collect() };
            let mut membership = Membership::of_voters(ids(&voters));
            let mut leader = *membership.voters.first().expect("one at least");
            let last = intents.len() - 1;
            for (number, (voters, learners, steps)) in intents.iter().enumerate() {
                let learners: BTreeSet<u32> = learners.difference(voters).copied().collect();
                let (voters, learners) = (ids(voters), ids(&learners));
                let wanted = Intent { version: LogIndex(number as u64), voters, learners, confirmed: false };
                for _ in 0..if number == last { 50 } else { *steps } {
                    match next_step(leader, &membership, Some(&wanted), |_| true) {
                        Step::Propose(change) => {
                            if change == Change::Leave {
                                prop_assert!(membership.voters.contains(&leader), "it stays a voter");
                            }
                            let entry = ChangeEntry { change, intent: wanted.version };
                            membership = entry.applied_to(&membership).expect("every step fits");
                        }
                        Step::HandOver => leader = *membership.voters.first().expect("one at least"),
                        Step::Reached => break,
                        other => prop_assert!(false, "{:?} with everyone in sync", other),
                    }
                }
                if number == last {
                    prop_assert_eq!(next_step(leader, &membership, Some(&wanted), |_| true), Step::Reached);
                    prop_assert_eq!(&membership.voters, &wanted.voters);
                    prop_assert_eq!(&membership.learners, &wanted.learners);
                }
            }
        }
    }
}
