//! Placement's bounds: leaders and replicas evenly over the nodes, racks spread, drawn from the copysets.

use super::*;
use crate::support_tests::{cluster, create_topic};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn count(placed: &[Vec<NodeId>], nodes: usize, holds: impl Fn(&[NodeId], NodeId) -> bool) -> Vec<usize> {
    (1..=nodes as u32).map(|node| placed.iter().filter(|set| holds(set, NodeId(node))).count()).collect()
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

/// Every node must place alike, whatever its version: see the golden copysets.
#[test]
fn golden_placement() {
    let catalogue = cluster(&["", "", "", "", ""]);
    let placed = place(&catalogue, 5, 3).expect("enough nodes");
    let numbers: Vec<Vec<u32>> = placed.iter().map(|set| set.iter().map(|node| node.0).collect()).collect();
    assert_eq!(format!("{numbers:?}"), "[[3, 5, 2], [5, 1, 4], [1, 2, 4], [2, 3, 5], [4, 1, 3]]");
}

#[test]
fn too_few_nodes_are_an_error_that_says_so() {
    let error = place(&cluster(&["", ""]), 1, 3).expect_err("two nodes");
    assert_eq!(error, PlacementError::NotEnoughNodes { replicas: 3, nodes: 2 });
    assert!(error.to_string().contains("--replicas 2"));
    assert_eq!(place(&cluster(&[""]), 1, 0), Err(PlacementError::NoReplicas));
}

#[test]
fn small_topics_go_round_the_nodes_too() {
    let mut catalogue = cluster(&["", "", ""]);
    for topic in 0..9 {
        create_topic(&mut catalogue, &format!("t{topic}"), 1, 3);
    }
    let preferred: Vec<Vec<NodeId>> =
        catalogue.partitions().map(|partition| vec![partition.preferred.node()]).collect();
    assert_eq!(count(&preferred, 3, |set, node| set[0] == node), [3, 3, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In whatever cluster, after whatever other topics: replicas are distinct and from a copyset, and nobody leads more
    /// than one partition more than another.
    #[test]
    fn leaders_are_even(
        racks in proptest::collection::vec(prop::sample::select(vec!["", "a", "b", "c"]), 1..10),
        before in proptest::collection::vec((1u32..7, 1u32..4), 0..4),
        partitions in 1u32..40,
        replicas in 0u32..4,
    ) {
        let replicas = 1 + replicas % racks.len() as u32;
        let mut catalogue = cluster(&racks);
        for (number, (partitions, replicas)) in before.into_iter().enumerate() {
            if replicas as usize <= racks.len() {
                create_topic(&mut catalogue, &format!("t{number}"), partitions, replicas);
            }
        }
        let placed = place(&catalogue, partitions, replicas).expect("enough nodes");
        prop_assert_eq!(&placed, &place(&catalogue, partitions, replicas).expect("enough nodes"));
        prop_assert_eq!(placed.len(), partitions as usize);
        let copysets = copysets(&catalogue, replicas);
        for set in &placed {
            let sorted: Vec<NodeId> = set.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(sorted.len(), replicas as usize);
            prop_assert!(copysets.sets().contains(&sorted));
        }
        prop_assert!(spread(&count(&placed, racks.len(), |set, node| set[0] == node)) <= 1);
    }

    /// With one rack a node (or none), replicas are even as well: a topic with enough partitions loads every node about
    /// alike.
    #[test]
    fn replicas_are_nearly_even(nodes in 1usize..9, replicas in 0u32..3, rounds in 1u32..5) {
        let replicas = 1 + replicas % nodes as u32;
        let catalogue = cluster(&vec![""; nodes]);
        let placed = place(&catalogue, nodes as u32 * rounds, replicas).expect("enough nodes");
        let counts = count(&placed, nodes, |set, node| set.contains(&node));
        prop_assert_eq!(counts.iter().sum::<usize>(), nodes * (rounds * replicas) as usize);
        prop_assert!(spread(&counts) <= replicas as usize + 1, "{:?}", counts);
    }

    /// Three racks and three replicas: one in each.
    #[test]
    fn every_rack_has_a_replica(sizes in proptest::array::uniform3(1usize..4), partitions in 1u32..20) {
        let racks: Vec<&str> = ["a", "b", "c"].iter().zip(sizes).flat_map(|(rack, size)| vec![*rack; size]).collect();
        let catalogue = cluster(&racks);
        for set in place(&catalogue, partitions, 3).expect("enough nodes") {
            let used: BTreeSet<&str> = set.iter().map(|node| racks[node.0 as usize - 1]).collect();
            prop_assert_eq!(used.len(), 3);
        }
    }
}
