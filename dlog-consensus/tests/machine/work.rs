//! What a step costs: it follows from the number of batches and peers, never from what waits.

use crate::clients::batch;
use crate::cluster::{Cluster, replica};
use dlog_consensus::{Acks, Input, Proposal, ReplicaOptions};
use dlog_core::LogId;

/// Requests that wait at once. Work that grows with them for each step would take minutes here.
const WAITING: u64 = 30_000;

#[test]
fn proposals_of_one_step_share_one_write_and_one_message_a_peer() {
    let mut cluster = Cluster::new(1, LogId(5), 3, 0, ReplicaOptions::default());
    let leader = cluster.elect();
    cluster
        .run_until("quiet", |cluster| cluster.network.is_empty() && cluster.nodes.values().all(|n| n.jobs.is_empty()));
    let proposals = (0..1000).map(|number| {
        let request = cluster.ask(leader, Acks::Quorum);
        let batches = vec![batch(Some((9, 0, number)), u64::try_from(number).expect("small") + 1, 1)];
        Proposal { request, batches, append_time: None, acks: Acks::Quorum }
    });
    let proposals: Vec<Proposal> = proposals.collect();
    cluster.step(leader, Input::ProposeAll(proposals));
    assert_eq!(cluster.node(leader).jobs.len(), 1);
    assert_eq!(cluster.network.len(), 2);
    cluster.run_until("all acked", |cluster| cluster.asked.is_empty());
    assert!(cluster.answers.iter().all(|answer| answer.result.is_ok()));
}

#[test]
fn what_waits_does_not_slow_a_step() {
    let mut cluster = Cluster::new(2, LogId(5), 1, 0, ReplicaOptions::default());
    let leader = cluster.elect();
    cluster.stuck.insert(leader);
    cluster.thorough = false;
    for number in 0..WAITING {
        let sequence = i32::try_from(number).expect("small");
        cluster.propose(leader, vec![batch(Some((9, 0, sequence)), number + 1, 1)], Acks::Quorum);
    }
    assert_eq!(cluster.machine(leader).status().pending_requests as u64, WAITING);
    // Repeats and refusals look at the producer's window alone.
    for _ in 0..WAITING {
        cluster.propose(leader, vec![batch(Some((9, 0, 7)), 8, 1)], Acks::Quorum);
    }
    assert_eq!(cluster.answers.len() as u64, WAITING);
    cluster.stuck.clear();
    let log = cluster.log;
    let jobs = cluster.node(leader).jobs.len();
    cluster.node_mut(replica(1)).sync(log, jobs, true);
    while let Some(input) = cluster.node_mut(leader).told.pop_front() {
        cluster.step(leader, input);
    }
    assert!(cluster.asked.is_empty());
    assert_eq!(cluster.machine(leader).status().pinned_bytes, 0);
}
