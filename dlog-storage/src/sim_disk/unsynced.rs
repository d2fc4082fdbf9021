//! [`Unsynced`]: what a power loss may take, one by one, so that a test can go through all that may be left of it.

use super::state::{Node, State};
use super::{LoseUnsynced, SimDisk};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// One thing that was not synced: after a power loss it is old or new, whatever the others are. (A change of names brings the
/// earlier ones to the same names with it, and of a sector behind the end of its file nothing is seen.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsynced {
    /// 512 bytes of a file.
    Sector {
        /// Its name, or the number of one without.
        file: String,
        /// Counted from 0.
        sector: u64,
    },
    /// A file's length.
    Length {
        /// As of a sector.
        file: String,
    },
    /// A creation, removal or rename.
    Names {
        /// Counts those that are not synced, from the oldest.
        number: usize,
        /// The names that change.
        names: Vec<String>,
    },
}

impl SimDisk {
    /// All that is not synced: names from the oldest change on, then files. Given up by a failed sync isn't in it: that is
    /// lost in any case.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.lock().unsynced()
    }

    /// Power loss and return, as [`SimDisk::crash`], but of what was not synced exactly this is new and all else is old.
    pub fn crash_keeping(&self, kept: &[Unsynced]) {
        self.lock().crash_keeping(&kept.iter().cloned().collect());
    }

    /// Another disk in the same state, what isn't synced included, as if its process had died just now; with the power on.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let state = self.lock();
        let options = super::SimDiskOptions { seed, ..state.options };
        let mut forked = State {
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            pending: state.pending.clone(),
            ..State::new(options)
        };
        forked.options.lose_unsynced = LoseUnsynced::Nothing;
        forked.crash();
        forked.options = options;
        SimDisk { shared: Arc::new(Mutex::new(forked)) }
    }
}

impl State {
    fn file_label(&self, inode: u64) -> String {
        let name = self.names.iter().find(|(_, node)| **node == Node::File(inode)).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| format!("#{inode}"))
    }

    fn unsynced(&self) -> Vec<Unsynced> {
        let mut all = Vec::new();
        for (number, change) in self.pending.iter().enumerate() {
            let names = change.changes.iter().map(|(name, _)| name.clone()).collect();
            all.push(Unsynced::Names { number, names });
        }
        for (number, inode) in &self.inodes {
            let resized = inode.durable_len != inode.bytes.len() as u64;
            if !resized && inode.unsynced.is_empty() {
                continue;
            }
            let file = self.file_label(*number);
            if resized {
                all.push(Unsynced::Length { file: file.clone() });
            }
            all.extend(inode.unsynced_sectors().map(|sector| Unsynced::Sector { file: file.clone(), sector }));
        }
        all
    }

    fn crash_keeping(&mut self, kept: &BTreeSet<Unsynced>) {
        let labels: Vec<(u64, String)> = self.inodes.keys().map(|inode| (*inode, self.file_label(*inode))).collect();
        let is_kept =
            |number: usize| kept.iter().any(|at| matches!(at, Unsynced::Names { number: n, .. } if *n == number));
        self.lose_process();
        // Asked from the newest on.
        let mut number = self.pending.len();
        self.settle(|_| {
            number -= 1;
            is_kept(number)
        });
        self.lose_names();
        for (inode, file) in labels {
            // Gone with its last name.
            let Some(inode) = self.inodes.get_mut(&inode) else { continue };
            let new = kept.contains(&Unsynced::Length { file: file.clone() });
            let len = if new { inode.bytes.len() as u64 } else { inode.durable_len };
            inode.crash_keeping(len, |sector| kept.contains(&Unsynced::Sector { file: file.clone(), sector }));
        }
        self.refresh_named();
    }
}
