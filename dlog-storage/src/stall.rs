//! [`StallWatch`]: whether a disk answers, decided from how long one operation has been in flight.
//!
//! A sync that hangs can't be taken back, and nobody can say when it returns. After a while whoever leads here should lead no
//! longer; after a longer while the process is of no use and ends, so that a supervisor or an operator looks at it.

use dlog_core::MonotonicTime;
use std::time::Duration;

/// Time between two looks counts up to this: a process that stood still itself must not blame its disk.
const STEP_MAX: Duration = Duration::from_secs(1);
/// A disk that was stuck is well again after so many times the bound without another such operation.
const CALM_BOUNDS: u32 = 2;

/// How long is too long.
///
/// Invariant: `stuck_after` is at most `hopeless_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallBounds {
    /// From then on nobody should lead here.
    pub stuck_after: Duration,
    /// From then on the process should end.
    pub hopeless_after: Duration,
}

/// What is to be thought of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// It answers.
    Well,
    /// It doesn't, or didn't a moment ago; the operation now in flight has been so for this long.
    Stuck(Duration),
    /// It won't.
    Hopeless(Duration),
}

/// Looks at a disk thread again and again.
///
/// Invariant: `busy` is at most the time for which `operation` has been in flight.
#[derive(Clone, Debug)]
pub struct StallWatch {
    bounds: StallBounds,
    looked: Option<MonotonicTime>,
    operation: Option<u64>,
    busy: Duration,
    stuck: bool,
    calm: Duration,
}

impl StallWatch {
    /// Of a disk that nobody has looked at.
    pub fn new(bounds: StallBounds) -> StallWatch {
        let (busy, calm) = (Duration::ZERO, Duration::ZERO);
        StallWatch { bounds, looked: None, operation: None, busy, stuck: false, calm }
    }

    /// What is in flight now: the number of an operation, never the same for two in a row.
    pub fn look(&mut self, now: MonotonicTime, operation: Option<u64>) -> Stall {
        let step = self.looked.map_or(Duration::ZERO, |before| now.since(before)).min(STEP_MAX);
        self.looked = Some(now);
        let same = operation.is_some() && operation == self.operation;
        self.operation = operation;
        self.busy = if same { self.busy + step } else { Duration::ZERO };
        if self.busy >= self.bounds.stuck_after {
            (self.stuck, self.calm) = (true, Duration::ZERO);
        } else if self.stuck {
            self.calm += step;
            self.stuck = self.calm < self.bounds.stuck_after * CALM_BOUNDS;
        }
        match () {
            () if self.busy >= self.bounds.hopeless_after => Stall::Hopeless(self.busy),
            () if self.stuck => Stall::Stuck(self.busy),
            () => Stall::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: StallBounds =
        StallBounds { stuck_after: Duration::from_secs(5), hopeless_after: Duration::from_secs(60) };

    /// Looks every tenth of a second for so many seconds; what is thought at the end.
    fn look(watch: &mut StallWatch, from: &mut u64, seconds: u64, operation: Option<u64>) -> Stall {
        let mut last = Stall::Well;
        for _ in 0..seconds * 10 {
            *from += 100_000_000;
            last = watch.look(MonotonicTime(*from), operation);
        }
        last
    }

    #[test]
    fn one_operation_that_hangs_is_stuck_and_then_hopeless() {
        let (mut watch, mut now) = (StallWatch::new(BOUNDS), 0);
        assert_eq!(look(&mut watch, &mut now, 5, Some(1)), Stall::Well, "the first look begins the count");
        assert_eq!(look(&mut watch, &mut now, 1, Some(1)), Stall::Stuck(Duration::from_millis(5900)));
        assert!(matches!(look(&mut watch, &mut now, 54, Some(1)), Stall::Stuck(_)));
        assert_eq!(look(&mut watch, &mut now, 1, Some(1)), Stall::Hopeless(Duration::from_millis(60_900)));
    }

    #[test]
    fn many_short_operations_are_well() {
        let (mut watch, mut now) = (StallWatch::new(BOUNDS), 0);
        for operation in 0..100 {
            assert_eq!(look(&mut watch, &mut now, 4, Some(operation)), Stall::Well);
            assert_eq!(look(&mut watch, &mut now, 20, None), Stall::Well, "rest is no operation");
        }
    }

    #[test]
    fn it_goes_back_by_itself_and_doesnt_flap() {
        let (mut watch, mut now) = (StallWatch::new(BOUNDS), 0);
        for operation in 0..10 {
            // It stays stuck while the next operation may still turn out to be slow.
            let between = look(&mut watch, &mut now, 3, Some(2 * operation));
            assert_eq!(matches!(between, Stall::Stuck(_)), operation > 0);
            assert!(matches!(look(&mut watch, &mut now, 3, Some(2 * operation)), Stall::Stuck(_)));
            assert!(matches!(look(&mut watch, &mut now, 1, Some(2 * operation + 1)), Stall::Stuck(_)));
        }
        assert!(matches!(look(&mut watch, &mut now, 8, None), Stall::Stuck(_)));
        assert_eq!(look(&mut watch, &mut now, 2, None), Stall::Well);
    }

    #[test]
    fn a_process_that_stood_still_doesnt_blame_its_disk() {
        let (mut watch, mut now) = (StallWatch::new(BOUNDS), 0);
        look(&mut watch, &mut now, 1, Some(1));
        now += 3_600_000_000_000;
        assert_eq!(watch.look(MonotonicTime(now), Some(1)), Stall::Well, "an hour counts as a second");
        assert_eq!(watch.look(MonotonicTime(now - 1), Some(1)), Stall::Well, "and a clock that goes back as nothing");
    }
}
