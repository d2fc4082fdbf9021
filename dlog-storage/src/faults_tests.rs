//! Damage of every kind is found, bounded, and mended with the frames that stood there.

use super::*;
use crate::Log;
use crate::log::tests::{DIR, disk, filled, open, payloads, read_all};
use crate::sim_disk::SimDisk;
use dlog_core::{Mended, Offset, Term};
use proptest::prelude::*;
use proptest::sample::Index;

/// What may happen to a segment's file.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Zero(Index, usize),
    Shorten(Index),
    Missing,
    /// Another segment's bytes.
    Misdirected(Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 1u8..=255).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        2 => (any::<Index>(), 1usize..1024).prop_map(|(at, bytes)| Damage::Zero(at, bytes)),
        1 => any::<Index>().prop_map(Damage::Shorten),
        1 => Just(Damage::Missing),
        1 => any::<Index>().prop_map(Damage::Misdirected),
    ]
}

fn spoil(disk: &SimDisk, log: &Log<SimDisk>, segment: Index, damage: &Damage) {
    let segments = log.state().segments;
    let of = segments[segment.index(segments.len())];
    let path = |name: SegmentName| format!("{DIR}/{}", name.file());
    let bytes = of.bytes as usize;
    match damage {
        Damage::Flip(at, mask) => disk.flip(&path(of.name()), at.index(bytes) as u64, *mask),
        Damage::Zero(at, length) => {
            let at = at.index(bytes);
            disk.overwrite(&path(of.name()), at as u64, &vec![0; (*length).min(bytes - at)]);
        }
        Damage::Shorten(at) => {
            let file = disk.open(&path(of.name())).expect("it is there");
            file.set_len(at.index(bytes) as u64).expect("shortened");
        }
        Damage::Missing => disk.remove(&path(of.name())).expect("it is there"),
        Damage::Misdirected(other) => {
            let other = segments[other.index(segments.len())];
            let Ok(from) = disk.open(&path(other.name())) else { return };
            let mut found = vec![0; other.bytes.min(of.bytes) as usize];
            let have = from.read_at(&mut found, 0).expect("read");
            found.truncate(have);
            disk.overwrite(&path(of.name()), 0, &found);
        }
    }
}

fn all_faults(log: &Log<SimDisk>) -> Vec<Fault> {
    let reader = log.reader();
    let names = reader.segment_names();
    names.into_iter().flat_map(|name| reader.faults_in(name, &mut |_| true).expect("examined")).collect()
}

/// Mends with a few frames at once.
fn mend(log: &mut Log<SimDisk>, fault: &Fault, frames: &[Frame], at_once: usize) -> Mended {
    let mut place = fault.start();
    loop {
        let next = place.point.index.0 as usize;
        let until = (next + at_once).min(fault.last.0 as usize);
        match log.mend(fault, place, &frames[next..until]).expect("written") {
            Mended::Part(reached) => place = reached,
            ended => return ended,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_damaged_is_found_and_mended(
        spoiled in proptest::collection::vec((any::<Index>(), any_damage()), 1..4),
        without_index in any::<bool>(),
        at_once in 1usize..12,
        crash in any::<bool>(),
    ) {
        let disk = disk(1);
        let (mut log, frames) = filled(&disk);
        log.close().expect("closed");
        let state = log.state();
        drop(log);
        let log = open(&disk, &state, 0);
        let once: std::collections::BTreeMap<usize, _> =
            spoiled.iter().map(|(segment, damage)| (segment.index(state.segments.len()), (segment, damage))).collect();
        for (segment, damage) in once.values() {
            spoil(&disk, &log, **segment, damage);
        }
        drop(log);
        if without_index {
            for segment in &state.segments {
                let _ = disk.remove(&format!("{DIR}/{}", segment.name().index_file()));
            }
        }
        let mut log = open(&disk, &state, 0);
        let faults = all_faults(&log);
        let readable = read_all(&log.reader(), Offset(0), 500);
        prop_assert!(readable.is_ok() == faults.is_empty() || !log.damage().is_empty(), "{faults:?} {readable:?}");
        for fault in &faults {
            prop_assert!(fault.before.index <= fault.last && fault.position < fault.end, "{fault:?}");
            prop_assert_eq!(mend(&mut log, fault, &frames, at_once), Mended::Whole, "{:?}", fault);
        }
        prop_assert_eq!(all_faults(&log), vec![]);
        prop_assert!(log.damage().is_empty(), "{:?}", log.damage());
        prop_assert_eq!(read_all(&log.reader(), Offset(0), 500).expect("whole"), payloads(&frames));
        if crash {
            disk.crash();
        }
        let log = open(&disk, &state, 0);
        prop_assert_eq!(read_all(&log.reader(), Offset(0), 500).expect("durable"), payloads(&frames));
        prop_assert_eq!(all_faults(&log), vec![]);
    }
}

#[test]
fn one_flipped_byte_costs_one_frame() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    log.sync().expect("synced");
    let segment = log.state().segments[1];
    let name = segment.name();
    let first = name.first_index.0 as usize;
    let second = SEGMENT_HEADER_BYTES as u64 + frames[first - 1].encoded_bytes() as u64;
    // In the payload: the header says where the next frame is.
    disk.flip(&format!("{DIR}/{}", name.file()), second + FRAME_HEADER_BYTES as u64 + 30, 4);
    let faults = all_faults(&log);
    assert_eq!(faults.len(), 1);
    let fault = faults[0];
    assert_eq!((fault.first(), fault.last), (name.first_index.next(), name.first_index.next()));
    assert_eq!((fault.position, fault.end), (second, second + frames[first].encoded_bytes() as u64));
    assert_eq!((fault.before.index, fault.crc), (name.first_index, frames[first].crc));
}

#[test]
fn other_frames_mend_nothing() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    log.sync().expect("synced");
    let segment = log.state().segments[1];
    disk.flip(&format!("{DIR}/{}", segment.name().file()), SEGMENT_HEADER_BYTES as u64 + 60, 4);
    let fault = all_faults(&log)[0];
    let (first, last) = (fault.before.index.0 as usize, fault.last.0 as usize);
    let right = &frames[first..last];
    let mut wrong = right.to_vec();
    let end = wrong.len() - 1;
    wrong[end] = Frame::new(
        crate::testing::IDENTITY.log,
        wrong[end].kind,
        Term(wrong[end].term.0 + 1),
        wrong[end].index,
        wrong[end].base_offset,
        wrong[end].record_count,
        wrong[end].previous_crc,
        wrong[end].payload.clone(),
    );
    assert_eq!(log.mend(&fault, fault.start(), &wrong).expect("refused"), Mended::Other);
    assert_eq!(log.mend(&fault, fault.start(), &frames[first..last + 1]).expect("refused"), Mended::Other, "too many");
    assert_eq!(log.mend(&fault, fault.start(), &[]).expect("refused"), Mended::Other, "none");
    assert_eq!(all_faults(&log), [fault]);
    assert_eq!(log.mend(&fault, fault.start(), right).expect("written"), Mended::Whole);
    log.cut(LogIndex(2)).expect("cut");
    assert_eq!(log.mend(&fault, fault.start(), right).expect("seen"), Mended::Gone);
}
