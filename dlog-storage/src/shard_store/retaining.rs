//! Retention in the store: segments below the log start leave the logs with one checkpoint, and their files go with the next,
//! when no checkpoint names them any more. So a file that a checkpoint names is never missing for retention's sake.
//!
//! Group 0 has no offsets; its segments go by what its state store has synced. The store doesn't go back below that, whichever
//! checkpoint a start finds, so neither checkpoint's log needs what it no longer names.

use super::{Replica, ShardStore};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::log::Log;
use dlog_core::write::LogPoint;
use dlog_core::{LogId, LogIndex, ReplicaId};

impl<D: Disk> Replica<D> {
    /// Up to where group 0's log is needed for nothing but followers. A state that came with a snapshot may be ahead of the log it
    /// belongs to: frames that aren't committed stay.
    fn compactable(&self, state_synced: LogIndex) -> LogIndex {
        state_synced.min(self.meta.recorded_commit())
    }
}

impl<D: Disk> ShardStore<D> {
    /// The replicas whose local start moved since the last call, each with what now stands before its first frame. What is
    /// below can no longer be read here: who needs it gets a snapshot.
    pub fn take_local_starts(&mut self) -> Vec<(ReplicaId, LogPoint)> {
        let moved = std::mem::take(&mut self.started_later);
        let start = |replica| Some((replica, self.replicas.get(&replica)?.log.as_ref()?.local_start()));
        moved.into_iter().filter_map(start).collect()
    }

    /// Ends a replica's active segment, so that retention can have it; no effect if it holds nothing or isn't here.
    ///
    /// # Errors
    /// The disk's; the store is unusable then.
    pub fn end_segment(&mut self, replica: ReplicaId) -> Result<(), StorageError> {
        self.usable()?;
        let log = self.replicas.get_mut(&replica).and_then(|known| known.log.as_mut());
        let ended = log.map_or(Ok(()), Log::end_segment);
        ended.map_err(|error| self.judge(error))
    }

    /// Whether files below log starts wait for checkpoints: without one they stay.
    pub fn owes_removal(&self) -> bool {
        self.removal_owed
    }

    /// Group 0's state is on stable storage up to `applied`: what its log has below that, less what is kept for followers that were
    /// briefly away, goes with the next checkpoints.
    pub fn note_state_synced(&mut self, applied: LogIndex) {
        self.state_synced = self.state_synced.max(applied);
        let group_zero = self.replicas.values().filter(|known| known.meta.log == LogId::GROUP_ZERO);
        let goes = |known: &Replica<D>| {
            let (through, log) = (known.compactable(self.state_synced), known.log.as_ref());
            log.is_some_and(|log| {
                log.synced_segments(through, self.group_zero.kept_entries, self.group_zero.kept_bytes) > 0
            })
        };
        self.removal_owed |= group_zero.into_iter().any(goes);
    }

    /// Takes segments out that the checkpoint with this sequence shall no longer name.
    pub(super) fn retire(&mut self, sequence: u64) -> Result<(), StorageError> {
        for (replica, known) in &mut self.replicas {
            let through = known.compactable(self.state_synced);
            let Some(log) = known.log.as_mut() else { continue };
            let retired = match known.meta.producers {
                _ if known.meta.log == LogId::GROUP_ZERO => {
                    log.retire_synced(through, self.group_zero.kept_entries, self.group_zero.kept_bytes)
                }
                Some(through) => log.retire_below_log_start(through),
                None => Ok(false),
            };
            match retired {
                Ok(false) => {}
                Ok(true) => {
                    known.meta.local_start = known.meta.local_start.max(log.local_start().index);
                    self.started_later.insert(*replica);
                }
                Err(error) => return Err(self.judge(error)),
            }
            log.note_checkpoint(sequence);
        }
        Ok(())
    }

    /// Removes the files that neither this checkpoint nor the one before names.
    pub(super) fn remove_retired(&mut self, sequence: u64) -> Result<(), StorageError> {
        let mut owed = false;
        for log in self.replicas.values_mut().filter_map(|known| known.log.as_mut()).filter(|log| log.has_retired()) {
            log.remove_retired(sequence)?;
            owed |= log.has_retired();
        }
        self.removal_owed = owed;
        Ok(())
    }
}
