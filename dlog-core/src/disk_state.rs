//! [`DiskState`]: what a node's disk allows just now, as its watchers find it and replicas act on it.

use std::fmt;

/// How much room a disk has. The order is that of trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpaceLevel {
    /// Everything is taken.
    #[default]
    Ample,
    /// Below the reserve: no producer's records are taken. What other leaders have appended still is, so that it doesn't stand
    /// in the way of what makes room.
    Full,
    /// Half of the reserve is used up too: no records are taken from anybody. Votes, configurations, log starts and commands are.
    Exhausted,
}

/// How much room a disk has, with the figures. The default is ample without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The level.
    pub level: SpaceLevel,
    /// Bytes that were free when it was looked at, less what is on its way to the disk.
    pub free_bytes: u64,
    /// Bytes that are to stay free.
    pub reserve_bytes: u64,
}

/// What a node's disk allows just now. The default is a disk that is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    /// Its room.
    pub space: Space,
    /// It hasn't answered a write or a sync for too long.
    pub stuck: bool,
}

impl Space {
    /// Whether producers' records are refused.
    pub fn is_full(&self) -> bool {
        self.level > SpaceLevel::Ample
    }
}

/// The figures in a clause: "96 MiB are free, 512 MiB are kept in reserve".
impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are free, {} are kept in reserve", Bytes(self.free_bytes), Bytes(self.reserve_bytes))
    }
}

/// A size in the largest unit that leaves at least two digits, rounded down.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, shift)| self.0 >= 10 << shift) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        let space = Space { level: SpaceLevel::Full, free_bytes: 96 << 20, reserve_bytes: 1 << 30 };
        assert_eq!(space.to_string(), "96 MiB are free, 1024 MiB are kept in reserve");
        let space = Space { free_bytes: 0, reserve_bytes: 12 << 30, ..space };
        assert_eq!(space.to_string(), "0 bytes are free, 12 GiB are kept in reserve");
        assert!(space.is_full() && !Space::default().is_full());
    }
}
