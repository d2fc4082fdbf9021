//! One log, one frame of 1 KiB at a time: how long until it is durable.

use crate::figure::{Bar, Figure, Unit, median};
use crate::raw::{LAYOUTS, RawRounds, RawSample, micros};
use crate::shard::Shard;
use crate::{Bench, Result};
use dlog_core::limits::KIB;

/// Pairs it with raw writes of the same bytes.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let mut shard = Shard::new(bench.place.fresh_disk("one-frame")?, bench.scale.options(), 1, KIB)?;
    while !shard.store.prepare(u64::MAX)? {}
    let mut raw = RawRounds::default();
    let (mut acks, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        raw.run(&bench.place, &LAYOUTS, KIB, bench.scale.raw_writes(KIB))?;
        bench.place.settle()?;
        let (mut whole, mut commit) = (Vec::new(), Vec::new());
        for _ in 0..bench.scale.small_writes {
            let writes = shard.deal(1);
            let spent = shard.round(writes)?.spent;
            whole.push(micros(spent.total()));
            commit.push(micros(spent.commit));
        }
        acks.push(median(&whole));
        commits.push(median(&commit));
    }
    bench.place.remove("one-frame")?;
    let (layout, costs) = raw.fastest(RawSample::p50);
    let against = |p50: &[f64]| p50.iter().zip(&costs).map(|(one, raw)| one / raw).collect::<Vec<_>>();
    let (name, rounds) = (layout.name(), raw.text());
    Ok(vec![
        Figure {
            what: "One log, one 1 KiB frame at a time, durable: p50 of the whole round against raw".to_string(),
            bar: Bar::AtMost(1.15),
            unit: Unit::Times,
            values: against(&acks),
            beside: format!("dlog {:.0} µs; raw is {name}: {rounds}", median(&acks)),
        },
        Figure {
            what: "The same, p50 of the commit alone: a frame that comes when nothing else is to be done".to_string(),
            bar: Bar::Told,
            unit: Unit::Times,
            values: against(&commits),
            beside: format!("dlog {:.0} µs", median(&commits)),
        },
    ])
}
