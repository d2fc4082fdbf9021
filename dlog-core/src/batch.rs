//! The record batch: Kafka's RecordBatch v2, byte for byte. The same bytes are what a producer sends, a frame holds, and a
//! reader gets.
//!
//! ```text
//! position  size  field (all big-endian)
//!        0     8  base offset, i64: the leader's
//!        8     4  bytes that follow this field, i32
//!       12     4  partition leader epoch, i32: the leader's term
//!       16     1  magic, 2
//!       17     4  CRC32C over bytes 21 to the end
//!       21     2  attributes: bits 0-2 codec, 3 time stamps are append times, 4 transactional, 5 control, 6 base time stamp
//!                 is the delete horizon, 7-15 zero
//!       23     4  last offset, less the base offset, i32
//!       27     8  base time stamp, i64, milliseconds
//!       35     8  greatest time stamp, i64
//!       43     8  producer id, i64, -1 without one
//!       51     2  producer epoch, i16
//!       53     4  base sequence, i32
//!       57     4  records, i32
//!       61        the records, compressed together if the codec says so (see crate::record)
//! ```
//!
//! Base offset and epoch stand outside the CRC, so the leader stamps them without hashing again.

use crate::limits::{BATCH_BYTES_MAX, RECORD_BYTES_MIN, RECORDS_PER_BATCH_MAX, decompressed_bytes_max};
use crate::{Codec, Offset, ProducerId, Term, TimestampMs};
use bytes::Bytes;

pub use crate::batch_builder::BatchBuilder;
pub use crate::batch_error::BatchError;
pub use crate::batch_records::{OffsetRecord, Records, decode_records, validate_records};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch up to and with its length field: what must be read to know how long it is.
pub const BATCH_LENGTH_END: usize = 12;
/// Where the bytes begin that a batch's CRC covers.
pub const BATCH_CRC_START: usize = 21;
/// The only version of the format that is taken.
pub const BATCH_MAGIC: i8 = 2;

/// Who says what the time stamps of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer: each record has its own.
    #[default]
    Create,
    /// The leader: all records have the batch's greatest time stamp.
    Append,
}

/// The attributes of a batch. Bits 7 to 15 are reserved and always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes {
    /// How the records are compressed.
    pub codec: Codec,
    /// What the time stamps mean.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub transactional: bool,
    /// A marker that only a coordinator writes.
    pub control: bool,
    /// The base time stamp says when tombstones may go; only compaction writes that.
    pub delete_horizon: bool,
}

impl Attributes {
    const APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;
    const KNOWN: i16 = 0x7f;

    /// The number in the batch's header.
    pub const fn to_bits(self) -> i16 {
        let mut bits = self.codec.number() as i16;
        if matches!(self.timestamp_type, TimestampType::Append) {
            bits |= Attributes::APPEND_TIME;
        }
        if self.transactional {
            bits |= Attributes::TRANSACTIONAL;
        }
        if self.control {
            bits |= Attributes::CONTROL;
        }
        if self.delete_horizon {
            bits |= Attributes::DELETE_HORIZON;
        }
        bits
    }

    /// Reads the number in a batch's header; `None` if a reserved bit is set or the codec is unknown.
    pub const fn from_bits(bits: i16) -> Option<Attributes> {
        if bits & !Attributes::KNOWN != 0 {
            return None;
        }
        let Some(codec) = Codec::from_number((bits & 7) as u8) else { return None };
        let append = bits & Attributes::APPEND_TIME != 0;
        Some(Attributes {
            codec,
            timestamp_type: if append { TimestampType::Append } else { TimestampType::Create },
            transactional: bits & Attributes::TRANSACTIONAL != 0,
            control: bits & Attributes::CONTROL != 0,
            delete_horizon: bits & Attributes::DELETE_HORIZON != 0,
        })
    }
}

/// What an idempotent producer says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSequence {
    /// The producer; not negative.
    pub id: ProducerId,
    /// Its instance; not negative.
    pub epoch: i16,
    /// The sequence number of the batch's first record; not negative.
    pub base_sequence: i32,
}

impl ProducerSequence {
    /// The sequence number `count` records after `sequence`: after `i32::MAX` comes 0, as in Kafka.
    pub const fn advance(sequence: i32, count: u32) -> i32 {
        ((sequence as i64 + count as i64) & i32::MAX as i64) as i32
    }
}

/// The fixed part of a batch.
///
/// Invariants (checked by [`BatchHeader::decode`]): the lengths and counts are not negative, `batch_length` covers at least
/// the header, base offset and producer id are in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; whatever the producer wrote until the leader stamps it.
    pub base_offset: Offset,
    /// Bytes behind the length field; see [`BatchHeader::total_bytes`].
    pub batch_length: u32,
    /// The leader's term as stamped; -1 before.
    pub leader_epoch: i32,
    /// CRC32C over bytes 21 to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last record's offset, less `base_offset`.
    pub last_offset_delta: u32,
    /// What the records' time stamps are relative to.
    pub base_timestamp: TimestampMs,
    /// The greatest time stamp of a record.
    pub max_timestamp: TimestampMs,
    /// -1 without one; see [`BatchHeader::producer`].
    pub producer_id: i64,
    /// Means nothing without a producer id.
    pub producer_epoch: i16,
    /// Means nothing without a producer id.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: u32,
}

/// The bounds that a batch must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of the whole batch.
    pub bytes: usize,
    /// Records in it.
    pub records: u32,
}

impl BatchLimits {
    /// The bounds that hold whatever a topic says.
    pub const HARD: BatchLimits = BatchLimits { bytes: BATCH_BYTES_MAX, records: RECORDS_PER_BATCH_MAX };

    /// The bounds of a topic with this `max.batch.bytes`.
    pub const fn of_topic(max_batch_bytes: usize) -> BatchLimits {
        let bytes = if max_batch_bytes < BATCH_BYTES_MAX { max_batch_bytes } else { BATCH_BYTES_MAX };
        BatchLimits { bytes, records: RECORDS_PER_BATCH_MAX }
    }
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits::HARD
    }
}

impl BatchHeader {
    /// Reads the fixed part and checks each field for itself. Bytes behind it may be missing; the CRC is not checked.
    ///
    /// # Errors
    /// [`BatchError::Short`], [`BatchError::Magic`], [`BatchError::Attributes`], [`BatchError::Field`].
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(fixed) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Short { needed: BATCH_HEADER_BYTES, have: bytes.len() });
        };
        let i16_at = |at: usize| i16::from_be_bytes(fixed[at..at + 2].try_into().expect("two bytes"));
        let i32_at = |at: usize| i32::from_be_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
        let i64_at = |at: usize| i64::from_be_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
        let count_at = |at: usize, field: &'static str| {
            let value = i32_at(at);
            u32::try_from(value).map_err(|_| BatchError::Field { field, value: i64::from(value) })
        };
        // The magic first: in other versions the fields behind it stand elsewhere.
        if fixed[16] as i8 != BATCH_MAGIC {
            return Err(BatchError::Magic(fixed[16] as i8));
        }
        let attributes = Attributes::from_bits(i16_at(21)).ok_or(BatchError::Attributes(i16_at(21)))?;
        let base_offset = i64_at(0);
        let base_offset = u64::try_from(base_offset)
            .map_err(|_| BatchError::Field { field: "base offset", value: base_offset })
            .map(Offset)?;
        let header = BatchHeader {
            base_offset,
            batch_length: count_at(8, "length")?,
            leader_epoch: i32_at(12),
            crc: i32_at(17) as u32,
            attributes,
            last_offset_delta: count_at(23, "last offset delta")?,
            base_timestamp: TimestampMs(i64_at(27)),
            max_timestamp: TimestampMs(i64_at(35)),
            producer_id: i64_at(43),
            producer_epoch: i16_at(51),
            base_sequence: i32_at(53),
            record_count: count_at(57, "record count")?,
        };
        header.check_fields()?;
        Ok(header)
    }

    /// The rules for single fields: the struct's invariants.
    fn check_fields(&self) -> Result<(), BatchError> {
        let field = |field: &'static str, value: i64| Err(BatchError::Field { field, value });
        if self.total_bytes() < BATCH_HEADER_BYTES {
            return field("length", i64::from(self.batch_length));
        }
        if self.producer_id < -1 {
            return field("producer id", self.producer_id);
        }
        // Without a producer id clients differ in what they write into the other two.
        if self.producer_id >= 0 && self.producer_epoch < 0 {
            return field("producer epoch", i64::from(self.producer_epoch));
        }
        if self.producer_id >= 0 && self.base_sequence < 0 && !self.attributes.control {
            return field("base sequence", i64::from(self.base_sequence));
        }
        if self.attributes.transactional && self.producer_id < 0 {
            return field("producer id of a transaction", self.producer_id);
        }
        Ok(())
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0u8; BATCH_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16] = BATCH_MAGIC as u8;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_bits().to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub const fn total_bytes(&self) -> usize {
        BATCH_LENGTH_END + self.batch_length as usize
    }

    /// The offset after the last record.
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64 + 1)
    }

    /// The term of the leader that stamped it; `None` before.
    pub fn term(&self) -> Option<Term> {
        u64::try_from(self.leader_epoch).ok().map(Term)
    }

    /// How the records are compressed.
    pub const fn codec(&self) -> Codec {
        self.attributes.codec
    }

    /// What the time stamps mean.
    pub const fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type
    }

    /// Whether it is part of a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes.transactional
    }

    /// Whether it is a coordinator's marker.
    pub const fn is_control(&self) -> bool {
        self.attributes.control
    }

    /// Producer, epoch and sequence, if the producer is idempotent.
    pub const fn producer(&self) -> Option<ProducerSequence> {
        if self.producer_id < 0 {
            return None;
        }
        let id = ProducerId(self.producer_id);
        Some(ProducerSequence { id, epoch: self.producer_epoch, base_sequence: self.base_sequence })
    }

    /// Whether a client of this version may write such a batch: what admission asks beside [`validate`].
    ///
    /// # Errors
    /// [`BatchError::NotProducible`] for markers, transactions and compaction's batches.
    pub fn check_producible(&self) -> Result<(), BatchError> {
        if self.attributes.control {
            return Err(BatchError::NotProducible("control markers"));
        }
        if self.attributes.transactional {
            return Err(BatchError::NotProducible("part of a transaction"));
        }
        if self.attributes.delete_horizon {
            return Err(BatchError::NotProducible("marked by compaction"));
        }
        Ok(())
    }

    /// The number of records against the rest of the header.
    fn check_counts(&self, limits: BatchLimits) -> Result<(), BatchError> {
        let records = self.record_count;
        if records > limits.records {
            return Err(BatchError::TooManyRecords { records, max: limits.records });
        }
        let body = self.total_bytes() - BATCH_HEADER_BYTES;
        let room = if self.codec() == Codec::None { body } else { decompressed_bytes_max(body) };
        let agrees = records > 0 && records == self.last_offset_delta.saturating_add(1);
        if !agrees || records as usize > room / RECORD_BYTES_MIN {
            return Err(BatchError::Count { records, last_offset_delta: self.last_offset_delta });
        }
        Ok(())
    }
}

/// Checks that `bytes` are exactly one batch, within `limits`, and match their CRC. The records are hashed, but neither
/// decompressed nor parsed ([`validate_records`] does that): one pass over the bytes, no allocation.
///
/// # Errors
/// [`BatchError`] says what is wrong.
pub fn validate(bytes: &[u8], limits: BatchLimits) -> Result<BatchHeader, BatchError> {
    if bytes.len() > limits.bytes {
        return Err(BatchError::TooLarge { bytes: bytes.len(), max: limits.bytes });
    }
    let header = BatchHeader::decode(bytes)?;
    if header.total_bytes() != bytes.len() {
        return Err(BatchError::Length { said: header.total_bytes(), have: bytes.len() });
    }
    header.check_counts(limits)?;
    let found = crc32c::crc32c(&bytes[BATCH_CRC_START..]);
    if found != header.crc {
        return Err(BatchError::Checksum { found, stored: header.crc });
    }
    Ok(header)
}

/// A copy of a valid batch with its place in the log written in: the one deliberate copy on a batch's way, into a buffer of
/// its exact size. The CRC is computed again only if an append time is written.
///
/// A term above `i32::MAX` is written as `i32::MAX`, since Kafka's field has no more bits; the frame has the true one.
///
/// # Panics
/// If `bytes` is shorter than a batch's header, or `base_offset` is greater than [`Offset::MAX`].
pub fn stamp(bytes: &[u8], base_offset: Offset, term: Term, append_time: Option<TimestampMs>) -> Bytes {
    let mut copy = bytes.to_vec();
    stamp_in_place(&mut copy, base_offset, term, append_time);
    Bytes::from(copy)
}

/// [`stamp`] without the copy.
///
/// # Panics
/// As [`stamp`].
pub fn stamp_in_place(bytes: &mut [u8], base_offset: Offset, term: Term, append_time: Option<TimestampMs>) {
    assert!(bytes.len() >= BATCH_HEADER_BYTES, "only whole batches are stamped");
    assert!(base_offset <= Offset::MAX, "an offset fits into an i64");
    let epoch = i32::try_from(term.0).unwrap_or(i32::MAX);
    bytes[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    if let Some(time) = append_time {
        bytes[22] |= Attributes::APPEND_TIME as u8;
        bytes[35..43].copy_from_slice(&time.0.to_be_bytes());
        write_crc(bytes);
    }
}

/// Writes another producer, epoch and sequence into a batch that was built already, and its new CRC: what a producer does
/// that takes a new epoch with batches still to send.
///
/// # Panics
/// If `bytes` is shorter than a batch's header.
pub fn stamp_producer(bytes: &[u8], producer: ProducerSequence) -> Bytes {
    assert!(bytes.len() >= BATCH_HEADER_BYTES, "only whole batches are stamped");
    let mut copy = bytes.to_vec();
    copy[43..51].copy_from_slice(&producer.id.0.to_be_bytes());
    copy[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    copy[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
    write_crc(&mut copy);
    Bytes::from(copy)
}

fn write_crc(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[BATCH_CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "batch_property_tests.rs"]
mod property_tests;
