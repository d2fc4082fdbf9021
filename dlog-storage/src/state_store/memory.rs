//! [`MemoryStateStore`]: the state store of the simulator. It can lose power.

use super::{StateChange, StateStore, check_rises};
use crate::error::StorageError;
use crate::segment::lock;
use bytes::Bytes;
use dlog_core::LogIndex;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A state store in memory. Clones share it, as opening the same directory again would.
#[derive(Clone, Debug, Default)]
pub struct MemoryStateStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    now: State,
    synced: State,
}

#[derive(Clone, Debug, Default)]
struct State {
    entries: BTreeMap<Vec<u8>, Bytes>,
    applied: LogIndex,
    origin: Option<Bytes>,
}

impl MemoryStateStore {
    /// An empty store.
    pub fn new() -> MemoryStateStore {
        MemoryStateStore::default()
    }

    /// Another store with what this one holds now, synced, as a copy of its files does.
    #[must_use]
    pub fn copy(&self) -> MemoryStateStore {
        let now = lock(&self.inner).now.clone();
        MemoryStateStore { inner: Arc::new(Mutex::new(Inner { synced: now.clone(), now })) }
    }

    /// Power loss: goes back to the last sync.
    pub fn crash(&self) {
        let mut inner = lock(&self.inner);
        inner.now = inner.synced.clone();
    }
}

impl StateStore for MemoryStateStore {
    fn applied(&self) -> LogIndex {
        lock(&self.inner).now.applied
    }

    fn synced_applied(&self) -> LogIndex {
        lock(&self.inner).synced.applied
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(lock(&self.inner).now.entries.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let inner = lock(&self.inner);
        let from_prefix = inner.now.entries.range(prefix.to_vec()..);
        let found = from_prefix.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (Bytes::copy_from_slice(key), value.clone())).collect())
    }

    fn write(&self, changes: Vec<StateChange>, applied: LogIndex) -> Result<(), StorageError> {
        let mut inner = lock(&self.inner);
        check_rises(inner.now.applied, applied)?;
        for (key, value) in changes {
            match value {
                Some(value) => inner.now.entries.insert(key, Bytes::from(value)),
                None => inner.now.entries.remove(&key),
            };
        }
        inner.now.applied = applied;
        Ok(())
    }

    fn replace(&self, entries: Vec<(Vec<u8>, Vec<u8>)>, applied: LogIndex, origin: Bytes) -> Result<(), StorageError> {
        let mut inner = lock(&self.inner);
        check_rises(inner.now.applied, applied)?;
        let entries = entries.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        inner.now = State { entries, applied, origin: Some(origin) };
        inner.synced = inner.now.clone();
        Ok(())
    }

    fn origin(&self) -> Result<Option<Bytes>, StorageError> {
        Ok(lock(&self.inner).now.origin.clone())
    }

    fn sync(&self) -> Result<LogIndex, StorageError> {
        let mut inner = lock(&self.inner);
        inner.synced = inner.now.clone();
        Ok(inner.synced.applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_store::conformance;

    #[test]
    fn conforms() {
        conformance::run(|| {
            let store = MemoryStateStore::new();
            (store.clone(), move || store.clone())
        });
    }

    #[test]
    fn a_crash_goes_back_to_the_last_sync() {
        let store = MemoryStateStore::new();
        store.write(vec![(b"a".to_vec(), Some(b"1".to_vec()))], LogIndex(1)).expect("written");
        store.sync().expect("synced");
        store.write(vec![(b"a".to_vec(), None)], LogIndex(2)).expect("written");
        assert_eq!(store.synced_applied(), LogIndex(1));
        store.crash();
        assert_eq!((store.applied(), store.get(b"a").expect("read")), (LogIndex(1), Some(Bytes::from_static(b"1"))));
    }
}
