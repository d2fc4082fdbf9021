//! One test for each row of the decision table.

use super::*;
use crate::log_state::LogOptions;
use crate::shard_store::{ShardIdentity, ShardStore, StoreOptions};
use crate::sim_disk::{LoseUnsynced, SimDisk, SimDiskOptions};
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, RestoredReplica, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, Offset, Term};

const IDENTITY: ShardIdentity = ShardIdentity { cluster: ClusterId([7; 16]), shard: ShardId(3) };
const FIRST: &str = "shard-3/journal/00000000000000000001.journal";
const REPLICA: ReplicaId = ReplicaId(0x1_0000_0001);
const LOG: LogId = LogId(1);
/// Every group of these tests takes one block, the first of a file stands in its second.
const BLOCK: u64 = 4096;

fn options() -> StoreOptions {
    StoreOptions {
        journal: JournalOptions {
            first_file_bytes: 48 << 10,
            file_bytes: 64 << 10,
            files_max: 4,
            reserve_bytes: 8 << 10,
        },
        log: LogOptions { segment_bytes: 4096, index_interval_bytes: 512 },
        tail_cache_bytes: 16 << 10,
        ..StoreOptions::default()
    }
}

fn disk() -> SimDisk {
    SimDisk::new(SimDiskOptions { lose_unsynced: LoseUnsynced::All, ..SimDiskOptions::default() })
}

fn try_open(disk: &SimDisk) -> Result<(ShardStore<SimDisk>, Vec<RestoredReplica>), StorageError> {
    ShardStore::open(disk.clone(), "", IDENTITY, options())
}

fn open(disk: &SimDisk) -> (ShardStore<SimDisk>, Vec<RestoredReplica>) {
    try_open(disk).expect("opens")
}

fn refusal(disk: &SimDisk) -> StorageError {
    let before = disk.tree();
    let error = try_open(disk).err().expect("refused");
    assert_eq!(disk.tree(), before, "a refused start changes nothing");
    error
}

fn frame(at: LogPoint) -> Frame {
    let payload = Bytes::from(vec![at.index.0 as u8; 1000]);
    Frame::new(LOG, FrameKind::Command, Term(1), at.index.next(), at.next_offset, 0, at.crc, payload)
}

fn after(frame: &Frame) -> LogPoint {
    LogPoint { index: frame.index, term: frame.term, next_offset: frame.next_offset(), crc: frame.crc }
}

fn write(commit: u64, ops: Vec<WriteOp>) -> Vec<ReplicaWrite> {
    vec![ReplicaWrite { replica: REPLICA, log: LOG, commit: LogIndex(commit), ops }]
}

/// A store with one replica and a group (number 2 and up) for each of `frames` frames, none of them called committed.
fn store(disk: &SimDisk, frames: usize) -> (ShardStore<SimDisk>, LogPoint) {
    let (mut store, _) = open(disk);
    let create = Create { intent: LogIndex(4), membership: Bytes::from_static(b"m"), start: LogPoint::default() };
    store.commit(write(0, vec![WriteOp::Create(create)])).expect("committed");
    let at = append(&mut store, LogPoint::default(), frames, 0);
    (store, at)
}

fn append(store: &mut ShardStore<SimDisk>, mut at: LogPoint, frames: usize, commit: u64) -> LogPoint {
    for _ in 0..frames {
        let frame = frame(at);
        at = after(&frame);
        store.commit(write(commit, vec![WriteOp::Append(vec![frame])])).expect("committed");
    }
    at
}

/// Where group `number` of the first file stands.
fn group_at(number: u64) -> u64 {
    number * BLOCK
}

fn damage_both_copies(disk: &SimDisk, path: &str, at: u64) {
    disk.flip(path, at + 20, 1);
    disk.flip(path, at + BLOCK - 1, 1);
}

fn damage_payload(disk: &SimDisk, path: &str, at: u64) {
    disk.flip(path, at + 600, 1);
}

fn is_corrupt_at(error: &StorageError, path: &str, at: u64) {
    let StorageError::Corrupt { path: found, position, .. } = error else { panic!("{error}") };
    assert_eq!((found.as_str(), *position), (path, at), "{error}");
}

#[test]
fn row_1_fresh() {
    let calls = {
        let disk = disk();
        drop(open(&disk));
        disk.stats().writes + disk.stats().syncs + 20
    };
    for cut in 1..calls {
        let disk = disk();
        disk.cut_power_after(cut);
        drop(try_open(&disk));
        disk.crash();
        let (store, restored) = open(&disk);
        assert!(restored.is_empty() && store.last_group().0 == 0, "cut after {cut} calls");
    }
}

#[test]
fn row_2_no_checkpoint_but_data() {
    let disk = disk();
    let (store, _) = store(&disk, 2);
    drop(store);
    disk.remove("shard-3/checkpoint-a").expect("removed");
    assert!(matches!(refusal(&disk), StorageError::NeedsOperator { .. }));
}

#[test]
fn row_3_both_checkpoints_bad() {
    let disk = disk();
    let (mut store, _) = store(&disk, 2);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    disk.flip("shard-3/checkpoint-a", 70, 1);
    disk.flip("shard-3/checkpoint-b", 70, 1);
    assert!(matches!(refusal(&disk), StorageError::NeedsOperator { .. }));
    disk.remove("shard-3/checkpoint-b").expect("removed");
    assert!(matches!(refusal(&disk), StorageError::NeedsOperator { .. }), "the only one is bad");
}

#[test]
fn row_4_one_checkpoint_bad() {
    for (slot, frames) in [("checkpoint-a", 3), ("checkpoint-b", 3)] {
        let disk = disk();
        let (mut store, at) = store(&disk, frames);
        store.checkpoint(Vec::new()).expect("made");
        let at = append(&mut store, at, 2, 0);
        disk.crash();
        disk.flip(&format!("shard-3/{slot}"), 70, 1);
        let (store, restored) = open(&disk);
        assert_eq!(restored[0].last, at, "{slot}");
        drop(store);
        disk.crash();
        for slot in [Slot::A, Slot::B] {
            let state = read_slot(&disk, "shard-3", slot, (IDENTITY.cluster, IDENTITY.shard)).expect("read");
            assert!(matches!(state, SlotState::Good(_)), "the bad one was replaced");
        }
    }
}

#[test]
fn row_5_the_newer_is_replaced_first() {
    let slots = Slots { a: Some((5, 1)), b: Some((6, 2)) };
    assert_eq!((slots.newest(), slots.target(true), slots.target(false)), (Slot::B, Slot::B, Slot::A));
    assert_eq!(slots.needed_from(), 1);
    let bad = Slots { a: Some((5, 1)), b: None };
    assert_eq!((bad.newest(), bad.target(true), bad.target(false)), (Slot::A, Slot::B, Slot::B));
    let disk = disk();
    let (mut store, at) = store(&disk, 2);
    store.checkpoint(Vec::new()).expect("made");
    disk.crash();
    assert_eq!(open(&disk).1[0].last, at);
}

#[test]
fn row_6_the_journal_file_is_missing() {
    let disk = disk();
    drop(store(&disk, 1));
    disk.remove(FIRST).expect("removed");
    is_corrupt_at(&refusal(&disk), FIRST, 0);
}

#[test]
fn row_7_clean_end() {
    let disk = disk();
    let (_, at) = store(&disk, 2);
    disk.crash();
    let (store, restored) = open(&disk);
    assert_eq!((restored[0].last, store.found_torn_group(), store.last_group().0), (at, false, 3));
}

#[test]
fn row_8_torn() {
    type Damage = fn(&SimDisk, &str, u64);
    for (damage, seen) in [(damage_payload as Damage, true), (damage_both_copies as Damage, false)] {
        let disk = disk();
        let (_, _) = store(&disk, 3);
        disk.crash();
        damage(&disk, FIRST, group_at(4));
        let (mut store, restored) = open(&disk);
        assert_eq!((restored[0].last.index, store.found_torn_group()), (LogIndex(2), seen));
        let at = append(&mut store, restored[0].last, 2, 0);
        assert_eq!(store.last_group().0, 5, "numbering goes on from the last valid group");
        disk.crash();
        assert_eq!(open(&disk).1[0].last, at);
    }
}

#[test]
fn row_9_a_later_group_proves_damage() {
    type Damage = fn(&SimDisk, &str, u64);
    for damage in [damage_payload as Damage, damage_both_copies as Damage] {
        let disk = disk();
        drop(store(&disk, 3));
        disk.crash();
        damage(&disk, FIRST, group_at(3));
        is_corrupt_at(&refusal(&disk), FIRST, group_at(3));
    }
}

#[test]
fn row_9_a_later_group_in_the_next_file_proves_damage() {
    let disk = disk();
    let (mut store, mut at) = store(&disk, 1);
    while store.stats().journal_files_needed == 1 {
        at = append(&mut store, at, 1, 0);
    }
    append(&mut store, at, 1, 0);
    disk.crash();
    let last_of_first = (48 << 10) - 2 * BLOCK;
    damage_both_copies(&disk, FIRST, last_of_first);
    is_corrupt_at(&refusal(&disk), FIRST, last_of_first);
}

#[test]
fn row_10_a_seal_proves_damage() {
    let disk = disk();
    let (mut store, _) = store(&disk, 3);
    store.seal().expect("sealed");
    disk.set_lose_unsynced(LoseUnsynced::Nothing);
    disk.crash();
    damage_payload(&disk, FIRST, group_at(4));
    is_corrupt_at(&refusal(&disk), FIRST, group_at(4));
}

#[test]
fn row_10_a_seal_before_it_proves_nothing() {
    let disk = disk();
    let (mut store, at) = store(&disk, 3);
    store.seal().expect("sealed");
    append(&mut store, at, 1, 0);
    disk.crash();
    damage_payload(&disk, FIRST, group_at(5));
    assert_eq!(open(&disk).1[0].last, at);
}

#[test]
fn row_11_a_committed_frame_proves_damage() {
    let disk = disk();
    let (mut store, at) = store(&disk, 2);
    append(&mut store, at, 1, 3);
    disk.crash();
    damage_payload(&disk, FIRST, group_at(4));
    let (_, restored) = open(&disk);
    assert_eq!(restored[0].last, at, "its own record's commit doesn't count: it was not synced");

    // The checkpoint knows a commit index that the group's frame is at: as after a commit that came with a later record.
    let disk = self::disk();
    let (mut store, _) = self::store(&disk, 3);
    store.commit(write(3, vec![WriteOp::HardState { term: Term(1), vote: None }])).expect("committed");
    disk.crash();
    damage_payload(&disk, FIRST, group_at(4));
    is_corrupt_at(&refusal(&disk), FIRST, group_at(4));

    let start = JournalPosition { generation: 1, position: BLOCK, number: 0, crc: 0 };
    let owner = (IDENTITY.cluster, IDENTITY.shard);
    damage_both_copies(&disk, FIRST, group_at(5));
    let scan = |commit| {
        let commits = BTreeMap::from([(REPLICA, LogIndex(commit))]);
        scan_journal(&disk, "shard-3/journal", owner, start, &[1], commits, &mut |_, _| {})
    };
    assert!(scan(2).expect("torn").torn);
    is_corrupt_at(&scan(3).expect_err("committed"), FIRST, group_at(4));
}

#[test]
fn row_12_one_copy_is_enough() {
    for damaged in [group_at(3) + 20, group_at(4) - 1, group_at(4) + 20, group_at(5) - 1] {
        let disk = disk();
        let (_, at) = store(&disk, 3);
        disk.crash();
        disk.flip(FIRST, damaged, 1);
        let (_, restored) = open(&disk);
        assert_eq!(restored[0].last, at, "byte {damaged}");
    }
}

#[test]
fn row_13_a_torn_group_that_an_earlier_start_dropped() {
    let disk = disk();
    drop(store(&disk, 3));
    disk.crash();
    damage_payload(&disk, FIRST, group_at(4));
    let (mut store, restored) = open(&disk);
    let at = append(&mut store, restored[0].last, 2, 0);
    disk.crash();
    // Back to the older checkpoint, from before the torn group.
    disk.flip("shard-3/checkpoint-b", 70, 1);
    assert_eq!(open(&disk).1[0].last, at);
}

#[test]
fn row_14_an_unknown_replica_is_set_aside() {
    let disk = disk();
    drop(store(&disk, 1));
    disk.create_dir("shard-3/logs/9/77").expect("made");
    disk.create("shard-3/logs/9/77/x").expect("created");
    drop(open(&disk));
    assert_eq!(disk.list("shard-3/aside").expect("there"), ["9-77.0"]);
    assert_eq!(disk.list("shard-3/aside/9-77.0").expect("there"), ["x"]);
}

#[test]
fn row_15_a_deleted_replica_with_a_folder_that_is_not_ours() {
    let disk = disk();
    let (mut store, _) = store(&disk, 2);
    store.checkpoint(Vec::new()).expect("made");
    disk.create_dir(&format!("{DIR}/lost+found/x")).expect("made");
    disk.create(&format!("{DIR}/lost+found/x/y")).expect("made");
    store.commit(write(0, vec![WriteOp::Delete { ended: LogIndex(9) }])).expect("committed");
    store.write_out().expect("removed with all that is in it");
    assert!(disk.list("shard-3/logs/1").expect("there").is_empty());
}

#[test]
fn row_15_a_deleted_replica() {
    for written_out in [false, true] {
        let disk = disk();
        let (mut store, _) = store(&disk, 2);
        store.checkpoint(Vec::new()).expect("made");
        store.commit(write(0, vec![WriteOp::Delete { ended: LogIndex(9) }])).expect("committed");
        if written_out {
            store.write_out().expect("written out");
            disk.set_lose_unsynced(LoseUnsynced::Nothing);
        }
        disk.crash();
        let (store, restored) = open(&disk);
        assert!(restored.is_empty());
        assert_eq!(
            store.known_marks().map(|(replica, mark)| (replica, mark.until.0)).collect::<Vec<_>>(),
            [(REPLICA, 9)]
        );
        assert!(disk.list("shard-3/logs/1").expect("there").is_empty());
    }
}

#[test]
fn row_16_a_missing_segment() {
    let disk = disk();
    let (mut store, at) = store(&disk, 9);
    store.checkpoint(Vec::new()).expect("made");
    let segments = || {
        let names = disk.list("shard-3/logs/1/4294967297").expect("there");
        names.into_iter().filter(|name| name.ends_with(".segment")).collect::<Vec<String>>()
    };
    assert!(segments().len() >= 3, "a few segments");
    // Explained by a cut: nothing is missed.
    store.commit(write(0, vec![WriteOp::Cut { from: LogIndex(2) }])).expect("committed");
    store.write_out().expect("written out");
    disk.set_lose_unsynced(LoseUnsynced::Nothing);
    disk.crash();
    assert_eq!(segments().len(), 1);
    let (mut store, restored) = open(&disk);
    assert_eq!((restored[0].last.index, store.damage().len()), (LogIndex(1), 0));
    append(&mut store, restored[0].last, 8, 0);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    // Not explained.
    let second = &segments()[1];
    disk.remove(&format!("shard-3/logs/1/4294967297/{second}")).expect("removed");
    let (store, restored) = open(&disk);
    assert_eq!(restored[0].last.index, at.index);
    let damage = store.damage();
    assert!(matches!(&damage[..], [(REPLICA, StorageError::Corrupt { .. })]), "{damage:?}");
}

#[test]
fn row_16_a_missing_middle_segment() {
    let disk = disk();
    let (mut store, at) = store(&disk, 12);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    let segments = names_with(&disk, ".segment");
    assert_eq!(segments.len(), 4);
    let path = format!("{DIR}/{}", segments[1]);
    disk.remove(&path).expect("removed");
    disk.sync_dir(DIR).expect("synced");
    for _ in 0..2 {
        let (store, restored) = open(&disk);
        assert_eq!(restored[0].last, at, "nothing is renumbered");
        let [(REPLICA, error)] = &store.damage()[..] else { panic!("{:?}", store.damage()) };
        is_corrupt_at(error, &path, 0);
        // Three frames a segment: those before and behind are there, those in it are refused.
        let reader = store.reader(REPLICA).expect("there");
        let read = |index| reader.read_frames(LogIndex(index), LogIndex(index + 1), 1);
        let readable: Vec<u64> = (1..=12).filter(|index| read(*index).is_ok()).collect();
        assert_eq!(readable, [1, 2, 3, 7, 8, 9, 10, 11, 12]);
        is_corrupt_at(&read(4).expect_err("missing"), &path, 0);
        disk.crash();
    }
}

#[test]
fn row_16_a_short_segment_that_goes_on() {
    let disk = disk();
    let (mut store, mut at) = store(&disk, 4);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    let path = format!("{DIR}/{}", names_with(&disk, ".segment")[1]);
    let file = disk.open(&path).expect("there");
    let length = file.len().expect("known");
    file.set_len(length - 1).expect("cut");
    file.sync_data().expect("synced");
    let (mut store, restored) = open(&disk);
    assert_eq!(restored[0].last, at);
    let [(REPLICA, error)] = &store.damage()[..] else { panic!("{:?}", store.damage()) };
    is_corrupt_at(error, &path, length - 1);
    at = append(&mut store, at, 1, 0);
    store.checkpoint(Vec::new()).expect("made, with a new segment");
    disk.crash();
    let (store, restored) = open(&disk);
    assert_eq!(restored[0].last, at, "from now on it has ended: row 28");
    let reader = store.reader(REPLICA).expect("there");
    let read = |index| reader.read_frames(LogIndex(index), LogIndex(index + 1), 1);
    assert!([1, 2, 3, 5].into_iter().all(|index| read(index).is_ok_and(|frames| frames.len() == 1)));
    assert!(read(4).is_err_and(|error| error.is_corrupt()), "never served");
}

#[test]
fn row_17_frames_are_written_again() {
    let disk = disk();
    let (mut store, at) = store(&disk, 9);
    store.write_out().expect("written out");
    disk.set_lose_unsynced(LoseUnsynced::Nothing);
    disk.crash();
    // What stands in the segments is spoiled: it must not be believed.
    let dir = "shard-3/logs/1/4294967297";
    for name in disk.list(dir).expect("there").iter().filter(|name| name.ends_with(".segment")) {
        disk.flip(&format!("{dir}/{name}"), 600, 0xff);
    }
    let (store, restored) = open(&disk);
    assert_eq!(restored[0].last, at);
    let frames = store.reader(REPLICA).expect("there").read_frames(LogIndex(1), LogIndex(10), usize::MAX);
    assert_eq!(frames.expect("readable").len(), 9);
    disk.set_lose_unsynced(LoseUnsynced::All);
    disk.crash();
    let (store, _) = open(&disk);
    assert_eq!(store.reader(REPLICA).expect("there").last(), at, "and they were synced");
}

#[test]
fn row_18_unneeded_files_are_used_again() {
    let disk = disk();
    drop(store(&disk, 3));
    for _ in 0..20 {
        disk.crash();
        let (mut store, restored) = open(&disk);
        append(&mut store, restored[0].last, 1, 0);
        assert!(store.stats().journal_files <= options().journal.files_max, "{:?}", store.stats());
    }
    disk.crash();
    assert_eq!(open(&disk).1[0].last.index, LogIndex(23));
}

const DIR: &str = "shard-3/logs/1/4294967297";

fn names_with(disk: &SimDisk, end: &str) -> Vec<String> {
    disk.list(DIR).expect("there").into_iter().filter(|name| name.ends_with(end)).collect()
}

#[test]
fn row_19_a_segment_from_before_the_local_start() {
    let disk = disk();
    let (mut store, at) = store(&disk, 9);
    store.checkpoint(Vec::new()).expect("made");
    assert_eq!(names_with(&disk, ".segment").len(), 3);
    let point = LogPoint { index: LogIndex(20), next_offset: Offset(20), ..at };
    store.commit(write(0, vec![WriteOp::Reset(point)])).expect("committed");
    disk.crash();
    let (mut store, restored) = open(&disk);
    assert_eq!((restored[0].local_start, store.damage().len()), (point, 0));
    store.checkpoint(Vec::new()).expect("made");
    assert!(names_with(&disk, ".segment").is_empty() && disk.list(&format!("{DIR}/aside")).is_err());
}

fn producers(index: u64) -> WriteOp {
    WriteOp::Producers { index: LogIndex(index), table: Bytes::from(format!("as of {index}")) }
}

fn label(restored: &[RestoredReplica]) -> Option<u64> {
    let (index, table) = restored[0].producers.as_ref()?;
    assert_eq!(table[..], *format!("as of {index}").as_bytes());
    Some(index.0)
}

#[test]
fn row_20_the_newest_name_for_a_producer_file() {
    let disk = disk();
    let (mut store, at) = store(&disk, 3);
    store.checkpoint(vec![(REPLICA, LogIndex(2), Bytes::from_static(b"as of 2"))]).expect("made");
    let point = LogPoint { index: LogIndex(20), ..at };
    store.commit(write(20, vec![WriteOp::Reset(point), producers(25)])).expect("committed");
    disk.crash();
    let (mut store, restored) = open(&disk);
    assert_eq!((label(&restored), restored[0].last), (Some(25), point), "above the last frame");
    store.commit(write(20, vec![WriteOp::Reset(LogPoint { index: LogIndex(30), ..at })])).expect("committed");
    disk.crash();
    assert_eq!(label(&open(&disk).1), None, "a reset without one leaves none");
}

#[test]
fn row_21_a_producer_file_is_damaged() {
    for (reset, lost, expected) in
        [(false, vec![3], Some(2)), (false, vec![3, 2], None), (true, vec![25], None), (true, vec![2, 3], Some(25))]
    {
        let disk = disk();
        let (mut store, at) = store(&disk, 3);
        for index in [2, 3] {
            let table = Bytes::from(format!("as of {index}"));
            store.checkpoint(vec![(REPLICA, LogIndex(index), table)]).expect("made");
        }
        if reset {
            let point = LogPoint { index: LogIndex(20), ..at };
            store.commit(write(20, vec![WriteOp::Reset(point), producers(25)])).expect("committed");
        }
        disk.crash();
        for index in &lost {
            disk.flip(&format!("{DIR}/{}", crate::producers::file_name(LogIndex(*index))), 50, 1);
        }
        for _ in 0..2 {
            let (store, restored) = open(&disk);
            assert_eq!(label(&restored), expected, "{reset} {lost:?}");
            let damaged = reset && expected.is_none();
            assert_eq!(store.damage().len(), usize::from(damaged), "{reset} {lost:?}: {:?}", store.damage());
        }
    }
}

#[test]
fn row_22_a_producer_file_that_nothing_names() {
    let disk = disk();
    let (mut store, _) = store(&disk, 3);
    store.checkpoint(vec![(REPLICA, LogIndex(1), Bytes::from_static(b"as of 1"))]).expect("made");
    drop(store);
    crate::producers::store(&disk, DIR, REPLICA, LogIndex(2), b"as of 2").expect("stored");
    assert_eq!(label(&open(&disk).1), Some(1), "as of an entry that may be another one here");
}

#[test]
fn a_shard_can_be_looked_at_without_a_change() {
    let disk = disk();
    let owner = (IDENTITY.cluster, IDENTITY.shard);
    let (mut store, at) = store(&disk, 3);
    store.checkpoint(Vec::new()).expect("made");
    append(&mut store, at, 2, 4);
    let before = (disk.tree(), disk.stats().writes);
    let picture = inspect_shard(&disk, "shard-3", owner).expect("looked at");
    assert_eq!((disk.tree(), disk.stats().writes), before);
    assert_eq!(picture.writes.len(), 2);
    assert_eq!(picture.checkpoint.expect("there").replicas[0].log_state.last, at);
    assert!(picture.damage.is_empty() && !picture.torn);
    damage_payload(&disk, FIRST, group_at(5));
    let picture = inspect_shard(&disk, "shard-3", owner).expect("looked at");
    assert!(matches!(&picture.damage[..], [StorageError::Corrupt { .. }]), "{:?}", picture.damage);
}

#[test]
fn another_clusters_directory_is_refused() {
    let disk = disk();
    drop(store(&disk, 1));
    let other = ShardIdentity { cluster: ClusterId([8; 16]), ..IDENTITY };
    let error = ShardStore::open(disk, "", other, options()).err().expect("refused");
    assert!(matches!(error, StorageError::NeedsOperator { .. }), "{error}");
}

fn is_for_operator(error: &StorageError, path: &str, text: &str) {
    let StorageError::NeedsOperator { path: found, detail } = error else { panic!("{error}") };
    assert!(found == path && detail.contains(text), "{error}");
}

/// Changes a file's bytes, and whatever checksum goes with them.
fn change(disk: &SimDisk, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = crate::journal::file::read_whole(disk, path).expect("read").to_vec();
    change(&mut bytes);
    let file = disk.open(path).expect("there");
    file.set_len(0).expect("emptied");
    file.write_at(&[&bytes], 0).expect("written");
    file.sync_data().expect("synced");
}

/// The power goes between the checkpoint that does without the small first file and that file's removal.
#[test]
fn row_18_a_small_first_file_is_not_used_for_groups_of_others() {
    let disk = disk();
    drop(store(&disk, 1));
    let first = crate::journal::file::read_whole(&disk, FIRST).expect("read").to_vec();
    drop(open(&disk));
    drop(open(&disk));
    assert!(disk.open(FIRST).is_err(), "no checkpoint needs it any more");
    disk.create(FIRST).expect("created").write_at(&[&first], 0).expect("written");
    drop(open(&disk));
    assert!(disk.open(FIRST).is_err(), "all others have 64 KiB, and groups may take that");
}

#[test]
fn row_23_a_journal_file_of_another_length() {
    for length in [0u64, 40, BLOCK, 2 * BLOCK, (48 << 10) - 1, (48 << 10) + 1] {
        let disk = disk();
        drop(store(&disk, 2));
        change(&disk, FIRST, |bytes| bytes.resize(length as usize, 0));
        let error = refusal(&disk);
        assert!(matches!(&error, StorageError::Corrupt { path, .. } if path == FIRST), "{length}: {error}");
    }
}

#[test]
fn row_23_the_named_journal_file_is_another_one() {
    let disk = disk();
    drop(store(&disk, 2));
    disk.crash();
    drop(open(&disk));
    // Another start begins a file of its own, and a checkpoint names it; what comes into its place is of this shard too.
    let second = FIRST.replace('1', "2");
    let (mut store, restored) = open(&disk);
    let third = FIRST.replace('1', "3");
    append(&mut store, restored[0].last, 2, 0);
    drop(store);
    let other = crate::journal::file::read_whole(&disk, &second).expect("read").to_vec();
    change(&disk, &third, |bytes| *bytes = other);
    is_corrupt_at(&refusal(&disk), &third, 0);
    change(&disk, &third, |bytes| bytes.fill(0));
    is_corrupt_at(&refusal(&disk), &third, 0);
}

#[test]
fn row_24_a_checkpoint_of_another_version() {
    for version in [0u8, 2] {
        for slot in ["checkpoint-a", "checkpoint-b"] {
            let disk = disk();
            let (mut store, _) = store(&disk, 2);
            store.checkpoint(Vec::new()).expect("made");
            drop(store);
            let path = format!("shard-3/{slot}");
            change(&disk, &path, |bytes| {
                bytes[8] = version;
                let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), &bytes[64..]);
                bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            });
            is_for_operator(&refusal(&disk), &path, &format!("version {version}"));
            is_for_operator(&refusal(&disk), &path, "use the dlog that wrote it");
        }
    }
}

#[test]
fn row_24_a_journal_file_of_another_version() {
    let disk = disk();
    drop(store(&disk, 2));
    change(&disk, FIRST, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    });
    is_for_operator(&refusal(&disk), FIRST, "use the dlog that wrote it");
}

#[test]
fn row_24_a_group_of_another_version() {
    let disk = disk();
    drop(store(&disk, 3));
    change(&disk, FIRST, |bytes| {
        let at = group_at(4) as usize;
        bytes[at + 4] = 2;
        let table = u32::from_le_bytes(bytes[at + 40..at + 44].try_into().expect("four bytes")) as usize;
        let crc = crc32c::crc32c(&IDENTITY.cluster.0);
        let crc = crc32c::crc32c_append(crc, &bytes[at..at + 60]);
        let crc = crc32c::crc32c_append(crc, &bytes[at + 64..at + 64 + table]);
        bytes[at + 60..at + 64].copy_from_slice(&crc.to_le_bytes());
        bytes[at + BLOCK as usize - 60] = 2;
    });
    is_for_operator(&refusal(&disk), FIRST, "use the dlog that wrote it");
}

#[test]
fn row_24_a_segment_of_another_version() {
    let disk = disk();
    let (mut store, _) = store(&disk, 4);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    let newer = |bytes: &mut Vec<u8>| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    };
    let segments = names_with(&disk, ".segment");
    let [ended, active] = &segments[..] else { panic!("{segments:?}") };
    let path = format!("{DIR}/{ended}");
    change(&disk, &path, newer);
    let (store, _) = open(&disk);
    let read = store.reader(REPLICA).expect("there").read_frames(LogIndex(1), LogIndex(2), 1);
    is_for_operator(&read.expect_err("not served"), &path, "use the dlog that wrote it");
    drop(store);
    let path = format!("{DIR}/{active}");
    change(&disk, &path, newer);
    let error = try_open(&disk).err().expect("refused");
    is_for_operator(&error, &path, "use the dlog that wrote it");
}

#[test]
fn row_25_a_journal_file_of_another_shard() {
    for (shard, cluster) in [(ShardId(4), IDENTITY.cluster), (IDENTITY.shard, ClusterId([8; 16]))] {
        for generation in [1, 2] {
            let disk = disk();
            drop(store(&disk, 2));
            let path = format!("shard-3/journal/{}", file_name(generation));
            if generation == 2 {
                disk.create(&path).expect("created");
            }
            let header = crate::journal::file::encode_header(cluster, shard, generation, 48 << 10);
            change(&disk, &path, |bytes| {
                bytes.resize(48 << 10, 0);
                bytes[..header.len()].copy_from_slice(&header);
            });
            is_for_operator(&refusal(&disk), &path, "another cluster or shard");
        }
    }
}

#[test]
fn row_26_foreign_files() {
    let disk = disk();
    let (_, at) = store(&disk, 1);
    disk.create_dir(DIR).expect("there");
    let beside =
        ["shard-3/notes", "shard-3/journal/7.journal", "shard-3/journal/notes", "shard-3/logs/1/4294967297/notes"];
    for path in beside {
        disk.create(path).expect("created");
    }
    let among = ["shard-3/logs/notes", "shard-3/logs/1/notes"];
    for path in among {
        disk.create(path).expect("created");
    }
    for _ in 0..3 {
        let (mut store, restored) = open(&disk);
        assert_eq!((restored[0].last, store.damage().len()), (at, 0));
        store.checkpoint(Vec::new()).expect("made");
        for path in beside {
            assert!(disk.open(path).is_ok(), "{path} is left alone");
        }
    }
    assert!(among.iter().all(|path| disk.open(path).is_err()));
    assert_eq!(disk.list("shard-3/aside").expect("there"), ["1-notes.0", "notes.0"]);
}

#[test]
fn row_27_a_segment_that_is_longer_than_the_checkpoint_says() {
    let disk = disk();
    let (mut store, at) = store(&disk, 1);
    store.checkpoint(Vec::new()).expect("made");
    drop(store);
    let path = format!("{DIR}/{}", names_with(&disk, ".segment")[0]);
    let length = disk.open(&path).expect("there").len().expect("known");
    change(&disk, &path, |bytes| bytes.extend([0x5a; 2500]));
    let (mut store, restored) = open(&disk);
    assert_eq!((restored[0].last, store.damage().len()), (at, 0));
    assert_eq!(disk.open(&path).expect("there").len().expect("known"), length, "cut off");
    let at = append(&mut store, at, 1, 0);
    store.write_out().expect("written out");
    let frames = store.reader(REPLICA).expect("there").read_frames(LogIndex(1), at.index.next(), usize::MAX);
    assert_eq!(frames.expect("readable").len(), 2);
}

#[test]
fn row_28_damage_below_the_checkpoint() {
    // In a frame, in the header and at the end of an ended segment.
    for (position, cut) in [(700, false), (30, false), (2000, true)] {
        let disk = disk();
        let (mut store, at) = store(&disk, 6);
        store.checkpoint(Vec::new()).expect("made");
        drop(store);
        let path = format!("{DIR}/{}", names_with(&disk, ".segment")[0]);
        change(&disk, &path, |bytes| if cut { bytes.truncate(position) } else { bytes[position] ^= 1 });
        for _ in 0..2 {
            let (store, restored) = open(&disk);
            assert_eq!((restored[0].last, store.damage().len()), (at, 0), "a start reads no frames");
            let reader = store.reader(REPLICA).expect("there");
            let read = |index| reader.read_frames(LogIndex(index), LogIndex(index + 1), 1);
            assert!((1..=3).any(|index| read(index).is_err()));
            for error in (1..=6).filter_map(|index| read(index).err()) {
                assert!(matches!(&error, StorageError::Corrupt { path: at, .. } if *at == path), "{error}");
            }
            assert!((4..=6).all(|index| read(index).is_ok()), "the next segment is whole");
            disk.crash();
        }
    }
}

#[test]
fn row_29_a_damaged_index_and_a_damaged_note_of_a_clean_stop() {
    for damage in [None, Some(0u64), Some(30)] {
        let disk = disk();
        let (store, at) = store(&disk, 6);
        store.close(Vec::new()).expect("closed");
        let indexes: Vec<String> = names_with(&disk, ".index").iter().map(|name| format!("{DIR}/{name}")).collect();
        assert_eq!(indexes.len(), 2);
        for path in indexes.iter().chain([&"shard-3/clean-stop".to_string()]) {
            match damage {
                Some(position) => change(&disk, path, |bytes| {
                    let at = (position as usize).min(bytes.len() - 1);
                    bytes[at] ^= 1;
                }),
                None => disk.remove(path).expect("removed"),
            }
        }
        let (store, restored) = open(&disk);
        assert_eq!((restored[0].last, store.damage().len(), store.started_clean()), (at, 0, false));
        let reader = store.reader(REPLICA).expect("there");
        let read = |index| reader.read_frames(LogIndex(index), LogIndex(index + 1), 1);
        assert!((1..=6).all(|index| read(index).is_ok_and(|frames| frames.len() == 1)));
    }
}

#[test]
fn row_30_a_file_of_the_journal_is_half_made() {
    let disk = disk();
    let (_, at) = store(&disk, 1);
    for name in [file_name(2), file_name(9)] {
        let file = disk.create(&format!("shard-3/journal/{name}.tmp")).expect("created");
        file.write_at(&[&[0; 8192]], 0).expect("written");
    }
    assert_eq!(open(&disk).1[0].last, at);
    let names = disk.list("shard-3/journal").expect("there");
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}
