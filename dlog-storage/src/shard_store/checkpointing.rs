//! Checkpoints: everything up to one journal position made durable outside the journal, so that its files can be used again.

use super::{Replica, ShardStore};
use crate::aside;
use crate::checkpoint::{Checkpoint, ReplicaCheckpoint, write_slot};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::manifest::{self, Manifest};
use crate::producers;
use bytes::Bytes;
use dlog_core::{LogIndex, ReplicaId};

impl<D: Disk> ShardStore<D> {
    /// Whether a checkpoint is due: one is paced for each journal file that was begun, and more when files run out.
    pub fn wants_checkpoint(&self) -> bool {
        let newest = self.slots.get(self.slots.newest()).map_or(0, |(_, generation)| generation);
        let crowded = self.journal.used_files() + 1 >= self.make_files_max();
        self.journal.position().generation > newest || (crowded && self.slots.needed_from() < newest)
    }

    fn make_files_max(&self) -> usize {
        self.journal.options().files_max
    }

    /// Syncs up to `logs` logs ahead of a checkpoint, so that the checkpoint itself has little left to do; true if none is
    /// left.
    ///
    /// # Errors
    /// [`StorageError::SyncFailed`]: the process must end.
    pub fn sync_slice(&mut self, logs: usize) -> Result<bool, StorageError> {
        self.usable()?;
        let dirty = self.replicas.values_mut().filter_map(|known| known.log.as_mut()).filter(|log| log.is_dirty());
        let synced = dirty.take(logs).try_fold(0, |count, log| log.sync().map(|()| count + 1));
        let count: usize = synced.map_err(|error| self.poison(error))?;
        Ok(count < logs)
    }

    /// Writes a replica's table of producers as of `index` and syncs it, before a reset that makes it the one to go on from.
    ///
    /// # Errors
    /// [`StorageError::Full`]: nothing is lost, call again. [`StorageError::Invalid`] if the replica isn't here.
    pub fn store_producers(&mut self, replica: ReplicaId, index: LogIndex, table: &[u8]) -> Result<(), StorageError> {
        self.usable()?;
        self.apply_pending()?;
        let known = self.replicas.get(&replica).ok_or_else(|| super::unknown(replica))?;
        let dir = self.paths.replica(known.meta.log, replica);
        producers::store(&self.disk, &dir, replica, index, table).map_err(|error| self.judge(error))
    }

    /// Makes everything up to the last group durable outside the journal, and frees the journal files that no checkpoint
    /// needs any more. `tables` are the producers of replicas as of an index that is applied; a replica without one keeps
    /// the table that it has.
    ///
    /// # Errors
    /// [`StorageError::Full`]: nothing is lost, call again. Any other error makes the store unusable.
    pub fn checkpoint(&mut self, tables: Vec<(ReplicaId, LogIndex, Bytes)>) -> Result<(), StorageError> {
        self.usable()?;
        self.apply_pending()?;
        let position = self.journal.position();
        while !self.sync_slice(usize::MAX)? {}
        self.sync_dirs()?;
        for (replica, index, table) in tables {
            let Some(known) = self.replicas.get(&replica) else { continue };
            let dir = self.paths.replica(known.meta.log, replica);
            let stored = producers::store(&self.disk, &dir, replica, index, &table);
            stored.map_err(|error| self.judge(error))?;
            let known = self.replicas.get_mut(&replica).expect("just seen");
            known.producers_next = Some(index);
        }
        let replicas = self.replicas.iter().filter_map(|(replica, known)| entry(*replica, known)).collect();
        let checkpoint = Checkpoint { sequence: self.sequence + 1, position, replicas, marks: self.marks.clone() };
        let target = self.slots.target(self.checkpoints_since_start == 0);
        let bytes = checkpoint.encode(self.identity.cluster, self.identity.shard);
        write_slot(&self.disk, &self.paths.dir, target, &bytes).map_err(|error| self.judge(error))?;
        self.sequence = checkpoint.sequence;
        self.slots.set(target, checkpoint.sequence, position.generation);
        self.journal.recycle_before(self.slots.needed_from()).map_err(|error| self.judge(error))?;
        self.tidy_producers().map_err(|error| self.judge(error))?;
        self.checkpoints_since_start += 1;
        if self.checkpoints_since_start == 3 {
            self.tidy_aside().map_err(|error| self.judge(error))?;
        }
        Ok(())
    }

    /// Deleted folders' names too, so that no name outlives the mark of its replica.
    fn sync_dirs(&mut self) -> Result<(), StorageError> {
        for dir in std::mem::take(&mut self.unsynced_dirs) {
            self.disk.sync_dir(&dir).map_err(|error| self.poison(StorageError::sync(&dir, error)))?;
        }
        Ok(())
    }

    /// Tables that neither this checkpoint nor the one before names.
    fn tidy_producers(&mut self) -> Result<(), StorageError> {
        let first = self.checkpoints_since_start == 0;
        for (replica, known) in &mut self.replicas {
            let named = known.producers_next.or(known.producers);
            // The first checkpoint after a start replaces the newer one: the older stays, and what it names is not known.
            if !first && known.producers_before != known.producers {
                let dir = self.paths.replica(known.meta.log, *replica);
                let keep = known.producers.unwrap_or_default();
                producers::remove_before(&self.disk, &dir, keep)?;
            }
            (known.producers_before, known.producers, known.producers_next) = (known.producers, named, None);
        }
        Ok(())
    }

    /// What the start set aside in logs' folders was written again from the journal, and both checkpoints are from after it.
    fn tidy_aside(&mut self) -> Result<(), StorageError> {
        for (replica, known) in &self.replicas {
            let dir = self.paths.replica(known.meta.log, *replica);
            if known.log.as_ref().is_some_and(|log| log.damage().is_empty()) {
                aside::remove_aside(&self.disk, &dir)?;
            }
        }
        Ok(())
    }

    /// Stops in order: writes out, makes a last checkpoint, saves indexes, and notes that the stop was clean.
    ///
    /// # Errors
    /// As [`ShardStore::checkpoint`]; the next start then recovers as after a crash.
    pub fn close(mut self, tables: Vec<(ReplicaId, LogIndex, Bytes)>) -> Result<(), StorageError> {
        self.checkpoint(tables)?;
        for log in self.replicas.values_mut().filter_map(|known| known.log.as_mut()) {
            log.close()?;
        }
        self.journal.seal()?;
        let manifest = Manifest { sequence: self.sequence, group: self.last_group().0 };
        manifest::write(&self.disk, &self.paths.dir, &manifest)
    }
}

/// A replica whose delete is written out is gone from the map; one whose delete is pending can't be here: all is written out.
fn entry<D: Disk>(replica: ReplicaId, known: &Replica<D>) -> Option<ReplicaCheckpoint> {
    let meta = &known.meta;
    Some(ReplicaCheckpoint {
        replica,
        log: meta.log,
        intent: meta.intent,
        term: meta.term,
        vote: meta.vote,
        commit: meta.recorded_commit(),
        membership_index: meta.membership_index,
        membership: meta.membership.clone(),
        producers: known.producers_next.or(known.producers),
        log_state: known.log.as_ref()?.state(),
    })
}
