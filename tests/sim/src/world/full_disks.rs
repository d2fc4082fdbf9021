//! Disks that fill up and stay full: for seconds, over restarts, until somebody makes room.

use super::{Event, Phase, World};
use crate::schedule::MILLISECOND;
use dlog_storage::{SimDiskOptions, StorageError};

/// The longest time without room.
const FULL_MS_MAX: u64 = 8_000;

impl World {
    /// All but a little of the node's disk is taken.
    pub(crate) fn fill_disk(&mut self, node: usize) {
        let little = [0, 4 << 10, 64 << 10, 512 << 10][self.fault_random.usize(0..4)];
        let length = self.fault_random.u64(200..=FULL_MS_MAX) * MILLISECOND;
        let one = &mut self.nodes[node];
        one.disk.set_capacity(one.disk.used_bytes() + self.fault_random.u64(0..=little));
        one.full_until = self.schedule.now() + length;
        self.counts.full_disks += 1;
        self.schedule.after(length, Event::Room { node });
    }

    /// Somebody made room, if the disk wasn't filled again since.
    pub(crate) fn on_room(&mut self, node: usize) {
        if self.nodes[node].full_until <= self.schedule.now() && self.phase == Phase::Safety {
            self.make_room(node);
        }
    }

    /// There is room again.
    pub(crate) fn make_room(&mut self, node: usize) {
        self.note(format_args!("node {node} has room on its disk"));
        self.nodes[node].full_until = 0;
        self.nodes[node].disk.set_capacity(SimDiskOptions::default().capacity_bytes);
    }

    /// Counts an error that is for want of room.
    pub(crate) fn count_full(&mut self, error: &StorageError) {
        self.counts.no_room += u64::from(matches!(error, StorageError::Full { .. } | StorageError::JournalFull { .. }));
    }

    /// Whether what a node's store says may be because of its disk.
    pub(crate) fn is_disk_bad(&self, node: usize) -> bool {
        self.nodes[node].disk_faulted || self.nodes[node].full_until > 0
    }
}
