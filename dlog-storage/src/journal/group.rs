//! One group: built from writes into parts for one vectored write, and found again in a file's bytes by either of its two
//! copies of header and table.

use super::format::{self, GROUP_ALIGN, GROUP_HEADER_BYTES, GroupHeader, GroupKind, group_bytes, header_crc};
use crate::identity::ClusterId;
use bytes::Bytes;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, ReplicaId, ShardId};

/// Bytes of the smallest record batch: its header. Its CRC stands at 17 and covers everything from 21 on.
const BATCH_HEADER_BYTES: usize = 61;
const BATCH_CRC_AT: usize = 17;
const BATCH_CRC_FROM: usize = 21;

static ZEROS: [u8; GROUP_ALIGN as usize] = [0; GROUP_ALIGN as usize];

/// What makes a group this shard's and this file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupContext {
    /// Seeds the checksums.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// Of the file.
    pub generation: u64,
}

/// Where a group goes, or is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    /// In the file.
    pub position: u64,
    /// The group's number.
    pub number: u64,
    /// CRC of the group before.
    pub previous_crc: u32,
}

/// Builds groups. Keeps its buffer from group to group: no allocation for the usual ones.
#[derive(Default)]
pub struct GroupBuilder {
    /// Header and table.
    head: Vec<u8>,
    payload_bytes: u64,
}

impl GroupBuilder {
    /// Starts a group without records.
    pub fn clear(&mut self) {
        self.head.clear();
        self.head.resize(GROUP_HEADER_BYTES, 0);
        self.payload_bytes = 0;
    }

    /// Adds one write with the commit index that its record carries.
    pub fn push(&mut self, write: &ReplicaWrite, commit: LogIndex) {
        format::encode_write(&mut self.head, write, commit);
        for frame in frames(std::slice::from_ref(write)) {
            self.payload_bytes += frame.payload.len() as u64;
        }
    }

    /// Bytes of the whole group.
    pub fn bytes(&self) -> u64 {
        group_bytes((self.head.len() - GROUP_HEADER_BYTES) as u64, self.payload_bytes)
    }

    /// Writes the header and gives the group's CRC.
    pub fn finish(&mut self, context: GroupContext, place: GroupPlace, kind: GroupKind) -> u32 {
        let header = GroupHeader {
            shard: context.shard,
            generation: context.generation,
            number: place.number,
            position: place.position,
            bytes: self.bytes(),
            table_bytes: (self.head.len() - GROUP_HEADER_BYTES) as u32,
            payload_bytes: self.payload_bytes as u32,
            previous_crc: place.previous_crc,
            kind,
        };
        let (space, table) = self.head.split_at_mut(GROUP_HEADER_BYTES);
        let bytes = header.encode(context.cluster, table);
        space.copy_from_slice(&bytes);
        GroupHeader::stored_crc(&bytes)
    }

    /// The parts of the group in the order of the file; payloads are the producers' own buffers.
    pub fn parts<'a>(&'a self, writes: &'a [ReplicaWrite]) -> Vec<&'a [u8]> {
        let (header, table) = self.head.split_at(GROUP_HEADER_BYTES);
        let mut parts: Vec<&[u8]> = vec![&self.head];
        parts.extend(frames(writes).map(|frame| &frame.payload[..]).filter(|payload| !payload.is_empty()));
        let used = 2 * self.head.len() as u64 + self.payload_bytes;
        let gap = (self.bytes() - used) as usize;
        parts.extend([&ZEROS[..gap], table, header].into_iter().filter(|part| !part.is_empty()));
        parts
    }
}

/// All frames of some writes, in order.
pub fn frames(writes: &[ReplicaWrite]) -> impl Iterator<Item = &Frame> {
    writes.iter().flat_map(|write| &write.ops).flat_map(|op| match op {
        WriteOp::Append(frames) => frames.as_slice(),
        _ => &[],
    })
}

/// One good copy of a group's header and table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCopy {
    /// The header.
    pub header: GroupHeader,
    /// The group's CRC.
    pub crc: u32,
    /// Where the table of this copy stands.
    table_at: usize,
}

/// The payload of a frame is not what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadDamage {
    /// Whose frame.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// Its index.
    pub index: LogIndex,
}

impl GroupCopy {
    /// The copy at a group's head, if a good one stands at `at`.
    pub fn at_head(context: GroupContext, file: &[u8], at: u64) -> Option<GroupCopy> {
        let bytes = header_bytes(file, at as usize)?;
        let header = GroupHeader::decode(bytes)?;
        let good = header.position == at;
        good.then(|| GroupCopy::check(context, file, header, bytes, at as usize + GROUP_HEADER_BYTES)).flatten()
    }

    /// The copy at a group's end, if a good one ends at `end`.
    pub fn at_tail(context: GroupContext, file: &[u8], end: u64) -> Option<GroupCopy> {
        let at = (end as usize).checked_sub(GROUP_HEADER_BYTES)?;
        let bytes = header_bytes(file, at)?;
        let header = GroupHeader::decode(bytes)?;
        let good = header.position.checked_add(header.bytes) == Some(end);
        let table_at = at.checked_sub(header.table_bytes as usize)?;
        good.then(|| GroupCopy::check(context, file, header, bytes, table_at)).flatten()
    }

    /// The version of the group at `at`, if a whole head of another one than this stands there. What a file holds from its
    /// earlier life is older than what a start would look for, so it is no matter of which file it says to be.
    pub fn other_version_at(context: GroupContext, file: &[u8], at: u64) -> Option<u16> {
        let bytes = header_bytes(file, at as usize)?;
        let (version, table_bytes) = GroupHeader::other_version(bytes)?;
        let table_at = at as usize + GROUP_HEADER_BYTES;
        let table = file.get(table_at..table_at.checked_add(table_bytes as usize)?)?;
        (header_crc(context.cluster, bytes, table) == GroupHeader::stored_crc(bytes)).then_some(version)
    }

    fn check(
        context: GroupContext,
        file: &[u8],
        header: GroupHeader,
        bytes: &[u8; GROUP_HEADER_BYTES],
        table_at: usize,
    ) -> Option<GroupCopy> {
        let table = file.get(table_at..table_at.checked_add(header.table_bytes as usize)?)?;
        let crc = GroupHeader::stored_crc(bytes);
        let good = header.shard == context.shard
            && header.generation == context.generation
            && header_crc(context.cluster, bytes, table) == crc;
        good.then_some(GroupCopy { header, crc, table_at })
    }

    /// Where the group ends.
    pub fn end(&self) -> u64 {
        self.header.position + self.header.bytes
    }

    /// The records, with payloads that share `file`.
    ///
    /// # Errors
    /// A text if the group reaches behind `file` or its table contradicts itself.
    pub fn writes(&self, file: &Bytes) -> Result<Vec<ReplicaWrite>, String> {
        let table = &file[self.table_at..self.table_at + self.header.table_bytes as usize];
        let start = self.header.position as usize + GROUP_HEADER_BYTES + table.len();
        let end = start + self.header.payload_bytes as usize;
        if end > file.len() {
            return Err("the group ends behind the file".to_string());
        }
        format::decode_table(table, &file.slice(start..end))
    }
}

/// The first frame whose payload is damaged.
pub fn damaged_payload(writes: &[ReplicaWrite]) -> Option<PayloadDamage> {
    for write in writes {
        let damaged = frames(std::slice::from_ref(write)).find(|frame| !frame_is_whole(write.log, frame));
        if let Some(frame) = damaged {
            return Some(PayloadDamage { replica: write.replica, log: write.log, index: frame.index });
        }
    }
    None
}

/// Whether every byte of a frame is what was written.
pub fn frame_is_whole(log: LogId, frame: &Frame) -> bool {
    let again = Frame::new(
        log,
        frame.kind,
        frame.term,
        frame.index,
        frame.base_offset,
        frame.record_count,
        frame.previous_crc,
        frame.payload.clone(),
    );
    if again.crc != frame.crc {
        return false;
    }
    let payload = &frame.payload;
    frame.kind != FrameKind::Records || (is_batch_sized(frame) && batch_crc(payload) == stored_batch_crc(payload))
}

/// Whether a frame of records is long enough to be covered by its batch's CRC.
pub fn is_batch_sized(frame: &Frame) -> bool {
    frame.kind != FrameKind::Records || frame.payload.len() >= BATCH_HEADER_BYTES
}

fn batch_crc(payload: &[u8]) -> u32 {
    crc32c::crc32c(&payload[BATCH_CRC_FROM..])
}

/// Kafka's formats are big-endian.
fn stored_batch_crc(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[BATCH_CRC_AT..BATCH_CRC_FROM].try_into().expect("four bytes"))
}

fn header_bytes(file: &[u8], at: usize) -> Option<&[u8; GROUP_HEADER_BYTES]> {
    file.get(at..at.checked_add(GROUP_HEADER_BYTES)?)?.first_chunk()
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
