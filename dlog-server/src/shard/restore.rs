//! From what storage restored of a replica to its machine, or to one that waits for what its disk has lost.

use super::repair::Loaded;
use dlog_consensus::{LoadError, Mending, ReplicaLoader, ReplicaOptions, StateFound};
use dlog_core::write::RestoredReplica;
use dlog_core::{Fault, LogId};
use dlog_storage::{LogReader, OsDisk, StorageError};

/// Bytes of frames read at once while producers are replayed.
const REPLAY_BYTES: usize = 4 << 20;

/// Why a replica isn't loaded.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Its frames can't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// They, or what else storage gave, don't fit together.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It has no segments that could be read.
    #[error("the frames from {0} on are missing")]
    Missing(dlog_core::LogIndex),
}

/// Loads a replica. Where its segments are damaged it waits for its peers' help; `Err` is for what nobody can help with.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    reader: Option<&LogReader<OsDisk>>,
    restored: RestoredReplica,
    group_zero_state: &StateFound,
    seed: u64,
) -> Result<Loaded, RestoreError> {
    let error = match load(reader, restored.clone(), group_zero_state, seed) {
        Err(RestoreError::Storage(error)) => error,
        done => return done,
    };
    let Some(reader) = reader else { return Err(error.into()) };
    let faults = faults_of(reader, &error)?;
    if faults.is_empty() {
        return Err(error.into());
    }
    let (replica, log, count) = (restored.replica, restored.log, faults.len());
    tracing::warn!(%replica, %log, %error, faults = count, "a replica waits for its peers to mend its log");
    Ok(Loaded::Waits(Box::new(Mending::new(restored, &faults)?)))
}

/// What can't be read of the segment that an error is about; empty if it names none, or if nothing is wrong with it.
///
/// # Errors
/// The disk's.
pub fn faults_of(reader: &LogReader<OsDisk>, error: &StorageError) -> Result<Vec<Fault>, StorageError> {
    match error.segment() {
        Some(segment) => reader.faults_in(segment, &mut |_| true),
        None => Ok(Vec::new()),
    }
}

/// Reads again what the machine wants to see, and starts it.
fn load(
    reader: Option<&LogReader<OsDisk>>,
    restored: RestoredReplica,
    group_zero_state: &StateFound,
    seed: u64,
) -> Result<Loaded, RestoreError> {
    let state = if restored.log == LogId::GROUP_ZERO { group_zero_state.clone() } else { StateFound::default() };
    let options = ReplicaOptions::default();
    let mut loader = ReplicaLoader::with_state(restored, state, &options)?;
    let wanted = loader.wanted();
    let mut next = wanted.start;
    while next < wanted.end {
        let frames = reader.ok_or(RestoreError::Missing(next))?.read_frames(next, wanted.end, REPLAY_BYTES)?;
        let last = frames.last().ok_or(RestoreError::Missing(next))?.index;
        for frame in frames {
            loader.replay(frame)?;
        }
        next = last.next();
    }
    Ok(Loaded::Running(Box::new(loader.finish(options, seed)?)))
}
