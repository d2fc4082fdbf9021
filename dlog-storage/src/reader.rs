//! [`LogReader`]: reads a log by offset, by index and by time, on any thread, while the log is appended to, cut and shortened.
//!
//! Nothing leaves that isn't checked: each frame's CRC, its place in the chain, and the batch's own CRC. (What comes from the
//! tail cache never was on a disk.)

use crate::disk::Disk;
use crate::error::StorageError;
use crate::index::greatest_time;
use crate::log_state::LogIdentity;
use crate::retention::SegmentFacts;
use crate::segment::OpenSegment;
use crate::view::{SegmentView, Shared};
use crate::walk::Walk;
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, FrameKind, LogIndex, Offset, TimestampMs, batch};
use std::sync::Arc;

/// A read of the disk has room for so much beyond what is asked for and what an index entry makes us skip: the rest of a batch
/// of a usual size, which begins in it.
const READ_BYTES_SPARE: usize = 16 << 10;
/// And at most so large, unless a single frame is larger: a megabyte of small batches with their frames' headers, or one batch
/// of a megabyte, behind what an index entry makes us skip.
const READ_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// Reads one log. Clones are cheap and share what is open.
pub struct LogReader<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> LogReader<D> {
        LogReader { shared: Arc::clone(&self.shared) }
    }
}

/// What [`LogReader::read_batches`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRead {
    /// Whole batches as stamped by the leader, in order, without gaps; the first one holds the offset that was asked for.
    /// Empty if nothing is readable yet.
    pub batches: Vec<Bytes>,
    /// The offset after the last record in `batches`, or the one asked for.
    pub next: Offset,
    /// Whether they came from memory.
    pub from_cache: bool,
}

impl<D: Disk> LogReader<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> LogReader<D> {
        LogReader { shared }
    }

    /// Whose log it is.
    pub fn identity(&self) -> LogIdentity {
        self.shared.identity
    }

    /// The first readable offset.
    pub fn log_start(&self) -> Offset {
        self.shared.view().log_start
    }

    /// The first offset that isn't written here.
    pub fn log_end(&self) -> Offset {
        self.shared.view().last.next_offset
    }

    /// What stands before the first frame kept here.
    pub fn local_start(&self) -> LogPoint {
        self.shared.view().local_start
    }

    /// The last frame written here.
    pub fn last(&self) -> LogPoint {
        self.shared.view().last
    }

    /// What retention needs to know of its segments, from old to new. Never waits for the disk.
    pub fn segments(&self) -> Vec<SegmentFacts> {
        let facts = |at: &SegmentView<D>| SegmentFacts {
            start: at.segment.start.next_offset,
            end: at.last.next_offset,
            bytes: at.end,
            greatest_time: at.greatest_time,
            ended: at.ended,
            generation: at.segment.generation,
        };
        self.shared.view().segments_from(|_| false).map(facts).collect()
    }

    /// Bytes of the log's segments.
    pub fn bytes(&self) -> u64 {
        self.shared.view().segments_from(|_| false).map(|at| at.end).sum()
    }

    /// The batches from the one that holds `from`, of about `bytes_max` bytes but at least one. None reaches beyond `bound`
    /// (the caller's read bound); none at all if `from` is at or above it.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] below the log start or above the log end; [`StorageError::Corrupt`] if the first batch is
    /// damaged (damage behind it is told to whoever asks for it); [`StorageError::Io`].
    pub fn read_batches(&self, from: Offset, bound: Offset, bytes_max: usize) -> Result<BatchRead, StorageError> {
        self.shared.with_view(|view| {
            let end = view.last.next_offset;
            if from < view.log_start || from > end {
                return Err(StorageError::OutOfRange { log_start: view.log_start, end });
            }
            let bound = bound.min(end);
            if from >= bound {
                return Ok(BatchRead { batches: Vec::new(), next: from, from_cache: false });
            }
            let replica = self.shared.identity.replica;
            if let Some((batches, next)) = self.shared.cache.batches(replica, from, bound, bytes_max) {
                return Ok(BatchRead { batches, next, from_cache: true });
            }
            // A record below the end lies in the first segment that ends behind it.
            let mut segments = view.segments_from(|at| at.last.next_offset <= from);
            let Some(at) = segments.next() else {
                return Err(StorageError::OutOfRange { log_start: view.log_start, end });
            };
            let (batches, next) =
                self.shared.in_segment(at, |open| self.batches_in(open, at.end, from, bound, bytes_max))?;
            Ok(BatchRead { batches, next, from_cache: false })
        })
    }

    fn batches_in(
        &self,
        open: &OpenSegment<D>,
        end: u64,
        from: Offset,
        bound: Offset,
        bytes_max: usize,
    ) -> Result<(Vec<Bytes>, Offset), StorageError> {
        let chunk = self.chunk(bytes_max);
        let mut walk = open.walk_to(&self.shared.disk, end, chunk, |entry| entry.offset <= from);
        let (mut batches, mut next, mut bytes) = (Vec::new(), from, 0usize);
        while !full(&walk, bytes, bytes_max) {
            let (position, frame) = match walk.next_checked(|frame| frame.next_offset() > from) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(e) if batches.is_empty() => return Err(e),
                Err(_) => break,
            };
            if frame.kind != FrameKind::Records || frame.next_offset() <= from {
                continue;
            }
            if batches.is_empty() && frame.base_offset > from {
                let detail = format!("offset {from} should stand before the batch at offset {}", frame.base_offset);
                return Err(StorageError::corrupt(&open.path, position, detail));
            }
            let too_much = !batches.is_empty() && bytes + frame.payload.len() > bytes_max;
            if too_much || frame.next_offset() > bound {
                break;
            }
            bytes += frame.payload.len();
            next = frame.next_offset();
            batches.push(frame.payload);
        }
        if pins_too_much(&walk, bytes) {
            batches.iter_mut().for_each(|batch| *batch = Bytes::copy_from_slice(batch));
        }
        Ok((batches, next))
    }

    /// The frames from `from` up to, not with, `to`, of about `bytes_max` bytes but at least one; fewer if a segment ends
    /// between. Empty only if `from` is `to` or above the last frame.
    ///
    /// # Errors
    /// [`StorageError::IndexOutOfRange`] if `from` isn't kept here or leaves a gap; [`StorageError::Corrupt`] if the first
    /// frame is damaged; [`StorageError::Io`].
    pub fn read_frames(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<Frame>, StorageError> {
        self.shared.with_view(|view| {
            let first = view.local_start.index.next();
            if from < first || from > view.last.index.next() {
                return Err(StorageError::IndexOutOfRange { first, last: view.last.index });
            }
            let to = to.min(view.last.index.next());
            if from >= to {
                return Ok(Vec::new());
            }
            if let Some(frames) = self.shared.cache.frames(self.shared.identity.replica, from, to, bytes_max) {
                return Ok(frames);
            }
            let mut segments = view.segments_from(|at| at.last.index < from);
            let Some(at) = segments.next() else {
                return Err(StorageError::IndexOutOfRange { first, last: view.last.index });
            };
            self.shared.in_segment(at, |open| self.frames_in(open, at.end, from, to, bytes_max))
        })
    }

    fn frames_in(
        &self,
        open: &OpenSegment<D>,
        end: u64,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Frame>, StorageError> {
        let chunk = self.chunk(bytes_max);
        let mut walk = open.walk_to(&self.shared.disk, end, chunk, |entry| entry.index <= from);
        let (mut frames, mut bytes) = (Vec::new(), 0usize);
        while walk.index() < to && !full(&walk, bytes, bytes_max) {
            let frame = match walk.next_checked(|frame| frame.index >= from) {
                Ok(Some((_, frame))) => frame,
                Ok(None) => break,
                Err(e) if frames.is_empty() => return Err(e),
                Err(_) => break,
            };
            if frame.index < from {
                continue;
            }
            if !frames.is_empty() && bytes + frame.encoded_bytes() > bytes_max {
                break;
            }
            bytes += frame.encoded_bytes();
            frames.push(frame);
        }
        if pins_too_much(&walk, bytes) {
            frames.iter_mut().for_each(|frame| frame.payload = Bytes::copy_from_slice(&frame.payload));
        }
        Ok(frames)
    }

    /// The first record, below `bound` and not below the log start, whose time is `at` or later: exact, though the times of
    /// records may go back. In a batch that this build can't decompress, the batch's first record stands for all of them.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if damage stands in the way; [`StorageError::Io`].
    pub fn offset_for_time(&self, at: TimestampMs, bound: Offset) -> Result<Option<Offset>, StorageError> {
        self.shared.with_view(|view| {
            let floor = view.log_start;
            let segments = view.segments_from(|segment| segment.last.next_offset <= floor);
            for segment in segments.filter(|segment| segment.greatest_time >= at) {
                if segment.segment.start.next_offset >= bound {
                    break;
                }
                let found = self.shared.in_segment(segment, |open| self.time_in(open, segment, at, floor, bound))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn time_in(
        &self,
        open: &OpenSegment<D>,
        segment: &SegmentView<D>,
        at: TimestampMs,
        floor: Offset,
        bound: Offset,
    ) -> Result<Option<Offset>, StorageError> {
        // Before such an entry every record is too early, or is below the log start.
        let walk = open.walk_to(&self.shared.disk, segment.end, self.chunk(0), |entry| {
            entry.greatest_time_before < at || entry.offset <= floor
        });
        // Far only where the times of records go back.
        let mut walk = walk.growing(READ_BYTES_MAX);
        loop {
            // All are checked: the greatest time, by which a batch is passed over, is covered by the batch's CRC alone.
            let Some((_, frame)) = walk.next_checked(|_| true)? else { return Ok(None) };
            if frame.base_offset >= bound {
                return Ok(None);
            }
            let late_enough = greatest_time(&frame).is_some_and(|time| time >= at);
            if !late_enough || frame.next_offset() <= floor {
                continue;
            }
            match first_at(&frame, at, floor) {
                Some(offset) if offset >= bound => return Ok(None),
                Some(offset) => return Ok(Some(offset)),
                None => {}
            }
        }
    }

    /// Where the last `count` records below `bound` begin, not below the log start.
    pub fn offset_of_last(&self, count: u64, bound: Offset) -> Offset {
        let view = self.shared.view();
        let bound = bound.min(view.last.next_offset);
        Offset(bound.0.saturating_sub(count)).max(view.log_start)
    }

    /// How much to read at once: what is asked for and what an index entry may make us skip.
    fn chunk(&self, bytes_max: usize) -> usize {
        let skip = usize::try_from(self.shared.index_interval).unwrap_or(READ_BYTES_MAX);
        // Headers of frames: a sixteenth where batches have 700 bytes.
        let wanted = bytes_max.saturating_add(bytes_max / 16);
        wanted.saturating_add(skip).saturating_add(READ_BYTES_SPARE).min(READ_BYTES_MAX)
    }
}

/// The first record of a batch that is not below `floor` and whose time is `at` or later; the first not below `floor` if the
/// batch can't be decoded.
fn first_at(frame: &Frame, at: TimestampMs, floor: Offset) -> Option<Offset> {
    let Ok(records) = batch::decode_records(&frame.payload) else { return Some(frame.base_offset.max(floor)) };
    for record in records {
        let Ok(record) = record else { return Some(frame.base_offset.max(floor)) };
        if record.offset >= floor && record.record.timestamp >= at {
            return Some(record.offset);
        }
    }
    None
}

/// Whether another frame is not worth it: it would be too much, or it would cost another read (of a whole chunk, of which
/// nothing but this frame may be wanted) though there is enough already.
fn full<F: crate::disk::DiskFile>(walk: &Walk<'_, F>, bytes: usize, bytes_max: usize) -> bool {
    bytes > 0
        && match walk.next_in_memory() {
            Some(next) => bytes + next > bytes_max,
            None => bytes >= bytes_max / 2,
        }
}

/// Whether slices of `bytes` bytes would keep far larger buffers alive.
fn pins_too_much<F: crate::disk::DiskFile>(walk: &Walk<'_, F>, bytes: usize) -> bool {
    walk.read_bytes() > bytes.saturating_mul(2)
}
