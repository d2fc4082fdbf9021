//! [`Lane`]: one partition's records on their way, in order; only the decisions.
//!
//! Records queue; what queued becomes a batch, which is sealed (sequence and bytes fixed) only when there is a link to the
//! leader, so a record that was never sealed was never sent. At most [`PRODUCER_WINDOW_BATCHES`] sealed batches are in flight.
//! When the leader fails all of them go again, in order, to the next one: the same bytes, so that an idempotent append
//! happens once.
//!
//! A gap in the sequence (a batch given up, or acked by a leader alone and lost with it) ends the epoch: later batches get the
//! next one, but only those of which it is certain that they were not appended. "Out of order" is that certainty, unless an
//! earlier attempt, at whatever node, was never answered: it may still arrive. Then the outcome is unknown.
//!
//! Pure: whoever runs a lane tells it what happens and when, calls [`Lane::turn`] and carries out its [`Lane::outputs`] in
//! order. `producer/driver.rs` does so over sockets, the simulator over a simulated network.

mod answers;
mod sealing;

use super::flight::{Flight, timed_out};
use crate::error::Error;
use crate::retry::{Next, Retry, Tries};
use bytes::Bytes;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{BatchHeader, Codec, MonotonicTime, NodeId, Offset, Outcome, ProducerId, ProducerSequence, Record};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the oldest batch may be unanswered before others are asked who leads: a leader that is cut off from the rest
/// doesn't say so.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a lane works.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// Topic and partition, for messages.
    pub place: String,
    /// The compression of batches.
    pub codec: Codec,
    /// How long a record may wait for others.
    pub linger: Duration,
    /// A batch has at most so many bytes, unless its one record is larger.
    pub batch_bytes: usize,
    /// Whether batches carry a sequence.
    pub idempotent: bool,
    /// An earlier lane of this partition used the shared producer id; its sequence can't be begun again.
    pub own_id: bool,
    /// Decides the jitter of waits.
    pub seed: u64,
}

/// A record that isn't sealed.
#[derive(Debug)]
pub struct Given<W> {
    /// The record.
    pub record: Record,
    /// What it takes of the producer's bytes; told back with [`Output::Release`].
    pub cost: usize,
    /// When its caller gives up. Not before that of the record given before.
    pub deadline: MonotonicTime,
    /// Who is told.
    pub waiter: W,
}

/// What a lane wants done.
#[derive(Debug)]
pub enum Output<W> {
    /// A record's caller learns its offset or what went wrong. Each caller is told once.
    Tell(W, Result<Offset, Error>),
    /// So many bytes of records are held no longer.
    Release(usize),
    /// Somebody is to find the leader; [`Lane::found`] takes the answer. There is one search at a time.
    Find(Find),
    /// A batch goes out on the link found last; [`Lane::answered`] or [`Lane::unsent`] takes what comes of it.
    Send(Send),
    /// Nobody waits for this attempt's answer any more.
    Abandon(u64),
}

/// A search for the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// What was known before that moment doesn't count.
    pub stale_since: Option<MonotonicTime>,
    /// When nobody waits any more.
    pub deadline: MonotonicTime,
    /// The producer id that is needed, too.
    pub id: Option<NewId>,
}

/// Which producer id a lane needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The one that the producer's lanes begin with.
    Shared,
    /// One that nobody else has.
    Own,
}

/// A batch to send.
#[derive(Clone, Debug)]
pub struct Send {
    /// Counts the lane's attempts.
    pub attempt: u64,
    /// The batch.
    pub batch: Bytes,
    /// How long somebody waits for it.
    pub within: Duration,
}

/// The leader was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the link to it, another one for each link.
    pub link: u64,
    /// The node at its end.
    pub node: NodeId,
    /// The producer id, if one was asked for.
    pub id: Option<ProducerId>,
}

/// A batch stands in the log: the leader says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The offset of its first record.
    pub first: Offset,
    /// The offset of its last record.
    pub last: Offset,
}

/// Something failed.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What was said.
    pub error: Error,
    /// The error named a leader, and the next search will find that one unless it asks for newer knowledge.
    pub hinted: bool,
}

/// The stream to a leader.
#[derive(Clone, Copy, Debug)]
struct Way {
    number: u64,
    node: NodeId,
    open: bool,
}

/// One partition's way out. `W` is who waits for a record.
///
/// Invariants (checked by `assert_invariants`): flights are in the order of their numbers; at most the window are in flight; a
/// batch is out (`attempt`) only while `way` is set; `queued_bytes` is the cost of what queues.
#[derive(Debug)]
pub struct Lane<W> {
    options: LaneOptions,
    queue: VecDeque<(Given<W>, MonotonicTime)>,
    queued_bytes: usize,
    flights: VecDeque<Flight<W>>,
    /// The number that the next record gets.
    next_number: u64,
    /// Nothing lingers until every record with a lower number is settled.
    flush_below: u64,
    /// Counts the attempts.
    attempts: u64,
    /// Producer, epoch and the next batch's sequence.
    sequence: Option<ProducerSequence>,
    /// This lane used up the epochs of the shared id, or lost it: it needs one of its own.
    own_id: bool,
    /// The sequence has a gap: the next batch begins a new epoch.
    renew: bool,
    way: Option<Way>,
    finding: bool,
    retry_at: Option<MonotonicTime>,
    stale_since: Option<MonotonicTime>,
    tries: Tries,
    last_error: Option<Error>,
    /// Nothing more will be given.
    closing: bool,
    outputs: Vec<Output<W>>,
}

impl<W> Lane<W> {
    /// A lane with nothing on it.
    pub fn new(options: LaneOptions) -> Lane<W> {
        // An idempotent append may be sent again whatever became of it.
        let retry = if options.idempotent { Retry::Always } else { Retry::IfRejected };
        Lane {
            own_id: options.own_id,
            tries: Tries::new(retry, options.seed),
            options,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flights: VecDeque::new(),
            next_number: 0,
            flush_below: 0,
            attempts: 0,
            sequence: None,
            renew: false,
            way: None,
            finding: false,
            retry_at: None,
            stale_since: None,
            last_error: None,
            closing: false,
            outputs: Vec::new(),
        }
    }

    /// A record queues.
    pub fn give(&mut self, now: MonotonicTime, given: Given<W>) {
        self.queued_bytes += given.cost;
        self.next_number += 1;
        self.queue.push_back((given, now));
    }

    /// Nothing given so far lingers. All of it is settled once [`Lane::settled_below`] is the number that is given back.
    pub fn flush(&mut self) -> u64 {
        self.flush_below = self.next_number;
        self.next_number
    }

    /// Nothing more will be given, and nothing lingers.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing more will be given, and everything is settled.
    pub fn is_done(&self) -> bool {
        self.closing && self.is_empty()
    }

    /// Every record with a lower number is settled; they are numbered from 0 in the order given.
    pub fn settled_below(&self) -> u64 {
        let queued = self.next_number - self.queue.len() as u64;
        self.flights.front().map_or(queued, |flight| flight.first_number)
    }

    /// Whether this attempt's answer is waited for.
    pub fn awaits(&self, attempt: u64) -> bool {
        self.flights.iter().any(|flight| flight.attempt == Some(attempt))
    }

    /// Decides what is due at `now`.
    pub fn turn(&mut self, now: MonotonicTime) {
        self.expire(now);
        self.route(now);
        self.fill(now);
        self.assert_invariants();
    }

    /// What is to be done, in this order, since it was last asked for.
    pub fn outputs(&mut self) -> Vec<Output<W>> {
        std::mem::take(&mut self.outputs)
    }

    /// When it wants its next turn, if nothing else happens; call it after a turn at `now`.
    pub fn wake_at(&self, now: MonotonicTime) -> Option<MonotonicTime> {
        let linger = self.queue.front().map(|(_, at)| at.plus(self.options.linger));
        // Once it has passed, only an answer lets the batch go.
        let linger = linger.filter(|at| *at > now);
        let patience = if self.finding || self.way.is_none() { None } else { self.patience_ends() };
        [self.next_deadline(), linger, self.retry_at, patience].into_iter().flatten().min()
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    // ---- Time ---------------------------------------------------------------------------------------------------------

    fn expire(&mut self, now: MonotonicTime) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        while self.queue.front().is_some_and(|(given, _)| given.deadline <= now) {
            let (given, _) = self.queue.pop_front().expect("there is a front");
            self.queued_bytes -= given.cost;
            let error = timed_out(Outcome::Rejected, &self.options.place, self.last_error.as_ref());
            self.outputs.push(Output::Tell(given.waiter, Err(error)));
            self.outputs.push(Output::Release(given.cost));
        }
        let mut kept = VecDeque::with_capacity(self.flights.len());
        for mut flight in std::mem::take(&mut self.flights) {
            if flight.expire(now, &self.options.place, self.last_error.as_ref(), &mut self.outputs) {
                self.outputs.extend(flight.attempt.map(Output::Abandon));
                self.outputs.push(Output::Release(flight.cost()));
                self.renew = true;
            } else {
                kept.push_back(flight);
            }
        }
        self.flights = kept;
    }

    /// When the next caller gives up.
    fn next_deadline(&self) -> Option<MonotonicTime> {
        let queued = self.queue.front().map(|(given, _)| given.deadline);
        self.flights.iter().filter_map(Flight::next_deadline).chain(queued).min()
    }

    fn patience_ends(&self) -> Option<MonotonicTime> {
        // Without idempotence nothing is sent again, so there is nothing to find out.
        let front = self.flights.front().filter(|_| self.options.idempotent);
        front.and_then(|flight| flight.attempt.and(flight.sent_at)).map(|at| at.plus(PATIENCE))
    }

    // ---- The way to the leader ----------------------------------------------------------------------------------------

    /// Begins to look for the leader if that is needed and nothing is under way.
    fn route(&mut self, now: MonotonicTime) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.finding || self.retry_at.is_some() || self.is_empty() {
            return;
        }
        let has_id = self.sequence.is_some() || !self.options.idempotent;
        let impatient = self.patience_ends().is_some_and(|at| at <= now);
        if self.is_open() && has_id && !impatient {
            return;
        }
        if impatient {
            self.stale_since = Some(now);
        }
        let queued = self.queue.back().map(|(given, _)| given.deadline);
        let flying = self.flights.back().and_then(Flight::last_deadline);
        let Some(deadline) = queued.max(flying) else { return };
        let new_id = if self.own_id { NewId::Own } else { NewId::Shared };
        let id = (!has_id).then_some(new_id);
        self.finding = true;
        self.outputs.push(Output::Find(Find { stale_since: self.stale_since, deadline, id }));
    }

    fn is_open(&self) -> bool {
        self.way.is_some_and(|way| way.open)
    }

    /// The search for the leader is over.
    pub fn found(&mut self, now: MonotonicTime, result: Result<Found, Refused>) {
        self.finding = false;
        let found = match result {
            Ok(found) => found,
            // Nothing of these batches went out, so the lane's own rule for unknown outcomes doesn't matter here.
            Err(refused) if refused.error.is_retryable() => return self.try_later(now, refused),
            Err(refused) => return self.fail_all(now, &refused.error),
        };
        self.stale_since = None;
        if let Some(id) = found.id {
            self.sequence = Some(ProducerSequence { id, epoch: 0, base_sequence: 0 });
            self.renew = false;
        }
        if self.way.is_some_and(|way| way.number == found.link && way.open) {
            // Still the same leader: it is only slow.
            if let Some(front) = self.flights.front_mut() {
                front.sent_at = Some(now);
            }
            return;
        }
        self.recall();
        self.way = Some(Way { number: found.link, node: found.node, open: true });
        self.send_again(now);
    }

    /// The link found last has ended. What was out on it is answered, each on its own.
    pub fn link_closed(&mut self) {
        if let Some(way) = &mut self.way {
            way.open = false;
        }
    }

    /// These attempts were never sent, since the link had ended.
    pub fn unsent(&mut self, now: MonotonicTime, attempts: &[u64], refused: Refused) {
        self.link_closed();
        let Some(node) = self.way.map(|way| way.node) else { return };
        let unsent = |flight: &&mut Flight<W>| flight.attempt.is_some_and(|attempt| attempts.contains(&attempt));
        let mut current = false;
        for flight in self.flights.iter_mut().filter(unsent) {
            flight.not_applied(node);
            current = true;
        }
        if current {
            self.try_later(now, refused);
        }
    }

    /// Takes every batch back from the link; what was sent on it may still be appended.
    fn recall(&mut self) {
        for flight in &mut self.flights {
            self.outputs.extend(flight.attempt.take().map(Output::Abandon));
        }
        self.way = None;
    }

    /// Sends all flights, in order, on the new link.
    fn send_again(&mut self, now: MonotonicTime) {
        for at in 0..self.flights.len() {
            self.send(now, at);
        }
    }

    /// Looks for the leader again, a little later; all batches go again.
    fn try_later(&mut self, now: MonotonicTime, refused: Refused) {
        self.recall();
        let Refused { error, hinted } = refused;
        let (next, wait) = self.tries.next(&error, hinted);
        self.retry_at = (!wait.is_zero()).then(|| now.plus(wait));
        self.stale_since = (next == Next::Ask).then_some(now);
        tracing::debug!(place = %self.options.place, %error, "the append is tried again");
        self.last_error = Some(error);
    }

    /// The partition can't be written any more.
    fn fail_all(&mut self, now: MonotonicTime, error: &Error) {
        self.recall();
        for flight in self.flights.drain(..) {
            flight.failed(error, &mut self.outputs);
            self.renew = true;
        }
        for (given, _) in self.queue.drain(..) {
            self.outputs.push(Output::Tell(given.waiter, Err(error.clone().with_outcome(Outcome::Rejected))));
            self.outputs.push(Output::Release(given.cost));
        }
        self.queued_bytes = 0;
        self.stale_since = Some(now);
    }

    /// Checks the invariants in the type's documentation.
    fn assert_invariants(&self) {
        debug_assert!(self.flights.iter().is_sorted_by(|a, b| a.first_number < b.first_number));
        debug_assert!(self.flights.len() <= PRODUCER_WINDOW_BATCHES);
        debug_assert!(self.way.is_some() || self.flights.iter().all(|flight| flight.attempt.is_none()));
        debug_assert!(self.sequence.is_none() || self.flights.iter().all(has_producer));
        debug_assert!(!self.queue.is_empty() || self.queued_bytes == 0);
    }
}

fn has_producer<W>(flight: &Flight<W>) -> bool {
    BatchHeader::decode(&flight.bytes).is_ok_and(|header| header.producer().is_some())
}

/// The beginning of the epoch after this one, if the id has one left.
fn next_epoch(sequence: ProducerSequence) -> Option<ProducerSequence> {
    Some(ProducerSequence { id: sequence.id, epoch: sequence.epoch.checked_add(1)?, base_sequence: 0 })
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
