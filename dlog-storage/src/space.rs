//! [`DiskSpace`]: whether a disk has room for records, decided from figures alone, with hysteresis.
//!
//! A log that fills its disk to the last byte can't even delete: a checkpoint, which lets segments go, is a write. So records are
//! refused while a reserve is still free, and what makes room goes on in it. Two marks lie in the reserve, each with a band above
//! it that must be free again before the level falls back:
//!
//! ```text
//!  free bytes (less those on their way)
//!    reserve + band   ample again
//!    reserve          full: no producer's records
//!    reserve/2 + band only full again
//!    reserve/2        exhausted: no records at all
//! ```
//!
//! Between the two marks a follower takes what leaders appended before they were told: a move of the log start stands behind such
//! records in the log, so a follower that refused them at once could never make room by retention.

use dlog_core::{Space, SpaceLevel};

/// The part of the reserve that must be free again above a mark before the level falls back.
const BAND_PART: u64 = 4;
/// The band at most: what a busy node writes in some seconds. A large reserve needs no larger one.
const BAND_BYTES_MAX: u64 = 256 << 20;
/// The part of a disk that is kept in reserve where nobody says otherwise, at most.
const RESERVE_PART: u64 = 20;
/// A small disk's reserve: below this a few segments of group 0 and a checkpoint would eat it.
const RESERVE_BYTES_MIN: u64 = 64 << 20;
/// A large disk's reserve: nothing that goes on while records are refused needs more.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
/// A tiny disk must stay usable: no more than this part of it is kept in reserve.
const RESERVE_PART_MAX: u64 = 8;
/// The part of the reserve that each shard's ballast is made of, at most.
const BALLAST_PART: u64 = 4;
/// A shard's ballast: what a full journal group and the checkpoint behind it take. It is written once, some 20 MB/s.
const BALLAST_BYTES_MAX: u64 = 32 << 20;

/// How much of a disk isn't for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceOptions {
    /// Bytes that are to stay free. 0: records are taken until nothing is left.
    pub reserve_bytes: u64,
    /// Bytes of the ballast, which counts as used. 0: there is none.
    pub ballast_bytes: u64,
}

impl SpaceOptions {
    /// With this reserve, shared by so many shards; the ballast follows from it.
    pub fn of_reserve(reserve_bytes: u64, shards: u16) -> SpaceOptions {
        let share = reserve_bytes / BALLAST_PART / u64::from(shards.max(1));
        SpaceOptions { reserve_bytes, ballast_bytes: share.min(BALLAST_BYTES_MAX) }
    }

    /// The reserve of a disk of this size where nobody says otherwise.
    pub fn default_reserve(disk_bytes: u64) -> u64 {
        (disk_bytes / RESERVE_PART).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX).min(disk_bytes / RESERVE_PART_MAX)
    }

    fn band(&self) -> u64 {
        (self.reserve_bytes / BAND_PART).min(BAND_BYTES_MAX)
    }

    /// From so many free bytes on a full disk is ample again.
    pub fn ample_from(&self) -> u64 {
        self.reserve_bytes.saturating_add(self.band())
    }

    fn exhausted_below(&self) -> u64 {
        self.reserve_bytes / 2
    }
}

/// The level of a disk's room.
///
/// Invariant: never [`SpaceLevel::Ample`] after a look at less than the reserve, nor [`SpaceLevel::Full`] after one at less than
/// half of it.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpace {
    options: SpaceOptions,
    level: SpaceLevel,
}

impl DiskSpace {
    /// Of a disk that nobody has looked at: ample.
    pub fn new(options: SpaceOptions) -> DiskSpace {
        DiskSpace { options, level: SpaceLevel::Ample }
    }

    /// The disk has `free` bytes, and `owed` more were let in and have yet to reach it.
    pub fn look(&mut self, free: u64, owed: u64) -> Space {
        let left = free.saturating_sub(owed);
        let (full, exhausted) = (self.options.reserve_bytes, self.options.exhausted_below());
        let at_least = level(left, full, exhausted);
        let at_most = level(left, self.options.ample_from(), exhausted.saturating_add(self.options.band()));
        self.level = self.level.min(at_most).max(at_least);
        Space { level: self.level, free_bytes: left, reserve_bytes: full }
    }

    /// The level as of the last look.
    pub fn level(&self) -> SpaceLevel {
        self.level
    }

    /// Its options.
    pub fn options(&self) -> SpaceOptions {
        self.options
    }
}

fn level(left: u64, full_below: u64, exhausted_below: u64) -> SpaceLevel {
    match left {
        _ if left < exhausted_below => SpaceLevel::Exhausted,
        _ if left < full_below => SpaceLevel::Full,
        _ => SpaceLevel::Ample,
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
