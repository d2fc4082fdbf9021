//! The copysets' bounds: even use, few sets, racks spread, the scatter width.

use super::*;
use proptest::prelude::*;

fn candidates(racks: &[Option<u32>]) -> Vec<Candidate> {
    let candidate =
        |(node, rack): (u32, &Option<u32>)| Candidate { node: NodeId(node), rack: rack.map(|rack| format!("r{rack}")) };
    (1u32..).zip(racks).map(candidate).collect()
}

fn uses(copysets: &Copysets, nodes: usize) -> Vec<usize> {
    let count = |node: u32| copysets.sets().iter().filter(|set| set.contains(&NodeId(node))).count();
    (1..=nodes as u32).map(count).collect()
}

/// Every node and every version must draw the same sets: a change here (of the generator, say) splits a cluster that is
/// half upgraded.
#[test]
fn golden_sets() {
    let sets = |racks: &[Option<u32>], replicas| {
        let copysets = Copysets::generate(&candidates(racks), replicas, 4);
        copysets.sets().iter().map(|set| set.iter().map(|node| node.0).collect()).collect::<Vec<Vec<u32>>>()
    };
    assert_eq!(sets(&[None; 3], 3), [[1, 2, 3]]);
    assert_eq!(format!("{:?}", sets(&[None; 6], 3)), "[[1, 4, 6], [2, 3, 5], [4, 5, 6], [1, 2, 3]]");
    assert_eq!(
        format!("{:?}", sets(&[Some(1), Some(1), Some(2), Some(2), Some(3), None], 3)),
        "[[2, 3, 6], [1, 4, 5], [1, 4, 5], [2, 3, 6]]"
    );
}

#[test]
fn nothing_can_be_drawn_from_too_few() {
    assert!(Copysets::generate(&candidates(&[None; 2]), 3, 4).sets().is_empty());
    assert!(Copysets::generate(&candidates(&[None; 2]), 0, 4).sets().is_empty());
    assert!(Copysets::generate(&[], 1, 4).sets().is_empty());
    let single = Copysets::generate(&candidates(&[None; 2]), 1, 4);
    let sets: BTreeSet<&Vec<NodeId>> = single.sets().iter().collect();
    assert_eq!(sets, BTreeSet::from([&vec![NodeId(1)], &vec![NodeId(2)]]));
}

#[test]
fn few_sets_make_loss_rare() {
    let copysets = Copysets::generate(&candidates(&[None; 99]), 3, 10);
    assert_eq!(copysets.sets().len(), 5 * 33);
    assert!(copysets.distinct() <= 165);
    let choices = 99.0 * 98.0 * 97.0 / 6.0;
    assert!((copysets.loss_chance() - copysets.distinct() as f64 / choices).abs() < 1e-12);
    assert_eq!(Copysets::generate(&candidates(&[None; 3]), 3, 10).loss_chance(), 1.0);
}

proptest! {
    /// Without racks: sets of distinct nodes, as many for every node, and no more than the permutations allow; so nobody
    /// shares data with more others than P (R - 1), nor with fewer than R - 1.
    #[test]
    fn use_is_even_and_scatter_is_bounded(nodes in 1usize..40, replicas in 0usize..5, width in 1usize..12) {
        let replicas = 1 + replicas % nodes;
        let copysets = Copysets::generate(&candidates(&vec![None; nodes]), replicas, width);
        let permutations = permutations(nodes, replicas, width);
        prop_assert!(permutations <= width.div_ceil((replicas - 1).max(1)) + replicas);
        prop_assert_eq!(copysets.sets().len(), permutations * nodes / replicas);
        prop_assert_eq!(uses(&copysets, nodes), vec![permutations; nodes]);
        for set in copysets.sets() {
            prop_assert_eq!(set.len(), replicas);
            prop_assert!(set.is_sorted_by(|a, b| a < b));
        }
        for node in 1..=nodes as u32 {
            let scatter = copysets.scatter_width(NodeId(node));
            prop_assert!((replicas - 1..=permutations * (replicas - 1)).contains(&scatter));
        }
    }

    /// With racks: no set has more nodes of one rack than it must, and every node is in a set.
    #[test]
    fn racks_are_spread(racks in proptest::collection::vec(prop::option::of(0u32..5), 1..20), replicas in 0usize..5) {
        let replicas = 1 + replicas % racks.len();
        let candidates = candidates(&racks);
        let copysets = Copysets::generate(&candidates, replicas, 6);
        let rack_of = |node: NodeId| racks[node.0 as usize - 1].map_or(1000 + node.0, |rack| rack);
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        candidates.iter().for_each(|candidate| *sizes.entry(rack_of(candidate.node)).or_default() += 1);
        let cap = (1..).find(|cap| sizes.values().map(|size| size.min(cap)).sum::<usize>() >= replicas);
        for set in copysets.sets() {
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), replicas);
            for rack in sizes.keys() {
                prop_assert!(set.iter().filter(|&&node| rack_of(node) == *rack).count() <= cap.expect("enough nodes"));
            }
        }
        prop_assert!(uses(&copysets, racks.len()).iter().all(|&uses| uses > 0));
    }

    /// Racks of one size, and enough of them: use is as even as without racks.
    #[test]
    fn equal_racks_are_used_evenly(racks in 1u32..7, size in 1u32..5, replicas in 0usize..6) {
        let replicas = 1 + replicas % racks as usize;
        let racks: Vec<Option<u32>> = (0..racks * size).map(|node| Some(node % racks)).collect();
        let copysets = Copysets::generate(&candidates(&racks), replicas, 6);
        prop_assert_eq!(uses(&copysets, racks.len()), vec![permutations(racks.len(), replicas, 6); racks.len()]);
    }

    /// The order in which the nodes come doesn't matter.
    #[test]
    fn the_order_does_not_matter(racks in proptest::collection::vec(prop::option::of(0u32..3), 3..12)) {
        let forward = candidates(&racks);
        let backward: Vec<Candidate> = forward.iter().rev().cloned().collect();
        prop_assert_eq!(Copysets::generate(&forward, 3, 4), Copysets::generate(&backward, 3, 4));
    }
}
