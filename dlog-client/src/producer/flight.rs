//! [`Flight`]: a batch that is made and not yet settled, with everyone who waits for it.

use super::Delivered;
use crate::error::Error;
use bytes::Bytes;
use dlog_core::{ErrorCode, ErrorDetail, NodeId, Offset, Outcome, PartitionIndex, Stage};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// A record's caller.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) deadline: Instant,
    /// `None`: it was told already.
    pub(crate) reply: Option<oneshot::Sender<Result<Delivered, Error>>>,
    /// Its share of the bytes in flight; given back with the batch, whose bytes stay until then.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// A sealed batch.
///
/// Invariants: `bytes` never change but by a new epoch, and that only when it is certain that they were not appended; `waiters`
/// are in the order of the batch's records; while `attempt` is set, `unanswered` has an entry for its node.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) bytes: Bytes,
    pub(crate) waiters: Vec<Waiter>,
    /// The number of its first record in its lane.
    pub(crate) first_number: u64,
    /// The request that carries it now.
    pub(crate) attempt: Option<u64>,
    /// The nodes that may have appended it: those that got it and never said that they didn't.
    pub(crate) unanswered: Vec<NodeId>,
    /// When the latest attempt went out, or the leader was last found to be the same.
    pub(crate) sent_at: Option<Instant>,
    /// How often it got a new epoch.
    pub(crate) renewals: u32,
}

impl Flight {
    pub(crate) fn new(bytes: Bytes, waiters: Vec<Waiter>, first_number: u64) -> Flight {
        Flight { bytes, waiters, first_number, attempt: None, unanswered: Vec::new(), sent_at: None, renewals: 0 }
    }

    /// The outcome if it is given up now.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.unanswered.is_empty() { Outcome::Rejected } else { Outcome::Unknown }
    }

    /// It goes out to `node` as `request_id`.
    pub(crate) fn sent(&mut self, node: NodeId, request_id: u64, now: Instant) {
        debug_assert!(self.attempt.is_none(), "one attempt at a time");
        self.attempt = Some(request_id);
        self.unanswered.push(node);
        self.sent_at = Some(now);
    }

    /// The current attempt's answer came from `node` and says that nothing was applied by it.
    pub(crate) fn not_applied(&mut self, node: NodeId) {
        self.attempt = None;
        if let Some(at) = self.unanswered.iter().rposition(|entry| *entry == node) {
            self.unanswered.swap_remove(at);
        }
    }

    /// Whether an attempt other than the current one may have reached `node`'s log.
    pub(crate) fn may_be_at(&self, node: NodeId) -> bool {
        let current = usize::from(self.attempt.is_some());
        self.unanswered.iter().filter(|entry| **entry == node).count() > current
    }

    /// Everyone who still waits learns the offset.
    pub(crate) fn acked(self, partition: PartitionIndex, base_offset: Offset) {
        for (number, waiter) in self.waiters.into_iter().enumerate() {
            let delivered = Delivered { partition: partition.0, offset: base_offset.plus(number as u64) };
            answer(waiter.reply, Ok(delivered));
        }
    }

    /// Everyone who still waits learns the error, with the outcome that holds.
    pub(crate) fn failed(self, error: &Error) {
        let error = error.clone().with_outcome(self.outcome());
        for waiter in self.waiters {
            answer(waiter.reply, Err(error.clone()));
        }
    }

    /// Tells those whose deadline has passed; `true` if nobody waits any more.
    pub(crate) fn expire(&mut self, now: Instant, place: &str, last: Option<&Error>) -> bool {
        let outcome = self.outcome();
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.deadline <= now) {
            if waiter.reply.is_some() {
                answer(waiter.reply.take(), Err(timed_out(outcome, place, last)));
            }
        }
        self.waiters.iter().all(|waiter| waiter.reply.is_none())
    }

    /// When the next caller gives up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiters.iter().find(|waiter| waiter.reply.is_some()).map(|waiter| waiter.deadline)
    }

    /// When the last caller gives up.
    pub(crate) fn last_deadline(&self) -> Option<Instant> {
        self.waiters.last().map(|waiter| waiter.deadline)
    }
}

/// The error of a record whose deadline passed.
pub(crate) fn timed_out(outcome: Outcome, place: &str, last: Option<&Error>) -> Error {
    let silent = || {
        let message = format!("the leader of {place} did not answer");
        Error::new(ErrorDetail::new(ErrorCode::Timeout, Stage::Replication, outcome, message))
    };
    Error::timeout(outcome, &format!("the append to {place}"), Some(last.cloned().unwrap_or_else(silent)))
}

/// Answers a caller, who may have gone.
pub(crate) fn answer(reply: Option<oneshot::Sender<Result<Delivered, Error>>>, result: Result<Delivered, Error>) {
    if let Some(reply) = reply {
        reply.send(result).unwrap_or(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Semaphore;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    /// A flight of records with these deadlines, seconds from `now`.
    fn flight(now: Instant, seconds: &[u64]) -> (Flight, Vec<oneshot::Receiver<Result<Delivered, Error>>>) {
        let room = Arc::new(Semaphore::new(10));
        let (mut waiters, mut answers) = (Vec::new(), Vec::new());
        for seconds in seconds {
            let (reply, answer) = oneshot::channel();
            let _room = room.clone().try_acquire_owned().expect("there is room");
            waiters.push(Waiter { deadline: now + Duration::from_secs(*seconds), reply: Some(reply), _room });
            answers.push(answer);
        }
        (Flight::new(Bytes::from_static(b"batch"), waiters, 0), answers)
    }

    /// The outcome is unknown exactly while some attempt was never answered for certain.
    #[test]
    fn the_outcome_follows_from_what_was_answered() {
        let now = Instant::now();
        let (mut flight, _answers) = flight(now, &[1]);
        assert_eq!(flight.outcome(), Outcome::Rejected, "never sent");
        flight.sent(A, 1, now);
        assert_eq!(flight.outcome(), Outcome::Unknown);
        assert!(!flight.may_be_at(A), "only the current attempt is there");
        flight.not_applied(A);
        assert_eq!(flight.outcome(), Outcome::Rejected);
        flight.sent(A, 2, now);
        flight.attempt = None;
        assert!(flight.may_be_at(A), "it was taken back without an answer");
        flight.sent(B, 3, now);
        flight.not_applied(B);
        assert_eq!(flight.outcome(), Outcome::Unknown, "what B says is no answer of A");
        assert!(!flight.may_be_at(B));
    }

    #[test]
    fn each_record_has_its_own_deadline() {
        let now = Instant::now();
        let (mut flight, mut answers) = flight(now, &[1, 3]);
        assert_eq!(flight.next_deadline(), Some(now + Duration::from_secs(1)));
        assert!(!flight.expire(now + Duration::from_secs(2), "t/0", None));
        let error = answers[0].try_recv().expect("told").expect_err("timed out");
        assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
        assert_eq!(flight.next_deadline(), flight.last_deadline());
        flight.acked(PartitionIndex(4), Offset(7));
        let delivered = answers[1].try_recv().expect("told").expect("acked");
        assert_eq!(delivered, Delivered { partition: 4, offset: Offset(8) });
    }
}
