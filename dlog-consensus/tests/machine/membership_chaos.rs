//! Seeds with changes of membership: intents drawn from a pool of nodes, replaced by newer ones before they are reached, new
//! replicas, deletions, and all the faults of `chaos.rs`. A healed cluster must reach the newest intent and say so.

use crate::chaos::{fault, options, weather};
use crate::clients::Clients;
use crate::cluster::Cluster;
use dlog_consensus::{Input, Refusal};
use dlog_core::{LogId, NodeId, ReplicaId};
use std::collections::BTreeMap;

/// Seeds of one test; as many as `DLOG_MEMBERSHIP_SEEDS` says where the tests are built with it.
const SEEDS: u64 = 80;
/// Nodes that replicas may be placed on.
const POOL: u32 = 6;

/// The catalogue's placements: a node's replica keeps its id until it was deleted, then the next one is another.
struct Placements {
    ids: BTreeMap<u32, u32>,
}

impl Placements {
    fn on(&mut self, cluster: &Cluster, node: u32) -> ReplicaId {
        let number = self.ids.entry(node).or_insert(1);
        let known = ReplicaId::new(NodeId(node), *number);
        let was_here =
            cluster.intents.iter().any(|intent| intent.voters.contains(&known) || intent.learners.contains(&known))
                || cluster.membership.contains(known);
        if was_here && !cluster.nodes.contains_key(&known) {
            *number += 1;
        }
        ReplicaId::new(NodeId(node), *number)
    }

    /// Some nodes are to vote, and others perhaps to learn.
    fn intend(&mut self, cluster: &mut Cluster) {
        let mut nodes: Vec<u32> = (1..=POOL).collect();
        cluster.random.shuffle(&mut nodes);
        let voters = [1, 2, 3, 3, 3, 5][cluster.random.usize(0..6)];
        let learners = if cluster.random.u32(0..4) == 0 { 1 } else { 0 };
        let placed: Vec<ReplicaId> = nodes[..voters + learners].iter().map(|node| self.on(cluster, *node)).collect();
        cluster.intend(&placed[..voters], &placed[voters..]);
    }
}

/// One thing that the catalogue or its shells do.
fn catalogue(cluster: &mut Cluster, placements: &mut Placements) {
    match cluster.random.u32(0..40) {
        0 => placements.intend(cluster),
        1..=8 => {
            let ids = cluster.ids();
            let one = ids[cluster.random.usize(0..ids.len())];
            let count = cluster.intents.len();
            if cluster.random.u32(0..4) == 0 && count > 0 {
                // A shell that lags.
                let old = cluster.intents[cluster.random.usize(0..count)].clone();
                cluster.step(one, Input::Intend(old));
            } else {
                cluster.tell_intent(one);
            }
        }
        9 => cluster.take_confirmation(),
        _ => {}
    }
}

fn run(seed: u64, voters: u32, retention: bool) -> (Cluster, Clients) {
    let mut cluster = Cluster::new(seed, LogId(5), voters, 0, options());
    cluster.retention = retention;
    cluster.weather = weather(&mut cluster);
    let mut placements = Placements { ids: BTreeMap::new() };
    let mut clients = Clients::new(4);
    for _ in 0..cluster.random.u32(200..900) {
        if cluster.random.u32(0..14) == 0 {
            fault(&mut cluster);
        }
        catalogue(&mut cluster, &mut placements);
        for _ in 0..cluster.random.u32(0..3) {
            clients.act(&mut cluster, true);
        }
        cluster.round();
    }
    placements.intend(&mut cluster);
    cluster.heal();
    let version = cluster.intents.last().expect("just made").version;
    cluster.run_until_confirmed(version);
    cluster.take_confirmation();
    assert!(!cluster.members().is_joint());
    cluster.run_until("an answer for every batch", |cluster| {
        clients.act(cluster, false);
        clients.is_idle()
    });
    cluster.elect();
    cluster.run_until("one log on all members", |cluster| {
        let length = cluster.ledger.len() as u64;
        cluster.member_nodes().all(|node| node.durable.last().index.0 == length && node.progress.commit.0 == length)
    });
    cluster.run_until("nothing to write", |cluster| cluster.nodes.values().all(|node| node.jobs.is_empty()));
    clients.listen(&mut cluster);
    cluster.check_converged();
    clients.check(&cluster);
    (cluster, clients)
}

fn run_seeds(from: u64, voters: u32, retention: bool) {
    let (mut acked, mut changes, mut joint, mut installs) = (0, 0, 0, 0);
    let count = option_env!("DLOG_MEMBERSHIP_SEEDS").map_or(SEEDS, |count| count.parse().expect("a number"));
    for seed in from..from + count {
        println!("seed {seed}: {voters} voters at first, retention {retention}");
        let (cluster, clients) = run(seed, voters, retention);
        let unexpected = cluster.refusals.iter().find(|(_, refusal)| {
            // Late answers of replicas that were removed, beside what `chaos.rs` expects.
            let of_others = matches!(refusal, Refusal::NotAMember(_) | Refusal::Snapshot(_));
            !of_others && !matches!(refusal, Refusal::NotDurable | Refusal::NotLeader | Refusal::Unasked)
        });
        assert_eq!(unexpected, None, "honest messages are taken");
        acked += clients.acked();
        changes += cluster.history.len() - 1;
        joint += cluster.history.iter().filter(|(_, membership)| membership.is_joint()).count();
        installs += cluster.installs;
    }
    println!("{acked} acked, {changes} changes, {joint} joint states, {installs} snapshots");
    assert!(acked as u64 > count * 5 && changes as u64 > count * 4 && joint as u64 > count / 2);
    assert!(!retention || installs > count / 4, "only {installs} snapshots were installed");
}

#[test]
fn from_three_voters() {
    run_seeds(10_000, 3, false);
}

#[test]
fn from_a_lone_voter() {
    run_seeds(11_000, 1, false);
}

#[test]
fn from_three_voters_with_retention() {
    run_seeds(12_000, 3, true);
}
