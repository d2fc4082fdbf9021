//! Golden bytes and properties of the checkpoint.

use super::*;
use dlog_core::Offset;
use dlog_core::write::LogPoint;
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const SHARD: ShardId = ShardId(2);

fn checkpoint(sequence: u64) -> Checkpoint {
    let point = LogPoint { index: LogIndex(3), term: Term(2), next_offset: Offset(9), crc: 5 };
    let replica = ReplicaCheckpoint {
        replica: ReplicaId(0x1_0000_0001),
        log: LogId(4),
        intent: LogIndex(6),
        term: Term(8),
        vote: Some(ReplicaId(7)),
        commit: LogIndex(3),
        membership_index: LogIndex(1),
        membership: Bytes::from_static(b"mem"),
        producers: None,
        log_state: LogState::empty(point),
    };
    let marks = [(ReplicaId(9), MarkKind::Deleted), (ReplicaId(10), MarkKind::Retired)];
    Checkpoint {
        sequence,
        position: JournalPosition { generation: 1, position: 4096, number: 2, crc: 3 },
        replicas: vec![replica],
        marks: marks.map(|(replica, kind)| (replica, Mark { until: LogIndex(1), kind })).into(),
    }
}

/// The bytes of version 1: a change here breaks every data directory.
#[test]
fn golden_bytes() {
    let bytes = checkpoint(11).encode(CLUSTER, SHARD);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let header = "444c4f47434b50540100020007070707070707070707070707070707000000000b00000000000000";
    assert_eq!(&hex[..80], header);
    assert_eq!(&hex[80..96], hex_u64(bytes.len() as u64 - 64));
    assert_eq!(&hex[96..120], "0".repeat(24));
    let fields = [
        &hex_u64(1),
        &hex_u64(4096),
        &hex_u64(2),
        "03000000",
        "01000000",
        &hex_u64(0x1_0000_0001),
        &hex_u64(4),
        &hex_u64(6),
        &hex_u64(8),
        "01",
        &hex_u64(7),
        &hex_u64(3),
        &hex_u64(1),
        "03000000",
        "6d656d",
        "00",
        &hex_u64(0),
    ];
    assert!(hex[128..].starts_with(&fields.concat()), "{hex}");
    let marks = ["02000000", &hex_u64(9), &hex_u64(1), "01", &hex_u64(10), &hex_u64(1), "02"];
    assert!(hex.ends_with(&marks.concat()), "{hex}");
}

fn hex_u64(value: u64) -> String {
    value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn another_shard_is_refused() {
    let bytes = checkpoint(1).encode(CLUSTER, SHARD);
    assert!(Checkpoint::decode(&bytes, CLUSTER, ShardId(3)).is_err());
    assert!(Checkpoint::decode(&bytes, ClusterId([8; 16]), SHARD).is_err());
}

/// Behind a good checksum: who reads the table by replica would take one of two for the only one.
#[test]
fn replicas_out_of_order_or_twice_are_refused() {
    let good = checkpoint(1);
    let other = |number| ReplicaCheckpoint { replica: ReplicaId(number), ..good.replicas[0].clone() };
    let decoded = |replicas: &[ReplicaCheckpoint]| {
        let checkpoint = Checkpoint { replicas: replicas.to_vec(), ..good.clone() };
        Checkpoint::decode(&checkpoint.encode(CLUSTER, SHARD), CLUSTER, SHARD).map(|found| found.replicas.len())
    };
    assert_eq!(decoded(&[other(3), other(4)]), Ok(2));
    decoded(&[other(4), other(3)]).expect_err("out of order");
    decoded(&[other(4), other(4)]).expect_err("twice");
    decoded(&[other(9)]).expect_err("a replica that is marked as deleted");
    let mut marked_twice = good.encode(CLUSTER, SHARD);
    let (count, mark) = (marked_twice.len() - 2 * 17 - 4, marked_twice.len() - 17);
    marked_twice[count] = 3;
    marked_twice.extend_from_within(mark..);
    reseal(&mut marked_twice);
    Checkpoint::decode(&marked_twice, CLUSTER, SHARD).expect_err("a mark twice");
}

/// A start counts on from each of these.
#[test]
fn numbers_that_overflow_are_refused() {
    let changes: [fn(&mut Checkpoint); 6] = [
        |checkpoint| checkpoint.sequence = u64::MAX,
        |checkpoint| checkpoint.position.generation = u64::MAX,
        |checkpoint| checkpoint.position.position = u64::MAX - 4095,
        |checkpoint| checkpoint.position.number = u64::MAX,
        |checkpoint| {
            checkpoint.replicas[0].log_state =
                LogState::empty(LogPoint { index: LogIndex(u64::MAX), ..LogPoint::default() })
        },
        |checkpoint| {
            checkpoint.replicas[0].log_state =
                LogState::empty(LogPoint { next_offset: Offset(u64::MAX), ..LogPoint::default() })
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut checkpoint = checkpoint(1);
        change(&mut checkpoint);
        let decoded = Checkpoint::decode(&checkpoint.encode(CLUSTER, SHARD), CLUSTER, SHARD);
        assert!(decoded.is_err(), "change {number}");
    }
}

/// Gives a file the length and the checksum of its body.
fn reseal(file: &mut [u8]) {
    let body = (file.len() - HEADER_BYTES) as u64;
    file[40..48].copy_from_slice(&body.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&file[..CRC_AT]), &file[HEADER_BYTES..]);
    file[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_crash_leaves_the_old_or_the_new_one() {
    use crate::sim_disk::SimDisk;
    let mut seen = [false; 2];
    for seed in 0..40 {
        let disk = SimDisk::with_seed(seed);
        write_slot(&disk, "", Slot::A, &checkpoint(1).encode(CLUSTER, SHARD)).expect("written");
        disk.cut_power_after(seed % 6 + 1);
        drop(write_slot(&disk, "", Slot::A, &checkpoint(2).encode(CLUSTER, SHARD)));
        disk.crash();
        let SlotState::Good(found) = read_slot(&disk, "", Slot::A, (CLUSTER, SHARD)).expect("read") else {
            panic!("seed {seed}: half a checkpoint")
        };
        seen[found.sequence as usize - 1] = true;
    }
    assert_eq!(seen, [true; 2]);
}

proptest! {
    #[test]
    fn round_trip_and_any_flipped_bit_is_found(sequence in 0..=NUMBER_MAX, bit in any::<prop::sample::Index>()) {
        let checkpoint = checkpoint(sequence);
        let mut bytes = checkpoint.encode(CLUSTER, SHARD);
        prop_assert_eq!(Checkpoint::decode(&bytes, CLUSTER, SHARD), Ok(checkpoint));
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Checkpoint::decode(&bytes, CLUSTER, SHARD).is_err());
    }

    #[test]
    fn a_short_file_is_refused(cut in any::<prop::sample::Index>()) {
        let bytes = checkpoint(1).encode(CLUSTER, SHARD);
        prop_assert!(Checkpoint::decode(&bytes[..cut.index(bytes.len())], CLUSTER, SHARD).is_err());
    }
}
