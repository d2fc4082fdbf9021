//! [`BatchError`]: what can be wrong with a batch.

use crate::{CodecError, ErrorCode, ErrorDetail, RecordError, Stage, TimestampMs};

/// Why bytes are not a batch that dlog takes, or records can't become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("a batch needs at least {needed} bytes, {have} are there")]
    Short {
        /// What is needed.
        needed: usize,
        /// What is there.
        have: usize,
    },
    /// The bytes are not those of exactly one batch.
    #[error("the batch says it has {said} bytes, {have} are there")]
    Length {
        /// What the header says.
        said: usize,
        /// What is there.
        have: usize,
    },
    /// Another version of the format.
    #[error("the batch has magic {0}, only 2 is taken (Kafka 0.11 and later write it)")]
    Magic(i8),
    /// The bytes don't match their checksum.
    #[error("batch checksum is {found:#010x}, the header says {stored:#010x}; it was damaged on its way")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Stored in the header.
        stored: u32,
    },
    /// A reserved bit, or a codec that doesn't exist.
    #[error("the batch's attributes {0:#06x} have a meaning this version doesn't know")]
    Attributes(i16),
    /// A field is out of its range.
    #[error("the batch's {field} is {value}, which is out of range")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// The number of records doesn't fit to the rest of the header or to the bytes.
    #[error(
        "the batch says {records} records, which doesn't fit its last offset delta {last_offset_delta} or its size"
    )]
    Count {
        /// Records as the header says.
        records: u32,
        /// The last offset's delta as the header says.
        last_offset_delta: u32,
    },
    /// More bytes than allowed.
    #[error("the batch has {bytes} bytes, at most {max} are allowed; send smaller batches or raise max.batch.bytes")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// More records than allowed.
    #[error("the batch has {records} records, at most {max} are allowed; send smaller batches")]
    TooManyRecords {
        /// What it has.
        records: u32,
        /// What is allowed.
        max: u32,
    },
    /// A batch that clients may not write.
    #[error("batches that are {0} can't be produced by clients of this version")]
    NotProducible(&'static str),
    /// The records can't be (de)compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A record is not one.
    #[error("record {number} of the batch: {error}")]
    Record {
        /// Its number in the batch, from 0.
        number: u32,
        /// What is wrong.
        error: RecordError,
    },
    /// A record has not the next offset.
    #[error("record {number} of the batch says offset delta {found}")]
    OffsetDelta {
        /// Its number in the batch, from 0.
        number: u32,
        /// What it says.
        found: i32,
    },
    /// Bytes are left over behind the last record.
    #[error("{0} bytes follow the last record of the batch")]
    Trailing(usize),
    /// The header's greatest time stamp isn't that of the records.
    #[error("the batch says its greatest time stamp is {stored}, its records say {found}")]
    MaxTimestamp {
        /// In the header.
        stored: TimestampMs,
        /// In the records.
        found: TimestampMs,
    },
    /// There are no records.
    #[error("a batch without records can't be made")]
    Empty,
}

impl BatchError {
    /// The code that a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::TooLarge { .. }
            | BatchError::TooManyRecords { .. }
            | BatchError::Codec(CodecError::TooLarge { .. })
            | BatchError::Record { error: RecordError::TooLarge { .. }, .. } => ErrorCode::BatchTooLarge,
            BatchError::NotProducible(_) => ErrorCode::Unsupported,
            _ => ErrorCode::InvalidBatch,
        }
    }

    /// The error that a client is told, at `stage`: nothing of the batch was applied.
    pub fn to_detail(&self, stage: Stage) -> ErrorDetail {
        ErrorDetail::rejected(self.code(), stage, self.to_string())
    }
}
