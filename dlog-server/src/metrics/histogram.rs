//! A histogram that many threads add to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From 50 µs (a sync of a fast disk) to 30 s (a request's whole deadline), two or three steps a decade.
const DURATION_BOUNDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];
/// What the sum of durations is counted in.
const PER_SECOND: f64 = 1e9;

/// Counts values by bounds that never change.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound and one for what lies above all.
    counts: Vec<AtomicU64>,
    /// In `unit`s.
    sum: AtomicU64,
    /// How many of the sum's steps are one of the values' units.
    unit: f64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The sum of all values.
    pub sum: f64,
    /// How many values.
    pub count: u64,
    /// Upper bounds (the last is infinite), each with the values above the bound before it.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Of whole numbers, with these upper bounds, rising.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram::with_unit(bounds, 1.0)
    }

    /// Of durations, in seconds.
    pub fn of_durations() -> Histogram {
        Histogram::with_unit(DURATION_BOUNDS, PER_SECOND)
    }

    fn with_unit(bounds: &'static [f64], unit: f64) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0), unit }
    }

    /// Counts a number.
    pub fn observe(&self, value: u64) {
        self.add(value as f64, value);
    }

    /// Counts a duration.
    pub fn observe_duration(&self, took: Duration) {
        self.add(took.as_secs_f64(), u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&self, value: f64, steps: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(steps, Ordering::Relaxed);
    }

    /// What was counted so far. The sum may lag behind the counts by what is being added at this moment.
    pub fn read(&self) -> Reading {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts.iter().map(|c| c.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading { sum: self.sum.load(Ordering::Relaxed) as f64 / self.unit, count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_buckets() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        for value in [0, 1, 2, 10, 11, 1000] {
            histogram.observe(value);
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets, [(1.0, 2), (10.0, 2), (f64::INFINITY, 2)], "a bound belongs to its bucket");
        assert_eq!((reading.count, reading.sum), (6, 1024.0));
    }

    #[test]
    fn durations_are_told_in_seconds() {
        let histogram = Histogram::of_durations();
        for ms in [1, 1, 2_000] {
            histogram.observe_duration(Duration::from_millis(ms));
        }
        let reading = histogram.read();
        assert!((reading.sum - 2.002).abs() < 1e-9, "{}", reading.sum);
        assert_eq!(reading.buckets.iter().find(|(bound, _)| *bound == 0.001).map(|(_, n)| *n), Some(2));
        assert!(DURATION_BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
