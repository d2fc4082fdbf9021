//! [`Turn`]: a test's right to run a cluster, and its folder.

use crate::binary;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One test at a time runs nodes, also across processes: on a small machine two clusters only slow each other down, and a
/// test that waits for an election must not compete with another one's bulk load.
///
/// Its folder lies below the target folder: a real disk, where an fdatasync means something. It goes with the turn, unless
/// `DLOG_TEST_KEEP` is set.
#[derive(Debug)]
pub struct Turn {
    dir: Option<TempDir>,
    path: PathBuf,
    keep_if_failed: bool,
    /// Unlocked when it is closed, which a killed test does too.
    _lock: File,
}

impl Turn {
    /// Waits until no other test runs nodes. `name` goes into the folder's name.
    pub fn take(name: &str) -> Turn {
        let root = binary::build_dir().join("cluster-tests");
        fs::create_dir_all(&root).unwrap_or_else(|e| panic!("can't make {}: {e}", root.display()));
        let path = root.join("turn.lock");
        let lock = File::create(&path).unwrap_or_else(|e| panic!("can't open {}: {e}", path.display()));
        lock.lock().unwrap_or_else(|e| panic!("can't lock {}: {e}", path.display()));
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&root);
        let mut dir = dir.unwrap_or_else(|e| panic!("can't make a folder in {}: {e}", root.display()));
        if std::env::var_os("DLOG_TEST_KEEP").is_some() {
            dir.disable_cleanup(true);
            eprintln!("{name}: its files stay in {}", dir.path().display());
        }
        let path = dir.path().to_path_buf();
        Turn { dir: Some(dir), path, keep_if_failed: false, _lock: lock }
    }

    /// Lets the folder stay if the test fails: for failures that can't be had again at will.
    pub fn keep_if_failed(&mut self) {
        self.keep_if_failed = true;
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        &self.path
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.as_mut().filter(|_| self.keep_if_failed && std::thread::panicking()) {
            dir.disable_cleanup(true);
            eprintln!("what the failed test leaves stays in {}", dir.path().display());
        }
        // Before the lock: the next test's measurement of free space counts these files no more.
        drop(self.dir.take());
    }
}
