//! `Fault`: frames of one replica that its disk can't give back, between two places that are known: the words between the storage
//! engine, which finds and mends them, and the consensus machine, which gets them from another replica.

use crate::write::LogPoint;
use crate::{LogIndex, Offset};

/// Frames that can't be read, all in one segment.
///
/// Invariants: `before.index <= last`, and equal only if nothing but the segment's header is damaged; `position < end`. Each frame
/// carries the CRC of the one before, so `before` and `crc` together admit no other frames than those that stood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Index of the first frame of the segment: with `generation` it names the file.
    pub segment: LogIndex,
    /// Of the segment.
    pub generation: u64,
    /// The first byte of the file that is in doubt: where the first of these frames begins, or 0 if the file's header is damaged.
    pub position: u64,
    /// The byte behind the last of these frames.
    pub end: u64,
    /// What stands before the first of these frames.
    pub before: LogPoint,
    /// The last of these frames.
    pub last: LogIndex,
    /// The offset after it.
    pub next_offset: Offset,
    /// Its CRC.
    pub crc: u32,
}

impl Fault {
    /// Where its mending begins.
    pub fn start(&self) -> MendPlace {
        MendPlace { position: self.position, point: self.before }
    }

    /// The first of these frames; one above `last` if it is only a header.
    pub fn first(&self) -> LogIndex {
        self.before.index.next()
    }

    /// Whether `point` is what stands behind the last of these frames.
    pub fn ends_at(&self, point: &LogPoint) -> bool {
        (point.index, point.next_offset, point.crc) == (self.last, self.next_offset, self.crc)
    }
}

/// How far a fault is mended: the next byte to write, and what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MendPlace {
    /// In the segment's file.
    pub position: u64,
    /// The last frame written, or what stands before the fault.
    pub point: LogPoint,
}

/// What became of frames that were to mend a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// They stand there; more are missing from here on.
    Part(MendPlace),
    /// The segment is whole again, and synced.
    Whole,
    /// They aren't the frames that stood here: nothing of this mending counts.
    Other,
    /// The segment no longer has these frames: cut, reset or dropped meanwhile.
    Gone,
}
