//! How many bytes the device writes for each byte appended, by the device's own counters.

use crate::figure::{Bar, Figure, Unit, median};
use crate::shard::Shard;
use crate::{Bench, Result};
use dlog_core::limits::KIB;
use std::time::{Duration, Instant};

/// Frames in each group.
const QUEUED: usize = 64;
/// How long it is looked at what others make the device write.
const BACKGROUND: Duration = Duration::from_secs(2);

/// One log, which is judged, and a hundred.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    if bench.place.device_written().is_none() {
        eprintln!("  the folder's file system has no device with counters: the row is left out");
        return Ok(Vec::new());
    }
    Ok(vec![logs(bench, 1, Bar::AtMost(2.3))?, logs(bench, 100, Bar::Told)?])
}

fn logs(bench: &Bench, logs: usize, bar: Bar) -> Result<Figure> {
    let mut shard = Shard::new(bench.place.fresh_disk("device")?, bench.scale.options(), logs, KIB)?;
    shard.warm(QUEUED)?;
    let (mut values, mut others, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        bench.place.settle()?;
        let (_, idle) = written(bench, || {
            std::thread::sleep(BACKGROUND);
            Ok(())
        })?;
        let background = idle as f64 / BACKGROUND.as_secs_f64();
        let began = Instant::now();
        let (period, bytes) = written(bench, || {
            let period = shard.periods(bench.scale.periods, QUEUED)?;
            bench.place.settle()?;
            Ok(period)
        })?;
        values.push(bytes as f64 / period.bytes as f64);
        others.push(background / 1e6);
        shares.push(background * began.elapsed().as_secs_f64() / period.bytes as f64);
    }
    bench.place.remove("device")?;
    let (background, share) = (median(&others), median(&shares));
    Ok(Figure {
        what: format!(
            "Bytes that the device writes for each byte of batches appended, {QUEUED} frames of 1 KiB a sync, {logs} log(s)"
        ),
        bar,
        unit: Unit::Times,
        values,
        beside: format!(
            "journal, segments, checkpoints and the file system's own; others wrote {background:.2} MB/s just before each turn, \
             which would be {share:.2} of it and is not taken off"
        ),
    })
}

/// What `work` gives, and the bytes that the device wrote meanwhile.
fn written<T>(bench: &Bench, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let now = || bench.place.device_written().ok_or("the device's counters are gone");
    let before = now()?;
    let done = work()?;
    Ok((done, now()? - before))
}
