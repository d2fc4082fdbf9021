//! What a node's cumulative histogram tells: the durations between two looks at it, and their quantiles.

use dlog_protocol::v1::Histogram;

/// The durations that were counted after `before` and up to `after`, two answers of one node. If the node restarted in
/// between (its counts went back, or its buckets differ), everything in `after`.
pub fn between(before: &Histogram, after: &Histogram) -> Histogram {
    let restarted = before.bounds_us != after.bounds_us
        || before.counts.len() != after.counts.len()
        || before.counts.iter().zip(&after.counts).any(|(before, after)| before > after);
    let mut difference = after.clone();
    if !restarted {
        for (count, before) in difference.counts.iter_mut().zip(&before.counts) {
            *count -= before;
        }
    }
    difference
}

/// The duration, in microseconds, that the given share (0 to 1) of all durations doesn't exceed: the upper bound of its
/// bucket, at most the longest. `None` without any.
pub fn quantile_us(histogram: &Histogram, share: f64) -> Option<u64> {
    let total: u64 = histogram.counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
    let mut seen = 0;
    for (count, bound) in histogram.counts.iter().zip(&histogram.bounds_us) {
        seen += count;
        if seen >= rank {
            return Some((*bound).min(histogram.max_us));
        }
    }
    Some(histogram.max_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram { bounds_us: vec![100, 200, 400], counts: counts.to_vec(), max_us: 350 }
    }

    #[test]
    fn quantiles_of_the_difference() {
        let difference = between(&histogram(&[5, 0, 0]), &histogram(&[95, 9, 1]));
        assert_eq!(difference.counts, [90, 9, 1]);
        assert_eq!(quantile_us(&difference, 0.5), Some(100));
        assert_eq!(quantile_us(&difference, 0.99), Some(200));
        assert_eq!(quantile_us(&difference, 1.0), Some(350), "never more than the longest");
        assert_eq!(quantile_us(&histogram(&[0, 0, 0]), 0.5), None);
    }

    #[test]
    fn a_restarted_node_counts_anew() {
        assert_eq!(between(&histogram(&[5, 9, 0]), &histogram(&[6, 1, 0])).counts, [6, 1, 0]);
    }
}
