//! [`Flight`]: a batch that is made and not yet settled, with everyone who waits for it.

use super::lane::Output;
use crate::error::Error;
use bytes::Bytes;
use dlog_core::{ErrorCode, ErrorDetail, MonotonicTime, NodeId, Offset, Outcome, Stage};

/// A record's caller.
#[derive(Debug)]
pub(crate) struct Waiter<W> {
    pub(crate) deadline: MonotonicTime,
    /// Its share of the producer's bytes; given back with the batch, whose bytes stay until then.
    pub(crate) cost: usize,
    /// `None`: it was told already.
    pub(crate) waiter: Option<W>,
}

/// A sealed batch.
///
/// Invariants: `bytes` never change but by a new epoch, and that only when it is certain that they were not appended; `waiters`
/// are in the order of the batch's records; while `attempt` is set, `unanswered` has an entry for its node.
#[derive(Debug)]
pub(crate) struct Flight<W> {
    pub(crate) bytes: Bytes,
    pub(crate) waiters: Vec<Waiter<W>>,
    /// The number of its first record in its lane.
    pub(crate) first_number: u64,
    /// The attempt that is out now.
    pub(crate) attempt: Option<u64>,
    /// The nodes that may have appended it: those that got it and never said that they didn't.
    pub(crate) unanswered: Vec<NodeId>,
    /// When the latest attempt went out, or the leader was last found to be the same.
    pub(crate) sent_at: Option<MonotonicTime>,
    /// How often it got a new epoch.
    pub(crate) renewals: u32,
}

impl<W> Flight<W> {
    pub(crate) fn new(bytes: Bytes, waiters: Vec<Waiter<W>>, first_number: u64) -> Flight<W> {
        Flight { bytes, waiters, first_number, attempt: None, unanswered: Vec::new(), sent_at: None, renewals: 0 }
    }

    /// The outcome if it is given up now.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.unanswered.is_empty() { Outcome::Rejected } else { Outcome::Unknown }
    }

    /// It goes out to `node`.
    pub(crate) fn sent(&mut self, node: NodeId, attempt: u64, now: MonotonicTime) {
        debug_assert!(self.attempt.is_none(), "one attempt at a time");
        self.attempt = Some(attempt);
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

    /// Whether an attempt other than the current one may have been appended, or may yet be.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.unanswered.len() > usize::from(self.attempt.is_some())
    }

    /// What its records take of the producer's bytes.
    pub(crate) fn cost(&self) -> usize {
        self.waiters.iter().map(|waiter| waiter.cost).sum()
    }

    /// Everyone who still waits learns the offset.
    pub(crate) fn acked(self, first: Offset, outputs: &mut Vec<Output<W>>) {
        self.settled(|number| Ok(first.plus(number)), outputs);
    }

    /// Everyone who still waits learns the error, with the outcome that holds.
    pub(crate) fn failed(self, error: &Error, outputs: &mut Vec<Output<W>>) {
        let error = error.clone().with_outcome(self.outcome());
        self.settled(|_| Err(error.clone()), outputs);
    }

    fn settled(self, told: impl Fn(u64) -> Result<Offset, Error>, outputs: &mut Vec<Output<W>>) {
        let cost = self.cost();
        for (number, waiter) in self.waiters.into_iter().enumerate() {
            outputs.extend(waiter.waiter.map(|waiter| Output::Tell(waiter, told(number as u64))));
        }
        outputs.push(Output::Release(cost));
    }

    /// Tells those whose deadline has passed; `true` if nobody waits any more. While somebody else waits the whole batch goes
    /// out again, so that nothing is certain for them, whatever was answered so far.
    pub(crate) fn expire(
        &mut self,
        now: MonotonicTime,
        place: &str,
        last: Option<&Error>,
        outputs: &mut Vec<Output<W>>,
    ) -> bool {
        let ends = self.waiters.iter().all(|waiter| waiter.waiter.is_none() || waiter.deadline <= now);
        let outcome = if ends { self.outcome() } else { Outcome::Unknown };
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.deadline <= now) {
            let told = waiter.waiter.take();
            outputs.extend(told.map(|waiter| Output::Tell(waiter, Err(timed_out(outcome, place, last)))));
        }
        ends
    }

    /// When the next caller gives up.
    pub(crate) fn next_deadline(&self) -> Option<MonotonicTime> {
        self.waiters.iter().find(|waiter| waiter.waiter.is_some()).map(|waiter| waiter.deadline)
    }

    /// When the last caller gives up.
    pub(crate) fn last_deadline(&self) -> Option<MonotonicTime> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const NOW: MonotonicTime = MonotonicTime(7);

    fn after(seconds: u64) -> MonotonicTime {
        NOW.plus(Duration::from_secs(seconds))
    }

    /// A flight of records with these deadlines, seconds from now.
    fn flight(seconds: &[u64]) -> Flight<usize> {
        let waiter =
            |(number, seconds): (usize, &u64)| Waiter { deadline: after(*seconds), cost: 5, waiter: Some(number) };
        Flight::new(Bytes::from_static(b"batch"), seconds.iter().enumerate().map(waiter).collect(), 0)
    }

    /// The outcome is unknown exactly while some attempt was never answered for certain.
    #[test]
    fn the_outcome_follows_from_what_was_answered() {
        let mut flight = flight(&[1]);
        assert_eq!(flight.outcome(), Outcome::Rejected, "never sent");
        flight.sent(A, 1, NOW);
        assert_eq!(flight.outcome(), Outcome::Unknown);
        assert!(!flight.is_doubtful(), "only the current attempt is out");
        flight.not_applied(A);
        assert_eq!(flight.outcome(), Outcome::Rejected);
        flight.sent(A, 2, NOW);
        flight.attempt = None;
        assert!(flight.is_doubtful(), "it was taken back without an answer");
        flight.sent(B, 3, NOW);
        flight.not_applied(B);
        assert_eq!(flight.outcome(), Outcome::Unknown, "what B says is no answer of A");
        assert!(flight.is_doubtful());
    }

    #[test]
    fn each_record_has_its_own_deadline() {
        let mut flight = flight(&[1, 3]);
        let mut outputs = Vec::new();
        assert_eq!(flight.next_deadline(), Some(after(1)));
        assert!(!flight.expire(after(2), "t/0", None, &mut outputs));
        let [Output::Tell(0, Err(error))] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(
            (error.code(), error.outcome()),
            (ErrorCode::Timeout, Outcome::Unknown),
            "it goes out with the other"
        );
        assert_eq!(flight.next_deadline(), flight.last_deadline());
        outputs.clear();
        flight.acked(Offset(7), &mut outputs);
        let [Output::Tell(1, Ok(Offset(8))), Output::Release(10)] = &outputs[..] else { panic!("{outputs:?}") };
    }
}
