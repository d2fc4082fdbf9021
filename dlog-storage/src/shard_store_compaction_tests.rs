//! Tests of how group 0's log is shortened by what its state store has synced.

use super::tests::{after, create_op, frame, id, open, starts_after_cut};
use super::*;
use crate::sim_disk::{SimDisk, SimDiskOptions};
use dlog_core::limits::GROUP_ZERO_KEPT_ENTRIES;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, LogId};

const FRAMES: u64 = GROUP_ZERO_KEPT_ENTRIES + 600;

fn of(commit: u64, ops: Vec<WriteOp>) -> Vec<ReplicaWrite> {
    vec![ReplicaWrite { replica: id(9), log: LogId::GROUP_ZERO, commit: LogIndex(commit), ops }]
}

/// A store with group 0's log, all of it committed but the last ten frames; and the frames.
fn filled(disk: &SimDisk) -> (ShardStore<SimDisk>, Vec<Frame>) {
    let (mut store, _) = open(disk);
    store.commit(of(0, vec![create_op(LogPoint::default())])).expect("committed");
    let (mut at, mut frames) = (LogPoint::default(), Vec::new());
    for _ in 0..FRAMES {
        let frame = frame(LogId::GROUP_ZERO, at, 1, vec![7; 20]);
        at = after(&frame);
        frames.push(frame);
    }
    for some in frames.chunks(50) {
        let last = some.last().expect("some").index.0;
        store.commit(of(last.min(FRAMES - 10), vec![WriteOp::Append(some.to_vec())])).expect("committed");
        store.write_out().expect("written out");
        if store.wants_checkpoint() {
            store.checkpoint(Vec::new()).expect("made");
        }
    }
    (store, frames)
}

fn start_of(store: &ShardStore<SimDisk>) -> LogPoint {
    store.log_state(id(9)).expect("there").local_start
}

#[test]
fn the_log_of_group_0_follows_its_state() {
    let disk = SimDisk::with_seed(1);
    let (mut store, frames) = filled(&disk);
    let segments = |store: &ShardStore<SimDisk>| store.log_state(id(9)).expect("there").segments.len();
    let before = segments(&store);
    for _ in 0..3 {
        store.checkpoint(Vec::new()).expect("made");
    }
    assert_eq!(start_of(&store), LogPoint::default(), "nobody said that the state is synced");
    store.note_state_synced(LogIndex(GROUP_ZERO_KEPT_ENTRIES));
    assert!(!store.owes_removal(), "all of it is kept for followers");
    store.note_state_synced(LogIndex(GROUP_ZERO_KEPT_ENTRIES + 400));
    assert!(store.owes_removal());
    store.checkpoint(Vec::new()).expect("made");
    let start = start_of(&store);
    assert!(start.index > LogIndex(200) && start.index <= LogIndex(400), "{start:?}");
    assert_eq!(start, after(&frames[start.index.0 as usize - 1]));
    assert_eq!(store.take_local_starts(), [(id(9), start)]);
    store.checkpoint(Vec::new()).expect("made");
    assert!(!store.owes_removal() && segments(&store) < before);
    // A state that came with a snapshot is ahead of the log: what isn't committed stays.
    store.note_state_synced(LogIndex(10 * FRAMES));
    store.checkpoint(Vec::new()).expect("made");
    let start = start_of(&store);
    assert!(start.index > LogIndex(500) && start.index <= LogIndex(590), "{start:?}");
    drop(store);
    let (store, restored) = open(&disk);
    assert_eq!((restored[0].local_start, restored[0].commit), (start, LogIndex(FRAMES - 10)));
    assert_eq!(restored[0].last, after(frames.last().expect("some")));
    assert_eq!(store.damage().len(), 0);
}

#[test]
fn what_is_kept_for_followers_is_bounded_in_bytes() {
    let disk = SimDisk::with_seed(2);
    let (store, _) = filled(&disk);
    let log = store.replicas[&id(9)].log.as_ref().expect("there");
    let all = log.state().segments.len();
    let through = LogIndex(FRAMES);
    assert_eq!(log.synced_segments(through, u64::MAX, u64::MAX), 0);
    assert_eq!(log.synced_segments(through, 0, u64::MAX), all - 1, "the active one stays");
    assert_eq!(log.synced_segments(through, u64::MAX, 0), all - 1);
    let some = log.synced_segments(through, u64::MAX, 10 * 4096);
    assert!((all - 13..all - 9).contains(&some), "{some} of {all}");
    assert_eq!(log.synced_segments(LogIndex(1), 0, 0), 0);
}

/// Wherever the power goes while the log is shortened, and whichever checkpoint is then lost too, it goes on from at most what the
/// state has.
#[test]
fn compaction_survives_a_crash_at_every_call() {
    let (_, frames) = filled(&SimDisk::with_seed(3));
    let synced = GROUP_ZERO_KEPT_ENTRIES + 500;
    let mut cut = 0;
    loop {
        cut += 1;
        let disk = SimDisk::new(SimDiskOptions { seed: cut, ..SimDiskOptions::default() });
        let (mut store, _) = filled(&disk);
        disk.cut_power_after(cut);
        store.note_state_synced(LogIndex(synced));
        let done = (0..3).all(|_| store.checkpoint(Vec::new()).is_ok());
        drop(store);
        starts_after_cut(&disk, cut, &frames, |restored| {
            let at = restored.local_start;
            assert!(at.index.0 + GROUP_ZERO_KEPT_ENTRIES <= synced, "cut after {cut}: {at:?}");
        });
        if done {
            assert!(cut > 20, "the cuts met something");
            return;
        }
    }
}

/// Group 0's segments are small whatever the others have.
#[test]
fn group_0_has_small_segments() {
    let make = crate::recovery::LogMaker {
        cluster: super::tests::IDENTITY.cluster,
        options: crate::LogOptions::default(),
        group_zero_segment_bytes: dlog_core::limits::GROUP_ZERO_SEGMENT_BYTES,
        cache: crate::TailCache::new(0),
    };
    assert_eq!(make.options(LogId::GROUP_ZERO).segment_bytes, 64 << 10);
    assert_eq!(make.options(LogId(1)).segment_bytes, 64 << 20);
}
