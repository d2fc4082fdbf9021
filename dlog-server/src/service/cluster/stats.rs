//! Figures of this node alone.

use crate::context::NodeContext;
use dlog_protocol::v1::{self, NodeStatsResponse};
use hdrhistogram::Histogram;

/// Buckets for each doubling: neighbours differ by about 4 %.
const BUCKETS_PER_DOUBLING: u32 = 16;
/// The greatest bound, in microseconds: what takes longer than a minute is in the last bucket.
const LONGEST_US: f64 = 60_000_000.0;

/// The figures.
pub(super) fn node_stats(context: &NodeContext) -> NodeStatsResponse {
    let sizes = context.shards.iter().map(|shard| shard.sync_times.sizes());
    let (data_bytes, journal_bytes) = sizes.fold((0, 0), |(d, j), s| (d + s.data_bytes, j + s.journal_bytes));
    let syncs: Vec<Histogram<u64>> = context.shards.iter().map(|shard| shard.sync_times.histogram()).collect();
    NodeStatsResponse {
        node_id: context.node_id().0,
        name: context.config.name.clone(),
        uptime_ms: context.clock.now().0 / 1_000_000,
        journal_sync: Some(buckets(&syncs)),
        data_bytes,
        journal_bytes,
        shards: u32::try_from(context.shards.len()).unwrap_or(u32::MAX),
    }
}

/// Bounds that depend on nothing but the constants above: whoever subtracts two answers must find the same.
fn bounds() -> Vec<u64> {
    let mut bounds = Vec::new();
    for step in 0u32.. {
        let bound = 2f64.powf(f64::from(step) / f64::from(BUCKETS_PER_DOUBLING));
        if bound >= LONGEST_US {
            break;
        }
        // The first few lie closer together than whole microseconds.
        let bound = bound as u64;
        if bounds.last() != Some(&bound) {
            bounds.push(bound);
        }
    }
    bounds
}

/// The counts of several histograms together.
fn buckets(histograms: &[Histogram<u64>]) -> v1::Histogram {
    let bounds = bounds();
    let mut counts = vec![0; bounds.len()];
    for histogram in histograms {
        for value in histogram.iter_recorded() {
            let bucket = bounds.partition_point(|bound| *bound < value.value_iterated_to()).min(bounds.len() - 1);
            counts[bucket] += value.count_at_value();
        }
    }
    let max_us = histograms.iter().filter(|h| !h.is_empty()).map(Histogram::max).max().unwrap_or(0);
    v1::Histogram { bounds_us: bounds, counts, max_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::histogram::{between, quantile_us};

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    #[test]
    fn bounds_rise() {
        let bounds = bounds();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(bounds[0], 1);
        assert!(bounds.len() < 500, "{}", bounds.len());
    }

    #[test]
    fn nothing_is_lost_and_quantiles_are_close() {
        let before = buckets(&[histogram(1..=100)]);
        let after = buckets(&[histogram((1..=100).chain(200..=1200)), histogram([59_999_999, 5_000])]);
        assert_eq!(before.counts.iter().sum::<u64>(), 100);
        let difference = between(&before, &after);
        assert_eq!(difference.counts.iter().sum::<u64>(), 1003);
        let median = quantile_us(&difference, 0.5).expect("values") as f64;
        assert!((median / 700.0 - 1.0).abs() < 0.06, "{median}");
        assert!(after.max_us >= 59_000_000, "{}", after.max_us);
        assert_eq!(buckets(&[histogram([])]).max_us, 0);
    }
}
