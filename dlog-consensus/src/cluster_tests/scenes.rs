//! Chosen scenes.

use super::cluster::{Cluster, Fate, batch, replica_id};
use crate::{Acks, FetchError, Input, MessageKind, Output, PeerMessage, ReplicaOptions, WireEntry};
use bytes::Bytes;
use dlog_core::error::{ErrorCode, Outcome};
use dlog_core::write::WriteOp;
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, Offset, Term};

fn three(seed: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), seed);
    let leader = cluster.elect();
    (cluster, leader)
}

fn others(leader: usize) -> [usize; 2] {
    [(leader + 1) % 3, (leader + 2) % 3]
}

#[test]
fn three_replicas_elect_and_append() {
    let (mut cluster, leader) = three(1);
    let first = cluster.propose(leader, Acks::Quorum, vec![batch("a", None), batch("b", None)]);
    let second = cluster.propose(leader, Acks::All, vec![batch("c", None)]);
    cluster.settle(&[], |_, _| true);
    let offsets: Vec<u64> =
        cluster.appended(first).iter().chain(&cluster.appended(second)).map(|a| a.base_offset.0).collect();
    assert_eq!(offsets, [0, 1, 2]);
    let status = cluster.nodes[leader].replica.as_ref().expect("up").status();
    assert_eq!(status.progress.high_watermark, Offset(3));
    assert!(status.peers.iter().all(|peer| peer.in_sync), "{:?}", status.peers);
    cluster.heal_and_check();
}

#[test]
fn a_lone_voter_acks_after_its_sync() {
    let mut cluster = Cluster::new(1, &ReplicaOptions::default(), 4);
    cluster.elect();
    let request = cluster.propose(0, Acks::Quorum, vec![batch("a", None)]);
    assert!(matches!(cluster.fate(request), Fate::Waiting), "not before the sync");
    cluster.sync(0, usize::MAX);
    assert_eq!(cluster.appended(request)[0].base_offset, Offset(0));
    // A slow disk is no reason for a lone voter to step down.
    let request = cluster.propose(0, Acks::Quorum, vec![batch("b", None)]);
    for _ in 0..100 {
        cluster.tick(0);
    }
    assert!(cluster.nodes[0].leads());
    cluster.crash(0);
    cluster.start(0);
    assert!(cluster.error(request).outcome == Outcome::Unknown);
    cluster.heal_and_check();
}

/// A lone voter elects itself and could send at once: killed before its sync, it would lead the same term again with other
/// entries. The cluster checks that no leader speaks before its term is durable.
#[test]
fn a_lone_voter_tells_its_learner_nothing_before_its_term_is_durable() {
    let mut cluster = Cluster::of_log(LogId(9), 2, 1, &ReplicaOptions::default(), 18);
    for number in 0..2 {
        cluster.sync(number, usize::MAX);
    }
    for _ in 0..40 {
        cluster.tick(0);
        cluster.tick(1);
    }
    assert!(cluster.nodes[0].leads() && cluster.network.is_empty(), "{:?}", cluster.network);
    cluster.sync(0, usize::MAX);
    assert!(!cluster.network.is_empty());
    cluster.settle(&[], |_, _| true);
    let request = cluster.propose(0, Acks::Quorum, vec![batch("a", None)]);
    assert!(!cluster.network.is_empty(), "in a durable term it speaks before its own sync");
    cluster.settle(&[1], |_, _| true);
    cluster.appended(request);
    cluster.heal_and_check();
}

/// What the disk thread said before a cut was durable may speak of frames that the cut took.
#[test]
fn written_out_before_a_cut_does_not_count_for_the_frames_after_it() {
    let (mut cluster, leader) = three(19);
    let id = replica_id(leader);
    for text in ["x", "y", "z"] {
        cluster.propose(leader, Acks::Quorum, vec![batch(text, None)]);
    }
    cluster.nodes[leader].sync(usize::MAX);
    cluster.nodes[leader].write_out();
    cluster.tell(leader);
    assert!(matches!(cluster.nodes[leader].told[0], Input::WrittenOut { .. }), "told late");
    let late = cluster.nodes[leader].told.pop_front().expect("just seen");
    for _ in 0..80 {
        for number in others(leader) {
            cluster.tick(number);
        }
        cluster.settle(&[leader], |from, to| from != id && to != id);
    }
    let new = others(leader).into_iter().find(|number| cluster.nodes[*number].leads()).expect("another leads");
    let request = cluster.propose(new, Acks::Quorum, vec![batch("a", None), batch("b", None), batch("c", None)]);
    cluster.settle(&[leader], |from, to| from != id && to != id);
    cluster.appended(request);
    // The old leader is back. Its disk stands still from the cut on, but it learns that the new frames are committed.
    let has_cut = |write: &dlog_core::write::ReplicaWrite| write.ops.iter().any(|op| matches!(op, WriteOp::Cut { .. }));
    for _ in 0..10 {
        cluster.tick(new);
        cluster.settle(&[leader], |_, _| true);
        if !cluster.nodes[leader].writes.iter().any(|(_, write)| has_cut(write)) {
            cluster.sync(leader, usize::MAX);
        }
    }
    cluster.step(leader, late);
    let progress = cluster.nodes[leader].replica.as_ref().expect("up").progress();
    assert!(progress.high_watermark >= Offset(3) && progress.read_bound == Offset(0), "{progress:?}");
    cluster.heal_and_check();
}

#[test]
fn a_leaders_slow_disk_does_not_delay_acks() {
    let (mut cluster, leader) = three(2);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    let own = cluster.propose(leader, Acks::Leader, vec![batch("b", None)]);
    cluster.settle(&[leader], |_, _| true);
    assert_eq!(cluster.appended(request)[0].base_offset, Offset(0));
    assert!(matches!(cluster.fate(own), Fate::Waiting), "acks=leader means the leader's own sync");
    let progress = cluster.nodes[leader].replica.as_ref().expect("up").progress();
    assert_eq!((progress.high_watermark, progress.read_bound), (Offset(2), Offset(0)), "readable here once it is here");
    cluster.settle(&[], |_, _| true);
    assert_eq!(cluster.appended(own)[0].base_offset, Offset(1));
    assert_eq!(cluster.nodes[leader].replica.as_ref().expect("up").progress().read_bound, Offset(2));
    cluster.heal_and_check();
}

#[test]
fn nothing_is_acked_without_a_majority() {
    let (mut cluster, leader) = three(3);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.settle(&others(leader), |_, _| true);
    assert!(matches!(cluster.fate(request), Fate::Waiting), "one sync of three");
    let number = others(leader)[0];
    cluster.settle(&[others(leader)[1]], |_, _| true);
    assert_eq!(cluster.nodes[number].disk.last().next_offset, Offset(1));
    assert_eq!(cluster.appended(request)[0].base_offset, Offset(0));
}

#[test]
fn acks_of_a_partition_keep_their_order() {
    let (mut cluster, leader) = three(5);
    let strong = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    let weak = cluster.propose(leader, Acks::Leader, vec![batch("b", None)]);
    cluster.sync(leader, usize::MAX);
    assert!(matches!(cluster.fate(weak), Fate::Waiting), "it waits behind the stronger one");
    cluster.settle(&[], |_, _| true);
    assert_eq!(cluster.appended(strong)[0].base_offset, Offset(0));
    assert_eq!(cluster.appended(weak)[0].base_offset, Offset(1));
}

#[test]
fn a_cut_off_leader_fails_its_requests_as_unknown() {
    let (mut cluster, leader) = three(6);
    let id = replica_id(leader);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("lost", None)]);
    for _ in 0..80 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[], |from, to| from != id && to != id);
    }
    let error = cluster.error(request);
    assert_eq!((error.code, error.outcome), (ErrorCode::NotLeader, Outcome::Unknown));
    let new = (0..3).find(|number| *number != leader && cluster.nodes[*number].leads()).expect("another leads");
    let kept = cluster.propose(new, Acks::Quorum, vec![batch("kept", None)]);
    cluster.settle(&[], |from, to| from != id && to != id);
    assert_eq!(cluster.appended(kept)[0].base_offset, Offset(0));
    let refused = cluster.propose(leader, Acks::Quorum, vec![batch("refused", None)]);
    assert_eq!(cluster.error(refused).outcome, Outcome::Rejected);
    // The old leader cuts its tail and takes the new one's.
    cluster.heal_and_check();
    assert_eq!(cluster.nodes[leader].disk.last().next_offset, Offset(1));
}

#[test]
fn a_retry_returns_the_first_offset_across_leaders() {
    let (mut cluster, leader) = three(7);
    let batches: Vec<Bytes> = (0..3).map(|n| batch(&format!("p{n}"), Some((1, 0, n)))).collect();
    let first = cluster.propose(leader, Acks::Quorum, vec![batches[0].clone()]);
    let in_flight = cluster.propose(leader, Acks::Quorum, vec![batches[0].clone()]);
    assert!(matches!(cluster.fate(in_flight), Fate::Waiting), "a duplicate waits for the original");
    cluster.settle(&[], |_, _| true);
    let second = cluster.propose(leader, Acks::Quorum, vec![batches[1].clone()]);
    cluster.settle(&[], |_, _| true);
    assert!(!cluster.appended(first)[0].duplicate && cluster.appended(in_flight)[0].duplicate);
    assert_eq!(cluster.appended(in_flight)[0].base_offset, Offset(0));
    assert_eq!(cluster.appended(second)[0].base_offset, Offset(1));
    // The leader dies; its successor knows.
    cluster.crash(leader);
    let new = cluster.elect();
    assert_ne!(new, leader);
    let retry = cluster.propose(new, Acks::Quorum, vec![batches[1].clone()]);
    let next = cluster.propose(new, Acks::Quorum, vec![batches[2].clone()]);
    let gap = cluster.propose(new, Acks::Quorum, vec![batch("gap", Some((1, 0, 9)))]);
    let old = cluster.propose(new, Acks::Quorum, vec![batch("unknown", Some((2, 0, 4)))]);
    let epoch = cluster.propose(new, Acks::Quorum, vec![batch("newer", Some((1, 3, 0)))]);
    let fenced = cluster.propose(new, Acks::Quorum, vec![batch("older", Some((1, 2, 0)))]);
    cluster.settle(&[], |_, _| true);
    assert_eq!((cluster.appended(retry)[0].base_offset, cluster.appended(retry)[0].duplicate), (Offset(1), true));
    assert_eq!(cluster.appended(next)[0].base_offset, Offset(2));
    assert_eq!(cluster.error(gap).code, ErrorCode::OutOfOrderSequence);
    assert_eq!(cluster.error(old).code, ErrorCode::UnknownProducerId);
    assert_eq!(cluster.appended(epoch)[0].base_offset, Offset(3));
    assert_eq!(cluster.error(fenced).code, ErrorCode::InvalidProducerEpoch);
    cluster.heal_and_check();
}

/// A batch that was in flight when leadership was lost, and is gone, is no original of a later retry.
#[test]
fn what_was_lost_with_leadership_is_not_remembered() {
    let (mut cluster, leader) = three(20);
    let id = replica_id(leader);
    let lost = batch("lost at first", Some((1, 0, 0)));
    let first = cluster.propose(leader, Acks::Quorum, vec![lost.clone()]);
    for _ in 0..80 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[], |from, to| from != id && to != id);
    }
    assert_eq!(cluster.error(first).outcome, Outcome::Unknown);
    let new = others(leader).into_iter().find(|number| cluster.nodes[*number].leads()).expect("another leads");
    cluster.propose(new, Acks::Quorum, vec![batch("other", None), batch("one more", None)]);
    for _ in 0..10 {
        cluster.tick(new);
        cluster.settle(&[], |_, _| true);
    }
    cluster.step(new, Input::TransferLeadership { to: Some(id) });
    cluster.settle(&[], |_, _| true);
    assert!(cluster.nodes[leader].leads(), "the old leader leads again");
    let retry = cluster.propose(leader, Acks::Quorum, vec![lost]);
    cluster.settle(&[], |_, _| true);
    assert!(!cluster.appended(retry)[0].duplicate);
    cluster.heal_and_check();
}

/// Frames that aren't durable would panic the crate if their replica won an election.
#[test]
fn a_replica_that_writes_does_not_campaign() {
    let mut cluster = Cluster::of_log(LogId(9), 2, 1, &ReplicaOptions::default(), 21);
    cluster.elect();
    cluster.propose(0, Acks::Quorum, vec![batch("a", None)]);
    let answer = cluster.network.iter().find(|message| message.to == replica_id(1)).expect("an append").clone();
    let deposing = PeerMessage {
        from: replica_id(1),
        to: replica_id(0),
        kind: MessageKind::AppendResponse,
        term: Term(answer.term.0 + 3),
        index: LogIndex(0),
        entries: Vec::new(),
        log_term: Term(0),
        commit: LogIndex(0),
        ..answer
    };
    cluster.step(0, Input::Peer(deposing.clone()));
    assert!(!cluster.nodes[0].leads());
    for _ in 0..60 {
        cluster.tick(0);
    }
    cluster.step(0, Input::Campaign);
    for kind in [MessageKind::TimeoutNow, MessageKind::RequestVoteResponse, MessageKind::RequestPreVoteResponse] {
        cluster.step(0, Input::Peer(PeerMessage { kind, ..deposing.clone() }));
    }
    assert_eq!(cluster.refused, 1, "told to campaign; votes that nobody asked for have no effect");
    assert!(!cluster.nodes[0].leads());
    cluster.elect();
    cluster.heal_and_check();
}

/// An entry was appended, cut and appended again while one sync was in flight. When the first of these is durable, the last isn't.
#[test]
fn an_entry_that_came_back_is_durable_only_with_its_last_write() {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), 25);
    cluster.sync(0, usize::MAX);
    let append = |from: usize, term: u64, before: u64, entries: &[(u64, u64)]| PeerMessage {
        log: LogId(9),
        from: replica_id(from),
        to: replica_id(0),
        kind: MessageKind::Append,
        term: Term(term),
        log_term: Term(before.min(1)),
        index: LogIndex(before),
        commit: LogIndex(0),
        commit_term: Term(0),
        entries: entries.iter().map(|(index, term)| no_op(*index, *term)).collect(),
        reject: false,
        reject_hint: LogIndex(0),
        context: Bytes::new(),
        priority: 0,
        snapshot: None,
    };
    cluster.step(0, Input::Peer(append(1, 1, 0, &[(1, 1), (2, 1)])));
    cluster.step(0, Input::Peer(append(2, 2, 1, &[(2, 2)])));
    cluster.step(0, Input::Peer(append(1, 3, 1, &[(2, 1)])));
    assert_eq!((cluster.nodes[0].writes.len(), cluster.refused), (3, 0));
    let persisted = |cluster: &Cluster| cluster.nodes[0].replica.as_ref().expect("up").status().persisted;
    for _ in 0..2 {
        cluster.sync(0, 1);
        assert!(persisted(&cluster) < LogIndex(2));
    }
    cluster.sync(0, 1);
    assert_eq!(persisted(&cluster), LogIndex(2));
}

fn no_op(index: u64, term: u64) -> WireEntry {
    WireEntry { term: Term(term), index: LogIndex(index), kind: FrameKind::NoOp, payload: Bytes::new() }
}

#[test]
fn a_full_tail_of_an_old_leader_can_be_replaced() {
    let options = ReplicaOptions {
        append_bytes_max: 400,
        uncommitted_bytes_max: 1000,
        pinned_bytes_max: 1000,
        ..ReplicaOptions::default()
    };
    let mut cluster = Cluster::new(3, &options, 22);
    let leader = cluster.elect();
    let id = replica_id(leader);
    for number in 0..20 {
        cluster.propose(leader, Acks::Quorum, vec![batch(&format!("lost {number:010}"), None)]);
    }
    let pinned = cluster.nodes[leader].replica.as_ref().expect("up").status().pinned_bytes;
    assert!(pinned > options.pinned_bytes_max, "{pinned}: even an empty entry is too much");
    for _ in 0..80 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[], |from, to| from != id && to != id);
    }
    let new = others(leader).into_iter().find(|number| cluster.nodes[*number].leads()).expect("another leads");
    let parts: String = "x".repeat(150);
    cluster.propose(new, Acks::Quorum, vec![batch(&format!("kept {parts}"), None)]);
    cluster.heal_and_check();
}

#[test]
fn wrong_frames_are_not_sent_to_a_lagging_peer() {
    let (mut cluster, leader) = three(23);
    let lagging = others(leader)[0];
    cluster.crash(lagging);
    for number in 0..5 {
        cluster.propose(leader, Acks::Quorum, vec![batch(&format!("{number}"), None)]);
        cluster.settle(&[], |_, _| true);
    }
    cluster.start(lagging);
    cluster.run_until_fetch(leader);
    let (fetch, from, _, _) = cluster.nodes[leader].fetches.pop_front().expect("a fetch");
    let wrong: Vec<_> = cluster.nodes[leader].disk.frames.iter().filter(|frame| frame.index > from).cloned().collect();
    cluster.network.clear();
    cluster.step(leader, Input::EntriesRead { fetch, result: Ok(wrong) });
    assert!(cluster.network.is_empty(), "{:?}", cluster.network);
    cluster.run_until_fetch(leader);
    let (fetch, ..) = cluster.nodes[leader].fetches.pop_front().expect("it is asked for again");
    let broken = FetchError { reason: "a damaged segment".to_owned() };
    cluster.step(leader, Input::EntriesRead { fetch, result: Err(broken) });
    assert_eq!(cluster.nodes[leader].replica.as_ref().expect("up").status().failed_fetches, 2);
    cluster.heal_and_check();
}

#[test]
fn a_refused_batch_takes_the_whole_request_with_it() {
    let (mut cluster, leader) = three(8);
    let mixed = vec![batch("good", Some((1, 0, 0))), batch("bad", Some((1, 0, 7)))];
    let request = cluster.propose(leader, Acks::Quorum, mixed);
    assert_eq!(cluster.error(request).outcome, Outcome::Rejected);
    // Nothing of it is remembered: the first batch is still the next.
    let again = cluster.propose(leader, Acks::Quorum, vec![batch("good", Some((1, 0, 0)))]);
    cluster.settle(&[], |_, _| true);
    assert_eq!((cluster.appended(again)[0].base_offset, cluster.appended(again)[0].duplicate), (Offset(0), false));
}

#[test]
fn a_lagging_follower_catches_up_by_reads() {
    let options = ReplicaOptions {
        append_bytes_max: 500,
        in_flight_bytes_max: 1000,
        batch_bytes_max: 500,
        ..ReplicaOptions::default()
    };
    let mut cluster = Cluster::new(3, &options, 9);
    let leader = cluster.elect();
    let lagging = others(leader)[0];
    cluster.crash(lagging);
    for number in 0..60 {
        cluster.propose(leader, Acks::Quorum, vec![batch(&format!("record {number}"), None)]);
        cluster.settle(&[], |_, _| true);
    }
    assert_eq!(
        cluster.nodes[leader].replica.as_ref().expect("up").status().pinned_bytes,
        0,
        "nothing old is held in memory"
    );
    cluster.start(lagging);
    let mut reads = 0;
    for _ in 0..60 {
        for number in 0..3 {
            cluster.tick(number);
        }
        for _ in 0..10 {
            assert!(cluster.nodes[leader].fetches.len() <= 1, "one read for one peer");
            reads += cluster.nodes[leader].fetches.len();
            for number in 0..3 {
                cluster.sync(number, usize::MAX);
                cluster.write_out(number);
                cluster.answer_fetch(number);
            }
            for message in std::mem::take(&mut cluster.network) {
                cluster.deliver(message);
            }
        }
    }
    assert!(reads > 5, "{reads} reads");
    assert_eq!(cluster.nodes[lagging].disk.last(), cluster.nodes[leader].disk.last());
    cluster.heal_and_check();
}

#[test]
fn bounds_answer_overloaded_and_nothing_is_dropped_silently() {
    let options = ReplicaOptions {
        append_bytes_max: 100,
        uncommitted_bytes_max: 400,
        pinned_bytes_max: 800,
        ..ReplicaOptions::default()
    };
    let mut cluster = Cluster::new(3, &options, 10);
    let leader = cluster.elect();
    let requests: Vec<_> =
        (0..20).map(|n| cluster.propose(leader, Acks::Quorum, vec![batch(&format!("{n}"), None)])).collect();
    let refused: Vec<_> = requests.iter().filter(|id| matches!(cluster.fate(**id), Fate::Failed(_))).collect();
    assert!(!refused.is_empty() && refused.len() < 20);
    for id in refused {
        let error = cluster.error(*id);
        assert_eq!((error.code, error.outcome, error.is_retryable()), (ErrorCode::Overloaded, Outcome::Rejected, true));
    }
    cluster.settle(&[], |_, _| true);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("later", None)]);
    cluster.settle(&[], |_, _| true);
    cluster.appended(request);
    cluster.heal_and_check();
}

#[test]
fn reads_are_confirmed_by_a_majority_from_any_replica() {
    let (mut cluster, leader) = three(11);
    cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.settle(&[], |_, _| true);
    let on_leader = cluster.read(leader);
    let on_follower = cluster.read(others(leader)[0]);
    assert!(matches!(cluster.fate(on_leader), Fate::Waiting));
    cluster.settle(&[], |_, _| true);
    for read in [on_leader, on_follower] {
        assert!(matches!(cluster.fate(read), Fate::Acked(_)), "{:?}", cluster.fate(read));
    }
    // A leader that reaches nobody confirms nothing.
    let alone = cluster.read(leader);
    for _ in 0..60 {
        cluster.tick(leader);
        cluster.network.clear();
    }
    assert_eq!(cluster.error(alone).outcome, Outcome::Rejected);
}

#[test]
fn leadership_is_handed_over_after_what_is_in_flight() {
    let (mut cluster, leader) = three(12);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    let target = others(leader)[1];
    cluster.step(leader, Input::TransferLeadership { to: Some(replica_id(target)) });
    let meanwhile = cluster.propose(leader, Acks::Quorum, vec![batch("b", None)]);
    assert_eq!(cluster.error(meanwhile).outcome, Outcome::Rejected);
    assert!(cluster.error(meanwhile).is_retryable());
    cluster.settle(&[], |_, _| true);
    assert_eq!(cluster.appended(request)[0].base_offset, Offset(0));
    assert!(cluster.nodes[target].leads(), "no election timeout passed");
    cluster.heal_and_check();
}

#[test]
fn a_handover_waits_for_the_acks_of_what_is_in_flight() {
    let (mut cluster, leader) = three(24);
    let [target, silent] = others(leader).map(replica_id);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.step(leader, Input::TransferLeadership { to: Some(target) });
    // The target has all of it, but with the leader's own disk behind that is no majority yet.
    cluster.settle(&[leader], |from, to| from != silent && to != silent);
    assert!(cluster.nodes[leader].leads() && matches!(cluster.fate(request), Fate::Waiting));
    // Only what was in flight is answered, then the target is told; it needs a vote of the leader that goes.
    cluster.settle(&[], |from, to| from != silent && to != silent);
    cluster.appended(request);
    assert!(!cluster.nodes[leader].leads());
}

#[test]
fn a_handover_that_fails_lets_the_leader_go_on() {
    let (mut cluster, leader) = three(13);
    let target = replica_id(others(leader)[0]);
    cluster.step(leader, Input::TransferLeadership { to: Some(target) });
    for _ in 0..60 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[], |from, to| from != target && to != target);
    }
    let leader = cluster.leader().expect("a majority is there");
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.settle(&[], |from, to| from != target && to != target);
    cluster.appended(request);
}

#[test]
fn a_stop_hands_over_and_says_so() {
    let (mut cluster, leader) = three(14);
    cluster.keep_trace = true;
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.step(leader, Input::Shutdown);
    cluster.run_until("stopped", |cluster| cluster.trace.iter().any(|line| line.ends_with("Stopped")));
    assert_eq!(cluster.appended(request)[0].base_offset, Offset(0), "what was in flight is finished first");
    assert!(!cluster.nodes[leader].leads());
    let late = cluster.propose(leader, Acks::Quorum, vec![batch("b", None)]);
    assert_eq!(cluster.error(late).code, ErrorCode::ShuttingDown);
    assert_eq!(cluster.trace.iter().filter(|line| line.ends_with("Stopped")).count(), 1);
}

#[test]
fn a_leader_with_a_stuck_disk_hands_over() {
    let options = ReplicaOptions { stuck_disk: std::time::Duration::from_millis(20), ..ReplicaOptions::default() };
    let mut cluster = Cluster::new(3, &options, 15);
    let leader = cluster.elect();
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    for _ in 0..30 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[leader], |_, _| true);
    }
    cluster.appended(request);
    assert!(cluster.leader().is_some_and(|new| new != leader), "{:?}", cluster.leader());
}

#[test]
fn the_metadata_group_applies_commands_in_order_and_after_a_restart() {
    let mut cluster = Cluster::of_log(LogId::GROUP_ZERO, 3, 0, &ReplicaOptions::default(), 16);
    let leader = cluster.elect();
    for text in ["one", "two", "three"] {
        cluster.command(leader, Bytes::from(text));
    }
    let records = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    assert_eq!(cluster.error(records).code, ErrorCode::InvalidArgument);
    cluster.settle(&[], |_, _| true);
    cluster.run_until("applied everywhere", |cluster| cluster.nodes.iter().all(|node| node.applied.len() == 3));
    for node in &cluster.nodes {
        let texts: Vec<&[u8]> = node.applied.iter().map(|frame| frame.payload.as_ref()).collect();
        assert_eq!(texts, [b"one".as_ref(), b"two", b"three"]);
    }
    cluster.tick(leader);
    cluster.settle(&[], |_, _| true);
    // A restart whose state store applied nothing is given all of them again.
    cluster.crash(leader);
    cluster.start(leader);
    cluster.tick(leader);
    let again: Vec<LogIndex> = cluster.nodes[leader].applied.iter().map(|frame| frame.index).collect();
    assert_eq!(again.len(), 3);
}

#[test]
fn a_commit_alone_is_noted_without_a_sync() {
    let (mut cluster, leader) = three(17);
    cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    cluster.settle(&[], |_, _| true);
    let mut out = Vec::new();
    let replica = cluster.nodes[leader].replica.as_mut().expect("up");
    replica.step(MonotonicTime(1), Input::Tick, &mut out);
    let commit = replica.progress().commit;
    let noted = out.iter().find_map(|output| match output {
        Output::Write { write, .. } => Some((write.ops.clone(), write.commit)),
        _ => None,
    });
    assert_eq!(noted, Some((Vec::<WriteOp>::new(), commit)));
    out.clear();
    replica.step(MonotonicTime(2), Input::Tick, &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Write { .. })), "said once");
}
