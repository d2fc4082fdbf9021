//! A segment: one file of a log. A header of [`SEGMENT_HEADER_BYTES`], then frames one behind the other.
//!
//! ```text
//! position  size  field
//!        0     8  magic "DLOGSEG\0"
//!        8     4  version, u32 LE, 1
//!       12     4  header bytes, u32 LE, 128: where the first frame begins
//!       16    16  cluster id
//!       32     8  log id, u64 LE
//!       40     8  replica id, u64 LE
//!       48     8  generation, u64 LE
//!       56     8  index of the first frame, u64 LE
//!       64     8  its base offset, u64 LE
//!       72     8  term of the frame before, u64 LE (0 if none)
//!       80     4  CRC of the frame before, u32 LE (0 if none)
//!       84    40  reserved, 0
//!      124     4  CRC32C over bytes 0..124, u32 LE
//! ```
//!
//! The file is named `<index of the first frame, 20 digits>-<generation, 10 digits>.segment`. Where the log ends in a file
//! stands in the checkpoint: bytes behind it (left by a cut, or by a crash) are no part of the log.

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::index::{IndexEntry, IndexName, SparseIndex};
use crate::log_state::{LogIdentity, SegmentName};
use crate::view::SegmentView;
use crate::walk::Walk;
use dlog_core::write::LogPoint;
use dlog_core::{LogId, LogIndex, Offset, ReplicaId, Term, TimestampMs};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where a segment's first frame begins.
pub const SEGMENT_HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"DLOGSEG\0";
const VERSION: u32 = 1;

/// What a segment's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose segment it is.
    pub identity: LogIdentity,
    /// See [`SegmentName::generation`].
    pub generation: u64,
    /// What stands before the first frame.
    pub start: LogPoint,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0u8; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.cluster.0);
        bytes[32..40].copy_from_slice(&self.identity.log.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.identity.replica.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.generation.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.start.index.next().0.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.start.next_offset.0.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.start.term.0.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.start.crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The version of a whole header that [`SegmentHeader::decode`] can't read. Every version keeps magic, version and checksum
    /// where they are: damage isn't taken for another version, nor the other way round.
    pub fn other_version(bytes: &[u8]) -> Option<u32> {
        let fixed = bytes.first_chunk::<SEGMENT_HEADER_BYTES>()?;
        let whole = &fixed[0..8] == MAGIC && crc32c::crc32c(&fixed[..124]).to_le_bytes() == fixed[124..128];
        let version = u32::from_le_bytes(fixed[8..12].try_into().expect("four bytes"));
        (whole && version != VERSION).then_some(version)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// A text that says what is wrong: too short, no segment, damaged, another version.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, String> {
        let Some(fixed) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(format!("a segment's header has {SEGMENT_HEADER_BYTES} bytes, here are {}", bytes.len()));
        };
        let u32_at = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
        if &fixed[0..8] != MAGIC {
            return Err("it does not begin with a segment's magic number".to_string());
        }
        let crc = crc32c::crc32c(&fixed[..124]);
        if crc != u32_at(124) {
            return Err(format!("the header's checksum is {crc:#010x}, it says {:#010x}", u32_at(124)));
        }
        if u32_at(8) != VERSION || u32_at(12) as usize != SEGMENT_HEADER_BYTES || fixed[84..124] != [0; 40] {
            return Err(format!("segment version {} is not known; use the dlog that wrote it", u32_at(8)));
        }
        let first = u64_at(56).checked_sub(1).ok_or("the first frame can't have index 0")?;
        let start = LogPoint {
            index: LogIndex(first),
            term: Term(u64_at(72)),
            next_offset: Offset(u64_at(64)),
            crc: u32_at(80),
        };
        if !start.can_be_followed() {
            return Err(format!("it begins after {start:?}, which nothing can follow"));
        }
        Ok(SegmentHeader {
            identity: LogIdentity {
                cluster: ClusterId(fixed[16..32].try_into().expect("sixteen bytes")),
                log: LogId(u64_at(32)),
                replica: ReplicaId(u64_at(40)),
            },
            generation: u64_at(48),
            start,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}", self.first_index.0, self.generation)
    }
}

impl SegmentName {
    /// The name of the segment's file.
    pub fn file(&self) -> String {
        format!("{self}.segment")
    }

    /// The name of the index beside it.
    pub fn index_file(&self) -> String {
        format!("{self}.index")
    }

    /// The segment that a file with this name is, or is the index of.
    pub fn parse(file: &str) -> Option<SegmentName> {
        let stem = file.strip_suffix(".segment").or_else(|| file.strip_suffix(".index"))?;
        let (first, generation) = stem.split_once('-')?;
        let name = SegmentName { first_index: LogIndex(first.parse().ok()?), generation: generation.parse().ok()? };
        (name.to_string() == stem).then_some(name)
    }
}

/// Locks without minding that another thread panicked: every change under these locks is a single assignment, and the
/// process ends on a panic anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One segment that the log names, whether it is open or not.
pub(crate) struct Segment<D: Disk> {
    /// What stands before its first frame.
    pub(crate) start: LogPoint,
    pub(crate) generation: u64,
    pub(crate) dir: Arc<str>,
    open: Mutex<Weak<OpenSegment<D>>>,
}

/// A segment's file handle and what is known of its index. Readers and the writer share it.
pub(crate) struct OpenSegment<D: Disk> {
    pub(crate) file: D::File,
    pub(crate) path: String,
    start: LogPoint,
    log: LogId,
    index_path: String,
    index_name: IndexName,
    /// Whether nothing was appended to it any more when it was opened: then a whole index is worth a file.
    ended: bool,
    index: Mutex<KnownIndex>,
}

/// The index in memory. `entries` cover the segment from `known_from` on; what lies before is loaded from the index file, or
/// made anew, by the first reader that needs it: a start never reads whole segments.
struct KnownIndex {
    entries: SparseIndex,
    known_from: u64,
    /// Set once the index was found wrong and made anew: a second time the segment itself must be damaged.
    rebuilt: bool,
}

impl<D: Disk> Segment<D> {
    pub(crate) fn new(dir: Arc<str>, start: LogPoint, generation: u64) -> Segment<D> {
        Segment { start, generation, dir, open: Mutex::new(Weak::new()) }
    }

    pub(crate) fn name(&self) -> SegmentName {
        SegmentName { first_index: self.start.index.next(), generation: self.generation }
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.dir, self.name().file())
    }

    pub(crate) fn index_path(&self) -> String {
        format!("{}/{}", self.dir, self.name().index_file())
    }

    /// Makes the file and writes its header.
    pub(crate) fn create(
        &self,
        disk: &D,
        identity: &LogIdentity,
        interval: u64,
    ) -> Result<Arc<OpenSegment<D>>, StorageError> {
        let path = self.path();
        let file = disk.create(&path).map_err(|e| StorageError::io("create", &path, e))?;
        let header = SegmentHeader { identity: *identity, generation: self.generation, start: self.start };
        file.write_at(&[&header.encode()], 0).map_err(|e| StorageError::io("write", &path, e))?;
        let entries = SparseIndex::new(interval, TimestampMs::NONE);
        Ok(self.opened(file, path, identity, entries, SEGMENT_HEADER_BYTES as u64, false))
    }

    /// The open segment: shared if someone has it open, else opened with its header checked.
    pub(crate) fn open(
        &self,
        disk: &D,
        identity: &LogIdentity,
        interval: u64,
        at: &SegmentView<D>,
    ) -> Result<Arc<OpenSegment<D>>, StorageError> {
        if let Some(open) = lock(&self.open).upgrade() {
            return Ok(open);
        }
        let path = self.path();
        let file = disk.open(&path).map_err(|e| StorageError::io("open", &path, e))?;
        let mut bytes = [0u8; SEGMENT_HEADER_BYTES];
        let have = file.read_at(&mut bytes, 0).map_err(|e| StorageError::io("read", &path, e))?;
        if let Some(version) = SegmentHeader::other_version(&bytes[..have]) {
            let detail = format!(
                "it is a segment of version {version}, which this dlog doesn't know; use the dlog that wrote it"
            );
            return Err(StorageError::NeedsOperator { path, detail });
        }
        let header = SegmentHeader::decode(&bytes[..have]).map_err(|detail| StorageError::corrupt(&path, 0, detail))?;
        let expected = SegmentHeader { identity: *identity, generation: self.generation, start: self.start };
        if header != expected {
            let detail = format!("the header is another segment's: {header:?}, expected {expected:?}");
            return Err(StorageError::corrupt(&path, 0, detail));
        }
        let entries = SparseIndex::new(interval, at.greatest_time);
        Ok(self.opened(file, path, identity, entries, at.end, at.ended))
    }

    /// What is known of its index goes, if it is open: it may have been made of damaged bytes.
    pub(crate) fn forget_index(&self, end: u64) {
        if let Some(open) = lock(&self.open).upgrade() {
            let mut index = lock(&open.index);
            index.entries.drop_below(end);
            (index.known_from, index.rebuilt) = (end, false);
        }
    }

    fn opened(
        &self,
        file: D::File,
        path: String,
        identity: &LogIdentity,
        entries: SparseIndex,
        known_from: u64,
        ended: bool,
    ) -> Arc<OpenSegment<D>> {
        let mut slot = lock(&self.open);
        if let Some(open) = slot.upgrade() {
            return open; // another reader was faster; two indexes of one active segment would disagree
        }
        let index_name = IndexName {
            log: identity.log,
            replica: identity.replica,
            first_index: self.start.index.next(),
            generation: self.generation,
        };
        let index = Mutex::new(KnownIndex { entries, known_from, rebuilt: false });
        let (start, index_path) = (self.start, self.index_path());
        let open = Arc::new(OpenSegment { file, path, start, log: identity.log, index_path, index_name, ended, index });
        *slot = Arc::downgrade(&open);
        open
    }
}

impl<D: Disk> OpenSegment<D> {
    /// Notes a frame that was written at `position`.
    pub(crate) fn note(&self, frame: &dlog_core::Frame, position: u64) {
        lock(&self.index).entries.note(frame, position);
    }

    /// Forgets the index at and above `position`: a write there failed, or a cut ended the segment there.
    pub(crate) fn forget_from(&self, position: u64) {
        lock(&self.index).entries.truncate(position);
    }

    /// A walk over the frames up to `end` from the last place that `choose` allows. `choose` is asked of entries in rising
    /// order: is what I look for at or behind this entry?
    pub(crate) fn walk_to(
        &self,
        disk: &D,
        end: u64,
        chunk: usize,
        choose: impl Fn(&IndexEntry) -> bool,
    ) -> Walk<'_, D::File> {
        match self.entry(disk, &choose) {
            Some(entry) => Walk::from_entry(&self.file, &self.path, self.log, &entry, self.start, end, chunk),
            None => Walk::new(&self.file, &self.path, self.log, self.start, end, chunk),
        }
    }

    fn entry(&self, disk: &D, choose: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        {
            let index = lock(&self.index);
            let found = index.entries.last_where(&choose);
            if found.is_some() || index.known_from <= SEGMENT_HEADER_BYTES as u64 {
                return found;
            }
        }
        let is_news = self.complete(disk);
        if is_news && self.ended {
            // Only a cache: the next one to need it tries again.
            let _ = self.save_index(disk);
        }
        lock(&self.index).entries.last_where(&choose)
    }

    /// Makes the index whole: from its file as far as that is good, the rest from the frames. A short rest is left without
    /// entries: whoever looks for something there skips it. Says whether there is more than the file has. Done without the lock;
    /// if two readers do it at once, one result is dropped.
    fn complete(&self, disk: &D) -> bool {
        let (known_from, rebuilt, interval) = {
            let index = lock(&self.index);
            (index.known_from, index.rebuilt, index.entries.interval())
        };
        let loaded = if rebuilt { None } else { self.load(disk, known_from) };
        let mut prefix = loaded.unwrap_or_else(|| SparseIndex::new(interval, TimestampMs::NONE));
        let in_file = prefix.entries().len();
        let mut walk = match prefix.last() {
            Some(entry) if known_from - u64::from(entry.position) <= interval + UNINDEXED_BYTES_MAX => None,
            Some(entry) => {
                Some(Walk::from_entry(&self.file, &self.path, self.log, &entry, self.start, known_from, SCAN_BYTES))
            }
            None => Some(Walk::new(&self.file, &self.path, self.log, self.start, known_from, SCAN_BYTES)),
        };
        // Damage ends the walk: what lies behind it is then reached from the last good entry, and the reader meets it.
        while let Some(Ok(Some((position, frame)))) = walk.as_mut().map(|walk| walk.next_checked(|_| true)) {
            prefix.note(&frame, position);
        }
        let is_news = prefix.entries().len() > in_file;
        let mut index = lock(&self.index);
        if index.known_from == known_from {
            index.entries.put_before(prefix);
            index.known_from = SEGMENT_HEADER_BYTES as u64;
        }
        is_news
    }

    /// Writes the index beside an ended segment, if its beginning is known; else the first reader that makes it whole does.
    /// Unsynced: a torn one is found by its checksum and made anew. That someone else writes it just now is fine.
    pub(crate) fn save_index(&self, disk: &D) -> Result<(), StorageError> {
        let entries = {
            let index = lock(&self.index);
            if index.known_from > SEGMENT_HEADER_BYTES as u64 {
                return Ok(());
            }
            index.entries.clone()
        };
        let path = format!("{}.tmp", self.index_path);
        let file = match disk.create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.map_err(|e| StorageError::io("create", &path, e))?,
        };
        let written = file.write_at(&[&entries.encode(&self.index_name)], 0);
        let named = written.and_then(|()| disk.rename(&path, &self.index_path));
        named.map_err(|e| {
            // Best effort: a leftover would keep the next one from being written.
            let _ = disk.remove(&path);
            StorageError::io("write", &self.index_path, e)
        })
    }

    /// What the index, in its file and in memory, says of the frames behind a position; none of it is checked.
    pub(crate) fn entries_behind(&self, disk: &D, position: u64, end: u64) -> Vec<IndexEntry> {
        let mut entries = self.load(disk, end).map_or_else(Vec::new, |index| index.entries().to_vec());
        entries.extend_from_slice(lock(&self.index).entries.entries());
        entries.retain(|entry| u64::from(entry.position) > position && u64::from(entry.position) < end);
        entries.sort_unstable_by_key(|entry| entry.position);
        entries.dedup_by_key(|entry| entry.position);
        entries
    }

    fn load(&self, disk: &D, below: u64) -> Option<SparseIndex> {
        let file = disk.open(&self.index_path).ok()?;
        let mut bytes = vec![0u8; usize::try_from(file.len().ok()?).ok()?];
        let have = file.read_at(&mut bytes, 0).ok()?;
        let (name, mut index) = SparseIndex::decode(&bytes[..have], lock(&self.index).entries.interval()).ok()?;
        if name != self.index_name {
            return None;
        }
        index.truncate(below);
        Some(index)
    }

    /// Drops the index of everything below `end`, to be made anew from the frames. Says whether that was worth a try: not
    /// if it was done before.
    pub(crate) fn distrust_index(&self, end: u64) -> bool {
        let mut index = lock(&self.index);
        if index.rebuilt {
            return false;
        }
        index.rebuilt = true;
        index.entries.drop_below(end);
        index.known_from = end;
        true
    }
}

/// The end of a segment may lack entries in its index for so much more than an interval: a frame that was noted as the last may
/// be followed by large ones. Walking over it would cost every first seek a read.
const UNINDEXED_BYTES_MAX: u64 = 16 << 10;

/// Bytes read at once when many frames are walked over.
pub(crate) const SCAN_BYTES: usize = 1 << 20;

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
