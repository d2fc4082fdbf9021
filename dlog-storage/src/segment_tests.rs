//! Tests of the segment's header and name.

use super::*;
use crate::testing::{IDENTITY, point};
use proptest::prelude::*;

fn any_header() -> impl Strategy<Value = SegmentHeader> {
    (any::<[u8; 16]>(), any::<[u64; 6]>(), any::<u32>()).prop_map(
        |(cluster, [log, replica, generation, index, offset, term], crc)| SegmentHeader {
            identity: LogIdentity { cluster: ClusterId(cluster), log: LogId(log), replica: ReplicaId(replica) },
            generation,
            start: point(index >> 1, term, offset >> 1, crc),
        },
    )
}

/// The bytes of version 1: a change here breaks every data directory.
#[test]
fn golden_bytes() {
    let header = SegmentHeader { identity: IDENTITY, generation: 3, start: point(6, 7, 8, 0x0102_0304) };
    let hex: String = header.encode()[..124].iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "444c4f4753454700",
        "01000000",
        "80000000",
        "09090909090909090909090909090909",
        "0500000000000000",
        "0200000001000000",
        "0300000000000000",
        "0700000000000000",
        "0800000000000000",
        "0700000000000000",
        "04030201",
        &"00".repeat(40),
    ]
    .concat();
    assert_eq!(hex, expected);
    assert_eq!(header.encode()[124..], crc32c::crc32c(&header.encode()[..124]).to_le_bytes());
}

/// Behind a good checksum: the first frame's index and offset are counted on from there.
#[test]
fn a_start_that_nothing_can_follow_is_refused() {
    for start in [point(u64::MAX - 1, 1, 0, 1), point(1, 1, u64::MAX, 1)] {
        let header = SegmentHeader { identity: IDENTITY, generation: 3, start };
        assert!(SegmentHeader::decode(&header.encode()).is_err(), "{start:?}");
    }
}

#[test]
fn names_are_read_back_and_others_refused() {
    let name = SegmentName { first_index: LogIndex(42), generation: 7 };
    assert_eq!(name.file(), "00000000000000000042-0000000007.segment");
    assert_eq!(SegmentName::parse(&name.file()), Some(name));
    assert_eq!(SegmentName::parse(&name.index_file()), Some(name));
    for other in
        ["42-7.segment", "00000000000000000042-0000000007.producers", "+0000000000000000042-0000000007.index", ""]
    {
        assert_eq!(SegmentName::parse(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn round_trip(header in any_header()) {
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn a_flipped_bit_is_found(header in any_header(), bit in 0..SEGMENT_HEADER_BYTES * 8) {
        let mut bytes = header.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }
}
