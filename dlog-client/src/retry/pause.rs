//! The wait before the next try, on the runtime's clock.

use super::{Next, Tries};
use crate::deadline::Deadline;
use crate::error::Error;

impl Tries {
    /// Waits before the next try; `error` is what the latest one met.
    ///
    /// # Errors
    /// Past the deadline: `timeout` with `error` as its cause, or `error` itself if only another node could have helped.
    pub(crate) async fn pause(
        &mut self,
        error: Error,
        hinted: bool,
        what: &str,
        deadline: Deadline,
    ) -> Result<Next, Error> {
        if deadline.has_passed() {
            return Err(self.too_late(error, what));
        }
        let (next, wait) = self.next(&error, hinted);
        tracing::debug!(what, %error, ?next, ?wait, "tried again");
        deadline.sleep(wait).await;
        self.earlier = Some(error);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Retry;
    use dlog_core::{ErrorCode, ErrorDetail, Stage};
    use std::time::Duration;

    fn rejected(code: ErrorCode) -> Error {
        Error::new(ErrorDetail::rejected(code, Stage::Service, "said"))
    }

    #[tokio::test]
    async fn past_the_deadline_the_last_error_is_the_cause() {
        let mut tries = Tries::new(Retry::Always, 1);
        let passed = Deadline::after(Duration::ZERO);
        let error = tries.pause(rejected(ErrorCode::NoLeader), false, "it", passed).await.expect_err("too late");
        assert_eq!(error.code(), ErrorCode::Timeout);
        assert!(std::error::Error::source(&error).is_some());
        let later = Deadline::after(Duration::from_secs(3600));
        tries.pause(rejected(ErrorCode::NoLeader), false, "it", later).await.expect("time is left");
        let cut = Error::new(ErrorDetail::unknown(ErrorCode::Unavailable, Stage::Connection, "cut short"));
        let error = tries.pause(cut, false, "it", passed).await.expect_err("too late");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("no_leader"), "a try that was cut short hides what was wrong: {cause}");
        tries.set_elsewhere(true);
        let error = tries.pause(rejected(ErrorCode::CorruptData), false, "it", passed).await.expect_err("too late");
        assert_eq!(error.code(), ErrorCode::CorruptData, "not hidden behind a timeout");
    }
}
