//! Checkpoints: everything up to one journal position made durable outside the journal, so that its files can be used again.

use super::{Replica, ShardStore};
use crate::aside;
use crate::checkpoint::{Checkpoint, ReplicaCheckpoint, write_slot};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::log::Log;
use crate::manifest::{self, Manifest};
use crate::producers;
use bytes::Bytes;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogIndex, ReplicaId};
use std::collections::{BTreeMap, VecDeque};

/// A replica's producers as of an index.
pub type ProducerTable = (ReplicaId, LogIndex, Bytes);

/// A checkpoint on its way: tables are stored, then the shard is captured, then what that names is synced.
pub(super) struct Making {
    tables: VecDeque<ProducerTable>,
    captured: Option<Captured>,
}

/// The shard as of one journal position.
struct Captured {
    checkpoint: Checkpoint,
    /// Folders to sync.
    dirs: VecDeque<String>,
    /// Logs to sync. One that is cut, reset or deleted meanwhile is explained by the journal behind the position.
    logs: VecDeque<ReplicaId>,
}

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

    /// Makes everything up to the last group durable outside the journal, and frees the journal files that no checkpoint
    /// needs any more: [`ShardStore::begin_checkpoint`] and all of its slices at once.
    ///
    /// # Errors
    /// As [`ShardStore::checkpoint_slice`].
    pub fn checkpoint(&mut self, tables: Vec<ProducerTable>) -> Result<(), StorageError> {
        self.begin_checkpoint(tables)?;
        while !self.checkpoint_slice(usize::MAX)? {}
        Ok(())
    }

    /// Begins a checkpoint, which [`ShardStore::checkpoint_slice`] carries out; one that is on its way is given up. `tables`
    /// are the producers of replicas as of an index that is applied and in the log; a replica without one keeps the table
    /// that it has.
    ///
    /// # Errors
    /// As [`ShardStore::write_out`].
    pub fn begin_checkpoint(&mut self, tables: Vec<ProducerTable>) -> Result<(), StorageError> {
        self.usable()?;
        self.making = None;
        self.apply_pending()?;
        self.making = Some(Making { tables: tables.into(), captured: None });
        Ok(())
    }

    /// Whether a checkpoint is on its way.
    pub fn is_checkpointing(&self) -> bool {
        self.making.is_some()
    }

    /// Does up to `steps` steps of the checkpoint on its way, each about one or two syncs; true if none is left to do.
    /// Commits may stand between two calls: the checkpoint is as of the call that has stored the last table.
    ///
    /// # Errors
    /// [`StorageError::Full`]: nothing is lost, the checkpoint is given up, begin another. Any other error makes the store
    /// unusable.
    pub fn checkpoint_slice(&mut self, steps: usize) -> Result<bool, StorageError> {
        self.usable()?;
        let Some(mut making) = self.making.take() else { return Ok(true) };
        for _ in 0..steps {
            if self.step(&mut making)? {
                return Ok(true);
            }
        }
        self.making = Some(making);
        Ok(false)
    }

    /// One step; true if it was the last.
    fn step(&mut self, making: &mut Making) -> Result<bool, StorageError> {
        if let Some((replica, index, table)) = making.tables.pop_front() {
            self.store_table(replica, index, &table)?;
            return Ok(false);
        }
        let Some(captured) = &mut making.captured else {
            making.captured = Some(self.capture()?);
            return Ok(false);
        };
        if let Some(dir) = captured.dirs.pop_front() {
            self.disk.sync_dir(&dir).map_err(|error| self.poison(StorageError::sync(&dir, error)))?;
            self.unsynced_dirs.remove(&dir);
            return Ok(false);
        }
        if mutants::is(Mutant::CheckpointBeforeSegments) {
            captured.logs.clear();
        }
        if let Some(replica) = captured.logs.pop_front() {
            let log = self.replicas.get_mut(&replica).and_then(|known| known.log.as_mut());
            let synced = log.map_or(Ok(()), Log::sync);
            synced.map_err(|error| self.poison(error))?;
            return Ok(false);
        }
        self.finish(&captured.checkpoint)?;
        Ok(true)
    }

    /// A table that is older than the one that is known, as behind a snapshot's install, is passed over.
    fn store_table(&mut self, replica: ReplicaId, index: LogIndex, table: &[u8]) -> Result<(), StorageError> {
        let Some(known) = self.replicas.get_mut(&replica) else { return Ok(()) };
        let meta = &mut known.meta;
        let is_news = index >= meta.local_start && Some(index) > meta.producers && Some(index) >= meta.producers_newest;
        if known.log.is_none() || meta.deleted.is_some() || !is_news {
            return Ok(());
        }
        let dir = self.paths.replica(meta.log, replica);
        let stored = producers::store(&self.disk, &dir, replica, index, table);
        if stored.is_ok() {
            meta.label_producers(index);
        }
        stored.map_err(|error| self.judge(error))
    }

    /// The shard as of now, with what must be synced before a checkpoint may say so.
    fn capture(&mut self) -> Result<Captured, StorageError> {
        self.apply_pending()?;
        let sequence = self.sequence + 1;
        self.retire(sequence)?;
        let position = self.journal.position();
        let replicas = self.replicas.iter().filter_map(|(replica, known)| entry(*replica, known)).collect();
        let marks = if mutants::is(Mutant::UsedIdStartedEmpty) { BTreeMap::new() } else { self.marks.clone() };
        let checkpoint = Checkpoint { sequence, position, replicas, marks };
        let dirty = self.replicas.iter().filter(|(_, known)| known.log.as_ref().is_some_and(Log::is_dirty));
        let logs = dirty.map(|(replica, _)| *replica).collect();
        // Names of deleted folders too, so that none outlives the mark of its replica.
        let dirs = self.unsynced_dirs.iter().cloned().collect();
        Ok(Captured { checkpoint, dirs, logs })
    }

    fn finish(&mut self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        let position = checkpoint.position;
        let target = self.slots.target(self.checkpoints_since_start == 0);
        let bytes = checkpoint.encode(self.identity.cluster, self.identity.shard);
        write_slot(&self.disk, &self.paths.dir, target, &bytes).map_err(|error| self.judge(error))?;
        self.sequence = checkpoint.sequence;
        self.slots.set(target, checkpoint.sequence, position.generation);
        self.checkpoints_since_start += 1;
        self.journal.recycle_before(self.slots.needed_from()).map_err(|error| self.judge(error))?;
        self.tidy_producers(checkpoint).map_err(|error| self.judge(error))?;
        self.remove_retired(checkpoint.sequence).map_err(|error| self.judge(error))?;
        if self.checkpoints_since_start == 3 {
            self.tidy_aside().map_err(|error| self.judge(error))?;
        }
        Ok(())
    }

    /// Tables that neither this checkpoint nor the one before names, nor the journal behind them: labels only rise.
    fn tidy_producers(&mut self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        for entry in &checkpoint.replicas {
            let Some(known) = self.replicas.get_mut(&entry.replica) else { continue };
            // What the older checkpoint names is known from the second one after a start on.
            if let Some(older) = known.producers.filter(|older| Some(*older) != known.tidied) {
                let dir = self.paths.replica(entry.log, entry.replica);
                producers::remove_before(&self.disk, &dir, older)?;
                known.tidied = Some(older);
            }
            known.producers = entry.producers;
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
    pub fn close(mut self, tables: Vec<ProducerTable>) -> Result<(), StorageError> {
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
        producers: meta.producers,
        log_state: known.log.as_ref()?.state(),
    })
}
