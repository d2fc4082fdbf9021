//! Who should vote in group 0: what its leader decides by itself so that the set stays healthy.
//!
//! As many as [`voter_count`](crate::bootstrap::voter_count) says for the number of nodes, in as many racks as there are. A voter
//! that is lost gives its place to a node that is in sync. One step at a time: the next is decided once the log has reached the
//! last one, or when who was chosen for it is lost too.

use crate::bootstrap::voter_count;
use crate::catalogue::Catalogue;
use crate::command::SetMetadataVoters;
use dlog_core::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What group 0's leader knows of the nodes' replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// In sync, the leader itself among them.
    pub fit: BTreeSet<NodeId>,
    /// Silent for so long that they count as lost. None of them is fit.
    pub lost: BTreeSet<NodeId>,
}

/// The command that makes the set of voters healthier, if there is one. Depends on nothing but its arguments; a command that
/// comes late is refused, because it names the intent that was seen.
pub fn improve(catalogue: &Catalogue, observed: &Observed) -> Option<SetMetadataVoters> {
    let metadata = catalogue.metadata_voters();
    let stuck = metadata.intended.iter().any(|node| observed.lost.contains(node));
    if metadata.intended.is_empty() || !(metadata.is_confirmed() || stuck) {
        return None;
    }
    let racks = Racks::of(catalogue);
    let now: BTreeSet<NodeId> = metadata.intended.iter().copied().collect();
    let next = step(&now, voter_count(catalogue.nodes().len()), observed, &racks)?;
    Some(SetMetadataVoters { nodes: next.iter().map(|node| node.0).collect(), intent: metadata.intent.0 })
}

/// The voters after one step. `None`: there is nothing to do, or nothing that can be done.
fn step(now: &BTreeSet<NodeId>, count: usize, observed: &Observed, racks: &Racks) -> Option<BTreeSet<NodeId>> {
    let with = |add: NodeId| now.iter().copied().chain([add]).collect::<BTreeSet<NodeId>>();
    let without = |set: &BTreeSet<NodeId>, gone: NodeId| set.iter().copied().filter(|node| *node != gone).collect();
    if now.len() > count {
        let goes =
            now.iter().copied().max_by_key(|node| (observed.lost.contains(node), racks.shared(*node, now), *node))?;
        return Some(without(now, goes));
    }
    // Who should join, beside these.
    let best_beside = |set: &BTreeSet<NodeId>| {
        let candidates = observed.fit.iter().copied().filter(|node| !now.contains(node));
        candidates.min_by_key(|node| (racks.members(*node, set), *node))
    };
    let best = best_beside(now);
    if now.len() < count {
        return Some(with(best?));
    }
    if let Some(lost) = now.iter().copied().find(|node| observed.lost.contains(node)) {
        let best = best_beside(&without(now, lost))?;
        return Some(without(&with(best), lost));
    }
    // Better spread over racks, but only while all are well: a change is itself a moment of fewer failures outlived.
    let best = best.filter(|node| racks.members(*node, now) == 0 && now.is_subset(&observed.fit))?;
    let goes = now.iter().copied().filter(|node| racks.shared(*node, now)).max()?;
    Some(without(&with(best), goes))
}

/// Which rack each node stands in. A node without one is a rack of its own.
struct Racks(BTreeMap<NodeId, String>);

impl Racks {
    fn of(catalogue: &Catalogue) -> Racks {
        let named = catalogue.nodes().filter_map(|info| Some((info.node, info.rack.clone()?)));
        Racks(named.collect())
    }

    /// How many of `set` stand in the rack of `node`, itself apart.
    fn members(&self, node: NodeId, set: &BTreeSet<NodeId>) -> usize {
        let Some(rack) = self.0.get(&node) else { return 0 };
        set.iter().filter(|other| **other != node && self.0.get(other) == Some(rack)).count()
    }

    fn shared(&self, node: NodeId, set: &BTreeSet<NodeId>) -> bool {
        self.members(node, set) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::BootstrapSet;
    use crate::command::{CommandBody, ConfirmReplicas};
    use crate::support_tests::{apply, register};
    use proptest::prelude::*;

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// A founded cluster whose nodes stand in these racks.
    fn founded(racks: &[&str]) -> Catalogue {
        let members = (1u8..).zip(racks).map(|(node, _)| (format!("n{node}"), [node; 16]));
        let set = BootstrapSet::new(members).expect("valid");
        let mut catalogue = Catalogue::new();
        apply(&mut catalogue, CommandBody::FoundCluster(set.found_command()));
        for (node, rack) in (1u32..).zip(racks) {
            apply(&mut catalogue, CommandBody::RegisterNode(register(node, rack)));
        }
        catalogue
    }

    fn confirm(catalogue: &mut Catalogue) {
        let metadata = catalogue.metadata_voters().clone();
        let voters = metadata.replicas().iter().map(|replica| replica.0).collect();
        let membership = metadata.confirmed_membership.0 + 1;
        let confirm = ConfirmReplicas { log: 0, intent: metadata.intent.0, membership, voters };
        apply(catalogue, CommandBody::ConfirmReplicas(confirm));
        assert_eq!(catalogue.metadata_voters().confirmed_intent, metadata.intent);
    }

    fn observed(fit: &[u32], lost: &[u32]) -> Observed {
        Observed { fit: nodes(fit), lost: nodes(lost) }
    }

    fn improved(catalogue: &Catalogue, fit: &[u32], lost: &[u32]) -> Option<Vec<u32>> {
        improve(catalogue, &observed(fit, lost)).map(|set| set.nodes)
    }

    #[test]
    fn a_healthy_set_is_left_alone() {
        let catalogue = founded(&["a", "b", "c", "a"]);
        assert_eq!(improved(&catalogue, &[1, 2, 3, 4], &[]), None);
        assert_eq!(improved(&catalogue, &[1, 2, 4], &[]), None, "silent for a moment is not lost");
        assert_eq!(improved(&Catalogue::new(), &[1], &[]), None);
    }

    #[test]
    fn a_lost_voter_is_replaced_in_its_rack_if_possible() {
        let catalogue = founded(&["a", "b", "c", "a", "c"]);
        assert_eq!(catalogue.metadata_voters().intended.len(), 5);
        let catalogue = founded(&["a", "b", "c", "a"]);
        assert_eq!(improved(&catalogue, &[2, 3, 4], &[1]), Some(vec![2, 3, 4]));
        assert_eq!(improved(&catalogue, &[2, 3], &[1]), None, "by nobody who isn't in sync");
    }

    #[test]
    fn voters_leave_racks_that_they_share_while_all_are_well() {
        let catalogue = founded(&["a", "a", "b", "c"]);
        assert_eq!(improved(&catalogue, &[1, 2, 3, 4], &[]), Some(vec![1, 3, 4]));
        assert_eq!(improved(&catalogue, &[1, 3, 4], &[]), None);
    }

    #[test]
    fn the_next_step_waits_for_the_last_one() {
        let mut catalogue = founded(&["a", "b", "c", "d"]);
        let set = improve(&catalogue, &observed(&[1, 2, 4], &[3])).expect("one is lost");
        apply(&mut catalogue, CommandBody::SetMetadataVoters(set));
        assert_eq!(improved(&catalogue, &[1, 2, 3, 4], &[]), None);
        assert_eq!(improved(&catalogue, &[1, 2, 3], &[4]), Some(vec![1, 2, 3]), "who was chosen is lost in turn");
        confirm(&mut catalogue);
        assert_eq!(improved(&catalogue, &[1, 2, 3, 4], &[]), None);
    }

    proptest! {
        /// Whatever is lost and fit: a step changes at most one voter for another, names only known nodes, and steps come to
        /// an end.
        #[test]
        fn steps_are_small_and_end(racks in proptest::collection::vec("[a-c]?", 1..8), fit in any::<u8>(), lost in any::<u8>()) {
            let racks: Vec<&str> = racks.iter().map(String::as_str).collect();
            let mut catalogue = founded(&racks);
            let among = |bits: u8| (1..=racks.len() as u32).filter(move |node| bits & (1 << node) != 0).map(NodeId);
            let observed = Observed { fit: among(fit & !lost).collect(), lost: among(lost).collect() };
            for _ in 0..2 * racks.len() {
                let before: BTreeSet<NodeId> = catalogue.metadata_voters().intended.iter().copied().collect();
                let Some(set) = improve(&catalogue, &observed) else { return Ok(()) };
                let after: BTreeSet<NodeId> = set.nodes.iter().copied().map(NodeId).collect();
                prop_assert!(before.difference(&after).count() <= 1 && after.difference(&before).count() <= 1);
                prop_assert!(after.difference(&before).all(|node| observed.fit.contains(node)));
                apply(&mut catalogue, CommandBody::SetMetadataVoters(set));
                confirm(&mut catalogue);
            }
            prop_assert!(false, "the set was changed for ever");
        }
    }
}
