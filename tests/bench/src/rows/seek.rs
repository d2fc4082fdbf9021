//! A seek in a large log: how many reads of the disk it takes, and how large they are.

use crate::counted::{Counted, Counts};
use crate::figure::{Bar, Figure, Unit, quantile};
use crate::frames::LogFrames;
use crate::shard::{IDENTITY, Shard};
use crate::{Bench, Result};
use dlog_core::limits::{KIB, MIB};
use dlog_core::{Offset, TimestampMs};
use dlog_storage::{LogReader, OsDisk, ShardStore, StoreOptions};

/// Bytes of one batch.
const BATCH_BYTES: usize = 4 * KIB;

/// By offset and by time, to random places.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let options = StoreOptions { tail_cache_bytes: 0, ..bench.scale.options() };
    let os = bench.place.fresh_disk("seek")?;
    let mut shard = Shard::new(os.clone(), options, 1, BATCH_BYTES)?;
    shard.fill(bench.scale.large_bytes, true)?;
    let frames: LogFrames = shard.logs.remove(0);
    shard.store.close(Vec::new())?;
    // Opened anew: nothing of the log is in the process's memory.
    let disk = Counted::new(os);
    let (store, _) = ShardStore::open(disk.clone(), "", IDENTITY, options)?;
    let reader = store.reader(frames.replica).ok_or("the log is there")?;
    let mut figures = Vec::new();
    for (by, seek) in [("offset", by_offset as Seek), ("time", by_time)] {
        let counts = seeks(bench, &disk, &reader, seek)?;
        figures.extend(told(bench, by, &counts));
    }
    bench.place.remove("seek")?;
    Ok(figures)
}

type Seek = fn(&LogReader<Counted<OsDisk>>, Offset) -> Result<()>;

fn by_offset(reader: &LogReader<Counted<OsDisk>>, to: Offset) -> Result<()> {
    let read = reader.read_batches(to, reader.log_end(), 1)?;
    if read.batches.len() == 1 { Ok(()) } else { Err(format!("{} batches at {to}", read.batches.len()).into()) }
}

/// The times are the offsets.
fn by_time(reader: &LogReader<Counted<OsDisk>>, to: Offset) -> Result<()> {
    let found = reader.offset_for_time(TimestampMs(to.0 as i64), reader.log_end())?;
    if found == Some(to) { Ok(()) } else { Err(format!("time {to} is at {found:?}").into()) }
}

fn seeks(
    bench: &Bench,
    disk: &Counted<OsDisk>,
    reader: &LogReader<Counted<OsDisk>>,
    seek: Seek,
) -> Result<Vec<Counts>> {
    let mut random = fastrand::Rng::with_seed(4);
    let end = reader.log_end().0;
    let mut counts = Vec::new();
    for _ in 0..bench.scale.seeks * bench.rounds as u64 {
        let to = Offset(random.u64(0..end));
        disk.take();
        seek(reader, to)?;
        counts.push(disk.take());
    }
    Ok(counts)
}

fn told(bench: &Bench, by: &str, counts: &[Counts]) -> [Figure; 2] {
    let each = |of: fn(&Counts) -> u64| counts.iter().map(|counts| of(counts) as f64).collect::<Vec<_>>();
    let (reads, largest) = (each(|counts| counts.reads), each(|counts| counts.largest_read));
    let bytes = each(|counts| counts.read_bytes);
    let size = bench.scale.large_bytes / MIB as u64;
    // A bar of the worst: a seek is not an average.
    let worst = |what: &str, values: &[f64], bar, unit| Figure {
        what: format!("Seek by {by} in a log of {size} MiB: {what} (the worst of {})", counts.len()),
        bar: Bar::AtMost(bar),
        unit,
        values: vec![quantile(values, 1.0)],
        beside: format!(
            "a count; median {:.0} reads and {:.0} KiB in all, batches of 4 KiB",
            quantile(&reads, 0.5),
            quantile(&bytes, 0.5) / KIB as f64
        ),
    };
    let kib: Vec<f64> = largest.iter().map(|bytes| bytes / KIB as f64).collect();
    [worst("reads", &reads, 2.0, Unit::Count), worst("largest read", &kib, 64.0, Unit::Kib)]
}
