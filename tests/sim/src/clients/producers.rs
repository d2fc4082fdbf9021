//! A producer: makes batches for one log, sends them to whom it takes for the leader, and sends them again until it
//! knows. An idempotent one sends the same bytes again; another one only what was surely not appended.

use super::batches::{Made, make};
use dlog_consensus::Acks;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{LogId, ProducerId};
use std::collections::VecDeque;

/// Batches of one request.
const BATCHES_PER_REQUEST_MAX: usize = 2;

/// One request: its batches are appended together or not at all.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of its first batch among all of the producer.
    pub number: u64,
    /// The batches.
    pub batches: Vec<Made>,
    /// When it is to be answered.
    pub acks: Acks,
    /// When it was made, in nanoseconds.
    pub since: u64,
    /// The attempt that is under way.
    attempt: Option<u64>,
    /// Acked; it stays while an older one is out.
    acked: bool,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acked.
    Acked,
    /// It may stand in the log or not; nobody will know before reading.
    Unknown,
    /// It surely doesn't stand in the log.
    Rejected,
}

/// A producer.
///
/// Invariant: between its oldest request that isn't acked and its newest there are at most as many batches as a partition
/// remembers of a producer.
#[derive(Debug)]
pub struct Producer {
    number: usize,
    /// Its log.
    pub log: LogId,
    /// The node it takes for the leader.
    pub leader: usize,
    id: Option<ProducerId>,
    next_number: u64,
    next_sequence: i32,
    attempts: u64,
    out: VecDeque<Request>,
}

impl Producer {
    /// The producer of this number, for a log. With an id it is idempotent.
    pub fn new(number: usize, log: LogId, id: Option<ProducerId>) -> Producer {
        Producer { number, log, leader: 0, id, next_number: 0, next_sequence: 0, attempts: 0, out: VecDeque::new() }
    }

    /// Its log's topic is deleted: it waits for nothing more.
    pub fn give_up(&mut self) {
        self.out.clear();
    }

    /// Whether its retries carry a sequence.
    pub fn is_idempotent(&self) -> bool {
        self.id.is_some()
    }

    /// Requests whose fate it still wants to know.
    pub fn waits(&self) -> usize {
        self.out.iter().filter(|request| !request.acked).count()
    }

    /// When the oldest of them was made, in nanoseconds.
    pub fn waits_since(&self) -> Option<u64> {
        self.out.iter().filter(|request| !request.acked).map(|request| request.since).min()
    }

    /// The next request, unless too much is out.
    pub fn make(&mut self, random: &mut fastrand::Rng, value_bytes_max: usize, since: u64) -> Option<&Request> {
        let out: usize = self.out.iter().map(|request| request.batches.len()).sum();
        let room = PRODUCER_WINDOW_BATCHES.saturating_sub(out);
        if room == 0 {
            return None;
        }
        let number = self.next_number;
        let count = random.usize(1..=BATCHES_PER_REQUEST_MAX.min(room));
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            let sequence = self.id.map(|id| (id, self.next_sequence));
            let made = make(random, self.number, self.next_number, sequence, value_bytes_max);
            self.next_sequence += made.records as i32;
            self.next_number += 1;
            batches.push(made);
        }
        let acks = match random.u8(0..8) {
            0 => Acks::All,
            // What only a leader has may be lost, and a gap would stop an idempotent producer.
            1 | 2 if !self.is_idempotent() => Acks::Leader,
            _ => Acks::Quorum,
        };
        self.out.push_back(Request { number, batches, acks, since, attempt: None, acked: false });
        self.out.back()
    }

    /// A request that isn't done.
    pub fn find(&self, number: u64) -> Option<&Request> {
        self.out.iter().find(|request| request.number == number && !request.acked)
    }

    /// Begins an attempt to send a request, unless it is done or under way.
    pub fn attempt(&mut self, number: u64) -> Option<(u64, &Request)> {
        self.attempts += 1;
        let attempt = self.attempts;
        let request = self.out.iter_mut().find(|request| request.number == number)?;
        if request.acked || request.attempt.is_some() {
            return None;
        }
        request.attempt = Some(attempt);
        Some((attempt, request))
    }

    /// Whether this attempt is the one under way.
    pub fn is_current(&self, number: u64, attempt: u64) -> bool {
        self.find(number).is_some_and(|request| request.attempt == Some(attempt))
    }

    /// The attempt under way failed; there will be another.
    pub fn given_up(&mut self, number: u64) {
        if let Some(request) = self.out.iter_mut().find(|request| request.number == number) {
            request.attempt = None;
        }
    }

    /// The request is over.
    pub fn done(&mut self, number: u64, fate: Fate) {
        if fate != Fate::Acked {
            self.out.retain(|request| request.number != number);
        } else if let Some(request) = self.out.iter_mut().find(|request| request.number == number) {
            request.acked = true;
        }
        while self.out.front().is_some_and(|request| request.acked) {
            self.out.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides_behind_the_oldest() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut producer = Producer::new(0, LogId(1), Some(ProducerId(1)));
        let mut numbers = Vec::new();
        while let Some(request) = producer.make(&mut random, 10, 0) {
            numbers.push(request.number);
        }
        assert_eq!(producer.next_number, PRODUCER_WINDOW_BATCHES as u64);
        for number in &numbers[1..] {
            producer.done(*number, Fate::Acked);
        }
        assert!(producer.make(&mut random, 10, 0).is_none(), "the oldest is still out");
        producer.done(numbers[0], Fate::Acked);
        assert!(producer.make(&mut random, 10, 0).is_some());
        assert_eq!(producer.waits(), 1);
    }

    #[test]
    fn one_attempt_at_a_time() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut producer = Producer::new(0, LogId(1), Some(ProducerId(1)));
        let number = producer.make(&mut random, 10, 0).expect("room").number;
        let (first, _) = producer.attempt(number).expect("first");
        assert!(producer.attempt(number).is_none());
        producer.given_up(number);
        let (second, _) = producer.attempt(number).expect("second");
        assert!(!producer.is_current(number, first) && producer.is_current(number, second));
    }
}
