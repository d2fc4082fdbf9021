//! One log, durable bytes a second: groups of 64 KiB, and frames of 1 MiB.

use crate::figure::{Bar, Figure, Unit, median};
use crate::place::Place;
use crate::raw::{LAYOUTS, Layout, RawRounds, RawSample, measure};
use crate::shard::{Shard, Spent};
use crate::{Bench, Result};
use dlog_core::limits::{KIB, MIB};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// What is written.
struct Load {
    what: String,
    frame_bytes: usize,
    frames: usize,
    /// What raw may be.
    layouts: &'static [Layout],
    bar: f64,
}

/// Groups of 64 KiB, in many small frames and in one.
pub fn groups(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (frame_bytes, frames, of) in [(KIB, 64, "64 frames of 1 KiB"), (64 * KIB, 1, "one frame of 64 KiB")] {
        let what = format!("One log, groups of {of}, durable: bytes/s against raw, write-out and checkpoints included");
        let load = Load { what, frame_bytes, frames, layouts: &LAYOUTS, bar: 0.75 };
        figures.push(against_raw(bench, &load)?);
    }
    figures.push(bound_of_overlap(bench, 64 * KIB, &LAYOUTS, "groups of 64 KiB")?);
    Ok(figures)
}

/// Frames of 1 MiB, and what the direct path (the segment synced first, then a note in the journal) could reach at most.
pub fn large_frames(bench: &Bench) -> Result<Vec<Figure>> {
    let what = "One log, frames of 1 MiB, durable: bytes/s against raw append to a fresh file, write-out and checkpoints included";
    let load = Load { what: what.to_string(), frame_bytes: MIB, frames: 1, layouts: &[Layout::Growing], bar: 0.9 };
    let journaled = against_raw(bench, &load)?;
    let writes = bench.scale.raw_writes(MIB);
    let mut values = Vec::new();
    for _ in 0..bench.rounds {
        let raw = measure(&bench.place, Layout::Growing, MIB, writes)?.bytes_per_second();
        values.push(direct_path(&bench.place, writes)? / raw);
    }
    let direct = Figure {
        what:
            "The bound of a direct path: 1 MiB appended and synced, then a 4 KiB note written over and synced, against \
               the same raw"
                .to_string(),
        bar: Bar::Told,
        unit: Unit::Percent,
        values,
        beside: "no code of dlog's in it".to_string(),
    };
    let overlapped = bound_of_overlap(bench, MIB, &[Layout::Growing], "frames of 1 MiB")?;
    Ok(vec![journaled, direct, overlapped])
}

/// What is left of raw if segments are written, and synced once for each journal file, by a thread of their own.
fn bound_of_overlap(bench: &Bench, group_bytes: usize, layouts: &[Layout], of: &str) -> Result<Figure> {
    let mut raw = RawRounds::default();
    let mut rates = Vec::new();
    for _ in 0..bench.rounds {
        raw.run(&bench.place, layouts, group_bytes, bench.scale.raw_writes(group_bytes))?;
        rates.push(overlapped(&bench.place, group_bytes, 2 * bench.scale.raw_bytes, bench.scale.raw_bytes)?);
        bench.place.settle()?;
    }
    let (layout, costs) = raw.fastest(|sample: &RawSample| 1.0 / sample.bytes_per_second());
    let values = rates.iter().zip(&costs).map(|(rate, cost)| rate * cost).collect();
    Ok(Figure {
        what: format!(
            "The bound of segments that a thread of their own writes and syncs, {of}: groups written over and synced \
             meanwhile, until both are done, against raw"
        ),
        bar: Bar::Told,
        unit: Unit::Percent,
        values,
        beside: format!("{:.1} MB/s, raw is {}; no code of dlog's in it", median(&rates) / 1e6, layout.name()),
    })
}

fn against_raw(bench: &Bench, load: &Load) -> Result<Figure> {
    let disk = bench.place.fresh_disk("throughput")?;
    let mut shard = Shard::new(disk, bench.scale.options(), 1, load.frame_bytes)?;
    shard.warm(load.frames)?;
    let group_bytes = load.frame_bytes * load.frames;
    let mut raw = RawRounds::default();
    let (mut rates, mut spent) = (Vec::new(), Spent::default());
    for _ in 0..bench.rounds {
        raw.run(&bench.place, load.layouts, group_bytes, bench.scale.raw_writes(group_bytes))?;
        bench.place.settle()?;
        // From the end of one checkpoint to the end of another: what was written out is synced by then.
        let period = shard.periods(bench.scale.periods, load.frames)?;
        rates.push(period.bytes_per_second());
        spent += period.spent;
        bench.place.settle()?;
    }
    bench.place.remove("throughput")?;
    let (layout, costs) = raw.fastest(|sample: &RawSample| 1.0 / sample.bytes_per_second());
    let values = rates.iter().zip(&costs).map(|(rate, cost)| rate * cost).collect();
    let (own, name) = (median(&rates) / 1e6, layout.name());
    Ok(Figure {
        what: load.what.clone(),
        bar: Bar::AtLeast(load.bar),
        unit: Unit::Percent,
        values,
        beside: format!("dlog {own:.1} MB/s; raw is {name}: {}; {}", raw.text(), spent.text()),
    })
}

/// Bytes a second of what a direct path can't do without.
fn direct_path(place: &Place, writes: usize) -> Result<f64> {
    let (segment, journal) = (place.path("direct-segment"), place.path("direct-journal"));
    let make = |path| File::options().read(true).write(true).create(true).truncate(true).open(path);
    let (data, notes) = (make(&segment)?, make(&journal)?);
    let (bytes, note) = (vec![3u8; MIB], vec![4u8; 4 * KIB]);
    for number in 0..writes {
        notes.write_all_at(&note, (number * note.len()) as u64)?;
    }
    place.settle()?;
    let began = Instant::now();
    for number in 0..writes {
        data.write_all_at(&bytes, (number * bytes.len()) as u64)?;
        data.sync_data()?;
        notes.write_all_at(&note, (number * note.len()) as u64)?;
        notes.sync_data()?;
    }
    let rate = (writes * MIB) as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(segment)?;
    std::fs::remove_file(journal)?;
    Ok(rate)
}

/// Bytes a second where one thread writes groups over and syncs each, and another appends the same bytes to a file that it syncs
/// after so many of them.
fn overlapped(place: &Place, group_bytes: usize, total: usize, sync_every: usize) -> Result<f64> {
    let (segment, journal) = (place.path("overlap-segment"), place.path("overlap-journal"));
    let make = |path| File::options().read(true).write(true).create(true).truncate(true).open(path);
    let (segments, groups) = (make(&segment)?, make(&journal)?);
    let bytes = vec![5u8; group_bytes];
    let count = total / group_bytes;
    let in_journal = (sync_every / group_bytes).max(1);
    for number in 0..in_journal {
        groups.write_all_at(&bytes, (number * group_bytes) as u64)?;
    }
    place.settle()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel::<usize>();
        let bytes = &bytes;
        let writer = scope.spawn(move || -> std::io::Result<()> {
            for number in receive {
                segments.write_all_at(bytes, (number * group_bytes) as u64)?;
                if (number + 1).is_multiple_of(in_journal) {
                    segments.sync_data()?;
                }
            }
            segments.sync_data()
        });
        for number in 0..count {
            groups.write_all_at(bytes, (number % in_journal * group_bytes) as u64)?;
            groups.sync_data()?;
            send.send(number).map_err(|_| "the other thread ended early")?;
        }
        drop(send);
        writer.join().map_err(|_| "the other thread panicked")??;
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    let rate = (count * group_bytes) as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(segment)?;
    std::fs::remove_file(journal)?;
    Ok(rate)
}
