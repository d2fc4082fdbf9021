//! Reads old frames for followers that lag: the only way in which the consensus thread ever meets the disk for reading.

use super::inbox::{Inbox, ShardMessage};
use crate::replicas::Replicas;
use dlog_consensus::FetchId;
use dlog_core::{LogId, LogIndex, ReplicaId};
use std::sync::Arc;
use std::sync::mpsc;

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

/// Serves requests until the senders are gone.
pub fn run(requests: &mpsc::Receiver<FetchRequest>, inbox: &Inbox, replicas: &Arc<Replicas>) {
    while let Ok(request) = requests.recv() {
        let frames = match replicas.reader(request.log) {
            Some(reader) => reader
                .read_frames(request.from, request.to, request.max_bytes)
                .map_err(|error| format!("reading {} for a lagging replica: {error}", request.log)),
            None => Err(format!("log {} has no segments here yet", request.log)),
        };
        if let Err(error) = &frames {
            tracing::warn!(log = %request.log, from = %request.from, to = %request.to, %error, "catch-up read failed");
        }
        inbox.send(ShardMessage::EntriesRead { replica: request.replica, fetch: request.fetch, frames });
    }
}
