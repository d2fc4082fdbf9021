//! The recent commands with their outcomes: why a retry of a command is applied once.
//!
//! A retry is the same command, with the same id, at a later index: its maker didn't learn what became of the first one.

use super::state::{Changes, Key, RequestValue};
use crate::command::CommandId;
use crate::outcome::{CommandOutcome, OutcomeValue};
use dlog_core::LogIndex;
use std::collections::BTreeMap;

/// How many commands are remembered: a retry must come before so many others. About 200 bytes each in memory and in a
/// snapshot; at 100 commands a second it covers 40 seconds.
pub const REQUESTS_MAX: usize = 4096;

/// The last commands, by the index at which they were applied.
///
/// Invariants: at most [`REQUESTS_MAX`]; `by_id` holds the same commands as `by_index`, each once. The oldest goes first,
/// so what is kept follows from the log alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    by_index: BTreeMap<LogIndex, (CommandId, CommandOutcome)>,
    by_id: BTreeMap<CommandId, LogIndex>,
}

impl Requests {
    pub(crate) fn load(&mut self, index: LogIndex, value: RequestValue) -> Result<(), String> {
        let id = CommandId((u128::from(value.id_high) << 64) | u128::from(value.id_low));
        let outcome = value.outcome.and_then(OutcomeValue::into_outcome).ok_or("the outcome is of no known kind")?;
        self.by_index.insert(index, (id, outcome));
        match self.by_id.insert(id, index) {
            None => Ok(()),
            Some(other) => Err(format!("{id:?} stands at {other} too")),
        }
    }

    pub(crate) fn save_all(&self, changes: &mut Changes) {
        for (&index, (id, outcome)) in &self.by_index {
            put(index, *id, outcome, changes);
        }
    }

    pub(crate) fn outcome(&self, id: CommandId) -> Option<&CommandOutcome> {
        self.by_id.get(&id).and_then(|index| self.by_index.get(index)).map(|(_, outcome)| outcome)
    }

    /// Remembers a command that isn't known yet, and forgets the oldest if they are too many.
    pub(crate) fn insert(&mut self, index: LogIndex, id: CommandId, outcome: CommandOutcome, changes: &mut Changes) {
        put(index, id, &outcome, changes);
        self.by_index.insert(index, (id, outcome));
        self.by_id.insert(id, index);
        while self.by_index.len() > REQUESTS_MAX {
            let Some((oldest, (id, _))) = self.by_index.pop_first() else { break };
            self.by_id.remove(&id);
            changes.delete(Key::Request(oldest));
        }
    }

    pub(crate) fn check(&self, applied: LogIndex) -> Result<(), String> {
        if self.by_index.len() > REQUESTS_MAX || self.by_id.len() != self.by_index.len() {
            return Err(format!("{} recent commands, {} ids", self.by_index.len(), self.by_id.len()));
        }
        match self.by_index.last_key_value() {
            Some((&last, _)) if last > applied => {
                Err(format!("a command at {last} is newer than the applied {applied}"))
            }
            _ => Ok(()),
        }
    }
}

fn put(index: LogIndex, id: CommandId, outcome: &CommandOutcome, changes: &mut Changes) {
    let (id_high, id_low) = ((id.0 >> 64) as u64, id.0 as u64);
    changes.put(Key::Request(index), &RequestValue { id_high, id_low, outcome: Some(outcome.into()) });
}
