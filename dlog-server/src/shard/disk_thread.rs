//! The disk thread: an executor, not a brain. It drains its queue into one journal group, makes it durable with one
//! fdatasync, tells the consensus thread, and only then writes the frames to their segments.
//!
//! There is no idle wait: a group is whatever queued while the last sync was in flight. An fdatasync that fails ends the
//! process at once, for nothing can be said of any unsynced byte after it.

use super::inbox::{Inbox, ReceivedBytes, ShardMessage};
use super::sync_times::SyncTimes;
use crate::replicas::Replicas;
use bytes::Bytes;
use dlog_consensus::WriteId;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{LogIndex, ReplicaId, limits};
use dlog_storage::{OsDisk, ShardStore, StorageError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// After this long without work the last sync is proved by a seal.
const IDLE_BEFORE_SEAL: Duration = Duration::from_millis(5);
/// How long segments that could not be written (a full disk) wait before the next try.
const RETRY_WRITE_OUT: Duration = Duration::from_millis(500);
/// While a journal file is made ready in idle time, a slice follows a slice after this: some 20 MB/s.
const PREPARE_EVERY: Duration = Duration::from_millis(50);
/// After this long without a write a checkpoint is made, if anything changed since the last: a log at rest has nothing to
/// replay, and its files say how far it is committed.
const IDLE_BEFORE_CHECKPOINT: Duration = Duration::from_millis(800);
/// Nothing happens: the thread looks whether it has upkeep to do.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// Bytes of the next journal file that are made ready with each group: enough to be done before the current file is full.
const PREPARE_BYTES: u64 = 256 << 10;

/// What the disk thread is told.
pub enum DiskMessage {
    /// Writes of one turn of the consensus thread, in order.
    Writes {
        /// Each with the id under which the replica waits for it.
        writes: Vec<(WriteId, ReplicaWrite)>,
        /// Received bytes to give back once these are durable.
        received: usize,
    },
    /// The producer tables that a checkpoint asked for, as of everything before.
    Producers(Vec<ProducerTable>),
    /// The size at which a replica's segments roll.
    SegmentBytes(ReplicaId, u64),
    /// Group 0's applied index is on stable storage up to here.
    CatalogueSynced(LogIndex),
    /// Close the store cleanly, with these tables, and end.
    Stop(Vec<ProducerTable>),
}

/// A replica's producers as of an index, encoded by dlog-consensus.
pub type ProducerTable = (ReplicaId, LogIndex, Bytes);

/// The thread's state.
pub struct DiskThread {
    store: ShardStore<OsDisk>,
    queue: mpsc::Receiver<DiskMessage>,
    inbox: Inbox,
    received: Arc<ReceivedBytes>,
    replicas: Arc<Replicas>,
    stats: Arc<SyncTimes>,
    state: State,
}

/// What stands between two messages.
///
/// Invariant: `writes` are in the order in which the consensus thread said them.
#[derive(Default)]
struct State {
    writes: VecDeque<(WriteId, ReplicaWrite)>,
    received: usize,
    queued_bytes: usize,
    unsealed: bool,
    /// The next journal file isn't ready yet.
    preparing: bool,
    /// Since when nothing was written.
    idle_since: Option<Instant>,
    /// Something was written or noted since the last checkpoint.
    dirty: bool,
    write_out_owed: bool,
    checkpoint_asked: bool,
    /// Also of replicas whose create record is still on its way.
    segment_bytes: BTreeMap<ReplicaId, u64>,
    stop: Option<Vec<ProducerTable>>,
}

impl DiskThread {
    /// A thread over an open store.
    pub fn new(
        store: ShardStore<OsDisk>,
        queue: mpsc::Receiver<DiskMessage>,
        inbox: Inbox,
        replicas: Arc<Replicas>,
        stats: Arc<SyncTimes>,
    ) -> DiskThread {
        let received = inbox.received();
        DiskThread { store, queue, inbox, received, replicas, stats, state: State::default() }
    }

    /// Runs until [`DiskMessage::Stop`] or until every sender is gone.
    ///
    /// # Errors
    /// The store's, where going on would be wrong; the caller ends the process.
    pub fn run(mut self) -> Result<(), StorageError> {
        loop {
            let wait = match () {
                () if self.state.write_out_owed => RETRY_WRITE_OUT,
                () if self.state.unsealed => IDLE_BEFORE_SEAL,
                () if self.state.preparing => PREPARE_EVERY,
                () => IDLE_LOOK,
            };
            match self.queue.recv_timeout(wait) {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => self.idle()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while self.state.queued_bytes < limits::JOURNAL_GROUP_BYTES_TARGET {
                let Ok(message) = self.queue.try_recv() else { break };
                self.take(message)?;
            }
            self.commit_all()?;
            if let Some(tables) = self.state.stop.take() {
                return self.store.close(tables);
            }
            self.ask_for_checkpoint(false);
            self.stats.set_sizes(self.store.stats());
        }
    }

    fn take(&mut self, message: DiskMessage) -> Result<(), StorageError> {
        match message {
            DiskMessage::Writes { writes, received } => {
                self.state.received += received;
                self.state.queued_bytes += writes.iter().map(|(_, write)| weight(write).0).sum::<usize>();
                self.state.dirty |= !writes.is_empty();
                self.state.idle_since = None;
                self.state.writes.extend(writes);
            }
            DiskMessage::Producers(tables) => {
                // The tables are as of everything said before them: that goes first, as far as there is room.
                self.commit_all()?;
                self.state.checkpoint_asked = false;
                match self.store.checkpoint(tables) {
                    Err(error) if is_full(&error) => tracing::error!(%error, "no checkpoint for want of space"),
                    done => done?,
                }
            }
            DiskMessage::SegmentBytes(replica, bytes) => {
                self.store.set_segment_bytes(replica, bytes);
                self.state.segment_bytes.insert(replica, bytes);
            }
            DiskMessage::CatalogueSynced(index) => self.store.forget_marks(index),
            DiskMessage::Stop(tables) => self.state.stop = Some(tables),
        }
        Ok(())
    }

    /// Commits what is queued, a bounded group at a time, until the queue is empty or the journal has no room.
    fn commit_all(&mut self) -> Result<(), StorageError> {
        while !self.state.writes.is_empty() {
            if !self.commit_group()? {
                self.ask_for_checkpoint(true);
                return Ok(());
            }
        }
        self.state.queued_bytes = 0;
        self.received.release(std::mem::take(&mut self.state.received));
        Ok(())
    }

    /// One group; false if the journal has no room for it now.
    fn commit_group(&mut self) -> Result<bool, StorageError> {
        let (mut count, mut bytes, mut frames) = (0, 0, 0);
        for (_, write) in &self.state.writes {
            let (more_bytes, more_frames) = weight(write);
            if count > 0 && bytes + more_bytes > limits::JOURNAL_GROUP_BYTES_TARGET {
                break;
            }
            (count, bytes, frames) = (count + 1, bytes + more_bytes, frames + more_frames);
        }
        if frames > 0 && !self.store.journal_has_room(bytes as u64, frames) {
            return Ok(false);
        }
        let mut durable: BTreeMap<ReplicaId, WriteId> = BTreeMap::new();
        let mut group = Vec::with_capacity(count);
        for (id, write) in self.state.writes.drain(..count) {
            durable.insert(write.replica, id);
            if write.ops.contains(&WriteOp::Delete) {
                self.state.segment_bytes.remove(&write.replica);
            }
            group.push(write);
        }
        let syncs = group.iter().any(|write| !write.ops.is_empty());
        let created: Vec<ReplicaId> = group.iter().filter(|write| creates(write)).map(|write| write.replica).collect();
        let began = Instant::now();
        self.store.commit(group)?;
        for replica in created {
            if let Some(bytes) = self.state.segment_bytes.get(&replica) {
                self.store.set_segment_bytes(replica, *bytes);
            }
        }
        self.state.queued_bytes = self.state.queued_bytes.saturating_sub(bytes);
        self.inbox.send(ShardMessage::Persisted(durable.into_iter().collect()));
        if syncs {
            self.stats.record(began.elapsed());
            self.state.unsealed = true;
            self.write_out()?;
            self.prepare(PREPARE_BYTES.max(bytes as u64))?;
        }
        Ok(true)
    }

    /// Segments follow the journal. A full disk leaves the frames in the journal, which isn't recycled meanwhile.
    fn write_out(&mut self) -> Result<(), StorageError> {
        match self.store.write_out() {
            Ok(written) => {
                self.state.write_out_owed = false;
                if !written.is_empty() {
                    self.replicas.add_readers(&written, |replica| self.store.reader(replica));
                    self.inbox.send(ShardMessage::WrittenOut(written));
                }
                Ok(())
            }
            Err(error) if is_full(&error) => {
                if !self.state.write_out_owed {
                    tracing::error!(%error, "segments can't be written; reads of new records wait until there is space");
                }
                self.state.write_out_owed = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn prepare(&mut self, bytes: u64) -> Result<bool, StorageError> {
        match self.store.prepare(bytes) {
            Err(error) if is_full(&error) => Ok(true),
            done => done,
        }
    }

    fn idle(&mut self) -> Result<(), StorageError> {
        if self.state.write_out_owed {
            self.write_out()?;
        }
        let was_sealed = !std::mem::take(&mut self.state.unsealed);
        if !was_sealed {
            self.store.seal()?;
        }
        self.state.preparing = !self.prepare(4 * PREPARE_BYTES)?;
        let at_rest = self.state.idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_BEFORE_CHECKPOINT;
        if was_sealed && at_rest && !self.state.write_out_owed && std::mem::take(&mut self.state.dirty) {
            // A commit index without a record of its own is only noted until now: a log at rest says on every node how far
            // it is committed. The next start then has nothing to replay.
            self.ask_for_checkpoint(true);
        }
        Ok(())
    }

    /// `urgent`: the journal has no room, and without a checkpoint it never will.
    fn ask_for_checkpoint(&mut self, urgent: bool) {
        if !self.state.checkpoint_asked && (urgent || self.store.wants_checkpoint()) {
            self.state.checkpoint_asked = true;
            self.inbox.send(ShardMessage::TakeProducers);
        }
    }
}

fn creates(write: &ReplicaWrite) -> bool {
    matches!(write.ops.first(), Some(WriteOp::Create(_)))
}

fn is_full(error: &StorageError) -> bool {
    matches!(error, StorageError::Full { .. } | StorageError::JournalFull { .. })
}

/// Bytes and frames of a write.
fn weight(write: &ReplicaWrite) -> (usize, u64) {
    write.ops.iter().fold((0, 0), |(bytes, frames), op| match op {
        WriteOp::Append(more) => {
            (bytes + more.iter().map(dlog_core::Frame::encoded_bytes).sum::<usize>(), frames + more.len() as u64)
        }
        _ => (bytes + 64, frames),
    })
}
