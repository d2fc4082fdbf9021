//! The scrub: reads all segments of the node again and again, slowly, so that damage is found while other replicas are whole.

use crate::metrics::Metrics;
use crate::replicas::{ReplicaHandle, Replicas};
use crate::shard::inbox::ShardMessage;
use crate::shard::repair::RepairMessage;
use dlog_core::limits::{SCRUB_BYTES_PER_SECOND, SCRUB_EVERY_SECONDS};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The scrub's thread.
pub struct Scrub {
    replicas: Arc<Replicas>,
    metrics: Arc<Metrics>,
    /// Its sender goes when the node stops.
    stop: Receiver<()>,
    bytes_per_second: u64,
    every: Duration,
}

impl Scrub {
    /// A scrub at the usual rate.
    pub fn new(replicas: Arc<Replicas>, metrics: Arc<Metrics>, stop: Receiver<()>) -> Scrub {
        let every = Duration::from_secs(SCRUB_EVERY_SECONDS);
        Scrub { replicas, metrics, stop, bytes_per_second: SCRUB_BYTES_PER_SECOND, every }
    }

    /// Runs until the node stops.
    pub fn run(self) {
        loop {
            let began = Instant::now();
            for handle in self.replicas.all() {
                if !self.pass(&handle) {
                    return;
                }
            }
            self.metrics.scrub_passes.add(1);
            if self.stopped(self.every.saturating_sub(began.elapsed())) {
                return;
            }
        }
    }

    /// One replica's segments; `false` if the node stops.
    fn pass(&self, handle: &ReplicaHandle) -> bool {
        let Some(reader) = handle.reader() else { return !self.stopped(Duration::ZERO) };
        for segment in reader.segment_names() {
            let mut goes_on = true;
            let faults = reader.faults_in(segment, &mut |bytes| {
                self.metrics.scrub_bytes.add(bytes);
                let wait = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second);
                goes_on = !self.stopped(wait);
                goes_on
            });
            if !goes_on {
                return false;
            }
            let replica = handle.replica;
            match faults {
                Ok(faults) if faults.is_empty() => {}
                Ok(faults) => {
                    handle.inbox.send(ShardMessage::Repair(RepairMessage::Found { replica, segment, faults }));
                }
                Err(error) => tracing::warn!(log = %handle.log, %replica, %error, "a segment can't be scrubbed"),
            }
        }
        true
    }

    /// Waits, but not beyond the node's end; `true` then.
    fn stopped(&self, wait: Duration) -> bool {
        matches!(self.stop.recv_timeout(wait), Ok(()) | Err(RecvTimeoutError::Disconnected))
    }
}
