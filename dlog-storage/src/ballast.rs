//! [`Ballast`]: a file that holds bytes back, to be given up when the disk is full although a reserve was kept.
//!
//! A reserve of free bytes binds dlog alone: another program on the same disk, or a quota that nobody sees in the figures, takes
//! them away. Bytes of a file that stands there already can't be taken. When a write of the engine finds no room the file is
//! removed, and what is acked reaches its segments, a checkpoint is made, retention goes on.
//!
//! Written with bytes that can't be packed, since some file systems store zeros as nothing. It is no part of the data: nothing is
//! lost with it, nobody checks it, and a start takes it over as long as it is.

use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::whole_file;
use std::io;

/// The file's name in its folder.
pub const BALLAST: &str = "ballast";
/// Bytes of one write: a slice short enough to stand before a group's write.
const WRITE_BYTES: usize = 256 << 10;

/// The ballast of one shard.
///
/// Invariant: `have` bytes of the file are written and synced; without a file it is 0.
pub struct Ballast<D: Disk> {
    disk: D,
    dir: String,
    wanted: u64,
    have: u64,
    file: Option<D::File>,
}

impl<D: Disk> Ballast<D> {
    /// What stands in `dir`, to be brought to `wanted` bytes; what is too much is given back at once.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: D, dir: &str, wanted: u64) -> Result<Ballast<D>, StorageError> {
        let mut ballast = Ballast { disk, dir: dir.to_string(), wanted, have: 0, file: None };
        let path = ballast.path();
        match ballast.disk.open(&path) {
            Ok(file) => {
                ballast.have = file.len().map_err(|error| StorageError::io("read the length of", &path, error))?;
                ballast.file = Some(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("open", &path, error)),
        }
        if ballast.have > wanted {
            ballast.give_back()?;
        }
        Ok(ballast)
    }

    fn path(&self) -> String {
        whole_file::join(&self.dir, BALLAST)
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.have
    }

    /// Bytes that it lacks.
    pub fn missing(&self) -> u64 {
        self.wanted - self.have
    }

    /// Writes and syncs about `budget` bytes more; true if nothing is missing then.
    ///
    /// # Errors
    /// [`StorageError::Full`]: give it back. [`StorageError::SyncFailed`] ends the process, as for any other file: the disk loses
    /// writes.
    pub fn grow(&mut self, budget: u64) -> Result<bool, StorageError> {
        let path = self.path();
        if self.missing() == 0 {
            return Ok(true);
        }
        if self.file.is_none() {
            self.file = Some(self.disk.create(&path).map_err(|error| StorageError::io("create", &path, error))?);
            self.disk.sync_dir(&self.dir).map_err(|error| StorageError::sync(&self.dir, error))?;
        }
        let file = self.file.as_ref().expect("just made");
        let end = self.have + budget.min(self.missing());
        let (mut at, mut bytes) = (self.have, vec![0; WRITE_BYTES]);
        while at < end {
            let count = (end - at).min(WRITE_BYTES as u64);
            fastrand::Rng::with_seed(at).fill(&mut bytes);
            let written = file.write_at(&[&bytes[..count as usize]], at);
            written.map_err(|error| StorageError::io("write", &path, error))?;
            at += count;
        }
        file.sync_data().map_err(|error| StorageError::sync(&path, error))?;
        self.have = end;
        Ok(self.missing() == 0)
    }

    /// Removes the file, also one that is half written; true if there was one. Its bytes are free when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_back(&mut self) -> Result<bool, StorageError> {
        if self.file.take().is_none() {
            return Ok(false);
        }
        self.have = 0;
        let path = self.path();
        self.disk.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
        // Some file systems free blocks only with their own journal's next commit.
        self.disk.sync_dir(&self.dir).map_err(|error| StorageError::sync(&self.dir, error))?;
        Ok(true)
    }
}

#[cfg(test)]
#[path = "ballast_tests.rs"]
mod tests;
