//! The workload's batches: each is different from all others, so that a log tells what it holds.

use crate::trace::fingerprint;
use bytes::Bytes;
use dlog_core::batch::BATCH_HEADER_BYTES;
use dlog_core::{BatchBuilder, Codec, ProducerId, Record, TimestampMs};

/// A batch and how to find it again in a log.
#[derive(Clone, Debug)]
pub struct Made {
    /// As a producer sends it.
    pub bytes: Bytes,
    /// The fingerprint of its records, which no stamp of a leader changes.
    pub key: u64,
    /// How many.
    pub records: u32,
}

/// The fingerprint of a batch's records.
pub fn key_of(batch: &[u8]) -> u64 {
    fingerprint(&batch[BATCH_HEADER_BYTES..])
}

/// Batch `number` of `producer`; `sequence` is for an idempotent one.
pub fn make(
    random: &mut fastrand::Rng,
    producer: usize,
    number: u64,
    sequence: Option<(ProducerId, i32)>,
    value_bytes_max: usize,
) -> Made {
    let codec = [Codec::None, Codec::None, Codec::None, Codec::Lz4][random.usize(0..4)];
    let mut builder = BatchBuilder::new(codec);
    if let Some((id, base_sequence)) = sequence {
        builder = builder.producer(id, 0, base_sequence);
    }
    let records = random.u32(1..=4);
    for record in 0..records {
        let key = Bytes::from(format!("producer {producer} batch {number} record {record}"));
        let value = vec![random.u8(..); random.usize(0..=value_bytes_max)];
        let timestamp = TimestampMs(1_000_000 + number as i64);
        let record = Record { timestamp, key: Some(key), value: Some(Bytes::from(value)), headers: Vec::new() };
        builder.push(&record).expect("records of the workload are small");
    }
    let bytes = builder.build().expect("a batch of the workload is small");
    Made { key: key_of(&bytes), bytes, records }
}
