//! The disk as the engine sees it: the only door to files, so that the simulator can stand behind it.
//!
//! Paths are relative to the root that the implementation was made with, parts joined by `/`. What a `Disk` promises, and
//! the conformance suite checks on every implementation:
//!
//! - Written bytes are read back at once, by any handle; they survive a crash only after [`DiskFile::sync_data`] of that
//!   file, and a file's name only after [`Disk::sync_dir`] of its folder. A 512-byte sector that was not synced is, after
//!   a crash, old or new.
//! - Handles stay usable after the file is renamed or removed.
//! - After an error of `sync_data` nothing can be said of any unsynced byte of that file: the process must end.

use std::io;

/// A folder of files. Clones share it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Opens an existing file. `NotFound` if there is none.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Makes an empty file. `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Makes a folder and those above it; no error if it is there.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a folder (not paths), sorted. `NotFound` if there is no such folder.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Moves a file or folder; a file in its place is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. `NotFound` if there is none.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a folder (creations, renames, removals) durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Bytes that can still be written, as far as the disk knows.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. All calls take positions: there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `into.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize>;
    /// As [`DiskFile::read_at`], into a buffer of its own. Where the platform allows, the buffer isn't filled with zeros first.
    fn read_vec(&self, bytes: usize, position: u64) -> io::Result<Vec<u8>> {
        let mut into = vec![0u8; bytes];
        let count = self.read_at(&mut into, position)?;
        into.truncate(count);
        Ok(into)
    }
    /// Writes all parts, one behind the other, at `position`, growing the file as needed. One system call where the
    /// platform allows. On an error any part of it may have been written.
    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;
    /// fdatasync: bytes and length are on stable storage when it returns.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or grows (with zeros) to `bytes`.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
