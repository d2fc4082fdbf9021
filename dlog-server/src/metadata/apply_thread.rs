//! The apply thread of group 0: commands become the catalogue, on disk and in memory.
//!
//! For each committed command: apply it to the catalogue, write the changed entities together with the applied index in one
//! batch of the state store, then publish the new catalogue and tell the consensus thread. Group 0's snapshots take the state from
//! here, and bring it.

use crate::shard::disk_thread::DiskMessage;
use crate::shard::inbox::{Inbox, ShardMessage};
use bytes::Bytes;
use dlog_consensus::StateImage;
use dlog_core::{Frame, LogIndex, ReplicaId};
use dlog_replication::Catalogue;
use dlog_storage::{StateStore, StorageError};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Tells how far the catalogue here has come.
pub type AppliedWatch = watch::Receiver<LogIndex>;

/// How often the state store is made durable, so that deleted replicas' marks can be forgotten and group 0's log shortened.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// What the apply thread is told.
pub enum ApplyMessage {
    /// Committed frames of group 0, in order.
    Frames {
        /// Group 0's replica here.
        replica: ReplicaId,
        /// Contiguous with what came before.
        frames: Vec<Frame>,
    },
    /// A peer needs the state as of now.
    TakeState {
        /// Group 0's replica here.
        replica: ReplicaId,
    },
    /// A state came with a snapshot.
    Install {
        /// Group 0's replica here.
        replica: ReplicaId,
        /// What it is as of.
        index: LogIndex,
        /// All of it.
        state: StateImage,
        /// To be kept with it.
        origin: Bytes,
    },
    /// End, after everything before.
    Stop,
}

/// The thread's state.
pub struct ApplyThread<S> {
    store: S,
    catalogue: Catalogue,
    publish: watch::Sender<Arc<Catalogue>>,
    applied: watch::Sender<LogIndex>,
    inbox: Inbox,
    disks: Vec<mpsc::Sender<DiskMessage>>,
    last_sync: Instant,
}

impl<S: StateStore> ApplyThread<S> {
    /// A thread that goes on where `store` stands. Returns what to watch, too.
    ///
    /// # Errors
    /// If the store can't be read or holds what this version doesn't understand.
    pub fn new(
        store: S,
        inbox: Inbox,
        disks: Vec<mpsc::Sender<DiskMessage>>,
    ) -> anyhow::Result<(ApplyThread<S>, watch::Receiver<Arc<Catalogue>>, AppliedWatch)> {
        let applied = store.applied();
        let catalogue = Catalogue::load(applied, store.scan(b"")?)?;
        let (publish, catalogue_watch) = watch::channel(Arc::new(catalogue.clone()));
        let (applied_sender, applied_watch) = watch::channel(applied);
        let thread =
            ApplyThread { store, catalogue, publish, applied: applied_sender, inbox, disks, last_sync: Instant::now() };
        Ok((thread, catalogue_watch, applied_watch))
    }

    /// Runs until [`ApplyMessage::Stop`] or until the senders are gone.
    ///
    /// # Errors
    /// The store's; the caller ends the process, since a catalogue that can't be kept can't be served.
    pub fn run(mut self, queue: &mpsc::Receiver<ApplyMessage>) -> Result<(), StorageError> {
        loop {
            match queue.recv_timeout(SYNC_EVERY) {
                Ok(ApplyMessage::Frames { replica, frames }) => self.apply(replica, &frames)?,
                Ok(ApplyMessage::TakeState { replica }) => self.take(replica)?,
                Ok(ApplyMessage::Install { replica, index, state, origin }) => {
                    self.install(replica, index, &state, origin)?;
                }
                Ok(ApplyMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.last_sync.elapsed() >= SYNC_EVERY {
                self.sync()?;
            }
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.last_sync = Instant::now();
        let synced = self.store.sync()?;
        self.tell_synced(synced);
        Ok(())
    }

    fn tell_synced(&self, synced: LogIndex) {
        for disk in &self.disks {
            let _ = disk.send(DiskMessage::CatalogueSynced(synced));
        }
    }

    fn take(&self, replica: ReplicaId) -> Result<(), StorageError> {
        let (index, state) = (self.store.applied(), StateImage::of_entries(self.store.scan(b"")?));
        tracing::info!(%index, bytes = state.len(), "the metadata group's state is taken for a snapshot");
        self.inbox.send(ShardMessage::StateTaken { replica, index, state });
        Ok(())
    }

    /// A state that can't be read is refused: what is here stays. The rest of the node hears of it only once it is synced.
    fn install(
        &mut self,
        replica: ReplicaId,
        index: LogIndex,
        state: &StateImage,
        origin: Bytes,
    ) -> Result<(), StorageError> {
        let mut result = Ok(());
        if index > self.store.applied() {
            match state.catalogue(index) {
                Ok((catalogue, entries)) => {
                    self.store.replace(entries, index, origin)?;
                    tracing::info!(%index, bytes = state.len(), "the metadata group's state came with a snapshot");
                    self.catalogue = catalogue;
                }
                Err(reason) => result = Err(reason),
            }
        }
        let synced = self.store.sync()?;
        self.inbox.send(ShardMessage::StateInstalled { replica, index, result });
        self.tell_synced(synced);
        self.publish.send_replace(Arc::new(self.catalogue.clone()));
        self.applied.send_replace(self.store.applied());
        Ok(())
    }

    fn apply(&mut self, replica: ReplicaId, frames: &[Frame]) -> Result<(), StorageError> {
        let before = *self.applied.borrow();
        let Some(last) = frames.last() else { return Ok(()) };
        if let Some((last, changes)) = self.catalogue.apply_frames(before, frames) {
            self.store.write(changes, last)?;
            self.publish.send_replace(Arc::new(self.catalogue.clone()));
            self.applied.send_replace(last);
        }
        self.inbox.send(ShardMessage::Applied { replica, index: last.index });
        Ok(())
    }
}

#[cfg(test)]
#[path = "apply_thread_tests.rs"]
mod tests;
