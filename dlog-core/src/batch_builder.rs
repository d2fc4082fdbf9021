//! [`BatchBuilder`]: makes a batch of records, always below a size known beforehand.

use crate::batch::{Attributes, BATCH_CRC_START, BATCH_HEADER_BYTES, BATCH_LENGTH_END};
use crate::batch::{BatchError, BatchHeader, ProducerSequence, TimestampType};
use crate::limits::{BATCH_BYTES_MAX, RECORDS_PER_BATCH_MAX};
use crate::{Codec, CodecError, Offset, ProducerId, Record, TimestampMs, varint};
use bytes::Bytes;

/// Collects records in their encoded form and makes a batch of them.
///
/// Invariants: `bytes` begins with room for the header and is at most [`BATCH_BYTES_MAX`] long, so every batch built is
/// within the bounds of readers, decompressed or not; the time stamps are set once there is a record.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    producer: Option<ProducerSequence>,
    bytes: Vec<u8>,
    records: u32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed with `codec`.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            producer: None,
            bytes: vec![0; BATCH_HEADER_BYTES],
            records: 0,
            base_timestamp: TimestampMs::NONE,
            max_timestamp: TimestampMs::NONE,
        }
    }

    /// With the sequence of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.set_producer(Some(ProducerSequence { id, epoch, base_sequence }));
        self
    }

    /// Sets or takes away the producer's sequence: it may be known only when the batch is closed.
    pub fn set_producer(&mut self, producer: Option<ProducerSequence>) {
        self.producer = producer;
    }

    /// Adds a record. On an error the batch is as before.
    ///
    /// # Errors
    /// [`BatchError::TooManyRecords`] and [`BatchError::TooLarge`]: build this batch, and push the record into the next;
    /// [`BatchError::Record`]: no batch can hold it, or not together with the first record's time stamp.
    pub fn push(&mut self, record: &Record) -> Result<(), BatchError> {
        let number = self.records;
        record.check().map_err(|error| BatchError::Record { number, error })?;
        if number >= RECORDS_PER_BATCH_MAX {
            return Err(BatchError::TooManyRecords { records: number + 1, max: RECORDS_PER_BATCH_MAX });
        }
        let delta =
            self.timestamp_delta(record).ok_or(BatchError::Record { number, error: crate::RecordError::Timestamp })?;
        let body_bytes = record.body_bytes(delta, i64::from(number));
        let bytes = self.bytes.len() + varint::encoded_bytes(body_bytes as i64) + body_bytes;
        if bytes > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes, max: BATCH_BYTES_MAX });
        }
        if number == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        record.encode(&mut self.bytes, body_bytes, delta, i64::from(number));
        self.records += 1;
        debug_assert_eq!(self.bytes.len(), bytes, "the size is known before the record is encoded");
        Ok(())
    }

    /// Bytes of the batch built now, at most; exactly without compression. Costs nothing.
    pub fn estimated_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What [`BatchBuilder::estimated_bytes`] would be with `record` added. Costs a look at the lengths in it.
    pub fn estimated_bytes_with(&self, record: &Record) -> usize {
        let body_bytes = record.body_bytes(self.timestamp_delta(record).unwrap_or(i64::MAX), i64::from(self.records));
        self.bytes.len() + varint::encoded_bytes(body_bytes as i64) + body_bytes
    }

    /// How many records it has.
    pub fn record_count(&self) -> u32 {
        self.records
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The batch, at offset 0 and without a leader's term. Where compression saves nothing, the records stay as they are and
    /// the batch says so: it never is larger than [`BatchBuilder::estimated_bytes`].
    ///
    /// # Errors
    /// [`BatchError::Empty`], or [`BatchError::Codec`] if the encoder fails, which takes a lack of memory.
    pub fn build(self) -> Result<Bytes, BatchError> {
        if self.records == 0 {
            return Err(BatchError::Empty);
        }
        let (codec, mut bytes) = compressed(self.codec, self.bytes)?;
        let none = ProducerSequence { id: ProducerId(-1), epoch: -1, base_sequence: -1 };
        let producer = self.producer.unwrap_or(none);
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: (bytes.len() - BATCH_LENGTH_END) as u32,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes { codec, timestamp_type: TimestampType::Create, ..Attributes::default() },
            last_offset_delta: self.records - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.id.0,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.records,
        };
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc = crc32c::crc32c(&bytes[BATCH_CRC_START..]);
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        Ok(Bytes::from(bytes))
    }

    fn timestamp_delta(&self, record: &Record) -> Option<i64> {
        if self.records == 0 { Some(0) } else { record.timestamp.0.checked_sub(self.base_timestamp.0) }
    }
}

/// The batch with its records compressed, or as it was if that isn't smaller.
fn compressed(codec: Codec, bytes: Vec<u8>) -> Result<(Codec, Vec<u8>), CodecError> {
    if codec == Codec::None {
        return Ok((codec, bytes));
    }
    let mut smaller = Vec::with_capacity(bytes.len());
    smaller.resize(BATCH_HEADER_BYTES, 0);
    codec.compress(&bytes[BATCH_HEADER_BYTES..], &mut smaller)?;
    // A batch may wait in queues for long: it must not hold the room that compressing it took.
    smaller.shrink_to_fit();
    Ok(if smaller.len() < bytes.len() { (codec, smaller) } else { (Codec::None, bytes) })
}
