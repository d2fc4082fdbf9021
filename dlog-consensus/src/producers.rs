//! Which batches each producer has had appended: why a retry is told the first append's offset and never appended again.
//!
//! The *table* follows from the log alone: it is changed by applying entries, in order, and so is the same on every replica
//! at the same index. Above it a leader keeps an *overlay* of what it has proposed and not yet applied, dropped with
//! leadership.
//!
//! Encoding of the table, little-endian: version u16 (1), producers u32; for each by rising id: id i64, epoch i16, index of
//! its last batch u64, batches u8, then for each from old to new: first sequence i32, last sequence i32, base offset u64.
//! CRC32C of all before, u32.

use dlog_core::batch::ProducerSequence;
use dlog_core::error::ErrorCode;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{LogIndex, Offset, ProducerId};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

const VERSION: u16 = 1;

/// A batch that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    first: i32,
    last: i32,
    /// The offset of its first record.
    pub(crate) base_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_index: LogIndex,
    batches: VecDeque<Known>,
}

#[derive(Clone, Debug)]
struct InFlight {
    epoch: i16,
    index: LogIndex,
    batch: Known,
}

/// What is to be done with a producer's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Fresh,
    /// It stands in the log and is committed: these are its offsets.
    Duplicate { base_offset: Offset },
    /// It was proposed by this leader as the entry `index`; its fate is this one's.
    InFlight { base_offset: Offset, index: LogIndex },
    /// It can't be appended.
    Refused(ErrorCode, String),
}

/// The table and its overlay.
///
/// Invariants: at most `max` producers, the one whose last batch is oldest goes first; at most
/// [`PRODUCER_WINDOW_BATCHES`] batches of each, by rising sequence.
#[derive(Debug)]
pub(crate) struct Producers {
    table: BTreeMap<ProducerId, Producer>,
    /// The same producers by the index of their last batch.
    by_age: BTreeMap<LogIndex, ProducerId>,
    overlay: BTreeMap<ProducerId, VecDeque<InFlight>>,
    max: usize,
}

impl Producers {
    pub(crate) fn new(max: usize) -> Producers {
        Producers { table: BTreeMap::new(), by_age: BTreeMap::new(), overlay: BTreeMap::new(), max }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// What to do with a batch of `count` records.
    pub(crate) fn judge(&self, sequence: ProducerSequence, count: u32) -> Verdict {
        let (first, last) = (sequence.base_sequence, last_sequence(sequence.base_sequence, count));
        let in_flight = self.overlay.get(&sequence.id);
        let table = self.table.get(&sequence.id);
        let newest = in_flight.and_then(VecDeque::back);
        let epoch = newest.map(|f| f.epoch).or(table.map(|p| p.epoch));
        let Some(epoch) = epoch else {
            return match first {
                0 => Verdict::Fresh,
                _ => Verdict::Refused(
                    ErrorCode::UnknownProducerId,
                    format!("producer {} isn't known here (any more): begin again with sequence 0", sequence.id),
                ),
            };
        };
        if sequence.epoch < epoch {
            let text = format!("producer {} has epoch {epoch} by now; this batch is of epoch {}", sequence.id, sequence.epoch);
            return Verdict::Refused(ErrorCode::InvalidProducerEpoch, text);
        }
        if sequence.epoch > epoch {
            return match first {
                0 => Verdict::Fresh,
                _ => out_of_order(sequence, 0),
            };
        }
        let same = |known: &Known| known.first == first && known.last == last;
        if let Some(found) = in_flight.into_iter().flatten().find(|f| f.epoch == epoch && same(&f.batch)) {
            return Verdict::InFlight { base_offset: found.batch.base_offset, index: found.index };
        }
        let applied = table.filter(|p| p.epoch == epoch);
        if let Some(found) = applied.and_then(|p| p.batches.iter().find(|b| same(b))) {
            return Verdict::Duplicate { base_offset: found.base_offset };
        }
        let before = newest.filter(|f| f.epoch == epoch).map(|f| f.batch.last);
        let before = before.or_else(|| applied.and_then(|p| p.batches.back()).map(|b| b.last));
        let expected = before.map_or(0, |last| ProducerSequence::advance(last, 1));
        if first == expected { Verdict::Fresh } else { out_of_order(sequence, expected) }
    }

    /// A leader proposed the batch as the entry `index`.
    pub(crate) fn propose(&mut self, sequence: ProducerSequence, count: u32, base_offset: Offset, index: LogIndex) {
        let (first, last) = (sequence.base_sequence, last_sequence(sequence.base_sequence, count));
        let batch = Known { first, last, base_offset };
        self.overlay.entry(sequence.id).or_default().push_back(InFlight { epoch: sequence.epoch, index, batch });
    }

    /// The proposals from `index` on were not taken after all.
    pub(crate) fn retract(&mut self, from: LogIndex) {
        self.overlay.retain(|_, in_flight| {
            in_flight.retain(|f| f.index < from);
            !in_flight.is_empty()
        });
    }

    /// Leadership is gone: what was proposed is the log's business now.
    pub(crate) fn drop_overlay(&mut self) {
        self.overlay.clear();
    }

    /// The entry `index` with this batch is applied.
    pub(crate) fn apply(&mut self, sequence: ProducerSequence, count: u32, base_offset: Offset, index: LogIndex) {
        if let Some(in_flight) = self.overlay.get_mut(&sequence.id) {
            in_flight.retain(|f| f.index > index);
            if in_flight.is_empty() {
                self.overlay.remove(&sequence.id);
            }
        }
        let fresh = || Producer { epoch: sequence.epoch, last_index: index, batches: VecDeque::new() };
        let producer = self.table.entry(sequence.id).or_insert_with(fresh);
        self.by_age.remove(&producer.last_index);
        if producer.epoch != sequence.epoch {
            *producer = fresh();
        }
        producer.last_index = index;
        let last = last_sequence(sequence.base_sequence, count);
        producer.batches.push_back(Known { first: sequence.base_sequence, last, base_offset });
        if producer.batches.len() > PRODUCER_WINDOW_BATCHES {
            producer.batches.pop_front();
        }
        self.by_age.insert(index, sequence.id);
        while self.table.len() > self.max {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.table.remove(&oldest);
        }
    }

    /// The table's bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(16 + self.table.len() * 64);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.table.len() as u32).to_le_bytes());
        for (id, producer) in &self.table {
            bytes.extend(id.0.to_le_bytes());
            bytes.extend(producer.epoch.to_le_bytes());
            bytes.extend(producer.last_index.0.to_le_bytes());
            bytes.push(producer.batches.len() as u8);
            for batch in &producer.batches {
                bytes.extend(batch.first.to_le_bytes());
                bytes.extend(batch.last.to_le_bytes());
                bytes.extend(batch.base_offset.0.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        Bytes::from(bytes)
    }

    /// Reads a table; the overlay is empty.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8], max: usize) -> Result<Producers, String> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("too short")?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err("the checksum doesn't match".to_owned());
        }
        let mut rest = body;
        let version = u16::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(format!("version {version} isn't known"));
        }
        let mut producers = Producers::new(max);
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let id = ProducerId(i64::from_le_bytes(take(&mut rest)?));
            let epoch = i16::from_le_bytes(take(&mut rest)?);
            let last_index = LogIndex(u64::from_le_bytes(take(&mut rest)?));
            let [count] = take(&mut rest)?;
            let mut batches = VecDeque::new();
            for _ in 0..count {
                let (first, last) = (i32::from_le_bytes(take(&mut rest)?), i32::from_le_bytes(take(&mut rest)?));
                batches.push_back(Known { first, last, base_offset: Offset(u64::from_le_bytes(take(&mut rest)?)) });
            }
            producers.by_age.insert(last_index, id);
            producers.table.insert(id, Producer { epoch, last_index, batches });
        }
        if !rest.is_empty() || producers.by_age.len() != producers.table.len() {
            return Err("the count of producers is wrong".to_owned());
        }
        Ok(producers)
    }
}

fn last_sequence(first: i32, count: u32) -> i32 {
    ProducerSequence::advance(first, count.saturating_sub(1))
}

fn out_of_order(sequence: ProducerSequence, expected: i32) -> Verdict {
    let text = format!(
        "producer {} sent sequence {} where {expected} is due: a batch before it is missing",
        sequence.id, sequence.base_sequence
    );
    Verdict::Refused(ErrorCode::OutOfOrderSequence, text)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or("it ends too early")?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(id: i64, epoch: i16, base_sequence: i32) -> ProducerSequence {
        ProducerSequence { id: ProducerId(id), epoch, base_sequence }
    }

    #[test]
    fn a_retry_is_known_in_flight_and_after() {
        let mut producers = Producers::new(10);
        let first = sequence(1, 0, 0);
        assert_eq!(producers.judge(first, 3), Verdict::Fresh);
        producers.propose(first, 3, Offset(10), LogIndex(5));
        assert_eq!(producers.judge(first, 3), Verdict::InFlight { base_offset: Offset(10), index: LogIndex(5) });
        assert_eq!(producers.judge(sequence(1, 0, 3), 1), Verdict::Fresh, "the next one follows what is in flight");
        producers.apply(first, 3, Offset(10), LogIndex(5));
        assert_eq!(producers.judge(first, 3), Verdict::Duplicate { base_offset: Offset(10) });
        assert!(matches!(producers.judge(sequence(1, 0, 4), 1), Verdict::Refused(ErrorCode::OutOfOrderSequence, _)));
    }

    #[test]
    fn epochs_fence() {
        let mut producers = Producers::new(10);
        producers.apply(sequence(1, 2, 0), 1, Offset(0), LogIndex(1));
        assert!(matches!(producers.judge(sequence(1, 1, 1), 1), Verdict::Refused(ErrorCode::InvalidProducerEpoch, _)));
        assert!(matches!(producers.judge(sequence(1, 3, 1), 1), Verdict::Refused(ErrorCode::OutOfOrderSequence, _)));
        assert_eq!(producers.judge(sequence(1, 3, 0), 1), Verdict::Fresh);
        assert!(matches!(producers.judge(sequence(9, 0, 7), 1), Verdict::Refused(ErrorCode::UnknownProducerId, _)));
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::new(10);
        producers.apply(sequence(1, 0, i32::MAX - 1), 2, Offset(0), LogIndex(1));
        assert_eq!(producers.judge(sequence(1, 0, 0), 1), Verdict::Fresh);
    }

    #[test]
    fn a_retraction_forgets_the_overlay_alone() {
        let mut producers = Producers::new(10);
        producers.propose(sequence(1, 0, 0), 1, Offset(0), LogIndex(1));
        producers.propose(sequence(1, 0, 1), 1, Offset(1), LogIndex(2));
        producers.retract(LogIndex(2));
        assert_eq!(producers.judge(sequence(1, 0, 1), 1), Verdict::Fresh);
        producers.drop_overlay();
        assert_eq!(producers.judge(sequence(1, 0, 0), 1), Verdict::Fresh);
    }

    proptest! {
        #[test]
        fn the_table_survives_its_bytes(
            batches in proptest::collection::vec((0i64..20, 0i16..3, 0i32..100, 1u32..10), 0..200)
        ) {
            let mut producers = Producers::new(8);
            for (index, (id, epoch, first, count)) in (1u64..).zip(batches) {
                producers.apply(sequence(id, epoch, first), count, Offset(index * 10), LogIndex(index));
                prop_assert!(producers.len() <= 8);
            }
            let bytes = producers.encode();
            let again = Producers::decode(&bytes, 8).expect("own bytes");
            prop_assert_eq!(&again.table, &producers.table);
            prop_assert_eq!(&again.by_age, &producers.by_age);
            prop_assert_eq!(again.encode(), bytes);
        }

        #[test]
        fn damaged_bytes_are_refused(flip in any::<proptest::sample::Index>()) {
            let mut producers = Producers::new(8);
            producers.apply(sequence(1, 0, 0), 1, Offset(0), LogIndex(1));
            let mut bytes = producers.encode().to_vec();
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Producers::decode(&bytes, 8).is_err());
        }
    }
}
