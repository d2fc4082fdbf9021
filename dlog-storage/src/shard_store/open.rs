//! Opening a shard: recovery, then a checkpoint that begins at a fresh journal file, before anything counts as persisted.

use super::{Replica, ShardIdentity, ShardStore, StoreOptions};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::manifest;
use crate::producers;
use crate::recovery::{LogMaker, ShardPaths, recover};
use crate::tail_cache::TailCache;
use bytes::Bytes;
use dlog_core::write::RestoredReplica;
use dlog_core::{LogIndex, ReplicaId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Each replica's table, with its label.
type Tables = BTreeMap<ReplicaId, (LogIndex, Bytes)>;

impl<D: Disk> ShardStore<D> {
    /// Opens the shard below `root`, or makes an empty one where there is nothing. All that is given back is durable.
    ///
    /// # Errors
    /// [`StorageError::NeedsOperator`] and [`StorageError::Corrupt`] refuse the start with nothing lost (see
    /// [`crate::recovery`]); [`StorageError::Full`] until there is room; else the disk's.
    pub fn open(
        disk: D,
        root: &str,
        identity: ShardIdentity,
        options: StoreOptions,
    ) -> Result<(ShardStore<D>, Vec<RestoredReplica>), StorageError> {
        let paths = ShardPaths::new(root, identity.shard);
        let cache = TailCache::new(options.tail_cache_bytes);
        let make = LogMaker {
            cluster: identity.cluster,
            options: options.log,
            group_zero_segment_bytes: options.group_zero.segment_bytes,
            cache,
        };
        let owner = (identity.cluster, identity.shard);
        let recovered = recover(&disk, &paths, owner, options.journal, &make)?;
        let clean = manifest::take(&disk, &paths.dir)?;
        let started_clean = clean.is_some_and(|manifest| {
            manifest.sequence == recovered.checkpoint.sequence && manifest.group == recovered.journal.position().number
        });
        let replicas =
            recovered.replayed.replicas.into_iter().map(|(replica, restored)| {
                (replica, Replica { log: Some(restored.log), ..Replica::new(restored.meta) })
            });
        let mut store = ShardStore {
            replicas: replicas.collect(),
            marks: recovered.replayed.marks,
            disk,
            paths,
            identity,
            make,
            journal: recovered.journal,
            slots: recovered.slots,
            sequence: [recovered.slots.a, recovered.slots.b].into_iter().flatten().map(|(s, _)| s).max().unwrap_or(0),
            checkpoints_since_start: 0,
            pending: VecDeque::new(),
            moved: BTreeSet::new(),
            unsynced_dirs: BTreeSet::new(),
            making: None,
            started_later: BTreeSet::new(),
            state_synced: LogIndex::ZERO,
            group_zero: options.group_zero,
            removal_owed: false,
            damage: Vec::new(),
            started_clean,
            found_torn: recovered.torn,
            poisoned: None,
        };
        let checkpoint =
            recovered.checkpoint.replicas.iter().filter_map(|known| Some((known.replica, known.producers?)));
        let tables = store.load_producers(&[checkpoint.collect(), recovered.other_producers])?;
        store.checkpoint(Vec::new())?;
        // After many starts in a row the older checkpoint would keep a file for each of them.
        if !recovered.fresh && store.journal.used_files() + 2 >= options.journal.files_max {
            store.checkpoint(Vec::new())?;
        }
        // What is given back says so already.
        store.started_later.clear();
        let restored = store.restored(tables);
        Ok((store, restored))
    }

    /// Rows 20 to 22 of the decision table. From here on a replica's label is that of the table that it has.
    fn load_producers(&mut self, before: &[BTreeMap<ReplicaId, LogIndex>]) -> Result<Tables, StorageError> {
        let mut tables = Tables::new();
        for (replica, known) in &mut self.replicas {
            let start = known.log.as_ref().expect("recovery opens every log").local_start().index;
            let Some(newest) = known.meta.producers else { continue };
            let older = before.iter().filter_map(|labels| labels.get(replica).copied());
            let mut named: Vec<LogIndex> =
                older.filter(|index| *index < newest && *index >= start).chain([newest]).collect();
            named.sort_unstable();
            named.dedup();
            named.reverse();
            let dir = self.paths.replica(known.meta.log, *replica);
            let table = producers::load(&self.disk, &dir, *replica, &named)?;
            known.meta.producers = table.as_ref().map(|(index, _)| *index);
            known.meta.producers_newest = known.meta.producers;
            match table {
                Some(table) => drop(tables.insert(*replica, table)),
                None if start == LogIndex::ZERO => {}
                None => {
                    let path = format!("{dir}/{}", producers::file_name(newest));
                    let detail = "the producer file is missing or damaged, and the log no longer begins at 1";
                    self.damage.push((*replica, StorageError::corrupt(&path, 0, detail)));
                    // The checkpoint goes on naming it: the next start finds the same.
                    known.meta.label_producers(newest);
                }
            }
        }
        Ok(tables)
    }

    fn restored(&self, mut tables: Tables) -> Vec<RestoredReplica> {
        let mut restored = Vec::with_capacity(self.replicas.len());
        for (replica, known) in &self.replicas {
            let meta = &known.meta;
            let state = known.log.as_ref().expect("recovery opens every log").state();
            restored.push(RestoredReplica {
                replica: *replica,
                log: meta.log,
                intent: meta.intent,
                term: meta.term,
                vote: meta.vote,
                commit: meta.commit.min(state.last.index),
                membership_index: meta.membership_index,
                membership: meta.membership.clone(),
                local_start: state.local_start,
                log_start: state.log_start,
                last: state.last,
                term_starts: state.term_starts,
                producers: tables.remove(replica),
            });
        }
        restored
    }
}
