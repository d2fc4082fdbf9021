//! Exit codes, a contract with scripts and supervisors.

use dlog_core::error::{ErrorCode, ErrorDetail, Outcome};
use dlog_storage::StorageError;
use std::process::ExitCode;

/// How a verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; the cause is on standard error.
    Failed = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// Something may have been applied.
    OutcomeUnknown = 3,
    /// The cluster is unhealthy.
    Unhealthy = 10,
    /// Refused as unsafe.
    Unsafe = 11,
    /// The data directory needs an operator: a supervisor must not restart the node.
    NeedsOperator = 12,
    /// Ended by Ctrl-C, after flushing and reporting.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that ends with a certain exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExitError {
    /// The code.
    pub exit: Exit,
    /// What is told.
    pub message: String,
}

impl ExitError {
    /// The command line is wrong in a way that only the program can see.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        ExitError { exit: Exit::Usage, message: message.into() }.into()
    }

    /// The data directory needs an operator.
    pub fn needs_operator(message: impl Into<String>) -> anyhow::Error {
        ExitError { exit: Exit::NeedsOperator, message: message.into() }.into()
    }
}

impl Exit {
    /// The code that an error ends with, found anywhere in its chain.
    pub fn of_error(error: &anyhow::Error) -> Exit {
        for cause in error.chain() {
            if let Some(known) = cause.downcast_ref::<ExitError>() {
                return known.exit;
            }
            if let Some(StorageError::NeedsOperator { .. }) = cause.downcast_ref() {
                return Exit::NeedsOperator;
            }
            if let Some(detail) = cause.downcast_ref::<ErrorDetail>() {
                return Exit::of_detail(detail);
            }
            if let Some(error) = cause.downcast_ref::<dlog_client::Error>() {
                return Exit::of_detail(error.detail());
            }
        }
        Exit::Failed
    }

    /// The code for a server's answer.
    pub fn of_detail(detail: &ErrorDetail) -> Exit {
        match (detail.outcome, detail.code) {
            (Outcome::Unknown, _) => Exit::OutcomeUnknown,
            (_, ErrorCode::UnsafeRefused) => Exit::Unsafe,
            _ => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use dlog_core::error::Stage;

    #[test]
    fn the_code_is_found_under_context() {
        let unknown = ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, "late");
        let error = Err::<(), _>(unknown).context("producing").expect_err("an error");
        assert_eq!(Exit::of_error(&error), Exit::OutcomeUnknown);
        let error = Err::<(), _>(ExitError::usage("no")).context("x").expect_err("an error");
        assert_eq!(Exit::of_error(&error), Exit::Usage);
        assert_eq!(Exit::of_error(&anyhow::anyhow!("plain")), Exit::Failed);
    }
}
