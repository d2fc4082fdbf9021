//! [`StateStore`]: where a replicated state machine (group 0's catalogue) keeps its keys, together with the index of the last
//! entry applied to them.
//!
//! One batch of changes and its applied index take effect together or not at all, also across a crash. Not every batch is
//! synced: after a power loss the store may have gone back, but only to what it was after some earlier batch, at
//! [`StateStore::synced_applied`] or later. Whoever compacts the log keeps the entries above that.

use crate::error::StorageError;
use bytes::Bytes;
use dlog_core::LogIndex;

#[cfg(test)]
mod conformance;
pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;

/// A key and its new value; `None` deletes the key.
pub type StateChange = (Vec<u8>, Option<Vec<u8>>);

/// An ordered map of bytes with an applied index. Reads see every write that returned. One thread writes.
pub trait StateStore: Send + Sync + 'static {
    /// The index of the last entry applied; 0 at first.
    fn applied(&self) -> LogIndex;

    /// The applied index that a power loss can't take back.
    fn synced_applied(&self) -> LogIndex;

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StorageError`] if the store can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// All keys that begin with `prefix` and their values, by rising key. Held in memory at once: for small states.
    ///
    /// # Errors
    /// [`StorageError`] if the store can't be read.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError>;

    /// Makes the changes, in order, and sets the applied index, in one step.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if `applied` isn't above the one before; else nothing has changed and the process must end
    /// if it can't be repeated.
    fn write(&self, changes: Vec<StateChange>, applied: LogIndex) -> Result<(), StorageError>;

    /// Throws everything away and takes `entries` as of `applied` instead (a snapshot), in one step, synced. `origin` is kept with
    /// them: what the log goes on from, for a start that finds the log behind (opaque here).
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if that would go back; else as [`StateStore::write`].
    fn replace(&self, entries: Vec<(Vec<u8>, Vec<u8>)>, applied: LogIndex, origin: Bytes) -> Result<(), StorageError>;

    /// What came with the last [`StateStore::replace`]; `None` if there was none.
    ///
    /// # Errors
    /// [`StorageError`] if the store can't be read.
    fn origin(&self) -> Result<Option<Bytes>, StorageError>;

    /// Makes all writes durable; gives the new [`StateStore::synced_applied`].
    ///
    /// # Errors
    /// [`StorageError::SyncFailed`]: the process must end.
    fn sync(&self) -> Result<LogIndex, StorageError>;
}

/// The rule that an applied index only rises.
fn check_rises(now: LogIndex, to: LogIndex) -> Result<(), StorageError> {
    if to > now {
        return Ok(());
    }
    Err(StorageError::Invalid { detail: format!("the state is applied up to {now}, a change comes with {to}") })
}
