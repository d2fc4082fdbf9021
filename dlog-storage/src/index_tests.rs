//! Tests of the sparse index.

use super::*;
use crate::testing::FrameMaker;
use dlog_core::write::LogPoint;
use proptest::prelude::*;

const NAME: IndexName = IndexName { log: LogId(5), replica: ReplicaId(2), first_index: LogIndex(7), generation: 1 };

/// The bytes of version 1. An index can be made anew, so a change here costs a new version, not data.
#[test]
fn golden_bytes() {
    let mut index = SparseIndex::new(100, TimestampMs::NONE);
    let mut maker = FrameMaker::new(LogPoint::default());
    index.note(&maker.records(&[50], 1), 128);
    index.note(&maker.records(&[40], 1), 228);
    let bytes = index.encode(&NAME);
    let hex: String = bytes[..bytes.len() - 4].iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "444c4f4749445800",
        "01000000",
        "02000000",
        "0500000000000000",
        "0200000000000000",
        "0700000000000000",
        "0100000000000000",
        "0100000000000000",
        "0000000000000000",
        "ffffffffffffffff",
        "80000000",
        "0200000000000000",
        "0100000000000000",
        "3200000000000000",
        "e4000000",
    ]
    .concat();
    assert_eq!(hex, expected);
}

fn any_index() -> impl Strategy<Value = SparseIndex> {
    let frame = (proptest::collection::vec(-5i64..100, 0..3), 1u64..300);
    (proptest::collection::vec(frame, 0..30), 1u64..500).prop_map(|(frames, interval)| {
        let (mut index, mut position) = (SparseIndex::new(interval, TimestampMs::NONE), 128);
        let mut maker = FrameMaker::new(LogPoint::default());
        for (times, bytes) in frames {
            let frame = if times.is_empty() { maker.no_op() } else { maker.records(&times, 1) };
            index.note(&frame, position);
            position += bytes;
        }
        index
    })
}

proptest! {
    #[test]
    fn round_trip(index in any_index()) {
        let (name, again) = SparseIndex::decode(&index.encode(&NAME), index.interval()).expect("own bytes");
        prop_assert_eq!(name, NAME);
        prop_assert_eq!(again.entries(), index.entries());
    }

    #[test]
    fn a_flipped_bit_is_found(index in any_index(), bit in any::<proptest::sample::Index>()) {
        let mut bytes = index.encode(&NAME);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SparseIndex::decode(&bytes, 1).is_err());
    }

    /// Cut in two at any place and put together again, an index is the same.
    #[test]
    fn parts_make_the_whole(index in any_index(), position in 0u64..5000) {
        let (mut prefix, mut rest) = (index.clone(), index.clone());
        prefix.truncate(position);
        rest.drop_below(position);
        rest.put_before(prefix);
        prop_assert_eq!(rest.entries(), index.entries());
    }

    #[test]
    fn the_last_allowed_entry_is_found(index in any_index(), wanted in 0u64..40) {
        let found = index.last_where(|entry| entry.index.0 <= wanted);
        let expected = index.entries().iter().rfind(|entry| entry.index.0 <= wanted).copied();
        prop_assert_eq!(found, expected);
    }
}
