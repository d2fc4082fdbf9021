//! What answers do to the batches in flight.

use super::{Lane, abandon, next_epoch};
use crate::error::Error;
use crate::producer::link::Answer;
use dlog_core::batch::stamp_producer;
use dlog_core::{ErrorCode, NodeId, Offset, Outcome, ProducerSequence};
use dlog_protocol::v1::ProduceResponse;

/// How often a batch may get a new epoch. More means that two sides disagree about something else.
const RENEWALS_MAX: u32 = 3;

impl Lane {
    pub(super) fn on_answer(&mut self, answer: Answer) {
        let found = self.flights.iter().position(|flight| flight.attempt == Some(answer.request_id));
        // Without a flight it answers an attempt that was taken back.
        let Some(at) = found else { return };
        match answer.result {
            Ok(response) => self.on_ack(at, &response),
            Err(error) => self.on_error(at, answer.node, error),
        }
    }

    fn on_ack(&mut self, at: usize, response: &ProduceResponse) {
        let flight = self.flights.remove(at).expect("found just now");
        let consistent =
            response.last_offset.checked_sub(response.base_offset) == Some(flight.waiters.len() as u64 - 1);
        if !consistent {
            let error =
                Error::rejected(ErrorCode::Internal, "the leader acked another number of records than were sent");
            return flight.failed(&error);
        }
        flight.acked(self.partition, Offset(response.base_offset));
        self.tries.reset();
        self.last_error = None;
    }

    fn on_error(&mut self, at: usize, node: NodeId, error: Error) {
        if error.outcome() == Outcome::Rejected {
            self.flights[at].not_applied(node);
        } else {
            self.flights[at].attempt = None;
        }
        let idempotent = self.shared.options.idempotent;
        let of_sequence = matches!(
            error.code(),
            ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
        );
        if idempotent && of_sequence {
            return self.on_sequence_error(at, node, &error);
        }
        let error = match self.tries.judge(error) {
            Ok(error) => return self.try_later(error),
            Err(error) => error,
        };
        let flight = self.flights.remove(at).expect("the caller found it");
        flight.failed(&error);
        // Those behind it will be told that their sequence is out of order.
        self.renew = true;
        if error.is_retryable() {
            // Without idempotence: this batch isn't sent again, the next one goes to whoever leads.
            self.try_later(error);
        } else if matches!(error.code(), ErrorCode::UnknownTopic | ErrorCode::WrongCluster) {
            self.fail_all(&error);
        }
    }

    /// The node says that this batch doesn't follow the last one it has.
    fn on_sequence_error(&mut self, at: usize, node: NodeId, error: &Error) {
        if at > 0 {
            // The batch before it is still on its way; all go again in order.
            return self.try_later(error.clone());
        }
        let doubtful = self.flights.iter().any(|flight| flight.may_be_at(node));
        if doubtful || self.flights[0].renewals >= RENEWALS_MAX {
            let flight = self.flights.pop_front().expect("it is the front");
            flight.failed(error);
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
        tracing::info!(topic = %self.topic, partition = self.partition.0, %error, "the sequence has a gap; a new epoch begins");
        self.send_again();
    }

    /// Takes back all attempts at `node`: since the first of them was out of order, none of them was appended.
    fn recall_rejected(&mut self, node: NodeId) {
        for flight in &mut self.flights {
            if flight.attempt.is_some() {
                abandon(self.link.as_deref(), flight);
                flight.not_applied(node);
            }
        }
    }

    /// The epochs of this id are used up: batches in flight end, the next one waits for a new id.
    fn take_own_id(&mut self, error: &Error) {
        for flight in self.flights.drain(..) {
            flight.failed(error);
        }
        (self.sequence, self.own_id, self.renew) = (None, true, false);
    }
}
