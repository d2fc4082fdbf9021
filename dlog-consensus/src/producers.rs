//! What a partition remembers of its producers, so that a retry returns the first append's offsets and nothing is appended
//! twice or out of order.
//!
//! The *table* follows from the committed entries alone: every replica that applied the same log has the same one. The *overlay*
//! is a leader's: the table as it will be when its in-flight entries are applied; dropped with leadership.
//!
//! Producers are forgotten by entries that name them (`replica/expiry.rs`), and the table is bounded: the producer whose last
//! batch is oldest (by index) goes first. A forgotten producer that goes on is told `unknown_producer_id`; one that retries its
//! very first batch after it was forgotten would be taken for a new one.
//!
//! With the table goes the log start as of the same entry: the file that holds the table says from where a start replays, so
//! whatever else follows from older entries must stand beside it.

use crate::payload::Expired;
use bytes::Bytes;
use dlog_core::batch::{BatchHeader, ProducerSequence};
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogIndex, Offset, ProducerId};
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};

/// The version of the table's encoding.
const TABLE_VERSION: u32 = 1;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownBatch {
    first_sequence: i32,
    last_sequence: i32,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) index: LogIndex,
}

/// One producer: its epoch, and its last batches in order.
///
/// Invariant: 1 to [`PRODUCER_WINDOW_BATCHES`] batches, indexes and offsets rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: i16,
    batches: VecDeque<KnownBatch>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is the next one.
    Append,
    /// It was appended before.
    Duplicate(KnownBatch),
}

/// Why a batch can't be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SequenceError {
    #[error(
        "sequence {expected} is due, the batch begins with {found}; batches before it are missing, or it is older than the last {PRODUCER_WINDOW_BATCHES}"
    )]
    OutOfOrder { expected: i32, found: i32 },
    #[error("a newer instance of this producer has epoch {current}, the batch has {found}; close this producer")]
    Epoch { current: i16, found: i16 },
    #[error(
        "the partition does not remember this producer, and the batch begins with sequence {found}; take a new epoch and begin with 0"
    )]
    Unknown { found: i32 },
}

/// Decides on a batch of `count` records, given what is known of its producer.
fn decide(known: Option<&Producer>, batch: ProducerSequence, count: u32) -> Result<Decision, SequenceError> {
    let found = batch.base_sequence;
    if mutants::is(Mutant::SequenceUnchecked) {
        return Ok(Decision::Append);
    }
    let Some(producer) = known else {
        return if found == 0 { Ok(Decision::Append) } else { Err(SequenceError::Unknown { found }) };
    };
    if batch.epoch < producer.epoch {
        return Err(SequenceError::Epoch { current: producer.epoch, found: batch.epoch });
    }
    if batch.epoch > producer.epoch {
        return if found == 0 { Ok(Decision::Append) } else { Err(SequenceError::OutOfOrder { expected: 0, found }) };
    }
    let last = last_sequence(found, count);
    let same = |known: &&KnownBatch| known.first_sequence == found && known.last_sequence == last;
    if let Some(original) = producer.batches.iter().rev().find(same) {
        return Ok(Decision::Duplicate(*original));
    }
    let expected = producer.batches.back().map_or(0, |newest| ProducerSequence::advance(newest.last_sequence, 1));
    if found == expected { Ok(Decision::Append) } else { Err(SequenceError::OutOfOrder { expected, found }) }
}

fn last_sequence(first: i32, count: u32) -> i32 {
    ProducerSequence::advance(first, count.saturating_sub(1))
}

impl Producer {
    /// What is known after a batch at `base_offset`, entry `index`, is appended.
    fn with(
        known: Option<&Producer>,
        batch: ProducerSequence,
        count: u32,
        base_offset: Offset,
        index: LogIndex,
    ) -> Producer {
        let mut producer = match known {
            Some(producer) if producer.epoch == batch.epoch => producer.clone(),
            _ => Producer { epoch: batch.epoch, batches: VecDeque::with_capacity(PRODUCER_WINDOW_BATCHES) },
        };
        if producer.batches.len() == PRODUCER_WINDOW_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(KnownBatch {
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch.base_sequence, count),
            base_offset,
            last_offset: base_offset.plus(u64::from(count.saturating_sub(1))),
            index,
        });
        producer
    }

    fn last_index(&self) -> LogIndex {
        self.batches.back().map_or(LogIndex::ZERO, |batch| batch.index)
    }
}

/// The table that follows from the log up to one index.
///
/// Invariant: `by_age` names each producer once, under the index of its last batch; at most `max` producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerTable {
    max: usize,
    log_start: Offset,
    producers: BTreeMap<ProducerId, Producer>,
    by_age: BTreeMap<LogIndex, ProducerId>,
}

/// Why bytes are not a producer table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    #[error("{0}")]
    Encoding(String),
    #[error("version {0} is not known")]
    Version(u32),
    #[error("producer {0} is not valid")]
    Producer(i64),
    #[error("log start {0} is out of range")]
    LogStart(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct TableProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    producers: Vec<ProducerProto>,
    #[prost(uint64, tag = "3")]
    log_start: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProducerProto {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int32, tag = "2")]
    epoch: i32,
    #[prost(message, repeated, tag = "3")]
    batches: Vec<BatchProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchProto {
    #[prost(int32, tag = "1")]
    first_sequence: i32,
    #[prost(uint32, tag = "2")]
    count: u32,
    #[prost(uint64, tag = "3")]
    base_offset: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
}

impl ProducerTable {
    pub(crate) fn new(max: usize) -> ProducerTable {
        ProducerTable { max, log_start: Offset::ZERO, producers: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    /// The log start as of the table's entry.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// A committed move of the log start.
    pub(crate) fn move_log_start(&mut self, to: Offset) {
        self.log_start = self.log_start.max(to);
    }

    /// Producers whose last batch is at or below `through`, oldest first, at most `most`.
    pub(crate) fn silent(&self, through: LogIndex, most: usize) -> Vec<Expired> {
        let old = self.by_age.range(..=through).take(most);
        old.map(|(last_index, id)| Expired { id: *id, last_index: *last_index }).collect()
    }

    /// A committed expiry: who has appended nothing since is forgotten.
    pub(crate) fn expire(&mut self, expired: &[Expired]) {
        for producer in expired {
            if self.by_age.get(&producer.last_index) == Some(&producer.id) {
                self.by_age.remove(&producer.last_index);
                self.producers.remove(&producer.id);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.forget_oldest();
    }

    /// A committed batch at entry `index`.
    pub(crate) fn apply(&mut self, header: &BatchHeader, index: LogIndex) {
        let Some(batch) = header.producer() else { return };
        let known = self.producers.get(&batch.id);
        if let Some(known) = known {
            self.by_age.remove(&known.last_index());
        }
        let producer = Producer::with(known, batch, header.record_count, header.base_offset, index);
        self.producers.insert(batch.id, producer);
        self.by_age.insert(index, batch.id);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while self.producers.len() > self.max {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.producers.remove(&oldest);
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let batch = |known: &KnownBatch| BatchProto {
            first_sequence: known.first_sequence,
            count: known.last_offset.since(known.base_offset) as u32 + 1,
            base_offset: known.base_offset.0,
            index: known.index.0,
        };
        let producers = self.producers.iter().map(|(id, producer)| ProducerProto {
            id: id.0,
            epoch: i32::from(producer.epoch),
            batches: producer.batches.iter().map(batch).collect(),
        });
        let log_start = self.log_start.0;
        Bytes::from(TableProto { version: TABLE_VERSION, producers: producers.collect(), log_start }.encode_to_vec())
    }

    /// Reads what [`ProducerTable::encode`] wrote; checks all that the types promise.
    pub(crate) fn decode(bytes: &[u8], max: usize) -> Result<ProducerTable, TableError> {
        let proto = TableProto::decode(bytes).map_err(|error| TableError::Encoding(error.to_string()))?;
        if proto.version != TABLE_VERSION {
            return Err(TableError::Version(proto.version));
        }
        if proto.log_start > Offset::MAX.0 {
            return Err(TableError::LogStart(proto.log_start));
        }
        let mut table = ProducerTable::new(max);
        table.log_start = Offset(proto.log_start);
        for encoded in proto.producers {
            let id = encoded.id;
            let producer = decode_producer(encoded).ok_or(TableError::Producer(id))?;
            let age = table.by_age.insert(producer.last_index(), ProducerId(id));
            if age.is_some() || table.producers.insert(ProducerId(id), producer).is_some() {
                return Err(TableError::Producer(id));
            }
        }
        table.forget_oldest();
        Ok(table)
    }
}

fn decode_producer(proto: ProducerProto) -> Option<Producer> {
    let epoch = i16::try_from(proto.epoch).ok().filter(|epoch| *epoch >= 0 && proto.id >= 0)?;
    let mut batches: VecDeque<KnownBatch> = VecDeque::new();
    for batch in proto.batches {
        let last_offset = batch.base_offset.checked_add(u64::from(batch.count.checked_sub(1)?))?;
        let known = KnownBatch {
            first_sequence: batch.first_sequence,
            last_sequence: last_sequence(batch.first_sequence, batch.count),
            base_offset: Offset(batch.base_offset),
            last_offset: Offset(last_offset),
            index: LogIndex(batch.index),
        };
        let rises = batches.back().is_none_or(|last| last.index < known.index && last.last_offset < known.base_offset);
        if batch.first_sequence < 0 || last_offset > Offset::MAX.0 || !rises {
            return None;
        }
        batches.push_back(known);
    }
    (1..=PRODUCER_WINDOW_BATCHES).contains(&batches.len()).then_some(Producer { epoch, batches })
}

/// Table and overlay of one replica.
pub(crate) struct Producers {
    table: ProducerTable,
    overlay: BTreeMap<ProducerId, Producer>,
    /// What the overlay had before each change since the last [`Producers::keep`].
    undo: Vec<(ProducerId, Option<Producer>)>,
}

impl Producers {
    pub(crate) fn new(table: ProducerTable) -> Producers {
        Producers { table, overlay: BTreeMap::new(), undo: Vec::new() }
    }

    pub(crate) fn table(&self) -> &ProducerTable {
        &self.table
    }

    /// A snapshot's table takes the place of what was known. Only of a follower.
    pub(crate) fn install(&mut self, table: ProducerTable) {
        self.drop_overlay();
        self.table = table;
    }

    /// A committed move of the log start.
    pub(crate) fn move_log_start(&mut self, to: Offset) {
        self.table.move_log_start(to);
    }

    /// A committed expiry.
    pub(crate) fn expire(&mut self, expired: &[Expired]) {
        self.table.expire(expired);
    }

    /// Those that a leader may have forgotten: silent since `through`, with nothing in flight.
    pub(crate) fn silent(&self, through: LogIndex, most: usize) -> Vec<Expired> {
        let mut silent = self.table.silent(through, most);
        silent.retain(|producer| !self.overlay.contains_key(&producer.id));
        silent.sort_unstable_by_key(|producer| producer.id);
        silent
    }

    fn known(&self, id: ProducerId) -> Option<&Producer> {
        self.overlay.get(&id).or_else(|| self.table.producers.get(&id))
    }

    /// A leader decides on a batch, and notes it in the overlay if it is to be appended as entry `index`.
    pub(crate) fn admit(
        &mut self,
        batch: ProducerSequence,
        count: u32,
        base_offset: Offset,
        index: LogIndex,
    ) -> Result<Decision, SequenceError> {
        let known = self.known(batch.id);
        let decision = decide(known, batch, count)?;
        if decision == Decision::Append && !mutants::is(Mutant::NoOverlay) {
            let producer = Producer::with(known, batch, count, base_offset, index);
            let before = self.overlay.insert(batch.id, producer);
            self.undo.push((batch.id, before));
        }
        Ok(decision)
    }

    /// How many changes can be undone: a mark for [`Producers::undo_to`].
    pub(crate) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// The overlay is as it was at `mark`.
    pub(crate) fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some((id, Some(before))) => drop(self.overlay.insert(id, before)),
                Some((id, None)) => drop(self.overlay.remove(&id)),
                None => break,
            }
        }
    }

    /// The changes stay.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// A committed batch at entry `index`.
    pub(crate) fn apply(&mut self, header: &BatchHeader, index: LogIndex) {
        self.table.apply(header, index);
        let Some(batch) = header.producer() else { return };
        if self.overlay.get(&batch.id).is_some_and(|producer| producer.last_index() <= index) {
            self.overlay.remove(&batch.id);
        }
    }

    /// Leadership is lost: nothing is in flight any more.
    pub(crate) fn drop_overlay(&mut self) {
        self.overlay.clear();
        self.undo.clear();
    }
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
