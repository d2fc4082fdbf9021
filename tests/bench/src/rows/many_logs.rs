//! Many logs against one: frames that arrive evenly, the same number of them queued.

use crate::figure::{Bar, Figure, Unit, median};
use crate::shard::{Shard, Spent};
use crate::{Bench, Result};
use dlog_core::limits::KIB;

/// Frames in one group: a small queue, and one frame of each log.
const QUEUED: [usize; 2] = [64, 1000];

/// Both queues.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    QUEUED.into_iter().map(|queued| queue(bench, queued)).collect()
}

fn queue(bench: &Bench, queued: usize) -> Result<Figure> {
    let logs = bench.scale.many_logs;
    let mut one = Shard::new(bench.place.fresh_disk("one-log")?, bench.scale.options(), 1, KIB)?;
    let mut many = Shard::new(bench.place.fresh_disk("many-logs")?, bench.scale.options(), logs, KIB)?;
    one.warm(queued)?;
    many.warm(queued)?;
    let (mut values, mut rates) = (Vec::new(), (Vec::new(), Vec::new()));
    let mut spent = (Spent::default(), Spent::default());
    for _ in 0..bench.rounds {
        bench.place.settle()?;
        let of_one = one.periods(1, queued)?;
        bench.place.settle()?;
        let of_many = many.periods(1, queued)?;
        spent.0 += of_one.spent;
        spent.1 += of_many.spent;
        rates.0.push(of_one.frames_per_second());
        rates.1.push(of_many.frames_per_second());
        values.push(of_many.frames_per_second() / of_one.frames_per_second());
    }
    bench.place.remove("one-log")?;
    bench.place.remove("many-logs")?;
    let (of_one, of_many) = (median(&rates.0), median(&rates.1));
    Ok(Figure {
        what: format!(
            "{logs} logs, 1 KiB frames in turn, {queued} queued, durable: frames/s against one log, checkpoints included"
        ),
        bar: Bar::AtLeast(0.8),
        unit: Unit::Percent,
        values,
        beside: format!(
            "{logs} logs {of_many:.0} frames/s, {}; one log {of_one:.0} frames/s, {}",
            spent.1.text(),
            spent.0.text()
        ),
    })
}
