//! The disk thread: an executor, not a brain. It drains its queue into one journal group, makes it durable with one
//! fdatasync, tells the consensus thread, and only then writes the frames to their segments.
//!
//! There is no idle wait: a group is whatever queued while the last sync was in flight. An fdatasync that fails ends the
//! process at once, for nothing can be said of any unsynced byte after it.

use super::inbox::{Inbox, ReceivedBytes, ShardMessage};
use super::repair::RepairMessage;
use super::room::Room;
use super::sync_times::SyncTimes;
use crate::metrics::Metrics;
use crate::peer::synced::SyncedGroups;
use crate::replicas::Replicas;
use bytes::Bytes;
use dlog_consensus::WriteId;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Fault, Frame, LogIndex, MendPlace, ReplicaId, ShardId, limits};
use dlog_storage::journal::GroupWeight;
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
/// Steps of a checkpoint between two looks at the queue, of one or two syncs each: what a write may have to wait for.
const CHECKPOINT_STEPS: usize = 2;
/// A checkpoint that found the disk full is tried again after this.
const RETRY_CHECKPOINT: Duration = Duration::from_secs(1);
/// While files below log starts wait for it, a checkpoint is made this often though no other reason asks for one.
const CHECKPOINT_FOR_REMOVAL: Duration = Duration::from_secs(5);
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
        /// When the consensus thread said them.
        said: Instant,
    },
    /// The producer tables that a checkpoint asked for, as of everything before.
    Producers(Vec<ProducerTable>),
    /// The size at which a replica's segments roll.
    SegmentBytes(ReplicaId, u64),
    /// Retention wants a replica's active segment ended.
    EndSegment(ReplicaId),
    /// Group 0's applied index is on stable storage up to here.
    CatalogueSynced(LogIndex),
    /// Frames of another replica for what is damaged here.
    Mend {
        /// The replica.
        replica: ReplicaId,
        /// What is damaged.
        fault: Fault,
        /// Where the first of the frames goes.
        place: MendPlace,
        /// The frames.
        frames: Vec<Frame>,
    },
    /// Close the store cleanly, with these tables, and end.
    Stop(Vec<ProducerTable>),
}

/// A replica's producers as of an index, encoded by dlog-consensus.
pub type ProducerTable = (ReplicaId, LogIndex, Bytes);

/// The thread's state.
pub struct DiskThread {
    store: ShardStore<OsDisk>,
    room: Room,
    queue: mpsc::Receiver<DiskMessage>,
    inbox: Inbox,
    received: Arc<ReceivedBytes>,
    replicas: Arc<Replicas>,
    stats: Arc<SyncTimes>,
    metrics: Arc<Metrics>,
    /// What peers are told of this shard.
    synced: (ShardId, Arc<SyncedGroups>),
    state: State,
}

/// A write that waits for its group.
struct Queued {
    id: WriteId,
    write: ReplicaWrite,
    weight: GroupWeight,
}

/// What stands between two messages.
///
/// Invariant: `writes` are in the order in which the consensus thread said them.
#[derive(Default)]
struct State {
    writes: VecDeque<Queued>,
    /// When they were said, for each turn: how many of `writes` are left of it.
    said: VecDeque<(usize, Instant)>,
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
    /// Asked for, or on its way.
    checkpoint_asked: bool,
    /// When the last checkpoint was finished or given up.
    checkpoint_at: Option<Instant>,
    /// It was given up for want of space.
    checkpoint_failed: bool,
    /// Also of replicas whose create record is still on its way.
    segment_bytes: BTreeMap<ReplicaId, u64>,
    stop: Option<Vec<ProducerTable>>,
}

impl DiskThread {
    /// A thread over an open store.
    pub fn new(
        (store, room): (ShardStore<OsDisk>, Room),
        queue: mpsc::Receiver<DiskMessage>,
        inbox: Inbox,
        replicas: Arc<Replicas>,
        stats: Arc<SyncTimes>,
        metrics: Arc<Metrics>,
        synced: (ShardId, Arc<SyncedGroups>),
    ) -> DiskThread {
        let received = inbox.received();
        DiskThread { store, room, queue, inbox, received, replicas, stats, metrics, synced, state: State::default() }
    }

    /// Runs until [`DiskMessage::Stop`] or until every sender is gone.
    ///
    /// # Errors
    /// The store's, where going on would be wrong; the caller ends the process.
    pub fn run(mut self) -> Result<(), StorageError> {
        loop {
            let wait = match () {
                () if self.store.is_checkpointing() => Duration::ZERO,
                () if self.state.write_out_owed => RETRY_WRITE_OUT,
                () if self.state.unsealed => IDLE_BEFORE_SEAL,
                () if self.state.preparing || self.room.wants_ballast() => PREPARE_EVERY,
                () => IDLE_LOOK,
            };
            self.room.rest();
            let received = self.queue.recv_timeout(wait);
            self.room.begin();
            match received {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) if self.store.is_checkpointing() => {}
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
            self.go_on_with_checkpoint()?;
            self.ask_for_checkpoint(false);
            self.look_at_room()?;
            self.stats.set_sizes(self.store.stats());
        }
    }

    /// What was let in and isn't answered, or came from peers and isn't durable, may all be on its way to this disk.
    fn look_at_room(&mut self) -> Result<(), StorageError> {
        self.room.make_ballast(true)?;
        let owed = self.inbox.admitted_bytes() + self.received.bytes();
        if let Some(space) = self.room.look(owed as u64)? {
            self.inbox.send(ShardMessage::Space(space));
        }
        Ok(())
    }

    fn take(&mut self, message: DiskMessage) -> Result<(), StorageError> {
        match message {
            DiskMessage::Writes { writes, received, said } => {
                self.state.received += received;
                self.state.dirty |= !writes.is_empty();
                self.state.idle_since = None;
                self.state.said.push_back((writes.len(), said));
                for (id, write) in writes {
                    let weight = GroupWeight::of(&write);
                    self.state.queued_bytes += weight.bytes;
                    self.state.writes.push_back(Queued { id, write, weight });
                }
            }
            DiskMessage::Producers(tables) => {
                // The tables are as of everything said before them: that goes first, as far as there is room.
                self.commit_all()?;
                let begun = self.store.begin_checkpoint(tables);
                self.checkpoint_moved(begun.map(|()| false))?;
            }
            DiskMessage::EndSegment(replica) => self.store.end_segment(replica)?,
            DiskMessage::SegmentBytes(replica, bytes) => {
                self.store.set_segment_bytes(replica, bytes);
                self.state.segment_bytes.insert(replica, bytes);
            }
            DiskMessage::CatalogueSynced(index) => {
                self.store.forget_marks(index);
                self.store.note_state_synced(index);
            }
            DiskMessage::Mend { replica, fault, place, frames } => self.mend(replica, fault, place, &frames)?,
            DiskMessage::Stop(tables) => self.state.stop = Some(tables),
        }
        Ok(())
    }

    /// Puts frames back where they were. Without room nothing counts, and the next try comes by itself.
    fn mend(
        &mut self,
        replica: ReplicaId,
        fault: Fault,
        place: MendPlace,
        frames: &[Frame],
    ) -> Result<(), StorageError> {
        let result = match self.store.mend(replica, &fault, place, frames) {
            Err(error) if is_full(&error) => Err(error.to_string()),
            done => Ok(done?),
        };
        self.inbox.send(ShardMessage::Repair(RepairMessage::Mended { replica, fault, result }));
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

    /// One group; false if there is no room for it now.
    fn commit_group(&mut self) -> Result<bool, StorageError> {
        let queued = self.state.writes.iter().map(|queued| queued.weight);
        let (count, weight) = self.store.next_group(queued, limits::JOURNAL_GROUP_BYTES_TARGET);
        if !self.store.has_room(weight) {
            return Ok(false);
        }
        let bytes = weight.bytes;
        let (mut group, mut weights) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for Queued { id, write, weight } in self.state.writes.drain(..count) {
            weights.push((id, write.replica, weight));
            group.push(write);
        }
        let syncs = group.iter().any(|write| !write.ops.is_empty());
        let created: Vec<ReplicaId> = group.iter().filter(|write| creates(write)).map(|write| write.replica).collect();
        let deletes = |write: &&ReplicaWrite| write.ops.iter().any(|op| matches!(op, WriteOp::Delete { .. }));
        for write in group.iter().filter(deletes) {
            self.state.segment_bytes.remove(&write.replica);
        }
        self.room.begin();
        let began = Instant::now();
        let synced = match self.store.commit_from(&mut group) {
            Err(error) if is_full(&error) => {
                tracing::error!(%error, "a group can't be written; it waits for space");
                let again = weights.into_iter().zip(group).rev();
                for ((id, _, weight), write) in again {
                    self.state.writes.push_front(Queued { id, write, weight });
                }
                // Once: then there is nothing left to give back.
                return if self.room.relieve(&error)? { self.commit_group() } else { Ok(false) };
            }
            done => done?,
        };
        // Before anything is said that rests on it.
        self.synced.1.note(self.synced.0, synced);
        for replica in created {
            if let Some(bytes) = self.state.segment_bytes.get(&replica) {
                self.store.set_segment_bytes(replica, *bytes);
            }
        }
        self.state.queued_bytes = self.state.queued_bytes.saturating_sub(bytes);
        // Of several writes of a replica the last counts.
        let durable: BTreeMap<ReplicaId, WriteId> = weights.iter().map(|(id, replica, ..)| (*replica, *id)).collect();
        self.inbox.send(ShardMessage::Persisted(durable.into_iter().collect()));
        self.count_group(count, bytes, syncs.then(|| began.elapsed()));
        if syncs {
            self.stats.record(began.elapsed());
            self.state.unsealed = true;
            self.write_out()?;
            self.prepare(PREPARE_BYTES.max(bytes as u64))?;
        }
        Ok(true)
    }

    /// Counts a group of so many writes and bytes, and how long it took if it was synced.
    fn count_group(&mut self, writes: usize, bytes: usize, synced: Option<Duration>) {
        if let Some(took) = synced {
            self.metrics.journal_sync.observe_duration(took);
            self.metrics.group_bytes.observe(bytes as u64);
            self.metrics.group_writes.observe(writes as u64);
        }
        let mut done = writes;
        while let Some((left, said)) = self.state.said.front_mut() {
            if *left > done {
                *left -= done;
                return;
            }
            done -= *left;
            if synced.is_some() {
                self.metrics.append.observe_duration(said.elapsed());
            }
            self.state.said.pop_front();
        }
    }

    /// Segments follow the journal. A full disk leaves the frames in the journal, which isn't recycled meanwhile.
    fn write_out(&mut self) -> Result<(), StorageError> {
        self.room.begin();
        match self.store.write_out() {
            Ok(written) => {
                if std::mem::take(&mut self.state.write_out_owed) {
                    self.room.written();
                }
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
                if self.room.relieve(&error)? { self.write_out() } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    fn prepare(&mut self, bytes: u64) -> Result<bool, StorageError> {
        self.room.begin();
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
        if !self.state.preparing {
            self.room.make_ballast(false)?;
        }
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
        let since = self.state.checkpoint_at.map_or(Duration::MAX, |at| at.elapsed());
        if self.state.checkpoint_asked || (self.state.checkpoint_failed && since < RETRY_CHECKPOINT) {
            return;
        }
        let for_removal = self.store.owes_removal() && since >= CHECKPOINT_FOR_REMOVAL;
        if urgent || for_removal || self.store.wants_checkpoint() {
            self.state.checkpoint_asked = true;
            self.inbox.send(ShardMessage::TakeProducers);
        }
    }

    /// A few steps, so that no write waits for a whole checkpoint.
    fn go_on_with_checkpoint(&mut self) -> Result<(), StorageError> {
        if !self.store.is_checkpointing() {
            return Ok(());
        }
        self.room.begin();
        let moved = self.store.checkpoint_slice(CHECKPOINT_STEPS);
        self.checkpoint_moved(moved)?;
        let starts = self.store.take_local_starts();
        if !starts.is_empty() {
            // What was written out on the way is told first: the machine must know of a frame before it is told that it went.
            self.write_out()?;
            self.inbox.send(ShardMessage::LocalStarts(starts));
        }
        // It may have freed the journal file that writes wait for.
        if self.store.is_checkpointing() { Ok(()) } else { self.commit_all() }
    }

    fn checkpoint_moved(&mut self, moved: Result<bool, StorageError>) -> Result<(), StorageError> {
        self.state.checkpoint_failed = match moved {
            Ok(false) => return Ok(()),
            Ok(true) => {
                self.room.written();
                false
            }
            Err(error) if is_full(&error) => {
                tracing::error!(%error, "no checkpoint for want of space");
                // A log at rest asks for one only after a change.
                self.state.dirty = true;
                !self.room.relieve(&error)?
            }
            Err(error) => return Err(error),
        };
        self.state.checkpoint_asked = false;
        self.state.checkpoint_at = Some(Instant::now());
        Ok(())
    }
}

fn creates(write: &ReplicaWrite) -> bool {
    matches!(write.ops.first(), Some(WriteOp::Create(_)))
}

fn is_full(error: &StorageError) -> bool {
    matches!(error, StorageError::Full { .. } | StorageError::JournalFull { .. })
}
