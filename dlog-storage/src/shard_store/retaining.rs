//! Retention in the store: segments below the log start leave the logs with one checkpoint, and their files go with the next,
//! when no checkpoint names them any more. So a file that a checkpoint names is never missing for retention's sake.

use super::ShardStore;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::log::Log;
use dlog_core::write::LogPoint;
use dlog_core::{LogId, ReplicaId};

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

    /// Takes segments out that the checkpoint with this sequence shall no longer name. Group 0's log is left whole: its state
    /// machine's snapshots decide what goes.
    pub(super) fn retire(&mut self, sequence: u64) -> Result<(), StorageError> {
        for (replica, known) in &mut self.replicas {
            let Some(log) = known.log.as_mut() else { continue };
            if let Some(through) = known.meta.producers.filter(|_| known.meta.log != LogId::GROUP_ZERO) {
                match log.retire_below_log_start(through) {
                    Ok(false) => {}
                    Ok(true) => {
                        known.meta.local_start = known.meta.local_start.max(log.local_start().index);
                        self.started_later.insert(*replica);
                    }
                    Err(error) => return Err(self.judge(error)),
                }
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
