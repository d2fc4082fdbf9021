//! [`SpaceKeeper`]: the reserve and the ballast of one shard together, for whoever drives its store.
//!
//! The driver looks from time to time and tells replicas what came of it; hands every "disk full" of the engine to
//! [`SpaceKeeper::relieve`]; and lets the ballast grow while it has nothing else to do.

use crate::ballast::Ballast;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::recovery::ShardPaths;
use crate::shard_store::{ShardIdentity, ShardStore, StoreOptions};
use crate::space::{DiskSpace, SpaceOptions};
use dlog_core::write::RestoredReplica;
use dlog_core::{ShardId, Space, SpaceLevel};

/// Opens the store of a shard below the disk's root. Where there is no room for that, the ballast is given back for it: a node
/// whose disk was filled while it was down must come up to make room.
///
/// # Errors
/// As [`ShardStore::open`].
pub fn open_store<D: Disk>(
    disk: &D,
    identity: ShardIdentity,
    options: StoreOptions,
) -> Result<(ShardStore<D>, Vec<RestoredReplica>), StorageError> {
    let open = || ShardStore::open(disk.clone(), "", identity, options);
    match open() {
        Err(error @ StorageError::Full { .. }) => {
            let dir = ShardPaths::new("", identity.shard).dir;
            if !Ballast::open(disk.clone(), &dir, u64::MAX)?.give_back()? {
                return Err(error);
            }
            tracing::warn!(%error, "the ballast was given back, so that the shard can be opened");
            open()
        }
        opened => opened,
    }
}

/// What keeps room on a shard's disk.
///
/// Invariant: while `denied` the level is at least full, whatever the figures say.
pub struct SpaceKeeper<D: Disk> {
    disk: D,
    space: DiskSpace,
    ballast: Ballast<D>,
    /// A write found no room, and the ballast doesn't stand again since.
    denied: bool,
    /// And no write that needs room has succeeded since. The ballast is such a write too, so that this ends without any other.
    refused: bool,
    now: Space,
}

impl<D: Disk> SpaceKeeper<D> {
    /// Of a shard whose store is open.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: D, shard: ShardId, options: SpaceOptions) -> Result<SpaceKeeper<D>, StorageError> {
        let dir = ShardPaths::new("", shard).dir;
        let ballast = Ballast::open(disk.clone(), &dir, options.ballast_bytes)?;
        let space = DiskSpace::new(options);
        let mut keeper = SpaceKeeper { disk, space, ballast, denied: false, refused: false, now: Space::default() };
        keeper.look(0)?;
        Ok(keeper)
    }

    /// Looks at the disk; `owed` bytes were let in and have yet to reach it.
    ///
    /// # Errors
    /// The disk's.
    pub fn look(&mut self, owed: u64) -> Result<Space, StorageError> {
        let free = self.disk.free_bytes().map_err(|error| StorageError::io("ask for the free bytes of", "", error))?;
        self.now = self.space.look(free, owed);
        let at_least = match (self.refused, self.denied) {
            (true, _) => SpaceLevel::Exhausted,
            (_, true) => SpaceLevel::Full,
            _ => SpaceLevel::Ample,
        };
        self.now.level = self.now.level.max(at_least);
        Ok(self.now)
    }

    /// As of the last look.
    pub fn space(&self) -> Space {
        self.now
    }

    /// A write of the engine found no room. True: bytes were given back, so that it may be tried again at once. Until the ballast
    /// stands again no records are taken: what the figures say was not true, or is gone in a moment.
    ///
    /// # Errors
    /// The disk's.
    pub fn relieve(&mut self) -> Result<bool, StorageError> {
        (self.denied, self.refused) = (true, true);
        self.now.level = SpaceLevel::Exhausted;
        let bytes = self.ballast.bytes();
        let given = self.ballast.give_back()?;
        if given {
            tracing::warn!(bytes, "the disk is full: the ballast was given back for what is acked already");
        }
        Ok(given)
    }

    /// A write of the engine that needs room succeeded: leaders' records are taken again if the figures allow it.
    pub fn note_written(&mut self) {
        self.refused = false;
    }

    /// Whether [`SpaceKeeper::idle`] has something to do now.
    pub fn wants_ballast(&self) -> bool {
        let missing = self.ballast.missing();
        let after = self.now.free_bytes.saturating_sub(missing);
        (missing > 0 || self.denied) && after >= self.space.options().ample_from()
    }

    /// Lets the ballast grow by about `bytes` if there is room for all of it above the reserve. False: the figures said so, but
    /// there was none; wait a moment.
    ///
    /// # Errors
    /// [`StorageError::SyncFailed`]; never [`StorageError::Full`].
    pub fn idle(&mut self, bytes: u64) -> Result<bool, StorageError> {
        if !self.wants_ballast() {
            return Ok(true);
        }
        match self.ballast.grow(bytes) {
            Ok(true) => (self.denied, self.refused) = (false, false),
            Ok(false) => {}
            Err(StorageError::Full { .. }) => {
                self.ballast.give_back()?;
                (self.denied, self.refused) = (true, true);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

#[cfg(test)]
#[path = "space_keeper_tests.rs"]
mod tests;
