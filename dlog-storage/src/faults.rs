//! What of a segment can't be read: found by reading all of it, on any thread, and told as runs of frames between two places that
//! are known.
//!
//! Where a frame is damaged, the place behind it is, in this order: where its own header says that it ends, if a whole frame with
//! the next index stands there; a frame at which the segment's index points; the end of the segment, which the checkpoint knows.

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::index::IndexEntry;
use crate::log::point_after;
use crate::log_state::SegmentName;
use crate::reader::LogReader;
use crate::segment::{OpenSegment, SCAN_BYTES, SEGMENT_HEADER_BYTES};
use crate::view::SegmentView;
use crate::walk::{Walk, check_batch};
use bytes::Bytes;
use dlog_core::frame::{FRAME_HEADER_BYTES, FrameHeader};
use dlog_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use dlog_core::write::LogPoint;
use dlog_core::{Fault, Frame, LogIndex, TimestampMs};
use std::io::ErrorKind;

/// So many faults of a segment are told apart; what follows counts as one. Each costs a question to another replica.
const FAULTS_MAX: usize = 64;

/// Where a walk can go on behind damage.
enum Resume {
    /// At this whole frame, which begins at the position.
    At(u64, Frame),
    /// Nowhere: all up to the end of the segment is in doubt.
    Nowhere,
}

impl<D: Disk> LogReader<D> {
    /// The segments that the log has now, from old to new.
    pub fn segment_names(&self) -> Vec<SegmentName> {
        self.shared.view().segments_from(|_| false).map(|at| at.segment.name()).collect()
    }

    /// Bytes of a segment; `None` if the log doesn't have it any more.
    pub fn segment_bytes(&self, name: SegmentName) -> Option<u64> {
        self.find(name).map(|at| at.end)
    }

    /// Reads all of a segment as it is now, checks every frame and every batch in it, and says what is damaged, in order. Empty
    /// for a whole segment, and for one that the log no longer has. `pace` is called with the number of bytes about to be read; if it
    /// says `false`, the rest isn't read and nothing is found.
    ///
    /// # Errors
    /// The disk's, but for reads that fail (EIO): what they should have given counts as damaged.
    pub fn faults_in(&self, name: SegmentName, pace: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Fault>, StorageError> {
        let Some(at) = self.find(name) else { return Ok(Vec::new()) };
        let faults = self.examine(&at, pace)?;
        // A cut or retention may have taken it meanwhile, file and all.
        let still = self.find(name).is_some_and(|now| now.end >= at.end);
        Ok(if still { faults } else { Vec::new() })
    }

    fn find(&self, name: SegmentName) -> Option<SegmentView<D>> {
        self.shared.view().segments_from(|_| false).find(|at| at.segment.name() == name).cloned()
    }

    fn examine(&self, at: &SegmentView<D>, pace: &mut dyn FnMut(u64) -> bool) -> Result<Vec<Fault>, StorageError> {
        let start = at.segment.start;
        let open = match self.shared.open(at) {
            Ok(open) => open,
            Err(error) if error.is_corrupt() || is_unreadable(&error) => {
                return Ok(vec![fault(at, 0, start, at.end, &at.last)]);
            }
            Err(error) => return Err(error),
        };
        let mut faults = Vec::new();
        let mut walk = Walk::new(&open.file, &open.path, self.shared.identity.log, start, at.end, SCAN_BYTES);
        let (mut good, mut paced) = (start, 0);
        loop {
            if walk.position() >= paced {
                if !pace((at.end - walk.position()).min(SCAN_BYTES as u64)) {
                    return Ok(Vec::new());
                }
                paced = walk.position() + SCAN_BYTES as u64;
            }
            let (position, index) = (walk.position(), walk.index());
            match walk.next_checked(|_| true) {
                Ok(Some((_, frame))) => good = point_after(&frame),
                Ok(None) => break,
                Err(error) if error.is_corrupt() || is_unreadable(&error) => {
                    let resume = if faults.len() + 1 < FAULTS_MAX {
                        self.resume(&open, at, position, index)
                    } else {
                        Resume::Nowhere
                    };
                    let Resume::At(next, frame) = resume else {
                        faults.push(fault(at, position, good, at.end, &at.last));
                        break;
                    };
                    let behind = point_before(&frame);
                    faults.push(fault(at, position, good, next, &behind));
                    let entry = entry_of(&frame, next);
                    let log = self.shared.identity.log;
                    walk = Walk::from_entry(&open.file, &open.path, log, &entry, start, at.end, SCAN_BYTES);
                    walk.forget_chain();
                    good = behind;
                }
                Err(error) => return Err(error),
            }
        }
        // Whole frames, but not those that the log knows: another file's bytes.
        let ends = (good.index, good.crc) == (at.last.index, at.last.crc);
        if !ends && faults.last().is_none_or(|last| last.end < at.end) {
            faults = vec![fault(at, 0, start, at.end, &at.last)];
        }
        Ok(faults)
    }

    fn resume(&self, open: &OpenSegment<D>, at: &SegmentView<D>, position: u64, index: LogIndex) -> Resume {
        let frame_at = |position: u64| self.frame_at(open, position, at.end);
        let behind = header_at(open, position)
            .map(|header| position + FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes));
        if let Some(next) = behind.filter(|next| *next < at.end)
            && let Some(frame) = frame_at(next)
            && frame.index == index.next()
        {
            return Resume::At(next, frame);
        }
        for entry in open.entries_behind(&self.shared.disk, position, at.end) {
            let next = u64::from(entry.position);
            if let Some(frame) = frame_at(next)
                && (frame.index, frame.base_offset) == (entry.index, entry.offset)
                && frame.index > index
            {
                return Resume::At(next, frame);
            }
        }
        Resume::Nowhere
    }

    /// The whole frame that begins at a position, if one does.
    fn frame_at(&self, open: &OpenSegment<D>, position: u64, end: u64) -> Option<Frame> {
        let payload = header_at(open, position)?.payload_bytes as usize;
        let bytes = FRAME_HEADER_BYTES + payload;
        if payload > FRAME_PAYLOAD_BYTES_MAX || position + bytes as u64 > end {
            return None;
        }
        let mut buffer = vec![0; bytes];
        let have = open.file.read_at(&mut buffer, position).ok()?;
        buffer.truncate(have);
        let frame = Frame::decode(self.shared.identity.log, &Bytes::from(buffer)).ok()?;
        check_batch(&frame).is_ok().then_some(frame)
    }
}

fn header_at<D: Disk>(open: &OpenSegment<D>, position: u64) -> Option<FrameHeader> {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let have = open.file.read_at(&mut bytes, position).ok()?;
    FrameHeader::decode(&bytes[..have]).ok()
}

/// Whether a read failed, or the file is missing: the bytes may be on another replica's disk.
fn is_unreadable(error: &StorageError) -> bool {
    match error {
        StorageError::Io { op: "read", .. } => true,
        StorageError::Io { op: "open", source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

fn fault<D: Disk>(at: &SegmentView<D>, position: u64, before: LogPoint, end: u64, last: &LogPoint) -> Fault {
    let name = at.segment.name();
    let position = if position <= SEGMENT_HEADER_BYTES as u64 && before == at.segment.start { 0 } else { position };
    Fault {
        segment: name.first_index,
        generation: name.generation,
        position,
        end,
        before,
        last: last.index,
        next_offset: last.next_offset,
        crc: last.crc,
    }
}

/// What stands before a frame, as it says itself; the term of that isn't known.
fn point_before(frame: &Frame) -> LogPoint {
    LogPoint {
        index: frame.index.previous(),
        next_offset: frame.base_offset,
        crc: frame.previous_crc,
        ..LogPoint::default()
    }
}

fn entry_of(frame: &Frame, position: u64) -> IndexEntry {
    let position = u32::try_from(position).expect("a segment's positions are 32 bits");
    let (index, offset) = (frame.index, frame.base_offset);
    IndexEntry { index, offset, greatest_time_before: TimestampMs::NONE, position }
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
