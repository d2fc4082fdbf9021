//! What open logs cost in memory while nothing happens to them: the bytes that are freed when the store is dropped.

use crate::figure::{Bar, Figure, Unit};
use crate::shard::{IDENTITY, Shard};
use crate::{ALLOCATED, Bench, Result};
use dlog_core::limits::{KIB, MIB};
use dlog_storage::{LogReader, OsDisk, ShardStore};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Logs whose frames are made durable in one group.
const GROUP_LOGS: usize = 1000;
/// Open files beside those of the logs.
const OTHER_FILES: usize = 100;

/// Logs with one frame each, just written and after a start, each with a reader as a node keeps one.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let logs = bench.scale.idle_logs;
    allow_files(logs + OTHER_FILES)?;
    let disk = bench.place.fresh_disk("idle")?;
    let mut shard = Shard::new(disk.clone(), bench.scale.options(), logs, KIB)?;
    for _ in 0..logs.div_ceil(GROUP_LOGS) {
        let writes = shard.deal(GROUP_LOGS.min(logs));
        shard.round(writes)?;
    }
    shard.store.checkpoint(Vec::new())?;
    let Shard { store, logs: frames, .. } = shard;
    let written = freed_by_drop(store);
    drop(frames);
    let (store, restored) = ShardStore::open(disk, "", IDENTITY, bench.scale.options())?;
    if restored.len() != logs {
        return Err(format!("{} logs came back", restored.len()).into());
    }
    drop(restored);
    let opened = freed_by_drop(store);
    bench.place.remove("idle")?;
    let figure = |when: &str, bytes: usize| Figure {
        what: format!("Memory of {logs} idle logs, {when}"),
        bar: Bar::AtMost(200.0),
        unit: Unit::Mib,
        values: vec![bytes as f64 / MIB as f64],
        beside: format!("allocated bytes, counted: {} a log; one file open for each", bytes / logs),
    };
    Ok(vec![figure("just written, one 1 KiB frame each in the tail cache", written), figure("after a start", opened)])
}

fn freed_by_drop(store: ShardStore<OsDisk>) -> usize {
    let readers: Vec<LogReader<OsDisk>> = store.replicas().filter_map(|replica| store.reader(replica)).collect();
    let before = ALLOCATED.allocated();
    drop((store, readers));
    before - ALLOCATED.allocated()
}

fn allow_files(needed: usize) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    match maximum {
        Some(maximum) if maximum < needed as u64 => {
            Err(format!("{needed} open files are needed, {maximum} are allowed: raise it with ulimit -Hn").into())
        }
        _ => Ok(()),
    }
}
