//! Linearizable reads from every node, leader or not, while leaders are paused, killed and stopped: with real time at hand a
//! checker finds none that misses a record acked before it began. The committed reads beside them, from the same replicas,
//! do miss some: so the test can see it.

mod load;

use dlog_cluster_tests::realtime::{AckAt, ReadAt, Stale, stale_reads};
use dlog_cluster_tests::{Cluster, Random, Turn, short_or_full, wait};
use load::{Kind, Load, TOPIC};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

const NODES: usize = 3;
/// Records acked after each fault before it is mended, and before the next.
const ACKED_BETWEEN: usize = 150;

/// What befalls a node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    PauseLeader,
    KillLeader,
    StopLeader,
    PauseFollower,
}

/// The writes go on.
fn wait_for_acks(load: &Load) {
    let before = load.acked.load(Ordering::Relaxed);
    wait::until("records are acked", wait::LONG, || {
        (load.acked.load(Ordering::Relaxed) >= before + ACKED_BETWEEN).then_some(())
    });
}

fn befall(cluster: &mut Cluster, load: &Load, fault: Fault, random: &mut Random) {
    let leader = cluster.index_of(&cluster.leader_of(TOPIC, 0));
    let node = match fault {
        Fault::PauseFollower => (leader + 1 + random.below(NODES - 1)) % NODES,
        _ => leader,
    };
    let name = cluster.nodes[node].name().to_string();
    match fault {
        Fault::PauseLeader | Fault::PauseFollower => {
            cluster.nodes[node].pause();
            wait_for_acks(load);
            cluster.nodes[node].resume();
        }
        Fault::KillLeader => {
            cluster.nodes[node].kill();
            wait_for_acks(load);
            cluster.restart(node);
        }
        Fault::StopLeader => {
            assert_eq!(cluster.nodes[node].terminate(), 0, "{name} ended badly");
            wait_for_acks(load);
            cluster.restart(node);
        }
    }
    cluster.wait_in_sync(TOPIC);
    wait_for_acks(load);
    eprintln!("linearizable: {fault:?}, {name}; {} records acked", load.acked.load(Ordering::Relaxed));
}

/// How far behind the worst was, in records and in milliseconds since it could be known.
fn worst(stale: &[Stale]) -> (u64, u64) {
    let behind = stale.iter().map(|s| s.required - s.read.end).max().unwrap_or_default();
    let late = stale.iter().map(|s| (s.read.began - s.known_at) / 1_000_000).max().unwrap_or_default();
    (behind, late)
}

fn longest_ms(reads: &[ReadAt]) -> u64 {
    reads.iter().map(|read| (read.ended - read.began) / 1_000_000).max().unwrap_or_default()
}

fn count_by_node(reads: &[ReadAt]) -> Vec<usize> {
    (0..NODES).map(|node| reads.iter().filter(|read| read.node == node).count()).collect()
}

/// Keeps what the checker saw, for whoever looks into a failure.
fn save(turn: &Turn, acks: &[AckAt], reads: &[ReadAt], stale: &[Stale]) {
    let mut text = String::new();
    stale.iter().for_each(|stale| writeln!(text, "{stale:?}").expect("a string"));
    acks.iter().for_each(|ack| writeln!(text, "{ack:?}").expect("a string"));
    reads.iter().for_each(|read| writeln!(text, "{read:?}").expect("a string"));
    let path = turn.dir().join("history.txt");
    std::fs::write(&path, text).unwrap_or_else(|e| eprintln!("can't keep the history: {e}"));
    eprintln!("linearizable: what was seen stands in {}", path.display());
}

#[test]
fn reads_are_never_stale_and_committed_ones_are() {
    let mut turn = Turn::take("linearizable");
    turn.keep_if_failed();
    let mut random = Random::new("linearizable");
    let mut cluster = Cluster::start(&turn, NODES);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    let load: &'static Load = Box::leak(Box::new(Load::new(&cluster.servers())));
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(load::run(load));
    });
    wait_for_acks(load);
    let faults = [Fault::PauseLeader, Fault::KillLeader, Fault::PauseFollower, Fault::StopLeader, Fault::PauseLeader];
    for round in 0..short_or_full(faults.len(), 60) {
        befall(&mut cluster, load, faults[round % faults.len()], &mut random);
    }
    load.stop();
    loading.join().expect("the load doesn't panic");

    let acks = load.acks();
    let (linearizable, committed) = (load.reads(Kind::Linearizable), load.reads(Kind::Committed));
    let (stale, stale_committed) = (stale_reads(&acks, &linearizable), stale_reads(&acks, &committed));
    eprintln!(
        "linearizable: {} acks; {:?} linearizable reads of each node (the longest took {} ms), {} stale; {:?} committed reads \
         of each node, {} stale, by at most {:?} (records, ms); failed instead: {:?}",
        acks.len(),
        count_by_node(&linearizable),
        longest_ms(&linearizable),
        stale.len(),
        count_by_node(&committed),
        stale_committed.len(),
        worst(&stale_committed),
        load.failed(),
    );
    if !stale.is_empty() {
        save(&turn, &acks, &linearizable, &stale);
    }
    assert!(stale.is_empty(), "{} stale reads, among them {:#?}", stale.len(), &stale[..stale.len().min(10)]);
    assert_eq!(load.wrong(), [""; 0], "what should never have been answered");
    assert!(count_by_node(&linearizable).iter().all(|count| *count >= 100), "too few reads to tell");
    assert!(!stale_committed.is_empty(), "no committed read was stale: this test would not see a stale one");
    cluster.wait_healthy();
    cluster.finish();
}
