//! The log start, what is dropped below it, and replicas that come back too late: one rule at a time.

use crate::clients::batch;
use crate::cluster::{Cluster, Weather, others, three};
use dlog_consensus::{Acks, Input, MessageKind, Output, PeerMessage, ReplicaOptions, Reply};
use dlog_core::error::{ErrorCode, Outcome};
use dlog_core::write::WriteOp;
use dlog_core::{FrameKind, LogIndex, Offset, ReplicaId};
use std::time::Duration;

/// Batches of two records, acked: numbers 2n + 1 of producer 9.
fn append(cluster: &mut Cluster, leader: ReplicaId, sequences: std::ops::Range<i32>) {
    for n in sequences {
        let bytes = batch(Some((9, 0, n * 2)), n as u64 * 2 + 1, 2);
        let request = cluster.propose(leader, vec![bytes], Acks::Quorum);
        let result = answer(cluster, request);
        assert!(matches!(result, Ok(Reply::Appended(_))), "{result:?}");
    }
}

fn answer(cluster: &mut Cluster, request: dlog_core::RequestId) -> Result<Reply, dlog_core::ErrorDetail> {
    cluster.run_until("an answer", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    cluster.take_answer(request).expect("just seen")
}

fn move_log_start(cluster: &mut Cluster, leader: ReplicaId, to: u64) {
    let request = cluster.move_log_start(leader, Offset(to));
    assert_eq!(answer(cluster, request), Ok(Reply::LogStart { log_start: Offset(to) }));
}

/// Every node that is up writes down its producers and drops all that it may.
fn drop_segments(cluster: &mut Cluster) {
    let up: Vec<ReplicaId> = cluster.ids().into_iter().filter(|id| cluster.is_up(*id)).collect();
    for id in &up {
        cluster.step(*id, Input::TakeProducers);
    }
    cluster.run_until("all is durable", |cluster| up.iter().all(|id| cluster.node(*id).jobs.is_empty()));
    for id in &up {
        cluster.node_mut(*id).drop_through(LogIndex(u64::MAX));
        cluster.disk(*id);
    }
}

fn converge(cluster: &mut Cluster) {
    cluster.run_until("one log everywhere", |cluster| {
        let length = cluster.ledger.len() as u64;
        let whole = |node: &crate::node::Node| {
            node.durable.last().index.0 == length && node.progress.commit.0 == length && node.jobs.is_empty()
        };
        cluster.nodes.values().all(whole)
    });
    cluster.check_converged();
}

#[test]
fn all_replicas_agree_on_the_log_start() {
    let (mut cluster, leader) = three(1, ReplicaOptions::default());
    append(&mut cluster, leader, 0..10);
    move_log_start(&mut cluster, leader, 12);
    converge(&mut cluster);
    for node in cluster.nodes.values() {
        assert_eq!((node.progress.log_start, node.durable.log_start), (Offset(12), Offset(12)));
    }
    let entries = cluster.ledger.iter().filter(|frame| frame.kind == FrameKind::LogStart).count();
    // Moves that go nowhere append nothing.
    let request = cluster.move_log_start(leader, Offset(7));
    assert_eq!(answer(&mut cluster, request), Ok(Reply::LogStart { log_start: Offset(12) }));
    let request = cluster.move_log_start(leader, Offset(99));
    let error = answer(&mut cluster, request).expect_err("beyond what is committed");
    assert_eq!((error.code, error.outcome), (ErrorCode::OffsetOutOfRange, Outcome::Rejected));
    let request = cluster.move_log_start(others(leader)[0], Offset(13));
    assert_eq!(answer(&mut cluster, request).expect_err("a follower").code, ErrorCode::NotLeader);
    assert_eq!(cluster.ledger.iter().filter(|frame| frame.kind == FrameKind::LogStart).count(), entries);
}

#[test]
fn a_move_that_is_under_way_answers_for_a_smaller_one() {
    let (mut cluster, leader) = three(2, ReplicaOptions::default());
    append(&mut cluster, leader, 0..10);
    let far = cluster.move_log_start(leader, Offset(15));
    let near = cluster.move_log_start(leader, Offset(11));
    let farther = cluster.move_log_start(leader, Offset(17));
    for (request, log_start) in [(far, 15), (near, 15), (farther, 17)] {
        assert_eq!(answer(&mut cluster, request), Ok(Reply::LogStart { log_start: Offset(log_start) }));
    }
    assert_eq!(cluster.ledger.iter().filter(|frame| frame.kind == FrameKind::LogStart).count(), 2);
}

/// The entry is applied, and the power goes before the log start is written: a start finds it again, whatever the producers' file
/// already knows.
#[test]
fn a_log_start_survives_a_crash_between_its_entry_and_its_write() {
    for keeps_producers in [false, true] {
        let (mut cluster, leader) = three(3, ReplicaOptions::default());
        append(&mut cluster, leader, 0..10);
        move_log_start(&mut cluster, leader, 12);
        let entry = cluster.ledger.iter().find(|frame| frame.kind == FrameKind::LogStart).expect("moved").index;
        let follower = others(leader)[0];
        cluster.run_until("applied", |cluster| cluster.machine(follower).status().applied >= entry);
        // As if no write since the entry's own had reached the disk, but the table, and the commit index in some later record.
        let mut durable = cluster.node(follower).durable.clone();
        cluster.crash_with(follower, 0);
        durable.log_start = Offset(0);
        durable.commit = entry;
        if keeps_producers {
            let table = cluster.machine(leader).producer_table().expect("nothing is installed");
            assert!(table.0 >= entry && table.0 <= durable.last().index);
            durable.producers = Some(table);
        }
        cluster.node_mut(follower).durable = durable.clone();
        cluster.node_mut(follower).said = durable;
        cluster.start(follower);
        assert_eq!(cluster.node(follower).progress.log_start, Offset(12), "{keeps_producers}");
        cluster.run_until("it is written again", |cluster| cluster.node(follower).durable.log_start == Offset(12));
        converge(&mut cluster);
    }
}

#[test]
fn a_replica_that_was_away_past_the_local_start_catches_up() {
    let (mut cluster, leader) = three(4, ReplicaOptions { append_bytes_max: 500, ..ReplicaOptions::default() });
    append(&mut cluster, leader, 0..3);
    let away = others(leader)[0];
    cluster.crash(away);
    append(&mut cluster, leader, 3..30);
    move_log_start(&mut cluster, leader, 40);
    drop_segments(&mut cluster);
    let start = cluster.machine(leader).status();
    assert!(start.local_start > LogIndex(15) && start.local_start_offset <= Offset(40), "{start:?}");
    append(&mut cluster, leader, 30..60);
    cluster.start(away);
    let fetches = cluster.fetches;
    converge(&mut cluster);
    assert!(cluster.fetches > fetches + 3, "the records follow as ordinary appends, read bit by bit");
    let status = cluster.machine(away).status();
    assert_eq!((status.installed_snapshots, status.local_start), (1, start.local_start));
    assert_eq!(status.membership_index, status.as_of);
    assert_eq!(cluster.machine(leader).status().sent_snapshots, 1);
    assert_eq!(cluster.node(away).progress.log_start, Offset(40));
    // What the other ones know of the producer, it knows too.
    cluster.step(leader, Input::TransferLeadership { to: Some(away) });
    cluster.run_until("the late one leads", |cluster| cluster.leader() == Some(away));
    cluster.elect();
    for sequence in [55, 59] {
        let retry = batch(Some((9, 0, sequence * 2)), sequence as u64 * 2 + 1, 2);
        let request = cluster.propose(away, vec![retry], Acks::Quorum);
        let Ok(Reply::Appended(appended)) = answer(&mut cluster, request) else { panic!("refused") };
        assert!(appended[0].duplicate && appended[0].base_offset == Offset(sequence as u64 * 2));
    }
    append(&mut cluster, away, 60..62);
}

/// At every moment of a snapshot's way the receiver's power goes, with any part of what it had queued on its disk.
#[test]
fn a_crash_at_any_step_of_an_install_leaves_a_replica_that_goes_on() {
    let mut installs = 0;
    for steps in 0..14 {
        for survivors in 0..4 {
            let (mut cluster, leader) = three(5, ReplicaOptions::default());
            append(&mut cluster, leader, 0..3);
            let away = others(leader)[0];
            cluster.crash(away);
            append(&mut cluster, leader, 3..20);
            move_log_start(&mut cluster, leader, 30);
            drop_segments(&mut cluster);
            append(&mut cluster, leader, 20..22);
            cluster.start(away);
            cluster.stuck.insert(away);
            // The crate probes first, and is told where the logs part: then it sends a snapshot.
            cluster.run_until("a snapshot arrives", |cluster| {
                cluster.node(away).said.start.index > LogIndex::ZERO
                    && cluster.node(away).durable.start.index == LogIndex::ZERO
            });
            for _ in 0..steps {
                cluster.round();
                if steps % 2 == 1 {
                    cluster.stuck.clear();
                }
            }
            cluster.crash_with(away, survivors);
            cluster.stuck.clear();
            cluster.start(away);
            if cluster.node(away).durable.start.index > LogIndex::ZERO {
                installs += 1;
            }
            append(&mut cluster, leader, 22..24);
            converge(&mut cluster);
            let duplicate = batch(Some((9, 0, 46)), 47, 2);
            cluster.step(leader, Input::TransferLeadership { to: Some(away) });
            cluster.run_until("the late one leads", |cluster| cluster.leader() == Some(away));
            cluster.elect();
            let request = cluster.propose(away, vec![duplicate], Acks::Quorum);
            let Ok(Reply::Appended(appended)) = answer(&mut cluster, request) else { panic!("refused") };
            assert!(appended[0].duplicate);
        }
    }
    assert!((5..56).contains(&installs), "{installs} crashes came after the install");
}

/// The state is of C, the log ends before it: entries up to C come and change nothing. Then the power goes again.
#[test]
fn entries_up_to_c_change_nothing_across_restarts() {
    let (mut cluster, leader) = three(6, ReplicaOptions { append_bytes_max: 300, ..ReplicaOptions::default() });
    let away = others(leader)[0];
    cluster.crash(away);
    append(&mut cluster, leader, 0..20);
    move_log_start(&mut cluster, leader, 20);
    drop_segments(&mut cluster);
    append(&mut cluster, leader, 20..40);
    cluster.start(away);
    let mut restarts_below = 0;
    for _ in 0..200 {
        cluster.round();
        let node = cluster.node(away);
        let as_of = node.durable.producers.as_ref().map_or(LogIndex::ZERO, |(index, _)| *index);
        let last = node.durable.last().index;
        if as_of > last && node.durable.start.index > LogIndex::ZERO {
            restarts_below += 1;
            cluster.crash_with(away, usize::MAX);
            cluster.start(away);
            let status = cluster.machine(away).status();
            assert_eq!((status.as_of, status.membership_index), (as_of, as_of), "C survives a restart");
            assert_eq!(status.progress.commit, cluster.node(away).durable.last().index, "all that it has is committed");
            cluster.step(away, Input::TakeProducers);
        }
        if restarts_below >= 5 {
            break;
        }
    }
    assert!(restarts_below >= 2, "{restarts_below}");
    converge(&mut cluster);
    for id in cluster.ids() {
        cluster.step(id, Input::TakeProducers);
    }
    // The cluster compares the tables.
    converge(&mut cluster);
    let tables: Vec<_> =
        cluster.nodes.values().map(|node| node.machine.as_ref().expect("up").producer_table()).collect();
    assert!(tables.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_lost_snapshot_is_sent_again() {
    for breaks in [false, true] {
        let (mut cluster, leader) = three(7, ReplicaOptions::default());
        let away = others(leader)[0];
        cluster.crash(away);
        append(&mut cluster, leader, 0..20);
        move_log_start(&mut cluster, leader, 20);
        drop_segments(&mut cluster);
        cluster.start(away);
        let is_snapshot = |message: &PeerMessage| message.kind == MessageKind::Snapshot;
        cluster.run_until("a snapshot is sent", |cluster| cluster.network.iter().any(is_snapshot));
        cluster.network.retain(|message| !is_snapshot(message));
        if breaks {
            cluster.step(leader, Input::Unreachable { peer: away });
        }
        converge(&mut cluster);
        let status = cluster.machine(leader).status();
        assert_eq!((status.sent_snapshots, status.failed_snapshots), (2, 1));
    }
}

/// A leader that has had its log from a snapshot, and hasn't yet applied up to C, passes on what it got.
#[test]
fn a_snapshot_survives_a_change_of_leader() {
    let (mut cluster, first) = three(8, ReplicaOptions::default());
    let [second, third] = others(first)[..] else { panic!("three") };
    cluster.crash(third);
    append(&mut cluster, first, 0..20);
    move_log_start(&mut cluster, first, 20);
    drop_segments(&mut cluster);
    cluster.start(third);
    cluster.run_until("a snapshot is under way", |cluster| cluster.machine(first).status().sent_snapshots > 0);
    cluster.crash(first);
    let next = cluster.elect();
    append(&mut cluster, next, 20..25);
    assert!(next == second || cluster.machine(third).status().last >= cluster.node(second).durable.last().index);
    cluster.start(first);
    converge(&mut cluster);
    append(&mut cluster, next, 25..30);
    converge(&mut cluster);
}

/// Readers of a replica that is being reset see nothing of what its log held beyond the old high watermark.
#[test]
fn the_read_bound_waits_for_the_reset() {
    let (mut cluster, leader) = three(9, ReplicaOptions::default());
    append(&mut cluster, leader, 0..3);
    converge(&mut cluster);
    let away = others(leader)[0];
    cluster.crash(away);
    append(&mut cluster, leader, 3..20);
    move_log_start(&mut cluster, leader, 30);
    drop_segments(&mut cluster);
    cluster.start(away);
    cluster.stuck.insert(away);
    cluster.run_until("a snapshot arrives", |cluster| cluster.node(away).said.start.index > LogIndex::ZERO);
    let during = cluster.node(away).progress;
    assert!(during.high_watermark >= Offset(30) && during.read_bound <= Offset(6), "{during:?}");
    assert_eq!(cluster.machine(away).producer_table(), None, "its table isn't durable");
    cluster.step(away, Input::TakeProducers);
    cluster.stuck.clear();
    cluster.run_until("installed", |cluster| cluster.machine(away).status().installed_snapshots == 1);
    assert!(cluster.node(away).progress.read_bound >= Offset(30));
    converge(&mut cluster);
    assert!(cluster.node(away).durable.producers.is_some(), "the table that was asked for came then");
}

/// Frames that are still needed were dropped: the replica says so and goes no further.
#[test]
fn a_local_start_above_what_was_agreed_is_fatal() {
    let (mut cluster, leader) = three(10, ReplicaOptions::default());
    append(&mut cluster, leader, 0..5);
    let start = cluster.node(leader).durable.last();
    let node = cluster.node_mut(leader);
    let mut out = Vec::new();
    let machine = node.machine.as_mut().expect("up");
    machine.step(dlog_core::MonotonicTime(0), Input::LocalStart { start }, &mut out);
    assert!(out.iter().any(|output| matches!(output, Output::Fatal { .. })), "{out:?}");
}

/// Behind a snapshot the agreed log start is ahead of the log here: storage may drop what has just come. The machine keeps what
/// it has yet to apply.
#[test]
fn what_is_dropped_before_it_is_applied_is_still_applied() {
    let (mut cluster, leader) = three(13, ReplicaOptions { append_bytes_max: 300, ..ReplicaOptions::default() });
    let away = others(leader)[0];
    cluster.crash(away);
    append(&mut cluster, leader, 0..20);
    move_log_start(&mut cluster, leader, 20);
    drop_segments(&mut cluster);
    append(&mut cluster, leader, 20..40);
    move_log_start(&mut cluster, leader, 80);
    cluster.start(away);
    cluster.weather = Weather { slow_disk: 40, ..Weather::default() };
    let mut ahead = 0;
    for _ in 0..400 {
        cluster.round();
        cluster.node_mut(away).drop_through(LogIndex(u64::MAX));
        let (storage, machine) = (cluster.node(away).durable.start.index, cluster.machine(away).status());
        ahead += u32::from(storage > machine.applied);
    }
    assert!(ahead > 0, "it was dropped before it was applied");
    cluster.weather = Weather::default();
    converge(&mut cluster);
    assert_eq!(cluster.machine(away).status().local_start, cluster.node(away).durable.start.index);
}

fn expiring(expiry: Duration) -> ReplicaOptions {
    ReplicaOptions { producer_expiry: expiry, ..ReplicaOptions::default() }
}

#[test]
fn silent_producers_are_forgotten_on_all_replicas_at_once() {
    let (mut cluster, leader) = three(11, expiring(Duration::from_secs(20)));
    append(&mut cluster, leader, 0..2);
    let other = cluster.propose(leader, vec![batch(Some((8, 0, 0)), 1001, 1)], Acks::Quorum);
    answer(&mut cluster, other).expect("acked");
    let mut next = 2;
    // Producer 9 goes on, producer 8 doesn't; the leader changes meanwhile.
    for part in 0..3 {
        let until = cluster.now.plus(Duration::from_secs(8));
        while cluster.now < until {
            cluster.round();
        }
        let leader = cluster.elect();
        append(&mut cluster, leader, next..next + 1);
        next += 1;
        if part == 0 {
            cluster.step(leader, Input::TransferLeadership { to: None });
            cluster.run_until("another leads", |cluster| cluster.leader().is_some_and(|other| other != leader));
        }
    }
    cluster
        .run_until("an expiry", |cluster| cluster.ledger.iter().any(|frame| frame.kind == FrameKind::ProducerExpiry));
    let leader = cluster.elect();
    converge(&mut cluster);
    for node in cluster.nodes.values() {
        assert_eq!(node.machine.as_ref().expect("up").status().producers, 1);
    }
    let late = cluster.propose(leader, vec![batch(Some((8, 0, 1)), 1002, 1)], Acks::Quorum);
    assert_eq!(answer(&mut cluster, late).expect_err("forgotten").code, ErrorCode::UnknownProducerId);
    let epoch = cluster.propose(leader, vec![batch(Some((8, 1, 0)), 1003, 1)], Acks::Quorum);
    answer(&mut cluster, epoch).expect("a new epoch begins anew");
    append(&mut cluster, leader, next..next + 1);
    // A start replays the expiry.
    for id in cluster.ids() {
        cluster.crash(id);
        cluster.start(id);
    }
    let leader = cluster.elect();
    append(&mut cluster, leader, next + 1..next + 2);
    converge(&mut cluster);
    let tables: Vec<_> =
        cluster.nodes.values().map(|node| node.machine.as_ref().expect("up").producer_table()).collect();
    assert!(tables.windows(2).all(|pair| pair[0] == pair[1]));
}

/// What is dropped is not asked for: a fetch for a lagging peer that is under way when its frames go ends in a snapshot.
#[test]
fn a_fetch_that_comes_too_late_ends_in_a_snapshot() {
    let (mut cluster, leader) = three(12, ReplicaOptions { append_bytes_max: 300, ..ReplicaOptions::default() });
    let away = others(leader)[0];
    cluster.crash(away);
    append(&mut cluster, leader, 0..30);
    move_log_start(&mut cluster, leader, 40);
    cluster.start(away);
    cluster.run_until("a fetch", |cluster| cluster.fetches > 0);
    drop_segments(&mut cluster);
    converge(&mut cluster);
    assert!(cluster.machine(away).status().installed_snapshots > 0);
    let reset = |op: &WriteOp| matches!(op, WriteOp::Reset(_));
    assert!(
        cluster
            .node(away)
            .jobs
            .iter()
            .all(|job| !matches!(job, crate::node::Job::Write(_, write) if write.ops.iter().any(reset)))
    );
}
