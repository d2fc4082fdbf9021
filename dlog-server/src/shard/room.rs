//! What the disk thread does about room: looks at it, tells the consensus thread, gives the ballast back and makes it again.

use super::disk_health::DiskHealth;
use dlog_core::{Space, SpaceLevel};
use dlog_storage::{OsDisk, SpaceKeeper, StorageError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one look to the next: what can be written in between is let in without a look (a look costs a microsecond or two).
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While there is no room the figures are told this often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A start has better things to do than to make ballast.
const BALLAST_AFTER: Duration = Duration::from_secs(5);
/// Under load a slice of ballast follows a slice after this: each costs one sync. So does one that found no room.
const BALLAST_EVERY: Duration = Duration::from_secs(1);
/// Bytes of one slice.
const BALLAST_SLICE: u64 = 1 << 20;

/// The room of one shard's disk, and what is known of its thread.
pub struct Room {
    keeper: SpaceKeeper<OsDisk>,
    health: Arc<DiskHealth>,
    began: Instant,
    looked: Option<Instant>,
    told: (SpaceLevel, Instant),
    sliced: Instant,
    /// The last slice found no room, against the figures.
    found_none: bool,
}

impl Room {
    /// Of a shard that starts; replicas know of nothing yet.
    pub fn new(keeper: SpaceKeeper<OsDisk>, health: Arc<DiskHealth>) -> Room {
        let now = Instant::now();
        let told = (SpaceLevel::Ample, now);
        Room { keeper, health, began: now, looked: None, told, sliced: now, found_none: false }
    }

    /// The thread begins another operation on the disk.
    pub fn begin(&self) {
        self.health.begin();
    }

    /// The thread waits for work.
    pub fn rest(&self) {
        self.health.rest();
    }

    /// Looks, if it is time to; what replicas are to be told, if anything. `owed` bytes were let in and have yet to reach the disk.
    pub fn look(&mut self, owed: u64) -> Result<Option<Space>, StorageError> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(None);
        }
        let first = self.looked.replace(Instant::now()).is_none();
        let space = self.keeper.look(owed)?;
        let (level, at) = self.told;
        if level == space.level && !first && (!space.is_full() || at.elapsed() < TELL_EVERY) {
            return Ok(None);
        }
        self.told = (space.level, Instant::now());
        match space.level {
            same if same == level => {}
            SpaceLevel::Ample => tracing::warn!(%space, "the disk has room again: records are taken"),
            SpaceLevel::Full => tracing::error!(%space, "the disk is full: no records are taken from producers"),
            SpaceLevel::Exhausted => tracing::error!(%space, "the disk is exhausted: no records are taken at all"),
        }
        Ok(Some(space))
    }

    /// A write failed: true if it was for want of room and some was given back, so that it may be tried again at once.
    pub fn relieve(&mut self, error: &StorageError) -> Result<bool, StorageError> {
        if !matches!(error, StorageError::Full { .. }) {
            return Ok(false);
        }
        self.looked = None;
        self.keeper.relieve()
    }

    /// A write that needs room succeeded.
    pub fn written(&mut self) {
        self.keeper.note_written();
    }

    /// Whether ballast is to be made while the thread has nothing else to do.
    pub fn wants_ballast(&self) -> bool {
        let held = self.found_none && self.sliced.elapsed() < BALLAST_EVERY;
        self.keeper.wants_ballast() && self.began.elapsed() >= BALLAST_AFTER && !held
    }

    /// Makes a slice of it. `busy`: only now and then.
    pub fn make_ballast(&mut self, busy: bool) -> Result<(), StorageError> {
        if !self.wants_ballast() || (busy && self.sliced.elapsed() < BALLAST_EVERY) {
            return Ok(());
        }
        self.health.begin();
        self.sliced = Instant::now();
        self.found_none = !self.keeper.idle(BALLAST_SLICE)?;
        Ok(())
    }
}
