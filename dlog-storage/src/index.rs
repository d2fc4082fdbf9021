//! The sparse index of a segment: where a frame stands, by index, by offset and by time. A cache: on any doubt it is made
//! anew from the frames, and what it points at is checked like any other bytes.
//!
//! File `<first index>-<generation>.index`, written when a segment ends:
//!
//! ```text
//! position  size  field
//!        0     8  magic "DLOGIDX\0"
//!        8     4  version, u32 LE, 1
//!       12     4  count of entries, u32 LE
//!       16     8  log id, u64 LE
//!       24     8  replica id, u64 LE
//!       32     8  index of the segment's first frame, u64 LE
//!       40     8  generation of the segment, u64 LE
//!       48    28  for each entry: index u64 LE, base offset u64 LE, greatest time before it i64 LE, position u32 LE
//!      end     4  CRC32C over all before, u32 LE
//! ```

use crate::error::StorageError;
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset, ReplicaId, TimestampMs};

const MAGIC: &[u8; 8] = b"DLOGIDX\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 28;

/// One frame of a segment whose place is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The frame's index.
    pub index: LogIndex,
    /// Its base offset.
    pub offset: Offset,
    /// No record before this frame, in this segment, is later; [`TimestampMs::NONE`] if there is none.
    pub greatest_time_before: TimestampMs,
    /// Where the frame begins in the segment, in bytes.
    pub position: u32,
}

/// Whose index a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexName {
    /// The log.
    pub log: LogId,
    /// The replica.
    pub replica: ReplicaId,
    /// Index of the segment's first frame.
    pub first_index: LogIndex,
    /// The segment's generation.
    pub generation: u64,
}

/// The entries of one segment.
///
/// Invariants: entries rise strictly by index and position, and not strictly by offset and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseIndex {
    entries: Vec<IndexEntry>,
    interval: u64,
    greatest_time: TimestampMs,
}

impl SparseIndex {
    /// An index that notes a frame every `interval` bytes. No record before the first frame to come, in this segment, is
    /// later than `greatest_time`.
    pub fn new(interval: u64, greatest_time: TimestampMs) -> SparseIndex {
        SparseIndex { entries: Vec::new(), interval, greatest_time }
    }

    /// Bytes between two entries.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// The entries in order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The last entry.
    pub fn last(&self) -> Option<IndexEntry> {
        self.entries.last().copied()
    }

    /// Takes note of the frame at `position`; frames come in order, and one that is noted already is passed over.
    pub fn note(&mut self, frame: &Frame, position: u64) {
        let due = match self.entries.last() {
            None => true,
            Some(last) => position >= u64::from(last.position) + self.interval,
        };
        if due && let Ok(position) = u32::try_from(position) {
            let (index, offset) = (frame.index, frame.base_offset);
            self.entries.push(IndexEntry { index, offset, greatest_time_before: self.greatest_time, position });
        }
        if let Some(time) = greatest_time(frame) {
            self.greatest_time = self.greatest_time.max(time);
        }
    }

    /// The last entry for which `choose` holds; it must hold for a first part of the entries.
    pub fn last_where(&self, choose: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| choose(entry));
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// Drops the entries at and above `position`.
    pub fn truncate(&mut self, position: u64) {
        let keep = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        self.entries.truncate(keep);
    }

    /// Drops the entries below `position`.
    pub fn drop_below(&mut self, position: u64) {
        self.entries.retain(|entry| u64::from(entry.position) >= position);
    }

    /// Puts the entries of `prefix` before these; those that reach into these are left out.
    pub fn put_before(&mut self, mut prefix: SparseIndex) {
        if let Some(first) = self.entries.first() {
            prefix.truncate(u64::from(first.position));
        }
        prefix.entries.append(&mut self.entries);
        self.entries = prefix.entries;
        self.greatest_time = self.greatest_time.max(prefix.greatest_time);
    }

    /// The file's bytes.
    pub fn encode(&self, name: &IndexName) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("positions are 32 bits, so fewer entries");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&name.log.0.to_le_bytes());
        bytes.extend_from_slice(&name.replica.0.to_le_bytes());
        bytes.extend_from_slice(&name.first_index.0.to_le_bytes());
        bytes.extend_from_slice(&name.generation.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.index.0.to_le_bytes());
            bytes.extend_from_slice(&entry.offset.0.to_le_bytes());
            bytes.extend_from_slice(&entry.greatest_time_before.0.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a file's bytes; `interval` is for entries to come.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] without a path: the caller knows it, and makes the index anew anyway.
    pub fn decode(bytes: &[u8], interval: u64) -> Result<(IndexName, SparseIndex), StorageError> {
        let damaged = |detail: &str| StorageError::corrupt("index", 0, detail);
        if bytes.len() < HEADER_BYTES + 4 || &bytes[..8] != MAGIC {
            return Err(damaged("it is not an index"));
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(damaged("the checksum doesn't match"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(8) != VERSION {
            return Err(damaged("the version is not known"));
        }
        if body.len() != HEADER_BYTES + u32_at(12) as usize * ENTRY_BYTES {
            return Err(damaged("the length doesn't match the count of entries"));
        }
        let name = IndexName {
            log: LogId(u64_at(16)),
            replica: ReplicaId(u64_at(24)),
            first_index: LogIndex(u64_at(32)),
            generation: u64_at(40),
        };
        let mut index = SparseIndex::new(interval, TimestampMs::NONE);
        for at in (HEADER_BYTES..body.len()).step_by(ENTRY_BYTES) {
            index.entries.push(IndexEntry {
                index: LogIndex(u64_at(at)),
                offset: Offset(u64_at(at + 8)),
                greatest_time_before: TimestampMs(u64_at(at + 16) as i64),
                position: u32_at(at + 24),
            });
        }
        index.greatest_time = index.last().map_or(TimestampMs::NONE, |entry| entry.greatest_time_before);
        let rising = |two: &[IndexEntry]| {
            two[0].index < two[1].index
                && two[0].position < two[1].position
                && two[0].offset <= two[1].offset
                && two[0].greatest_time_before <= two[1].greatest_time_before
        };
        if !index.entries.windows(2).all(rising) {
            return Err(damaged("the entries don't rise"));
        }
        Ok((name, index))
    }
}

/// Where Kafka's batch header has the greatest time of its records, i64 big-endian.
const BATCH_MAX_TIMESTAMP_AT: usize = 35;

/// The greatest time that a batch's header names; `None` for frames without records.
pub(crate) fn greatest_time(frame: &Frame) -> Option<TimestampMs> {
    if frame.kind != FrameKind::Records {
        return None;
    }
    let bytes = frame.payload.get(BATCH_MAX_TIMESTAMP_AT..BATCH_MAX_TIMESTAMP_AT + 8)?;
    Some(TimestampMs(i64::from_be_bytes(bytes.try_into().expect("eight bytes"))))
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
