//! Forged, damaged and misdirected messages: none may panic the machine, and a refused one changes nothing.

use super::cluster::{Cluster, batch, replica_id};
use crate::message::{MessageKind, PeerMessage, WireEntry, WireSnapshot};
use crate::producers::ProducerTable;
use crate::snapshot::Snapshot;
use crate::{Acks, Input, Membership, Output, Refusal, ReplicaOptions};
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, NodeId, Offset, ReplicaId, Term};
use proptest::prelude::*;

/// Numbers near what the cluster has, and extreme ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..8, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(crate::NUMBER_MAX)]
}

fn entry() -> impl Strategy<Value = WireEntry> {
    let kind = prop::sample::select(vec![1u8, 1, 2, 3, 4, 5, 6]);
    let payload = prop_oneof![
        Just(Bytes::new()),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from),
        Just(batch("forged", None)),
    ];
    (number(), number(), kind, payload).prop_map(|(term, index, kind, payload)| WireEntry {
        term: Term(term),
        index: LogIndex(index),
        kind: FrameKind::from_number(kind).expect("a kind"),
        payload,
    })
}

fn sender() -> impl Strategy<Value = ReplicaId> {
    prop_oneof![4 => (0usize..3).prop_map(replica_id), 1 => Just(ReplicaId(0)), 1 => any::<u64>().prop_map(ReplicaId)]
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let kind = prop::sample::select(MessageKind::ALL.to_vec());
    let context = prop_oneof![
        3 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"CampaignTransfer")),
        1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
    ];
    let numbers = proptest::array::uniform6(number());
    let contiguous = any::<bool>();
    (
        kind,
        sender(),
        numbers,
        proptest::collection::vec(entry(), 0..4),
        any::<bool>(),
        context,
        contiguous,
        prop_oneof![4 => Just(0i64), 1 => any::<i64>()],
    )
        .prop_map(
            |(
                kind,
                from,
                [term, log_term, index, commit, commit_term, hint],
                mut entries,
                reject,
                context,
                contiguous,
                priority,
            )| {
                if contiguous {
                    // Past the first checks, to the deeper ones.
                    for (at, entry) in entries.iter_mut().enumerate() {
                        (entry.index, entry.term) = (LogIndex(index.saturating_add(at as u64 + 1)), Term(term));
                    }
                }
                PeerMessage {
                    log: LogId(9),
                    from,
                    to: replica_id(0),
                    kind,
                    term: Term(term),
                    log_term: Term(log_term),
                    index: LogIndex(index),
                    commit: LogIndex(commit),
                    commit_term: Term(commit_term),
                    entries: if kind == MessageKind::Append || !contiguous { entries } else { Vec::new() },
                    reject,
                    reject_hint: LogIndex(hint),
                    context,
                    priority,
                    snapshot: (kind == MessageKind::Snapshot)
                        .then(|| forged_snapshot([term, log_term, index, commit, hint])),
                }
            },
        )
}

/// A snapshot that may well be taken: its numbers are near what the cluster has.
fn forged_snapshot([term, log_term, index, as_of, offset]: [u64; 5]) -> WireSnapshot {
    let snapshot = Snapshot {
        point: LogPoint { index: LogIndex(index), term: Term(log_term.min(term)), next_offset: Offset(offset), crc: 7 },
        as_of: LogIndex(index.max(as_of)),
        log_start: Offset(offset),
        membership: Membership::of_voters((0..(1 + as_of % 3) as usize).map(replica_id)),
        table: ProducerTable::new(10),
        state: None,
    };
    snapshot.encode()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent, in whatever role and state: no panic, no hole, nothing committed is replaced.
    #[test]
    fn no_message_panics(seed in 0u64..6, members in prop::sample::select(vec![1usize, 3]), messages in proptest::collection::vec((message(), 0u8..4), 1..30)) {
        let mut cluster = Cluster::new(members, &ReplicaOptions::default(), seed);
        if seed % 2 == 0 {
            let leader = cluster.elect();
            cluster.propose(leader, Acks::Quorum, vec![batch("a", None), batch("b", None)]);
            if seed % 3 == 0 {
                cluster.settle(&[], |_, _| true);
            }
        }
        cluster.network.clear();
        let committed: Vec<_> = cluster.committed.values().cloned().collect();
        let mut out = Vec::new();
        for (message, then) in messages {
            let node = &mut cluster.nodes[0];
            let replica = node.replica.as_mut().expect("up");
            replica.step(MonotonicTime(0), Input::Peer(message), &mut out);
            replica.assert_invariants();
            for output in out.drain(..) {
                if let Output::Write { id, write } = output {
                    node.take_write(id, write);
                }
            }
            match then {
                0 => node.sync(usize::MAX),
                1 => node.told.push_back(Input::Tick),
                2 => node.write_out(),
                _ => {}
            }
            while let Some(input) = node.told.pop_front() {
                let replica = node.replica.as_mut().expect("up");
                replica.step(MonotonicTime(0), input, &mut out);
                replica.assert_invariants();
                for output in out.drain(..) {
                    if let Output::Write { id, write } = output {
                        node.take_write(id, write);
                    }
                }
            }
        }
        cluster.nodes[0].sync(usize::MAX);
        let disk = &cluster.nodes[0].disk;
        for frame in committed.iter().filter(|frame| frame.index > disk.start.index) {
            let at = (frame.index.0 - disk.start.index.0) as usize - 1;
            prop_assert_eq!(&disk.frames[at], frame, "a committed frame was replaced");
        }
        // What it has now can be loaded again.
        cluster.crash(0);
        cluster.start(0);
    }
}

struct Scene {
    cluster: Cluster,
    follower: usize,
    good: PeerMessage,
}

/// A follower with two records, and the append that a leader would send it next.
fn scene() -> Scene {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), 3);
    let leader = cluster.elect();
    cluster.propose(leader, Acks::Quorum, vec![batch("a", None), batch("b", None)]);
    cluster.settle(&[], |_, _| true);
    cluster.propose(leader, Acks::Quorum, vec![batch("c", None)]);
    let follower = (leader + 1) % 3;
    let is_it = |message: &&PeerMessage| message.to == replica_id(follower) && message.kind == MessageKind::Append;
    let good = cluster.network.iter().find(is_it).expect("an append").clone();
    cluster.network.clear();
    assert_eq!(good.entries.len(), 1);
    Scene { cluster, follower, good }
}

/// What the follower says to a changed append; anything but a refusal is shown.
fn refusal_of(change: impl FnOnce(&mut PeerMessage)) -> Option<Refusal> {
    let mut scene = scene();
    change(&mut scene.good);
    let replica = scene.cluster.nodes[scene.follower].replica.as_mut().expect("up");
    let before = replica.status();
    let mut out = Vec::new();
    replica.step(MonotonicTime(0), Input::Peer(scene.good), &mut out);
    let refusal = out.iter().find_map(|output| match output {
        Output::Refused { refusal, .. } => Some(refusal.clone()),
        _ => None,
    });
    if refusal.is_some() {
        assert_eq!(out.len(), 1, "a refusal is all: {out:?}");
        assert_eq!(replica.status(), before, "a refusal changes nothing");
    }
    refusal
}

#[test]
fn a_good_append_is_taken() {
    assert_eq!(refusal_of(|_| {}), None);
}

/// A peer that claims more than the log has would be counted for entries that don't exist yet.
#[test]
fn an_ack_beyond_the_log_is_refused() {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), 3);
    let leader = cluster.elect();
    let last = cluster.nodes[leader].disk.last();
    let follower = replica_id((leader + 1) % 3);
    let ack = PeerMessage {
        log: LogId(9),
        from: follower,
        to: replica_id(leader),
        kind: MessageKind::AppendResponse,
        term: last.term,
        log_term: Term(0),
        index: last.index.next(),
        commit: LogIndex(0),
        commit_term: Term(0),
        entries: Vec::new(),
        reject: false,
        reject_hint: LogIndex(0),
        context: Bytes::new(),
        priority: 0,
        snapshot: None,
    };
    cluster.step(leader, Input::Peer(ack.clone()));
    assert_eq!(cluster.refused, 1);
    cluster
        .step(leader, Input::Peer(PeerMessage { reject: true, reject_hint: LogIndex(99), index: last.index, ..ack }));
    assert_eq!(cluster.refused, 2);
}

/// The raft crate panics when it is to answer with term 0.
#[test]
fn a_replica_of_term_zero_is_not_asked_to_reject_a_vote() {
    let mut cluster = Cluster::new(3, &ReplicaOptions::default(), 1);
    let blank = PeerMessage {
        log: LogId(9),
        from: replica_id(1),
        to: replica_id(0),
        kind: MessageKind::RequestPreVote,
        term: Term(1),
        log_term: Term(0),
        index: LogIndex(0),
        commit: LogIndex(0),
        commit_term: Term(0),
        entries: Vec::new(),
        reject: false,
        reject_hint: LogIndex(0),
        context: Bytes::new(),
        priority: 0,
        snapshot: None,
    };
    cluster.step(0, Input::Peer(PeerMessage { priority: -1, ..blank.clone() }));
    assert_eq!(cluster.refused, 1);
    cluster.step(0, Input::Peer(blank));
    assert_eq!(cluster.refused, 1);
}

/// A new leader may have applied less than the one before: with its older table the batches in between would be forgotten.
#[test]
fn a_snapshot_never_takes_the_state_back() {
    let Scene { mut cluster, follower, good } = scene();
    let replica = cluster.nodes[follower].replica.as_mut().expect("up");
    let snapshot = |numbers: [u64; 5]| {
        let (kind, snapshot) = (MessageKind::Snapshot, Some(forged_snapshot(numbers)));
        Input::Peer(PeerMessage { kind, entries: Vec::new(), snapshot, ..good.clone() })
    };
    let mut step = |input: Input| {
        let mut out = Vec::new();
        replica.step(MonotonicTime(0), input, &mut out);
        out
    };
    let refused = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Refused { .. }));
    let taken = step(snapshot([1, 1, 50, 62, 70]));
    let write = taken.iter().find_map(|output| match output {
        Output::Write { id, .. } => Some(*id),
        _ => None,
    });
    assert!(refused(&step(snapshot([1, 1, 55, 59, 75]))), "the first one isn't durable yet");
    step(Input::Persisted { write: write.expect("it is to be made durable") });
    assert!(refused(&step(snapshot([1, 1, 55, 59, 75]))));
    assert!(!refused(&step(snapshot([1, 1, 55, 62, 75]))), "the same state at a later place");
}

#[test]
fn each_rule_refuses() {
    assert!(matches!(refusal_of(|m| m.to = replica_id(8)), Some(Refusal::NotForUs(_))));
    assert!(matches!(refusal_of(|m| m.log = LogId(8)), Some(Refusal::AnotherLog(_))));
    assert!(matches!(refusal_of(|m| m.from = ReplicaId(5)), Some(Refusal::Sender(_))));
    assert!(matches!(refusal_of(|m| m.from = m.to), Some(Refusal::Sender(_))));
    assert!(matches!(refusal_of(|m| m.term = Term(0)), Some(Refusal::Field("term"))));
    assert!(matches!(refusal_of(|m| m.term = Term(u64::MAX)), Some(Refusal::Field("term"))));
    assert!(matches!(refusal_of(|m| m.kind = MessageKind::Snapshot), Some(Refusal::Field("snapshot"))));
    assert!(matches!(refusal_of(|m| m.snapshot = Some(forged_snapshot([1; 5]))), Some(Refusal::Field("snapshot"))));
    let snapshot = |numbers: [u64; 5]| {
        move |m: &mut PeerMessage| {
            (m.kind, m.entries, m.snapshot) = (MessageKind::Snapshot, Vec::new(), Some(forged_snapshot(numbers)));
        }
    };
    assert_eq!(refusal_of(snapshot([1, 1, 50, 60, 70])), None, "a good one");
    assert!(matches!(refusal_of(snapshot([1, 1, 0, 60, 70])), Some(Refusal::Snapshot(_))));
    assert!(matches!(refusal_of(snapshot([1, 1, 50, 60, 1])), Some(Refusal::Snapshot(_))), "offsets go back");
    assert!(matches!(refusal_of(snapshot([1, 1, 50, 60, u64::MAX])), Some(Refusal::Snapshot(_))));
    let newer = |m: &mut PeerMessage| {
        snapshot([1, 1, 50, 60, 70])(m);
        m.snapshot.as_mut().expect("just put there").term = Term(m.term.0 + 1);
    };
    assert_eq!(refusal_of(newer), Some(Refusal::Field("snapshot")));
    let kind = |kind: FrameKind, payload: &'static [u8]| {
        move |m: &mut PeerMessage| (m.entries[0].kind, m.entries[0].payload) = (kind, Bytes::from_static(payload))
    };
    assert_eq!(refusal_of(kind(FrameKind::LogStart, &[8, 2])), None, "the log start moves to 2");
    assert!(matches!(refusal_of(kind(FrameKind::LogStart, &[8, 99])), Some(Refusal::Entry { .. })), "behind the end");
    assert!(matches!(refusal_of(kind(FrameKind::LogStart, &[9])), Some(Refusal::Entry { .. })));
    assert!(matches!(refusal_of(kind(FrameKind::ProducerExpiry, &[])), Some(Refusal::Entry { .. })));
    assert!(matches!(refusal_of(|m| m.log_term = Term(0)), Some(Refusal::Field("log_term"))));
    assert!(matches!(refusal_of(|m| m.entries[0].index = LogIndex(99)), Some(Refusal::Sequence(_))));
    assert!(matches!(refusal_of(|m| m.entries[0].kind = FrameKind::Configuration), Some(Refusal::Entry { .. })));
    assert_eq!(refusal_of(kind(FrameKind::Configuration, &[])), None, "a joint state is left, if there is one");
    let voter: &[u8] = &[0x12, 0x06, 0x10, 0x81, 0x80, 0x80, 0x80, 0x10];
    assert!(matches!(refusal_of(kind(FrameKind::Configuration, voter)), Some(Refusal::Entry { .. })), "no joint state");
    assert!(matches!(refusal_of(|m| m.entries[0].kind = FrameKind::Command), Some(Refusal::Entry { .. })));
    let damaged = |m: &mut PeerMessage| {
        let mut bytes = m.entries[0].payload.to_vec();
        *bytes.last_mut().expect("bytes") ^= 1;
        m.entries[0].payload = Bytes::from(bytes);
    };
    assert!(matches!(refusal_of(damaged), Some(Refusal::Entry { .. })), "a damaged batch is never appended");
    let moved = |m: &mut PeerMessage| {
        let term = m.entries[0].term;
        m.entries[0].payload = dlog_core::batch::stamp(&m.entries[0].payload, Offset(77), term, None);
    };
    assert!(matches!(refusal_of(moved), Some(Refusal::BaseOffset { found: Offset(77), .. })));
    let heartbeat = |commit: u64| {
        move |m: &mut PeerMessage| {
            (m.kind, m.entries, m.commit) = (MessageKind::Heartbeat, Vec::new(), LogIndex(commit));
        }
    };
    assert!(matches!(refusal_of(heartbeat(1000)), Some(Refusal::Beyond { .. })), "the crate would panic");
    assert_eq!(refusal_of(heartbeat(2)), None);
    let answer = |m: &mut PeerMessage| (m.kind, m.entries) = (MessageKind::ReadIndexResponse, Vec::new());
    assert!(refusal_of(answer).is_some());
    let response = |m: &mut PeerMessage| {
        (m.kind, m.entries, m.from) = (MessageKind::AppendResponse, Vec::new(), ReplicaId::new(NodeId(44), 1));
    };
    assert!(matches!(refusal_of(response), Some(Refusal::NotAMember(_))));
}
