//! One rule at a time, in good weather.

use crate::clients::{batch, sized_batch};
use crate::cluster::{Cluster, others, replica, three};
use dlog_consensus::{Acks, Input, MessageKind, Proposal, ReplicaOptions, Reply};
use dlog_core::{LogId, LogIndex};

#[test]
fn a_leader_with_a_stuck_disk_acks_what_the_others_have() {
    let (mut cluster, leader) = three(1, ReplicaOptions::default());
    cluster.stuck.insert(leader);
    let before = cluster.node(leader).durable.last().index;
    let request = cluster.propose(leader, vec![batch(None, 1, 3)], Acks::Quorum);
    cluster.run_until("an ack", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    assert!(matches!(cluster.take_answer(request), Some(Ok(Reply::Appended(_)))));
    assert_eq!(cluster.node(leader).durable.last().index, before, "its own disk did nothing");
    assert!(cluster.node(leader).progress.read_bound < cluster.node(leader).progress.high_watermark);
}

#[test]
fn followers_with_stuck_disks_answer_heartbeats_and_ack_nothing() {
    let (mut cluster, leader) = three(2, ReplicaOptions::default());
    let term = cluster.machine(leader).role().term;
    cluster.stuck.extend(others(leader));
    let request = cluster.propose(leader, vec![batch(None, 1, 3)], Acks::Quorum);
    for _ in 0..200 {
        cluster.round();
    }
    assert!(cluster.take_answer(request).is_none(), "one disk is no majority");
    assert_eq!(cluster.leader(), Some(leader), "a busy disk looks like a busy disk, not like death");
    assert_eq!(cluster.machine(leader).role().term, term);
    cluster.stuck.clear();
    cluster.run_until("an ack", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    assert!(matches!(cluster.take_answer(request), Some(Ok(_))));
}

#[test]
fn a_follower_that_was_away_catches_up_by_reads() {
    let options = ReplicaOptions { append_bytes_max: 2000, ..ReplicaOptions::default() };
    let (mut cluster, leader) = three(3, options);
    let away = others(leader)[0];
    cluster.crash(away);
    for number in 0..200 {
        cluster.propose(leader, vec![sized_batch(None, number + 1, 1, 300)], Acks::Quorum);
        cluster.round();
    }
    cluster.run_until("all acked", |cluster| cluster.asked.is_empty());
    assert_eq!(cluster.fetches, 0);
    cluster.start(away);
    let last = cluster.node(leader).durable.last().index;
    cluster.run_until("caught up", |cluster| cluster.node(away).durable.last().index >= last);
    assert!(cluster.fetches > 5, "{} reads", cluster.fetches);
    assert!(cluster.node(away).durable.frames[..] == cluster.ledger[..cluster.node(away).durable.frames.len()]);
}

#[test]
fn a_large_step_fills_the_windows_without_waiting_for_answers() {
    let (mut cluster, leader) = three(4, ReplicaOptions::default());
    cluster
        .run_until("quiet", |cluster| cluster.network.is_empty() && cluster.nodes.values().all(|n| n.jobs.is_empty()));
    let proposals = (0..6).map(|number| {
        let request = cluster.ask(leader, Acks::Quorum);
        let batches = vec![sized_batch(None, number + 1, 1, 700_000)];
        Proposal { request, batches, append_time: None, acks: Acks::Quorum }
    });
    let proposals: Vec<Proposal> = proposals.collect();
    cluster.network.clear();
    cluster.step(leader, Input::ProposeAll(proposals));
    for follower in others(leader) {
        let appends = cluster.network.iter().filter(|m| m.to == follower && m.kind == MessageKind::Append);
        let entries: usize = appends.map(|message| message.entries.len()).sum();
        assert_eq!(entries, 6, "everything is on its way");
    }
    cluster.run_until("all acked", |cluster| cluster.asked.is_empty());
}

#[test]
fn asking_to_campaign_at_every_tick_does_not_throw_votes_away() {
    let mut cluster = Cluster::new(5, LogId(5), 3, 0, ReplicaOptions::default());
    for id in cluster.ids() {
        cluster.disk(id);
    }
    let preferred = replica(2);
    // A round trip takes several ticks here: every message waits one.
    for _ in 0..9 {
        cluster.step(preferred, Input::Campaign);
        for id in cluster.ids() {
            cluster.tick(id);
        }
        cluster.deliver();
        for id in cluster.ids() {
            cluster.disk(id);
        }
    }
    assert_eq!(cluster.leader(), Some(preferred));
}

#[test]
fn leadership_moves_when_asked_and_nothing_is_lost() {
    let (mut cluster, leader) = three(6, ReplicaOptions::default());
    let target = others(leader)[1];
    let request = cluster.propose(leader, vec![batch(None, 1, 3)], Acks::Quorum);
    cluster.step(leader, Input::TransferLeadership { to: Some(target) });
    cluster.run_until("the target leads", |cluster| cluster.leader() == Some(target));
    assert!(matches!(cluster.take_answer(request), Some(Ok(_))), "what was in flight is acked first");
}

#[test]
fn a_stop_ends_even_without_a_successor() {
    let (mut cluster, leader) = three(7, ReplicaOptions::default());
    for other in others(leader) {
        cluster.crash(other);
    }
    cluster.step(leader, Input::Shutdown);
    cluster.run_until("stopped", |cluster| cluster.node(leader).stopped);
}

#[test]
fn the_high_watermark_is_known_after_a_restart() {
    let (mut cluster, leader) = three(8, ReplicaOptions::default());
    for number in 0..5 {
        cluster.propose(leader, vec![batch(None, number * 10 + 1, 2)], Acks::Quorum);
    }
    cluster
        .run_until("noted everywhere", |cluster| cluster.nodes.values().all(|node| node.durable.commit >= LogIndex(6)));
    let before = cluster.node(leader).progress;
    cluster.crash(leader);
    cluster.start(leader);
    let after = cluster.node(leader).progress;
    assert_eq!((after.high_watermark, after.commit), (before.high_watermark, before.commit));
    assert_eq!(after.read_bound, after.high_watermark);
}
