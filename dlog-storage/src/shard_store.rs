//! [`ShardStore`]: all that one shard keeps on disk. One journal group is one write and one sync for all its replicas.
//!
//! Used by one thread at a time, a real disk thread or a simulator: nothing here starts a thread, waits or reads a clock.
//! The usual round: [`commit`](ShardStore::commit) what is queued; when it returns, all of it is durable and may be told;
//! [`write_out`](ShardStore::write_out) puts the frames where readers see them. Between rounds, in any order:
//! [`seal`](ShardStore::seal) when idle, [`prepare`](ShardStore::prepare) slices of the next journal file, and a checkpoint
//! when one is wanted: [`begin_checkpoint`](ShardStore::begin_checkpoint), then slices of it between two commits.

mod checkpointing;
mod open;
mod retaining;

use crate::checkpoint::{Mark, MarkKind};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::{GroupFailure, GroupWeight, Journal, JournalOptions, weight};
use crate::log::Log;
use crate::log_state::{LogOptions, LogState};
use crate::producers;
use crate::reader::LogReader;
use crate::recovery::{LogMaker, ShardPaths, Slots};
use crate::replica_meta::ReplicaMeta;
use checkpointing::Making;
use dlog_core::limits::{GROUP_ZERO_KEPT_BYTES, GROUP_ZERO_KEPT_ENTRIES, GROUP_ZERO_SEGMENT_BYTES, TAIL_CACHE_BYTES};
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Fault, Frame, LogIndex, MendPlace, Mended, Offset, ReplicaId, ShardId};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Whose shard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardIdentity {
    /// Stands in every file.
    pub cluster: ClusterId,
    /// The shard's number on its node.
    pub shard: ShardId,
}

/// How a shard lays out its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The journal's files.
    pub journal: JournalOptions,
    /// The logs' segments, where a replica has no size of its own.
    pub log: LogOptions,
    /// Bytes of recent frames kept for readers, for all replicas of the shard together.
    pub tail_cache_bytes: usize,
    /// Group 0's log.
    pub group_zero: GroupZeroOptions,
}

/// How group 0's log is shortened: what its state no longer needs goes, but for what followers that were briefly away may need, so
/// that they get no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupZeroOptions {
    /// Bytes of its segments at most; they go as a whole.
    pub segment_bytes: u64,
    /// So many of its last entries are kept.
    pub kept_entries: u64,
    /// But no more than so many bytes of segments.
    pub kept_bytes: u64,
}

impl Default for GroupZeroOptions {
    fn default() -> GroupZeroOptions {
        GroupZeroOptions {
            segment_bytes: GROUP_ZERO_SEGMENT_BYTES,
            kept_entries: GROUP_ZERO_KEPT_ENTRIES,
            kept_bytes: GROUP_ZERO_KEPT_BYTES,
        }
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            journal: JournalOptions::default(),
            log: LogOptions::default(),
            tail_cache_bytes: TAIL_CACHE_BYTES,
            group_zero: GroupZeroOptions::default(),
        }
    }
}

/// The number of a journal group, from 1; 0 before the first. Rises with every sync, across starts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupNumber(pub u64);

/// How far a replica's segments got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenOut {
    /// The replica.
    pub replica: ReplicaId,
    /// The last frame now in its segment or cache.
    pub index: LogIndex,
    /// The offset after it.
    pub next_offset: Offset,
}

/// Sizes of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Of all journal files, spare ones included.
    pub journal_bytes: u64,
    /// Journal files, spare ones included.
    pub journal_files: usize,
    /// Journal files that a checkpoint still needs, the current one included.
    pub journal_files_needed: usize,
    /// Of all segments.
    pub data_bytes: u64,
    /// Replicas here.
    pub replicas: usize,
    /// Operations that are durable but not yet in segments.
    pub pending: usize,
    /// The last group.
    pub last_group: GroupNumber,
}

/// One replica in the store.
struct Replica<D: Disk> {
    meta: ReplicaMeta,
    /// `None` until its create is written out.
    log: Option<Log<D>>,
    segment_bytes: Option<u64>,
    /// Label of its producer file in the newest checkpoint.
    producers: Option<LogIndex>,
    /// Producer files from before this label are removed.
    tidied: Option<LogIndex>,
}

impl<D: Disk> Replica<D> {
    fn new(meta: ReplicaMeta) -> Replica<D> {
        Replica { meta, log: None, segment_bytes: None, producers: None, tidied: None }
    }
}

/// Replicas as they would be, and the commit index of each write.
type Staged = (BTreeMap<ReplicaId, ReplicaMeta>, Vec<LogIndex>);

/// All that one shard keeps on disk.
///
/// Invariants: what `replicas` says is as of the last group; `pending` holds, in order, what of that isn't in segments yet;
/// a replica is in `replicas` or in `marks`, in both only between its delete and the write-out; after an error that leaves
/// bytes in doubt every call fails.
pub struct ShardStore<D: Disk> {
    disk: D,
    paths: ShardPaths,
    identity: ShardIdentity,
    make: LogMaker,
    journal: Journal<D>,
    slots: Slots,
    sequence: u64,
    checkpoints_since_start: u32,
    replicas: BTreeMap<ReplicaId, Replica<D>>,
    marks: BTreeMap<ReplicaId, Mark>,
    pending: VecDeque<(ReplicaId, WriteOp)>,
    /// Written out since the last report.
    moved: BTreeSet<ReplicaId>,
    /// Folders whose names must be synced before a checkpoint.
    unsynced_dirs: BTreeSet<String>,
    /// A checkpoint on its way.
    making: Option<Making>,
    /// Whose local start moved since the last report.
    started_later: BTreeSet<ReplicaId>,
    /// Group 0's state, in its store, is synced up to here.
    state_synced: LogIndex,
    group_zero: GroupZeroOptions,
    /// Files wait for checkpoints before they can be removed.
    removal_owed: bool,
    /// What the start found missing beside the logs' own files.
    damage: Vec<(ReplicaId, StorageError)>,
    started_clean: bool,
    found_torn: bool,
    poisoned: Option<String>,
}

impl<D: Disk> ShardStore<D> {
    /// Makes all writes durable in one group: one write, one sync. When it returns, they are. Writes without operations
    /// only note a commit index, which goes with the replica's next record; if all are such, nothing is written.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] and [`StorageError::ReplicaExists`] refuse the writes, [`StorageError::JournalFull`] and
    /// [`StorageError::Full`] want room first: in all four nothing was written. Any other error leaves the group in doubt
    /// and the store unusable: the process must end.
    pub fn commit(&mut self, mut writes: Vec<ReplicaWrite>) -> Result<GroupNumber, StorageError> {
        self.commit_from(&mut writes)
    }

    /// As [`ShardStore::commit`], but what was not written stays in `writes`, for another try.
    ///
    /// # Errors
    /// As [`ShardStore::commit`].
    pub fn commit_from(&mut self, writes: &mut Vec<ReplicaWrite>) -> Result<GroupNumber, StorageError> {
        self.usable()?;
        let (metas, commits) = self.staged(writes)?;
        if writes.iter().all(|write| write.ops.is_empty()) {
            for (replica, meta) in metas {
                self.replicas.get_mut(&replica).expect("staged from it").meta.commit = meta.commit;
            }
            return Ok(self.last_group());
        }
        self.store_tables(writes)?;
        if mutants::is(Mutant::CutBeforeGroup) {
            self.apply_cuts(writes)?;
        }
        let number = match self.journal.append(writes, &commits) {
            Ok(number) => number,
            Err(GroupFailure::NotWritten(error @ StorageError::Invalid { .. })) => return Err(error),
            Err(GroupFailure::NotWritten(error)) => return Err(self.judge(error)),
            Err(GroupFailure::InDoubt(error)) => return Err(self.poison(error)),
        };
        for (replica, meta) in metas {
            if let Some(until) = meta.deleted {
                self.marks.insert(replica, Mark { until, kind: MarkKind::Deleted });
            }
            match self.replicas.get_mut(&replica) {
                Some(known) => known.meta = meta,
                None => {
                    self.replicas.insert(replica, Replica::new(meta));
                }
            }
        }
        for write in writes.drain(..) {
            let replica = write.replica;
            let for_segments = |op: &WriteOp| {
                !matches!(op, WriteOp::HardState { .. } | WriteOp::Configuration { .. } | WriteOp::Producers { .. })
            };
            self.pending.extend(write.ops.into_iter().filter(for_segments).map(|op| (replica, op)));
        }
        Ok(GroupNumber(number))
    }

    /// What only a mutant does before a group is durable.
    fn apply_cuts(&mut self, writes: &[ReplicaWrite]) -> Result<(), StorageError> {
        let cuts = |write: &ReplicaWrite| {
            let replica = write.replica;
            let cuts = write.ops.iter().filter(|op| matches!(op, WriteOp::Cut { .. })).cloned();
            cuts.map(move |cut| (replica, cut)).collect::<Vec<_>>()
        };
        self.pending.extend(writes.iter().take(1).flat_map(cuts));
        self.apply_pending()
    }

    /// A table stands in its file, names and all, before a group says so.
    fn store_tables(&mut self, writes: &[ReplicaWrite]) -> Result<(), StorageError> {
        for write in writes {
            for op in &write.ops {
                let WriteOp::Producers { index, table } = op else { continue };
                let (log_dir, dir) = (self.paths.log(write.log), self.paths.replica(write.log, write.replica));
                let made = self.disk.create_dir(&dir).map_err(|error| StorageError::io("create", &dir, error));
                made.map_err(|error| self.judge(error))?;
                let stored = producers::store(&self.disk, &dir, write.replica, *index, table);
                stored.map_err(|error| self.judge(error))?;
                // The replica may be as new as this write.
                for dir in [log_dir, self.paths.logs.clone()] {
                    let synced = self.disk.sync_dir(&dir).map_err(|error| StorageError::sync(&dir, error));
                    synced.map_err(|error| self.poison(error))?;
                }
            }
        }
        Ok(())
    }

    /// Notes a commit index without a write: it goes with the replica's next record.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if the replica isn't here.
    pub fn note_commit(&mut self, replica: ReplicaId, commit: LogIndex) -> Result<(), StorageError> {
        self.usable()?;
        let known = self.replicas.get_mut(&replica).ok_or_else(|| unknown(replica))?;
        known.meta.commit = known.meta.commit.max(commit);
        Ok(())
    }

    /// The replicas as they are after these writes, and the commit index that each write's record carries.
    fn staged(&self, writes: &[ReplicaWrite]) -> Result<Staged, StorageError> {
        let mut commits = Vec::with_capacity(writes.len());
        let mut metas: BTreeMap<ReplicaId, ReplicaMeta> = BTreeMap::new();
        for write in writes {
            let replica = write.replica;
            let known = self.replicas.get(&replica).map(|known| &known.meta);
            let creates = write.ops.iter().filter(|op| matches!(op, WriteOp::Create(_))).count();
            if let Some(WriteOp::Create(create)) = write.ops.first() {
                if known.is_some() || metas.contains_key(&replica) || self.marks.contains_key(&replica) {
                    return Err(StorageError::ReplicaExists { replica });
                }
                if creates > 1 {
                    return Err(StorageError::Invalid { detail: format!("replica {replica} is created twice") });
                }
                metas.insert(replica, ReplicaMeta::create(write.log, create));
            } else if creates > 0 {
                return Err(StorageError::Invalid { detail: format!("replica {replica}: create is not the first") });
            }
            let meta = match metas.entry(replica) {
                Entry::Occupied(staged) => staged.into_mut(),
                Entry::Vacant(free) => free.insert(known.cloned().ok_or_else(|| unknown(replica))?),
            };
            meta.apply(write)?;
            commits.push(meta.recorded_commit());
        }
        Ok((metas, commits))
    }

    /// Puts what is durable but not yet in segments there, unsynced, and into the tail cache; runs cuts, resets and
    /// deletes. Says how far each replica that moved got since the last call.
    ///
    /// # Errors
    /// [`StorageError::Full`]: nothing is lost, call again once there is room. Any other error makes the store unusable.
    pub fn write_out(&mut self) -> Result<Vec<WrittenOut>, StorageError> {
        self.usable()?;
        self.apply_pending()?;
        let moved = std::mem::take(&mut self.moved);
        let far = |replica: ReplicaId| {
            let last = self.replicas.get(&replica)?.log.as_ref()?.last();
            Some(WrittenOut { replica, index: last.index, next_offset: last.next_offset })
        };
        Ok(moved.into_iter().filter_map(far).collect())
    }

    fn apply_pending(&mut self) -> Result<(), StorageError> {
        while let Some((replica, op)) = self.pending.pop_front() {
            if let Err(error) = self.apply(replica, &op) {
                self.pending.push_front((replica, op));
                return Err(self.judge(error));
            }
            self.moved.insert(replica);
        }
        Ok(())
    }

    /// Applies one operation to the segments. On an error nothing has changed that a repetition would not do again.
    fn apply(&mut self, replica: ReplicaId, op: &WriteOp) -> Result<(), StorageError> {
        let known = self.replicas.get_mut(&replica).ok_or_else(|| unknown(replica))?;
        let log_dir = self.paths.log(known.meta.log);
        if let WriteOp::Create(create) = op {
            let dir = self.paths.replica(known.meta.log, replica);
            let identity = self.make.identity(known.meta.log, replica);
            let mut options = self.make.options(known.meta.log);
            options.segment_bytes = known.segment_bytes.unwrap_or(options.segment_bytes);
            let cache = self.make.cache.clone();
            known.log = Some(Log::create(self.disk.clone(), &dir, identity, create.start, options, cache)?);
            self.unsynced_dirs.extend([log_dir, self.paths.logs.clone()]);
            return Ok(());
        }
        let log = known.log.as_mut().ok_or_else(|| unknown(replica))?;
        match op {
            WriteOp::Append(frames) => log.append(frames)?,
            WriteOp::Cut { from } => log.cut(*from)?,
            WriteOp::LogStart(offset) => {
                log.set_log_start(*offset);
                self.removal_owed |= log.has_below_log_start();
            }
            WriteOp::Reset(point) => log.reset(*point)?,
            WriteOp::Delete { .. } => {
                let known = self.replicas.remove(&replica).expect("just seen");
                known.log.expect("just seen").delete()?;
                self.unsynced_dirs.insert(log_dir);
            }
            WriteOp::Create(_)
            | WriteOp::HardState { .. }
            | WriteOp::Configuration { .. }
            | WriteOp::Producers { .. } => {}
        }
        Ok(())
    }

    /// Writes the proof that the last sync returned, unsynced. Call it when nothing follows a sync soon; no effect if it
    /// stands there already.
    ///
    /// # Errors
    /// The disk's; the store is unusable then.
    pub fn seal(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        self.journal.seal().map_err(|error| self.poison(error))
    }

    /// Does a slice of making the next journal file ready, about `bytes` of writing; true if nothing is left to do now.
    ///
    /// # Errors
    /// [`StorageError::Full`]: call again later. Any other error makes the store unusable.
    pub fn prepare(&mut self, bytes: u64) -> Result<bool, StorageError> {
        self.usable()?;
        self.journal.prepare(bytes).map_err(|error| self.judge(error))
    }

    /// How many of these queued writes, from the first on, make the next group, and what that weighs: about `target` bytes but
    /// at least one write, and no more than an empty journal file takes.
    pub fn next_group(&self, queued: impl Iterator<Item = GroupWeight>, target: usize) -> (usize, GroupWeight) {
        weight::choose(queued, target, |group| self.journal.fits(group.journal_bytes()))
    }

    /// Whether such a group would be taken now. If not, producers are to be told `overloaded`, and a checkpoint is due; groups
    /// without frames are taken for a while longer.
    pub fn has_room(&self, group: GroupWeight) -> bool {
        group.frames == 0 || self.journal.has_room(group.journal_bytes())
    }

    /// A reader of a replica's log; `None` if it isn't here or not written out yet.
    pub fn reader(&self, replica: ReplicaId) -> Option<LogReader<D>> {
        Some(self.replicas.get(&replica)?.log.as_ref()?.reader())
    }

    /// A replica's segments as they are now.
    pub fn log_state(&self, replica: ReplicaId) -> Option<LogState> {
        Some(self.replicas.get(&replica)?.log.as_ref()?.state())
    }

    /// The replicas here, rising.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().filter(|(_, known)| known.meta.deleted.is_none()).map(|(replica, _)| *replica)
    }

    /// From when on a segment of this replica is full; no effect if it isn't here.
    pub fn set_segment_bytes(&mut self, replica: ReplicaId, bytes: u64) {
        if let Some(known) = self.replicas.get_mut(&replica) {
            known.segment_bytes = Some(bytes);
            if let Some(log) = &mut known.log {
                log.set_segment_bytes(bytes);
            }
        }
    }

    /// Deleted and retired replicas whose ids must not be started again.
    pub fn known_marks(&self) -> impl Iterator<Item = (ReplicaId, Mark)> {
        self.marks.iter().map(|(replica, mark)| (*replica, *mark))
    }

    /// Forgets the marks of replicas that the catalogue as of `applied`, group 0's *synced* applied index, no longer intends: no
    /// power loss brings one back that does. Durable with the next checkpoint.
    pub fn forget_marks(&mut self, applied: LogIndex) {
        let replicas = &self.replicas;
        self.marks.retain(|replica, mark| mark.until > applied || replicas.contains_key(replica));
    }

    /// Frames that another replica gave for what is damaged here, the next ones from `place` on. When [`Mended::Whole`] comes
    /// back, all of them are durable.
    ///
    /// # Errors
    /// [`StorageError::Full`]: nothing counts, call again once there is room. Any other error makes the store unusable.
    pub fn mend(
        &mut self,
        replica: ReplicaId,
        fault: &Fault,
        place: MendPlace,
        frames: &[Frame],
    ) -> Result<Mended, StorageError> {
        self.usable()?;
        // A cut that is durable holds, written out or not.
        self.apply_pending()?;
        let Some(log) = self.replicas.get_mut(&replica).and_then(|known| known.log.as_mut()) else {
            return Ok(Mended::Gone);
        };
        log.mend(fault, place, frames).map_err(|error| self.judge(error))
    }

    /// What of a replica's files the start found missing, short or foreign, and nobody mended. Empty for a healthy shard.
    pub fn damage(&self) -> Vec<(ReplicaId, StorageError)> {
        let logs = self.replicas.iter().filter_map(|(replica, known)| Some((*replica, known.log.as_ref()?)));
        let of_logs = logs.flat_map(|(replica, log)| log.damage().iter().map(move |error| (replica, error.clone())));
        of_logs.chain(self.damage.iter().cloned()).collect()
    }

    /// Sizes.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            journal_bytes: self.journal.bytes(),
            journal_files: self.journal.files(),
            journal_files_needed: self.journal.used_files(),
            data_bytes: self.replicas.values().filter_map(|known| known.log.as_ref()).map(Log::bytes).sum(),
            replicas: self.replicas.len(),
            pending: self.pending.len(),
            last_group: self.last_group(),
        }
    }

    /// The last group that is durable.
    pub fn last_group(&self) -> GroupNumber {
        GroupNumber(self.journal.position().number)
    }

    /// Whether the last stop was a clean one.
    pub fn started_clean(&self) -> bool {
        self.started_clean
    }

    /// Whether the start dropped a group that was never acknowledged.
    pub fn found_torn_group(&self) -> bool {
        self.found_torn
    }

    fn usable(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: StorageError) -> StorageError {
        self.poisoned = Some(error.to_string());
        error
    }

    /// Lets errors through that may be repeated; all others end the store.
    fn judge(&mut self, error: StorageError) -> StorageError {
        match error {
            StorageError::Full { .. } | StorageError::JournalFull { .. } => error,
            other => self.poison(other),
        }
    }
}

fn unknown(replica: ReplicaId) -> StorageError {
    StorageError::Invalid { detail: format!("replica {replica} is not on this shard") }
}

#[cfg(test)]
#[path = "shard_store_compaction_tests.rs"]
mod compaction_tests;
#[cfg(test)]
#[path = "shard_store_retention_tests.rs"]
mod retention_tests;
#[cfg(test)]
#[path = "shard_store_round_tests.rs"]
mod round_tests;
#[cfg(test)]
#[path = "shard_store_tests.rs"]
mod tests;
