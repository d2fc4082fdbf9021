//! Tests of the passes: when they are, what they remember, and that a wait for an answer holds a log back.

use super::*;

const WALL: i64 = 1_800_000_000_000;

fn id(number: u64) -> ReplicaId {
    ReplicaId(number)
}

fn at(seconds: u64) -> MonotonicTime {
    MonotonicTime(seconds * 1_000_000_000)
}

fn wall(seconds: u64) -> TimestampMs {
    TimestampMs(WALL + seconds as i64 * 1000)
}

fn limits(bytes: Option<u64>, ms: Option<u64>) -> RetentionLimits {
    RetentionLimits { bytes, ms }
}

/// Three segments of ten records and 100 bytes, the last one active, all of the time `made`.
fn segments(made: TimestampMs) -> Vec<SegmentFacts> {
    let segment = |number: u64| SegmentFacts {
        start: Offset(number * 10),
        end: Offset(number * 10 + 10),
        bytes: 100,
        greatest_time: made,
        ended: number < 2,
        generation: number,
    };
    (0..3).map(segment).collect()
}

/// All replicas of a pass that begins at `seconds`, as far as it is due.
fn pass(retention: &mut Retention, seconds: u64) -> Vec<ReplicaId> {
    let mut all = Vec::new();
    loop {
        let some = retention.due(at(seconds), || Some(wall(seconds)));
        assert!(some.len() <= LOGS_PER_TICK);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

const ALL: (Offset, Offset) = (Offset(0), Offset(30));

#[test]
fn a_pass_takes_every_log_with_limits_in_turn() {
    let mut retention = Retention::default();
    for number in 0..150 {
        retention.set(id(number), limits(Some(1), None));
    }
    retention.set(id(7), limits(None, None));
    retention.remove(id(8));
    let all: Vec<ReplicaId> = (0..150).filter(|number| !(7..9).contains(number)).map(id).collect();
    assert_eq!(pass(&mut retention, 10), all);
    assert_eq!(pass(&mut retention, 14), [], "not yet");
    assert_eq!(pass(&mut retention, 17), all);
}

#[test]
fn a_log_waits_for_the_answer_to_its_last_move() {
    let mut retention = Retention::default();
    retention.set(id(1), limits(Some(100), None));
    let segments = segments(wall(0));
    let look = |retention: &mut Retention| retention.plan(id(1), at(10), ALL, &segments).log_start;
    pass(&mut retention, 10);
    assert_eq!(look(&mut retention), Some(Offset(20)));
    let (answer, receiver) = oneshot::channel();
    retention.asked(id(1), receiver);
    assert_eq!(look(&mut retention), None, "it is on its way");
    drop(answer);
    assert_eq!(look(&mut retention), Some(Offset(20)), "it failed: again");
    assert_eq!(retention.plan(id(2), at(10), ALL, &segments), RetentionPlan::default(), "without limits");
}

#[test]
fn age_counts_from_the_second_pass_on_and_not_after_a_jump() {
    let mut retention = Retention::default();
    retention.set(id(1), limits(None, Some(1000)));
    let segments = segments(wall(0));
    pass(&mut retention, 10);
    assert_eq!(retention.plan(id(1), at(10), ALL, &segments).log_start, None, "the clock was looked at once");
    pass(&mut retention, 20);
    let plan = retention.plan(id(1), at(20), ALL, &segments);
    assert_eq!((plan.log_start, plan.end_segment), (Some(Offset(10)), true));
    retention.due(at(30), || Some(wall(90_000)));
    assert_eq!(retention.plan(id(1), at(30), ALL, &segments), RetentionPlan::default());
}

#[test]
fn a_clock_that_the_others_do_not_have_decides_nothing() {
    let mut retention = Retention::default();
    retention.set(id(1), limits(Some(150), Some(1000)));
    let segments = segments(wall(0));
    for seconds in (10..100).step_by(10) {
        retention.due(at(seconds), || None);
        let plan = retention.plan(id(1), at(seconds), ALL, &segments);
        assert_eq!((plan.log_start, plan.end_segment), (Some(Offset(10)), false), "by size all the same");
    }
}

#[test]
fn a_slow_topic_ends_its_active_segment_after_its_age() {
    let mut retention = Retention::default();
    retention.set(id(1), limits(None, Some(60_000)));
    for seconds in (10..100).step_by(10) {
        pass(&mut retention, seconds);
        // Records keep coming.
        let plan = retention.plan(id(1), at(seconds), ALL, &segments(wall(seconds)));
        assert_eq!(plan.end_segment, seconds >= 70, "at {seconds}");
    }
    let mut next = segments(wall(100));
    next[2].generation = 9;
    assert!(!retention.plan(id(1), at(100), ALL, &next).end_segment, "another segment is active");
}
