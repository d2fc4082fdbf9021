//! The disk thread, in steps with time between them: collect a group, make it durable, tell so, bring the segments up, and
//! in the pauses seal, prepare, checkpoint. Each call into the store happens at one moment, but the power may go in the
//! middle of it.

use super::{Event, Phase, World};
use crate::broken::Broken;
use crate::node::{DiskMessage, DiskStep, DiskThread, Inbound, Lost, Process};
use crate::options::Fault;
use crate::report::Failure;
use crate::schedule::{MICROSECOND, MILLISECOND};
use dlog_consensus::WriteId;
use dlog_core::ReplicaId;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_storage::journal::GroupWeight;
use dlog_storage::{LoseUnsynced, StorageError};
use std::collections::BTreeMap;

/// Bytes of one group: small, as the journal's files are.
const GROUP_BYTES_TARGET: usize = 64 << 10;
/// After this long without work the last sync is proved by a seal.
const IDLE_BEFORE_SEAL: u64 = 5 * MILLISECOND;
/// How long segments that could not be written wait before the next try.
const RETRY_WRITE_OUT: u64 = 500 * MILLISECOND;
/// A checkpoint that found the disk full is tried again after this.
const RETRY_CHECKPOINT: u64 = 1_000 * MILLISECOND;
/// How late a build syncs that does so in the background.
const BACKGROUND_SYNC: u64 = 100 * MILLISECOND;
/// Steps of a checkpoint between two groups, as production makes them.
const CHECKPOINT_STEPS: usize = 2;
/// Writes that found no room wait so long for the next look.
const IDLE_LOOK: u64 = 1_000 * MILLISECOND;
/// Bytes of the next journal file made ready with each group.
const PREPARE_BYTES: u64 = 16 << 10;

impl World {
    /// A message came: a thread that rests begins.
    pub(crate) fn wake_disk(&mut self, node: usize, process: &mut Process) {
        if matches!(process.disk.step, DiskStep::Rest | DiskStep::Idle) {
            self.next_step(node, &mut process.disk, DiskStep::Begin, 20 * MICROSECOND);
        }
    }

    fn next_step(&mut self, node: usize, disk: &mut DiskThread, step: DiskStep, delay: u64) {
        disk.step = step;
        disk.token += 1;
        let (life, token) = (self.nodes[node].life, disk.token);
        self.schedule.after(delay, Event::Disk { node, life, token });
    }

    pub(crate) fn on_disk(&mut self, node: usize, life: u64, token: u64) -> Result<(), Failure> {
        let valid = self.nodes[node].process.as_ref().is_some_and(|process| process.disk.token == token);
        if !self.is_alive(node, life) || !valid {
            return Ok(());
        }
        let (now, paused) = (self.schedule.now(), self.nodes[node].paused_until);
        if paused > now {
            self.schedule.after(paused - now, Event::Disk { node, life, token });
            return Ok(());
        }
        match self.disk_step(node) {
            Ok(()) => Ok(()),
            Err(error) => self.on_store_error(node, &error),
        }
    }

    /// The process ends itself, as the server does.
    pub(crate) fn on_store_error(&mut self, node: usize, error: &StorageError) -> Result<(), Failure> {
        if self.is_damage(node, error) {
            self.lose(node, Lost::Damaged);
            return Ok(());
        }
        if !self.is_disk_bad(node) && !self.is_lost(node) {
            return Err(Failure::crash(format!("node {node}'s store, on a healthy disk: {error}")));
        }
        self.note(format_args!("node {node}'s store: {error}"));
        self.count_full(error);
        let lose = self.nodes[node].power_armed.unwrap_or(LoseUnsynced::Nothing);
        self.kill(node, lose);
        Ok(())
    }

    /// Runs the scheduled step. The process is put back whatever happens: a crash is the caller's.
    pub(crate) fn disk_step(&mut self, node: usize) -> Result<(), StorageError> {
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        let done = match std::mem::take(&mut process.disk.step) {
            DiskStep::Rest => Ok(()),
            DiskStep::Begin => self.begin(node, &mut process),
            DiskStep::Commit(group) => self.commit(node, &mut process, group),
            DiskStep::Tell(durable, syncs) => {
                process.watch.in_flight = None;
                process.inbox.push_back(Inbound::Persisted(durable));
                if syncs {
                    process.disk.unsealed = true;
                    self.next_step(node, &mut process.disk, DiskStep::WriteOut, 30 * MICROSECOND);
                } else {
                    self.go_on(node, &mut process);
                }
                Ok(())
            }
            DiskStep::WriteOut => self.write_out(node, &mut process),
            DiskStep::Checkpoint(tables) => self.checkpoint(node, &mut process, tables),
            DiskStep::Close(tables) => self.close(node, &mut process, tables),
            DiskStep::Idle => self.idle(node, &mut process),
        };
        let closed = process.store.is_none();
        self.nodes[node].process = Some(process);
        if closed && done.is_ok() {
            self.on_closed(node);
        } else {
            self.want_turn(node);
        }
        done
    }

    /// Collects what queued: a group, a checkpoint or the end. Of a checkpoint on its way a few steps come first.
    fn begin(&mut self, node: usize, process: &mut Process) -> Result<(), StorageError> {
        self.go_on_with_checkpoint(process)?;
        let disk = &mut process.disk;
        let store = process.store.as_mut().expect("open until closed");
        while let Some(DiskMessage::Writes(_) | DiskMessage::CatalogueSynced(..)) = disk.queue.front() {
            match disk.queue.pop_front() {
                Some(DiskMessage::Writes(writes)) => disk.writes.extend(writes),
                Some(DiskMessage::CatalogueSynced(applied)) => {
                    store.forget_marks(applied);
                    store.note_state_synced(applied);
                }
                _ => {}
            }
        }
        let weights = disk.writes.iter().map(|(_, write)| GroupWeight::of(write));
        let (count, weight) = store.next_group(weights, GROUP_BYTES_TARGET);
        if count > 0 && store.has_room(weight) {
            let group: Vec<(WriteId, ReplicaWrite)> = disk.writes.drain(..count).collect();
            let mut delay = self.sync_time(node);
            if self.options.broken == Broken::SyncLater {
                process.inbox.push_back(Inbound::Persisted(last_ids(&group)));
                delay += BACKGROUND_SYNC;
            }
            self.next_step(node, &mut process.disk, DiskStep::Commit(group), delay);
            process.watch.in_flight = Some(process.disk.token);
            return Ok(());
        }
        match disk.queue.pop_front() {
            Some(DiskMessage::Producers(tables)) => {
                self.next_step(node, disk, DiskStep::Checkpoint(tables), 50 * MICROSECOND);
            }
            Some(DiskMessage::Mend(replica, part)) => {
                self.mend(process, replica, &part)?;
                self.next_step(node, &mut process.disk, DiskStep::Begin, 100 * MICROSECOND);
            }
            Some(DiskMessage::Stop(tables)) => self.next_step(node, disk, DiskStep::Close(tables), MICROSECOND),
            Some(DiskMessage::Writes(_) | DiskMessage::CatalogueSynced(..)) | None => {
                if process.store.as_ref().is_some_and(dlog_storage::ShardStore::is_checkpointing) {
                    self.next_step(node, &mut process.disk, DiskStep::Begin, 50 * MICROSECOND);
                    return Ok(());
                }
                let delay = if count > 0 { MILLISECOND } else { IDLE_BEFORE_SEAL };
                if count > 0 {
                    ask_for_checkpoint(process, true, self.schedule.now());
                }
                self.next_step(node, &mut process.disk, DiskStep::Idle, delay);
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        node: usize,
        process: &mut Process,
        group: Vec<(WriteId, ReplicaWrite)>,
    ) -> Result<(), StorageError> {
        let durable = last_ids(&group);
        let (ids, mut writes): (Vec<WriteId>, Vec<ReplicaWrite>) = group.into_iter().unzip();
        if self.options.broken == Broken::VotesForgotten {
            writes.iter_mut().for_each(|write| write.ops.retain(|op| !matches!(op, WriteOp::HardState { .. })));
        }
        self.interrupt_cut(node, &writes);
        let syncs = writes.iter().any(|write| !write.ops.is_empty());
        let store = process.store.as_mut().expect("open until closed");
        let number = match store.commit_from(&mut writes) {
            Err(error @ (StorageError::Full { .. } | StorageError::JournalFull { .. })) => {
                // Nothing of it was written: it waits.
                process.watch.in_flight = None;
                self.relieve(process, &error)?;
                ids.into_iter().zip(writes).rev().for_each(|write| process.disk.writes.push_front(write));
                ask_for_checkpoint(process, true, self.schedule.now());
                self.next_step(node, &mut process.disk, DiskStep::Idle, MILLISECOND);
                return Ok(());
            }
            done => done?,
        };
        self.note(format_args!("node {node} group {} is durable", number.0));
        let delay = if syncs { self.sync_time(node) } else { MICROSECOND };
        self.next_step(node, &mut process.disk, DiskStep::Tell(durable, syncs), delay);
        Ok(())
    }

    /// A group that takes frames away is rare, and so is a fault in its middle: sometimes one is made.
    fn interrupt_cut(&mut self, node: usize, writes: &[ReplicaWrite]) {
        let cuts = |op: &WriteOp| matches!(op, WriteOp::Cut { .. } | WriteOp::Reset(_));
        let may = self.phase == Phase::Safety && self.options.faults.iter().any(|fault| fault.0 == Fault::PowerSoon);
        if may && writes.iter().flat_map(|write| &write.ops).any(cuts) && self.fault_random.u8(0..4) > 0 {
            self.nodes[node].disk.cut_power_after(self.fault_random.u64(1..8));
            self.nodes[node].power_armed = Some(self.draw_loss());
            self.nodes[node].disk_faulted = true;
        }
    }

    /// Half of the time of a sync: it counts as done somewhere in the middle.
    fn sync_time(&mut self, node: usize) -> u64 {
        let usual = self.random.u64(20..=self.options.sync_us_max) * MICROSECOND / 2;
        let slow = self.nodes[node].slow_until > self.schedule.now();
        if slow { usual + self.random.u64(0..=self.nodes[node].slow_ns) } else { usual }
    }

    fn write_out(&mut self, node: usize, process: &mut Process) -> Result<(), StorageError> {
        self.bring_up(process)?;
        prepare(process, PREPARE_BYTES)?;
        self.go_on(node, process);
        Ok(())
    }

    /// Segments follow the journal, or are owed it while there is no room.
    fn bring_up(&mut self, process: &mut Process) -> Result<(), StorageError> {
        let store = process.store.as_mut().expect("open until closed");
        match store.write_out() {
            Ok(written) => {
                process.disk.write_out_owed = false;
                for out in &written {
                    if !process.readers.contains_key(&out.replica)
                        && let Some(reader) = store.reader(out.replica)
                    {
                        process.readers.insert(out.replica, reader);
                    }
                }
                if !written.is_empty() {
                    process.watch.keeper.note_written();
                    process.inbox.push_back(Inbound::WrittenOut(written));
                }
            }
            Err(error @ StorageError::Full { .. }) => {
                process.disk.write_out_owed = true;
                if self.relieve(process, &error)? {
                    // Once: then there is nothing left to give back.
                    return self.bring_up(process);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// After a group: the next one, or a pause.
    fn go_on(&mut self, node: usize, process: &mut Process) {
        ask_for_checkpoint(process, false, self.schedule.now());
        let checkpointing = process.store.as_ref().is_some_and(dlog_storage::ShardStore::is_checkpointing);
        let more = !process.disk.queue.is_empty() || !process.disk.writes.is_empty() || checkpointing;
        let (step, delay) = if more { (DiskStep::Begin, 5 * MICROSECOND) } else { (DiskStep::Idle, IDLE_BEFORE_SEAL) };
        self.next_step(node, &mut process.disk, step, delay);
    }

    fn checkpoint(
        &mut self,
        node: usize,
        process: &mut Process,
        tables: Vec<crate::node::ProducerTable>,
    ) -> Result<(), StorageError> {
        let store = process.store.as_mut().expect("open until closed");
        match store.begin_checkpoint(tables) {
            Ok(()) => {}
            Err(error @ (StorageError::Full { .. } | StorageError::JournalFull { .. })) => {
                self.checkpoint_failed(process, &error)?;
            }
            Err(error) => return Err(error),
        }
        self.note(format_args!("node {node} begins a checkpoint"));
        self.go_on(node, process);
        Ok(())
    }

    /// A few steps, so that groups come between them.
    fn go_on_with_checkpoint(&mut self, process: &mut Process) -> Result<(), StorageError> {
        let store = process.store.as_mut().expect("open until closed");
        if !store.is_checkpointing() {
            return Ok(());
        }
        match store.checkpoint_slice(CHECKPOINT_STEPS) {
            Ok(false) => {}
            Ok(true) => {
                self.counts.checkpoints += 1;
                process.watch.keeper.note_written();
                (process.disk.checkpoint_asked, process.disk.checkpoint_failed) = (false, None);
            }
            Err(error @ (StorageError::Full { .. } | StorageError::JournalFull { .. })) => {
                self.checkpoint_failed(process, &error)?;
            }
            Err(error) => return Err(error),
        }
        let starts = process.store.as_mut().expect("open until closed").take_local_starts();
        if !starts.is_empty() {
            self.counts.drops += starts.len() as u64;
            // What was written out on the way is told first: the machine must know of a frame before it is told that it went.
            self.bring_up(process)?;
            process.inbox.push_back(Inbound::LocalStarts(starts));
        }
        Ok(())
    }

    /// It is given up for want of space; made again at once if some was given back.
    fn checkpoint_failed(&mut self, process: &mut Process, error: &StorageError) -> Result<(), StorageError> {
        let given = self.relieve(process, error)?;
        let failed = (!given).then(|| self.schedule.now());
        (process.disk.checkpoint_asked, process.disk.checkpoint_failed) = (false, failed);
        Ok(())
    }

    fn close(
        &mut self,
        node: usize,
        process: &mut Process,
        tables: Vec<crate::node::ProducerTable>,
    ) -> Result<(), StorageError> {
        let store = process.store.take().expect("open until closed");
        store.close(tables)?;
        self.note(format_args!("node {node} closed its store"));
        Ok(())
    }

    fn idle(&mut self, node: usize, process: &mut Process) -> Result<(), StorageError> {
        if process.disk.write_out_owed {
            self.write_out(node, process)?;
            if process.disk.write_out_owed {
                self.next_step(node, &mut process.disk, DiskStep::Idle, RETRY_WRITE_OUT);
            }
            return Ok(());
        }
        let store = process.store.as_mut().expect("open until closed");
        if std::mem::take(&mut process.disk.unsealed) {
            store.seal()?;
        }
        prepare(process, 4 * PREPARE_BYTES)?;
        if !process.disk.writes.is_empty() {
            ask_for_checkpoint(process, true, self.schedule.now());
            self.next_step(node, &mut process.disk, DiskStep::Idle, IDLE_LOOK);
        }
        Ok(())
    }
}

/// Asks once. `urgent`: the journal has no room, and without a checkpoint it never will.
fn ask_for_checkpoint(process: &mut Process, urgent: bool, now: u64) {
    if process.disk.checkpoint_failed.is_some_and(|at| now < at + RETRY_CHECKPOINT) {
        return;
    }
    let wanted = urgent || process.store.as_ref().is_some_and(|store| store.wants_checkpoint() || store.owes_removal());
    if wanted && !std::mem::replace(&mut process.disk.checkpoint_asked, true) {
        process.inbox.push_back(Inbound::TakeProducers);
    }
}

fn prepare(process: &mut Process, bytes: u64) -> Result<bool, StorageError> {
    match process.store.as_mut().expect("open until closed").prepare(bytes) {
        Err(StorageError::Full { .. } | StorageError::JournalFull { .. }) => Ok(true),
        done => done,
    }
}

/// The last write of each replica.
fn last_ids(group: &[(WriteId, ReplicaWrite)]) -> Vec<(ReplicaId, WriteId)> {
    let ids: BTreeMap<ReplicaId, WriteId> = group.iter().map(|(id, write)| (write.replica, *id)).collect();
    ids.into_iter().collect()
}
