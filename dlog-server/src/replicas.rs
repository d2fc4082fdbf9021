//! The replicas of this node as services and readers see them: a way in, a way to read, and how far it has come.

use crate::metrics::Traffic;
use crate::shard::inbox::{Inbox, ShardMessage};
use crate::shard::repair::RepairMessage;
use dlog_consensus::Role;
use dlog_core::{LogId, LogIndex, Offset, ReplicaId, Term};
use dlog_storage::{LogReader, OsDisk, StorageError, WrittenOut};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};
use tokio::sync::watch;

/// How far a replica has come. Only ever moves forward, except that `log_end` may fall when a conflicting suffix is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// First offset that isn't committed.
    pub high_watermark: Offset,
    /// Raft's commit index.
    pub commit: LogIndex,
    /// Records below this may be served from here.
    pub read_bound: Offset,
    /// First offset that isn't in the log here.
    pub log_end: Offset,
    /// First readable offset, as all replicas agreed.
    pub log_start: Offset,
    /// The current term.
    pub term: Term,
    /// This replica's part in it.
    pub role: Role,
    /// Who leads it, as far as known.
    pub leader: Option<ReplicaId>,
}

/// One replica on this node.
pub struct ReplicaHandle {
    /// Its log.
    pub log: LogId,
    /// Its id.
    pub replica: ReplicaId,
    /// Its shard's consensus thread.
    pub inbox: Inbox,
    /// What was read from it here.
    pub reads: Traffic,
    reader: OnceLock<LogReader<OsDisk>>,
    progress: watch::Receiver<ReplicaProgress>,
}

impl ReplicaHandle {
    /// A handle whose reader comes later (or now, after a restart).
    pub fn new(
        log: LogId,
        replica: ReplicaId,
        inbox: Inbox,
        progress: watch::Receiver<ReplicaProgress>,
        reader: Option<LogReader<OsDisk>>,
    ) -> ReplicaHandle {
        let cell = OnceLock::new();
        if let Some(reader) = reader {
            // A fresh cell: can't be taken.
            let _ = cell.set(reader);
        }
        ReplicaHandle { log, replica, inbox, reads: Traffic::default(), reader: cell, progress }
    }

    /// How far it is now.
    pub fn progress(&self) -> ReplicaProgress {
        *self.progress.borrow()
    }

    /// A receiver that is told of every move.
    pub fn watch(&self) -> watch::Receiver<ReplicaProgress> {
        self.progress.clone()
    }

    /// The first offset that may be read here. What lies below may be there yet, and is given to nobody.
    pub fn log_start(&self) -> Offset {
        self.reader().map_or(Offset::ZERO, LogReader::log_start)
    }

    /// A read of it failed: if that is for damage, the damage is seen to.
    pub fn report(&self, error: &StorageError) {
        if let Some(segment) = error.segment() {
            let replica = self.replica;
            self.inbox.send(ShardMessage::Repair(RepairMessage::Met { replica, segment }));
        }
    }

    /// Reads its segments; `None` until its first write was written out.
    pub fn reader(&self) -> Option<&LogReader<OsDisk>> {
        self.reader.get()
    }
}

/// All replicas of this node by log: a node holds at most one replica of a log at a time.
#[derive(Default)]
pub struct Replicas {
    by_log: RwLock<BTreeMap<LogId, Arc<ReplicaHandle>>>,
}

impl Replicas {
    /// The replica of a log, if this node has one.
    pub fn get(&self, log: LogId) -> Option<Arc<ReplicaHandle>> {
        self.by_log.read().expect("no holder panics").get(&log).cloned()
    }

    /// All of them, by log.
    pub fn all(&self) -> Vec<Arc<ReplicaHandle>> {
        self.by_log.read().expect("no holder panics").values().cloned().collect()
    }

    /// Adds a replica that starts.
    pub fn insert(&self, handle: Arc<ReplicaHandle>) {
        self.by_log.write().expect("no holder panics").insert(handle.log, handle);
    }

    /// Removes a replica that goes, if it is still the one of its log.
    pub fn remove(&self, replica: ReplicaId) {
        self.by_log.write().expect("no holder panics").retain(|_, handle| handle.replica != replica);
    }

    /// A reader of a log.
    pub fn reader(&self, log: LogId) -> Option<LogReader<OsDisk>> {
        self.get(log)?.reader().cloned()
    }

    /// Gives readers to replicas whose first write has just been written out.
    pub fn add_readers(&self, written: &[WrittenOut], open: impl Fn(ReplicaId) -> Option<LogReader<OsDisk>>) {
        let map = self.by_log.read().expect("no holder panics");
        for handle in map.values().filter(|h| h.reader.get().is_none()) {
            if written.iter().any(|w| w.replica == handle.replica)
                && let Some(reader) = open(handle.replica)
            {
                let _ = handle.reader.set(reader);
            }
        }
    }
}
