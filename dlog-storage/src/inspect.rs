//! Looks at a data directory's files without writing: what `dlog inspect` prints. Works beside a running node too, whose
//! files change meanwhile: what looks damaged is then looked at again.

mod journal;
mod log;

pub use journal::{JournalReport, journal};
pub use log::{LogPlace, LogReport, log};
pub(crate) use log::{inspect_replica, replica_pictures};

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::index::IndexEntry;
use crate::segment::{SCAN_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::walk::{Walk, check_batch};
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, LogId, LogIndex, Offset, TimestampMs};

/// A range of bytes that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// Where the range begins.
    pub position: u64,
    /// How many bytes can't be used; 0 if the place alone is known.
    pub bytes: u64,
    /// The Raft index that is missing there first, if known.
    pub index: Option<LogIndex>,
    /// The offset that is missing there first, if known.
    pub offset: Option<Offset>,
    /// What doesn't match.
    pub detail: String,
}

impl Damage {
    /// The damage that an error tells of; other errors are given back.
    ///
    /// # Errors
    /// The error, if it is no [`StorageError::Corrupt`].
    pub fn from_error(error: StorageError) -> Result<Damage, StorageError> {
        match error {
            StorageError::Corrupt { path, position, index, offset, detail } => {
                Ok(Damage { path, position, bytes: 0, index, offset, detail })
            }
            other => Err(other),
        }
    }
}

/// A good frame and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct FrameAt<'a> {
    /// The file.
    pub path: &'a str,
    /// Where the frame begins; 0 for one that is only in the journal.
    pub position: u64,
    /// The frame.
    pub frame: &'a Frame,
}

/// What stands in one segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The header.
    pub header: Option<SegmentHeader>,
    /// The last good frame's index; that before the first without one.
    pub last_index: LogIndex,
    /// The offset after it.
    pub next_offset: Offset,
    /// Good frames.
    pub frames: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What is damaged. Bytes behind the last frame count, though a file that was cut may have them: only the checkpoint
    /// knows where a log ends in it ([`log`] asks it).
    pub damage: Vec<Damage>,
}

/// Reads one segment file from beginning to end; `visit` sees each good frame.
///
/// # Errors
/// [`StorageError::Io`]. Damage is no error.
pub fn segment<D: Disk>(
    disk: &D,
    path: &str,
    visit: &mut dyn FnMut(FrameAt<'_>),
) -> Result<SegmentReport, StorageError> {
    let file = disk.open(path).map_err(|e| StorageError::io("open", path, e))?;
    let bytes = file.len().map_err(|e| StorageError::io("read the length of", path, e))?;
    let mut report = SegmentReport {
        header: None,
        last_index: LogIndex::ZERO,
        next_offset: Offset::ZERO,
        frames: 0,
        bytes,
        damage: Vec::new(),
    };
    match read_header(&file, path)? {
        Err(damage) => report.damage.push(damage),
        Ok(header) => {
            report.header = Some(header);
            let start = header.start;
            (report.last_index, report.next_offset) = (start.index, start.next_offset);
            let mut damage = Vec::new();
            let span = Span { log: header.identity.log, start, end: bytes, last: LogIndex(u64::MAX) };
            span.scan(&file, path, &mut damage, &mut |at| {
                report.frames += 1;
                (report.last_index, report.next_offset) = (at.frame.index, at.frame.next_offset());
                visit(at);
            })?;
            report.damage = damage;
        }
    }
    Ok(report)
}

/// A segment's header, or what is wrong with it.
pub(crate) fn read_header<F: DiskFile>(file: &F, path: &str) -> Result<Result<SegmentHeader, Damage>, StorageError> {
    let mut bytes = [0u8; SEGMENT_HEADER_BYTES];
    let have = file.read_at(&mut bytes, 0).map_err(|e| StorageError::io("read", path, e))?;
    Ok(SegmentHeader::decode(&bytes[..have]).map_err(|detail| Damage {
        path: path.to_string(),
        position: 0,
        bytes: have as u64,
        index: None,
        offset: None,
        detail,
    }))
}

/// The part of a segment that is to be read.
pub(crate) struct Span {
    pub(crate) log: LogId,
    /// What stands before the first frame.
    pub(crate) start: LogPoint,
    /// Where to stop, in bytes.
    pub(crate) end: u64,
    /// The last index to read.
    pub(crate) last: LogIndex,
}

impl Span {
    /// Reads every frame; behind damage it goes on with the next whole frame that can be found.
    pub(crate) fn scan<F: DiskFile>(
        &self,
        file: &F,
        path: &str,
        damage: &mut Vec<Damage>,
        visit: &mut dyn FnMut(FrameAt<'_>),
    ) -> Result<(), StorageError> {
        let mut walk = Walk::new(file, path, self.log, self.start, self.end, SCAN_BYTES);
        while walk.index() <= self.last {
            match walk.next() {
                Ok(None) => break,
                Ok(Some((position, frame))) => match check_batch(&frame) {
                    Ok(()) => visit(FrameAt { path, position, frame: &frame }),
                    Err(detail) => damage.push(Damage {
                        path: path.to_string(),
                        position,
                        bytes: frame.encoded_bytes() as u64,
                        index: Some(frame.index),
                        offset: Some(frame.base_offset),
                        detail,
                    }),
                },
                Err(error) => {
                    let mut found = Damage::from_error(error)?;
                    let next = self.next_whole(file, path, found.position, (walk.index(), walk.offset()))?;
                    found.bytes = next.map_or(self.end, |entry| u64::from(entry.position)) - found.position;
                    damage.push(found);
                    let Some(entry) = next else { break };
                    walk = Walk::from_entry(file, path, self.log, &entry, self.start, self.end, SCAN_BYTES);
                    walk.forget_chain();
                }
            }
        }
        Ok(())
    }

    /// The next place, at or behind `from`, where a whole frame of this log stands with index and offset not below these.
    fn next_whole<F: DiskFile>(
        &self,
        file: &F,
        path: &str,
        from: u64,
        (index, offset): (LogIndex, Offset),
    ) -> Result<Option<IndexEntry>, StorageError> {
        let mut bytes = vec![0u8; usize::try_from(self.end.saturating_sub(from)).unwrap_or(0)];
        let have = file.read_at(&mut bytes, from).map_err(|e| StorageError::io("read", path, e))?;
        bytes.truncate(have);
        let bytes = Bytes::from(bytes);
        for at in 0..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1) {
            let Ok(header) = FrameHeader::decode(&bytes[at..]) else { continue };
            // Cheap tests first: each byte of the rest is tried.
            let fits = header.payload_bytes as usize <= FRAME_PAYLOAD_BYTES_MAX
                && header.index >= index
                && header.index.0 - index.0 <= (at / FRAME_HEADER_BYTES) as u64 + 1
                && header.base_offset >= offset
                && header.base_offset <= Offset::MAX;
            if fits
                && let Ok(frame) = Frame::decode(self.log, &bytes.slice(at..))
                && let Ok(position) = u32::try_from(from + at as u64)
            {
                return Ok(Some(IndexEntry {
                    index: frame.index,
                    offset: frame.base_offset,
                    greatest_time_before: TimestampMs::NONE,
                    position,
                }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
