//! Group 0: commands reach the apply thread once and in order, whatever its state machine had kept when the node crashed.

use crate::chaos::fault;
use crate::cluster::{Cluster, Weather, replica};
use bytes::Bytes;
use dlog_consensus::{Acks, Input, ReplicaOptions, Reply};
use dlog_core::{LogId, LogIndex, ReplicaId, RequestId};
use std::collections::BTreeMap;

/// The state machine takes some of what it was given, and keeps it.
fn apply_some(cluster: &mut Cluster) {
    for id in cluster.ids() {
        let node = cluster.node(id);
        let open: Vec<LogIndex> = node.given.iter().map(|f| f.index).filter(|i| *i > node.state_applied).collect();
        if open.is_empty() || !cluster.is_up(id) || cluster.random.u32(0..3) > 0 {
            continue;
        }
        let index = open[cluster.random.usize(0..open.len())];
        cluster.node_mut(id).state_applied = index;
        cluster.step(id, Input::Applied { index });
        assert_eq!(cluster.machine(id).status().state_applied, index);
    }
}

/// Three of the five are to vote, the others to follow, as in group 0 of a cluster of five nodes.
fn intend(cluster: &mut Cluster) {
    let mut ids: Vec<ReplicaId> = (1..=5).map(replica).collect();
    cluster.random.shuffle(&mut ids);
    cluster.intend(&ids[..3], &ids[3..]);
}

fn run(seed: u64, changes: bool) -> (usize, usize) {
    let mut cluster = Cluster::new(seed, LogId::GROUP_ZERO, 3, 2, ReplicaOptions::default());
    cluster.weather = Weather { drop: 10, double: 10, delay: 30, slow_disk: 40, late_segments: 20 };
    let mut sent: BTreeMap<RequestId, Bytes> = BTreeMap::new();
    let mut number = 0u64;
    for _ in 0..300 {
        if cluster.random.u32(0..12) == 0 {
            fault(&mut cluster);
        }
        if let Some(leader) = cluster.leader()
            && cluster.random.bool()
        {
            number += 1;
            let command = Bytes::from(number.to_be_bytes().to_vec());
            let request = cluster.ask(leader, Acks::Quorum);
            sent.insert(request, command.clone());
            cluster.step(leader, Input::ProposeCommand { request, command });
        }
        apply_some(&mut cluster);
        if changes && cluster.random.u32(0..30) == 0 {
            intend(&mut cluster);
        }
        if changes && cluster.random.u32(0..5) == 0 {
            let one = replica(cluster.random.u32(1..=5));
            cluster.tell_intent(one);
        }
        cluster.round();
    }
    cluster.heal();
    if changes {
        intend(&mut cluster);
        let version = cluster.intents.last().expect("just made").version;
        cluster.run_until_confirmed(version);
    }
    cluster.elect();
    cluster.run_until("one log everywhere", |cluster| {
        let length = cluster.ledger.len();
        let done =
            |node: &crate::node::Node| node.durable.frames.len() == length && node.progress.commit.0 == length as u64;
        cluster.nodes.values().all(done)
    });
    cluster.check_converged();
    let mut acked = 0;
    for answer in &cluster.answers {
        if let Ok(Reply::Command { index }) = &answer.result {
            let at = usize::try_from(index.0 - 1).expect("small");
            assert_eq!(cluster.ledger[at].payload, sent[&answer.request]);
            acked += 1;
        }
    }
    (acked, cluster.history.len() - 1)
}

fn run_seeds(from: u64, changes: bool) {
    let (mut acked, mut changed) = (0, 0);
    for seed in from..from + 40 {
        println!("seed {seed}");
        let (more_acked, more_changed) = run(seed, changes);
        (acked, changed) = (acked + more_acked, changed + more_changed);
    }
    assert!(acked > 400, "only {acked} commands were acked");
    assert_eq!(changes, changed > 200, "{changed} changes of membership");
}

#[test]
fn commands_are_applied_once_and_in_order() {
    run_seeds(0, false);
}

#[test]
fn commands_are_applied_once_and_in_order_while_voters_change() {
    run_seeds(100, true);
}
