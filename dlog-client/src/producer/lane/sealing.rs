//! Making batches of what queues, and sending them.

use super::{Lane, next_epoch};
use crate::error::Error;
use crate::producer::Shared;
use crate::producer::flight::{Flight, Waiter, answer};
use dlog_core::batch::BatchError;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{BatchBuilder, ProducerSequence};
use dlog_protocol::convert::PRODUCE_TIMEOUT_MS_MAX;
use dlog_protocol::v1::ProduceRequest;
use std::time::Duration;
use tokio::time::Instant;

impl Lane {
    /// Seals and sends what may go now.
    pub(super) fn fill(&mut self, now: Instant) {
        while self.may_seal(now) {
            if self.renew && !self.begin_epoch() {
                return;
            }
            let Some(flight) = self.seal() else { continue };
            self.flights.push_back(flight);
            if !self.submit(self.flights.len() - 1) {
                return;
            }
        }
    }

    fn may_seal(&self, now: Instant) -> bool {
        let Some((_, since)) = self.queue.front() else { return false };
        let options = &self.shared.options;
        let ready = self.link.as_ref().is_some_and(|link| !link.is_closed()) && self.retry_at.is_none();
        let has_id = self.sequence.is_some() || !options.idempotent;
        let window = if options.idempotent && !self.renew { PRODUCER_WINDOW_BATCHES } else { 1 };
        if !ready || !has_id || self.flights.len() >= window {
            return false;
        }
        let lingered = now >= *since + options.linger;
        let alone = self.flights.is_empty() && lingered;
        let waited = !options.linger.is_zero() && lingered;
        alone || waited || self.queued_bytes >= self.batch_bytes || !self.flushes.is_empty() || self.closing
    }

    /// The next batch begins a new epoch; `false` if a new id is needed first. Only with nothing in flight.
    fn begin_epoch(&mut self) -> bool {
        debug_assert!(self.flights.is_empty(), "an epoch ends when all of its batches are settled");
        self.renew = false;
        let Some(sequence) = self.sequence else { return true };
        self.sequence = next_epoch(sequence);
        self.own_id |= self.sequence.is_none();
        self.sequence.is_some()
    }

    /// Makes a batch of what queues. Records that no batch can hold are answered; `None` if none is left.
    fn seal(&mut self) -> Option<Flight> {
        let first_number = self.next_number - self.queue.len() as u64;
        let mut builder = BatchBuilder::new(self.shared.options.codec);
        let mut waiters = Vec::new();
        let mut refused = 0;
        while let Some((pending, _)) = self.queue.front() {
            if !builder.is_empty() && builder.estimated_bytes_with(&pending.record) > self.batch_bytes {
                break;
            }
            let pushed = builder.push(&pending.record);
            if pushed.is_err() && !builder.is_empty() {
                // It fits no more, or not to the first record's time stamp: it begins the next batch.
                break;
            }
            let (pending, _) = self.queue.pop_front().expect("there is a front");
            self.queued_bytes -= pending.cost;
            match pushed {
                Ok(()) => {
                    let (deadline, reply) = (pending.deadline, Some(pending.reply));
                    waiters.push(Waiter { deadline, reply, _room: pending.room });
                }
                Err(error) => {
                    refused += 1;
                    answer(Some(pending.reply), Err(unsendable(&error)));
                }
            }
        }
        if builder.is_empty() {
            return None;
        }
        let count = builder.record_count();
        builder.set_producer(self.sequence);
        match builder.build() {
            Ok(bytes) => {
                if let Some(sequence) = &mut self.sequence {
                    sequence.base_sequence = ProducerSequence::advance(sequence.base_sequence, count);
                }
                Some(Flight::new(bytes, waiters, first_number + refused))
            }
            Err(error) => {
                for waiter in waiters {
                    answer(waiter.reply, Err(unsendable(&error)));
                }
                None
            }
        }
    }

    /// Sends one flight on the link; `false` if the link has ended.
    pub(super) fn submit(&mut self, at: usize) -> bool {
        let Some(link) = self.link.clone() else { return false };
        let now = Instant::now();
        let flight = &mut self.flights[at];
        let left = flight.last_deadline().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let request = ProduceRequest {
            request_id: self.shared.links.next_request_id(),
            topic: Some(Shared::selector(self.topic_id)),
            partition: self.partition.0,
            batch: flight.bytes.clone(),
            acks: self.shared.options.acks.to_message(),
            timeout_ms: (left.as_millis() as u32).clamp(1, PRODUCE_TIMEOUT_MS_MAX),
        };
        let request_id = request.request_id;
        match link.submit(request, &self.answers_to) {
            Ok(()) => {
                flight.sent(link.node, request_id, now);
                true
            }
            Err(error) => {
                self.try_later(error);
                false
            }
        }
    }
}

/// The error of records that can't be sent as they are.
fn unsendable(error: &BatchError) -> Error {
    Error::new(error.to_detail(dlog_core::Stage::Client))
}
