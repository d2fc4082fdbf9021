//! Files are made ready in slices, used in turn and used again.

use super::*;
use crate::sim_disk::SimDisk;
use dlog_core::write::WriteOp;
use dlog_core::{LogId, LogIndex, ReplicaId, Term};

const OPTIONS: JournalOptions =
    JournalOptions { first_file_bytes: 32 << 10, file_bytes: 1 << 20, files_max: 3, reserve_bytes: 4096 };

fn journal(disk: &SimDisk) -> Journal<SimDisk> {
    disk.create_dir("j").expect("made");
    let start = JournalStart { old: vec![], spare: vec![], generation: 1, last_number: 0, last_crc: 0, first: true };
    Journal::start(disk.clone(), "j", ClusterId([7; 16]), ShardId(0), OPTIONS, start).expect("started")
}

fn vote(term: u64) -> Vec<ReplicaWrite> {
    let ops = vec![WriteOp::HardState { term: Term(term), vote: None }];
    vec![ReplicaWrite { replica: ReplicaId(1), log: LogId(1), commit: LogIndex(0), ops }]
}

#[test]
fn the_next_file_is_made_ready_in_slices() {
    let disk = SimDisk::with_seed(1);
    let mut journal = journal(&disk);
    let mut slices = 0;
    while !journal.prepare(256 << 10).expect("prepared") {
        slices += 1;
        assert!(disk.list("j").expect("there").iter().filter(|name| name.ends_with(".journal")).count() == 1);
    }
    assert_eq!(slices, 4, "begun, three slices, and the fourth ends it");
    assert_eq!(disk.list("j").expect("there").len(), 2);
    let before = disk.stats();
    while journal.position().generation == 1 {
        journal.append(&vote(1), &[LogIndex(0)]).expect("appended");
    }
    let after = disk.stats();
    assert_eq!(after.writes - before.writes, after.syncs - before.syncs, "going on in it costs nothing");
    assert_eq!(after.dir_syncs, before.dir_syncs);
}

#[test]
fn numbers_and_chain_go_on_over_files() {
    let disk = SimDisk::with_seed(1);
    let mut journal = journal(&disk);
    for term in 1..=20 {
        assert_eq!(journal.append(&vote(term), &[LogIndex(0)]).expect("appended"), term);
    }
    assert_eq!((journal.used_files(), journal.position().number), (2, 20));
    let start = JournalPosition { generation: 1, position: FIRST_GROUP_AT, number: 0, crc: 0 };
    let mut terms = Vec::new();
    let owner = (ClusterId([7; 16]), ShardId(0));
    let scan = crate::journal::scan_journal(&disk, "j", owner, start, &[1, 2], Default::default(), &mut |_, writes| {
        terms.extend(writes.to_vec());
    });
    assert_eq!(scan.expect("whole").end, journal.position());
    assert_eq!(terms, (1..=20).flat_map(vote).collect::<Vec<_>>());
}

#[test]
fn freed_files_are_used_again_and_the_small_one_goes() {
    let disk = SimDisk::with_seed(1);
    let mut journal = journal(&disk);
    for generation in 2..8 {
        while journal.position().generation < generation {
            journal.append(&vote(1), &[LogIndex(0)]).expect("appended");
        }
        journal.recycle_before(generation).expect("recycled");
        assert!(journal.files() <= 2, "{}", journal.files());
    }
    let written = disk.stats().written_bytes;
    assert!(written < 8 << 20, "groups took five files, and only two were ever filled: {written} bytes");
    assert_eq!(disk.list("j").expect("there").len(), journal.files());
}

#[test]
fn a_full_disk_while_a_file_is_made_loses_nothing() {
    let disk = SimDisk::with_seed(1);
    let mut journal = journal(&disk);
    disk.set_capacity(40 << 10);
    let error = journal.prepare(u64::MAX).and_then(|_| journal.prepare(u64::MAX)).expect_err("full");
    assert!(matches!(error, StorageError::Full { .. }), "{error}");
    while journal.append(&vote(1), &[LogIndex(0)]).is_ok() {}
    assert_eq!(journal.position().generation, 1);
    disk.set_capacity(1 << 30);
    journal.append(&vote(1), &[LogIndex(0)]).expect("goes on");
    assert_eq!(journal.position().generation, 2);
}
