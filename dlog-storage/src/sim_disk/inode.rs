//! A simulated file: its bytes, and what a crash may bring back of them.

use super::SECTOR_BYTES;
use std::collections::BTreeMap;

/// A file's bytes, and what its sectors held when it was last synced.
///
/// Invariants: a sector is in at most one of `unsynced` and `lost`; sectors in neither are durable.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    /// Length at the last sync.
    pub(super) durable_len: u64,
    /// What the sectors written since the last sync held then (`None`: zeros).
    pub(super) unsynced: BTreeMap<u64, Option<Box<[u8; SECTOR_BYTES]>>>,
    /// The same for sectors that a failed sync gave up on.
    pub(super) lost: BTreeMap<u64, Option<Box<[u8; SECTOR_BYTES]>>>,
    pub(super) named: bool,
    pub(super) handles: u32,
}

impl Inode {
    /// A file with the same bytes, all of them durable.
    pub(super) fn copy(&self) -> Inode {
        let durable_len = self.bytes.len() as u64;
        Inode { bytes: self.bytes.clone(), durable_len, named: self.named, ..Inode::default() }
    }

    pub(super) fn sector(&self, sector: u64) -> Option<Box<[u8; SECTOR_BYTES]>> {
        let start = sector as usize * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.bytes.len());
        if start >= end || self.bytes[start..end].iter().all(|byte| *byte == 0) {
            return None;
        }
        let mut old = Box::new([0u8; SECTOR_BYTES]);
        old[..end - start].copy_from_slice(&self.bytes[start..end]);
        Some(old)
    }

    /// Remembers what the sectors of a range hold before they change.
    pub(super) fn remember(&mut self, from: u64, to: u64) {
        if to <= from {
            return;
        }
        for sector in from / SECTOR_BYTES as u64..=(to - 1) / SECTOR_BYTES as u64 {
            if self.unsynced.contains_key(&sector) {
                continue;
            }
            let old = match self.lost.remove(&sector) {
                Some(old) => old,
                None => self.sector(sector),
            };
            self.unsynced.insert(sector, old);
        }
    }

    pub(super) fn write(&mut self, part: &[u8], position: u64) {
        let end = position + part.len() as u64;
        if part.is_empty() {
            return;
        }
        self.remember(position.min(self.bytes.len() as u64), end);
        if self.bytes.len() < end as usize {
            self.bytes.resize(end as usize, 0);
        }
        self.bytes[position as usize..end as usize].copy_from_slice(part);
    }

    /// Changes bytes as they are now, and as a crash may bring them back.
    pub(super) fn overwrite(&mut self, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        self.bytes[position as usize..end as usize].copy_from_slice(bytes);
        for (sector, old) in self.unsynced.iter_mut().chain(self.lost.iter_mut()) {
            let start = sector * SECTOR_BYTES as u64;
            let (from, to) = (position.max(start), end.min(start + SECTOR_BYTES as u64));
            if from < to {
                let old = old.get_or_insert_with(|| Box::new([0; SECTOR_BYTES]));
                let part = &bytes[(from - position) as usize..(to - position) as usize];
                old[(from - start) as usize..(to - start) as usize].copy_from_slice(part);
            }
        }
    }

    /// Whether a crash leaves these bytes as they are.
    pub(super) fn is_synced(&self, from: u64, to: u64) -> bool {
        let sectors = from / SECTOR_BYTES as u64..to.div_ceil(SECTOR_BYTES as u64);
        to <= self.durable_len
            && self.unsynced.range(sectors.clone()).next().is_none()
            && self.lost.range(sectors).next().is_none()
    }

    pub(super) fn set_len(&mut self, bytes: u64) {
        let old = self.bytes.len() as u64;
        self.remember(bytes.min(old), bytes.max(old));
        self.bytes.resize(bytes as usize, 0);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_len = self.bytes.len() as u64;
    }

    pub(super) fn restore(&mut self, sector: u64, old: Option<Box<[u8; SECTOR_BYTES]>>) {
        let start = sector as usize * SECTOR_BYTES;
        let end = start + SECTOR_BYTES;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        match old {
            Some(old) => self.bytes[start..end].copy_from_slice(&old[..]),
            None => self.bytes[start..end].fill(0),
        }
    }

    /// The sectors whose bytes a power loss may change.
    pub(super) fn unsynced_sectors(&self) -> impl Iterator<Item = u64> {
        self.unsynced.iter().filter(|(sector, old)| self.sector(**sector) != **old).map(|(sector, _)| *sector)
    }

    /// Power loss: what `keep` names is new, everything else that was not synced is old.
    pub(super) fn crash_keeping(&mut self, len: u64, keep: impl Fn(u64) -> bool) {
        let (unsynced, lost) = (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.lost));
        for (sector, old) in unsynced.into_iter().filter(|(sector, _)| !keep(*sector)).chain(lost) {
            self.restore(sector, old);
        }
        self.bytes.resize(len as usize, 0);
        self.durable_len = len;
    }

    /// Power loss: everything unsynced is old, or each part of it old or new by the seed.
    pub(super) fn crash(&mut self, lose_all: bool, random: &mut fastrand::Rng) {
        let (unsynced, lost) = (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.lost));
        let new_len = self.bytes.len() as u64;
        let len = match random.u8(0..3) {
            _ if lose_all => self.durable_len,
            0 => self.durable_len,
            1 => new_len,
            _ => random.u64(self.durable_len.min(new_len)..=self.durable_len.max(new_len)),
        };
        for (sector, old) in unsynced {
            if lose_all || random.bool() {
                self.restore(sector, old);
            }
        }
        for (sector, old) in lost {
            self.restore(sector, old);
        }
        self.bytes.resize(len as usize, 0);
        self.durable_len = len;
    }
}
