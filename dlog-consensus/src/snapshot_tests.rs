//! Tests of a snapshot's encoding.

use super::*;
use dlog_core::batch::{Attributes, BatchHeader};
use dlog_core::{NodeId, ReplicaId, Term, TimestampMs};
use proptest::prelude::*;

const PRODUCERS_MAX: usize = 8;

fn header(id: i64, base_offset: u64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(base_offset),
        batch_length: 100,
        leader_epoch: 1,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: 0,
        base_timestamp: TimestampMs(0),
        max_timestamp: TimestampMs(0),
        producer_id: id,
        producer_epoch: 0,
        base_sequence: 0,
        record_count: 1,
    }
}

fn snapshot(index: u64, as_of: u64, producers: &[i64]) -> Snapshot {
    let mut table = ProducerTable::new(PRODUCERS_MAX);
    for (at, id) in producers.iter().enumerate() {
        table.apply(&header(*id, at as u64), LogIndex(at as u64 + 1));
    }
    Snapshot {
        point: LogPoint { index: LogIndex(index), term: Term(3), next_offset: Offset(20), crc: 0xdead_beef },
        as_of: LogIndex(as_of),
        log_start: Offset(25),
        membership: Membership::of_voters([ReplicaId::new(NodeId(1), 1)]),
        table,
        state: None,
    }
}

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    let wire = snapshot(7, 9, &[3]).encode();
    assert_eq!((wire.index, wire.term), (LogIndex(7), Term(3)));
    assert_eq!(hex(&wire.data), "08011009181920142defbeadde320c0801120808031a0410012001");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let good = snapshot(7, 9, &[3]);
    assert_eq!(Snapshot::decode(&good.encode(), PRODUCERS_MAX), Ok(good.clone()));
    let broken = |change: fn(&mut Snapshot)| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        Snapshot::decode(&snapshot.encode(), PRODUCERS_MAX)
    };
    assert!(broken(|s| s.point.index = LogIndex(0)).is_err());
    assert!(broken(|s| s.point.index = LogIndex(NUMBER_MAX + 1)).is_err());
    assert!(broken(|s| s.point.term = Term(0)).is_err());
    assert!(broken(|s| s.as_of = LogIndex(6)).is_err(), "a state older than the place");
    assert!(broken(|s| s.as_of = LogIndex(u64::MAX)).is_err());
    assert!(broken(|s| s.log_start = Offset(19)).is_err());
    assert!(broken(|s| s.log_start = Offset(u64::MAX)).is_err());
    assert!(broken(|s| s.membership = Membership::default()).is_err());
    let mut large = good.encode();
    large.data = Bytes::from(vec![0; SNAPSHOT_BYTES_MAX]);
    assert!(matches!(Snapshot::decode(&large, PRODUCERS_MAX), Err(SnapshotError::Size(_))));
    let newer = DataProto { version: 2, ..DataProto::default() };
    let newer = WireSnapshot { data: Bytes::from(newer.encode_to_vec()), ..good.encode() };
    assert_eq!(Snapshot::decode(&newer, PRODUCERS_MAX), Err(SnapshotError::Version(2)));
}

/// A full table of the greatest size, with the longest numbers, fits.
#[test]
fn the_largest_table_fits() {
    let max = limits::PRODUCERS_PER_PARTITION_MAX;
    let mut snapshot = snapshot(NUMBER_MAX, NUMBER_MAX, &[]);
    snapshot.table = ProducerTable::new(max);
    for id in 0..max as u64 {
        for round in 0..limits::PRODUCER_WINDOW_BATCHES as u64 {
            let at = id * 8 + round;
            let sequence = i32::MAX - 10 + round as i32;
            let header = BatchHeader {
                producer_epoch: i16::MAX,
                base_sequence: sequence,
                ..header(i64::MAX - id as i64, Offset::MAX.0 - 1_000_000 + at)
            };
            snapshot.table.apply(&header, LogIndex(NUMBER_MAX - 1_000_000 + at));
        }
    }
    assert_eq!(snapshot.table.len(), max);
    let wire = snapshot.encode();
    assert!(wire.bytes() < SNAPSHOT_BYTES_MAX, "{} bytes", wire.bytes());
    assert_eq!(Snapshot::decode(&wire, max), Ok(snapshot));
}

proptest! {
    #[test]
    fn round_trip(index in 1u64..1000, more in 0u64..1000, ids in proptest::collection::btree_set(0i64..100, 0..PRODUCERS_MAX)) {
        let ids: Vec<i64> = ids.into_iter().collect();
        let snapshot = snapshot(index, index + more, &ids);
        prop_assert_eq!(Snapshot::decode(&snapshot.encode(), PRODUCERS_MAX), Ok(snapshot));
    }

    #[test]
    fn any_bytes_are_read_or_refused(membership in proptest::collection::vec(any::<u8>(), 0..32), data in proptest::collection::vec(any::<u8>(), 0..80), index in any::<u64>(), term in any::<u64>()) {
        let (membership, data) = (Bytes::from(membership), Bytes::from(data));
        let wire = WireSnapshot { index: LogIndex(index), term: Term(term), membership, data };
        if let Ok(snapshot) = Snapshot::decode(&wire, PRODUCERS_MAX) {
            prop_assert!(snapshot.as_of >= snapshot.point.index && snapshot.membership.validate().is_ok());
        }
    }

    /// Bytes that were written, with some changed: deeper than random ones get.
    #[test]
    fn damaged_bytes_are_read_or_refused(at in any::<prop::sample::Index>(), bit in 0u8..8, ids in proptest::collection::btree_set(0i64..100, 0..PRODUCERS_MAX)) {
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut wire = snapshot(7, 9, &ids).encode();
        let mut data = wire.data.to_vec();
        let at = at.index(data.len());
        data[at] ^= 1 << bit;
        wire.data = Bytes::from(data);
        if let Ok(snapshot) = Snapshot::decode(&wire, PRODUCERS_MAX) {
            prop_assert!(snapshot.as_of >= snapshot.point.index && snapshot.log_start >= snapshot.point.next_offset);
        }
    }
}
