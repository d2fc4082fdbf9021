//! A producer that runs the client library's own decisions: one partition's `Lane`, and what its task would keep beside it.

use bytes::Bytes;
use dlog_client::machines::{Find, Given, Lane, LaneOptions};
use dlog_consensus::Acks;
use dlog_core::{Codec, LogId, MonotonicTime, Offset, ProducerId, Record, TimestampMs};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The first number of such a producer: others count from 0.
pub const FIRST_NUMBER: usize = 1 << 20;
/// Records that wait at most.
const WAITING_MAX: u64 = 60;
/// What one record takes of a producer's bytes; nothing here is bounded by them.
const COST: usize = 1;

/// A stream to a node: what is sent on it arrives in order.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Another one for each.
    pub number: u64,
    /// The node at its end, from 0.
    pub node: usize,
    /// Whether its client believes that it lives.
    pub open: bool,
    /// When what was sent last arrives, in nanoseconds.
    pub arrives: u64,
}

/// Where a record is: its batch, and its place in it.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    /// The fingerprint of its batch.
    pub key: u64,
    /// How many records are before it in the batch.
    pub place: u64,
    /// How many the batch has.
    pub records: u64,
    /// When the batch was first sent, in nanoseconds.
    pub since: u64,
}

/// A producer.
#[derive(Debug)]
pub struct LaneProducer {
    /// Its number among all producers.
    pub number: usize,
    /// Its log.
    pub log: LogId,
    /// Its decisions; records are known by their numbers.
    pub lane: Lane<u64>,
    /// When its requests are to be answered.
    pub acks: Acks,
    /// Its id.
    pub id: ProducerId,
    /// The node that it was told leads.
    pub leader: Option<usize>,
    /// The link found last.
    pub link: Option<Link>,
    /// Links made so far.
    pub links: u64,
    /// The search for the leader that is under way.
    pub finding: Option<Find>,
    /// When its next turn is due, in nanoseconds.
    pub wake: Option<u64>,
    /// The batches sent so far, counted.
    pub batches: u64,
    /// Records that were sent and whose fate isn't known, by their numbers.
    pub sealed: BTreeMap<u64, Sealed>,
    /// The fingerprints of the batches that were registered.
    pub known: BTreeSet<u64>,
    /// Attempts that are out on the link.
    pub out: Vec<u64>,
    /// When the records that aren't told were given, in nanoseconds.
    since: BTreeMap<u64, u64>,
    given: u64,
    timeout: Duration,
    /// Its log's topic is deleted: it waits for nothing more.
    gave_up: bool,
}

impl LaneProducer {
    /// The producer of this number, for a log.
    pub fn new(
        random: &mut fastrand::Rng,
        number: usize,
        log: LogId,
        id: ProducerId,
        value_bytes: usize,
    ) -> LaneProducer {
        let options = LaneOptions {
            place: format!("log {log}"),
            codec: [Codec::None, Codec::None, Codec::Lz4][random.usize(0..3)],
            linger: Duration::from_millis([0, 0, 5][random.usize(0..3)]),
            batch_bytes: [1, 4][random.usize(0..2)] * (value_bytes + 200),
            idempotent: true,
            own_id: false,
            seed: random.u64(..),
        };
        LaneProducer {
            number,
            log,
            lane: Lane::new(options),
            // What is acked by a leader alone may be lost: then the sequence has a gap.
            acks: [Acks::Quorum, Acks::Quorum, Acks::All, Acks::Leader][random.usize(0..4)],
            id,
            leader: None,
            link: None,
            links: 0,
            finding: None,
            wake: None,
            batches: 0,
            sealed: BTreeMap::new(),
            known: BTreeSet::new(),
            out: Vec::new(),
            since: BTreeMap::new(),
            given: 0,
            timeout: Duration::from_millis(random.u64(800..10_000)),
            gave_up: false,
        }
    }

    /// The next record, unless too many wait.
    pub fn give(&mut self, random: &mut fastrand::Rng, value_bytes_max: usize, now: u64) {
        if self.since.len() as u64 >= WAITING_MAX {
            return;
        }
        let number = self.given;
        let key = Bytes::from(format!("producer {} record {number}", self.number));
        let value = Bytes::from(vec![random.u8(..); random.usize(0..=value_bytes_max)]);
        let timestamp = TimestampMs(1_000_000 + number as i64);
        let record = Record { timestamp, key: Some(key), value: Some(value), headers: Vec::new() };
        let now_is = MonotonicTime(now);
        let given = Given { record, cost: COST, deadline: now_is.plus(self.timeout), waiter: number };
        self.lane.give(now_is, given);
        self.since.insert(number, now);
        self.given += 1;
    }

    /// A record's caller is told.
    ///
    /// # Errors
    /// If it was told before.
    pub fn told(&mut self, record: u64) -> Result<Option<Sealed>, String> {
        match self.since.remove(&record) {
            Some(_) => Ok(self.sealed.remove(&record)),
            None => Err(format!("record {record} of producer {} is told of twice", self.number)),
        }
    }

    /// The record's number that a key names.
    pub fn record_of(key: &[u8]) -> Option<u64> {
        std::str::from_utf8(key).ok()?.rsplit(' ').next()?.parse().ok()
    }

    /// Records whose fate isn't known.
    pub fn waits(&self) -> usize {
        self.since.len()
    }

    /// When the oldest of them was given, in nanoseconds.
    pub fn waits_since(&self) -> Option<u64> {
        self.since.values().next().copied()
    }

    /// Its log's topic is deleted.
    pub fn give_up(&mut self) {
        self.gave_up = true;
        self.since.clear();
        self.sealed.clear();
    }

    /// Whether it waits for nothing more, for ever.
    pub fn has_given_up(&self) -> bool {
        self.gave_up
    }
}

impl Sealed {
    /// The batch's first and last offset if its record stands here.
    pub fn offsets(&self, at: Offset) -> Option<(Offset, Offset)> {
        let first = Offset(at.0.checked_sub(self.place)?);
        Some((first, first.plus(self.records - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_by_its_key_and_told_once() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut producer = LaneProducer::new(&mut random, 7, LogId(1), ProducerId(1), 10);
        producer.give(&mut random, 10, 5);
        assert_eq!((producer.waits(), producer.waits_since()), (1, Some(5)));
        assert_eq!(LaneProducer::record_of(b"producer 7 record 12"), Some(12));
        assert!(producer.told(0).is_ok() && producer.told(0).is_err());
        let sealed = Sealed { key: 1, place: 2, records: 4, since: 0 };
        assert_eq!(sealed.offsets(Offset(9)), Some((Offset(7), Offset(10))));
        assert_eq!(sealed.offsets(Offset(1)), None);
    }
}
