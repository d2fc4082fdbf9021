//! Tests of what retention decides: by example, and that no log and no clock makes it break a rule.

use super::*;
use proptest::prelude::*;

const DAY: u64 = 86_400_000;
const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// Segments of ten records and 100 bytes, each a day younger than the one before, the newest of now and active.
fn days(count: u64) -> Vec<SegmentFacts> {
    let segment = |number: u64| SegmentFacts {
        start: Offset(number * 10),
        end: Offset(number * 10 + 10),
        bytes: 100,
        greatest_time: TimestampMs(NOW.0 - ((count - 1 - number) * DAY) as i64),
        ended: number + 1 < count,
        generation: number,
    };
    (0..count).map(segment).collect()
}

fn facts(segments: &[SegmentFacts]) -> LogFacts<'_> {
    LogFacts { log_start: Offset(0), high_watermark: Offset::MAX, segments, active_ms: 0 }
}

fn bytes(bytes: u64) -> RetentionLimits {
    RetentionLimits { bytes: Some(bytes), ms: None }
}

fn ms(ms: u64) -> RetentionLimits {
    RetentionLimits { bytes: None, ms: Some(ms) }
}

fn target(log: &LogFacts<'_>, limits: RetentionLimits, now: Option<TimestampMs>) -> Option<u64> {
    plan(log, limits, now).log_start.map(|offset| offset.0)
}

#[test]
fn by_size_at_least_the_wanted_bytes_stay() {
    let segments = days(10);
    let log = facts(&segments);
    assert_eq!(target(&log, bytes(1000), None), None);
    assert_eq!(target(&log, bytes(901), None), None, "900 would stay");
    assert_eq!(target(&log, bytes(900), None), Some(10));
    assert_eq!(target(&log, bytes(350), None), Some(60));
    assert_eq!(target(&log, bytes(0), None), Some(90), "never the active one");
    assert_eq!(target(&LogFacts { high_watermark: Offset(39), ..log }, bytes(0), None), Some(30));
    assert_eq!(
        target(&LogFacts { log_start: Offset(60), ..log }, bytes(350), None),
        None,
        "what is below counts no more"
    );
    assert_eq!(target(&LogFacts { log_start: Offset(65), ..log }, bytes(350), None), None, "a segment counts whole");
    assert_eq!(target(&log, RetentionLimits::default(), Some(NOW)), None);
}

#[test]
fn by_time_the_newest_record_decides() {
    // Large enough for a quarter to be two segments.
    let segments = days(10);
    let log = facts(&segments);
    assert_eq!(target(&log, ms(20 * DAY), Some(NOW)), None);
    assert_eq!(target(&log, ms(9 * DAY), Some(NOW)), None, "exactly as old as wanted");
    assert_eq!(target(&log, ms(9 * DAY - 1), Some(NOW)), Some(10));
    assert_eq!(target(&log, ms(DAY), None), None, "the clock isn't trusted");
    assert_eq!(target(&log, ms(DAY), Some(NOW)), Some(20), "a quarter of the log a pass");
    assert_eq!(target(&LogFacts { log_start: Offset(60), ..log }, ms(DAY), Some(NOW)), Some(70), "one at least");
    let both = RetentionLimits { bytes: Some(500), ms: Some(9 * DAY - 1) };
    assert_eq!(target(&log, both, Some(NOW)), Some(50), "what either takes");
}

#[test]
fn a_record_of_the_future_or_without_a_time_keeps_its_segment() {
    for (time, goes) in [(TimestampMs(NOW.0 + 1), None), (TimestampMs::NONE, None), (TimestampMs(0), Some(20))] {
        let mut segments = days(10);
        segments[0].greatest_time = time;
        let log = facts(&segments);
        assert_eq!(target(&log, ms(DAY), Some(NOW)), goes, "{time:?}");
        assert_eq!(target(&log, bytes(900), Some(NOW)), Some(10), "size counts");
    }
    // One without records is in nobody's way.
    let mut segments = days(10);
    segments[0] = SegmentFacts { end: Offset(0), greatest_time: TimestampMs::NONE, ..segments[0] };
    segments[1].start = Offset(0);
    assert_eq!(target(&facts(&segments), ms(DAY), Some(NOW)), Some(30));
}

#[test]
fn a_quiet_or_slow_topic_ends_its_active_segment() {
    let mut segments = days(1);
    let ends = |segments: &[SegmentFacts], active_ms, limits| {
        let plan = plan(&LogFacts { active_ms, ..facts(segments) }, limits, Some(NOW));
        assert_eq!(plan.log_start, None, "a later pass takes it");
        plan.end_segment
    };
    assert!(!ends(&segments, DAY - 1, ms(DAY)));
    assert!(ends(&segments, DAY, ms(DAY)), "slow: it holds records of a whole day");
    segments[0].greatest_time = TimestampMs(NOW.0 - DAY as i64 - 1);
    assert!(ends(&segments, 0, ms(DAY)), "quiet: nothing came for a day");
    assert!(!ends(&segments, DAY, bytes(1)), "size has the ended ones");
    segments[0].end = segments[0].start;
    assert!(!ends(&segments, DAY, ms(DAY)), "it holds nothing");
    assert!(!plan(&facts(&segments), ms(DAY), None).end_segment);
}

#[test]
fn a_pass_is_capped() {
    let mut segments = days(100);
    for segment in &mut segments {
        segment.bytes = 1 << 30;
    }
    let log = facts(&segments);
    assert_eq!(target(&log, bytes(0), None), Some(40), "4 GiB by size");
    assert_eq!(target(&log, ms(1), Some(NOW)), Some(10), "1 GiB by time");
}

#[test]
fn the_first_look_only_remembers() {
    let mut guard = ClockGuard::default();
    assert_eq!(guard.look(NOW, 5), ClockVerdict::Settling);
    assert_eq!(guard.look(TimestampMs(NOW.0 + 5000), 5005), ClockVerdict::Steady);
}

#[test]
fn a_jump_either_way_suspends_until_it_has_settled() {
    for jump in [-400 * DAY as i64, -3000, 3000, 400 * DAY as i64] {
        let mut guard = ClockGuard::default();
        guard.look(NOW, 0);
        assert_eq!(guard.look(TimestampMs(NOW.0 + jump), 0), ClockVerdict::Jumped(jump));
        let at = |since: u64| TimestampMs(NOW.0 + jump + since as i64);
        assert_eq!(guard.look(at(SETTLE_MS - 1), SETTLE_MS - 1), ClockVerdict::Settling);
        assert_eq!(guard.look(at(SETTLE_MS), SETTLE_MS), ClockVerdict::Steady);
        // Back again is a jump too.
        let back = TimestampMs(NOW.0 + SETTLE_MS as i64 + 5);
        assert_eq!(guard.look(back, SETTLE_MS + 5), ClockVerdict::Jumped(-jump));
    }
}

#[test]
fn slewing_and_pauses_are_no_jumps_but_creeping_is() {
    let mut guard = ClockGuard::default();
    guard.look(NOW, 0);
    // Half a thousandth fast for a year, looked at every five seconds to every day.
    let mut at = 0u64;
    for step in (1..3000).map(|n| 5_000 + (n * 37_123) % DAY) {
        at += step;
        let wall = TimestampMs(NOW.0 + at as i64 + (at / 2000) as i64);
        assert_eq!(guard.look(wall, at), ClockVerdict::Steady, "at {at}");
    }
    // A second ahead with every look of five seconds: no single step is a jump.
    let mut guard = ClockGuard::default();
    guard.look(NOW, 0);
    let creep = |n: u64| TimestampMs(NOW.0 + (n * 6_000) as i64);
    let jumped = (1..20).map(|n| guard.look(creep(n), n * 5_000)).any(|v| matches!(v, ClockVerdict::Jumped(_)));
    assert!(jumped);
}

fn any_segments() -> impl Strategy<Value = Vec<SegmentFacts>> {
    let one = (0u64..20, 0u64..200, prop_oneof![Just(-1i64), NOW.0 - 2000..NOW.0 + 500]);
    (proptest::collection::vec(one, 0..20), any::<bool>(), 0u64..30).prop_map(|(parts, active, first)| {
        let (mut at, count) = (first, parts.len());
        let make = |(number, (records, bytes, time)): (usize, (u64, u64, i64))| {
            let start = Offset(at);
            at += records;
            let greatest_time = if records == 0 { TimestampMs::NONE } else { TimestampMs(time) };
            let ended = number + 1 < count || !active;
            SegmentFacts { start, end: Offset(at), bytes, greatest_time, ended, generation: number as u64 }
        };
        parts.into_iter().enumerate().map(make).collect()
    })
}

proptest! {
    /// Whatever the log and the limits are.
    #[test]
    fn a_plan_keeps_the_rules(
        segments in any_segments(),
        log_start in 0u64..200,
        high_watermark in 0u64..400,
        keep in proptest::option::of(0u64..2000),
        age in proptest::option::of(0u64..2500),
        trusted in any::<bool>(),
        active_ms in 0u64..3000,
    ) {
        let (log_start, high_watermark) = (Offset(log_start), Offset(high_watermark));
        let log = LogFacts { log_start, high_watermark, segments: &segments, active_ms };
        let (limits, now) = (RetentionLimits { bytes: keep, ms: age }, trusted.then_some(NOW));
        let made = plan(&log, limits, now);
        prop_assert_eq!(plan(&log, limits, now), made);
        if let Some(to) = made.log_start {
            prop_assert!(to > log_start && to <= high_watermark);
            prop_assert!(segments.iter().any(|segment| segment.ended && segment.end == to));
            let goes = |segment: &SegmentFacts| segment.start < to && segment.end <= to;
            let stay: u64 = segments.iter().filter(|segment| !goes(segment)).map(|segment| segment.bytes).sum();
            let by_size = keep.is_some_and(|keep| stay >= keep);
            let gone = segments.iter().filter(|segment| segment.end > log_start && segment.end <= to);
            let old = |segment: &SegmentFacts| {
                let newest = segment.greatest_time;
                newest.0 >= 0 && newest <= NOW && (NOW.0 - newest.0) as u64 > age.unwrap_or(u64::MAX)
            };
            let by_time = trusted && age.is_some() && gone.clone().all(|s| s.start == s.end || old(s));
            prop_assert!(by_size || by_time, "{:?}", made);
            let total: u64 = segments.iter().filter(|s| s.end > log_start || !s.ended).map(|s| s.bytes).sum();
            let bytes: u64 = gone.clone().map(|segment| segment.bytes).sum();
            prop_assert!(by_size || gone.count() == 1 || bytes <= total / 4 + 200, "a quarter of {total}, not {bytes}");
        }
        if made.end_segment {
            prop_assert!(trusted && age.is_some());
            prop_assert!(segments.last().is_some_and(|segment| !segment.ended && segment.start < segment.end));
        }
        // Passes come to an end.
        if limits.bytes.is_none() && now.is_none() {
            prop_assert_eq!(made, RetentionPlan::default());
        }
    }

    /// A log is written to and looked at every five seconds while the wall clock jumps either way and is set right within the
    /// time to settle: nothing goes that isn't truly as old as wanted.
    #[test]
    fn jumps_that_are_set_right_delete_nothing_too_early(
        jumps in proptest::collection::vec((1u64..400, -(40 * DAY as i64)..40 * DAY as i64, 1u64..SETTLE_MS / 5_000), 1..5),
        age in 60_000u64..4_000_000,
    ) {
        let mut guard = ClockGuard::default();
        // What is true: for each segment the time at which its only record was made.
        let (mut segments, mut made): (Vec<SegmentFacts>, Vec<u64>) = (Vec::new(), Vec::new());
        let (mut log_start, mut mono) = (Offset(0), 0u64);
        let steps = jumps.iter().flat_map(|(steady, jump, wrong)| {
            std::iter::repeat_n(0i64, *steady as usize).chain(std::iter::repeat_n(*jump, *wrong as usize))
        });
        for wrong_by in steps.chain(std::iter::repeat_n(0, 1500)) {
            mono += 5_000;
            let wall = TimestampMs(NOW.0 + mono as i64 + wrong_by);
            let number = segments.len() as u64;
            if let Some(last) = segments.last_mut() {
                last.ended = true;
            }
            segments.push(SegmentFacts {
                start: Offset(number),
                end: Offset(number + 1),
                bytes: 10,
                greatest_time: TimestampMs(wall.0.max(0)),
                ended: false,
                generation: number,
            });
            made.push(mono);
            let now = (guard.look(wall, mono) == ClockVerdict::Steady).then_some(wall);
            let log = LogFacts { log_start, high_watermark: Offset::MAX, segments: &segments, active_ms: 0 };
            if let Some(to) = plan(&log, ms(age), now).log_start {
                for gone in log_start.0..to.0 {
                    // Stamped while the clock was behind, a record is younger than it says, by what the guard let pass.
                    let stamped_right = segments[gone as usize].greatest_time.0 + JUMP_MS as i64 >= NOW.0 + made[gone as usize] as i64;
                    prop_assert!(!stamped_right || mono - made[gone as usize] + 2 * JUMP_MS >= age);
                }
                log_start = to;
            }
        }
    }
}
