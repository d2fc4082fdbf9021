//! [`ClockAgreement`]: whether this node's wall clock may decide what is too old to keep.
//!
//! A clock that jumps while the process runs is noticed against the monotonic one (`dlog_storage::retention`). One that was set
//! wrong while the node was down is noticed here: a majority of the nodes, this one included, must have the same time. A node
//! that leads with a clock years ahead would otherwise drop everybody's records.

use super::wall_clock;
use crate::context::NodeContext;
use crate::service::report::gather;
use dlog_core::TimestampMs;
use dlog_protocol::v1::NodeReportRequest;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Clocks that differ by no more are the same, in milliseconds: what keeps clocks keeps them within some milliseconds, and a
/// minute is far below any age that records are kept for.
const SAME_MS: u64 = 60_000;
/// From one comparison to the next while the clocks agree: below the drift of any clock by orders.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
/// The same until they do: others may be starting, or their clocks being set. A comparison is one small call to each node.
const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// What the last comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Too few nodes answered.
    #[default]
    Unknown,
    /// A majority has this node's time.
    Agrees,
    /// No majority has; another node's clock is so many milliseconds away.
    Differs(u64),
}

/// The verdict, shared by those who ask and the task that compares.
#[derive(Debug, Default)]
pub struct ClockAgreement {
    verdict: Mutex<Verdict>,
}

impl ClockAgreement {
    /// The wall clock, where it may decide.
    pub fn wall_clock(&self) -> Option<TimestampMs> {
        (self.verdict() == Verdict::Agrees).then(wall_clock)
    }

    /// What the last comparison found.
    pub fn verdict(&self) -> Verdict {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a comparison found. Returns what the one before did.
    fn note(&self, verdict: Verdict) -> Verdict {
        std::mem::replace(&mut self.verdict.lock().unwrap_or_else(PoisonError::into_inner), verdict)
    }
}

/// Compares this node's wall clock with the others' until the node stops.
pub async fn compare(context: Arc<NodeContext>) {
    let request = NodeReportRequest { totals_only: true, ..NodeReportRequest::default() };
    while !context.is_stopping() {
        let asked = wall_clock();
        let reports = gather(&context, &request).await;
        let answered = wall_clock();
        let own = context.node_id();
        let others: Vec<Option<TimestampMs>> = reports
            .into_iter()
            .filter(|(node, _)| *node != own)
            .map(|(_, report)| report.and_then(|report| report.wall_clock_ms).map(TimestampMs))
            .collect();
        let verdict = judge((asked, answered), &others);
        let before = context.clock_agreement.note(verdict);
        if let (Verdict::Differs(by_ms), Verdict::Unknown | Verdict::Agrees) = (verdict, before) {
            tracing::warn!(
                by_ms,
                "the wall clocks of this node and of others differ: nothing is dropped by age here until they agree; \
                 check the clocks"
            );
        }
        tokio::time::sleep(if verdict == Verdict::Agrees { COMPARE_EVERY } else { COMPARE_AGAIN }).await;
    }
}

/// Judges this node's clock, which showed the first time before the others were asked and the second after. `others`: what each
/// of them had in between; `None` from those that didn't say.
fn judge((asked, answered): (TimestampMs, TimestampMs), others: &[Option<TimestampMs>]) -> Verdict {
    let away = |other: &TimestampMs| match *other {
        early if early < asked => early.0.abs_diff(asked.0),
        late if late > answered => late.0.abs_diff(answered.0),
        _ => 0,
    };
    let distances: Vec<u64> = others.iter().flatten().map(away).collect();
    let same = 1 + distances.iter().filter(|ms| **ms <= SAME_MS).count();
    let greatest = distances.into_iter().max().unwrap_or(0);
    match 2 * same > others.len() + 1 {
        true => Verdict::Agrees,
        false if greatest > SAME_MS => Verdict::Differs(greatest),
        false => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const YEARS: i64 = 10 * 365 * 86_400_000;

    fn judged(others: &[Option<i64>]) -> Verdict {
        let others: Vec<_> = others.iter().map(|away| away.map(|ms| TimestampMs(NOW + ms))).collect();
        judge((TimestampMs(NOW), TimestampMs(NOW + 500)), &others)
    }

    #[test]
    fn a_majority_must_have_the_same_time() {
        assert_eq!(judged(&[]), Verdict::Agrees, "a cluster of one has nobody to ask");
        assert_eq!(judged(&[Some(0), Some(200)]), Verdict::Agrees);
        assert_eq!(judged(&[Some(-60_000), None]), Verdict::Agrees, "two of three");
        assert_eq!(judged(&[Some(60_500), Some(YEARS)]), Verdict::Agrees, "another one's clock is wrong");
        assert_eq!(judged(&[Some(-YEARS), Some(-YEARS)]), Verdict::Differs(YEARS.unsigned_abs()), "it is ours");
        assert_eq!(judged(&[Some(60_501), None]), Verdict::Differs(60_001), "one of the two is wrong");
        assert_eq!(judged(&[None, None]), Verdict::Unknown);
        assert_eq!(judged(&[Some(0), None, None, None]), Verdict::Unknown, "two of five");
        assert_eq!(judged(&[Some(0), None, None, Some(0)]), Verdict::Agrees);
    }

    #[test]
    fn the_clock_decides_only_where_it_agrees() {
        let agreement = ClockAgreement::default();
        assert_eq!(agreement.wall_clock(), None, "nothing was compared yet");
        assert_eq!(agreement.note(Verdict::Agrees), Verdict::Unknown);
        assert!(agreement.wall_clock().is_some());
        assert_eq!(agreement.note(Verdict::Differs(7)), Verdict::Agrees);
        assert_eq!(agreement.wall_clock(), None);
    }
}
