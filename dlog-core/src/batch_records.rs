//! The records inside a batch: reading them, and checking every one.

use crate::batch::{BATCH_HEADER_BYTES, BatchError, BatchHeader, BatchLimits, TimestampType, validate};
use crate::limits::decompressed_bytes_max;
use crate::record::RecordSpan;
use crate::{Codec, Offset, Record, TimestampMs};
use bytes::Bytes;

/// A record with its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRecord {
    /// Its offset in the partition.
    pub offset: Offset,
    /// The record. Its time stamp is the append time if the batch says so.
    pub record: Record,
}

/// The records of one batch, in order. Ends after the first error.
///
/// Invariants: `at <= bytes.len()`; `number <= header.record_count`.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    /// All records, decompressed.
    bytes: Bytes,
    at: usize,
    number: u32,
    failed: bool,
}

/// Reads the records of the one batch in `bytes`. Without compression they share `bytes` (and keep all of it in memory), else
/// they share one buffer of at most [`decompressed_bytes_max`].
///
/// The CRC is not checked here: do that first ([`validate`]) with bytes that nobody checked. Damaged bytes give errors or
/// other records, never a panic.
///
/// # Errors
/// [`BatchError`] if the header is wrong or the records can't be decompressed.
pub fn decode_records(bytes: &Bytes) -> Result<Records, BatchError> {
    let header = BatchHeader::decode(bytes)?;
    if header.total_bytes() != bytes.len() {
        return Err(BatchError::Length { said: header.total_bytes(), have: bytes.len() });
    }
    let records = match header.codec() {
        Codec::None => bytes.slice(BATCH_HEADER_BYTES..),
        codec => decompressed(codec, bytes)?.into(),
    };
    Ok(Records { header, bytes: records, at: 0, number: 0, failed: false })
}

/// [`validate`] within the hard bounds, and beyond it every record: that they decompress within the bounds, parse, stand at
/// offsets 0, 1, 2… of the batch, fill it exactly, and that the header has their greatest time stamp.
///
/// # Errors
/// [`BatchError`] says what is wrong, and in which record.
pub fn validate_records(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = validate(bytes, BatchLimits::HARD)?;
    let decompressed_bytes;
    let records = match header.codec() {
        Codec::None => &bytes[BATCH_HEADER_BYTES..],
        codec => {
            decompressed_bytes = decompressed(codec, bytes)?;
            &decompressed_bytes[..]
        }
    };
    let (mut at, mut newest) = (0, None);
    for number in 0..header.record_count {
        let (_, timestamp) = next_span(&header, records, &mut at, number)?;
        newest = newest.max(Some(timestamp));
    }
    expect_end(records, at)?;
    match newest {
        Some(found) if found != header.max_timestamp => {
            Err(BatchError::MaxTimestamp { stored: header.max_timestamp, found })
        }
        _ => Ok(header),
    }
}

fn decompressed(codec: Codec, batch: &[u8]) -> Result<Vec<u8>, BatchError> {
    let compressed = &batch[BATCH_HEADER_BYTES..];
    Ok(codec.decompress(compressed, decompressed_bytes_max(compressed.len()))?)
}

/// The next record's place and its time stamp.
fn next_span(
    header: &BatchHeader,
    records: &[u8],
    at: &mut usize,
    number: u32,
) -> Result<(RecordSpan, TimestampMs), BatchError> {
    let span = RecordSpan::parse(records, at).map_err(|error| BatchError::Record { number, error })?;
    if u32::try_from(span.offset_delta) != Ok(number) {
        return Err(BatchError::OffsetDelta { number, found: span.offset_delta });
    }
    let timestamp = match header.timestamp_type() {
        TimestampType::Append => header.max_timestamp,
        TimestampType::Create => header
            .base_timestamp
            .0
            .checked_add(span.timestamp_delta)
            .map(TimestampMs)
            .ok_or(BatchError::Record { number, error: crate::RecordError::Timestamp })?,
    };
    Ok((span, timestamp))
}

fn expect_end(records: &[u8], at: usize) -> Result<(), BatchError> {
    if at == records.len() { Ok(()) } else { Err(BatchError::Trailing(records.len() - at)) }
}

impl Records {
    /// The header of the batch that they are from.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Passes over records before `offset` without making them, so that the next one is at `offset` or later.
    ///
    /// # Errors
    /// As the iterator's; it then has ended.
    pub fn skip_to(&mut self, offset: Offset) -> Result<(), BatchError> {
        while !self.failed && self.number < self.header.record_count && self.offset() < offset {
            if let Err(error) = next_span(&self.header, &self.bytes, &mut self.at, self.number) {
                self.failed = true;
                return Err(error);
            }
            self.number += 1;
        }
        Ok(())
    }

    fn offset(&self) -> Offset {
        self.header.base_offset.plus(u64::from(self.number))
    }

    fn read(&mut self) -> Result<OffsetRecord, BatchError> {
        let (span, timestamp) = next_span(&self.header, &self.bytes, &mut self.at, self.number)?;
        // Checked with the last record, not after it, so that an error can't come when all seemed well.
        if self.number + 1 == self.header.record_count {
            expect_end(&self.bytes, self.at)?;
        }
        Ok(OffsetRecord { offset: self.offset(), record: span.record(&self.bytes, timestamp) })
    }
}

impl Iterator for Records {
    type Item = Result<OffsetRecord, BatchError>;

    fn next(&mut self) -> Option<Result<OffsetRecord, BatchError>> {
        if self.failed || self.number >= self.header.record_count {
            return None;
        }
        let item = self.read();
        self.failed = item.is_err();
        self.number += 1;
        Some(item)
    }

    /// No lower bound: the count in the header may be a lie, and collectors allocate by the lower bound.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.header.record_count - self.number) as usize))
    }
}

impl std::iter::FusedIterator for Records {}
