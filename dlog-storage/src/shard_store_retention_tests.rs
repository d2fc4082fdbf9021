//! Tests of the store's retention, of snapshots' producer tables, and of checkpoints made in slices.

use super::tests::{IDENTITY, after, create_op, frame, id, open, options, starts_after_cut, write};
use super::*;
use crate::disk::DiskFile;
use crate::os_disk::OsDisk;
use crate::sim_disk::{LoseUnsynced, SimDisk, SimDiskOptions};
use crate::testing::FrameMaker;
use bytes::Bytes;
use dlog_core::write::{LogPoint, RestoredReplica};
use dlog_core::{Frame, LogId, Term};

/// The replica whose log is that of [`FrameMaker`].
const REPLICA: u32 = 5;

fn table(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn open_on<D: Disk>(disk: &D) -> (ShardStore<D>, Vec<RestoredReplica>) {
    ShardStore::open(disk.clone(), "data", IDENTITY, options()).expect("opens")
}

/// A store with one replica of 40 records in several segments, all applied; and the frames.
fn filled<D: Disk>(disk: &D) -> (ShardStore<D>, Vec<Frame>) {
    let (mut store, _) = open_on(disk);
    store.commit(vec![write(id(REPLICA), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    let mut maker = FrameMaker::new(LogPoint::default());
    let frames: Vec<Frame> = (0..40).map(|n| maker.records(&[n], 600)).collect();
    for frame in &frames {
        let ops = vec![WriteOp::Append(vec![frame.clone()])];
        store.commit(vec![write(id(REPLICA), frame.index.0, ops)]).expect("committed");
        store.write_out().expect("written out");
        if store.wants_checkpoint() {
            store.checkpoint(Vec::new()).expect("made");
        }
    }
    assert!(store.log_state(id(REPLICA)).expect("there").segments.len() > 5);
    (store, frames)
}

fn move_log_start<D: Disk>(store: &mut ShardStore<D>, to: u64) {
    store.commit(vec![write(id(REPLICA), 40, vec![WriteOp::LogStart(Offset(to))])]).expect("committed");
    store.write_out().expect("written out");
}

fn checkpoint<D: Disk>(store: &mut ShardStore<D>) {
    store.checkpoint(vec![(id(REPLICA), LogIndex(40), table("as of 40"))]).expect("made");
}

fn segment_files<D: Disk>(disk: &D) -> usize {
    let names = disk.list(&format!("data/shard-3/logs/{REPLICA}/{}", id(REPLICA).0)).expect("listed");
    names.iter().filter(|name| name.ends_with(".segment")).count()
}

fn segments_go_with_two_checkpoints<D: Disk>(disk: &D) {
    let (mut store, frames) = filled(disk);
    let (before, reader) = (segment_files(disk), store.reader(id(REPLICA)).expect("there"));
    move_log_start(&mut store, 25);
    assert!(store.owes_removal());
    assert!(matches!(reader.read_batches(Offset(24), Offset(40), 1), Err(StorageError::OutOfRange { .. })));
    store.checkpoint(Vec::new()).expect("made");
    assert_eq!(store.take_local_starts(), [], "no table is kept that makes the frames below needless");
    checkpoint(&mut store);
    let starts = store.take_local_starts();
    let [(replica, start)] = starts[..] else { panic!("{starts:?}") };
    assert!(replica == id(REPLICA) && start.next_offset > Offset(15) && start.next_offset <= Offset(25));
    assert_eq!(start, after(&frames[start.index.0 as usize - 1]));
    assert_eq!((store.take_local_starts(), segment_files(disk)), (Vec::new(), before));
    assert!(store.owes_removal(), "until another checkpoint is made");
    checkpoint(&mut store);
    assert!(segment_files(disk) < before && !store.owes_removal());
    assert_eq!(segment_files(disk), store.log_state(id(REPLICA)).expect("there").segments.len());
    drop(store);
    let (store, restored) = open_on(disk);
    assert_eq!((restored[0].local_start, restored[0].log_start), (start, Offset(25)));
    assert_eq!(restored[0].producers, Some((LogIndex(40), table("as of 40"))));
    assert_eq!((store.damage().len(), store.owes_removal()), (0, false));
    let reader = store.reader(id(REPLICA)).expect("there");
    let read = reader.read_batches(Offset(25), Offset(40), usize::MAX).expect("readable");
    assert_eq!(read.batches[0], frames[25].payload);
}

#[test]
fn segments_go_with_two_checkpoints_on_a_simulated_disk() {
    segments_go_with_two_checkpoints(&SimDisk::with_seed(1));
}

#[test]
fn segments_go_with_two_checkpoints_on_real_files() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    segments_go_with_two_checkpoints(&OsDisk::new(folder.path()).expect("there"));
}

/// Wherever the power goes while segments are dropped, and whichever checkpoint is then lost too, nothing is missed.
#[test]
fn retention_survives_a_crash_at_every_call() {
    let run = |disk: &SimDisk, store: &mut ShardStore<SimDisk>| -> Result<(), StorageError> {
        store.commit(vec![write(id(REPLICA), 40, vec![WriteOp::LogStart(Offset(25))])])?;
        store.write_out()?;
        for _ in 0..3 {
            store.checkpoint(vec![(id(REPLICA), LogIndex(40), table("as of 40"))])?;
        }
        let _ = disk;
        Ok(())
    };
    let made = |seed| {
        let disk = SimDisk::new(SimDiskOptions { seed, ..SimDiskOptions::default() });
        let (mut store, frames) = filled(&disk);
        store.checkpoint(vec![(id(REPLICA), LogIndex(30), table("as of 30"))]).expect("made");
        (disk, store, frames)
    };
    let mut cut = 0;
    loop {
        cut += 1;
        let (disk, mut store, frames) = made(cut);
        disk.cut_power_after(cut);
        let done = run(&disk, &mut store).is_ok();
        drop(store);
        starts_after_cut(&disk, cut, &frames, |at| {
            let label = at.producers.as_ref().map(|(index, _)| *index);
            assert!(label >= Some(at.local_start.index) && label >= Some(LogIndex(30)), "cut after {cut}: {label:?}");
        });
        if done {
            assert!(cut > 20, "the cuts met something");
            return;
        }
    }
}

/// What a snapshot's install writes.
fn install() -> (LogPoint, Vec<WriteOp>) {
    let point = LogPoint { index: LogIndex(100), term: Term(3), next_offset: Offset(90), crc: 7 };
    let ops = vec![
        WriteOp::Reset(point),
        WriteOp::LogStart(Offset(95)),
        WriteOp::Configuration { index: LogIndex(120), membership: Bytes::from_static(b"as of 120") },
        WriteOp::Producers { index: LogIndex(120), table: table("as of 120") },
    ];
    (point, ops)
}

/// At every call of the disk the power may go: then all of the snapshot is there or nothing of it, and the table with it.
#[test]
fn a_snapshot_is_installed_as_a_whole() {
    for (lose, seed) in
        [(LoseUnsynced::All, 1), (LoseUnsynced::Random, 2), (LoseUnsynced::Random, 3), (LoseUnsynced::Nothing, 4)]
    {
        let (mut cut, mut kept, mut installed) = (0, 0, 0);
        loop {
            cut += 1;
            let disk = SimDisk::new(SimDiskOptions {
                seed: seed * 1000 + cut,
                lose_unsynced: lose,
                ..SimDiskOptions::default()
            });
            let (mut store, frames) = filled(&disk);
            checkpoint(&mut store);
            disk.cut_power_after(cut);
            let (point, ops) = install();
            let committed = store.commit(vec![write(id(REPLICA), 100, ops)]).is_ok();
            let out = committed && store.write_out().is_ok();
            let done = out && store.checkpoint(Vec::new()).is_ok() && store.checkpoint(Vec::new()).is_ok();
            drop(store);
            disk.crash();
            let (store, restored) = open(&disk);
            assert_eq!(store.damage().len(), 0, "cut after {cut} calls: {:?}", store.damage());
            let at = &restored[0];
            if at.local_start == point {
                installed += 1;
                assert_eq!((at.last, at.log_start, at.commit), (point, Offset(95), LogIndex(100)));
                assert_eq!((at.membership_index, &at.membership[..]), (LogIndex(120), &b"as of 120"[..]));
                assert_eq!(at.producers, Some((LogIndex(120), table("as of 120"))), "above the last frame");
            } else {
                kept += 1;
                assert!(!committed, "cut after {cut} calls");
                assert_eq!((at.local_start, at.last), (LogPoint::default(), after(&frames[39])));
                assert_eq!(
                    at.producers,
                    Some((LogIndex(40), table("as of 40"))),
                    "not that of an install that never was"
                );
            }
            if done {
                break;
            }
        }
        assert!(kept >= 4 && installed >= 4, "{kept} cuts before, {installed} behind the group");
    }
}

#[test]
fn an_installed_table_is_kept_until_a_newer_one_is_named_twice() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = filled(&disk);
    let dir = format!("data/shard-3/logs/{REPLICA}/{}", id(REPLICA).0);
    let labels =
        || crate::producers::indexes(&disk, &dir).expect("listed").iter().map(|index| index.0).collect::<Vec<_>>();
    checkpoint(&mut store);
    let (point, ops) = install();
    store.commit(vec![write(id(REPLICA), 100, ops)]).expect("committed");
    assert_eq!(labels(), [40, 120]);
    // A table from before the install comes too late.
    checkpoint(&mut store);
    store.checkpoint(Vec::new()).expect("made");
    assert_eq!(labels(), [120], "both checkpoints name it");
    let mut at = point;
    for _ in 0..30 {
        let frame = frame(LogId(u64::from(REPLICA)), at, 3, vec![1]);
        at = after(&frame);
        store.commit(vec![write(id(REPLICA), 130, vec![WriteOp::Append(vec![frame])])]).expect("committed");
    }
    store.checkpoint(vec![(id(REPLICA), LogIndex(130), table("as of 130"))]).expect("made");
    assert_eq!(labels(), [120, 130]);
    store.checkpoint(vec![(id(REPLICA), LogIndex(130), table("as of 130"))]).expect("made");
    assert_eq!(labels(), [130]);
    disk.crash();
    assert_eq!(open(&disk).1[0].producers, Some((LogIndex(130), table("as of 130"))));
}

#[test]
fn a_snapshot_may_begin_a_replica() {
    let disk = SimDisk::new(SimDiskOptions { lose_unsynced: LoseUnsynced::All, ..SimDiskOptions::default() });
    let (mut store, _) = open(&disk);
    let (point, ops) = install();
    let ops = [vec![create_op(LogPoint::default())], ops].concat();
    store.commit(vec![write(id(REPLICA), 100, ops)]).expect("committed");
    drop(store);
    disk.crash();
    let (_, restored) = open(&disk);
    assert_eq!((restored[0].last, restored[0].producers.clone()), (point, Some((LogIndex(120), table("as of 120")))));
}

#[test]
fn a_full_disk_refuses_a_snapshot_and_gives_it_back() {
    let disk = SimDisk::with_seed(1);
    let (mut store, frames) = filled(&disk);
    while !store.prepare(u64::MAX).expect("prepared") {}
    let used: u64 = disk.tree().iter().filter_map(|(_, bytes)| *bytes).sum();
    disk.set_capacity(used);
    let group = store.last_group();
    let mut writes = vec![write(id(REPLICA), 100, install().1)];
    assert!(matches!(store.commit_from(&mut writes), Err(StorageError::Full { .. })));
    assert_eq!((writes.len(), store.last_group()), (1, group), "nothing was written");
    let hard = WriteOp::HardState { term: Term(5), vote: None };
    store.commit(vec![write(id(REPLICA), 0, vec![hard])]).expect("votes go on");
    assert_eq!(store.log_state(id(REPLICA)).expect("there").last, after(&frames[39]));
    disk.set_capacity(1 << 30);
    store.commit_from(&mut writes).expect("there is room again");
    assert!(writes.is_empty());
    drop(store);
    assert_eq!(open(&disk).1[0].last, install().0);
}

/// Between two slices the store goes on: what is committed meanwhile is in the journal behind the checkpoint's position.
#[test]
fn commits_go_on_while_a_checkpoint_is_made() {
    let disk = SimDisk::new(SimDiskOptions { lose_unsynced: LoseUnsynced::All, ..SimDiskOptions::default() });
    let (mut store, _) = open(&disk);
    for number in 1..=20 {
        let first = frame(LogId(u64::from(number)), LogPoint::default(), 1, vec![1; 100]);
        let ops = vec![create_op(LogPoint::default()), WriteOp::Append(vec![first])];
        store.commit(vec![write(id(number), 0, ops)]).expect("committed");
    }
    store.write_out().expect("written out");
    let tables = (1..=20).map(|number| (id(number), LogIndex(1), table("as of 1")));
    store.begin_checkpoint(tables.collect()).expect("begun");
    let (mut slices, mut committed) = (0, 0);
    loop {
        let before = disk.stats();
        if store.checkpoint_slice(1).expect("made") {
            break;
        }
        let after = disk.stats();
        assert!(after.syncs - before.syncs <= 1 && after.dir_syncs - before.dir_syncs <= 1, "a slice is short");
        slices += 1;
        // The journal of this test has room for a group every few slices.
        let ops = match slices % 8 {
            0 => vec![write(id(1), 0, vec![WriteOp::HardState { term: Term(slices), vote: None }])],
            1 if slices == 25 => vec![write(id(20), 0, vec![WriteOp::Delete { ended: LogIndex(9) }])],
            _ => continue,
        };
        store.commit(ops).expect("committed");
        committed += 1;
        store.write_out().expect("written out");
    }
    assert!(slices > 40 && committed > 4, "tables and logs each had their slice: {slices}");
    assert!(!store.is_checkpointing() && store.checkpoint_slice(1).expect("nothing to do"));
    disk.crash();
    let (store, restored) = open(&disk);
    assert_eq!((restored.len(), store.damage().len()), (19, 0));
    assert!(restored.iter().all(|replica| replica.last.index == LogIndex(1)));
    assert_eq!(restored[0].term, Term(slices / 8 * 8), "the last commit that stood between two slices");
    assert!(restored.iter().all(|replica| replica.producers == Some((LogIndex(1), table("as of 1")))));
    let file = disk.open("data/shard-3/checkpoint-a").expect("there");
    assert!(file.len().expect("known") > 0);
}
