//! [`Lane`]: one partition's records on their way, in order.
//!
//! Records queue; what queued becomes a batch, which is sealed (sequence and bytes fixed) only when a stream to the leader is
//! open, so a record that was never sealed was never sent. At most [`PRODUCER_WINDOW_BATCHES`] sealed batches are in flight.
//! When the leader fails all of them go again, in order, to the next one: the same bytes, so that an idempotent append
//! happens once.
//!
//! A gap in the sequence (a batch given up, or acked by a leader alone and lost with it) ends the epoch: later batches get the
//! next one, but only those of which it is certain that they were not appended. "Out of order" is that certainty, unless an
//! earlier attempt may still be under way inside the very node that says so; then the outcome is unknown.

mod answers;
mod sealing;

use super::flight::{Flight, answer, timed_out};
use super::link::{Answer, Link};
use super::{Delivered, Shared, place};
use crate::client::Retry;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::retry::{Next, Tries};
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{BatchHeader, Outcome, PartitionIndex, ProducerId, ProducerSequence};
use dlog_core::{Record, TopicId, TopicName};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

/// How long the oldest batch may be unanswered before others are asked who leads: a leader that is cut off from the rest
/// doesn't say so.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a lane is told.
#[derive(Debug)]
pub(crate) enum Command {
    Record(Pending),
    /// Answer when everything before is settled.
    Flush(oneshot::Sender<()>),
}

/// A record that isn't sealed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) record: Record,
    pub(crate) cost: usize,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Delivered, Error>>,
    pub(crate) room: OwnedSemaphorePermit,
}

/// A stream to the leader, and the producer id if there was none.
struct Resolved {
    link: Arc<Link>,
    id: Option<ProducerId>,
}

type Resolving = Pin<Box<dyn Future<Output = Result<Resolved, Error>> + Send>>;

/// One partition's way out.
///
/// Invariants (checked by `assert_invariants`): flights are in the order of their numbers; at most the window are in flight; a
/// batch is out (`attempt`) only while `link` is set; `queued_bytes` is the cost of what queues.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    topic: TopicName,
    topic_id: TopicId,
    partition: PartitionIndex,
    batch_bytes: usize,
    commands: mpsc::UnboundedReceiver<Command>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answers_to: mpsc::UnboundedSender<Answer>,
    queue: VecDeque<(Pending, Instant)>,
    queued_bytes: usize,
    flights: VecDeque<Flight>,
    /// The number that the next record gets.
    next_number: u64,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Producer, epoch and the next batch's sequence.
    sequence: Option<ProducerSequence>,
    /// This lane used up the epochs of the shared id, or lost it: it needs one of its own.
    own_id: bool,
    /// The sequence has a gap: the next batch begins a new epoch.
    renew: bool,
    link: Option<Arc<Link>>,
    resolving: Option<Resolving>,
    retry_at: Option<Instant>,
    stale_since: Option<Instant>,
    tries: Tries,
    last_error: Option<Error>,
    /// The producer was dropped: end when everything is settled.
    closing: bool,
}

impl Lane {
    /// Starts a lane's task; it ends once the sender is dropped and everything is settled. `own_id`: an earlier lane of this
    /// partition used the shared producer id; its sequence can't be begun again.
    pub(crate) fn start(
        shared: Arc<Shared>,
        topic: &Topic,
        partition: PartitionIndex,
        own_id: bool,
    ) -> mpsc::UnboundedSender<Command> {
        let (sender, commands) = mpsc::unbounded_channel();
        let (answers_to, answers) = mpsc::unbounded_channel();
        // An idempotent append may be sent again whatever became of it.
        let retry = if shared.options.idempotent { Retry::Always } else { Retry::IfRejected };
        let topic_bytes = if topic.max_batch_bytes == 0 { usize::MAX } else { topic.max_batch_bytes };
        let lane = Lane {
            batch_bytes: shared.options.batch_bytes.min(topic_bytes),
            shared,
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            commands,
            answers,
            answers_to,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flights: VecDeque::new(),
            next_number: 0,
            flushes: Vec::new(),
            sequence: None,
            own_id,
            renew: false,
            link: None,
            resolving: None,
            retry_at: None,
            stale_since: None,
            tries: Tries::new(retry),
            last_error: None,
            closing: false,
        };
        tokio::spawn(lane.run());
        sender
    }

    async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.expire(now);
            self.route(now);
            self.fill(now);
            self.answer_flushes();
            self.assert_invariants();
            if self.closing && self.is_empty() {
                return;
            }
            let wake = self.next_wake();
            tokio::select! {
                biased;
                // Never ends: this lane holds a sender itself.
                Some(answer) = self.answers.recv() => self.on_answer(answer),
                resolved = resolved(&mut self.resolving) => self.on_resolved(resolved),
                command = self.commands.recv(), if !self.closing => match command {
                    Some(command) => self.take(command),
                    None => self.closing = true,
                },
                () = sleep_until(wake) => {}
            }
            while let Ok(answer) = self.answers.try_recv() {
                self.on_answer(answer);
            }
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Record(pending) => {
                self.queued_bytes += pending.cost;
                self.next_number += 1;
                self.queue.push_back((pending, Instant::now()));
            }
            Command::Flush(reply) => self.flushes.push((self.next_number, reply)),
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty()
    }

    /// The number of the oldest record that isn't settled.
    fn oldest_number(&self) -> u64 {
        let queued = self.next_number - self.queue.len() as u64;
        self.flights.front().map_or(queued, |flight| flight.first_number)
    }

    fn answer_flushes(&mut self) {
        let oldest = self.oldest_number();
        for (_, reply) in self.flushes.extract_if(.., |(number, _)| *number <= oldest) {
            reply.send(()).unwrap_or(());
        }
    }

    // ---- Time ---------------------------------------------------------------------------------------------------------

    fn expire(&mut self, now: Instant) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let place = place(&self.topic, self.partition);
        while self.queue.front().is_some_and(|(pending, _)| pending.deadline <= now) {
            let (pending, _) = self.queue.pop_front().expect("there is a front");
            self.queued_bytes -= pending.cost;
            let error = timed_out(Outcome::Rejected, &place, self.last_error.as_ref());
            answer(Some(pending.reply), Err(error));
        }
        let mut kept = VecDeque::with_capacity(self.flights.len());
        for mut flight in self.flights.drain(..) {
            if flight.expire(now, &place, self.last_error.as_ref()) {
                abandon(self.link.as_deref(), &flight);
                self.renew = true;
            } else {
                kept.push_back(flight);
            }
        }
        self.flights = kept;
    }

    /// When the next caller gives up.
    fn next_deadline(&self) -> Option<Instant> {
        let queued = self.queue.front().map(|(pending, _)| pending.deadline);
        self.flights.iter().filter_map(Flight::next_deadline).chain(queued).min()
    }

    fn next_wake(&self) -> Option<Instant> {
        let linger = self.queue.front().map(|(_, at)| *at + self.shared.options.linger);
        // Once it has passed, only an answer lets the batch go.
        let linger = linger.filter(|at| *at > Instant::now());
        let patience = match self.resolving {
            None if self.link.is_some() => self.patience_ends(),
            _ => None,
        };
        [self.next_deadline(), linger, self.retry_at, patience].into_iter().flatten().min()
    }

    fn patience_ends(&self) -> Option<Instant> {
        // Without idempotence nothing is sent again, so there is nothing to find out.
        let front = self.flights.front().filter(|_| self.shared.options.idempotent);
        front.and_then(|flight| flight.attempt.and(flight.sent_at)).map(|at| at + PATIENCE)
    }

    // ---- The way to the leader ----------------------------------------------------------------------------------------

    /// Starts to look for the leader if that is needed and nothing is under way.
    fn route(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.resolving.is_some() || self.retry_at.is_some() || self.is_empty() {
            return;
        }
        let lives = self.link.as_ref().is_some_and(|link| !link.is_closed());
        let has_id = self.sequence.is_some() || !self.shared.options.idempotent;
        let impatient = self.patience_ends().is_some_and(|at| at <= now);
        if lives && has_id && !impatient {
            return;
        }
        if impatient {
            self.stale_since = Some(now);
        }
        let queued = self.queue.back().map(|(pending, _)| pending.deadline);
        let flying = self.flights.back().and_then(Flight::last_deadline);
        let Some(last) = queued.max(flying) else { return };
        let (shared, deadline, own_id) = (self.shared.clone(), Deadline::at(last), self.own_id);
        let (topic, id, partition, stale) = (self.topic.clone(), self.topic_id, self.partition, self.stale_since);
        self.resolving = Some(Box::pin(async move {
            let node: NodeInfo = shared.client.leader(&topic, id, partition, stale, deadline).await?;
            let link = shared.links.get(&node, deadline).await?;
            let id = match (has_id, own_id) {
                (true, _) => None,
                (false, false) => Some(shared.shared_id(deadline).await?),
                (false, true) => Some(shared.new_id(deadline).await?),
            };
            Ok(Resolved { link, id })
        }));
    }

    fn on_resolved(&mut self, result: Result<Resolved, Error>) {
        self.resolving = None;
        let resolved = match result {
            Ok(resolved) => resolved,
            // Nothing of these batches went out, so the lane's own rule for unknown outcomes doesn't matter here.
            Err(error) if error.is_retryable() => return self.try_later(error),
            Err(error) => return self.fail_all(&error),
        };
        self.stale_since = None;
        if let Some(id) = resolved.id {
            self.sequence = Some(ProducerSequence { id, epoch: 0, base_sequence: 0 });
            self.renew = false;
        }
        let same = self.link.as_ref().is_some_and(|link| Arc::ptr_eq(link, &resolved.link) && !link.is_closed());
        if same {
            // Still the same leader: it is only slow.
            if let Some(front) = self.flights.front_mut() {
                front.sent_at = Some(Instant::now());
            }
            return;
        }
        self.recall();
        self.link = Some(resolved.link);
        self.send_again();
    }

    /// Takes every batch back from the link; what was sent on it may still be appended.
    fn recall(&mut self) {
        for flight in &mut self.flights {
            abandon(self.link.as_deref(), flight);
            flight.attempt = None;
        }
        self.link = None;
    }

    /// Sends all flights, in order, on the new link.
    fn send_again(&mut self) {
        for at in 0..self.flights.len() {
            if !self.submit(at) {
                return;
            }
        }
    }

    /// Looks for the leader again, a little later; all batches go again.
    fn try_later(&mut self, error: Error) {
        self.recall();
        let hinted = self.shared.client.take_hint(&self.topic, self.partition, &error);
        let (next, wait) = self.tries.next(&error, hinted);
        let now = Instant::now();
        self.retry_at = (!wait.is_zero()).then(|| now + wait);
        self.stale_since = (next == Next::Ask).then_some(now);
        tracing::debug!(topic = %self.topic, partition = self.partition.0, %error, "the append is tried again");
        self.last_error = Some(error);
    }

    /// The partition can't be written any more.
    fn fail_all(&mut self, error: &Error) {
        self.recall();
        for flight in self.flights.drain(..) {
            flight.failed(error);
            self.renew = true;
        }
        for (pending, _) in self.queue.drain(..) {
            answer(Some(pending.reply), Err(error.clone().with_outcome(Outcome::Rejected)));
        }
        self.queued_bytes = 0;
        self.stale_since = Some(Instant::now());
    }

    /// Checks the invariants in the type's documentation.
    fn assert_invariants(&self) {
        debug_assert!(self.flights.iter().is_sorted_by(|a, b| a.first_number < b.first_number));
        debug_assert!(self.flights.len() <= PRODUCER_WINDOW_BATCHES);
        debug_assert!(self.link.is_some() || self.flights.iter().all(|flight| flight.attempt.is_none()));
        debug_assert!(self.sequence.is_none() || self.flights.iter().all(has_producer));
        debug_assert!(!self.queue.is_empty() || self.queued_bytes == 0);
    }
}

fn has_producer(flight: &Flight) -> bool {
    BatchHeader::decode(&flight.bytes).is_ok_and(|header| header.producer().is_some())
}

/// Nobody waits for the current attempt's answer any more.
fn abandon(link: Option<&Link>, flight: &Flight) {
    if let (Some(link), Some(request_id)) = (link, flight.attempt) {
        link.abandon(request_id);
    }
}

/// The beginning of the epoch after this one, if the id has one left.
fn next_epoch(sequence: ProducerSequence) -> Option<ProducerSequence> {
    Some(ProducerSequence { id: sequence.id, epoch: sequence.epoch.checked_add(1)?, base_sequence: 0 })
}

/// The result of what resolves, if anything does; else never.
async fn resolved(resolving: &mut Option<Resolving>) -> Result<Resolved, Error> {
    match resolving {
        Some(resolving) => resolving.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
