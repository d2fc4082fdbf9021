//! Where does the log end? Asked of any replica, whatever is lost on the way.

use crate::clients::batch;
use crate::cluster::{Cluster, Weather, others, replica, three};
use dlog_consensus::{Acks, Input, MessageKind, PeerMessage, ReplicaOptions, Reply};
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome};
use dlog_core::{Offset, ReplicaId, RequestId};

fn read(cluster: &mut Cluster, node: ReplicaId) -> RequestId {
    let request = cluster.ask(node, Acks::Quorum);
    cluster.step(node, Input::ReadIndex { request });
    request
}

fn answer(cluster: &mut Cluster, request: RequestId) -> Result<Reply, ErrorDetail> {
    cluster.run_until("an answer", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    cluster.take_answer(request).expect("just seen")
}

fn end_of(result: Result<Reply, ErrorDetail>) -> Offset {
    match result {
        Ok(Reply::ReadIndex { high_watermark, .. }) => high_watermark,
        other => panic!("{other:?}"),
    }
}

fn append(cluster: &mut Cluster, leader: ReplicaId, number: u64) {
    let request = cluster.propose(leader, vec![batch(None, number, 2)], Acks::Quorum);
    let result = answer(cluster, request);
    assert!(result.is_ok(), "{result:?}");
}

/// The answer is an offset that this follower knows, and soon has: a reader waits for its read bound to get there.
#[test]
fn a_follower_that_lags_answers_once_it_knows_that_much_to_be_committed() {
    let (mut cluster, leader) = three(1, ReplicaOptions::default());
    let late = others(leader)[0];
    // It hears heartbeats, and none of the appends.
    cluster.blocked.insert((leader, late));
    append(&mut cluster, leader, 1);
    cluster.blocked.clear();
    let before = cluster.node(late).progress.high_watermark;
    let request = read(&mut cluster, late);
    assert!(before < Offset(2));
    assert!(end_of(answer(&mut cluster, request)) >= Offset(2));
    assert!(cluster.node(late).progress.high_watermark >= Offset(2));
    cluster.run_until("readable here", |cluster| cluster.node(late).progress.read_bound >= Offset(2));
}

#[test]
fn a_question_does_not_wait_for_the_followers_disk() {
    let (mut cluster, leader) = three(2, ReplicaOptions::default());
    let follower = others(leader)[0];
    append(&mut cluster, leader, 1);
    cluster.run_until("known", |cluster| cluster.node(follower).progress.high_watermark >= Offset(2));
    cluster.stuck.insert(follower);
    append(&mut cluster, leader, 3);
    let request = read(&mut cluster, follower);
    // Its own copy of the second batch isn't durable: the answer names an end that isn't readable here yet.
    assert_eq!(end_of(answer(&mut cluster, request)), Offset(4));
    assert!(cluster.node(follower).progress.read_bound < Offset(4));
}

#[test]
fn lost_questions_and_answers_are_asked_again_under_another_context() {
    for lost in [MessageKind::ReadIndex, MessageKind::ReadIndexResponse] {
        let (mut cluster, leader) = three(3, ReplicaOptions::default());
        append(&mut cluster, leader, 1);
        let request = read(&mut cluster, others(leader)[0]);
        let mut contexts = Vec::new();
        for _ in 0..30 {
            for id in cluster.ids() {
                cluster.tick(id);
                cluster.disk(id);
            }
            let it = |message: &PeerMessage| message.kind == lost;
            contexts.extend(cluster.network.iter().filter(|m| it(m)).map(|message| message.context.clone()));
            cluster.network.retain(|message| !it(message));
            cluster.deliver();
            if contexts.len() >= 2 {
                break;
            }
        }
        assert!(end_of(answer(&mut cluster, request)) >= Offset(2));
        let asked = contexts.len();
        contexts.sort();
        contexts.dedup();
        assert!(asked >= 2 && contexts.len() == asked, "asked again, and no context is used twice: {contexts:?}");
        assert_eq!(cluster.machine(others(leader)[0]).status().pending_requests, 0);
    }
}

/// A new leader that has committed nothing in its term stays silent; the follower asks until it has.
#[test]
fn a_read_waits_for_a_new_leaders_first_entry() {
    let (mut cluster, leader) = three(4, ReplicaOptions::default());
    append(&mut cluster, leader, 1);
    let [target, follower] = others(leader)[..] else { panic!("three") };
    cluster.run_until("quiet", |cluster| cluster.network.is_empty());
    cluster.step(leader, Input::TransferLeadership { to: Some(target) });
    cluster.run_until("it leads", |cluster| cluster.leader() == Some(target));
    // Its first entry goes nowhere yet; its heartbeats do.
    let mut asked = None;
    for _ in 0..12 {
        cluster.network.retain(|message| message.kind != MessageKind::AppendResponse);
        if asked.is_none() && cluster.machine(follower).role().leader == Some(target) {
            asked = Some(read(&mut cluster, follower));
        }
        cluster.round();
    }
    let request = asked.expect("the follower knows the leader");
    assert!(cluster.take_answer(request).is_none());
    assert!(end_of(answer(&mut cluster, request)) >= Offset(2));
}

#[test]
fn without_a_leader_a_read_is_refused_at_once_and_without_a_majority_in_time() {
    let (mut cluster, leader) = three(5, ReplicaOptions::default());
    let [one, two] = others(leader)[..] else { panic!("three") };
    append(&mut cluster, leader, 1);
    cluster.blocked.extend([(leader, one), (leader, two), (one, leader), (two, leader)]);
    let request = read(&mut cluster, leader);
    let error = answer(&mut cluster, request).expect_err("nobody confirms it");
    assert!(error.is_retryable() && error.outcome == Outcome::Rejected, "{error}");
    cluster.crash(two);
    cluster.run_until("one knows no leader", |cluster| cluster.machine(one).role().leader.is_none());
    let request = read(&mut cluster, one);
    let error = cluster.take_answer(request).expect("at once").expect_err("no leader");
    assert_eq!((error.code, error.is_retryable()), (ErrorCode::NoLeader, true));
    // A follower that hears its leader and nobody else's confirmation: told in time, and why.
    cluster.blocked.clear();
    cluster.start(two);
    let leader = cluster.elect();
    let lagging = others(leader)[0];
    let append_is_lost = |message: &PeerMessage| message.to == lagging && message.kind == MessageKind::Append;
    let request = cluster.propose(leader, vec![batch(None, 9, 1)], Acks::Quorum);
    let mut asked = None;
    for _ in 0..120 {
        cluster.network.retain(|message| !append_is_lost(message));
        cluster.round();
        if asked.is_none() && cluster.take_answer(request).is_some() {
            asked = Some(read(&mut cluster, lagging));
        }
    }
    let asked = asked.expect("the others have it");
    let error = cluster.take_answer(asked).expect("answered in time").expect_err("it lags");
    assert_eq!((error.code, error.is_retryable()), (ErrorCode::NotYetAvailable, true), "{error}");
}

/// An old leader that was cut off answers nothing that the new one has overtaken; whoever answers knows all that was acked.
#[test]
fn no_read_is_stale_across_changes_of_leader() {
    for seed in 0..40 {
        let (mut cluster, _) = three(100 + seed, ReplicaOptions::default());
        cluster.weather = Weather { drop: 10, double: 10, delay: 30, slow_disk: 30, late_segments: 0 };
        let (mut acked, mut number) = (Offset::ZERO, 1);
        let mut writes: Vec<RequestId> = Vec::new();
        let mut reads: Vec<(RequestId, Offset)> = Vec::new();
        let mut done = 0;
        for round in 0..400 {
            if round % 50 == 25 {
                let cut = cluster.leader().unwrap_or(replica(1));
                let ids = cluster.ids();
                cluster.blocked = ids.iter().flat_map(|id| [(cut, *id), (*id, cut)]).collect();
            } else if round % 50 == 49 {
                cluster.blocked.clear();
            }
            let any = replica(cluster.random.u32(1..=3));
            reads.push((read(&mut cluster, any), acked));
            if let Some(leader) = cluster.leader() {
                writes.push(cluster.propose(leader, vec![batch(None, number, 2)], Acks::Quorum));
                number += 2;
            }
            cluster.round();
            for answer in std::mem::take(&mut cluster.answers) {
                match answer.result {
                    Ok(Reply::Appended(batches)) if writes.contains(&answer.request) => {
                        acked = acked.max(batches[0].last_offset.plus(1));
                    }
                    Ok(Reply::ReadIndex { high_watermark, .. }) => {
                        let (_, before) = reads.iter().find(|(id, _)| *id == answer.request).expect("asked");
                        assert!(high_watermark >= *before, "seed {seed}: a stale read");
                        done += 1;
                    }
                    _ => {}
                }
            }
        }
        assert!(done > 50 && acked > Offset(20), "seed {seed}: {done} reads, {acked} acked");
    }
}
