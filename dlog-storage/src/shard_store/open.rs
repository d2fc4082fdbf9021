//! Opening a shard: recovery, then a checkpoint that begins at a fresh journal file, before anything counts as persisted.

use super::{Replica, ShardIdentity, ShardStore, StoreOptions};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::manifest;
use crate::producers;
use crate::recovery::{LogMaker, ShardPaths, recover};
use crate::tail_cache::TailCache;
use dlog_core::ReplicaId;
use dlog_core::write::RestoredReplica;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
        let make = LogMaker { cluster: identity.cluster, options: options.log, cache };
        let owner = (identity.cluster, identity.shard);
        let recovered = recover(&disk, &paths, owner, options.journal, &make)?;
        let clean = manifest::take(&disk, &paths.dir)?;
        let started_clean = clean.is_some_and(|manifest| {
            manifest.sequence == recovered.checkpoint.sequence && manifest.group == recovered.journal.position().number
        });
        let replicas = recovered.replayed.replicas.into_iter().map(|(replica, restored)| {
            let mut known = Replica::new(restored.meta);
            (known.log, known.producers) = (Some(restored.log), restored.producers);
            (replica, known)
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
            started_clean,
            found_torn: recovered.torn,
            poisoned: None,
        };
        store.checkpoint(Vec::new())?;
        // After many starts in a row the older checkpoint would keep a file for each of them.
        if !recovered.fresh && store.journal.used_files() + 2 >= options.journal.files_max {
            store.checkpoint(Vec::new())?;
        }
        let restored = store.restored()?;
        Ok((store, restored))
    }

    fn restored(&self) -> Result<Vec<RestoredReplica>, StorageError> {
        let replicas: BTreeMap<&ReplicaId, &Replica<D>> = self.replicas.iter().collect();
        let mut restored = Vec::with_capacity(replicas.len());
        for (replica, known) in replicas {
            let meta = &known.meta;
            let state = known.log.as_ref().expect("recovery opens every log").state();
            let dir = self.paths.replica(meta.log, *replica);
            let table = producers::load(&self.disk, &dir, *replica, state.local_start.index, state.last.index)?;
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
                producers: table,
            });
        }
        Ok(restored)
    }
}
