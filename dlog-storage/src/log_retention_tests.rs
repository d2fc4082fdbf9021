//! Tests of what takes frames off a log's front, and of readers meanwhile.

use super::tests::{DIR, create, disk, filled, open, payloads, read_all};
use super::*;
use crate::testing::FrameMaker;
use dlog_core::Term;
use std::io;

#[test]
fn a_reader_goes_on_while_files_are_removed() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    let reader = log.reader();
    let read = reader.read_batches(Offset(0), Offset(60), 100).expect("readable");
    assert_eq!(read.batches, payloads(&frames[..read.batches.len()]));
    log.set_log_start(Offset(30));
    assert!(log.retire_below_log_start(LogIndex(u64::MAX)).expect("retired"));
    let below = reader.read_batches(read.next, Offset(60), 100);
    assert!(matches!(below, Err(StorageError::OutOfRange { log_start: Offset(30), .. })), "{below:?}");
    assert_eq!(read_all(&reader, Offset(30), 100).expect("readable"), payloads(&frames[15..]));
    log.cut(LogIndex(20)).expect("cut");
    assert_eq!(read_all(&reader, Offset(30), 100).expect("readable"), payloads(&frames[15..19]));
    log.delete().expect("deleted");
    assert!(reader.read_batches(Offset(36), Offset(38), 100).is_err());
    assert!(disk.list(DIR).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
}

/// Readers on other threads, while the log is appended to, cut and shortened: each sees only what was written.
#[test]
fn readers_run_beside_the_writer() {
    let disk = disk(1);
    let mut log = create(&disk, 2000);
    // Gone once the writer is, also if it panics: then the readers end too.
    let writing = Arc::new(());
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (reader, writing) = (log.reader(), Arc::downgrade(&writing));
            scope.spawn(move || {
                let mut from = Offset(thread);
                while writing.upgrade().is_some() {
                    match reader.read_batches(from, Offset::MAX, 700) {
                        Ok(read) => from = if read.batches.is_empty() { reader.log_start() } else { read.next },
                        Err(StorageError::OutOfRange { log_start, .. }) => from = log_start,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let _writing = writing;
        for round in 0..200u64 {
            let mut maker = FrameMaker::new(log.last());
            maker.term = Term(round + 1);
            let frames: Vec<Frame> = (0..6).map(|n| maker.records(&[n], 90)).collect();
            log.append(&frames).expect("appended");
            if round % 3 == 0 {
                log.cut(LogIndex(log.last().index.0 - 3)).expect("cut");
            }
            if round % 7 == 0 {
                log.set_log_start(Offset(log.last().next_offset.0.saturating_sub(4)));
                log.retire_below_log_start(LogIndex(u64::MAX)).expect("retired");
                log.note_checkpoint(round);
                log.remove_retired(round).expect("removed");
            }
        }
    });
}

/// The files of `log`'s folder that end with `.segment`.
fn segment_files(disk: &crate::SimDisk) -> Vec<String> {
    let names = disk.list(DIR).expect("listed");
    names.into_iter().filter(|name| name.ends_with(".segment")).collect()
}

#[test]
fn files_go_once_no_checkpoint_names_them() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    let (all, older) = (segment_files(&disk), log.state());
    log.set_log_start(Offset(30));
    assert!(log.has_below_log_start());
    let bytes = log.bytes();
    assert!(log.retire_below_log_start(LogIndex(30)).expect("retired"));
    assert!(!log.has_below_log_start() && log.has_retired());
    let gone = all.len() - log.state().segments.len();
    assert!(gone > 1 && log.local_start().next_offset <= Offset(30) && log.log_start() == Offset(30));
    assert_eq!(log.bytes(), bytes, "they take space until they are removed");
    log.note_checkpoint(7);
    let newer = log.state();
    assert_eq!((log.remove_retired(7).expect("none yet"), segment_files(&disk)), (0, all.clone()));
    // From the older checkpoint everything is there, from the newer one nothing is missed.
    drop(log);
    let log = open(&disk, &older, 0);
    assert_eq!((log.damage().len(), log.local_start()), (0, LogPoint::default()));
    assert_eq!(read_all(&log.reader(), Offset(0), 100).expect("readable"), payloads(&frames));
    drop(log);
    let mut log = open(&disk, &newer, 0);
    assert_eq!((log.damage().len(), log.local_start()), (0, newer.local_start));
    assert!(log.has_retired(), "what the older one names is not set aside");
    assert!(disk.list(&format!("{DIR}/aside")).is_err());
    log.note_checkpoint(8);
    assert_eq!(log.remove_retired(8).expect("not yet"), 0);
    log.note_checkpoint(9);
    log.remove_retired(9).expect("removed");
    assert_eq!(segment_files(&disk).len(), newer.segments.len());
    assert_eq!(read_all(&log.reader(), Offset(30), 100).expect("readable"), payloads(&frames[15..]));
}

#[test]
fn a_missing_segment_is_damage_below_the_log_start_too() {
    let disk = disk(1);
    let (mut log, _) = filled(&disk);
    log.set_log_start(Offset(30));
    let state = log.state();
    drop(log);
    disk.remove(&format!("{DIR}/{}", state.segments[0].name().file())).expect("removed");
    let log = open(&disk, &state, 0);
    assert!(matches!(log.damage(), [StorageError::Corrupt { .. }]), "retention removes no file that a state names");
    assert_eq!(log.local_start(), LogPoint::default());
}

#[test]
fn only_what_is_wholly_below_goes() {
    let disk = disk(1);
    let (mut log, _) = filled(&disk);
    let first = log.state().segments[0];
    assert!(!log.retire_below_log_start(LogIndex(30)).expect("nothing to do"), "the log start is 0");
    log.set_log_start(Offset(first.last.next_offset.0 - 1));
    assert!(!log.retire_below_log_start(LogIndex(30)).expect("nothing to do"), "one record is above");
    log.set_log_start(first.last.next_offset);
    assert!(!log.retire_below_log_start(first.last.index.previous()).expect("nothing to do"), "its state isn't kept");
    assert!(log.retire_below_log_start(first.last.index).expect("retired"));
    assert_eq!(log.local_start(), first.last);
    // All of it, the active segment too: the log goes on in a new one.
    log.set_log_start(Offset(60));
    assert!(log.retire_below_log_start(LogIndex(30)).expect("retired"));
    assert_eq!((log.state().segments.len(), log.local_start()), (0, log.last()));
    let more = FrameMaker::new(log.last()).records(&[7], 10);
    log.append(std::slice::from_ref(&more)).expect("appended");
    assert_eq!(log.reader().read_frames(LogIndex(31), LogIndex(32), 1).expect("readable"), [more]);
    log.state().check().expect("sound");
}

/// Frames without offsets, as group 0's: nothing is ever below the log start, and nothing missing is taken for dropped.
#[test]
fn a_log_without_offsets_is_never_shortened() {
    let disk = disk(1);
    let mut log = create(&disk, 0);
    let mut maker = FrameMaker::new(LogPoint::default());
    let frames: Vec<Frame> = (0..30).map(|n| maker.command(&[n; 100])).collect();
    log.append(&frames).expect("appended");
    log.sync().expect("synced");
    log.set_log_start(Offset(0));
    assert!(!log.has_below_log_start());
    assert!(!log.retire_below_log_start(LogIndex(30)).expect("nothing to do"));
    let state = log.state();
    assert!(state.segments.len() > 2);
    drop(log);
    disk.remove(&format!("{DIR}/{}", state.segments[0].name().file())).expect("removed");
    let log = open(&disk, &state, 0);
    assert_eq!((log.damage().len(), log.local_start()), (1, LogPoint::default()));
}

#[test]
fn an_ended_segment_is_not_appended_to() {
    let disk = disk(1);
    let mut log = create(&disk, 0);
    log.end_segment().expect("nothing to end");
    let mut maker = FrameMaker::new(LogPoint::default());
    log.append(&[maker.records(&[1], 10)]).expect("appended");
    log.end_segment().expect("ended");
    log.end_segment().expect("nothing to end");
    log.append(&[maker.records(&[2], 10)]).expect("appended");
    let ended: Vec<bool> = log.state().segments.iter().map(|segment| segment.ended).collect();
    assert_eq!(ended, [true, false]);
    log.sync().expect("synced");
    let log = open(&disk, &log.state(), 0);
    assert_eq!((log.damage().len(), log.reader().log_end()), (0, Offset(2)));
}

/// A read that has the segment open when its file goes ends as if nothing had happened.
#[test]
fn a_read_in_the_middle_of_a_segment_that_goes_is_finished() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    let reader = log.reader();
    let (first, all) = (log.state().segments[0], segment_files(&disk).len());
    let view = reader.shared.view();
    let segment = view.segments_from(|_| false).next().expect("one").clone();
    let held = reader.shared.open(&segment).expect("open");
    let mut walk = held.walk_to(&disk, segment.end, 64, |_| false);
    let mut read = vec![walk.next().expect("readable").expect("a frame").1];
    log.set_log_start(first.last.next_offset);
    log.retire_below_log_start(first.last.index).expect("retired");
    for sequence in [1, 2] {
        log.note_checkpoint(sequence);
        log.remove_retired(sequence).expect("removed");
    }
    assert_eq!(segment_files(&disk).len(), all - 1);
    while let Some((_, frame)) = walk.next().expect("the file is gone by name only") {
        read.push(frame);
    }
    assert_eq!(read, frames[..first.last.index.0 as usize]);
    let late = reader.read_batches(Offset(0), Offset(60), 100).expect_err("below the log start");
    assert!(late.to_string().contains(&format!("readable are {} up to", first.last.next_offset)), "{late}");
    let late = reader.read_frames(LogIndex(1), LogIndex(2), 100).expect_err("below the local start");
    assert!(matches!(late, StorageError::IndexOutOfRange { .. }), "{late}");
}
