//! Groups are built from parts and found again by either copy.

use super::super::format::tests::any_writes;
use super::*;
use proptest::prelude::*;

const CONTEXT: GroupContext = GroupContext { cluster: ClusterId([7; 16]), shard: ShardId(2), generation: 3 };
const AT: u64 = 8192;

/// A file with one group at [`AT`], and the group's CRC.
fn file(writes: &[ReplicaWrite]) -> (Vec<u8>, u32) {
    let mut builder = GroupBuilder::default();
    builder.clear();
    writes.iter().for_each(|write| builder.push(write, write.commit));
    let place = GroupPlace { position: AT, number: 5, previous_crc: 6 };
    let crc = builder.finish(CONTEXT, place, GroupKind::Group);
    let mut file = vec![0u8; AT as usize];
    builder.parts(writes).into_iter().for_each(|part| file.extend_from_slice(part));
    assert_eq!(file.len() as u64, AT + builder.bytes());
    (file, crc)
}

proptest! {
    #[test]
    fn both_copies_give_the_writes(writes in any_writes()) {
        let (file, crc) = file(&writes);
        prop_assert!((file.len() as u64).is_multiple_of(GROUP_ALIGN));
        let file = Bytes::from(file);
        let head = GroupCopy::at_head(CONTEXT, &file, AT).expect("a good head");
        let tail = GroupCopy::at_tail(CONTEXT, &file, file.len() as u64).expect("a good end");
        prop_assert_eq!((head.crc, tail.crc, head.end()), (crc, crc, file.len() as u64));
        prop_assert_eq!(&head.header, &tail.header);
        prop_assert_eq!(head.writes(&file), Ok(writes.clone()));
        prop_assert_eq!(tail.writes(&file), Ok(writes));
    }

    /// A flipped bit outside of payloads and filling is found in the copy that it hits, and the other copy is still good.
    #[test]
    fn a_flipped_bit_is_found(writes in any_writes(), bit in any::<prop::sample::Index>(), tail in any::<bool>()) {
        let (mut file, _) = file(&writes);
        let end = file.len();
        let copy = GroupCopy::at_head(CONTEXT, &file, AT).expect("a good head");
        let bytes = GROUP_HEADER_BYTES + copy.header.table_bytes as usize;
        let from = if tail { end - bytes } else { AT as usize };
        let bit = bit.index(bytes * 8);
        file[from + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(GroupCopy::at_head(CONTEXT, &file, AT).is_some(), tail);
        prop_assert_eq!(GroupCopy::at_tail(CONTEXT, &file, end as u64).is_some(), !tail);
    }
}

#[test]
fn another_file_shard_or_cluster_is_not_taken() {
    let (file, _) = file(&[]);
    let good = |context| GroupCopy::at_head(context, &file, AT).is_some();
    assert!(good(CONTEXT));
    assert!(!good(GroupContext { generation: 4, ..CONTEXT }));
    assert!(!good(GroupContext { shard: ShardId(3), ..CONTEXT }));
    assert!(!good(GroupContext { cluster: ClusterId([8; 16]), ..CONTEXT }));
    let moved = [&[0u8; 4096][..], &file].concat();
    assert!(GroupCopy::at_head(CONTEXT, &moved, AT + 4096).is_none(), "a misdirected write");
}

#[test]
fn every_byte_of_a_batch_is_covered() {
    let mut maker = crate::testing::FrameMaker::new(dlog_core::write::LogPoint::default());
    let frame = maker.records(&[1, 2], 100);
    let log = crate::testing::IDENTITY.log;
    assert!(frame_is_whole(log, &frame));
    for at in 0..frame.payload.len() {
        let mut payload = frame.payload.to_vec();
        payload[at] ^= 4;
        let damaged = Frame { payload: Bytes::from(payload), ..frame.clone() };
        assert!(!frame_is_whole(log, &damaged), "byte {at}");
    }
}
