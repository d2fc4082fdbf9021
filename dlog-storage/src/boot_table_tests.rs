//! Tests of the boot table.

use super::*;
use crate::SimDisk;
use proptest::prelude::*;

const NODE: NodeId = NodeId(7);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn groups(of: &[(u16, u64)]) -> BTreeMap<ShardId, GroupNumber> {
    of.iter().map(|(shard, group)| (ShardId(*shard), GroupNumber(*group))).collect()
}

/// The bytes of version 2: a change here breaks every data directory.
#[test]
fn golden_bytes() {
    let mut table = BootTable::default();
    assert!(table.note(NODE, Boot { number: 1, random: 2 }, &groups(&[(0, 5), (3, 6)])));
    assert!(table.note(NodeId(8), Boot { number: 3, random: 4 }, &groups(&[])));
    assert!(table.bar(NODE, Boot { number: 1, random: 9 }));
    let bytes = table.encode();
    let expected = concat!(
        "444c4f4742545300",
        "02000000",
        "02000000",
        "07000000",
        "0100000000000000",
        "0200000000000000",
        "02000000",
        "0000",
        "0500000000000000",
        "0300",
        "0600000000000000",
        "0100000000000000",
        "0900000000000000",
        "08000000",
        "0300000000000000",
        "0400000000000000",
        "00000000",
        "0000000000000000",
        "0000000000000000",
    );
    assert_eq!(hex(&bytes[..bytes.len() - 4]), expected);
    assert_eq!(&bytes[bytes.len() - 4..], crc32c::crc32c(&bytes[..bytes.len() - 4]).to_le_bytes());
}

/// A file as versions before this one wrote it.
#[test]
fn version_1_is_read() {
    let mut bytes = b"DLOGBTS\0".to_vec();
    for word in [1u32, 1, 7] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for number in [1u64, 2] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let table = BootTable::decode(&whole_file::seal(bytes)).expect("it is read");
    let mut expected = BootTable::default();
    expected.note(NODE, Boot { number: 1, random: 2 }, &groups(&[]));
    assert_eq!(table, expected);
    assert_eq!(table.highest_told(NODE, ShardId(0)), None);
}

#[test]
fn a_later_version_is_not_read() {
    let bytes = whole_file::seal([MAGIC.as_slice(), &[3, 0, 0, 0], &[0; 4]].concat());
    assert!(BootTable::decode(&bytes).expect_err("not known").contains("version 3"));
}

#[test]
fn a_copy_of_a_directory_is_noticed() {
    let mut table = BootTable::default();
    let (boot, none) = (Boot { number: 2, random: 7 }, BTreeMap::new());
    assert_eq!(table.judge(NODE, boot), BootVerdict::Newer);
    assert!(table.note(NODE, boot, &none));
    assert!(!table.note(NODE, boot, &none));
    assert_eq!(table.judge(NODE, boot), BootVerdict::Same);
    assert_eq!(table.judge(NODE, Boot { number: 2, random: 8 }), BootVerdict::Twin);
    assert_eq!(table.judge(NODE, Boot { number: 1, random: 7 }), BootVerdict::Older);
    assert_eq!(table.judge(NODE, Boot { number: 3, random: 0 }), BootVerdict::Newer);
    assert!(!table.note(NODE, Boot { number: 1, random: 7 }, &none));
    assert_eq!(table.seen(NODE), Some(boot));
    let disk = SimDisk::with_seed(3);
    assert_eq!(BootTable::load(&disk, "").expect("none yet"), BootTable::default());
    table.save(&disk, "").expect("saved");
    disk.crash();
    assert_eq!(BootTable::load(&disk, "").expect("readable"), table);
    disk.flip("boots", 20, 1);
    assert!(matches!(BootTable::load(&disk, ""), Err(StorageError::NeedsOperator { .. })));
}

#[test]
fn what_another_boot_tells_is_nothing() {
    let mut table = BootTable::default();
    let (boot, shard) = (Boot { number: 2, random: 7 }, ShardId(0));
    assert!(!table.told(NODE, boot, shard, GroupNumber(1)), "never seen");
    table.note(NODE, boot, &BTreeMap::new());
    for other in [Boot { number: 1, random: 7 }, Boot { number: 2, random: 8 }, Boot { number: 3, random: 7 }] {
        assert!(!table.told(NODE, other, shard, GroupNumber(1)));
    }
    assert_eq!(table.highest_told(NODE, shard), None);
    assert!(table.told(NODE, boot, shard, GroupNumber(1)));
    assert!(!table.told(NODE, boot, shard, GroupNumber(1)));
}

#[test]
fn what_follows_from_a_barred_start_is_another_line() {
    let boot = |number, random| Boot { number, random };
    let earlier = |values: &[u64]| EarlierBoots::new(values.to_vec());
    let mut table = BootTable::default();
    assert!(!table.bar(NODE, boot(1, 1)), "nothing is known of it");
    assert!(!table.is_other_line(NODE, boot(9, 9), &earlier(&[8])), "never seen");
    table.note(NODE, boot(3, 30), &BTreeMap::new());
    assert!(!table.is_other_line(NODE, boot(4, 40), &earlier(&[30, 20])));
    assert!(table.is_other_line(NODE, boot(4, 40), &earlier(&[31, 20])), "a copy went on from boot 2");
    assert!(table.is_other_line(NODE, boot(3, 31), &earlier(&[20])));
    assert!(!table.is_other_line(NODE, boot(2, 20), &earlier(&[10])), "an earlier start of the same line");
    assert!(!table.is_other_line(NODE, boot(4, 40), &earlier(&[])), "an older version says nothing");
    // A copy that was taken within boot 3 has it among its own.
    assert!(table.bar(NODE, boot(4, 41)) && !table.bar(NODE, boot(4, 41)));
    assert!(table.is_other_line(NODE, boot(4, 41), &earlier(&[30])));
    assert!(table.is_other_line(NODE, boot(5, 51), &earlier(&[41, 30])));
    assert!(!table.is_other_line(NODE, boot(5, 50), &earlier(&[40, 30])), "the directory that went on");
    assert_eq!(BootTable::decode(&table.encode()), Ok(table));
}

/// What may happen to a table.
#[derive(Clone, Debug)]
enum Step {
    Told { node: u32, boot: Boot, shard: u16, group: u64 },
    Bar { node: u32, boot: Boot },
    Start { node: u32, boot: Boot, recovered: BTreeMap<ShardId, GroupNumber> },
}

fn any_step() -> impl Strategy<Value = Step> {
    let boot = || (0u64..5, 0u64..2).prop_map(|(number, random)| Boot { number, random });
    let recovered = proptest::collection::btree_map((0u16..3).prop_map(ShardId), (0u64..9).prop_map(GroupNumber), 0..4);
    prop_oneof![
        (0u32..3, boot(), 0u16..3, 0u64..9).prop_map(|(node, boot, shard, group)| Step::Told {
            node,
            boot,
            shard,
            group
        }),
        (0u32..3, (1u64..5, 0u64..2))
            .prop_map(|(node, (number, random))| Step::Bar { node, boot: Boot { number, random } }),
        (0u32..3, boot(), recovered).prop_map(|(node, boot, recovered)| Step::Start { node, boot, recovered }),
    ]
}

/// What these steps make of a table, where a start is noted if nothing speaks against it.
fn table_after(steps: &[Step]) -> BootTable {
    let mut table = BootTable::default();
    for step in steps {
        match step {
            Step::Told { node, boot, shard, group } => {
                table.told(NodeId(*node), *boot, ShardId(*shard), GroupNumber(*group));
            }
            Step::Bar { node, boot } => {
                table.bar(NodeId(*node), *boot);
            }
            Step::Start { node, boot, recovered } => {
                if table.lost(NodeId(*node), recovered).is_none() {
                    table.note(NodeId(*node), *boot, recovered);
                }
            }
        }
    }
    table
}

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written(steps in proptest::collection::vec(any_step(), 0..30)) {
        let table = table_after(&steps);
        prop_assert_eq!(BootTable::decode(&table.encode()), Ok(table));
    }

    /// However a node's boots and words follow each other: nothing that was noted goes down, and a start passes only with all
    /// of it.
    #[test]
    fn what_was_told_never_goes_down(steps in proptest::collection::vec(any_step(), 0..30), last in any_step()) {
        let mut table = table_after(&steps);
        let before = table.clone();
        match last {
            Step::Told { node, boot, shard, group } => {
                let (node, shard, group) = (NodeId(node), ShardId(shard), GroupNumber(group));
                let counts = before.seen(node) == Some(boot) && before.highest_told(node, shard) < Some(group);
                prop_assert_eq!(table.told(node, boot, shard, group), counts);
                prop_assert_eq!(before == table, !counts);
            }
            Step::Bar { node, boot } => {
                table.bar(NodeId(node), boot);
                let known = before.seen(NodeId(node)).is_some();
                prop_assert_eq!(table.is_other_line(NodeId(node), boot, &EarlierBoots::default()), known);
            }
            Step::Start { node, boot, recovered } => {
                let node = NodeId(node);
                let below = |shard: u16| {
                    let has = recovered.get(&ShardId(shard)).copied().unwrap_or_default();
                    before.highest_told(node, ShardId(shard)).is_some_and(|told| has < told)
                };
                let lost = (0..3).find(|shard| below(*shard)).filter(|_| !recovered.is_empty());
                prop_assert_eq!(table.lost(node, &recovered).map(|lost| lost.shard), lost.map(ShardId));
                table.note(node, boot, &recovered);
            }
        }
        for (node, shard) in (0..3).flat_map(|node| (0..3).map(move |shard| (NodeId(node), ShardId(shard)))) {
            prop_assert!(before.highest_told(node, shard) <= table.highest_told(node, shard));
            prop_assert!(before.seen(node).map(|boot| boot.number) <= table.seen(node).map(|boot| boot.number));
        }
    }

    #[test]
    fn a_flipped_bit_is_found(steps in proptest::collection::vec(any_step(), 0..9), bit in any::<proptest::sample::Index>()) {
        let mut bytes = table_after(&steps).encode();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(BootTable::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..4) {
        let _ = BootTable::decode(&bytes);
        let _ = BootTable::decode(&whole_file::seal([MAGIC.as_slice(), &[version, 0, 0, 0], &bytes].concat()));
    }
}
