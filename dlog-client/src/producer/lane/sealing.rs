//! Making batches of what queues, and sending them.

use super::{Lane, Output, Send, next_epoch};
use crate::error::Error;
use crate::producer::flight::{Flight, Waiter};
use dlog_core::batch::BatchError;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{BatchBuilder, MonotonicTime, ProducerSequence};
use std::time::Duration;

impl<W> Lane<W> {
    /// Seals and sends what may go now.
    pub(super) fn fill(&mut self, now: MonotonicTime) {
        while self.may_seal(now) {
            if self.renew && !self.begin_epoch() {
                return;
            }
            let Some(flight) = self.seal() else { continue };
            self.flights.push_back(flight);
            self.send(now, self.flights.len() - 1);
        }
    }

    fn may_seal(&self, now: MonotonicTime) -> bool {
        let Some((_, since)) = self.queue.front() else { return false };
        let ready = self.is_open() && self.retry_at.is_none();
        let has_id = self.sequence.is_some() || !self.options.idempotent;
        let window = if self.options.idempotent && !self.renew { PRODUCER_WINDOW_BATCHES } else { 1 };
        if !ready || !has_id || self.flights.len() >= window {
            return false;
        }
        let lingered = now >= since.plus(self.options.linger);
        let alone = self.flights.is_empty() && lingered;
        let waited = !self.options.linger.is_zero() && lingered;
        let flushes = self.settled_below() < self.flush_below;
        alone || waited || flushes || self.closing || self.queued_bytes >= self.options.batch_bytes
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
    fn seal(&mut self) -> Option<Flight<W>> {
        let first_number = self.next_number - self.queue.len() as u64;
        let mut builder = BatchBuilder::new(self.options.codec);
        let mut waiters = Vec::new();
        let mut refused = 0;
        while let Some((given, _)) = self.queue.front() {
            if !builder.is_empty() && builder.estimated_bytes_with(&given.record) > self.options.batch_bytes {
                break;
            }
            let pushed = builder.push(&given.record);
            if pushed.is_err() && !builder.is_empty() {
                // It fits no more, or not to the first record's time stamp: it begins the next batch.
                break;
            }
            let (given, _) = self.queue.pop_front().expect("there is a front");
            self.queued_bytes -= given.cost;
            match pushed {
                Ok(()) => {
                    let (deadline, cost, waiter) = (given.deadline, given.cost, Some(given.waiter));
                    waiters.push(Waiter { deadline, cost, waiter });
                }
                Err(error) => {
                    refused += 1;
                    self.outputs.push(Output::Tell(given.waiter, Err(unsendable(&error))));
                    self.outputs.push(Output::Release(given.cost));
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
                let unsent = Flight::new(bytes::Bytes::new(), waiters, first_number);
                unsent.failed(&unsendable(&error), &mut self.outputs);
                None
            }
        }
    }

    /// Sends one flight on the link.
    pub(super) fn send(&mut self, now: MonotonicTime, at: usize) {
        let Some(way) = self.way else { return };
        self.attempts += 1;
        let flight = &mut self.flights[at];
        let within = flight.last_deadline().map_or(Duration::ZERO, |at| at.since(now));
        flight.sent(way.node, self.attempts, now);
        self.outputs.push(Output::Send(Send { attempt: self.attempts, batch: flight.bytes.clone(), within }));
    }
}

/// The error of records that can't be sent as they are.
fn unsendable(error: &BatchError) -> Error {
    Error::new(error.to_detail(dlog_core::Stage::Client))
}
