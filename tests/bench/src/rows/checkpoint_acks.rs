//! How long acks take while a checkpoint runs, against those while none does.

use crate::figure::{Bar, Figure, Unit, median, quantile};
use crate::raw::micros;
use crate::shard::Shard;
use crate::{Bench, Result};
use dlog_core::limits::KIB;

/// Frames in each group.
const QUEUED: usize = 64;
/// Acks of each kind in one turn, at least: the p99 of fewer is an accident.
const ACKS_MIN: usize = 500;

/// Many logs, and one.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    Ok(vec![logs(bench, bench.scale.many_logs)?])
}

fn logs(bench: &Bench, logs: usize) -> Result<Figure> {
    let mut shard = Shard::new(bench.place.fresh_disk("checkpoint")?, bench.scale.options(), logs, KIB)?;
    shard.warm(QUEUED)?;
    let (mut values, mut p99) = (Vec::new(), (Vec::new(), Vec::new()));
    for _ in 0..bench.rounds {
        bench.place.settle()?;
        let (during, without) = turn(bench, &mut shard)?;
        let (during, without) = (quantile(&during, 0.99), quantile(&without, 0.99));
        values.push(during / without);
        p99.0.push(during);
        p99.1.push(without);
    }
    bench.place.remove("checkpoint")?;
    Ok(Figure {
        what: format!(
            "p99 of acks while a checkpoint runs against none, {logs} logs, {QUEUED} frames of 1 KiB a group"
        ),
        bar: Bar::AtMost(2.0),
        unit: Unit::Times,
        values,
        beside: format!("{:.0} µs against {:.0} µs", median(&p99.0), median(&p99.1)),
    })
}

/// Acks during checkpoints and without, in microseconds: groups without one until a journal file is full, then groups until
/// the checkpoint that is due by then is finished. An ack waits for what the round before left to do.
fn turn(bench: &Bench, shard: &mut Shard<dlog_storage::OsDisk>) -> Result<(Vec<f64>, Vec<f64>)> {
    let enough = ACKS_MIN.min(bench.scale.small_writes);
    let (mut during, mut without) = (Vec::new(), Vec::new());
    while during.len() < enough || without.len() < enough {
        shard.hold_checkpoints = true;
        let mut left = 0.0;
        let mut quiet = 0;
        while !shard.store.wants_checkpoint() || quiet < enough {
            let writes = shard.deal(QUEUED);
            let spent = shard.round(writes)?.spent;
            without.push(left + micros(spent.commit));
            left = micros(spent.after_ack());
            quiet += 1;
        }
        shard.hold_checkpoints = false;
        loop {
            let writes = shard.deal(QUEUED);
            let round = shard.round(writes)?;
            during.push(left + micros(round.spent.commit));
            left = micros(round.spent.after_ack());
            if round.finished_checkpoint {
                break;
            }
        }
    }
    Ok((during, without))
}
