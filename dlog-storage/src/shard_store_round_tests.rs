//! Tests of the store's round, each rule on its own.

use super::tests::{IDENTITY, after, create_op, frame, id, open, options, write};
use super::*;
use crate::disk::DiskFile;
use crate::sim_disk::SimDisk;
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, FrameKind, LogId, Term};

#[test]
fn what_queued_is_cut_into_groups_that_a_file_takes() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    // Their tables weigh more than their frames: by bytes of frames alone all of them would be one group.
    let (mut at, mut queued) = (LogPoint::default(), Vec::new());
    for _ in 0..2000 {
        let frame = frame(LogId(1), at, 1, vec![7; 1]);
        at = after(&frame);
        queued.push(write(id(1), 0, vec![WriteOp::Append(vec![frame])]));
    }
    let mut groups = 0;
    while !queued.is_empty() {
        let (count, weight) = store.next_group(queued.iter().map(GroupWeight::of), usize::MAX);
        if !store.has_room(weight) {
            store.checkpoint(Vec::new()).expect("made");
            store.checkpoint(Vec::new()).expect("made");
        }
        assert!(store.has_room(weight), "with every file free there is room for {weight:?}");
        store.commit(queued.drain(..count).collect()).expect("committed");
        groups += 1;
    }
    assert!(groups > 1, "the journal's files are small");
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    store.commit(vec![write(id(2), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    store.write_out().expect("written out");
    while !store.prepare(u64::MAX).expect("prepared") {}
    let before = disk.stats();
    let writes = [1, 2].map(|number| {
        let frame = frame(LogId(u64::from(number)), LogPoint::default(), 1, vec![5; 1024]);
        let hard = WriteOp::HardState { term: Term(1), vote: Some(id(number)) };
        write(id(number), 0, vec![hard, WriteOp::Append(vec![frame])])
    });
    store.commit(writes.to_vec()).expect("committed");
    let after = disk.stats();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs, after.dir_syncs - before.dir_syncs),
        (1, 1, 0)
    );
    assert_eq!(after.written_bytes - before.written_bytes, 4096, "two frames of 1 KiB take one block");
    store.commit(vec![write(id(1), 1, vec![])]).expect("noted");
    assert_eq!(disk.stats(), after, "a commit index alone writes nothing");
    let out = store.write_out().expect("written out");
    assert_eq!(out.iter().map(|out| out.index.0).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(disk.stats().syncs, after.syncs, "segments are not synced");
}

#[test]
fn a_noted_commit_rides_with_the_next_record() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    let first = frame(LogId(1), LogPoint::default(), 1, vec![1]);
    let ops = vec![create_op(LogPoint::default()), WriteOp::Append(vec![first])];
    store.commit(vec![write(id(1), 0, ops)]).expect("committed");
    store.note_commit(id(1), LogIndex(1)).expect("noted");
    disk.crash();
    let (mut store, restored) = open(&disk);
    assert_eq!(restored[0].commit, LogIndex(0), "alone it is owed no sync");
    store.note_commit(id(1), LogIndex(1)).expect("noted");
    let hard = WriteOp::HardState { term: Term(2), vote: None };
    store.commit(vec![write(id(1), 0, vec![hard])]).expect("committed");
    disk.crash();
    assert_eq!(open(&disk).1[0].commit, LogIndex(1));
}

#[test]
fn a_replica_id_is_started_once() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    let create = || vec![write(id(1), 0, vec![create_op(LogPoint::default())])];
    store.commit(create()).expect("committed");
    assert!(matches!(store.commit(create()), Err(StorageError::ReplicaExists { .. })));
    store.commit(vec![write(id(1), 0, vec![WriteOp::Delete { ended: LogIndex(5) }])]).expect("committed");
    assert!(matches!(store.commit(create()), Err(StorageError::ReplicaExists { .. })), "before the write-out");
    store.write_out().expect("written out");
    assert!(matches!(store.commit(create()), Err(StorageError::ReplicaExists { .. })), "after it");
    drop(store);
    let (mut store, restored) = open(&disk);
    assert_eq!((restored.len(), store.known_marks().count()), (0, 1));
    assert!(matches!(store.commit(create()), Err(StorageError::ReplicaExists { .. })), "after a start");
    store.forget_marks(LogIndex(4));
    assert_eq!(store.known_marks().count(), 1, "a catalogue as of 4 may still intend it");
    store.forget_marks(LogIndex(5));
    assert_eq!(store.known_marks().count(), 0);
}

#[test]
fn what_breaks_an_invariant_is_refused_and_changes_nothing() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    let first = frame(LogId(1), LogPoint::default(), 1, vec![1]);
    let gap = frame(LogId(1), LogPoint { index: LogIndex(5), ..after(&first) }, 1, vec![]);
    let stranger = frame(LogId(1), LogPoint { crc: 1, ..after(&first) }, 1, vec![]);
    let no_batch = Frame { kind: FrameKind::Records, ..frame(LogId(1), after(&first), 1, vec![1]) };
    let ops = vec![create_op(LogPoint::default()), WriteOp::HardState { term: Term(2), vote: Some(id(1)) }];
    store.commit(vec![write(id(1), 0, ops)]).expect("committed");
    store.commit(vec![write(id(1), 1, vec![WriteOp::Append(vec![first])])]).expect("committed");
    let group = store.last_group();
    let bad = [
        WriteOp::Append(vec![]),
        WriteOp::Append(vec![gap]),
        WriteOp::Append(vec![stranger]),
        WriteOp::Append(vec![no_batch]),
        WriteOp::HardState { term: Term(1), vote: None },
        WriteOp::HardState { term: Term(2), vote: Some(id(2)) },
        WriteOp::Cut { from: LogIndex(1) },
    ];
    for op in bad {
        let error = store.commit(vec![write(id(1), 1, vec![op.clone()])]).expect_err("refused");
        assert!(matches!(error, StorageError::Invalid { .. }), "{op:?}: {error}");
    }
    let unknown = write(id(9), 0, vec![WriteOp::HardState { term: Term(1), vote: None }]);
    assert!(matches!(store.commit(vec![unknown]), Err(StorageError::Invalid { .. })));
    assert_eq!(store.last_group(), group);
}

#[test]
fn a_failed_sync_ends_the_store() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    disk.fail_syncs(1);
    let create = || vec![write(id(1), 0, vec![create_op(LogPoint::default())])];
    assert!(matches!(store.commit(create()), Err(StorageError::SyncFailed { .. })));
    assert!(matches!(store.commit(create()), Err(StorageError::Poisoned { .. })));
    assert!(matches!(store.write_out(), Err(StorageError::Poisoned { .. })));
}

#[test]
fn a_full_disk_loses_nothing() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    store.write_out().expect("written out");
    while !store.prepare(u64::MAX).expect("prepared") {}
    let used: u64 = disk.tree().iter().filter_map(|(_, bytes)| *bytes).sum();
    disk.set_capacity(used + 600);
    let mut at = LogPoint::default();
    let mut frames = Vec::new();
    for _ in 0..6 {
        let frame = frame(LogId(1), at, 1, vec![7; 500]);
        at = after(&frame);
        frames.push(frame.clone());
        store.commit(vec![write(id(1), 0, vec![WriteOp::Append(vec![frame])])]).expect("the journal has its room");
    }
    assert!(matches!(store.write_out(), Err(StorageError::Full { .. })));
    assert!(matches!(store.checkpoint(Vec::new()), Err(StorageError::Full { .. })));
    let hard = WriteOp::HardState { term: Term(5), vote: None };
    store.commit(vec![write(id(1), 0, vec![hard])]).expect("votes go on");
    disk.set_capacity(1 << 30);
    let out = store.write_out().expect("written out");
    assert_eq!(out.last().map(|out| out.index), Some(LogIndex(6)));
    store.checkpoint(Vec::new()).expect("made");
    disk.crash();
    let (store, restored) = open(&disk);
    assert_eq!((restored[0].last, restored[0].term), (at, Term(5)));
    let reader = store.reader(id(1)).expect("there");
    assert_eq!(reader.read_frames(LogIndex(1), LogIndex(7), usize::MAX).expect("read"), frames);
}

#[test]
fn a_full_journal_says_so_and_keeps_room_for_votes() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    let mut at = LogPoint::default();
    let full = loop {
        let frame = frame(LogId(1), at, 1, vec![7; 3000]);
        let next = after(&frame);
        match store.commit(vec![write(id(1), 0, vec![WriteOp::Append(vec![frame])])]) {
            Ok(_) => at = next,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StorageError::JournalFull { .. }), "{full}");
    let one_frame = GroupWeight { bytes: 3000, frames: 1, writes: 1 };
    assert!(!store.has_room(one_frame));
    assert!(store.wants_checkpoint());
    assert_eq!(store.stats().journal_files, options().journal.files_max);
    let hard = WriteOp::HardState { term: Term(5), vote: None };
    store.commit(vec![write(id(1), 0, vec![hard])]).expect("votes go on");
    store.checkpoint(Vec::new()).expect("made");
    store.checkpoint(Vec::new()).expect("made");
    assert_eq!(store.stats().journal_files_needed, 1);
    assert!(!store.wants_checkpoint());
    assert!(store.has_room(one_frame));
    let frame = frame(LogId(1), at, 1, vec![7; 3000]);
    store.commit(vec![write(id(1), 0, vec![WriteOp::Append(vec![frame])])]).expect("goes on");
    disk.crash();
    let (_, restored) = open(&disk);
    assert_eq!((restored[0].last.index, restored[0].term), (at.index.next(), Term(5)));
}

#[test]
fn journal_files_are_recycled() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    let mut at = LogPoint::default();
    for _ in 0..200 {
        let frame = frame(LogId(1), at, 1, vec![7; 3000]);
        at = after(&frame);
        store.commit(vec![write(id(1), 0, vec![WriteOp::Append(vec![frame])])]).expect("committed");
        store.write_out().expect("written out");
        if store.wants_checkpoint() {
            store.checkpoint(vec![(id(1), at.index, Bytes::from_static(b"table"))]).expect("made");
        }
        assert!(store.stats().journal_files <= options().journal.files_max);
    }
    disk.crash();
    let (_, restored) = open(&disk);
    assert_eq!(restored[0].last, at);
    let (index, table) = restored[0].producers.clone().expect("a table");
    assert!(index > LogIndex(100) && table == b"table"[..]);
    let tables = disk.tree().iter().filter(|(name, _)| name.ends_with(".producers")).count();
    assert!(tables <= 3, "{tables} old tables are kept");
}

#[test]
fn a_clean_stop_is_known() {
    let disk = SimDisk::with_seed(1);
    let (mut store, _) = open(&disk);
    assert!(!store.started_clean());
    store.commit(vec![write(id(1), 0, vec![create_op(LogPoint::default())])]).expect("committed");
    store.close(Vec::new()).expect("closed");
    let (store, restored) = open(&disk);
    assert!(store.started_clean() && restored.len() == 1);
    drop(store);
    assert!(!open(&disk).0.started_clean(), "only once");
}

#[test]
fn works_on_real_files() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let disk = crate::os_disk::OsDisk::new(folder.path()).expect("there");
    let (mut store, _) = ShardStore::open(disk.clone(), "", IDENTITY, options()).expect("opens");
    let first = frame(LogId(1), LogPoint::default(), 1, vec![1; 2000]);
    let ops = vec![create_op(LogPoint::default()), WriteOp::Append(vec![first.clone()])];
    store.commit(vec![write(id(1), 0, ops)]).expect("committed");
    drop(store);
    let (store, restored) = ShardStore::open(disk.clone(), "", IDENTITY, options()).expect("opens");
    assert_eq!(restored[0].last, after(&first));
    store.close(Vec::new()).expect("closed");
    let file = disk.open("shard-3/checkpoint-a").expect("there");
    assert!(file.len().expect("length") > 0);
}
