//! Golden bytes and properties of a group's header and table.

use super::*;
use dlog_core::{Frame, FrameKind};
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header() -> GroupHeader {
    GroupHeader {
        shard: ShardId(2),
        generation: 3,
        number: 4,
        position: 4096,
        bytes: 4096,
        table_bytes: 5,
        payload_bytes: 6,
        previous_crc: 0x0102_0304,
        kind: GroupKind::Group,
    }
}

/// The bytes of version 1: a change here breaks every data directory.
#[test]
fn golden_header() {
    let bytes = header().encode(CLUSTER, b"table");
    let expected = "444c47470100020003000000000000000400000000000000001000000000000000100000000000000500000006000000\
                    040302010100000000000000";
    assert_eq!(hex(&bytes[..60]), expected);
    let crc = crc32c::crc32c(&[&CLUSTER.0[..], &bytes[..60], b"table"].concat());
    assert_eq!(bytes[60..], crc.to_le_bytes());
    assert_eq!(GroupHeader::decode(&bytes), Some(header()));
}

/// The bytes of version 1: a change here breaks every data directory.
#[test]
fn golden_table() {
    let point = LogPoint { index: LogIndex(1), term: Term(2), next_offset: Offset(3), crc: 4 };
    let create = Create { intent: LogIndex(5), membership: Bytes::from_static(b"m"), start: point };
    let frame = Frame::new(LogId(9), FrameKind::NoOp, Term(2), LogIndex(2), Offset(3), 0, 4, Bytes::new());
    let ops = vec![
        WriteOp::Create(create),
        WriteOp::Append(vec![frame.clone()]),
        WriteOp::HardState { term: Term(6), vote: Some(ReplicaId(7)) },
        WriteOp::Configuration { index: LogIndex(2), membership: Bytes::from_static(b"n") },
        WriteOp::Cut { from: LogIndex(2) },
        WriteOp::LogStart(Offset(8)),
        WriteOp::Reset(point),
        WriteOp::Delete { ended: LogIndex(0x0d) },
    ];
    let write = ReplicaWrite { replica: ReplicaId(10), log: LogId(9), commit: LogIndex(11), ops };
    let mut table = Vec::new();
    encode_write(&mut table, &write, write.commit);
    let at = "01000000000000000200000000000000030000000000000004000000";
    let expected = [
        "0a00000000000000",
        "0900000000000000",
        "0b00000000000000",
        "08000000",
        "07",
        "0500000000000000",
        at,
        "01000000",
        "6d",
        "01",
        "01000000",
        &hex(&frame.encode_header()),
        "02",
        "0600000000000000",
        "01",
        "0700000000000000",
        "03",
        "0200000000000000",
        "01000000",
        "6e",
        "04",
        "0200000000000000",
        "05",
        "0800000000000000",
        "06",
        at,
        "0b",
        "0d00000000000000",
    ];
    assert_eq!(hex(&table), expected.concat());
    assert_eq!(decode_table(&table, &Bytes::new()), Ok(vec![write]));
}

/// Earlier builds did not note as of when: the mark of such a replica is kept for ever.
#[test]
fn a_delete_without_its_index_is_read() {
    let mut table = Vec::new();
    let ops = vec![WriteOp::Delete { ended: LogIndex(3) }];
    let write = ReplicaWrite { replica: ReplicaId(10), log: LogId(9), commit: LogIndex(11), ops };
    encode_write(&mut table, &write, write.commit);
    table.truncate(table.len() - 9);
    table.push(8);
    let read = decode_table(&table, &Bytes::new()).expect("an old delete");
    assert_eq!(read[0].ops, [WriteOp::Delete { ended: LogIndex(u64::MAX) }]);
}

fn any_op() -> impl Strategy<Value = WriteOp> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let point = || {
        any::<(u32, u32, u32, u32)>().prop_map(|(index, term, offset, crc)| LogPoint {
            index: LogIndex(index.into()),
            term: Term(term.into()),
            next_offset: Offset(offset.into()),
            crc,
        })
    };
    let frame = (1u8..=6, any::<u32>(), bytes()).prop_map(|(kind, number, payload)| {
        let kind = FrameKind::from_number(kind).expect("a kind");
        let (index, offset) = (LogIndex(number.into()), Offset(number.into()));
        Frame::new(LogId(1), kind, Term(1), index, offset, number, number, payload)
    });
    prop_oneof![
        proptest::collection::vec(frame, 1..4).prop_map(WriteOp::Append),
        (any::<u64>(), any::<Option<u64>>())
            .prop_map(|(term, vote)| WriteOp::HardState { term: Term(term), vote: vote.map(ReplicaId) }),
        (any::<u64>(), bytes())
            .prop_map(|(index, membership)| WriteOp::Configuration { index: LogIndex(index), membership }),
        (1..=u64::MAX).prop_map(|from| WriteOp::Cut { from: LogIndex(from) }),
        any::<u64>().prop_map(|offset| WriteOp::LogStart(Offset(offset))),
        point().prop_map(WriteOp::Reset),
        (any::<u64>(), point(), bytes()).prop_map(|(intent, start, membership)| WriteOp::Create(Create {
            intent: LogIndex(intent),
            start,
            membership
        })),
        any::<u64>().prop_map(|ended| WriteOp::Delete { ended: LogIndex(ended) }),
    ]
}

pub(crate) fn any_writes() -> impl Strategy<Value = Vec<ReplicaWrite>> {
    let write = (any::<[u64; 2]>(), proptest::collection::vec(any_op(), 0..5)).prop_map(|([replica, commit], ops)| {
        ReplicaWrite { replica: ReplicaId(replica), log: LogId(1), commit: LogIndex(commit), ops }
    });
    proptest::collection::vec(write, 0..5)
}

/// Behind a good checksum too: recovery asks for the index before a cut, and for what follows a point.
#[test]
fn numbers_without_a_neighbour_are_refused() {
    let decoded = |op| {
        let write = ReplicaWrite { replica: ReplicaId(1), log: LogId(1), commit: LogIndex(0), ops: vec![op] };
        let mut table = Vec::new();
        encode_write(&mut table, &write, write.commit);
        decode_table(&table, &Bytes::new()).map(|writes| writes.len())
    };
    let point = |index, offset| LogPoint { index: LogIndex(index), next_offset: Offset(offset), ..LogPoint::default() };
    assert_eq!(decoded(WriteOp::Cut { from: LogIndex(1) }), Ok(1));
    decoded(WriteOp::Cut { from: LogIndex(0) }).expect_err("no frame has index 0");
    assert_eq!(decoded(WriteOp::Reset(point(1, 1))), Ok(1));
    decoded(WriteOp::Reset(point(u64::MAX, 1))).expect_err("no index follows");
    decoded(WriteOp::Reset(point(1, u64::MAX))).expect_err("no record follows");
}

proptest! {
    #[test]
    fn tables_round_trip(writes in any_writes()) {
        let mut table = Vec::new();
        let mut payloads = Vec::new();
        for write in &writes {
            encode_write(&mut table, write, write.commit);
            super::super::group::frames(std::slice::from_ref(write)).for_each(|frame| payloads.extend_from_slice(&frame.payload));
        }
        prop_assert_eq!(decode_table(&table, &Bytes::from(payloads)), Ok(writes));
    }

    /// Damaged tables are behind a checksum; still none may bring a start down.
    #[test]
    fn any_bytes_are_survived(table in proptest::collection::vec(any::<u8>(), 0..300), payloads in proptest::collection::vec(any::<u8>(), 0..50)) {
        let _ = decode_table(&table, &Bytes::from(payloads));
    }

    #[test]
    fn any_header_is_survived(bytes in any::<[u8; 32]>()) {
        let mut header = header().encode(CLUSTER, b"table");
        header[20..52].copy_from_slice(&bytes);
        let _ = GroupHeader::decode(&header);
    }
}
