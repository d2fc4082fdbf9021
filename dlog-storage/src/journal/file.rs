//! One journal file: its name, its header that says whose it is and how long, its zero-filling.

use super::format::GROUP_ALIGN;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use bytes::Bytes;
use dlog_core::ShardId;

/// Where the first group of a file stands: behind the header's block.
pub const FIRST_GROUP_AT: u64 = GROUP_ALIGN;
const SUFFIX: &str = ".journal";
const MAGIC: [u8; 8] = *b"DLOGJRNL";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;
/// No file gets here, so that adding to a generation does not overflow.
const GENERATION_MAX: u64 = i64::MAX as u64;
/// Bytes of zeros in one write while a file is prepared: a slice short enough to stand before a group's write.
const FILL_BYTES: usize = 256 << 10;

static ZEROS: [u8; FILL_BYTES] = [0; FILL_BYTES];

/// The name of the file of a generation: sorts by generation.
pub fn file_name(generation: u64) -> String {
    format!("{generation:020}{SUFFIX}")
}

/// The generation in a file's name; `None` for other names, and for a number so great that no file of ours has it: the next one
/// could not be counted.
pub fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?;
    digits.parse().ok().filter(|generation| *generation <= GENERATION_MAX)
}

/// The first bytes of a file: whose it is, and how long. What stands in it the groups say themselves.
///
/// ```text
/// position  size  field
///        0     8  magic "DLOGJRNL"
///        8     2  version, 1
///       10     2  shard
///       12    16  cluster id
///       28     8  generation
///       36     8  bytes of the file
///       44     4  CRC32C of bytes 0..44
/// ```
pub fn encode_header(cluster: ClusterId, shard: ShardId, generation: u64, bytes: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10..12].copy_from_slice(&shard.0.to_le_bytes());
    header[12..28].copy_from_slice(&cluster.0);
    header[28..36].copy_from_slice(&generation.to_le_bytes());
    header[36..44].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32c::crc32c(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRead {
    /// A whole header of this version.
    Good(FileHeader),
    /// A whole header of another version.
    OtherVersion(u16),
    /// No header, or a damaged one.
    Bad,
}

/// A journal file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose file it is.
    pub cluster: ClusterId,
    /// The shard's number.
    pub shard: ShardId,
    /// As in the file's name. Of a file that is used again the header may be the one from before.
    pub generation: u64,
    /// The file's length, which never changes.
    pub bytes: u64,
}

/// Reads a file's first bytes. Every version keeps magic, version and checksum where they are.
pub fn read_header(bytes: &[u8]) -> HeaderRead {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return HeaderRead::Bad };
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    if header[0..8] != MAGIC || header[44..] != crc32c::crc32c(&header[..44]).to_le_bytes() {
        return HeaderRead::Bad;
    }
    match u16::from_le_bytes([header[8], header[9]]) {
        VERSION => HeaderRead::Good(FileHeader {
            cluster: ClusterId(header[12..28].try_into().expect("sixteen bytes")),
            shard: ShardId(u16::from_le_bytes([header[10], header[11]])),
            generation: u64_at(28),
            bytes: u64_at(36),
        }),
        other => HeaderRead::OtherVersion(other),
    }
}

/// A file that can be written to.
pub struct JournalFile<F> {
    /// In its name and its groups.
    pub generation: u64,
    /// Its length, all of it zero-filled or written before.
    pub bytes: u64,
    /// Path on the disk, for errors.
    pub path: String,
    /// The open file.
    pub file: F,
}

/// A file that is being made: zero-filled slice by slice.
pub struct Filling<F> {
    /// What it will be.
    pub target: JournalFile<F>,
    /// Up to here it is filled.
    filled: u64,
}

impl<F: DiskFile> Filling<F> {
    /// Begins a file of `target.bytes`.
    pub fn new(target: JournalFile<F>) -> Filling<F> {
        Filling { target, filled: 0 }
    }

    /// Writes up to `budget` bytes more (at least one slice); true once the file is full.
    ///
    /// # Errors
    /// The disk's; the call may be repeated.
    pub fn fill(&mut self, budget: u64) -> Result<bool, StorageError> {
        let stop = self.filled.saturating_add(budget.max(1)).min(self.target.bytes);
        while self.filled < stop {
            let count = (FILL_BYTES as u64).min(self.target.bytes - self.filled);
            let written = self.target.file.write_at(&[&ZEROS[..count as usize]], self.filled);
            written.map_err(|error| StorageError::io("write", &self.target.path, error))?;
            self.filled += count;
        }
        Ok(self.filled == self.target.bytes)
    }
}

/// All bytes of a file.
///
/// # Errors
/// The disk's.
pub fn read_whole<D: Disk>(disk: &D, path: &str) -> Result<Bytes, StorageError> {
    let file = disk.open(path).map_err(|error| StorageError::io("open", path, error))?;
    let length = file.len().map_err(|error| StorageError::io("read", path, error))?;
    read_range(&file, path, 0, length)
}

/// A range of a file that is known to be there.
///
/// # Errors
/// The disk's, or [`StorageError::Corrupt`] if the file ends before the range does.
pub fn read_range(file: &impl DiskFile, path: &str, from: u64, bytes: u64) -> Result<Bytes, StorageError> {
    let found = file.read_vec(bytes as usize, from).map_err(|error| StorageError::io("read", path, error))?;
    if (found.len() as u64) < bytes {
        return Err(StorageError::corrupt(path, from + found.len() as u64, "the file ends early"));
    }
    Ok(Bytes::from(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_generation() {
        assert_eq!(file_name(7), "00000000000000000007.journal");
        assert!(file_name(9) < file_name(10));
        assert_eq!(generation_of(&file_name(GENERATION_MAX)), Some(GENERATION_MAX));
        let none_follows = file_name(u64::MAX);
        for other in
            [&none_follows, "7.journal", "x", "00000000000000000007.journal.tmp", "0000000000000000000x.journal"]
        {
            assert_eq!(generation_of(other), None, "{other}");
        }
    }

    /// The bytes of version 1: a change here breaks every data directory.
    #[test]
    fn golden_bytes() {
        let header = encode_header(ClusterId([0xab; 16]), ShardId(2), 3, 4096);
        let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = "444c4f474a524e4c01000200abababababababababababababababab03000000000000000010000000000000";
        assert_eq!(&hex[..88], fields);
        assert_eq!(hex[88..], format!("{:08x}", crc32c::crc32c(&header[..44]).swap_bytes()));
        let read = FileHeader { cluster: ClusterId([0xab; 16]), shard: ShardId(2), generation: 3, bytes: 4096 };
        assert_eq!(read_header(&header), HeaderRead::Good(read));
        let mut damaged = header;
        damaged[30] ^= 1;
        assert_eq!(read_header(&damaged), HeaderRead::Bad);
        assert_eq!(read_header(&header[..47]), HeaderRead::Bad);
        let mut newer = header;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..44]);
        newer[44..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_header(&newer), HeaderRead::OtherVersion(2));
    }
}
