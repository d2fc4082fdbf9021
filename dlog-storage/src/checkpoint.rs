//! The checkpoint of a shard: all that its journal held up to one position, so that older files can be used again.
//!
//! Two files, `checkpoint-a` and `checkpoint-b`, written in turn: a damaged one leaves the other. Each is written under
//! another name, synced and renamed, so a crash never leaves half of one.
//!
//! ```text
//! position  size  field, all integers little-endian
//!        0     8  magic "DLOGCKPT"
//!        8     2  version, 1
//!       10     2  shard
//!       12    16  cluster id
//!       28     4  reserved, 0
//!       32     8  sequence: one higher with each checkpoint
//!       40     8  bytes of the body
//!       48    12  reserved, 0
//!       60     4  CRC32C over bytes 0..60 and the body
//!       64        body
//! body: journal position: 8 file generation, 8 position, 8 group number, 4 group CRC
//!       4 count of replicas, then each:
//!         8 replica, 8 log, 8 intent, 8 term, 1 has a vote, 8 vote, 8 commit, 8 membership index,
//!         4 length, membership, 1 has a producer file, 8 its index, then its log state (see `log_state`)
//!       4 count of marks, then each: 8 replica, 8 until, 1 kind (1 deleted, 2 retired)
//! ```

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::JournalPosition;
use crate::journal::file::read_whole;
use crate::log_state::LogState;
use bytes::Bytes;
use dlog_core::{LogId, LogIndex, ReplicaId, ShardId, Term};
use std::collections::BTreeMap;
use std::io::ErrorKind;

const MAGIC: [u8; 8] = *b"DLOGCKPT";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const CRC_AT: usize = 60;
/// No count of checkpoints, journal files, bytes or groups gets here; adding to it doesn't overflow.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// A replica that is gone for good but whose id must not be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The group 0 index as of which the catalogue no longer intends it. Once group 0's synced applied index is there, the
    /// mark can go.
    pub until: LogIndex,
    /// Why it is gone.
    pub kind: MarkKind,
}

/// Why a replica is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The cluster asked for it.
    Deleted,
    /// Its hard state could not be read.
    Retired,
}

/// What a checkpoint holds of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCheckpoint {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// From its create record.
    pub intent: LogIndex,
    /// Raft's current term.
    pub term: Term,
    /// The vote in it.
    pub vote: Option<ReplicaId>,
    /// The commit index.
    pub commit: LogIndex,
    /// The entry that made `membership`.
    pub membership_index: LogIndex,
    /// Opaque here.
    pub membership: Bytes,
    /// Label of its producer file.
    pub producers: Option<LogIndex>,
    /// Local start, log start, segments, term starts.
    pub log_state: LogState,
}

/// All of a shard as of one journal position, nothing newer.
///
/// Invariants: replicas rise; no replica is also marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The newest has the greatest.
    pub sequence: u64,
    /// From where the journal is replayed.
    pub position: JournalPosition,
    /// The replicas.
    pub replicas: Vec<ReplicaCheckpoint>,
    /// Deleted and retired ones.
    pub marks: BTreeMap<ReplicaId, Mark>,
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `checkpoint-a`.
    A,
    /// `checkpoint-b`.
    B,
}

impl Slot {
    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "checkpoint-a",
            Slot::B => "checkpoint-b",
        }
    }

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// What stands in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// No file.
    Missing,
    /// A file that is no checkpoint of this shard, and why.
    Bad(String),
    /// A whole checkpoint that only another dlog can read, and why.
    Unknown(String),
    /// A checkpoint.
    Good(Box<Checkpoint>),
}

/// Why bytes aren't a checkpoint that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCheckpoint {
    /// They are damaged, or something else.
    Bad(String),
    /// Their checksum is good, but they are of another version.
    Unknown(String),
}

impl Checkpoint {
    /// All bytes of the file.
    pub fn encode(&self, cluster: ClusterId, shard: ShardId) -> Vec<u8> {
        let mut out = vec![0u8; HEADER_BYTES];
        put_u64(&mut out, self.position.generation);
        put_u64(&mut out, self.position.position);
        put_u64(&mut out, self.position.number);
        out.extend_from_slice(&self.position.crc.to_le_bytes());
        put_len(&mut out, self.replicas.len());
        self.replicas.iter().for_each(|replica| replica.encode_into(&mut out));
        put_len(&mut out, self.marks.len());
        for (replica, mark) in &self.marks {
            put_u64(&mut out, replica.0);
            put_u64(&mut out, mark.until.0);
            out.push(match mark.kind {
                MarkKind::Deleted => 1,
                MarkKind::Retired => 2,
            });
        }
        let body_bytes = (out.len() - HEADER_BYTES) as u64;
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&shard.0.to_le_bytes());
        out[12..28].copy_from_slice(&cluster.0);
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&body_bytes.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..CRC_AT]), &out[HEADER_BYTES..]);
        out[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// Says why these bytes are no checkpoint of this shard, or none that this dlog can read.
    pub fn decode(bytes: &[u8], cluster: ClusterId, shard: ShardId) -> Result<Checkpoint, NoCheckpoint> {
        let bad = |why: &str| Err(NoCheckpoint::Bad(why.to_string()));
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
            return bad("the file is shorter than a header");
        };
        if header[..8] != MAGIC {
            return bad("it does not begin like a checkpoint");
        }
        let stored = u32::from_le_bytes(header[CRC_AT..].try_into().expect("four bytes"));
        let found = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), body);
        if stored != found {
            return bad(&format!("checksum is {found:#010x}, the header says {stored:#010x}"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION {
            return Err(NoCheckpoint::Unknown(format!("version {version} is not known")));
        }
        if header[12..28] != cluster.0 || header[10..12] != shard.0.to_le_bytes() {
            return bad("it belongs to another cluster or shard");
        }
        let sequence = u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"));
        if u64::from_le_bytes(header[40..48].try_into().expect("eight bytes")) != body.len() as u64 {
            return bad("its length is not what the header says");
        }
        let mut body = body;
        // Behind a good checksum a body that can't be read is of a newer or faulty writer.
        let checkpoint = Checkpoint::decode_body(sequence, &mut body).map_err(NoCheckpoint::Unknown)?;
        if body.is_empty() {
            Ok(checkpoint)
        } else {
            Err(NoCheckpoint::Unknown("bytes behind the last mark".to_string()))
        }
    }

    fn decode_body(sequence: u64, body: &mut &[u8]) -> Result<Checkpoint, String> {
        let position = JournalPosition {
            generation: take_u64(body)?,
            position: take_u64(body)?,
            number: take_u64(body)?,
            crc: take_u32(body)?,
        };
        // Each is counted on from; a position lies in a file.
        let numbers = [sequence, position.generation, position.position, position.number];
        if numbers.iter().any(|number| *number > NUMBER_MAX) {
            return Err(format!("checkpoint {sequence} at {position:?} has a number greater than any"));
        }
        let count = take_u32(body)?;
        let replicas = (0..count).map(|_| ReplicaCheckpoint::decode(body)).collect::<Result<Vec<_>, String>>()?;
        if !replicas.is_sorted_by(|one, two| one.replica < two.replica) {
            return Err("the replicas are not in order".to_string());
        }
        let mut marks = BTreeMap::new();
        for _ in 0..take_u32(body)? {
            let (replica, until) = (ReplicaId(take_u64(body)?), LogIndex(take_u64(body)?));
            let kind = match take::<1>(body)? {
                [1] => MarkKind::Deleted,
                [2] => MarkKind::Retired,
                [other] => return Err(format!("mark {other} is unknown")),
            };
            let again = marks.insert(replica, Mark { until, kind }).is_some();
            if again || replicas.binary_search_by_key(&replica, |known| known.replica).is_ok() {
                return Err(format!("replica {replica} is marked, and stands there once more"));
            }
        }
        Ok(Checkpoint { sequence, position, replicas, marks })
    }
}

impl ReplicaCheckpoint {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_u64(out, self.replica.0);
        put_u64(out, self.log.0);
        put_u64(out, self.intent.0);
        put_u64(out, self.term.0);
        put_option(out, self.vote.map(|vote| vote.0));
        put_u64(out, self.commit.0);
        put_u64(out, self.membership_index.0);
        put_len(out, self.membership.len());
        out.extend_from_slice(&self.membership);
        put_option(out, self.producers.map(|index| index.0));
        self.log_state.encode_into(out);
    }

    fn decode(from: &mut &[u8]) -> Result<ReplicaCheckpoint, String> {
        let (replica, log) = (ReplicaId(take_u64(from)?), LogId(take_u64(from)?));
        let (intent, term) = (LogIndex(take_u64(from)?), Term(take_u64(from)?));
        let vote = take_option(from)?.map(ReplicaId);
        let (commit, membership_index) = (LogIndex(take_u64(from)?), LogIndex(take_u64(from)?));
        let length = take_u32(from)? as usize;
        let (membership, rest) = from.split_at_checked(length).ok_or("the body ends in a membership")?;
        *from = rest;
        let membership = Bytes::copy_from_slice(membership);
        let producers = take_option(from)?.map(LogIndex);
        let log_state = LogState::decode(from)?;
        Ok(ReplicaCheckpoint {
            replica,
            log,
            intent,
            term,
            vote,
            commit,
            membership_index,
            membership,
            producers,
            log_state,
        })
    }
}

/// Reads a slot of the shard's folder `dir`.
///
/// # Errors
/// The disk's; a damaged file is no error but [`SlotState::Bad`].
pub fn read_slot<D: Disk>(
    disk: &D,
    dir: &str,
    slot: Slot,
    (cluster, shard): (ClusterId, ShardId),
) -> Result<SlotState, StorageError> {
    let path = format!("{dir}/{}", slot.name());
    match disk.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(SlotState::Missing),
        Err(error) => return Err(StorageError::io("open", &path, error)),
        Ok(_) => {}
    }
    let bytes = read_whole(disk, &path)?;
    Ok(match Checkpoint::decode(&bytes, cluster, shard) {
        Ok(checkpoint) => SlotState::Good(Box::new(checkpoint)),
        Err(NoCheckpoint::Bad(why)) => SlotState::Bad(why),
        Err(NoCheckpoint::Unknown(why)) => SlotState::Unknown(why),
    })
}

/// Replaces a slot: written and synced under another name, renamed, the folder synced.
///
/// # Errors
/// The disk's, the slot then holds what it held; [`StorageError::SyncFailed`].
pub fn write_slot<D: Disk>(disk: &D, dir: &str, slot: Slot, bytes: &[u8]) -> Result<(), StorageError> {
    replace_file(disk, dir, slot.name(), &[bytes])
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// The disk's; the name then stands for what it stood for before.
pub fn replace_file<D: Disk>(disk: &D, dir: &str, name: &str, parts: &[&[u8]]) -> Result<(), StorageError> {
    let path = format!("{dir}/{name}");
    let temporary = format!("{path}.tmp");
    match disk.remove(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(StorageError::io("remove", &temporary, error)),
    }
    let file = disk.create(&temporary).map_err(|error| StorageError::io("create", &temporary, error))?;
    file.write_at(parts, 0).map_err(|error| StorageError::io("write", &temporary, error))?;
    file.sync_data().map_err(|error| StorageError::sync(&temporary, error))?;
    disk.rename(&temporary, &path).map_err(|error| StorageError::io("rename", &temporary, error))?;
    disk.sync_dir(dir).map_err(|error| StorageError::sync(dir, error))
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("fewer than 2^32 of anything in a shard");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    out.push(u8::from(value.is_some()));
    put_u64(out, value.unwrap_or(0));
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, rest) = from.split_first_chunk::<N>().ok_or("the body is too short")?;
    *from = rest;
    Ok(*head)
}

fn take_u64(from: &mut &[u8]) -> Result<u64, String> {
    Ok(u64::from_le_bytes(take(from)?))
}

fn take_u32(from: &mut &[u8]) -> Result<u32, String> {
    Ok(u32::from_le_bytes(take(from)?))
}

fn take_option(from: &mut &[u8]) -> Result<Option<u64>, String> {
    let [has] = take::<1>(from)?;
    let value = take_u64(from)?;
    Ok((has == 1).then_some(value))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
