//! The clients: producers that retry, readers that poll any replica, and those who ask where a log ends.

pub mod batches;
pub mod lanes;
pub mod operators;
pub mod producers;
pub mod readers;

use dlog_consensus::Appended;
use dlog_core::error::ErrorDetail;
use dlog_core::{LogId, Offset};
use dlog_replication::CommandOutcome;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A producer, for the attempt to send one of its requests.
    Producer {
        /// Which one.
        producer: usize,
        /// The number of the request's first batch.
        number: u64,
        /// Counts the attempts of the producer.
        attempt: u64,
    },
    /// A producer with the client library's lane, for one attempt.
    Lane {
        /// Which one.
        lane: usize,
        /// The link that it came on.
        link: u64,
        /// The lane's own number for it.
        attempt: u64,
    },
    /// Somebody who wants to know where a log ends.
    End {
        /// The log.
        log: LogId,
        /// Who is asked.
        node: usize,
        /// The offset after all that was acked when the question was asked.
        known: Offset,
    },
    /// An operator, or a node that makes itself known.
    Command {
        /// Which command.
        number: u64,
        /// Counts the attempts at it.
        attempt: u64,
    },
    /// Retention, which moves a log start.
    Retention {
        /// The log.
        log: LogId,
    },
}

/// What it is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Where its batches stand.
    Appended(Vec<Appended>),
    /// Where the log ended.
    End(Offset),
    /// Where the log starts.
    Start(Offset),
    /// What became of a command.
    Outcome(CommandOutcome),
    /// An error.
    Refused(Box<ErrorDetail>),
    /// The connection broke: nobody knows what happened.
    Broken,
}
