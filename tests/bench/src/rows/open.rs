//! Opening after a crash: with much data below the checkpoint against little, the same journal behind it.

use crate::figure::{Bar, Figure, Unit, median};
use crate::frames::LogFrames;
use crate::shard::{IDENTITY, Shard};
use crate::{Bench, Result};
use dlog_core::limits::{KIB, MIB};
use dlog_storage::{OsDisk, ShardStore};
use std::time::Instant;

/// Logs on both sides.
const LOGS: usize = 100;
/// Bytes of one batch.
const BATCH_BYTES: usize = 64 * KIB;
/// Batches in one group of the journal's tail.
const GROUP_BATCHES: usize = 16;

/// A data directory that crashed.
struct Crashed {
    name: &'static str,
    logs: Vec<LogFrames>,
}

/// Both, in turns.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut large = make(bench, "open-large", bench.scale.large_bytes)?;
    let mut small = make(bench, "open-small", bench.scale.small_bytes)?;
    let (mut values, mut times) = (Vec::new(), (Vec::new(), Vec::new()));
    for _ in 0..bench.rounds {
        let (of_small, of_large) = (small.open(bench)?, large.open(bench)?);
        values.push(of_large / of_small);
        times.0.push(of_large * 1e3);
        times.1.push(of_small * 1e3);
    }
    let sizes = (bench.scale.large_bytes / MIB as u64, bench.scale.small_bytes / MIB as u64);
    let tail = bench.scale.tail_bytes / MIB as u64;
    for name in [large.name, small.name] {
        bench.place.remove(name)?;
    }
    Ok(vec![Figure {
        what: format!("Open after a crash, {} MiB in {LOGS} logs against {} MiB in {LOGS} logs", sizes.0, sizes.1),
        bar: Bar::AtMost(1.5),
        unit: Unit::Times,
        values,
        beside: format!(
            "{:.0} ms against {:.0} ms, both with {tail} MiB in the journal behind the checkpoint, nothing in the page cache",
            median(&times.0),
            median(&times.1)
        ),
    }])
}

fn make(bench: &Bench, name: &'static str, bytes: u64) -> Result<Crashed> {
    let mut shard = Shard::new(bench.place.fresh_disk(name)?, bench.scale.options(), LOGS, BATCH_BYTES)?;
    shard.fill(bytes, false)?;
    tail_and_crash(bench, name, shard)
}

/// Writes the tail, then lets go of the store as a crash does: not closed.
fn tail_and_crash(bench: &Bench, name: &'static str, mut shard: Shard<OsDisk>) -> Result<Crashed> {
    shard.hold_checkpoints = true;
    let mut written = 0;
    while written < bench.scale.tail_bytes {
        let writes = shard.deal(GROUP_BATCHES);
        shard.round(writes)?;
        written += shard.payload_bytes(GROUP_BATCHES);
    }
    Ok(Crashed { name, logs: shard.logs })
}

impl Crashed {
    /// Seconds that an open takes; it crashes again with a new tail behind it.
    fn open(&mut self, bench: &Bench) -> Result<f64> {
        bench.place.forget_cached(self.name)?;
        let disk = OsDisk::new(bench.place.path(self.name))?;
        let began = Instant::now();
        let (store, restored) = ShardStore::open(disk, "", IDENTITY, bench.scale.options())?;
        let took = began.elapsed().as_secs_f64();
        if restored.len() != LOGS || store.started_clean() {
            return Err(format!("{} logs came back, clean: {}", restored.len(), store.started_clean()).into());
        }
        let logs = std::mem::take(&mut self.logs);
        *self = tail_and_crash(bench, self.name, Shard::over(store, logs))?;
        Ok(took)
    }
}
