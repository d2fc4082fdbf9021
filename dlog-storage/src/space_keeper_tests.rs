//! The keeper on a simulated disk that fills up.

use super::*;
use crate::sim_disk::{SimDisk, SimDiskOptions};

const RESERVE: u64 = 1 << 20;
const OPTIONS: SpaceOptions = SpaceOptions { reserve_bytes: RESERVE, ballast_bytes: 256 << 10 };

fn keeper(free: u64) -> (SimDisk, SpaceKeeper<SimDisk>) {
    let disk = SimDisk::new(SimDiskOptions { capacity_bytes: free, ..SimDiskOptions::default() });
    disk.create_dir("shard-0").expect("made");
    let keeper = SpaceKeeper::open(disk.clone(), ShardId(0), OPTIONS).expect("opened");
    (disk, keeper)
}

fn grow(keeper: &mut SpaceKeeper<SimDisk>) {
    while keeper.wants_ballast() {
        assert!(keeper.idle(100 << 10).expect("there is room"));
        keeper.look(0).expect("looked");
    }
}

#[test]
fn the_ballast_grows_only_above_the_reserve() {
    let (disk, mut keeper) = keeper(RESERVE + RESERVE / 4 + OPTIONS.ballast_bytes - 1);
    grow(&mut keeper);
    assert_eq!(disk.used_bytes(), 0, "it would make the disk full");
    disk.set_capacity(RESERVE + RESERVE / 4 + OPTIONS.ballast_bytes);
    keeper.look(0).expect("looked");
    grow(&mut keeper);
    assert_eq!((disk.used_bytes(), keeper.space().level), (OPTIONS.ballast_bytes, SpaceLevel::Ample));
}

#[test]
fn a_write_without_room_gets_the_ballast_and_records_wait_for_its_return() {
    let (disk, mut keeper) = keeper(10 * RESERVE);
    grow(&mut keeper);
    disk.set_capacity(disk.used_bytes());
    assert!(keeper.relieve().expect("given"), "the write is tried again");
    assert_eq!(disk.free_bytes().expect("known"), OPTIONS.ballast_bytes);
    assert!(!keeper.relieve().expect("nothing left to give"));
    // Somebody makes room, but a write has yet to find it.
    disk.set_capacity(10 * RESERVE);
    assert_eq!(keeper.look(0).expect("looked").level, SpaceLevel::Exhausted);
    keeper.note_written();
    assert_eq!(keeper.look(0).expect("looked").level, SpaceLevel::Full);
    grow(&mut keeper);
    assert_eq!(keeper.look(0).expect("looked").level, SpaceLevel::Ample);
    assert_eq!(disk.used_bytes(), OPTIONS.ballast_bytes);
}

/// As under a quota that the free bytes say nothing of.
#[test]
fn figures_that_lie_are_believed_only_once_the_ballast_stands() {
    let (disk, mut keeper) = keeper(10 * RESERVE);
    keeper.relieve().expect("nothing to give");
    keeper.note_written();
    keeper.look(0).expect("looked");
    assert!(keeper.wants_ballast());
    disk.fail_writes(1, std::io::ErrorKind::QuotaExceeded);
    assert!(!keeper.idle(100 << 10).expect("no error of the engine"));
    assert_eq!(keeper.look(0).expect("looked").level, SpaceLevel::Exhausted);
    grow(&mut keeper);
    assert_eq!(keeper.look(0).expect("looked").level, SpaceLevel::Ample, "though nothing else was written");
}

/// The journal's first file is filled while a shard is made, and a start begins a fresh one.
#[test]
fn a_shard_that_finds_no_room_at_its_start_gets_the_ballast() {
    let disk = SimDisk::new(SimDiskOptions::default());
    let identity = ShardIdentity { cluster: crate::identity::ClusterId([9; 16]), shard: ShardId(0) };
    let mut options = StoreOptions::default();
    options.journal.first_file_bytes = 64 << 10;
    options.journal.file_bytes = 64 << 10;
    let (store, _) = open_store(&disk, identity, options).expect("there is room");
    let mut keeper = SpaceKeeper::open(disk.clone(), ShardId(0), OPTIONS).expect("opened");
    grow(&mut keeper);
    drop((store, keeper));
    disk.set_capacity(disk.used_bytes());
    let opened = ShardStore::open(disk.clone(), "", identity, options).map(drop);
    assert!(matches!(opened, Err(StorageError::Full { .. })), "{opened:?}");
    let (store, _) = open_store(&disk, identity, options).expect("in the room of the ballast");
    drop(store);
    disk.set_capacity(disk.used_bytes());
    let opened = open_store(&disk, identity, options).map(drop);
    assert!(matches!(opened, Err(StorageError::Full { .. })), "nothing is left to give: {opened:?}");
}
