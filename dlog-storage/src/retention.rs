//! What retention may take off a log's front: [`plan`] decides from what the log knows, [`ClockGuard`] whether the wall clock
//! may have a say. Pure: sizes and both clocks are arguments.
//!
//! The rules:
//! - Only whole ended segments go, the oldest first, and none that reaches above the high watermark. So a log keeps up to one
//!   segment more than its settings say, and the active one.
//! - By size: the oldest goes while what stays still has the wanted bytes.
//! - By time: the oldest goes while its newest record is older than the wanted age. A newest record *in the future* (a
//!   producer's clock was wrong, or ours is) keeps its segment, and all behind it, until that time has come; so do records
//!   without a time. Size still counts for them.
//! - A topic that is quiet or slow expires too: an active segment is ended once its newest record is past the wanted age, or
//!   once it was the active one for that long (by the monotonic clock). A record thus lives at most about twice the wanted age.
//! - Per log and pass at most [`TIME_BYTES_PER_PASS`] and a quarter of the log go by time, and at most [`SIZE_BYTES_PER_PASS`] by
//!   size, but always one segment.
//! - A wall clock that jumps against the monotonic one, either way and by more than [`JUMP_MS`], suspends what it decides for
//!   [`SETTLE_MS`]: time for whoever sets clocks, human or program, to set it right. Slewing, at most [`SLEW_PPM`], is no jump.
//!   In its first pass a process only looks at the clock.

use dlog_core::{Offset, TimestampMs};

/// Bytes of one log that may go by time in one pass.
pub const TIME_BYTES_PER_PASS: u64 = 1 << 30;
/// Bytes of one log that may go by size in one pass.
pub const SIZE_BYTES_PER_PASS: u64 = 4 << 30;
/// The wall clock may differ by so much from where the monotonic clock expects it, in milliseconds.
pub const JUMP_MS: u64 = 2_000;
/// For so long after a jump nothing goes by time, in milliseconds.
pub const SETTLE_MS: u64 = 3_600_000;
/// How fast a wall clock may be slewed, in millionths: what clock daemons do at most.
pub const SLEW_PPM: u64 = 500;

/// How much of a log is wanted. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetentionLimits {
    /// Bytes of segments that are kept at least.
    pub bytes: Option<u64>,
    /// Age in milliseconds of the newest record of a segment, above which it goes.
    pub ms: Option<u64>,
}

/// One segment, as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The offset of its first record; the one that it would take, without records.
    pub start: Offset,
    /// The offset after its last record.
    pub end: Offset,
    /// Its size.
    pub bytes: u64,
    /// No record in it is later; [`TimestampMs::NONE`] if none has a time.
    pub greatest_time: TimestampMs,
    /// Nothing is appended to it any more.
    pub ended: bool,
    /// Tells it from the log's other segments.
    pub generation: u64,
}

/// A log at one moment.
#[derive(Clone, Copy, Debug)]
pub struct LogFacts<'a> {
    /// The first readable offset.
    pub log_start: Offset,
    /// Nothing at or above goes.
    pub high_watermark: Offset,
    /// From old to new.
    pub segments: &'a [SegmentFacts],
    /// For how long the last segment has been the active one, in milliseconds of the monotonic clock, as far as known.
    pub active_ms: u64,
}

/// What to do with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetentionPlan {
    /// Where the log is to start; above its present log start.
    pub log_start: Option<Offset>,
    /// End the active segment: a later pass can have it then.
    pub end_segment: bool,
}

/// Decides for one log. `now` is the wall clock; `None` where it must not be trusted: then nothing goes by time.
pub fn plan(log: &LogFacts<'_>, limits: RetentionLimits, now: Option<TimestampMs>) -> RetentionPlan {
    // Those below the log start are gone already, but for their files.
    let below = log.segments.partition_point(|segment| segment.end <= log.log_start && segment.ended);
    let segments = &log.segments[below..];
    let ended = segments.iter().take_while(|segment| segment.ended && segment.end <= log.high_watermark).count();
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let by_size = limits.bytes.map_or(0, |keep| {
        let mut left = total;
        capped(&segments[..ended], SIZE_BYTES_PER_PASS, |segment| {
            left -= segment.bytes;
            left >= keep
        })
    });
    let age = limits.ms.zip(now);
    let by_time = age.map_or(0, |(ms, now)| {
        let cap = TIME_BYTES_PER_PASS.min(total / 4);
        capped(&segments[..ended], cap, |segment| segment.start == segment.end || is_past(segment, ms, now))
    });
    let log_start = segments[..by_size.max(by_time)].last().map(|segment| segment.end);
    let end_segment = age.is_some_and(|(ms, now)| {
        let active = segments.last().filter(|segment| !segment.ended && segment.start < segment.end);
        active.is_some_and(|segment| is_past(segment, ms, now) || log.active_ms >= ms)
    });
    RetentionPlan { log_start: log_start.filter(|to| *to > log.log_start), end_segment }
}

/// How many of the first segments go: those that `goes` says, but no more than one or `bytes`.
fn capped(segments: &[SegmentFacts], bytes: u64, mut goes: impl FnMut(&SegmentFacts) -> bool) -> usize {
    let mut taken = 0u64;
    let fits = |(number, segment): &(usize, &SegmentFacts)| {
        taken += segment.bytes;
        (*number == 0 || taken <= bytes) && goes(segment)
    };
    segments.iter().enumerate().take_while(fits).count()
}

/// Its newest record is older than `ms`, and has a time that isn't in the future.
fn is_past(segment: &SegmentFacts, ms: u64, now: TimestampMs) -> bool {
    let newest = segment.greatest_time;
    newest != TimestampMs::NONE && newest <= now && now.0.abs_diff(newest.0) > ms
}

/// Compares the wall clock with the monotonic one from pass to pass.
///
/// Invariant: `offset` is what the wall clock is expected to be ahead of the monotonic one, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockGuard {
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    offset: i128,
    /// The monotonic time of the last look.
    at: u64,
    /// Until when the wall clock isn't trusted.
    suspended_until: u64,
}

/// What [`ClockGuard::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockVerdict {
    /// Go on.
    Steady,
    /// It jumped just now, by so many milliseconds: nothing goes by time for [`SETTLE_MS`].
    Jumped(i64),
    /// Nothing goes by time yet.
    Settling,
}

impl ClockGuard {
    /// Looks at both clocks; `monotonic_ms` never goes back.
    pub fn look(&mut self, wall: TimestampMs, monotonic_ms: u64) -> ClockVerdict {
        let offset = i128::from(wall.0) - i128::from(monotonic_ms);
        let Some(seen) = &mut self.seen else {
            self.seen = Some(Seen { offset, at: monotonic_ms, suspended_until: monotonic_ms });
            return ClockVerdict::Settling;
        };
        let elapsed = monotonic_ms.saturating_sub(seen.at);
        seen.at = monotonic_ms;
        let slew = i128::from(elapsed) * i128::from(SLEW_PPM) / 1_000_000 + 1;
        let moved = offset - seen.offset;
        if moved.abs() > i128::from(JUMP_MS) + slew {
            seen.offset = offset;
            seen.suspended_until = monotonic_ms.saturating_add(SETTLE_MS);
            let moved = moved.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
            return ClockVerdict::Jumped(i64::try_from(moved).expect("just clamped"));
        }
        seen.offset += moved.clamp(-slew, slew);
        if monotonic_ms < seen.suspended_until { ClockVerdict::Settling } else { ClockVerdict::Steady }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
