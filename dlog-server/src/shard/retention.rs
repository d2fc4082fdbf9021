//! Retention on a shard: every few seconds it looks at the logs that are led here and have limits, a few logs a tick, and says
//! where each should start. Replicas that follow hear of it through the log.
//!
//! All that it needs is in memory: a look never waits for the disk. What goes, and when the wall clock has no say, is decided
//! by [`dlog_storage::retention`].

use super::inbox::ReplyResult;
use crate::random::random;
use dlog_core::{MonotonicTime, Offset, ReplicaId, TimestampMs};
use dlog_storage::retention::{
    ClockGuard, ClockVerdict, LogFacts, RetentionLimits, RetentionPlan, SETTLE_MS, SegmentFacts, plan,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

/// From the end of a pass to the next, and up to a fifth more, so that shards and nodes don't look in step.
const PASS_EVERY: Duration = Duration::from_secs(5);
/// Logs looked at in one tick: some microseconds each.
const LOGS_PER_TICK: usize = 64;

/// What is remembered of a log from pass to pass.
#[derive(Default)]
struct Watched {
    limits: RetentionLimits,
    /// The active segment, and since when it has been the active one here.
    active: Option<(u64, MonotonicTime)>,
    /// The answer to the last move that was asked for.
    asked: Option<oneshot::Receiver<ReplyResult>>,
}

/// The limits of a shard's logs, and how far the pass over them is.
#[derive(Default)]
pub struct Retention {
    logs: BTreeMap<ReplicaId, Watched>,
    guard: ClockGuard,
    next_pass: MonotonicTime,
    /// Still to be looked at in this pass.
    queue: VecDeque<ReplicaId>,
    /// The wall clock at the start of this pass, if it may have a say.
    wall: Option<TimestampMs>,
}

impl Retention {
    /// Sets a replica's limits; without any it is no longer looked at.
    pub fn set(&mut self, replica: ReplicaId, limits: RetentionLimits) {
        if limits == RetentionLimits::default() {
            self.logs.remove(&replica);
        } else {
            self.logs.entry(replica).or_default().limits = limits;
        }
    }

    /// The replica is gone.
    pub fn remove(&mut self, replica: ReplicaId) {
        self.logs.remove(&replica);
    }

    /// The replicas to look at in this tick. `wall` is asked once a pass; `None`: nothing goes by time in this one.
    pub fn due(&mut self, now: MonotonicTime, wall: impl FnOnce() -> Option<TimestampMs>) -> Vec<ReplicaId> {
        if self.queue.is_empty() {
            if now < self.next_pass {
                return Vec::new();
            }
            self.begin_pass(now, wall());
        }
        let count = LOGS_PER_TICK.min(self.queue.len());
        self.queue.drain(..count).collect()
    }

    fn begin_pass(&mut self, now: MonotonicTime, wall: Option<TimestampMs>) {
        self.next_pass = now.plus(PASS_EVERY + PASS_EVERY.mul_f64(random().f64() / 5.0));
        let verdict = wall.map(|wall| self.guard.look(wall, milliseconds(now)));
        if let Some(ClockVerdict::Jumped(by_ms)) = verdict {
            tracing::warn!(
                by_ms,
                settle_s = SETTLE_MS / 1000,
                "the wall clock jumped: nothing is dropped by age until it has been steady again; check the clock"
            );
        }
        self.wall = wall.filter(|_| verdict == Some(ClockVerdict::Steady));
        self.queue = self.logs.keys().copied().collect();
    }

    /// What to do with a log that is led here; nothing while an earlier move waits for its answer.
    pub fn plan(
        &mut self,
        replica: ReplicaId,
        now: MonotonicTime,
        (log_start, high_watermark): (Offset, Offset),
        segments: &[SegmentFacts],
    ) -> RetentionPlan {
        let Some(watched) = self.logs.get_mut(&replica) else { return RetentionPlan::default() };
        if let Some(asked) = &mut watched.asked
            && matches!(asked.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        {
            return RetentionPlan::default();
        }
        watched.asked = None;
        let generation = segments.last().filter(|segment| !segment.ended).map(|segment| segment.generation);
        watched.active = generation.map(|generation| match watched.active {
            Some((known, since)) if known == generation => (known, since),
            _ => (generation, now),
        });
        let active_ms = watched.active.map_or(0, |(_, since)| milliseconds(now) - milliseconds(since));
        plan(&LogFacts { log_start, high_watermark, segments, active_ms }, watched.limits, self.wall)
    }

    /// A move was asked for; its answer comes here.
    pub fn asked(&mut self, replica: ReplicaId, answer: oneshot::Receiver<ReplyResult>) {
        if let Some(watched) = self.logs.get_mut(&replica) {
            watched.asked = Some(answer);
        }
    }
}

fn milliseconds(at: MonotonicTime) -> u64 {
    at.0 / 1_000_000
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
