//! How many syncs stand between many logs' frames and their acks.

use crate::counted::Counted;
use crate::figure::{Bar, Figure, Unit};
use crate::shard::Shard;
use crate::{Bench, Result};
use dlog_core::limits::KIB;

/// One frame for each log, queued at once.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let disk = Counted::new(bench.place.fresh_disk("syncs")?);
    let logs = bench.scale.many_logs;
    let mut shard = Shard::new(disk.clone(), bench.scale.options(), logs, KIB)?;
    let mut values = Vec::new();
    for _ in 0..bench.rounds {
        let mut writes = shard.deal(logs);
        disk.take();
        shard.store.commit_from(&mut writes)?;
        values.push(disk.take().syncs as f64);
        shard.store.write_out()?;
    }
    bench.place.remove("syncs")?;
    Ok(vec![Figure {
        what: format!("{logs} logs, one frame each, queued at once: syncs before the acks"),
        bar: Bar::AtMost(1.0),
        unit: Unit::Count,
        values,
        beside: "a count: every sync of a file or a folder that the commit asks for".to_string(),
    }])
}
