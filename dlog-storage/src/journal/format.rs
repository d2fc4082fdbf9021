//! The bytes of a journal group's header and table.
//!
//! A group is one write. It begins on a 4 KiB boundary, its size is a multiple of 4 KiB, and everything in it but payloads
//! stands twice:
//!
//! ```text
//! ┌────────┬───────┬──────────────────────┬───────────┬───────┬────────┐
//! │ header │ table │ payloads, one behind │ zeros up  │ table │ header │   all of it a multiple of 4096 bytes
//! │ 64     │ T     │ the other, P         │ to 4 KiB  │ T     │ 64     │
//! └────────┴───────┴──────────────────────┴───────────┴───────┴────────┘
//! header, all integers little-endian:
//! position  size  field
//!        0     4  magic "DLGG"
//!        4     2  version, 1
//!        6     2  shard
//!        8     8  generation of the file
//!       16     8  number of the group, from 1; a seal: the number of the group it seals
//!       24     8  position of the group in its file
//!       32     8  bytes of the whole group
//!       40     4  T, bytes of the table
//!       44     4  P, bytes of the payloads
//!       48     4  CRC of the group before (its header's last field), 0 before the first; a seal: of the group it seals
//!       52     1  kind: 1 group, 2 seal (no table, no payloads, outside the chain)
//!       53     7  reserved, 0
//!       60     4  CRC32C, seeded with the cluster id, over bytes 0..60 and the table
//! table: one record for each write of a replica
//!     size  field
//!        8  replica
//!        8  log
//!        8  commit index known when the record was made, at most the replica's last index then
//!        4  count of operations, then each: 1 byte kind and
//!           1 append         4 count of frames, then their 44-byte headers; the payloads stand in the payload section
//!           2 hard state     8 term, 1 has a vote, 8 vote (0 without)
//!           3 configuration  8 index, 4 length, membership
//!           4 cut            8 first index that goes
//!           5 log start      8 offset
//!           6 reset          28 point
//!           7 create         8 intent, 28 point, 4 length, membership
//!           8 delete as earlier builds wrote it, without its index; read only
//!           9 reserved for a note of frames that went to their segment directly
//!          10 producers      8 index
//!          11 delete         8 group 0 index as of which the replica is out of use
//! point: 8 index, 8 term, 8 next offset, 4 CRC
//! ```
//!
//! Payloads have no checksum here: a frame's CRC covers its header and the first 21 bytes of its batch, which hold the
//! batch's own CRC of the rest.

use crate::identity::ClusterId;
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{LogId, LogIndex, Offset, ReplicaId, ShardId, Term};

/// Groups begin on multiples of this: a block of the file system, so that no write reads a block first.
pub const GROUP_ALIGN: u64 = dlog_core::limits::JOURNAL_GROUP_ALIGN;
/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"DLGG";
const VERSION: u16 = 1;
const CRC_AT: usize = 60;

/// What a header stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Records.
    Group,
    /// Proof that the sync of the group with this number returned.
    Seal,
}

/// The fixed part of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The shard that wrote it.
    pub shard: ShardId,
    /// Of the file it was written to: bytes left from the file's earlier life have another one.
    pub generation: u64,
    /// From 1, without gaps, over all files.
    pub number: u64,
    /// In the file.
    pub position: u64,
    /// Of the whole group, a multiple of [`GROUP_ALIGN`].
    pub bytes: u64,
    /// Of one copy of the table.
    pub table_bytes: u32,
    /// Of all payloads together.
    pub payload_bytes: u32,
    /// Chains the groups.
    pub previous_crc: u32,
    /// Group or seal.
    pub kind: GroupKind,
}

/// How many bytes a group with such a table and payloads takes.
pub fn group_bytes(table_bytes: u64, payload_bytes: u64) -> u64 {
    (2 * (GROUP_HEADER_BYTES as u64 + table_bytes) + payload_bytes).next_multiple_of(GROUP_ALIGN)
}

impl GroupHeader {
    /// The header's bytes; their last four are the group's CRC.
    pub fn encode(&self, cluster: ClusterId, table: &[u8]) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0u8; GROUP_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.table_bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[52] = match self.kind {
            GroupKind::Group => 1,
            GroupKind::Seal => 2,
        };
        let crc = header_crc(cluster, &bytes, table);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header without its checksum; `None` if these bytes are none of this version or contradict themselves.
    pub fn decode(bytes: &[u8; GROUP_HEADER_BYTES]) -> Option<GroupHeader> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let kind = match bytes[52] {
            1 => GroupKind::Group,
            2 => GroupKind::Seal,
            _ => return None,
        };
        if bytes[0..4] != MAGIC || u16_at(4) != VERSION || bytes[53..60] != [0; 7] {
            return None;
        }
        let header = GroupHeader {
            shard: ShardId(u16_at(6)),
            generation: u64_at(8),
            number: u64_at(16),
            position: u64_at(24),
            bytes: u64_at(32),
            table_bytes: u32_at(40),
            payload_bytes: u32_at(44),
            previous_crc: u32_at(48),
            kind,
        };
        let expected = group_bytes(u64::from(header.table_bytes), u64::from(header.payload_bytes));
        (header.bytes == expected).then_some(header)
    }

    /// The version that these bytes are of, if that isn't the one that [`GroupHeader::decode`] reads, and the bytes of the table
    /// behind them. Every version keeps magic, version, length of the table and checksum where they are.
    pub fn other_version(bytes: &[u8; GROUP_HEADER_BYTES]) -> Option<(u16, u32)> {
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        let table_bytes = u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"));
        (bytes[0..4] == MAGIC && version != VERSION).then_some((version, table_bytes))
    }

    /// The group's CRC: covers header and table, through them every payload.
    pub fn stored_crc(bytes: &[u8; GROUP_HEADER_BYTES]) -> u32 {
        u32::from_le_bytes(bytes[CRC_AT..].try_into().expect("four bytes"))
    }
}

/// The CRC that belongs into a header. Seeded with the cluster id: another cluster's bytes never pass.
pub fn header_crc(cluster: ClusterId, header: &[u8; GROUP_HEADER_BYTES], table: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&cluster.0);
    let crc = crc32c::crc32c_append(crc, &header[..CRC_AT]);
    crc32c::crc32c_append(crc, table)
}

/// Appends one write's record to a table. Payloads of frames are not in it.
pub fn encode_write(out: &mut Vec<u8>, write: &ReplicaWrite, commit: LogIndex) {
    put_u64(out, write.replica.0);
    put_u64(out, write.log.0);
    put_u64(out, commit.0);
    put_len(out, write.ops.len());
    for op in &write.ops {
        encode_op(out, op);
    }
}

fn encode_op(out: &mut Vec<u8>, op: &WriteOp) {
    match op {
        WriteOp::Append(frames) => {
            out.push(1);
            put_len(out, frames.len());
            frames.iter().for_each(|frame| out.extend_from_slice(&frame.encode_header()));
        }
        WriteOp::HardState { term, vote } => {
            out.push(2);
            put_u64(out, term.0);
            out.push(u8::from(vote.is_some()));
            put_u64(out, vote.map_or(0, |vote| vote.0));
        }
        WriteOp::Configuration { index, membership } => {
            out.push(3);
            put_u64(out, index.0);
            put_bytes(out, membership);
        }
        WriteOp::Cut { from } => {
            out.push(4);
            put_u64(out, from.0);
        }
        WriteOp::LogStart(offset) => {
            out.push(5);
            put_u64(out, offset.0);
        }
        WriteOp::Reset(point) => {
            out.push(6);
            put_point(out, point);
        }
        WriteOp::Create(create) => {
            out.push(7);
            put_u64(out, create.intent.0);
            put_point(out, &create.start);
            put_bytes(out, &create.membership);
        }
        WriteOp::Delete { ended } => {
            out.push(11);
            out.extend(ended.0.to_le_bytes());
        }
        WriteOp::Producers { index, .. } => {
            out.push(10);
            put_u64(out, index.0);
        }
    }
}

/// Reads a table and its payloads back. `payloads` is the payload section; what is read shares it. Frames are not checked.
///
/// # Errors
/// A text that says what contradicts itself: can't happen behind a good checksum but through a newer or faulty writer.
pub fn decode_table(table: &[u8], payloads: &Bytes) -> Result<Vec<ReplicaWrite>, String> {
    let mut from = Reader { table, payloads, payload_at: 0 };
    let mut writes = Vec::new();
    while !from.table.is_empty() {
        let (replica, log) = (ReplicaId(from.u64()?), LogId(from.u64()?));
        let commit = LogIndex(from.u64()?);
        let count = from.u32()?;
        let ops = (0..count).map(|_| from.op()).collect::<Result<Vec<WriteOp>, String>>()?;
        writes.push(ReplicaWrite { replica, log, commit, ops });
    }
    if from.payload_at != payloads.len() {
        return Err(format!("{} bytes of payload belong to no frame", payloads.len() - from.payload_at));
    }
    Ok(writes)
}

struct Reader<'a> {
    table: &'a [u8],
    payloads: &'a Bytes,
    payload_at: usize,
}

impl Reader<'_> {
    fn take(&mut self, bytes: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.table.split_at_checked(bytes).ok_or("the table ends in the middle of a record")?;
        self.table = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn bytes(&mut self) -> Result<Bytes, String> {
        let count = self.u32()? as usize;
        Ok(Bytes::copy_from_slice(self.take(count)?))
    }

    fn point(&mut self) -> Result<LogPoint, String> {
        let (index, term) = (LogIndex(self.u64()?), Term(self.u64()?));
        let point = LogPoint { index, term, next_offset: Offset(self.u64()?), crc: self.u32()? };
        if point.can_be_followed() { Ok(point) } else { Err(format!("nothing can follow {point:?}")) }
    }

    fn op(&mut self) -> Result<WriteOp, String> {
        Ok(match self.u8()? {
            1 => {
                let count = self.u32()?;
                WriteOp::Append((0..count).map(|_| self.frame()).collect::<Result<_, String>>()?)
            }
            2 => {
                let term = Term(self.u64()?);
                let has_vote = self.u8()? == 1;
                let vote = ReplicaId(self.u64()?);
                WriteOp::HardState { term, vote: has_vote.then_some(vote) }
            }
            3 => WriteOp::Configuration { index: LogIndex(self.u64()?), membership: self.bytes()? },
            4 => match self.u64()? {
                0 => return Err("a cut at index 0, where no frame is".to_string()),
                from => WriteOp::Cut { from: LogIndex(from) },
            },
            5 => WriteOp::LogStart(Offset(self.u64()?)),
            6 => WriteOp::Reset(self.point()?),
            7 => {
                let (intent, start) = (LogIndex(self.u64()?), self.point()?);
                WriteOp::Create(Create { intent, start, membership: self.bytes()? })
            }
            // Nobody noted when: its mark stays.
            8 => WriteOp::Delete { ended: LogIndex(u64::MAX) },
            10 => WriteOp::Producers { index: LogIndex(self.u64()?), table: Bytes::new() },
            11 => WriteOp::Delete { ended: LogIndex(self.u64()?) },
            other => return Err(format!("operation {other} is unknown; use the dlog that wrote it")),
        })
    }

    fn frame(&mut self) -> Result<dlog_core::Frame, String> {
        let header = FrameHeader::decode(self.take(FRAME_HEADER_BYTES)?).map_err(|error| error.to_string())?;
        let end = self.payload_at + header.payload_bytes as usize;
        if end > self.payloads.len() {
            return Err("a frame's payload ends behind the payload section".to_string());
        }
        let payload = self.payloads.slice(self.payload_at..end);
        self.payload_at = end;
        Ok(header.with_payload(payload))
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a group's bytes are counted in 32 bits");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &Bytes) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_point(out: &mut Vec<u8>, point: &LogPoint) {
    put_u64(out, point.index.0);
    put_u64(out, point.term.0);
    put_u64(out, point.next_offset.0);
    out.extend_from_slice(&point.crc.to_le_bytes());
}

#[cfg(test)]
#[path = "format_tests.rs"]
pub(crate) mod tests;
