//! [`RocksStateStore`]: the state store of a node, on RocksDB.
//!
//! Keys: one byte of kind, then the key. Kind 0 is the store's own: `\0version` (u32 LE, 1), `\0applied` (u64 LE) and, if the
//! state came with a snapshot, `\0origin` (opaque). Kind 1 is the state's. The applied index is in the same write batch as the changes.
//!
//! Its log is recovered to a point in time: a torn end is dropped, and with it whole batches, so that keys and applied index
//! always agree.

use super::{StateChange, StateStore, check_rises};
use crate::error::StorageError;
use bytes::Bytes;
use dlog_core::LogIndex;
use rocksdb::{DB, DBRecoveryMode, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const VERSION: u32 = 1;
const VERSION_KEY: &[u8] = b"\0version";
const APPLIED_KEY: &[u8] = b"\0applied";
const ORIGIN_KEY: &[u8] = b"\0origin";
const STATE_KIND: u8 = 1;
/// The first key that is not the state's.
const STATE_END: &[u8] = &[STATE_KIND + 1];

/// Bytes of changes held in memory before they go to a sorted file. The state is small: a few of these.
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Bytes of RocksDB's own log before it is written out.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Info logs kept beside the data.
const INFO_LOGS: usize = 2;

/// A state store in a folder of its own.
pub struct RocksStateStore {
    db: DB,
    path: String,
    applied: AtomicU64,
    synced: AtomicU64,
}

impl RocksStateStore {
    /// Opens the store in the folder `path`, or makes it. What is found there is taken as synced once it was synced again here.
    ///
    /// # Errors
    /// [`StorageError::NeedsOperator`] if another version wrote it; [`StorageError::Corrupt`]; [`StorageError::Io`].
    pub fn open(path: &Path) -> Result<RocksStateStore, StorageError> {
        let shown = path.display().to_string();
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_total_wal_size(LOG_BYTES_MAX);
        options.set_keep_log_file_num(INFO_LOGS);
        let db = DB::open(&options, path).map_err(|e| told("open", &shown, e))?;
        let store = RocksStateStore { db, path: shown, applied: AtomicU64::new(0), synced: AtomicU64::new(0) };
        store.check_version()?;
        let applied = store.read(APPLIED_KEY)?.map_or(Ok(0), |value| {
            let bytes = value.as_slice().try_into();
            bytes.map(u64::from_le_bytes).map_err(|_| StorageError::corrupt(&store.path, 0, "the applied index"))
        })?;
        store.applied.store(applied, Ordering::Release);
        store.sync()?;
        Ok(store)
    }

    fn check_version(&self) -> Result<(), StorageError> {
        match self.read(VERSION_KEY)? {
            Some(found) if found == VERSION.to_le_bytes() => Ok(()),
            Some(found) => Err(StorageError::NeedsOperator {
                path: self.path.clone(),
                detail: format!("the state store's version {found:?} is not known; use the dlog that wrote it"),
            }),
            None => self.db.put_opt(VERSION_KEY, VERSION.to_le_bytes(), &synced()).map_err(|e| self.told("write", e)),
        }
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.db.get(key).map_err(|e| self.told("read", e))
    }

    fn told(&self, op: &'static str, error: rocksdb::Error) -> StorageError {
        told(op, &self.path, error)
    }
}

fn state_key(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 1);
    bytes.push(STATE_KIND);
    bytes.extend_from_slice(key);
    bytes
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn told(op: &'static str, path: &str, error: rocksdb::Error) -> StorageError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StorageError::corrupt(path, 0, error.into_string()),
        _ => StorageError::io(op, path, io::Error::other(error)),
    }
}

impl StateStore for RocksStateStore {
    fn applied(&self) -> LogIndex {
        LogIndex(self.applied.load(Ordering::Acquire))
    }

    fn synced_applied(&self) -> LogIndex {
        LogIndex(self.synced.load(Ordering::Acquire))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read(&state_key(key))?.map(Bytes::from))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let prefix = state_key(prefix);
        let mut found = Vec::new();
        for entry in self.db.iterator(IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = entry.map_err(|e| self.told("read", e))?;
            if !key.starts_with(&prefix) {
                break;
            }
            found.push((Bytes::copy_from_slice(&key[1..]), Bytes::from(value.into_vec())));
        }
        Ok(found)
    }

    fn write(&self, changes: Vec<StateChange>, applied: LogIndex) -> Result<(), StorageError> {
        check_rises(self.applied(), applied)?;
        let mut batch = WriteBatch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(state_key(&key), value),
                None => batch.delete(state_key(&key)),
            }
        }
        batch.put(APPLIED_KEY, applied.0.to_le_bytes());
        self.db.write(batch).map_err(|e| self.told("write", e))?;
        self.applied.store(applied.0, Ordering::Release);
        Ok(())
    }

    fn replace(&self, entries: Vec<(Vec<u8>, Vec<u8>)>, applied: LogIndex, origin: Bytes) -> Result<(), StorageError> {
        check_rises(self.applied(), applied)?;
        let mut batch = WriteBatch::default();
        batch.delete_range(&[STATE_KIND][..], STATE_END);
        for (key, value) in entries {
            batch.put(state_key(&key), value);
        }
        batch.put(APPLIED_KEY, applied.0.to_le_bytes());
        batch.put(ORIGIN_KEY, origin);
        self.db.write_opt(batch, &synced()).map_err(|e| self.told("write", e))?;
        self.applied.store(applied.0, Ordering::Release);
        self.synced.store(applied.0, Ordering::Release);
        Ok(())
    }

    fn origin(&self) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read(ORIGIN_KEY)?.map(Bytes::from))
    }

    fn sync(&self) -> Result<LogIndex, StorageError> {
        let applied = self.applied();
        self.db.flush_wal(true).map_err(|e| StorageError::sync(&self.path, io::Error::other(e)))?;
        self.synced.fetch_max(applied.0, Ordering::AcqRel);
        Ok(self.synced_applied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_store::conformance;

    #[test]
    fn conforms() {
        conformance::run(|| {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().to_path_buf();
            let store = RocksStateStore::open(&path).expect("opened");
            (store, move || {
                let _keep = &dir;
                RocksStateStore::open(&path).expect("opened again")
            })
        });
    }

    #[test]
    fn another_version_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = RocksStateStore::open(dir.path()).expect("opened");
        store.db.put(VERSION_KEY, 2u32.to_le_bytes()).expect("written");
        drop(store);
        let refused = RocksStateStore::open(dir.path());
        assert!(matches!(refused, Err(StorageError::NeedsOperator { .. })));
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let _first = RocksStateStore::open(dir.path()).expect("opened");
        assert!(matches!(RocksStateStore::open(dir.path()), Err(StorageError::Io { op: "open", .. })));
    }
}
