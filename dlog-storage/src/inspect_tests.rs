//! Tests of inspection, on shards that the production store wrote.

use super::*;
use crate::journal::JournalOptions;
use crate::log_state::LogOptions;
use crate::shard_store::{ShardIdentity, ShardStore, StoreOptions};
use crate::testing::{FrameMaker, IDENTITY, OPTIONS};
use crate::{LoseUnsynced, SimDisk, SimDiskOptions};
use dlog_core::write::{Create, ReplicaWrite, WriteOp};
use dlog_core::{ReplicaId, ShardId, Term};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SHARD: ShardId = ShardId(0);

fn options(segment_bytes: u64) -> StoreOptions {
    let (first_file_bytes, file_bytes) = (64 << 10, 64 << 10);
    StoreOptions {
        journal: JournalOptions { first_file_bytes, file_bytes, files_max: 4, reserve_bytes: 8 << 10 },
        log: LogOptions { segment_bytes, ..OPTIONS },
        tail_cache_bytes: 1 << 10,
        ..StoreOptions::default()
    }
}

fn open(disk: &SimDisk, segment_bytes: u64) -> ShardStore<SimDisk> {
    let identity = ShardIdentity { cluster: IDENTITY.cluster, shard: SHARD };
    ShardStore::open(disk.clone(), "", identity, options(segment_bytes)).expect("opens").0
}

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SimDiskOptions { seed, lose_unsynced: LoseUnsynced::Nothing, ..SimDiskOptions::default() })
}

fn put(store: &mut ShardStore<SimDisk>, commit: LogIndex, op: WriteOp) {
    let write = ReplicaWrite { replica: IDENTITY.replica, log: IDENTITY.log, commit, ops: vec![op] };
    store.commit(vec![write]).expect("committed");
    store.write_out().expect("written out");
}

fn create(store: &mut ShardStore<SimDisk>) {
    let create = Create { intent: LogIndex(1), membership: Bytes::new(), start: LogPoint::default() };
    put(store, LogIndex::ZERO, WriteOp::Create(create));
}

fn frames() -> Vec<Frame> {
    let mut maker = FrameMaker::new(LogPoint::default());
    let make = |n: i64| match n % 5 {
        0 => maker.no_op(),
        1 => maker.command(b"something"),
        _ => maker.records(&[n, n + 1], 40),
    };
    (0..40).map(make).collect()
}

fn place() -> LogPlace {
    LogPlace { root: String::new(), shard: SHARD, log: IDENTITY.log, replica: IDENTITY.replica }
}

fn inspect(disk: &SimDisk) -> LogReport {
    log(disk, &place(), IDENTITY.cluster, &mut |_| {}).expect("readable")
}

fn digest_of(frames: &[Frame]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for frame in frames {
        digest.update(frame.index.0.to_le_bytes());
        digest.update(frame.term.0.to_le_bytes());
        digest.update([frame.kind as u8]);
        digest.update(&frame.payload);
    }
    digest.finalize().into()
}

/// A closed shard with 40 frames, all committed.
fn closed(seed: u64) -> (SimDisk, Vec<Frame>) {
    let (disk, frames) = (disk(seed), frames());
    let mut store = open(&disk, 700);
    create(&mut store);
    put(&mut store, LogIndex::ZERO, WriteOp::Append(frames.clone()));
    store.note_commit(IDENTITY.replica, LogIndex(40)).expect("noted");
    store.close(Vec::new()).expect("closed");
    (disk, frames)
}

#[test]
fn places_are_read_from_paths() {
    assert_eq!(LogPlace::parse("shard-0/logs/5/4294967298/"), Some(place()));
    let below = LogPlace::parse("/var/lib/dlog/shard-3/logs/0/7").expect("a place");
    assert_eq!(
        (below.root.as_str(), below.shard, below.log, below.replica.0),
        ("/var/lib/dlog", ShardId(3), LogId(0), 7)
    );
    for other in ["", "x", "shard-0/logs/5", "shard-0/log/5/1", "shard-x/logs/5/1", "logs/5/1"] {
        assert_eq!(LogPlace::parse(other), None, "{other}");
    }
}

/// However a replica came by its frames, and wherever they stand, the digest of what is committed is the same.
#[test]
fn replicas_that_hold_the_same_have_the_same_digest() {
    let (closed_disk, frames) = closed(1);
    let report = inspect(&closed_disk);
    assert_eq!((report.frames, report.first_index, report.last_index), (40, LogIndex(1), LogIndex(40)));
    assert_eq!((report.log_start, report.log_end), (Offset(0), frames[39].next_offset()));
    assert_eq!((report.damage.len(), report.high_watermark), (0, LogIndex(40)));
    assert_eq!(report.digest, digest_of(&frames));

    let other = disk(2);
    let mut store = open(&other, 5000);
    create(&mut store);
    put(&mut store, LogIndex::ZERO, WriteOp::Append(frames[..20].to_vec()));
    let mut maker = FrameMaker::new(crate::log::point_after(&frames[19]));
    maker.term = Term(2);
    let wrong: Vec<Frame> = (0..5).map(|_| maker.records(&[9], 90)).collect();
    put(&mut store, LogIndex(20), WriteOp::Append(wrong));
    store.checkpoint(Vec::new()).expect("a checkpoint with what goes again");
    put(&mut store, LogIndex(20), WriteOp::Cut { from: LogIndex(21) });
    let cut = inspect(&other);
    assert_eq!((cut.last_index, cut.log_end), (LogIndex(20), frames[19].next_offset()));
    assert_eq!((cut.high_watermark, cut.digest), (LogIndex(20), digest_of(&frames[..20])));
    // The term of these frames is lower than that of those cut: no leader would do that, but the bytes shall be equal.
    put(&mut store, LogIndex(20), WriteOp::Append(frames[20..].to_vec()));
    let running = inspect(&other);
    assert_eq!((running.frames, running.log_end), (40, report.log_end), "read beside the open store");
    store.note_commit(IDENTITY.replica, LogIndex(40)).expect("noted");
    store.close(Vec::new()).expect("closed");
    assert_eq!(inspect(&other).digest, report.digest);
    assert_eq!(inspect(&other).digest_hex().len(), 64);
}

#[test]
fn inspection_writes_nothing() {
    let (disk, _) = closed(1);
    let (tree, writes) = (disk.tree(), disk.stats().writes);
    inspect(&disk);
    for (path, _) in &tree {
        if path.ends_with(".segment") {
            segment(&disk, path, &mut |_| {}).expect("readable");
        } else if path.ends_with(".journal") {
            journal(&disk, path, SHARD, None, &mut |_, _| {}).expect("readable");
        }
    }
    assert_eq!((disk.tree(), disk.stats().writes), (tree, writes));
}

#[test]
fn an_unknown_replica_is_told() {
    let (disk, _) = closed(1);
    let other = LogPlace { replica: ReplicaId(9), ..place() };
    let refused = log(&disk, &other, IDENTITY.cluster, &mut |_| {});
    assert!(matches!(refused, Err(StorageError::Invalid { .. })), "{refused:?}");
}

#[test]
fn a_replica_whose_making_is_damaged_is_not_said_to_be_unknown() {
    let disk = disk(1);
    let mut store = open(&disk, 1 << 20);
    create(&mut store);
    put(&mut store, LogIndex::ZERO, WriteOp::Append(frames()));
    store.seal().expect("sealed");
    drop(store);
    disk.crash();
    let journal = "shard-0/journal/00000000000000000001.journal";
    disk.overwrite(journal, 4096, &[0; 4096]);
    let told = log(&disk, &place(), IDENTITY.cluster, &mut |_| {}).expect_err("its group is gone");
    assert!(matches!(&told, StorageError::Corrupt { path, .. } if path == journal), "{told}");
}

#[test]
fn a_segment_alone_is_read_to_its_end() {
    let (disk, frames) = closed(1);
    let tree = disk.tree();
    let (path, bytes) = tree.iter().find(|(path, _)| path.ends_with(".segment")).expect("one");
    let mut seen = Vec::new();
    let report = segment(&disk, path, &mut |at| seen.push((at.position, at.frame.clone()))).expect("readable");
    assert_eq!((report.damage.len(), Some(report.bytes)), (0, *bytes));
    assert_eq!((seen.len() as u64, seen[0].0), (report.frames, SEGMENT_HEADER_BYTES as u64));
    assert!(seen.iter().map(|(_, frame)| frame).eq(&frames[..seen.len()]));
    assert_eq!(report.last_index, LogIndex(report.frames));
    let file = disk.open(path).expect("there");
    file.write_at(&[b"rest of something"], report.bytes).expect("written");
    let report = segment(&disk, path, &mut |_| {}).expect("readable");
    assert_eq!(
        (report.damage.len(), report.damage[0].bytes, report.damage[0].position),
        (1, 17, bytes.expect("a file"))
    );
    disk.flip(path, 9, 1);
    let report = segment(&disk, path, &mut |_| {}).expect("readable");
    assert_eq!((report.header, report.damage[0].position), (None, 0));
}

#[test]
fn a_missing_or_short_segment_is_damage() {
    let (disk, _) = closed(1);
    let paths: Vec<String> =
        disk.tree().into_iter().map(|(path, _)| path).filter(|p| p.ends_with(".segment")).collect();
    disk.remove(&paths[0]).expect("removed");
    let file = disk.open(&paths[1]).expect("there");
    file.set_len(file.len().expect("known") - 3).expect("shortened");
    let report = inspect(&disk);
    let found: Vec<(&str, &str)> = report.damage.iter().map(|d| (d.path.as_str(), d.detail.as_str())).collect();
    assert_eq!(found[0], (paths[0].as_str(), "the file is missing"));
    assert_eq!(found[1], (paths[1].as_str(), "the file ends 3 bytes early"));
    assert!(report.frames > 20 && report.frames < 40);
}

#[test]
fn a_journal_file_is_read_and_its_damage_found() {
    let disk = disk(1);
    let mut store = open(&disk, 700);
    create(&mut store);
    for frame in frames() {
        put(&mut store, LogIndex::ZERO, WriteOp::Append(vec![frame]));
    }
    store.seal().expect("sealed");
    let files: Vec<String> =
        disk.tree().into_iter().map(|(path, _)| path).filter(|p| p.ends_with(".journal")).collect();
    let read = |path: &str| {
        let mut groups = Vec::new();
        let report = journal(&disk, path, SHARD, None, &mut |at, _| groups.push(at)).expect("readable");
        assert_eq!(report.groups, groups.len() as u64);
        (report, groups)
    };
    let used: Vec<&String> = files.iter().filter(|path| read(path).0.groups > 0).collect();
    let total: u64 = used.iter().map(|path| read(path).0.frames).sum();
    assert_eq!(total, 40, "one file after the other holds every frame");
    assert!(used.iter().all(|path| read(path).0.damage.is_empty()));
    assert!(read(used[used.len() - 1]).0.sealed);

    let (path, groups) = (used[0].as_str(), read(used[0]).1);
    let second = groups[1];
    disk.flip(path, second.position + 70, 4);
    let (report, _) = read(path);
    assert_eq!((report.groups, report.damage.len()), (groups.len() as u64, 1), "one table is bad, the group is good");
    disk.flip(path, second.position + second.bytes - 70, 4);
    let (report, _) = read(path);
    assert_eq!((report.groups, report.damage.len()), (groups.len() as u64 - 1, 1), "{:?}", report.damage);
    assert_eq!((report.damage[0].position, report.damage[0].bytes), (second.position, second.bytes));

    let last = *groups.last().expect("some");
    disk.flip(path, last.position + 70, 4);
    disk.flip(path, last.position + last.bytes - 70, 4);
    assert!(used.len() > 1, "no seal stands in this file");
    let report = read(path).0;
    assert_eq!((report.groups, report.damage.len()), (groups.len() as u64 - 2, 1), "its end may be torn");
    assert!(matches!(journal(&disk, "identity", SHARD, None, &mut |_, _| {}), Err(StorageError::Invalid { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any flipped byte of a segment is found, at its place, and costs no frame that it doesn't lie in.
    #[test]
    fn a_flipped_byte_is_named(at in any::<[proptest::sample::Index; 2]>(), mask in 1u8..=255) {
        let (disk, frames) = closed(1);
        let good = inspect(&disk);
        let tree = disk.tree();
        let segments: Vec<&(String, Option<u64>)> = tree.iter().filter(|(path, _)| path.ends_with(".segment")).collect();
        let (path, bytes) = segments[at[0].index(segments.len())];
        let position = at[1].index(bytes.expect("a file") as usize) as u64;
        disk.flip(path, position, mask);
        let mut seen = Vec::new();
        let report = log(&disk, &place(), IDENTITY.cluster, &mut |at| seen.push(at.frame.clone())).expect("readable");
        prop_assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        let damage = &report.damage[0];
        prop_assert_eq!(&damage.path, path);
        prop_assert!(damage.position <= position && position < damage.position + damage.bytes, "{damage:?} {position}");
        let in_header = position < SEGMENT_HEADER_BYTES as u64;
        prop_assert_eq!(seen.len(), if in_header { 40 } else { 39 });
        prop_assert!(seen.iter().all(|frame| frames.contains(frame)));
        prop_assert_eq!(report.digest == good.digest, in_header);
    }
}

/// A whole frame whose offsets were shown before is no more trusted than one whose index was.
#[test]
fn behind_damage_offsets_go_on_too() {
    let start = LogPoint::default();
    let mut maker = FrameMaker::new(start);
    let first = maker.records(&[1, 2, 3], 20);
    let mut back = maker.clone();
    back.at.next_offset = Offset(1);
    let (forged, good) = (back.records(&[4], 20), maker.records(&[4], 20));
    let segment = |second: &Frame| {
        let disk = disk(1);
        let mut bytes = SegmentHeader { identity: IDENTITY, generation: 1, start }.encode().to_vec();
        first.encode_into(&mut bytes);
        second.encode_into(&mut bytes);
        disk.create("a.segment").and_then(|file| file.write_at(&[&bytes], 0)).expect("written");
        super::segment(&disk, "a.segment", &mut |_| {}).expect("readable")
    };
    let report = segment(&good);
    assert_eq!((report.frames, report.next_offset, report.damage.len()), (2, Offset(4), 0));
    let report = segment(&forged);
    assert_eq!((report.frames, report.next_offset, report.damage.len()), (1, Offset(3), 1));
}
