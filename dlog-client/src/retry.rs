//! What follows a failed try: whether there is another, after how long, and where. All loops of this crate ask here.
//!
//! Pure: randomness comes as a seed; only `retry/pause.rs` waits.

mod pause;

use crate::backoff::Backoff;
use crate::error::Error;
use dlog_core::{ErrorCode, Outcome, Stage};
use std::time::Duration;

/// Whether a failed request may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It changes nothing, or nothing more the second time.
    Always,
    /// Only if it was definitely not applied.
    IfRejected,
}

/// Where the next try goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To whom it went: that node is only busy.
    Same,
    /// To the leader that the error named.
    Hinted,
    /// To whoever leads by newer metadata.
    Ask,
}

/// The tries of one request, or of one stream of requests.
///
/// Invariant: `outcome` is unknown once any try since the last success may have been applied.
#[derive(Debug)]
pub struct Tries {
    retry: Retry,
    /// Another node may succeed where one failed for a reason of its own: a damaged copy, another cluster's address.
    elsewhere: bool,
    backoff: Backoff,
    outcome: Outcome,
    /// The latest error named a leader.
    hinted: bool,
    /// The error before the latest one.
    earlier: Option<Error>,
}

impl Tries {
    /// Before the first try; `seed` decides the jitter of the waits.
    pub fn new(retry: Retry, seed: u64) -> Tries {
        Tries {
            retry,
            elsewhere: false,
            backoff: Backoff::new(seed),
            outcome: Outcome::Rejected,
            hinted: false,
            earlier: None,
        }
    }

    /// Says whether another node can be asked.
    pub fn set_elsewhere(&mut self, elsewhere: bool) {
        self.elsewhere = elsewhere;
    }

    /// Something succeeded: the next failure begins anew.
    pub fn reset(&mut self) {
        self.backoff.reset();
        self.outcome = Outcome::Rejected;
        self.hinted = false;
        self.earlier = None;
    }

    /// Gives the error back if another try may follow.
    ///
    /// # Errors
    /// The error to tell the caller, with the outcome of all tries.
    pub fn judge(&mut self, error: Error) -> Result<Error, Error> {
        let unknown = error.outcome() == Outcome::Unknown;
        if unknown {
            self.outcome = Outcome::Unknown;
        }
        let again = self.allows(&error) && (self.retry == Retry::Always || !unknown);
        if again { Ok(error) } else { Err(self.told(error)) }
    }

    /// Where the next try goes, and after how long. `hinted`: the error named a leader that is known here. The first hint is
    /// followed at once, a second one in a row is not: two nodes may name each other.
    pub fn next(&mut self, error: &Error, hinted: bool) -> (Next, Duration) {
        let first_hint = hinted && !self.hinted;
        self.hinted = hinted;
        let wait = self.backoff.step(error.detail().retry_after_ms);
        match error.code() {
            _ if first_hint => (Next::Hinted, Duration::ZERO),
            _ if hinted => (Next::Hinted, wait),
            ErrorCode::Overloaded | ErrorCode::NotInSync => (Next::Same, wait),
            _ => (Next::Ask, wait),
        }
    }

    /// What to tell when the deadline has passed: `timeout` with `error` as its cause, or `error` itself if only another node
    /// could have helped.
    pub(crate) fn too_late(&mut self, error: Error, what: &str) -> Error {
        match error.is_retryable() {
            true => Error::timeout(self.outcome, what, Some(self.cause(error))),
            false => self.told(error),
        }
    }

    /// What the caller is to be told as the cause. A last try that the deadline cut short says nothing but that; the one
    /// before it says what was wrong.
    fn cause(&mut self, latest: Error) -> Error {
        let cut = latest.detail().stage == Stage::Connection;
        let earlier = self.earlier.take().filter(|_| cut);
        earlier.unwrap_or(latest)
    }

    fn allows(&self, error: &Error) -> bool {
        let of_one_node = matches!(error.code(), ErrorCode::CorruptData | ErrorCode::WrongCluster);
        error.is_retryable() || (self.elsewhere && of_one_node)
    }

    fn told(&self, error: Error) -> Error {
        if self.outcome == Outcome::Unknown { error.with_outcome(Outcome::Unknown) } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::ErrorDetail;

    fn rejected(code: ErrorCode) -> Error {
        Error::new(ErrorDetail::rejected(code, Stage::Service, "said"))
    }

    fn unknown(code: ErrorCode) -> Error {
        Error::new(ErrorDetail::unknown(code, Stage::Service, "said"))
    }

    #[test]
    fn what_may_be_applied_is_sent_again_only_where_that_is_safe() {
        for (retry, error, again) in [
            (Retry::Always, unknown(ErrorCode::Unavailable), true),
            (Retry::IfRejected, unknown(ErrorCode::Unavailable), false),
            (Retry::IfRejected, rejected(ErrorCode::Unavailable), true),
            (Retry::Always, rejected(ErrorCode::UnknownTopic), false),
        ] {
            assert_eq!(Tries::new(retry, 1).judge(error.clone()).is_ok(), again, "{retry:?} {error}");
        }
    }

    /// A later refusal doesn't take back what an earlier try may have done.
    #[test]
    fn a_doubt_stays_until_something_succeeds() {
        let mut tries = Tries::new(Retry::Always, 1);
        tries.judge(unknown(ErrorCode::Unavailable)).expect("tried again");
        let told = tries.judge(rejected(ErrorCode::TopicExists)).expect_err("final");
        assert_eq!((told.code(), told.outcome()), (ErrorCode::TopicExists, Outcome::Unknown));
        tries.reset();
        let told = tries.judge(rejected(ErrorCode::TopicExists)).expect_err("final");
        assert_eq!(told.outcome(), Outcome::Rejected);
    }

    #[test]
    fn a_damaged_copy_is_read_elsewhere_if_there_is_an_elsewhere() {
        let mut tries = Tries::new(Retry::Always, 1);
        assert!(tries.judge(rejected(ErrorCode::CorruptData)).is_err());
        tries.set_elsewhere(true);
        assert!(tries.judge(rejected(ErrorCode::CorruptData)).is_ok());
    }

    #[test]
    fn the_first_hint_is_followed_at_once_and_a_busy_node_is_asked_again() {
        let mut tries = Tries::new(Retry::Always, 1);
        let error = rejected(ErrorCode::NotLeader);
        assert_eq!(tries.next(&error, true), (Next::Hinted, Duration::ZERO));
        let (next, wait) = tries.next(&error, true);
        assert!(next == Next::Hinted && wait > Duration::ZERO, "two nodes that name each other");
        assert_eq!(tries.next(&error, false).0, Next::Ask);
        assert_eq!(tries.next(&error, true), (Next::Hinted, Duration::ZERO));
        assert_eq!(tries.next(&rejected(ErrorCode::Overloaded), false).0, Next::Same);
        let asked =
            Error::new(ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, "full").with_retry_after_ms(900));
        assert!(tries.next(&asked, false).1 >= Duration::from_millis(900));
    }
}
