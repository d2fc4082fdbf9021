//! [`Walk`]: reads the frames of a segment one after the other, in large reads, and checks each: its own CRC, its index, its
//! offset and the CRC of the frame before.

use crate::disk::DiskFile;
use crate::error::StorageError;
use crate::index::IndexEntry;
use crate::segment::SEGMENT_HEADER_BYTES;
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use dlog_core::write::LogPoint;
use dlog_core::{BatchLimits, Frame, FrameKind, LogId, LogIndex, Offset, batch};

/// A place in a segment and what the next frame must be. After an error it must not be used again.
pub(crate) struct Walk<'a, F> {
    file: &'a F,
    path: &'a str,
    log: LogId,
    position: u64,
    end: u64,
    index: LogIndex,
    offset: Offset,
    /// CRC of the frame before; unknown behind an index entry.
    crc: Option<u32>,
    chunk: usize,
    /// What a chunk may grow to.
    chunk_max: usize,
    buffer: Bytes,
    buffer_at: u64,
    read_bytes: usize,
}

impl<'a, F: DiskFile> Walk<'a, F> {
    /// From the first frame of a segment that begins after `start`, up to `end`; reads about `chunk` bytes at once.
    pub(crate) fn new(file: &'a F, path: &'a str, log: LogId, start: LogPoint, end: u64, chunk: usize) -> Walk<'a, F> {
        Walk {
            file,
            path,
            log,
            position: SEGMENT_HEADER_BYTES as u64,
            end,
            index: start.index.next(),
            offset: start.next_offset,
            crc: Some(start.crc),
            chunk,
            chunk_max: chunk,
            buffer: Bytes::new(),
            buffer_at: 0,
            read_bytes: 0,
        }
    }

    /// From the frame of an index entry.
    pub(crate) fn from_entry(
        file: &'a F,
        path: &'a str,
        log: LogId,
        entry: &IndexEntry,
        start: LogPoint,
        end: u64,
        chunk: usize,
    ) -> Walk<'a, F> {
        let mut walk = Walk::new(file, path, log, start, end, chunk);
        if u64::from(entry.position) != walk.position {
            walk.crc = None;
        }
        walk.position = u64::from(entry.position);
        walk.index = entry.index;
        walk.offset = entry.offset;
        walk
    }

    /// Each further read is twice as large as the one before, up to `chunk_max` bytes: for whoever expects to stop soon and may
    /// be wrong.
    pub(crate) fn growing(mut self, chunk_max: usize) -> Walk<'a, F> {
        self.chunk_max = chunk_max.max(self.chunk);
        self
    }

    /// The next frame follows something unknown.
    pub(crate) fn forget_chain(&mut self) {
        self.crc = None;
    }

    /// Where the next frame begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame's index.
    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// The next frame's base offset.
    pub(crate) fn offset(&self) -> Offset {
        self.offset
    }

    /// Bytes read from the file so far: what the payloads handed out may pin together.
    pub(crate) fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Bytes of the next frame, if all of it is in memory already.
    pub(crate) fn next_in_memory(&self) -> Option<usize> {
        let at = usize::try_from(self.position.checked_sub(self.buffer_at)?).ok()?;
        let rest = self.buffer.get(at..)?;
        let bytes = FRAME_HEADER_BYTES + FrameHeader::decode(rest).ok()?.payload_bytes as usize;
        (bytes <= rest.len()).then_some(bytes)
    }

    /// The next frame and where it begins; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Frame)>, StorageError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let at = self.have(FRAME_HEADER_BYTES)?;
        let header = FrameHeader::decode(&self.buffer[at..]).map_err(|e| self.damaged(e.to_string()))?;
        let payload = header.payload_bytes as usize;
        if payload > FRAME_PAYLOAD_BYTES_MAX {
            return Err(self.damaged(format!("a frame of {payload} bytes is larger than any")));
        }
        let bytes = FRAME_HEADER_BYTES + payload;
        let at = self.have(bytes)?;
        let payload = self.buffer.slice(at + FRAME_HEADER_BYTES..at + bytes);
        let frame = header.checked_with_payload(self.log, payload).map_err(|e| self.damaged(e.to_string()))?;
        self.check(&frame)?;
        let position = self.position;
        self.position += frame.encoded_bytes() as u64;
        self.index = frame.index.next();
        self.offset = frame.next_offset();
        self.crc = Some(frame.crc);
        Ok(Some((position, frame)))
    }

    /// As [`Walk::next`]; the batch in it is checked too if the frame is `wanted`.
    pub(crate) fn next_checked(
        &mut self,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Option<(u64, Frame)>, StorageError> {
        let Some((position, frame)) = self.next()? else { return Ok(None) };
        if wanted(&frame) {
            check_batch(&frame).map_err(|detail| StorageError::Corrupt {
                path: self.path.to_string(),
                position,
                index: Some(frame.index),
                offset: Some(frame.base_offset),
                detail,
            })?;
        }
        Ok(Some((position, frame)))
    }

    fn check(&self, frame: &Frame) -> Result<(), StorageError> {
        if frame.index != self.index {
            return Err(self.damaged(format!("a frame with index {} stands here", frame.index)));
        }
        if frame.base_offset != self.offset {
            return Err(self.damaged(format!("a frame with base offset {} stands here", frame.base_offset)));
        }
        if let Some(crc) = self.crc
            && frame.previous_crc != crc
        {
            let found = frame.previous_crc;
            return Err(
                self.damaged(format!("it follows a frame with CRC {found:#010x}, the one before has {crc:#010x}"))
            );
        }
        Ok(())
    }

    /// Where in the buffer the position is, with at least `needed` bytes from there on: read, if they aren't there already.
    fn have(&mut self, needed: usize) -> Result<usize, StorageError> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if needed > left {
            return Err(
                self.damaged(format!("a frame of {needed} bytes doesn't fit before the end at byte {}", self.end))
            );
        }
        if self.position >= self.buffer_at {
            let at = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
            if at <= self.buffer.len() && self.buffer.len() - at >= needed {
                return Ok(at);
            }
        }
        let bytes = self.file.read_vec(needed.max(self.chunk).min(left), self.position);
        let bytes = bytes.map_err(|e| StorageError::io("read", self.path, e))?;
        self.read_bytes += bytes.len();
        self.chunk = self.chunk.saturating_mul(2).min(self.chunk_max);
        if bytes.len() < needed {
            return Err(self.damaged(format!("the file ends {} bytes early", needed - bytes.len())));
        }
        self.buffer = Bytes::from(bytes);
        self.buffer_at = self.position;
        Ok(0)
    }

    /// Damage in the next frame.
    pub(crate) fn damaged(&self, detail: String) -> StorageError {
        StorageError::Corrupt {
            path: self.path.to_string(),
            position: self.position,
            index: Some(self.index),
            offset: Some(self.offset),
            detail,
        }
    }
}

/// Checks what a frame's own CRC doesn't: that the batch in it is whole and is the one that the frame's header names.
pub(crate) fn check_batch(frame: &Frame) -> Result<(), String> {
    if frame.kind != FrameKind::Records {
        return Ok(());
    }
    let header = batch::validate(&frame.payload, BatchLimits::HARD).map_err(|e| e.to_string())?;
    if (header.base_offset, header.record_count) != (frame.base_offset, frame.record_count) {
        let (base, count) = (header.base_offset, header.record_count);
        return Err(format!("the batch says base offset {base} and {count} records, its frame says otherwise"));
    }
    Ok(())
}
