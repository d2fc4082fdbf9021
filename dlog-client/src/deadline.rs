//! [`Deadline`]: the one bound on a request, its retries included.

use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// When to give up; `None` never. Copied along with the request, so that a retry gets what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Deadline {
        // A sum beyond the clock's range is as good as never.
        Deadline(Instant::now().checked_add(timeout))
    }

    pub(crate) fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    pub(crate) const fn never() -> Deadline {
        Deadline(None)
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// What is left, at most `bound`.
    pub(crate) fn remaining(self, bound: Duration) -> Duration {
        self.0.map_or(bound, |at| at.saturating_duration_since(Instant::now()).min(bound))
    }

    /// What the future gives, unless the deadline passes first.
    pub(crate) async fn bound<F: Future>(self, future: F) -> Option<F::Output> {
        match self.0 {
            Some(at) => tokio::time::timeout_at(at, future).await.ok(),
            None => Some(future.await),
        }
    }

    /// Sleeps, but not beyond the deadline.
    pub(crate) async fn sleep(self, duration: Duration) {
        tokio::time::sleep(self.remaining(duration)).await;
    }
}
