//! Tests of each way in which a disk can spoil a log.

use super::tests::{DIR, disk, filled, open, payloads, read_all};
use super::*;
use crate::testing::{FrameMaker, IDENTITY, OPTIONS};
use crate::{LoseUnsynced, SimDisk, SimDiskOptions};
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// With one byte of a segment flipped, every read gives what was written or an error.
    #[test]
    fn damage_is_never_served(
        segment in any::<Index>(),
        byte in any::<Index>(),
        mask in 1u8..=255,
        bytes_max in 0usize..2000,
        from in 0u64..60,
        index_too in any::<bool>(),
    ) {
        let disk = disk(1);
        let (mut log, frames) = filled(&disk);
        log.close().expect("closed");
        let state = log.state();
        let damaged = &state.segments[segment.index(state.segments.len())];
        let position = byte.index(damaged.bytes as usize) as u64;
        disk.flip(&format!("{DIR}/{}", damaged.name().file()), position, mask);
        if index_too {
            let path = format!("{DIR}/{}", damaged.name().index_file());
            let length = disk.open(&path).expect("it was written").len().expect("known");
            disk.flip(&path, byte.index(length as usize) as u64, mask);
        }
        let log = open(&disk, &state, 0);
        let reader = log.reader();
        let mut from = Offset(from);
        let whole = payloads(&frames);
        while from < reader.log_end() {
            match reader.read_batches(from, reader.log_end(), bytes_max) {
                Ok(read) => {
                    let first = (from.0 / 2) as usize;
                    prop_assert_eq!(&read.batches[..], &whole[first..first + read.batches.len()]);
                    from = read.next;
                }
                Err(StorageError::Corrupt { path, position: at, .. }) => {
                    prop_assert!(path.contains(&damaged.name().to_string()) && at <= position, "{path} {at}");
                    break;
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        for from in 1..=30 {
            if let Ok(read) = reader.read_frames(LogIndex(from), LogIndex(31), bytes_max) {
                let first = from as usize - 1;
                prop_assert_eq!(&read[..], &frames[first..first + read.len()]);
            }
            let time = TimestampMs(from as i64 * 10);
            if let Ok(found) = reader.offset_for_time(time, Offset(60)) {
                let expected = if from < 30 { Some(Offset(from * 2)) } else { None };
                prop_assert_eq!(found, expected);
            }
        }
        prop_assert!(read_all(&reader, Offset(0), 500).is_err(), "every byte of a segment is under some checksum");
    }
}

#[test]
fn unnamed_files_are_set_aside_not_deleted() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    disk.create(&format!("{DIR}/00000000000000000009.producers")).expect("made");
    let mut state = log.state();
    state.trim(LogIndex(10));
    let before = disk.list(DIR).expect("listed");
    log.close().expect("closed");
    let log = open(&disk, &state, 0);
    let (aside, here) = (disk.list(&format!("{DIR}/aside")).expect("made"), disk.list(DIR).expect("listed"));
    assert_eq!(here.iter().filter(|name| name.ends_with(".segment")).count(), state.segments.len());
    assert!(here.iter().any(|name| name.ends_with(".producers")), "not ours");
    assert!(aside.len() + here.len() > before.len() && aside.iter().all(|name| name.ends_with(".0")));
    let kept = log.last().index.0 as usize;
    assert_eq!(read_all(&log.reader(), Offset(0), 500).expect("readable"), payloads(&frames[..kept]));
    let mut log =
        Log::create(disk.clone(), DIR, IDENTITY, LogPoint::default(), OPTIONS, TailCache::new(0)).expect("created");
    assert_eq!(log.last(), LogPoint::default());
    assert!(log.remove_aside().expect("removed") > 3000);
    assert!(disk.list(&format!("{DIR}/aside")).is_err());
}

#[test]
fn a_missing_or_short_segment_is_told_and_the_log_goes_on() {
    for (missing, last) in [(true, false), (true, true), (false, true)] {
        let disk = disk(1);
        let (log, frames) = filled(&disk);
        let state = log.state();
        let at = if last { state.segments.len() - 1 } else { 1 };
        let path = format!("{DIR}/{}", state.segments[at].name().file());
        drop(log);
        if missing {
            disk.remove(&path).expect("removed");
        } else {
            disk.open(&path).expect("there").set_len(state.segments[at].bytes - 1).expect("shortened");
        }
        let mut log = open(&disk, &state, 0);
        assert_eq!(log.damage().len(), 1);
        let more = FrameMaker::new(log.last()).records(&[7], 10);
        log.append(std::slice::from_ref(&more)).expect("appended");
        let reader = log.reader();
        let spoiled = reader.read_frames(state.segments[at].last.index, LogIndex(99), 1);
        assert!(spoiled.as_ref().is_err_and(StorageError::is_corrupt), "{spoiled:?}");
        assert_eq!(reader.read_frames(LogIndex(31), LogIndex(99), 1).expect("readable"), [more]);
        assert_eq!(reader.read_frames(LogIndex(1), LogIndex(2), 1).expect("readable"), frames[..1]);
    }
}

/// After a crash an index is loaded or made anew by the first reader, and then stands beside an ended segment.
#[test]
fn a_lost_index_is_made_anew_once() {
    let disk = disk(1);
    let (log, frames) = filled(&disk);
    let state = log.state();
    drop(log);
    for segment in &state.segments {
        let _ = disk.remove(&format!("{DIR}/{}", segment.name().index_file()));
    }
    let log = open(&disk, &state, 0);
    assert_eq!(read_all(&log.reader(), Offset(0), 1).expect("readable"), payloads(&frames));
    let ended = state.segments.iter().filter(|segment| segment.ended);
    for segment in ended {
        disk.open(&format!("{DIR}/{}", segment.name().index_file())).expect("written again");
    }
}

#[test]
fn a_segment_of_another_log_is_damage() {
    let disk = disk(1);
    let (log, _) = filled(&disk);
    let other = LogIdentity { log: dlog_core::LogId(6), ..IDENTITY };
    let log = Log::open(disk, DIR, other, &log.state(), OPTIONS, TailCache::new(0)).expect("opened");
    assert!(log.damage()[0].is_corrupt());
    assert!(log.reader().read_frames(LogIndex(1), LogIndex(2), 1).is_err());
}

#[test]
fn without_sync_nothing_is_promised_and_with_it_all_is() {
    let options = SimDiskOptions { lose_unsynced: LoseUnsynced::All, ignore_sync: true, ..SimDiskOptions::default() };
    let disk = SimDisk::new(options);
    disk.create_dir(DIR).expect("made");
    let (log, _) = filled(&disk);
    let state = log.state();
    disk.crash();
    let lost = Log::open(disk, DIR, IDENTITY, &state, OPTIONS, TailCache::new(0));
    assert!(lost.is_err() || lost.is_ok_and(|log| !log.damage().is_empty()), "a disk that ignores syncs is noticed");
}
