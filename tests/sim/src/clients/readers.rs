//! A reader's memory: how far it is in each log, whichever replica it asks next, and what it was told of ends.

use bytes::Bytes;
use dlog_client::machines::{Choice, Position, Turns};
use dlog_core::{LogId, MonotonicTime, NodeId, Offset};
use std::collections::BTreeMap;

/// A reader of all logs.
///
/// Invariant: positions and ends never go back.
#[derive(Debug, Default)]
pub struct Reader {
    positions: BTreeMap<LogId, Position>,
    turns: BTreeMap<LogId, Turns>,
    ends: BTreeMap<LogId, Offset>,
}

impl Reader {
    /// The next offset it wants.
    pub fn position(&self, log: LogId) -> Offset {
        self.positions.get(&log).copied().unwrap_or_default().next
    }

    /// Takes a replica's answer as the client library does.
    ///
    /// # Errors
    /// If it isn't taken whole, or not every record from where it began comes out once and in order.
    pub fn take(&mut self, log: LogId, from: Offset, batches: &[Bytes]) -> Result<Offset, String> {
        let mut position = Position { next: from, ..Position::default() };
        let mut records = Vec::new();
        position.take(batches, &mut records)?;
        let gapless = (from.0..).zip(&records).all(|(at, found)| found.offset.0 == at);
        if !gapless || from.plus(records.len() as u64) != position.next {
            return Err(format!("{} records came out from {from} to {}", records.len(), position.next));
        }
        if from == self.position(log) {
            self.positions.insert(log, position);
        }
        Ok(position.next)
    }

    /// The replica whose turn it is.
    pub fn choose(&mut self, log: LogId, now: u64, nodes: &[NodeId], leader: Option<NodeId>) -> Option<NodeId> {
        let choices: Vec<Choice> = nodes.iter().map(|node| Choice { node: *node, in_rack: false }).collect();
        self.turns.entry(log).or_default().choose(MonotonicTime(now), &choices, leader)
    }

    /// The replica gave something, or nothing.
    pub fn polled(&mut self, log: LogId, something: bool) {
        let turns = self.turns.entry(log).or_default();
        if something { turns.succeeded() } else { turns.failed() }
    }

    /// It goes on here, since what is before is no longer kept.
    pub fn move_to(&mut self, log: LogId, next: Offset) {
        assert!(next >= self.position(log), "a reader's view goes back");
        self.positions.entry(log).or_default().next = next;
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
