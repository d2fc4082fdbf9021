//! The producer file of a replica: `<index>.producers` in its folder, the table of its producers as of that index.
//!
//! ```text
//! position  size  field, all integers little-endian
//!        0     8  magic "DLOGPROD"
//!        8     2  version, 1
//!       10     6  reserved, 0
//!       16     8  replica
//!       24     8  index that the table is as of
//!       32     8  bytes of the table
//!       40     4  reserved, 0
//!       44     4  CRC32C over bytes 0..44 and the table
//!       48        table, encoded by dlog-consensus
//! ```

use crate::aside::remove_if_there;
use crate::checkpoint::replace_file;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::journal::file::read_whole;
use bytes::Bytes;
use dlog_core::{LogIndex, ReplicaId};

const MAGIC: [u8; 8] = *b"DLOGPROD";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
const CRC_AT: usize = 44;
const SUFFIX: &str = ".producers";

/// The name of the file with the table as of `index`.
pub fn file_name(index: LogIndex) -> String {
    format!("{:020}{SUFFIX}", index.0)
}

fn index_of(name: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(LogIndex)).flatten()
}

fn encode_header(replica: ReplicaId, index: LogIndex, table: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&replica.0.to_le_bytes());
    header[24..32].copy_from_slice(&index.0.to_le_bytes());
    header[32..40].copy_from_slice(&(table.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), table);
    header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The table in these bytes, if they are the file of this replica and index.
fn decode(bytes: &Bytes, replica: ReplicaId, index: LogIndex) -> Option<Bytes> {
    let (header, table) = bytes.split_at_checked(HEADER_BYTES)?;
    (header == encode_header(replica, index, table)).then(|| bytes.slice(HEADER_BYTES..))
}

/// Writes and syncs the table as of `index` into the replica's folder.
///
/// # Errors
/// The disk's; [`StorageError::SyncFailed`].
pub fn store<D: Disk>(
    disk: &D,
    dir: &str,
    replica: ReplicaId,
    index: LogIndex,
    table: &[u8],
) -> Result<(), StorageError> {
    replace_file(disk, dir, &file_name(index), &[&encode_header(replica, index, table), table])
}

/// The indexes of the producer files in a folder, rising.
///
/// # Errors
/// The disk's.
pub fn indexes<D: Disk>(disk: &D, dir: &str) -> Result<Vec<LogIndex>, StorageError> {
    let names = disk.list(dir).map_err(|error| StorageError::io("list", dir, error))?;
    Ok(names.iter().filter_map(|name| index_of(name)).collect())
}

/// The first of these tables, which checkpoints or the journal name, that is whole. A file that nothing names is never read:
/// it may belong to a snapshot whose install never became durable, over a log that took another way since.
///
/// # Errors
/// The disk's; a missing or damaged file is passed over.
pub fn load<D: Disk>(
    disk: &D,
    dir: &str,
    replica: ReplicaId,
    named: &[LogIndex],
) -> Result<Option<(LogIndex, Bytes)>, StorageError> {
    let present = indexes(disk, dir)?;
    for index in named.iter().copied() {
        if present.contains(&index) {
            let bytes = read_whole(disk, &format!("{dir}/{}", file_name(index)))?;
            if let Some(table) = decode(&bytes, replica, index) {
                return Ok(Some((index, table)));
            }
        }
        tracing::warn!(%replica, %index, "a producer file is missing or damaged, and passed over");
    }
    Ok(None)
}

/// Removes the tables from before `keep`.
///
/// # Errors
/// The disk's.
pub fn remove_before<D: Disk>(disk: &D, dir: &str, keep: LogIndex) -> Result<(), StorageError> {
    for index in indexes(disk, dir)?.into_iter().filter(|index| *index < keep) {
        remove_if_there(disk, &format!("{dir}/{}", file_name(index)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;

    const REPLICA: ReplicaId = ReplicaId(9);

    /// The bytes of version 1: a change here breaks every data directory.
    #[test]
    fn golden_bytes() {
        let header = encode_header(REPLICA, LogIndex(5), b"table");
        let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = "444c4f4750524f4401000000000000000900000000000000050000000000000005000000000000000000000";
        assert!(hex.starts_with(fields), "{hex}");
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..44]), b"table");
        assert_eq!(header[44..], crc.to_le_bytes());
    }

    #[test]
    fn the_first_usable_of_those_named_is_loaded() {
        let disk = SimDisk::with_seed(1);
        disk.create_dir("r").expect("made");
        for index in [3, 7, 12] {
            store(&disk, "r", REPLICA, LogIndex(index), &index.to_le_bytes()).expect("stored");
        }
        let load = |named: &[u64]| {
            let named: Vec<LogIndex> = named.iter().copied().map(LogIndex).collect();
            load(&disk, "r", REPLICA, &named).expect("read").map(|(index, _)| index.0)
        };
        assert_eq!(load(&[7, 3]), Some(7), "12 is named by nobody");
        assert_eq!(load(&[]), None);
        assert_eq!(load(&[8, 3]), Some(3), "a missing one is passed over");
        disk.flip(&format!("r/{}", file_name(LogIndex(7))), 50, 1);
        assert_eq!(load(&[7, 3]), Some(3), "a damaged one is passed over");
        assert_eq!(load(&[7]), None);
        remove_before(&disk, "r", LogIndex(7)).expect("removed");
        assert_eq!(indexes(&disk, "r").expect("listed"), [LogIndex(7), LogIndex(12)]);
    }
}
