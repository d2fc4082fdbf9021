//! The logs whose topics were deleted: the only ground on which a node deletes a replica.
//!
//! That a log is missing from a catalogue proves nothing (the catalogue may be older than the replica, or damaged), so
//! deletions are kept for ever. Log ids are given in order and never again, so neighbouring ones are kept as one run: there
//! are never more runs than topics, plus one.

use super::ids::Ids;
use super::state::{Changes, DeletedValue, Key};
use super::topics::Topics;
use dlog_core::{LogId, LogIndex};
use std::collections::BTreeMap;
use std::ops::Range;

/// Runs of deleted log ids, by their first.
///
/// Invariants: runs are not empty, don't overlap and don't touch; no topic has a log in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletedLogs {
    runs: BTreeMap<LogId, Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// The log id after the last.
    end: LogId,
    /// The greatest group 0 index at which one of them was deleted. Each was deleted above all its own intents, since a
    /// deleted log gets no further ones; so a run need not keep an index for each.
    deleted_at: LogIndex,
}

impl DeletedLogs {
    pub(crate) fn load(&mut self, first: LogId, value: DeletedValue) -> Result<(), String> {
        self.runs.insert(first, Run { end: LogId(value.end), deleted_at: LogIndex(value.deleted_at) });
        Ok(())
    }

    pub(crate) fn save_all(&self, changes: &mut Changes) {
        for (&first, &run) in &self.runs {
            put(first, run, changes);
        }
    }

    pub(crate) fn deleted_at(&self, log: LogId) -> Option<LogIndex> {
        let (_, run) = self.runs.range(..=log).next_back()?;
        (log < run.end).then_some(run.deleted_at)
    }

    /// Adds the logs of a topic that is deleted at `index`, above all indexes so far, and joins what touches.
    pub(crate) fn insert(&mut self, logs: Range<LogId>, index: LogIndex, changes: &mut Changes) {
        let (mut first, mut end) = (logs.start, logs.end);
        if let Some((&before, run)) = self.runs.range(..first).next_back()
            && run.end == first
        {
            self.runs.remove(&before);
            changes.delete(Key::Deleted(before));
            first = before;
        }
        if let Some(run) = self.runs.remove(&end) {
            changes.delete(Key::Deleted(end));
            end = run.end;
        }
        let run = Run { end, deleted_at: index };
        self.runs.insert(first, run);
        put(first, run, changes);
    }

    pub(crate) fn check(&self, topics: &Topics, ids: &Ids, applied: LogIndex) -> Result<(), String> {
        let mut previous_end = LogId(0);
        for (&first, run) in &self.runs {
            if first <= previous_end || run.end <= first || run.end > ids.next_log() || run.deleted_at > applied {
                return Err(format!("the run of deleted logs {first} to {} is not possible", run.end));
            }
            if let Some(log) = topics.first_log_in(first..run.end) {
                return Err(format!("log {log} is deleted and in use"));
            }
            previous_end = run.end;
        }
        Ok(())
    }
}

fn put(first: LogId, run: Run, changes: &mut Changes) {
    changes.put(Key::Deleted(first), &DeletedValue { end: run.end.0, deleted_at: run.deleted_at.0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(logs: &mut DeletedLogs, first: u64, end: u64, index: u64) -> usize {
        let mut changes = Changes::default();
        logs.insert(LogId(first)..LogId(end), LogIndex(index), &mut changes);
        changes.finish().len()
    }

    #[test]
    fn runs_that_touch_are_joined() {
        let mut logs = DeletedLogs::default();
        assert_eq!(insert(&mut logs, 1, 3, 10), 1);
        assert_eq!(insert(&mut logs, 5, 6, 11), 1);
        assert_eq!(logs.deleted_at(LogId(2)), Some(LogIndex(10)));
        assert_eq!(logs.deleted_at(LogId(3)), None);
        assert_eq!(logs.deleted_at(LogId(5)), Some(LogIndex(11)));
        assert_eq!(logs.deleted_at(LogId(6)), None);
        assert_eq!(insert(&mut logs, 3, 5, 12), 2, "the run at 5 goes, the run at 1 grows");
        assert_eq!(logs.runs.len(), 1);
        assert!((1..6).all(|log| logs.deleted_at(LogId(log)) == Some(LogIndex(12))));
        assert_eq!(logs.deleted_at(LogId(0)), None);
        assert_eq!(logs.deleted_at(LogId(6)), None);
    }
}
