//! Reads segments for the consensus thread, which never meets the disk itself: old frames for followers that lag, what of a
//! segment is damaged, and all that a replica must see to start once it is mended.

use super::inbox::{Inbox, ShardMessage};
use super::repair::{Loaded, RepairMessage};
use super::restore::restore;
use crate::replicas::Replicas;
use dlog_consensus::{FetchId, Mending, StateFound};
use dlog_core::write::RestoredReplica;
use dlog_core::{LogId, LogIndex, ReplicaId};
use dlog_storage::SegmentName;
use std::sync::Arc;
use std::sync::mpsc;

/// What is to be read.
pub enum ReadRequest {
    /// Frames for a peer.
    Fetch(FetchRequest),
    /// All of a segment in which damage was met.
    Examine {
        /// The replica.
        replica: ReplicaId,
        /// Its log.
        log: LogId,
        /// Which file.
        segment: SegmentName,
    },
    /// What a replica must see to start.
    Load {
        /// As storage restored it.
        restored: Box<RestoredReplica>,
        /// For its generator.
        seed: u64,
    },
}

/// One read for one peer of one replica.
pub struct FetchRequest {
    /// Who asks.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// Goes back with the answer.
    pub fetch: FetchId,
    /// First index wanted.
    pub from: LogIndex,
    /// First index not wanted.
    pub to: LogIndex,
    /// At least one frame is read, then no more than fit.
    pub max_bytes: usize,
}

/// Serves requests until the senders are gone. `group_zero_state` is as of the node's start: a replica of group 0 that isn't
/// loaded yet has told its state store nothing.
pub fn run(
    requests: &mpsc::Receiver<ReadRequest>,
    inbox: &Inbox,
    replicas: &Arc<Replicas>,
    group_zero_state: &StateFound,
) {
    while let Ok(request) = requests.recv() {
        match request {
            ReadRequest::Fetch(request) => fetch(&request, inbox, replicas),
            ReadRequest::Examine { replica, log, segment } => {
                let found = replicas.reader(log).map(|reader| reader.faults_in(segment, &mut |_| true));
                let faults = found.unwrap_or_else(|| Ok(Vec::new())).unwrap_or_else(|error| {
                    tracing::error!(%log, %replica, %error, "a segment with damage can't be examined");
                    Vec::new()
                });
                inbox.send(ShardMessage::Repair(RepairMessage::Found { replica, segment, faults }));
            }
            ReadRequest::Load { restored, seed } => {
                let replica = restored.replica;
                if let Some(loaded) = load(*restored, seed, replicas, group_zero_state) {
                    inbox.send(ShardMessage::Repair(RepairMessage::Loaded { replica, loaded }));
                }
            }
        }
    }
}

fn fetch(request: &FetchRequest, inbox: &Inbox, replicas: &Arc<Replicas>) {
    let (log, replica) = (request.log, request.replica);
    let frames = match replicas.reader(log) {
        Some(reader) => reader.read_frames(request.from, request.to, request.max_bytes).map_err(|error| {
            if let Some(segment) = error.segment() {
                inbox.send(ShardMessage::Repair(RepairMessage::Met { replica, segment }));
            }
            format!("reading {log} for another replica: {error}")
        }),
        None => Err(format!("log {log} has no segments here yet")),
    };
    if let Err(error) = &frames {
        tracing::warn!(%log, from = %request.from, to = %request.to, %error, "a read for another replica failed");
    }
    inbox.send(ShardMessage::EntriesRead { replica, fetch: request.fetch, frames });
}

/// A replica that can't be loaded though it is mended stands still, and says why: the rest of the node goes on.
fn load(
    restored: RestoredReplica,
    seed: u64,
    replicas: &Arc<Replicas>,
    group_zero_state: &StateFound,
) -> Option<Loaded> {
    let (replica, log) = (restored.replica, restored.log);
    let reader = replicas.reader(log);
    match restore(reader.as_ref(), restored.clone(), group_zero_state, seed) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            tracing::error!(%log, %replica, %error, "a replica can't go on");
            // Its members were known before.
            Mending::stuck(restored, error.to_string()).ok().map(|stuck| Loaded::Waits(Box::new(stuck)))
        }
    }
}
