//! A reader's memory: how far it is in each partition, whichever replica it asks next, and what it was told of ends.

use dlog_core::Offset;

/// A reader of all partitions.
///
/// Invariant: positions and ends never go back.
#[derive(Debug)]
pub struct Reader {
    positions: Vec<Offset>,
    ends: Vec<Offset>,
}

impl Reader {
    /// At the beginning of every partition.
    pub fn new(partitions: usize) -> Reader {
        Reader { positions: vec![Offset::ZERO; partitions], ends: vec![Offset::ZERO; partitions] }
    }

    /// The next offset it wants.
    pub fn position(&self, partition: usize) -> Offset {
        self.positions[partition]
    }

    /// It has read up to here.
    pub fn move_to(&mut self, partition: usize, next: Offset) {
        assert!(next >= self.positions[partition], "a reader's view goes back");
        self.positions[partition] = next;
    }

    /// A leader said where the partition ends.
    pub fn see_end(&mut self, partition: usize, end: Offset) {
        self.ends[partition] = self.ends[partition].max(end);
    }

    /// The greatest end that any leader told.
    pub fn end_said(&self, partition: usize) -> Offset {
        self.ends[partition]
    }
}
