//! [`StorageError`]: everything the engine can tell its caller, each with what to do next.

use crate::log_state::SegmentName;
use dlog_core::{LogIndex, Offset, ReplicaId};
use std::io;
use std::sync::Arc;

/// What went wrong in the engine. Clones share the operating system's error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused a read, a write or a change of names. Nothing durable was lost.
    #[error("{op} {path}: {source}; check the disk and the rights on the folder, then start the node again")]
    Io {
        /// What was tried: "read", "write", "open"…
        op: &'static str,
        /// The file or folder, relative to the disk's root.
        path: String,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// No space is left. Retry once there is.
    #[error(
        "{op} {path}: the disk is full ({source}); free some space or shorten retention, writes go on by themselves"
    )]
    Full {
        /// What was tried.
        op: &'static str,
        /// The file or folder.
        path: String,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// A sync failed: nothing can be said of any unsynced byte of the file, and trying again would lie.
    #[error("sync of {path} failed: {source}; the process must end now, and recovery decides at the next start")]
    SyncFailed {
        /// The file or folder.
        path: String,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// Bytes are not what was written. They were not served.
    #[error("{path} is damaged at byte {position}{}: {detail}; run `dlog verify` on the stopped node, and rebuild the replica from its peers", place(.index, .offset))]
    Corrupt {
        /// The file.
        path: String,
        /// Where in the file, in bytes.
        position: u64,
        /// The Raft index expected there, if known.
        index: Option<LogIndex>,
        /// The offset expected there, if known.
        offset: Option<Offset>,
        /// What doesn't match.
        detail: String,
    },
    /// The offset can't be read here.
    #[error("the offset is out of range: readable are {log_start} up to, not with, {end}; start at one of these two")]
    OutOfRange {
        /// The first readable offset.
        log_start: Offset,
        /// The first offset that isn't written here.
        end: Offset,
    },
    /// The Raft index isn't kept here.
    #[error("the index is out of range: kept are {first} to {last}; what is older comes with a snapshot")]
    IndexOutOfRange {
        /// The first index kept here.
        first: LogIndex,
        /// The last index written here; one below `first` if the log is empty.
        last: LogIndex,
    },
    /// The caller broke a rule, such as the order of operations: a fault in the program, not in the data.
    #[error("invalid operation: {detail}; this is a fault in dlog, please report it")]
    Invalid {
        /// What was expected.
        detail: String,
    },
    /// The journal has no room for a group until a checkpoint frees a file. Nothing was written.
    #[error("the journal has no room for {needed} bytes until a checkpoint is made; try again after it")]
    JournalFull {
        /// Bytes of the group.
        needed: u64,
    },
    /// A replica id is started empty once: this one is here, or is marked as deleted or retired.
    #[error("replica {replica} was started on this node before; a replica id is never used twice, place a new replica")]
    ReplicaExists {
        /// The replica.
        replica: ReplicaId,
    },
    /// An earlier failure made this store unusable.
    #[error("the store is unusable since an earlier failure ({reason}); end the process and start the node again")]
    Poisoned {
        /// The earlier failure.
        reason: String,
    },
    /// Only a human can decide (exit code 12): going on could break a promise.
    #[error("{path}: {detail}")]
    NeedsOperator {
        /// The file or folder.
        path: String,
        /// What was found, and which command helps.
        detail: String,
    },
    /// Another process uses the directory.
    #[error(
        "the data directory {path} is in use by another process; stop that node, or give this one its own --data-dir"
    )]
    Locked {
        /// The directory.
        path: String,
    },
}

fn place(index: &Option<LogIndex>, offset: &Option<Offset>) -> String {
    match (index, offset) {
        (Some(index), Some(offset)) => format!(" (index {index}, offset {offset})"),
        (Some(index), None) => format!(" (index {index})"),
        (None, Some(offset)) => format!(" (offset {offset})"),
        (None, None) => String::new(),
    }
}

impl StorageError {
    /// The error of an operation `op` on `path`; a full disk or an exhausted quota becomes [`StorageError::Full`].
    pub fn io(op: &'static str, path: &str, source: io::Error) -> StorageError {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let (path, source) = (path.to_string(), Arc::new(source));
        if full { StorageError::Full { op, path, source } } else { StorageError::Io { op, path, source } }
    }

    /// The error of a failed sync of `path`.
    pub fn sync(path: &str, source: io::Error) -> StorageError {
        StorageError::SyncFailed { path: path.to_string(), source: Arc::new(source) }
    }

    /// Damage at a place of which neither index nor offset is known.
    pub fn corrupt(path: &str, position: u64, detail: impl Into<String>) -> StorageError {
        StorageError::Corrupt { path: path.to_string(), position, index: None, offset: None, detail: detail.into() }
    }

    /// The segment that is damaged, missing or can't be read, if it says so of one.
    pub fn segment(&self) -> Option<SegmentName> {
        match self {
            StorageError::Corrupt { path, .. }
            | StorageError::Io { op: "read", path, .. }
            | StorageError::Io { op: "open", path, .. } => SegmentName::parse(path.rsplit('/').next()?),
            _ => None,
        }
    }

    /// Whether it says that bytes are damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, StorageError::Corrupt { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = StorageError::io("write", "a/b", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(error, StorageError::Full { .. }), "{error}");
        let error = StorageError::io("write", "a/b", io::Error::from(io::ErrorKind::Other));
        assert!(matches!(error, StorageError::Io { .. }), "{error}");
    }

    #[test]
    fn damage_names_its_place() {
        let error = StorageError::Corrupt {
            path: "x.segment".into(),
            position: 128,
            index: Some(LogIndex(3)),
            offset: Some(Offset(7)),
            detail: "bad checksum".into(),
        };
        let text = error.to_string();
        assert!(text.starts_with("x.segment is damaged at byte 128 (index 3, offset 7): bad checksum"), "{text}");
    }
}
