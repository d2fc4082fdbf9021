//! Scenes with disks that have no room, or don't answer.

use super::cluster::{Cluster, Fate, batch, replica_id};
use crate::{Acks, Input, ReplicaOptions, Reply};
use dlog_core::error::{ErrorCode, Outcome};
use dlog_core::{DiskState, FrameKind, LogIndex, Offset, RequestId, Space, SpaceLevel};

const STUCK: DiskState =
    DiskState { space: Space { level: SpaceLevel::Ample, free_bytes: 0, reserve_bytes: 0 }, stuck: true };

fn room(level: SpaceLevel) -> DiskState {
    DiskState { space: Space { level, free_bytes: 700, reserve_bytes: 1000 }, stuck: false }
}

fn three(seed: u64) -> (Cluster, usize, [usize; 2]) {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), seed);
    let leader = cluster.elect();
    (cluster, leader, [(leader + 1) % 3, (leader + 2) % 3])
}

/// Tells nodes of their disks, and lets two heartbeats pass so that the leader knows.
fn set(cluster: &mut Cluster, nodes: &[usize], level: SpaceLevel) {
    for number in nodes {
        cluster.step(*number, Input::Disk(room(level)));
    }
    beat(cluster);
}

fn beat(cluster: &mut Cluster) {
    for _ in 0..4 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[], |_, _| true);
    }
}

fn produce(cluster: &mut Cluster, leader: usize, text: &str) -> RequestId {
    let request = cluster.propose(leader, Acks::Quorum, vec![batch(text, None)]);
    cluster.settle(&[], |_, _| true);
    request
}

fn last(cluster: &Cluster, node: usize) -> LogIndex {
    cluster.nodes[node].disk.last().index
}

#[test]
fn full_disks_refuse_records_with_the_figures_and_nothing_else() {
    let (mut cluster, leader, _) = three(31);
    let first = cluster.propose(leader, Acks::Quorum, vec![batch("a", Some((1, 0, 0)))]);
    cluster.settle(&[], |_, _| true);
    cluster.appended(first);
    set(&mut cluster, &[0, 1, 2], SpaceLevel::Full);
    assert!(cluster.nodes[leader].leads(), "nobody has more room");
    let refused = produce(&mut cluster, leader, "b");
    let error = cluster.error(refused);
    assert_eq!((error.code, error.outcome, error.is_retryable()), (ErrorCode::DiskFull, Outcome::Rejected, true));
    assert!(error.message.contains("700 bytes are free, 1000 bytes are kept in reserve"), "{error}");
    assert!(error.retry_after_ms.is_some());
    let again = cluster.propose(leader, Acks::Quorum, vec![batch("a", Some((1, 0, 0)))]);
    assert!(cluster.appended(again)[0].duplicate, "what is there already takes no room");
    let read = cluster.read(leader);
    cluster.settle(&[], |_, _| true);
    assert!(matches!(cluster.fate(read), Fate::Acked(Reply::ReadIndex { .. })));
    set(&mut cluster, &[0, 1, 2], SpaceLevel::Exhausted);
    cluster.move_log_start(leader, Offset(1));
    cluster.settle(&[], |_, _| true);
    assert!(cluster.nodes.iter().all(|node| node.disk.log_start == Offset(1)), "retention goes on, and makes room");
    set(&mut cluster, &[0, 1, 2], SpaceLevel::Ample);
    let taken = produce(&mut cluster, leader, "c");
    assert_eq!(cluster.appended(taken)[0].base_offset, Offset(1));
    cluster.heal_and_check();
}

#[test]
fn a_leader_without_room_hands_over_to_one_that_has_room() {
    let (mut cluster, leader, [full, roomy]) = three(32);
    set(&mut cluster, &[full], SpaceLevel::Full);
    set(&mut cluster, &[leader], SpaceLevel::Full);
    cluster.run_until("a leader with room", |cluster| cluster.leader() == Some(roomy));
    beat(&mut cluster);
    let request = produce(&mut cluster, roomy, "a");
    assert_eq!(cluster.error(request).code, ErrorCode::DiskFull, "a majority has no room");
    // Nobody is sent there to find the disk full again.
    cluster.step(roomy, Input::TransferLeadership { to: Some(replica_id(full)) });
    beat(&mut cluster);
    assert_eq!(cluster.leader(), Some(roomy));
    set(&mut cluster, &[full], SpaceLevel::Ample);
    let request = produce(&mut cluster, roomy, "b");
    cluster.appended(request);
    cluster.step(roomy, Input::TransferLeadership { to: Some(replica_id(full)) });
    beat(&mut cluster);
    assert_eq!(cluster.leader(), Some(full));
    cluster.heal_and_check();
}

#[test]
fn a_follower_without_room_acks_nothing_stops_nobody_and_catches_up() {
    let (mut cluster, leader, [full, _]) = three(33);
    produce(&mut cluster, leader, "before");
    let end = last(&cluster, full);
    set(&mut cluster, &[full], SpaceLevel::Exhausted);
    let mut sent = 0;
    for number in 0..20 {
        let request = cluster.propose(leader, Acks::All, vec![batch(&format!("{number}"), None)]);
        let to_full = cluster.network.iter().filter(|message| message.to == replica_id(full));
        sent += to_full.filter(|message| message.entries.iter().any(|e| e.kind == FrameKind::Records)).count();
        cluster.run_until("acked", |cluster| !matches!(cluster.fate(request), Fate::Waiting));
        cluster.appended(request);
        assert!(cluster.nodes[leader].fetches.is_empty());
    }
    assert_eq!(sent, 0, "records that would be refused aren't sent");
    assert_eq!(last(&cluster, full), end, "nor written");
    assert!(cluster.nodes[leader].leads(), "it goes on answering heartbeats, and asks for no votes");
    let peers = cluster.nodes[leader].replica.as_ref().expect("up").status().peers;
    let peer = peers.iter().find(|peer| peer.replica == replica_id(full)).expect("a member");
    assert!(!peer.in_sync && peer.silent_ticks.is_some_and(|ticks| ticks < 5), "{peer:?}");
    set(&mut cluster, &[full], SpaceLevel::Ample);
    assert_eq!(last(&cluster, full), last(&cluster, leader), "it catches up by itself");
    cluster.heal_and_check();
}

/// A leader that doesn't know yet sends records, and a new one always does.
#[test]
fn records_that_come_all_the_same_are_refused() {
    let (mut cluster, leader, [full, _]) = three(34);
    let end = last(&cluster, full);
    cluster.step(full, Input::Disk(room(SpaceLevel::Exhausted)));
    let refused = cluster.refused;
    let request = produce(&mut cluster, leader, "a");
    cluster.appended(request);
    assert!(cluster.refused > refused && last(&cluster, full) == end);
    // What is not a record and stands before the first one is taken.
    set(&mut cluster, &[full], SpaceLevel::Ample);
    cluster.step(full, Input::Disk(room(SpaceLevel::Exhausted)));
    let end = last(&cluster, full);
    cluster.move_log_start(leader, Offset(1));
    cluster.network.retain(|message| message.to != replica_id(full));
    cluster.propose(leader, Acks::Quorum, vec![batch("b", None)]);
    beat(&mut cluster);
    assert_eq!(last(&cluster, full), end.next());
    assert_eq!(cluster.nodes[full].disk.log_start, Offset(1));
    cluster.step(full, Input::Disk(room(SpaceLevel::Ample)));
    cluster.heal_and_check();
}

/// What a leader appended before it was told must not stand in the way of the moves that make room.
#[test]
fn a_full_disk_still_takes_what_was_appended_before_it_said_so() {
    let (mut cluster, leader, others) = three(35);
    let request = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    for number in others {
        cluster.step(number, Input::Disk(room(SpaceLevel::Full)));
    }
    cluster.settle(&[], |_, _| true);
    cluster.appended(request);
    beat(&mut cluster);
    let request = produce(&mut cluster, leader, "b");
    assert!(cluster.error(request).message.contains("a majority"), "{}", cluster.error(request));
    cluster.move_log_start(leader, Offset(1));
    beat(&mut cluster);
    assert!(cluster.nodes.iter().all(|node| node.disk.log_start == Offset(1)));
    cluster.heal_and_check();
}

#[test]
fn the_metadata_group_takes_commands_on_full_disks() {
    let mut cluster = Cluster::of_log(dlog_core::LogId::GROUP_ZERO, 3, 0, &ReplicaOptions::default(), 36);
    let leader = cluster.elect();
    set(&mut cluster, &[0, 1, 2], SpaceLevel::Exhausted);
    let request = cluster.command(leader, bytes::Bytes::from_static(b"delete a topic"));
    cluster.settle(&[], |_, _| true);
    assert!(matches!(cluster.fate(request), Fate::Acked(Reply::Command { .. })));
    set(&mut cluster, &[(leader + 1) % 3], SpaceLevel::Ample);
    beat(&mut cluster);
    assert_eq!(cluster.leader(), Some(leader), "and its leader stays");
}

#[test]
fn a_leader_that_is_told_of_its_stuck_disk_hands_over_at_once() {
    let (mut cluster, leader, _) = three(37);
    let quorum = cluster.propose(leader, Acks::Quorum, vec![batch("a", None)]);
    let own = cluster.propose(leader, Acks::Leader, vec![batch("b", None)]);
    cluster.settle(&[leader], |_, _| true);
    cluster.step(leader, Input::Disk(STUCK));
    for _ in 0..4 {
        for number in 0..3 {
            cluster.tick(number);
        }
        cluster.settle(&[leader], |_, _| true);
    }
    assert!(cluster.leader().is_some_and(|new| new != leader), "{:?}", cluster.leader());
    cluster.appended(quorum);
    assert_eq!(cluster.error(own).outcome, Outcome::Unknown, "its own sync never came");
    // It answers again, and follows.
    cluster.step(leader, Input::Disk(DiskState::default()));
    cluster.heal_and_check();
}

#[test]
fn a_replica_with_a_stuck_disk_neither_campaigns_nor_takes_over() {
    let (mut cluster, leader, [stuck, _]) = three(38);
    cluster.step(stuck, Input::Disk(STUCK));
    cluster.network.clear();
    for _ in 0..100 {
        cluster.tick(stuck);
    }
    cluster.step(stuck, Input::Campaign);
    assert_eq!(cluster.network.len(), 0, "nobody is asked for a vote");
    beat(&mut cluster);
    let before = cluster.refused;
    cluster.step(leader, Input::TransferLeadership { to: Some(replica_id(stuck)) });
    beat(&mut cluster);
    assert!(cluster.refused > before && cluster.nodes[leader].leads());
    cluster.step(stuck, Input::Disk(DiskState::default()));
    cluster.run_until("the handover", |cluster| cluster.leader() == Some(stuck));
    cluster.heal_and_check();
}
