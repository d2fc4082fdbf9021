//! Replay: opens every log as the checkpoint has it, less what the journal takes away, and writes every frame behind it again.

use super::net::{Net, Nets};
use super::{ShardPaths, list};
use crate::aside;
use crate::checkpoint::{Checkpoint, Mark, MarkKind, ReplicaCheckpoint};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::file::{file_name, read_whole};
use crate::journal::group::{GroupContext, GroupCopy};
use crate::journal::{GroupAt, JournalScan};
use crate::log::Log;
use crate::log_state::{LogIdentity, LogOptions, LogState};
use crate::replica_meta::ReplicaMeta;
use crate::tail_cache::TailCache;
use bytes::Bytes;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, ReplicaId, ShardId};
use std::collections::BTreeMap;

/// How logs are opened.
pub(crate) struct LogMaker {
    /// Stands in every segment.
    pub cluster: ClusterId,
    /// Sizes.
    pub options: LogOptions,
    /// The most that a segment of group 0 may have.
    pub group_zero_segment_bytes: u64,
    /// Shared by the shard.
    pub cache: TailCache,
}

/// One replica, ready to go on.
pub(crate) struct Restored<D: Disk> {
    /// What is known of it.
    pub meta: ReplicaMeta,
    /// Its frames.
    pub log: Log<D>,
}

/// All replicas of a shard after a replay; their frames are synced.
pub(crate) struct Replayed<D: Disk> {
    /// By id.
    pub replicas: BTreeMap<ReplicaId, Restored<D>>,
    /// Deleted and retired ones.
    pub marks: BTreeMap<ReplicaId, Mark>,
}

impl<D: Disk> Default for Replayed<D> {
    fn default() -> Replayed<D> {
        Replayed { replicas: BTreeMap::new(), marks: BTreeMap::new() }
    }
}

impl LogMaker {
    pub(crate) fn identity(&self, log: LogId, replica: ReplicaId) -> LogIdentity {
        LogIdentity { cluster: self.cluster, log, replica }
    }

    /// Sizes of a log. Group 0's segments are small, or its log would never be shortened.
    pub(crate) fn options(&self, log: LogId) -> LogOptions {
        let mut options = self.options;
        if log == LogId::GROUP_ZERO {
            options.segment_bytes = options.segment_bytes.min(self.group_zero_segment_bytes);
        }
        options
    }
}

struct Replay<'a, D: Disk> {
    disk: &'a D,
    paths: &'a ShardPaths,
    nets: &'a Nets,
    make: &'a LogMaker,
    done: Replayed<D>,
    /// Appends seen of each replica.
    appends: BTreeMap<ReplicaId, u64>,
}

/// Replays the groups of `scan` on `checkpoint`; when it returns, all logs are synced, names included.
pub(crate) fn replay<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    (cluster, shard): (ClusterId, ShardId),
    checkpoint: &Checkpoint,
    scan: &JournalScan,
    nets: &Nets,
    make: &LogMaker,
) -> Result<Replayed<D>, StorageError> {
    let done = Replayed { replicas: BTreeMap::new(), marks: checkpoint.marks.clone() };
    let mut replay = Replay { disk, paths, nets, make, done, appends: BTreeMap::new() };
    for replica in &checkpoint.replicas {
        replay.open(replica)?;
    }
    for groups in scan.groups.chunk_by(|one, two| one.generation == two.generation) {
        let generation = groups[0].generation;
        let path = format!("{}/{}", paths.journal, file_name(generation));
        let bytes = read_whole(disk, &path)?;
        for group in groups {
            let writes = read_group(GroupContext { cluster, shard, generation }, &path, &bytes, group)?;
            for write in &writes {
                let taken = replay.take(write);
                taken.map_err(|error| match error {
                    StorageError::Invalid { detail } => StorageError::corrupt(&path, group.position, detail),
                    other => other,
                })?;
            }
        }
    }
    replay.finish()
}

/// A group that the scan found valid, read again.
fn read_group(
    context: GroupContext,
    path: &str,
    bytes: &Bytes,
    at: &GroupAt,
) -> Result<Vec<ReplicaWrite>, StorageError> {
    let copy = GroupCopy::at_head(context, bytes, at.position)
        .or_else(|| GroupCopy::at_tail(context, bytes, at.position + at.bytes))
        .filter(|copy| copy.header.number == at.number);
    let copy = copy.ok_or_else(|| StorageError::corrupt(path, at.position, "a group changed while it was read"))?;
    copy.writes(bytes).map_err(|what| StorageError::corrupt(path, at.position, what))
}

impl<D: Disk> Replay<'_, D> {
    fn open(&mut self, from: &ReplicaCheckpoint) -> Result<(), StorageError> {
        let net = self.nets.get(from.replica);
        if let Some(until) = net.and_then(|net| net.deleted) {
            return self.delete(from.replica, from.log, until);
        }
        let dir = self.paths.replica(from.log, from.replica);
        let mut state = from.log_state.clone();
        if let Some(net) = net {
            reduce(&mut state, net);
        }
        self.disk.create_dir(&dir).map_err(|error| StorageError::io("create", &dir, error))?;
        let identity = self.make.identity(from.log, from.replica);
        let (options, cache) = (self.make.options(from.log), self.make.cache.clone());
        let mut log = Log::open(self.disk.clone(), &dir, identity, &state, options, cache)?;
        if let Some(cut) = net.and_then(|net| net.cut) {
            log.cut(cut)?;
        }
        let meta = ReplicaMeta {
            log: from.log,
            intent: from.intent,
            term: from.term,
            vote: from.vote,
            commit: from.commit,
            membership_index: from.membership_index,
            membership: from.membership.clone(),
            producers: from.producers,
            producers_newest: from.producers,
            local_start: from.log_state.local_start.index,
            last_index: from.log_state.last.index,
            last: Some(from.log_state.last),
            deleted: None,
        };
        self.done.replicas.insert(from.replica, Restored { meta, log });
        Ok(())
    }

    fn create(&mut self, write: &ReplicaWrite, create: &dlog_core::write::Create) -> Result<(), StorageError> {
        let net = self.nets.get(write.replica).expect("the net has every replica of the journal");
        if let Some(until) = net.deleted {
            return self.delete(write.replica, write.log, until);
        }
        let mut start = LogState::empty(create.start);
        reduce(&mut start, net);
        let dir = self.paths.replica(write.log, write.replica);
        let identity = self.make.identity(write.log, write.replica);
        let (options, cache) = (self.make.options(write.log), self.make.cache.clone());
        let mut log = Log::create(self.disk.clone(), &dir, identity, start.local_start, options, cache)?;
        log.set_log_start(start.log_start);
        let meta = ReplicaMeta::create(write.log, create);
        self.done.replicas.insert(write.replica, Restored { meta, log });
        Ok(())
    }

    fn delete(&mut self, replica: ReplicaId, log: LogId, until: LogIndex) -> Result<(), StorageError> {
        let log_dir = self.paths.log(log);
        if list(self.disk, &log_dir)?.contains(&replica.0.to_string()) {
            aside::remove_folder(self.disk, &self.paths.replica(log, replica))?;
        }
        self.done.marks.insert(replica, Mark { until, kind: MarkKind::Deleted });
        Ok(())
    }

    fn take(&mut self, write: &ReplicaWrite) -> Result<(), StorageError> {
        if let Some(WriteOp::Create(create)) = write.ops.first() {
            self.create(write, create)?;
        }
        // Of a deleted replica nothing is left to replay.
        let Some(restored) = self.done.replicas.get_mut(&write.replica) else { return Ok(()) };
        restored.meta.apply(write)?;
        let net = self.nets.get(write.replica).expect("the net has every replica of the journal");
        let appends = self.appends.entry(write.replica).or_default();
        for op in &write.ops {
            let WriteOp::Append(frames) = op else { continue };
            let kept: Vec<Frame> =
                frames.iter().filter(|frame| net.keeps(*appends, frame.index)).map(detached).collect();
            *appends += 1;
            if !kept.is_empty() {
                restored.log.append(&kept)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Replayed<D>, StorageError> {
        for (replica, restored) in &mut self.done.replicas {
            restored.log.truncate_tail()?;
            restored.log.sync()?;
            if restored.meta.last_index != restored.log.last().index {
                let (expected, found) = (restored.meta.last_index, restored.log.last().index);
                let detail = format!("replica {replica} ends at {found} after replay, not at {expected}");
                return Err(StorageError::Invalid { detail });
            }
            restored.meta.last = Some(restored.log.last());
        }
        for log in list(self.disk, &self.paths.logs)? {
            let dir = format!("{}/{log}", self.paths.logs);
            self.disk.sync_dir(&dir).map_err(|error| StorageError::sync(&dir, error))?;
        }
        self.disk.sync_dir(&self.paths.logs).map_err(|error| StorageError::sync(&self.paths.logs, error))?;
        Ok(self.done)
    }
}

/// Takes from a state what the journal takes away, so that files which are gone by now aren't asked for.
fn reduce(state: &mut LogState, net: &Net) {
    if let Some(at) = net.reset {
        state.segments.clear();
        state.term_starts.clear();
        (state.local_start, state.last) = (at, at);
        state.log_start = state.log_start.max(at.next_offset);
    } else if let Some(from) = net.cut {
        state.trim(from);
    }
    state.log_start = state.log_start.max(net.log_start.unwrap_or_default());
}

/// A frame that doesn't share the buffer of a whole journal file: it goes to the tail cache.
fn detached(frame: &Frame) -> Frame {
    Frame { payload: Bytes::copy_from_slice(&frame.payload), ..frame.clone() }
}
