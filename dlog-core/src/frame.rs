//! The frame: one Raft entry as it stands in journal and segment, and nowhere else.
//!
//! ```text
//! position  size  field
//!        0     4  payload length, u32 LE, at most limits::FRAME_PAYLOAD_BYTES_MAX
//!        4     1  kind (see FrameKind)
//!        5     1  flags, 0: reserved
//!        6     2  reserved, 0
//!        8     8  term, u64 LE
//!       16     8  index, u64 LE
//!       24     8  base offset, u64 LE (kinds without records: the offset that the next record takes)
//!       32     4  record count, u32 LE (0 for kinds without records)
//!       36     4  CRC of the frame before, u32 LE (0 before the first)
//!       40     4  CRC32C, u32 LE, seeded with the log id, over bytes 0..40 and the covered part of the payload
//!       44        payload
//! ```
//!
//! The index is below 2^63 - 1, and base offset plus record count at most that: other bytes are no frame.
//!
//! The covered part is the first 21 bytes for records (they hold the batch's own CRC of all that follows, so payload bytes
//! are hashed once) and the whole payload for every other kind. The chain of CRCs finds a stale or misdirected frame whose own
//! CRC is good.

use crate::write::LogPoint;
use crate::{LogId, LogIndex, Offset, Term};
use bytes::Bytes;

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 44;
/// How much of a records payload the frame's CRC covers: Kafka's batch header up to and with the batch's CRC.
pub const FRAME_COVERED_BATCH_BYTES: usize = 21;

/// What a frame holds. The numbers are on disk and on the wire: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A record batch.
    Records = 1,
    /// Nothing: what a new leader appends first.
    NoOp = 2,
    /// A change of membership, encoded by `dlog-consensus`.
    Configuration = 3,
    /// A command of the catalogue (group 0 only), encoded by `dlog-replication`.
    Command = 4,
    /// A move of the log start.
    LogStart = 5,
    /// Producers that are forgotten from here on.
    ProducerExpiry = 6,
}

impl FrameKind {
    /// The kind with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<FrameKind> {
        Some(match number {
            1 => FrameKind::Records,
            2 => FrameKind::NoOp,
            3 => FrameKind::Configuration,
            4 => FrameKind::Command,
            5 => FrameKind::LogStart,
            6 => FrameKind::ProducerExpiry,
            _ => return None,
        })
    }
}

/// One Raft entry with all that its header says. `payload` shares the producer's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Raft's term of the entry.
    pub term: Term,
    /// Raft's index of the entry.
    pub index: LogIndex,
    /// The offset of its first record; without records, the offset that the next record takes.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The CRC of the frame before.
    pub previous_crc: u32,
    /// This frame's CRC.
    pub crc: u32,
    /// A record batch, or what the kind says.
    pub payload: Bytes,
}

/// The fixed part of a frame, as read from bytes: its kind is known, and behind it index and offsets can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload that follow.
    pub payload_bytes: u32,
    /// What the payload is.
    pub kind: FrameKind,
    /// Raft's term.
    pub term: Term,
    /// Raft's index.
    pub index: LogIndex,
    /// The offset of the first record.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub record_count: u32,
    /// The CRC of the frame before.
    pub previous_crc: u32,
    /// The CRC of this frame.
    pub crc: u32,
}

/// Why bytes are not the frame that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header, or than the header says.
    #[error("the frame needs {needed} bytes, {have} are there")]
    Short {
        /// What the frame needs.
        needed: usize,
        /// What is there.
        have: usize,
    },
    /// No kind has this number.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// Reserved bytes aren't zero: written by a newer version, or damaged.
    #[error("reserved bytes of the frame header are not zero")]
    Reserved,
    /// Index or offsets are greater than any: damaged, or never written by dlog.
    #[error("index {index} or base offset {base_offset} of the frame is greater than any")]
    Range {
        /// The frame's index.
        index: LogIndex,
        /// The frame's base offset.
        base_offset: Offset,
    },
    /// The bytes don't match their checksum.
    #[error("frame checksum is {found:#010x}, the header says {stored:#010x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Stored in the header.
        stored: u32,
    },
}

impl Frame {
    /// Makes the frame that follows `previous_crc`, with its own CRC.
    #[expect(clippy::too_many_arguments, reason = "one argument for each field of the header")]
    pub fn new(
        log: LogId,
        kind: FrameKind,
        term: Term,
        index: LogIndex,
        base_offset: Offset,
        record_count: u32,
        previous_crc: u32,
        payload: Bytes,
    ) -> Frame {
        let mut frame = Frame { kind, term, index, base_offset, record_count, previous_crc, crc: 0, payload };
        frame.crc = frame.compute_crc(log);
        frame
    }

    /// The offset that the next record takes after this frame.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.record_count))
    }

    /// What stands behind it.
    pub fn point(&self) -> LogPoint {
        LogPoint { index: self.index, term: self.term, next_offset: self.next_offset(), crc: self.crc }
    }

    /// Bytes that the frame takes in a file.
    pub fn encoded_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    /// The header's bytes, CRC included.
    pub fn encode_header(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0u8; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Appends header and payload to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encode_header());
        out.extend_from_slice(&self.payload);
    }

    /// Reads the frame that starts at byte 0 of `bytes` and checks its CRC. Bytes behind it are left alone; the payload
    /// shares `bytes`. The batch's own CRC is not checked here ([`crate::batch`] does that).
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with the bytes; none of them means "end of file", which the caller knows.
    pub fn decode(log: LogId, bytes: &Bytes) -> Result<Frame, FrameError> {
        let header = FrameHeader::decode(bytes)?;
        let end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        if bytes.len() < end {
            return Err(FrameError::Short { needed: end, have: bytes.len() });
        }
        header.checked_with_payload(log, bytes.slice(FRAME_HEADER_BYTES..end))
    }

    fn compute_crc(&self, log: LogId) -> u32 {
        let covered = match self.kind {
            FrameKind::Records => self.payload.len().min(FRAME_COVERED_BATCH_BYTES),
            _ => self.payload.len(),
        };
        let seed = crc32c::crc32c(&log.0.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &self.encode_header()[..40]);
        crc32c::crc32c_append(crc, &self.payload[..covered])
    }
}

impl FrameHeader {
    /// Reads the fixed part. The CRC can't be checked without the payload.
    ///
    /// # Errors
    /// [`FrameError::Short`], [`FrameError::Kind`], [`FrameError::Reserved`] or [`FrameError::Range`].
    pub fn decode(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
        let Some(fixed) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(FrameError::Short { needed: FRAME_HEADER_BYTES, have: bytes.len() });
        };
        let u32_at = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
        let kind = FrameKind::from_number(fixed[4]).ok_or(FrameError::Kind(fixed[4]))?;
        if fixed[5..8] != [0, 0, 0] {
            return Err(FrameError::Reserved);
        }
        let (index, base_offset, record_count) = (LogIndex(u64_at(16)), Offset(u64_at(24)), u32_at(32));
        let end = base_offset.0.checked_add(u64::from(record_count));
        if index >= LogIndex::MAX || end.is_none_or(|end| end > Offset::MAX.0) {
            return Err(FrameError::Range { index, base_offset });
        }
        Ok(FrameHeader {
            payload_bytes: u32_at(0),
            kind,
            term: Term(u64_at(8)),
            index,
            base_offset,
            record_count,
            previous_crc: u32_at(36),
            crc: u32_at(40),
        })
    }

    /// The frame of this header and `payload`, its CRC checked. The batch's own CRC is not checked here.
    ///
    /// # Errors
    /// [`FrameError::Checksum`], and [`FrameError::Short`] if `payload` is not as long as the header says.
    pub fn checked_with_payload(self, log: LogId, payload: Bytes) -> Result<Frame, FrameError> {
        if payload.len() != self.payload_bytes as usize {
            let needed = FRAME_HEADER_BYTES + self.payload_bytes as usize;
            return Err(FrameError::Short { needed, have: FRAME_HEADER_BYTES + payload.len() });
        }
        let frame = self.with_payload(payload);
        let found = frame.compute_crc(log);
        if found != frame.crc {
            return Err(FrameError::Checksum { found, stored: frame.crc });
        }
        Ok(frame)
    }

    /// The frame of this header and `payload`, unchecked.
    pub fn with_payload(self, payload: Bytes) -> Frame {
        Frame {
            kind: self.kind,
            term: self.term,
            index: self.index,
            base_offset: self.base_offset,
            record_count: self.record_count,
            previous_crc: self.previous_crc,
            crc: self.crc,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = (LogId, Frame)> {
        (any::<u64>(), 1u8..=6, any::<[u64; 3]>(), any::<[u32; 2]>(), proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(log, kind, [term, index, offset], [count, previous], payload)| {
                let kind = FrameKind::from_number(kind).expect("1 to 6 are kinds");
                let payload = Bytes::from(payload);
                let (term, index, offset) = (Term(term), LogIndex(index >> 2), Offset(offset >> 2));
                (LogId(log), Frame::new(LogId(log), kind, term, index, offset, count, previous, payload))
            })
    }

    fn hex(frame: &Frame) -> String {
        let mut bytes = Vec::new();
        frame.encode_into(&mut bytes);
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The bytes of version 1, made by another implementation: a change here breaks every data directory.
    #[test]
    fn golden_bytes() {
        let payload = Bytes::from_static(b"abc");
        let frame = Frame::new(LogId(5), FrameKind::Command, Term(2), LogIndex(3), Offset(4), 0, 0x0102_0304, payload);
        let golden = concat!(
            "03000000",         // payload length
            "04000000",         // kind, flags, reserved
            "0200000000000000", // term
            "0300000000000000", // index
            "0400000000000000", // base offset
            "00000000",         // record count
            "04030201",         // CRC of the frame before
            "9396811b",         // CRC
            "616263",           // payload
        );
        assert_eq!(hex(&frame), golden);
    }

    /// Of records only the first 21 bytes are covered by the frame's CRC.
    #[test]
    fn golden_bytes_of_records() {
        let payload: Vec<u8> = (0..30).collect();
        let make = |payload: Vec<u8>| {
            Frame::new(LogId(5), FrameKind::Records, Term(7), LogIndex(9), Offset(11), 2, 0, Bytes::from(payload))
        };
        let golden = concat!(
            "1e000000010000000700000000000000",
            "09000000000000000b00000000000000",
            "0200000000000000cde421f1",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d",
        );
        assert_eq!(hex(&make(payload.clone())), golden);
        let mut behind = payload.clone();
        behind[FRAME_COVERED_BATCH_BYTES] ^= 1;
        assert_eq!(make(behind).crc, make(payload.clone()).crc);
        let mut inside = payload.clone();
        inside[FRAME_COVERED_BATCH_BYTES - 1] ^= 1;
        assert_ne!(make(inside).crc, make(payload).crc);
    }

    /// Behind a good checksum too: whoever asks for the next index or offset must get one.
    #[test]
    fn numbers_that_nothing_can_follow_are_refused() {
        let decoded = |index, offset, count| {
            let (index, offset) = (LogIndex(index), Offset(offset));
            let frame = Frame::new(LogId(5), FrameKind::Records, Term(1), index, offset, count, 0, Bytes::new());
            let mut bytes = Vec::new();
            frame.encode_into(&mut bytes);
            Frame::decode(LogId(5), &Bytes::from(bytes)).map(|frame| (frame.index.next(), frame.next_offset()))
        };
        let (index, offset) = (LogIndex::MAX.0 - 1, Offset::MAX.0);
        assert_eq!(decoded(index, offset - 3, 3), Ok((LogIndex(index + 1), Offset::MAX)));
        for (index, offset, count) in [(index, offset, 1), (index + 1, 0, 1), (u64::MAX, 0, 1), (1, u64::MAX, 1)] {
            let refused = FrameError::Range { index: LogIndex(index), base_offset: Offset(offset) };
            assert_eq!(decoded(index, offset, count), Err(refused));
        }
    }

    proptest! {
        #[test]
        fn round_trip((log, frame) in any_frame()) {
            let mut bytes = Vec::new();
            frame.encode_into(&mut bytes);
            prop_assert_eq!(bytes.len(), frame.encoded_bytes());
            prop_assert_eq!(Frame::decode(log, &Bytes::from(bytes)).expect("own bytes"), frame);
        }

        /// One flipped bit in the covered part is always found.
        #[test]
        fn a_flipped_bit_is_found((log, frame) in any_frame(), bit in any::<proptest::sample::Index>()) {
            let mut bytes = Vec::new();
            frame.encode_into(&mut bytes);
            let covered = match frame.kind {
                FrameKind::Records => frame.payload.len().min(FRAME_COVERED_BATCH_BYTES),
                _ => frame.payload.len(),
            };
            let bit = bit.index((FRAME_HEADER_BYTES + covered) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(log, &Bytes::from(bytes)).is_err());
        }

        #[test]
        fn another_log_is_refused((log, frame) in any_frame()) {
            let mut bytes = Vec::new();
            frame.encode_into(&mut bytes);
            prop_assert!(Frame::decode(LogId(log.0 ^ 1), &Bytes::from(bytes)).is_err());
        }
    }
}
