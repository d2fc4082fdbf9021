//! [`Error`]: the one error of this crate.

use dlog_core::{ErrorCode, ErrorDetail, NodeId, Outcome, Stage};
use std::fmt;

/// What went wrong ([`code`](Error::code)), where ([`stage`](Error::stage)), whether the request may have been applied all the
/// same ([`outcome`](Error::outcome)), and what to do next ([`hint`](Error::hint)). Cheap to clone.
///
/// The outcome is what a program should go by. [`Outcome::Rejected`]: it was not applied and never will be, so it can be
/// repeated or given up. [`Outcome::Unknown`]: it may be applied, or may yet be; a repeat by the caller may be a second one.
/// Reads are always rejected. What can be retried was retried, on other nodes too, until the deadline; a `timeout` has what
/// the last try met as its [`source`](std::error::Error::source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    detail: Box<ErrorDetail>,
    cause: Option<Box<Error>>,
}

impl Error {
    /// An error that a node told.
    pub fn new(detail: ErrorDetail) -> Error {
        Error { detail: Box::new(detail), cause: None }
    }

    /// An error of this side; nothing was applied.
    pub(crate) fn rejected(code: ErrorCode, message: impl Into<String>) -> Error {
        Error::new(ErrorDetail::rejected(code, Stage::Client, message))
    }

    /// The deadline passed; `last` is what the latest try met.
    pub(crate) fn timeout(outcome: Outcome, what: &str, last: Option<Error>) -> Error {
        let message = match outcome {
            Outcome::Rejected => format!("{what} was not possible within the timeout"),
            Outcome::Unknown => format!("{what} was not confirmed within the timeout"),
        };
        let stage = last.as_ref().map_or(Stage::Client, Error::stage);
        let mut detail = ErrorDetail::new(ErrorCode::Timeout, stage, outcome, message);
        detail.node = last.as_ref().and_then(|last| last.detail.node.clone());
        Error { detail: Box::new(detail), cause: last.map(Box::new) }
    }

    /// What went wrong.
    pub fn code(&self) -> ErrorCode {
        self.detail.code
    }

    /// Where.
    pub fn stage(&self) -> Stage {
        self.detail.stage
    }

    /// Whether it may have been applied. Reads are always [`Outcome::Rejected`].
    pub fn outcome(&self) -> Outcome {
        self.detail.outcome
    }

    /// The name of the node that said so; `None` if it was noticed on this side.
    pub fn node(&self) -> Option<&str> {
        self.detail.node.as_deref()
    }

    /// The leader that the error names.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.detail.leader
    }

    /// Everything that is known of it.
    pub fn detail(&self) -> &ErrorDetail {
        &self.detail
    }

    /// Whether the same request may succeed later or elsewhere. This crate has already tried until the deadline; whoever tries
    /// again should look at [`outcome`](Error::outcome) first.
    pub fn is_retryable(&self) -> bool {
        is_retryable(&self.detail)
    }

    /// What the reader can do next, where the code of the deepest cause tells: half a sentence, without a full stop.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.cause.as_deref().map_or(self.code(), Error::code) {
            ErrorCode::UnknownTopic => "see `dlog topic list`, or make it with `dlog topic create`",
            ErrorCode::UnknownPartition => "see `dlog topic describe`",
            ErrorCode::UnknownNode => "see `dlog node list`",
            ErrorCode::NoLeader | ErrorCode::NotInSync | ErrorCode::DiskFull => "see `dlog cluster health`",
            ErrorCode::Unavailable if self.stage() == Stage::Connection => "check --server, and that the node runs",
            ErrorCode::OffsetOutOfRange => "see `dlog offsets` for what can be read",
            ErrorCode::WrongCluster => "check --server: it names a node of another cluster",
            ErrorCode::Overloaded => "send more slowly, or raise the timeout",
            _ => return None,
        })
    }

    /// The same error, said of a request that can't have been applied (a read).
    pub(crate) fn of_read(mut self) -> Error {
        self.detail.outcome = Outcome::Rejected;
        self
    }

    /// The same error with another outcome.
    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Error {
        self.detail.outcome = outcome;
        self
    }
}

/// Whether another try may succeed: what the code says, and everything that a broken connection caused.
pub(crate) fn is_retryable(detail: &ErrorDetail) -> bool {
    let by_connection = matches!(detail.code, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Overloaded);
    detail.is_retryable() || (detail.stage == Stage::Connection && by_connection)
}

impl From<ErrorDetail> for Error {
    fn from(detail: ErrorDetail) -> Error {
        Error::new(detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.detail, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_timeout_keeps_what_it_met_last() {
        let last =
            Error::new(ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, "no leader").with_node("n2"));
        let error = Error::timeout(Outcome::Unknown, "the append", Some(last.clone()));
        assert_eq!(
            (error.code(), error.outcome(), error.stage()),
            (ErrorCode::Timeout, Outcome::Unknown, Stage::Replication)
        );
        assert_eq!(error.node(), Some("n2"));
        assert_eq!(error.source().expect("a cause").to_string(), last.to_string());
        assert_eq!(error.hint(), Some("see `dlog cluster health`"));
        assert_eq!(error.of_read().outcome(), Outcome::Rejected);
    }
}
