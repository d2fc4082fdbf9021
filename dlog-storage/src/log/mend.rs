//! Mending a [`Log`]: frames that came from another replica go back to where the disk has lost them.
//!
//! They are the same bytes as before, so they are written in place, and a crash in between leaves a fault that is found again.
//! Nothing counts before the last of them is written, fits what stands behind, and is synced.

use super::{Live, Log, point_after};
use crate::aside;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::log_state::SegmentName;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use dlog_core::frame::FRAME_HEADER_BYTES;
use dlog_core::write::LogPoint;
use dlog_core::{Fault, Frame, MendPlace, Mended};
use std::io::ErrorKind;

impl<D: Disk> Log<D> {
    /// Writes frames of a fault, the next ones from `place` on; with the last of them the segment is synced.
    ///
    /// # Errors
    /// [`StorageError::Full`]: call again once there is room. [`StorageError::SyncFailed`]: the process must end.
    /// [`StorageError::Io`].
    pub fn mend(&mut self, fault: &Fault, place: MendPlace, frames: &[Frame]) -> Result<Mended, StorageError> {
        self.usable()?;
        let Some(at) = self.segments.iter().position(|live| has(live, fault)) else { return Ok(Mended::Gone) };
        let Some((point, bytes)) = follow(place.point, frames) else { return Ok(Mended::Other) };
        let from = place.position.max(SEGMENT_HEADER_BYTES as u64);
        let reached = MendPlace { position: from + bytes, point };
        let whole = fault.ends_at(&point) && reached.position == fault.end;
        if !whole && (frames.is_empty() || point.index >= fault.last || reached.position >= fault.end) {
            return Ok(Mended::Other);
        }
        self.put(at, place.position, frames, whole)?;
        if !whole {
            return Ok(Mended::Part(reached));
        }
        self.renew(at)?;
        Ok(Mended::Whole)
    }

    /// Writes into a segment's file, which is made if it is missing, its header too if that is in doubt.
    fn put(&mut self, at: usize, position: u64, frames: &[Frame], sync: bool) -> Result<(), StorageError> {
        let segment = &self.segments[at].at.segment;
        let (path, disk) = (segment.path(), &self.shared.disk);
        let (file, made) = match disk.open(&path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (disk.create(&path).map_err(|error| StorageError::io("create", &path, error))?, true)
            }
            Err(error) => return Err(StorageError::io("open", &path, error)),
        };
        self.names_unsynced |= made;
        let header =
            SegmentHeader { identity: self.shared.identity, generation: segment.generation, start: segment.start };
        let header = header.encode();
        let headers: Vec<[u8; FRAME_HEADER_BYTES]> = frames.iter().map(Frame::encode_header).collect();
        let parts = headers.iter().zip(frames).flat_map(|(header, frame)| [&header[..], &frame.payload[..]]);
        let first = if position == 0 { &header[..] } else { &[] };
        let parts: Vec<&[u8]> = std::iter::once(first).chain(parts).filter(|part| !part.is_empty()).collect();
        let written = file.write_at(&parts, position);
        written.map_err(|error| StorageError::io("write", &path, error))?;
        if sync && let Err(error) = file.sync_data() {
            return Err(self.poison(StorageError::sync(&path, error)));
        }
        if sync && self.names_unsynced {
            if let Err(error) = self.shared.disk.sync_dir(&self.shared.dir) {
                return Err(self.poison(StorageError::sync(&self.shared.dir, error)));
            }
            self.names_unsynced = false;
        }
        Ok(())
    }

    /// Nothing that was made of the damaged bytes stays.
    fn renew(&mut self, at: usize) -> Result<(), StorageError> {
        let live = &self.segments[at];
        let (path, index, end) = (live.at.segment.path(), live.at.segment.index_path(), live.at.end);
        aside::remove_if_there(&self.shared.disk, &index)?;
        live.at.segment.forget_index(end);
        self.shared.close_recent();
        self.damage.retain(|error| !matches!(error, StorageError::Corrupt { path: of, .. } if *of == path));
        Ok(())
    }
}

/// Whether a segment still has all of these frames.
fn has<D: Disk>(live: &Live<D>, fault: &Fault) -> bool {
    let name = SegmentName { first_index: fault.segment, generation: fault.generation };
    let reaches = if live.at.end == fault.end { fault.ends_at(&live.at.last) } else { live.at.end > fault.end };
    live.at.segment.name() == name && reaches
}

/// The point behind frames that follow `point`, and their bytes; `None` if they don't.
fn follow(mut point: LogPoint, frames: &[Frame]) -> Option<(LogPoint, u64)> {
    let mut bytes = 0;
    for frame in frames {
        let follows = frame.index == point.index.next()
            && frame.base_offset == point.next_offset
            && frame.previous_crc == point.crc;
        if !follows {
            return None;
        }
        point = point_after(frame);
        bytes += frame.encoded_bytes() as u64;
    }
    Some((point, bytes))
}
