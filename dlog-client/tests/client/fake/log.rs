//! One partition of the fake: batches, and what it knows of its producers.

use super::text;
use bytes::Bytes;
use dlog_core::batch::stamp;
use dlog_core::{BatchHeader, ErrorCode, Offset, Term};
use std::collections::BTreeMap;

/// One partition.
#[derive(Default, Clone)]
pub struct FakeLog {
    pub batches: Vec<Bytes>,
    producers: BTreeMap<i64, FakeProducer>,
}

#[derive(Clone)]
struct FakeProducer {
    epoch: i16,
    next: i32,
    known: Vec<(i32, u64, u64)>,
}

impl FakeLog {
    pub fn end(&self) -> u64 {
        self.batches.last().map_or(0, |batch| BatchHeader::decode(batch).expect("own").next_offset().0)
    }

    /// Appends, or finds the first append of the same sequence.
    pub fn append(&mut self, batch: &Bytes) -> Result<(u64, u64, bool), ErrorCode> {
        let header = BatchHeader::decode(batch).expect("the client sends batches");
        let (base, end) = (self.end(), self.end() + u64::from(header.record_count));
        if let Some(sequence) = header.producer() {
            let fresh = || FakeProducer { epoch: sequence.epoch, next: 0, known: Vec::new() };
            let producer = self.producers.entry(sequence.id.0).or_insert_with(fresh);
            if sequence.epoch < producer.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if sequence.epoch > producer.epoch {
                *producer = fresh();
            }
            if let Some((_, base, last)) = producer.known.iter().find(|(base, ..)| *base == sequence.base_sequence) {
                return Ok((*base, *last, true));
            }
            if sequence.base_sequence != producer.next {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            producer.next += header.record_count as i32;
            producer.known.push((sequence.base_sequence, base, end - 1));
        }
        self.batches.push(stamp(batch, Offset(base), Term(1), None));
        Ok((base, end - 1, false))
    }

    /// Appends a batch of these values.
    pub fn fill(&mut self, values: &[&str]) {
        let mut builder = dlog_core::BatchBuilder::new(dlog_core::Codec::None);
        for value in values {
            let record = dlog_core::Record::new(dlog_core::TimestampMs(1), value.as_bytes().to_vec());
            builder.push(&record).expect("fits");
        }
        self.append(&builder.build().expect("records")).expect("no sequence");
    }

    pub fn values(&self) -> Vec<String> {
        let decoded = self.batches.iter().flat_map(|batch| dlog_core::batch::decode_records(batch).expect("own"));
        decoded.map(|record| text(record.expect("own").record.value)).collect()
    }
}
