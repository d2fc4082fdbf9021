//! What entries without records say, producer tables, snapshots, states and memberships; and messages of peers, given to a replica.

use crate::target::{Mend, Target};
use crate::targets::archive::{list, parts};
use crate::targets::batch;
use bytes::Bytes;
use dlog_consensus::{
    Input, Membership, MessageKind, Output, PeerMessage, Replica, ReplicaOptions, WireEntry, WireSnapshot, decoders,
};
use dlog_core::limits::MIB;
use dlog_core::write::{Create, LogPoint};
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, NodeId, Offset, ReplicaId, Term};

pub(super) const PAYLOADS: Target = Target {
    name: "payloads",
    seeds: payload_seeds,
    mend: Mend::Nothing,
    check: check_payload,
    memory: 64 << 10,
    runs: 32_000,
};
pub(super) const MESSAGE: Target = Target {
    name: "message",
    seeds: message_seeds,
    mend: Mend::Nothing,
    check: check_messages,
    memory: 4 * MIB,
    runs: 8000,
};

/// Reads, and writes again.
type Door = fn(&[u8]) -> Option<Bytes>;

/// By the input's first byte.
const DOORS: [Door; 7] = [
    decoders::change,
    decoders::log_start,
    decoders::expiry,
    decoders::producer_table,
    decoders::snapshot,
    decoders::state,
    |bytes| Membership::decode(bytes).ok().map(|membership| membership.encode()),
];
const CHANGE: u8 = 0;
const LOG_START: u8 = 1;
const EXPIRY: u8 = 2;
const TABLE: u8 = 3;
const SNAPSHOT: u8 = 4;
const STATE: u8 = 5;
const MEMBERSHIP: u8 = 6;
/// The first byte for an image whose checksum is put before it: behind another one nothing of it is read.
const IMAGE: u8 = 7;

fn replica(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 2)
}

fn members() -> Membership {
    let mut membership = Membership::of_creation([replica(1), replica(2), replica(3)], LogIndex(4));
    membership.learners.insert(replica(4));
    membership
}

/// A number of protobuf.
fn number(tag: u8, mut value: u64) -> Vec<u8> {
    let mut bytes = vec![tag << 3];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Bytes, or a message, of protobuf.
fn bytes(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut length = number(tag, value.len() as u64);
    length[0] |= 2;
    [length, value.to_vec()].concat()
}

/// A fixed32 of protobuf.
fn fixed(tag: u8, value: u32) -> Vec<u8> {
    [vec![tag << 3 | 5], value.to_le_bytes().to_vec()].concat()
}

fn table() -> Vec<u8> {
    let batch = |first, count, offset, index| {
        bytes(3, &[number(1, first), number(2, count), number(3, offset), number(4, index)].concat())
    };
    let producer = |id, batches: &[Vec<u8>]| bytes(2, &[number(1, id), number(2, 3), batches.concat()].concat());
    let one = producer(7, &[batch(0, 5, 100, 20), batch(5, 1, 105, 22)]);
    let other = producer(9, &[batch(i32::MAX as u64, 3, 200, 30)]);
    [number(1, 1), one, other, number(3, 50)].concat()
}

fn image() -> Vec<u8> {
    let entry = |key: &[u8], value: &[u8]| bytes(2, &[bytes(1, key), bytes(2, value)].concat());
    [number(1, 1), entry(b"cluster", &[10, 1, 9]), entry(b"ids", &[8, 2])].concat()
}

fn part_of(image: &[u8]) -> Vec<u8> {
    let (total, crc) = (image.len() as u64, crc32c::crc32c(image));
    [number(1, total), fixed(2, crc), number(3, 0), bytes(4, image)].concat()
}

fn snapshot_data(state: Option<&[u8]>) -> Vec<u8> {
    let state = state.map_or_else(Vec::new, |part| bytes(7, part));
    let numbers = [number(1, 1), number(2, 30), number(3, 120), number(4, 100), fixed(5, 77)];
    [numbers.concat(), bytes(6, &table()), state].concat()
}

fn snapshot(state: Option<&[u8]>) -> Vec<u8> {
    [number(1, 25), number(2, 3), bytes(3, &members().encode()), bytes(4, &snapshot_data(state))].concat()
}

/// A change of the membership: how, and each replica with what becomes of it.
fn change(transition: u64, turns: &[(u64, ReplicaId)]) -> Vec<u8> {
    let nonzero = |tag, value| if value == 0 { Vec::new() } else { number(tag, value) };
    let turn = |(kind, replica): &(u64, ReplicaId)| bytes(2, &[nonzero(1, *kind), nonzero(2, replica.0)].concat());
    let turns: Vec<Vec<u8>> = turns.iter().map(turn).collect();
    [nonzero(1, transition), turns.concat(), number(4, 6)].concat()
}

fn payload_seeds() -> Vec<Vec<u8>> {
    let producers = |id, index| bytes(1, &[number(1, id), number(2, index)].concat());
    let all = [
        (CHANGE, Vec::new()),
        (CHANGE, change(0, &[(2, replica(5))])),
        (CHANGE, change(2, &[(2, replica(1)), (0, replica(4))])),
        (LOG_START, number(1, 300)),
        (EXPIRY, [producers(3, 5), producers(7, 300)].concat()),
        (TABLE, table()),
        (SNAPSHOT, snapshot(None)),
        (SNAPSHOT, snapshot(Some(&part_of(&image())))),
        (STATE, part_of(&image())),
        (MEMBERSHIP, members().encode().to_vec()),
        (IMAGE, image()),
    ];
    all.into_iter().map(|(door, payload)| [vec![door], payload].concat()).collect()
}

fn check_payload(input: &[u8]) -> bool {
    let Some((door, payload)) = input.split_first() else { return false };
    let part = part_of(payload);
    let (door, payload) = if *door == IMAGE { (STATE, &part[..]) } else { (*door % DOORS.len() as u8, payload) };
    let door = DOORS[usize::from(door)];
    let Some(once) = door(payload) else { return false };
    assert_eq!(door(&once), Some(once), "what is written is read as the same");
    true
}

/// Little-endian numbers off the front of a message's head, 0 where they are missing.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    fn number<const BYTES: usize>(&mut self) -> u64 {
        let (taken, rest) = self.0.split_at(self.0.len().min(BYTES));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A message of four parts at least: head, context, a snapshot's membership and data; then the entries, each behind its kind, term
/// and index.
fn message_of(list: &[u8]) -> Option<PeerMessage> {
    let parts = parts(list);
    let [head, context, membership, data, entries @ ..] = &parts[..] else { return None };
    let mut head = Head(head);
    let kind = MessageKind::ALL[usize::from(head.byte()) % MessageKind::ALL.len()];
    let (from, flags) = (head.byte(), head.byte());
    let entry = |entry: &&[u8]| {
        let mut head = Head(entry);
        let kind = FrameKind::from_number(head.byte())?;
        let (term, index) = (Term(head.number::<8>()), LogIndex(head.number::<8>()));
        Some(WireEntry { term, index, kind, payload: Bytes::copy_from_slice(head.0) })
    };
    Some(PeerMessage {
        log: LogId(9),
        from: replica(u32::from(from)),
        to: replica(1),
        kind,
        term: Term(head.number::<8>()),
        log_term: Term(head.number::<8>()),
        index: LogIndex(head.number::<8>()),
        commit: LogIndex(head.number::<8>()),
        commit_term: Term(head.number::<8>()),
        reject_hint: LogIndex(head.number::<8>()),
        entries: entries.iter().map(entry).collect::<Option<_>>()?,
        reject: flags & 1 != 0,
        context: Bytes::copy_from_slice(context),
        priority: i64::from(flags & 2),
        snapshot: (flags & 4 != 0).then(|| WireSnapshot {
            index: LogIndex(head.number::<8>()),
            term: Term(head.number::<8>()),
            membership: Bytes::copy_from_slice(membership),
            data: Bytes::copy_from_slice(data),
        }),
    })
}

fn message(kind: MessageKind, from: u8, flags: u8, numbers: [u64; 8], rest: &[Vec<u8>]) -> Vec<u8> {
    let kind = MessageKind::ALL.iter().position(|known| *known == kind).expect("a kind");
    let mut head = vec![kind as u8, from, flags];
    numbers.iter().for_each(|number| head.extend_from_slice(&number.to_le_bytes()));
    let mut parts = vec![head];
    parts.extend_from_slice(rest);
    parts.resize(parts.len().max(4), Vec::new());
    list(parts)
}

fn entry(kind: FrameKind, term: u64, index: u64, payload: &[u8]) -> Vec<u8> {
    [&[kind as u8][..], &term.to_le_bytes(), &index.to_le_bytes(), payload].concat()
}

/// Conversations that a follower takes part in.
fn message_seeds() -> Vec<Vec<u8>> {
    use MessageKind::{Append, Heartbeat, ReadIndex, RequestPreVote, RequestVote, Snapshot, TimeoutNow};
    let none = || vec![Vec::new(); 3];
    let append = |from_index: u64, log_term, commit, entries: &[Vec<u8>]| {
        let rest = [none(), entries.to_vec()].concat();
        message(Append, 2, 0, [3, log_term, from_index, commit, 0, 0, 0, 0], &rest)
    };
    let mut batch = batch::seeds().swap_remove(0);
    dlog_core::batch::stamp_in_place(&mut batch, Offset(0), Term(3), None);
    let entries = [
        entry(FrameKind::NoOp, 3, 1, b""),
        entry(FrameKind::Records, 3, 2, &batch),
        entry(FrameKind::LogStart, 3, 3, &number(1, 1)),
        entry(FrameKind::Configuration, 3, 4, &change(0, &[(2, replica(5))])),
    ];
    let vote = |kind, term| message(kind, 3, 0, [term, 0, 0, 0, 0, 0, 0, 0], &none());
    let heartbeat = message(Heartbeat, 2, 0, [3, 0, 0, 2, 0, 0, 0, 0], &none());
    let read = message(ReadIndex, 2, 0, [0; 8], &[b"read".to_vec()]);
    let state = vec![Vec::new(), members().encode().to_vec(), snapshot_data(None)];
    let installed = message(Snapshot, 2, 4, [3, 0, 0, 0, 0, 0, 25, 3], &state);
    let now = message(TimeoutNow, 2, 0, [3, 0, 0, 0, 0, 0, 0, 0], &none());
    vec![
        list([append(0, 0, 0, &entries[..1]), append(1, 3, 1, &entries[1..]), heartbeat.clone()]),
        list([vote(RequestPreVote, 1), vote(RequestVote, 1)]),
        list([installed, append(25, 3, 25, &[entry(FrameKind::NoOp, 3, 26, b"")])]),
        list([append(0, 0, 1, &entries[..2]), now, read]),
    ]
}

/// A replica that never had anything, its writes durable at once, is given the messages one after the other.
fn check_messages(input: &[u8]) -> bool {
    let (now, options) = (MonotonicTime::default(), ReplicaOptions::default());
    let create = Create { intent: LogIndex(4), membership: members().encode(), start: LogPoint::default() };
    let mut out = Vec::new();
    let mut of = Replica::create(options, replica(1), LogId(9), create, 1, now, &mut out).expect("valid");
    let (mut known, mut committed) = (0, LogIndex::ZERO);
    for message in parts(input).into_iter().filter_map(message_of) {
        let valid = message.validate().is_ok();
        of.step(now, Input::Peer(message), &mut out);
        settle(&mut of, now, &mut out);
        of.assert_invariants();
        assert!(of.progress().commit >= committed, "a commit was taken back");
        committed = of.progress().commit;
        known += usize::from(valid);
    }
    known > 0
}

/// Makes durable and writes out whatever the replica says, until it says nothing more.
fn settle(of: &mut Replica, now: MonotonicTime, out: &mut Vec<Output>) {
    while !out.is_empty() {
        for output in std::mem::take(out) {
            if let Output::Write { id, write } = output {
                let frames = write.ops.iter().filter_map(|op| match op {
                    dlog_core::write::WriteOp::Append(frames) => frames.last(),
                    _ => None,
                });
                let last = frames.last().map(|frame| (frame.index, frame.next_offset()));
                of.step(now, Input::Persisted { write: id }, out);
                if let Some((index, next_offset)) = last {
                    of.step(now, Input::WrittenOut { index, next_offset }, out);
                }
            }
        }
    }
}
