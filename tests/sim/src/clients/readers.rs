//! A reader's memory: how far it is in each log, whichever replica it asks next, and what it was told of ends.

use dlog_core::{LogId, Offset};
use std::collections::BTreeMap;

/// A reader of all logs.
///
/// Invariant: positions and ends never go back.
#[derive(Debug, Default)]
pub struct Reader {
    positions: BTreeMap<LogId, Offset>,
    ends: BTreeMap<LogId, Offset>,
}

impl Reader {
    /// The next offset it wants.
    pub fn position(&self, log: LogId) -> Offset {
        self.positions.get(&log).copied().unwrap_or_default()
    }

    /// It has read up to here.
    pub fn move_to(&mut self, log: LogId, next: Offset) {
        assert!(next >= self.position(log), "a reader's view goes back");
        self.positions.insert(log, next);
    }

    /// A leader said where the log ends.
    pub fn see_end(&mut self, log: LogId, end: Offset) {
        let known = self.ends.entry(log).or_default();
        *known = (*known).max(end);
    }

    /// The greatest end that any leader told.
    pub fn end_said(&self, log: LogId) -> Offset {
        self.ends.get(&log).copied().unwrap_or_default()
    }
}
