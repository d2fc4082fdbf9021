//! Disks that fill up and stay full: for seconds, over restarts, until somebody makes room; and what nodes make of it, and of
//! disks that don't answer.

use super::{Event, Phase, World};
use crate::node::{DiskMessage, DiskWatch, Inbound, Process};
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{DiskState, Frame, ShardId, SpaceLevel};
use dlog_storage::{
    LoseUnsynced, SimDisk, SimDiskOptions, SpaceKeeper, SpaceOptions, Stall, StallBounds, StallWatch, StorageError,
};
use std::time::Duration;

/// The longest time without room.
const FULL_MS_MAX: u64 = 8_000;
/// Below this records are refused: some of the files that a short run writes.
const RESERVE_BYTES: u64 = 256 << 10;
/// Bytes of the ballast made in one tick.
const BALLAST_SLICE: u64 = 32 << 10;
/// Short, as the runs are.
const STALL: StallBounds =
    StallBounds { stuck_after: Duration::from_millis(400), hopeless_after: Duration::from_millis(1_200) };

/// Watches the disk of a process that starts.
pub(crate) fn watch(disk: SimDisk) -> Result<DiskWatch, StorageError> {
    let keeper = SpaceKeeper::open(disk, ShardId(0), SpaceOptions::of_reserve(RESERVE_BYTES, 1))?;
    Ok(DiskWatch { keeper, stall: StallWatch::new(STALL), in_flight: None, told: DiskState::default() })
}

impl World {
    /// All but a little of the node's disk is taken.
    pub(crate) fn fill_disk(&mut self, node: usize) {
        let little = [0, 4 << 10, 64 << 10, 512 << 10][self.fault_random.usize(0..4)];
        let length = self.fault_random.u64(200..=FULL_MS_MAX) * MILLISECOND;
        let one = &mut self.nodes[node];
        one.disk.set_capacity(one.disk.used_bytes() + self.fault_random.u64(0..=little));
        one.full_until = self.schedule.now() + length;
        self.counts.full_disks += 1;
        self.schedule.after(length, Event::Room { node });
    }

    /// Somebody made room, if the disk wasn't filled again since.
    pub(crate) fn on_room(&mut self, node: usize) {
        if self.nodes[node].full_until <= self.schedule.now() && self.phase == Phase::Safety {
            self.make_room(node);
        }
    }

    /// There is room again.
    pub(crate) fn make_room(&mut self, node: usize) {
        self.note(format_args!("node {node} has room on its disk"));
        self.nodes[node].full_until = 0;
        self.nodes[node].disk.set_capacity(SimDiskOptions::default().capacity_bytes);
    }

    /// Counts an error that is for want of room.
    pub(crate) fn count_full(&mut self, error: &StorageError) {
        self.counts.no_room += u64::from(matches!(error, StorageError::Full { .. } | StorageError::JournalFull { .. }));
    }

    /// Whether what a node's store says may be because of its disk.
    pub(crate) fn is_disk_bad(&self, node: usize) -> bool {
        self.nodes[node].disk_faulted || self.nodes[node].full_until > 0
    }

    /// A write found no room: true if some was given back.
    pub(crate) fn relieve(&mut self, process: &mut Process, error: &StorageError) -> Result<bool, StorageError> {
        self.count_full(error);
        if !matches!(error, StorageError::Full { .. }) {
            return Ok(false);
        }
        let given = process.watch.keeper.relieve()?;
        self.counts.ballasts += u64::from(given);
        Ok(given)
    }

    /// With every tick of a process that runs: has its disk room, and does it answer?
    pub(crate) fn watch_disk(&mut self, node: usize) -> Result<(), Failure> {
        if self.nodes[node].paused_until > self.schedule.now() {
            return Ok(());
        }
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        let looked = self.look_at_disk(node, &mut process);
        self.nodes[node].process = Some(process);
        match looked {
            Ok(Stall::Hopeless(time)) => {
                self.note(format_args!("node {node} ends: its disk hasn't answered for {time:?}"));
                self.counts.hopeless += 1;
                self.kill(node, LoseUnsynced::Nothing);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.on_store_error(node, &error),
        }
    }

    fn look_at_disk(&mut self, node: usize, process: &mut Process) -> Result<Stall, StorageError> {
        let now = self.nodes[node].clock(self.schedule.now());
        let watch = &mut process.watch;
        let stall = watch.stall.look(now, watch.in_flight);
        let rests = watch.in_flight.is_none() && process.disk.writes.is_empty() && process.disk.queue.is_empty();
        if rests && process.store.is_some() {
            watch.keeper.idle(BALLAST_SLICE)?;
        }
        let queued = process.disk.queue.iter().filter_map(|message| match message {
            DiskMessage::Writes(writes) => Some(writes),
            _ => None,
        });
        let owed = queued.flatten().chain(&process.disk.writes).map(|(_, write)| frame_bytes(write)).sum();
        let space = watch.keeper.look(owed)?;
        let state = DiskState { space, stuck: stall != Stall::Well };
        let before = std::mem::replace(&mut watch.told, state);
        if (before.space.level, before.stuck) != (state.space.level, state.stuck) {
            self.counts.less_room += u64::from(state.space.level > before.space.level);
            self.counts.room_again += u64::from(space.level == SpaceLevel::Ample && before.space.is_full());
            self.counts.stuck += u64::from(state.stuck && !before.stuck);
            process.inbox.push_back(Inbound::Disk(state));
            self.note(format_args!("node {node}'s disk is {:?}, stuck: {}", space.level, state.stuck));
        }
        Ok(stall)
    }
}

fn frame_bytes(write: &ReplicaWrite) -> u64 {
    let appended = write.ops.iter().filter_map(|op| match op {
        WriteOp::Append(frames) => Some(frames),
        _ => None,
    });
    appended.flatten().map(|frame| Frame::encoded_bytes(frame) as u64).sum()
}
