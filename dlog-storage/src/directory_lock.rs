//! [`DirectoryLock`]: one process for one data directory.

use crate::error::StorageError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Held as long as it lives; the operating system lets go when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: OwnedFd,
}

impl DirectoryLock {
    /// Locks the data directory `root` (its file `lock`), without waiting.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it; [`StorageError::Io`].
    pub fn acquire(root: &Path) -> Result<DirectoryLock, StorageError> {
        let path = root.join("lock");
        let shown = path.display().to_string();
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| StorageError::io("open", &shown, e.into()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirectoryLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StorageError::Locked { path: root.display().to_string() }),
            Err(e) => Err(StorageError::io("lock", &shown, e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DirectoryLock::acquire(dir.path()).expect("free");
        assert!(matches!(DirectoryLock::acquire(dir.path()), Err(StorageError::Locked { .. })));
        drop(first);
        DirectoryLock::acquire(dir.path()).expect("free again");
    }

    #[test]
    fn a_missing_folder_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("no");
        assert!(matches!(DirectoryLock::acquire(&missing), Err(StorageError::Io { op: "open", .. })));
    }
}
