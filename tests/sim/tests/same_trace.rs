//! The same seed twice gives the same trace: what a failing seed shows can be seen again.

use dlog_sim::many::Seeds;
use dlog_sim::{Broken, run};

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    let seeds = Seeds { first: 1, count: 8, shape: None, broken: Broken::No, threads: 1 };
    let mut hashes = Vec::new();
    for seed in 1..=seeds.count {
        let options = seeds.options(seed);
        let (one, two) = (run(&options), run(&options));
        assert_eq!(one, two, "seed {seed}");
        assert!(one.lines > 1_000, "seed {seed} has only {} lines", one.lines);
        hashes.push(one.hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len() as u64, seeds.count, "different seeds give different traces");
}
