//! Seeds: bad weather and crashes first, then a healed cluster must go on and agree.

use crate::clients::Clients;
use crate::cluster::{Cluster, Weather};
use dlog_consensus::{Input, Refusal, ReplicaOptions};
use dlog_core::{LogId, LogIndex, Offset, ReplicaId};

/// Seeds of one test. Each takes some milliseconds.
const SEEDS: u64 = 60;

pub fn options() -> ReplicaOptions {
    ReplicaOptions { producers_max: 100, ..ReplicaOptions::default() }
}

pub fn weather(cluster: &mut Cluster) -> Weather {
    let mut up_to = |most: u32| if cluster.random.bool() { cluster.random.u32(0..=most) } else { 0 };
    Weather { drop: up_to(20), double: up_to(20), delay: up_to(60), slow_disk: up_to(80), late_segments: up_to(50) }
}

/// One fault, or its end.
pub fn fault(cluster: &mut Cluster) {
    let ids = cluster.ids();
    let one = ids[cluster.random.usize(0..ids.len())];
    let other = ids[cluster.random.usize(0..ids.len())];
    match cluster.random.u32(0..16) {
        0..=2 if cluster.is_up(one) => cluster.crash(one),
        0..=4 if !cluster.is_up(one) => cluster.start(one),
        5 => {
            cluster.blocked.insert((one, other));
        }
        6 => {
            // A partition: all that crosses from one part to the other.
            let part: Vec<_> = ids.iter().copied().filter(|_| cluster.random.bool()).collect();
            for id in &ids {
                for peer in part.iter().filter(|_| !part.contains(id)) {
                    cluster.blocked.extend([(*id, *peer), (*peer, *id)]);
                }
            }
        }
        7..=9 => cluster.blocked.clear(),
        10 => {
            cluster.stuck.insert(one);
        }
        11 => cluster.stuck.clear(),
        12 => cluster.step(one, Input::TransferLeadership { to: Some(other) }),
        13 => cluster.step(one, Input::Campaign),
        14 => cluster.step(one, Input::Unreachable { peer: other }),
        15 => cluster.weather = weather(cluster),
        _ => {}
    }
    if cluster.random.u32(0..4) == 0 && cluster.is_up(one) {
        cluster.step(one, Input::TakeProducers);
    }
    if cluster.retention {
        retain(cluster, one);
    }
}

/// Retention on one node: where it leads, the log start moves; what is below is dropped, and some of it later than it could be.
fn retain(cluster: &mut Cluster, one: ReplicaId) {
    if let Some(leader) = cluster.leader().filter(|leader| cluster.is_up(*leader)) {
        let end = cluster.node(leader).progress.high_watermark.0;
        let to = cluster.random.u64(0..=end + 1);
        // Mostly most of it goes.
        let to = if cluster.random.u32(0..3) == 0 { to } else { end / 10 * 9 };
        cluster.move_log_start(leader, Offset(to));
    }
    if cluster.is_up(one) {
        cluster.step(one, Input::TakeProducers);
        let end = cluster.node(one).durable.last().index.0;
        let index = LogIndex(cluster.random.u64(0..=end));
        cluster.node_mut(one).drop_through(index);
    }
}

/// A run of one seed; its trace if asked for.
fn run(seed: u64, voters: u32, learners: u32, trace: bool) -> (Cluster, Clients) {
    let cluster = Cluster::new(seed, LogId(5), voters, learners, options());
    run_cluster(cluster, trace)
}

fn run_cluster(mut cluster: Cluster, trace: bool) -> (Cluster, Clients) {
    cluster.trace = trace.then_some(0);
    cluster.weather = weather(&mut cluster);
    let mut clients = Clients::new(4);
    for _ in 0..cluster.random.u32(100..600) {
        if cluster.random.u32(0..12) == 0 {
            fault(&mut cluster);
        }
        for _ in 0..cluster.random.u32(0..4) {
            clients.act(&mut cluster, true);
        }
        cluster.round();
    }
    cluster.heal();
    let acked = clients.acked();
    cluster.run_until("an answer for every batch", |cluster| {
        clients.act(cluster, false);
        clients.is_idle()
    });
    cluster.elect();
    cluster.run_until("one log everywhere", |cluster| {
        let length = cluster.ledger.len();
        cluster
            .member_nodes()
            .all(|node| node.durable.last().index.0 == length as u64 && node.progress.commit.0 == length as u64)
    });
    // What was agreed on is durable with the next write.
    cluster.run_until("nothing to write", |cluster| cluster.nodes.values().all(|node| node.jobs.is_empty()));
    clients.listen(&mut cluster);
    cluster.check_converged();
    clients.check(&cluster);
    assert!(clients.acked() >= acked);
    (cluster, clients)
}

fn run_seeds(from: u64, voters: u32, learners: u32) {
    let (mut acked, mut reads) = (0, 0);
    for seed in from..from + SEEDS {
        println!("seed {seed}: {voters} voters, {learners} learners");
        let (cluster, clients) = run(seed, voters, learners, false);
        let unexpected = cluster.refusals.iter().find(|(_, refusal)| {
            // Votes and hand-overs that meet a busy disk, and read indexes that a new leader overtook.
            !matches!(refusal, Refusal::NotDurable | Refusal::NotLeader | Refusal::Unasked)
        });
        assert_eq!(unexpected, None, "honest messages are taken");
        acked += clients.acked();
        reads += clients.reads_done;
    }
    assert!(acked > 100 * usize::try_from(SEEDS).expect("small") / 10, "only {acked} batches were acked");
    assert!(reads > 0);
}

/// The same with a log start that moves, logs that are dropped below it, and replicas that come back too late for them.
fn run_with_retention(from: u64, voters: u32, learners: u32) {
    let (mut acked, mut installs) = (0, 0);
    for seed in from..from + SEEDS {
        println!("seed {seed}: {voters} voters, {learners} learners, with retention");
        let mut cluster = Cluster::new(seed, LogId(5), voters, learners, options());
        cluster.retention = true;
        let (cluster, clients) = run_cluster(cluster, false);
        acked += clients.acked();
        installs += cluster.installs;
    }
    assert!(acked > 100 * usize::try_from(SEEDS).expect("small") / 10, "only {acked} batches were acked");
    assert!(installs > SEEDS / 4, "only {installs} snapshots were installed");
}

#[test]
fn three_voters_with_retention() {
    run_with_retention(5000, 3, 0);
}

#[test]
fn five_voters_and_a_learner_with_retention() {
    run_with_retention(6000, 5, 1);
}

#[test]
fn a_lone_voter_with_learners_with_retention() {
    run_with_retention(7000, 1, 2);
}

#[test]
fn three_voters() {
    run_seeds(1000, 3, 0);
}

#[test]
fn five_voters() {
    run_seeds(2000, 5, 0);
}

#[test]
fn a_lone_voter_with_learners() {
    run_seeds(3000, 1, 2);
}

#[test]
fn two_voters_and_a_learner() {
    run_seeds(4000, 2, 1);
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    for seed in 1..6 {
        let (first, _) = run(seed, 3, 1, true);
        let (second, _) = run(seed, 3, 1, true);
        assert_eq!(first.trace, second.trace, "seed {seed}");
        let (other, _) = run(seed + 100, 3, 1, true);
        assert_ne!(first.trace, other.trace);
    }
}
