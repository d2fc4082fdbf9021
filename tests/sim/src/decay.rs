//! Decay: synced bytes of one file become other bytes while no process runs on its disk.
//!
//! Bits flip, a write that was meant for one place went to another, a write never reached the disk though its sync returned.
//! What a node can't notice by itself is left alone: a group of the journal that nothing behind it proves may as well be torn,
//! so only groups are damaged that a later group or a seal follows, itself whole and synced. Any other file may be damaged
//! anywhere, one at a time.

mod kinds;

pub use kinds::{Kind, Reach};

use dlog_storage::sim_disk::SECTOR_BYTES;
use dlog_storage::{Disk, DiskFile, ShardIdentity, SimDisk};
use kinds::{Files, list};
use std::fmt;
use std::ops::Range;

/// A sector, as positions count.
const SECTOR: u64 = SECTOR_BYTES as u64;
/// The most sectors of a write that went astray or was lost: 8 KiB.
const SECTORS_MAX: u64 = 16;
/// So often something is drawn before it is taken for granted that nothing can be damaged.
const TRIES: usize = 200;

/// What became of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// These bits of the one byte are others.
    Flipped(u8),
    /// They are what stands in another place: a write that was meant for that one, or for another file's same place.
    Misdirected {
        /// The other place's file.
        from: String,
        /// Where it begins there.
        position: u64,
    },
    /// They are zeros, as before they were ever written.
    Zeroed,
}

/// What was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decayed {
    /// The kind of file.
    pub kind: Kind,
    /// The file.
    pub path: String,
    /// Where the damage begins.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
    /// How.
    pub how: How,
}

impl Decayed {
    /// Whether damage may reach into this range of this file.
    pub fn touches(&self, path: &str, range: &Range<u64>) -> bool {
        self.path == path && self.position < range.end && range.start < self.position + self.length
    }
}

impl fmt::Display for Decayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} of {}: ", self.length, self.position, self.path)?;
        match &self.how {
            How::Flipped(mask) => write!(f, "flipped with {mask:#04x}"),
            How::Misdirected { from, position } => write!(f, "what stands at {position} of {from}"),
            How::Zeroed => write!(f, "zeros"),
        }
    }
}

/// Damages one file of `disk`, on which no process may run. `None` if nothing is there that may be damaged.
///
/// # Panics
/// If the disk itself fails: the power must have come back.
pub fn decay(disk: &SimDisk, shard: ShardIdentity, reach: Reach, random: &mut fastrand::Rng) -> Option<Decayed> {
    let files = list(disk, shard, reach, random);
    for _ in 0..TRIES {
        // Small files get their share.
        let kind = files.keys().copied().nth(random.usize(0..files.len().max(1)))?;
        let of_kind = &files[&kind];
        let (path, ranges) = &of_kind[random.usize(0..of_kind.len())];
        if let Some((position, bytes, how)) = draw(disk, &files, (kind, path), ranges, random) {
            disk.overwrite(path, position, &bytes);
            return Some(Decayed { kind, path: path.clone(), position, length: bytes.len() as u64, how });
        }
    }
    None
}

/// Other bytes for some place of this file, and how they came there; `None` if they would be the same.
fn draw(
    disk: &SimDisk,
    files: &Files,
    (kind, path): (Kind, &str),
    ranges: &[Range<u64>],
    random: &mut fastrand::Rng,
) -> Option<(u64, Vec<u8>, How)> {
    let file = content(disk, path);
    let place = draw_place(&file, ranges, random)?;
    let old = &file[place.start as usize..place.end as usize];
    let (at, new, how) = match random.u8(0..4) {
        0 | 1 => {
            let at = random.usize(0..old.len().min(SECTOR_BYTES));
            let one = 1 << random.u8(0..8);
            let mask = if random.u8(0..4) == 0 { one | random.u8(..) } else { one };
            (at, vec![old[at] ^ mask], How::Flipped(mask))
        }
        2 => {
            let (from, source, position) = draw_source(disk, files, (kind, path), place.start, random);
            let new = source.get(position as usize..)?;
            (0, new[..new.len().min(old.len())].to_vec(), How::Misdirected { from, position })
        }
        _ => (0, vec![0; old.len()], How::Zeroed),
    };
    (old[at..at + new.len()] != new).then_some((place.start + at as u64, new, how))
}

/// A place of up to [`SECTORS_MAX`] whole sectors (the file's last may be shorter) within one of `ranges`; mostly one that
/// holds something.
fn draw_place(file: &[u8], ranges: &[Range<u64>], random: &mut fastrand::Rng) -> Option<Range<u64>> {
    let anywhere = random.u8(0..8) == 0;
    let holds = |start: u64| {
        let end = (start as usize + SECTOR_BYTES).min(file.len());
        file[start as usize..end].iter().any(|byte| *byte != 0)
    };
    let sectors =
        ranges.iter().flat_map(|range| (range.start..range.end).step_by(SECTOR_BYTES).map(|start| (start, range.end)));
    let places: Vec<(u64, u64)> = sectors.filter(|(start, _)| anywhere || holds(*start)).collect();
    let (start, end) = random.choice(places)?;
    Some(start..end.min(start + SECTOR * random.u64(1..=SECTORS_MAX)))
}

/// Where a write that went astray was meant to go: half of the time the same place of another file of the kind. The file, its
/// bytes, and the place in it.
fn draw_source(
    disk: &SimDisk,
    files: &Files,
    (kind, path): (Kind, &str),
    place: u64,
    random: &mut fastrand::Rng,
) -> (String, Vec<u8>, u64) {
    let others = files[&kind].iter().map(|(other, _)| other).filter(|other| *other != path);
    if random.bool()
        && let Some(other) = random.choice(others.collect::<Vec<&String>>())
    {
        return (other.clone(), content(disk, other), place);
    }
    let all = files.values().flatten().map(|(path, _)| path).collect::<Vec<&String>>();
    let from = random.choice(all).expect("one is to be damaged");
    let source = content(disk, from);
    let sectors = (source.len() as u64).div_ceil(SECTOR);
    (from.clone(), source, random.u64(0..sectors.max(1)) * SECTOR)
}

/// All bytes of a file.
fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("it was just listed");
    let mut bytes = vec![0; file.len().expect("the power is back") as usize];
    file.read_at(&mut bytes, 0).expect("the power is back");
    bytes
}

#[cfg(test)]
#[path = "decay_tests.rs"]
mod tests;
