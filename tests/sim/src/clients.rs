//! The clients: producers that retry, readers that poll any replica, and those who ask where a log ends.

pub mod batches;
pub mod producers;
pub mod readers;

use dlog_consensus::Appended;
use dlog_core::Offset;
use dlog_core::error::ErrorDetail;

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
    /// Somebody who wants to know where a partition ends.
    End {
        /// The partition.
        partition: usize,
        /// The offset after all that was acked when the question was asked.
        known: Offset,
    },
    /// Retention, which moves a partition's log start.
    Retention {
        /// The partition.
        partition: usize,
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
    /// An error.
    Refused(Box<ErrorDetail>),
    /// The connection broke: nobody knows what happened.
    Broken,
}
