//! What the disk thread lets others see: how long the journal's writes and syncs take, and how large its files are.

use dlog_storage::StoreStats;
use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::time::Duration;

/// Longest time that is told apart, in microseconds: one minute.
const LONGEST_US: u64 = 60_000_000;

/// A histogram of journal groups' write + fdatasync times since the start of the process.
/// With it, the shard's sizes on disk as of the last group.
pub struct SyncTimes {
    histogram: Mutex<Histogram<u64>>,
    sizes: Mutex<StoreStats>,
}

impl Default for SyncTimes {
    fn default() -> SyncTimes {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit");
        SyncTimes { histogram: Mutex::new(histogram), sizes: Mutex::default() }
    }
}

impl SyncTimes {
    /// Counts one sync.
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US);
        let mut histogram = self.histogram.lock().expect("no holder panics");
        histogram.saturating_record(us);
    }

    /// How many, and the median and 99th percentile in microseconds.
    pub fn summary(&self) -> (u64, u64, u64) {
        let histogram = self.histogram.lock().expect("no holder panics");
        (histogram.len(), histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99))
    }

    /// A copy of the histogram, in microseconds.
    pub fn histogram(&self) -> Histogram<u64> {
        self.histogram.lock().expect("no holder panics").clone()
    }

    /// Notes the sizes.
    pub fn set_sizes(&self, sizes: StoreStats) {
        *self.sizes.lock().expect("no holder panics") = sizes;
    }

    /// The sizes as of the last group.
    pub fn sizes(&self) -> StoreStats {
        *self.sizes.lock().expect("no holder panics")
    }
}
