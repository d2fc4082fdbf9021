//! The apply thread of group 0: commands become the catalogue, on disk and in memory.
//!
//! For each committed command: apply it to the catalogue, write the changed entities together with the applied index in one
//! batch of the state store, then publish the new catalogue and tell the consensus thread.

use crate::shard::disk_thread::DiskMessage;
use crate::shard::inbox::{Inbox, ShardMessage};
use dlog_core::{Frame, FrameKind, LogIndex, ReplicaId};
use dlog_replication::Catalogue;
use dlog_storage::{StateStore, StorageError};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Tells how far the catalogue here has come.
pub type AppliedWatch = watch::Receiver<LogIndex>;

/// How often the state store is made durable, so that deleted replicas' marks can be forgotten.
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
        for disk in &self.disks {
            let _ = disk.send(DiskMessage::CatalogueSynced(synced));
        }
        Ok(())
    }

    fn apply(&mut self, replica: ReplicaId, frames: &[Frame]) -> Result<(), StorageError> {
        let before = *self.applied.borrow();
        let Some(last) = frames.last() else { return Ok(()) };
        let mut changes = Vec::new();
        for frame in frames.iter().filter(|f| f.index > before && f.kind == FrameKind::Command) {
            let applied = self.catalogue.apply(frame.index, &frame.payload);
            changes.extend(applied.changes.into_iter().map(|c| (c.key, c.value)));
        }
        if last.index > before {
            self.store.write(changes, last.index)?;
            self.publish.send_replace(Arc::new(self.catalogue.clone()));
            self.applied.send_replace(last.index);
        }
        self.inbox.send(ShardMessage::Applied { replica, index: last.index });
        Ok(())
    }
}
