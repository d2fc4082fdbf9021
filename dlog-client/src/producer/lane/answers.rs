//! What answers do to the batches in flight.

use super::{Lane, Output, Placed, Refused, next_epoch};
use crate::error::Error;
use dlog_core::batch::stamp_producer;
use dlog_core::{ErrorCode, MonotonicTime, NodeId, Outcome, ProducerSequence};

/// How often a batch may get a new epoch. More means that two sides disagree about something else.
const RENEWALS_MAX: u32 = 3;

impl<W> Lane<W> {
    /// An attempt was answered, or the link ended before its answer came. Answers to attempts that were abandoned are ignored.
    pub fn answered(&mut self, now: MonotonicTime, attempt: u64, result: Result<Placed, Refused>) {
        let Some(at) = self.flights.iter().position(|flight| flight.attempt == Some(attempt)) else { return };
        let Some(node) = self.way.map(|way| way.node) else { return };
        match result {
            Ok(placed) => self.on_ack(at, placed),
            Err(refused) => self.on_error(now, at, node, refused),
        }
    }

    fn on_ack(&mut self, at: usize, placed: Placed) {
        let flight = self.flights.remove(at).expect("found just now");
        let consistent = placed.last.0.checked_sub(placed.first.0) == Some(flight.waiters.len() as u64 - 1);
        if !consistent {
            let error =
                Error::rejected(ErrorCode::Internal, "the leader acked another number of records than were sent");
            return flight.failed(&error, &mut self.outputs);
        }
        flight.acked(placed.first, &mut self.outputs);
        self.tries.reset();
        self.last_error = None;
    }

    fn on_error(&mut self, now: MonotonicTime, at: usize, node: NodeId, refused: Refused) {
        if refused.error.outcome() == Outcome::Rejected {
            self.flights[at].not_applied(node);
        } else {
            self.flights[at].attempt = None;
        }
        let of_sequence = matches!(
            refused.error.code(),
            ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
        );
        if self.options.idempotent && of_sequence {
            return self.on_sequence_error(now, at, node, refused);
        }
        let Refused { error, hinted } = refused;
        let error = match self.tries.judge(error) {
            Ok(error) => return self.try_later(now, Refused { error, hinted }),
            Err(error) => error,
        };
        let flight = self.flights.remove(at).expect("the caller found it");
        flight.failed(&error, &mut self.outputs);
        // Those behind it will be told that their sequence is out of order.
        self.renew = true;
        if error.is_retryable() {
            // Without idempotence: this batch isn't sent again, the next one goes to whoever leads.
            self.try_later(now, Refused { error, hinted });
        } else if matches!(error.code(), ErrorCode::UnknownTopic | ErrorCode::WrongCluster) {
            self.fail_all(now, &error);
        }
    }

    /// The node says that this batch doesn't follow the last one it has.
    fn on_sequence_error(&mut self, now: MonotonicTime, at: usize, node: NodeId, refused: Refused) {
        if at > 0 {
            // The batch before it is still on its way; all go again in order.
            return self.try_later(now, refused);
        }
        let error = &refused.error;
        let doubtful = self.flights.iter().any(|flight| flight.is_doubtful());
        if doubtful || self.flights[0].renewals >= RENEWALS_MAX {
            let flight = self.flights.pop_front().expect("it is the front");
            flight.failed(error, &mut self.outputs);
            self.renew = true;
            return;
        }
        self.recall_rejected(node);
        let Some(mut sequence) = self.sequence.and_then(next_epoch) else {
            return self.take_own_id(error);
        };
        for flight in &mut self.flights {
            flight.bytes = stamp_producer(&flight.bytes, sequence);
            flight.renewals += 1;
            let count = flight.waiters.len() as u32;
            sequence.base_sequence = ProducerSequence::advance(sequence.base_sequence, count);
        }
        self.sequence = Some(sequence);
        self.renew = false;
        tracing::info!(place = %self.options.place, %error, "the sequence has a gap; a new epoch begins");
        self.send_again(now);
    }

    /// Takes back all attempts at `node`: since the first of them was out of order, none of them was appended.
    fn recall_rejected(&mut self, node: NodeId) {
        for flight in &mut self.flights {
            if let Some(attempt) = flight.attempt {
                self.outputs.push(Output::Abandon(attempt));
                flight.not_applied(node);
            }
        }
    }

    /// The epochs of this id are used up: batches in flight end, the next one waits for a new id.
    fn take_own_id(&mut self, error: &Error) {
        for flight in self.flights.drain(..) {
            flight.failed(error, &mut self.outputs);
        }
        (self.sequence, self.own_id, self.renew) = (None, true, false);
    }
}
