//! What waits to be sent to each peer, bounded in bytes. The consensus thread puts messages in and never waits: what doesn't
//! fit is dropped and reported, and Raft sends it again.

use super::convert::weight;
use crate::shard::inbox::{Inbox, ShardMessage};
use dlog_consensus::{MessageKind, PeerMessage};
use dlog_core::{NodeId, limits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Two streams to each peer, so that a megabyte of entries never stands before a heartbeat. All appends of a group go over
/// the same one, so their order holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Votes, heartbeats, answers.
    Consensus,
    /// Appends.
    Bulk,
}

impl Priority {
    /// Both.
    pub const ALL: [Priority; 2] = [Priority::Consensus, Priority::Bulk];

    /// The stream that a message belongs to.
    pub fn of(message: &PeerMessage) -> Priority {
        match message.kind {
            MessageKind::Append | MessageKind::Snapshot => Priority::Bulk,
            _ => Priority::Consensus,
        }
    }
}

/// The queue of one stream.
pub struct Outbox {
    sender: mpsc::UnboundedSender<PeerMessage>,
    queued: Arc<AtomicUsize>,
}

/// The other end: taking a message gives its bytes back.
pub struct OutboxEnd {
    receiver: mpsc::UnboundedReceiver<PeerMessage>,
    queued: Arc<AtomicUsize>,
}

impl OutboxEnd {
    /// The next message; `None` once the node goes down.
    pub async fn next(&mut self) -> Option<PeerMessage> {
        let message = self.receiver.recv().await?;
        self.taken(&message);
        Some(message)
    }

    /// The next message if one is there.
    pub fn try_next(&mut self) -> Option<PeerMessage> {
        let message = self.receiver.try_recv().ok()?;
        self.taken(&message);
        Some(message)
    }

    fn taken(&self, message: &PeerMessage) {
        self.queued.fetch_sub(weight(message), Ordering::Relaxed);
    }
}

/// The queues to all peers.
#[derive(Default)]
pub struct Outboxes {
    by_peer: RwLock<BTreeMap<(NodeId, Priority), Outbox>>,
}

impl Outboxes {
    /// Opens the queue of one stream; `None` if it is open already.
    pub fn open(&self, node: NodeId, priority: Priority) -> Option<OutboxEnd> {
        let mut map = self.by_peer.write().expect("no holder panics");
        if map.contains_key(&(node, priority)) {
            return None;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::<AtomicUsize>::default();
        map.insert((node, priority), Outbox { sender, queued: Arc::clone(&queued) });
        Some(OutboxEnd { receiver, queued })
    }

    /// Bytes that wait in each queue.
    pub fn queued(&self) -> Vec<(NodeId, Priority, usize)> {
        let map = self.by_peer.read().expect("no holder panics");
        map.iter().map(|((node, priority), outbox)| (*node, *priority, outbox.queued.load(Ordering::Relaxed))).collect()
    }

    /// Closes all queues: their streams end once they are empty.
    pub fn close(&self) {
        self.by_peer.write().expect("no holder panics").clear();
    }

    /// Queues one turn's messages. A peer whose queue is full, or that isn't known yet, loses them, and the shard is told.
    pub fn send(&self, messages: Vec<PeerMessage>, inbox: &Inbox) {
        let map = self.by_peer.read().expect("no holder panics");
        let mut lost: Vec<NodeId> = Vec::new();
        for message in messages {
            let node = message.to.node();
            let bytes = weight(&message);
            let Some(outbox) = map.get(&(node, Priority::of(&message))) else { continue };
            if outbox.queued.fetch_add(bytes, Ordering::Relaxed) + bytes > limits::PEER_QUEUE_BYTES_MAX {
                outbox.queued.fetch_sub(bytes, Ordering::Relaxed);
                if !lost.contains(&node) {
                    lost.push(node);
                }
            } else if outbox.sender.send(message).is_err() {
                outbox.queued.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        for node in lost {
            inbox.send(ShardMessage::Unreachable { node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use dlog_consensus::WireEntry;
    use dlog_core::{FrameKind, LogId, LogIndex, ReplicaId, Term};

    fn append(bytes: usize) -> PeerMessage {
        PeerMessage {
            log: LogId(1),
            from: ReplicaId::new(NodeId(1), 1),
            to: ReplicaId::new(NodeId(2), 1),
            kind: MessageKind::Append,
            term: Term(1),
            log_term: Term(0),
            index: LogIndex(0),
            commit: LogIndex(0),
            commit_term: Term(0),
            entries: vec![WireEntry {
                term: Term(1),
                index: LogIndex(1),
                kind: FrameKind::Records,
                payload: Bytes::from(vec![0; bytes]),
            }],
            reject: false,
            reject_hint: LogIndex(0),
            context: Bytes::new(),
            priority: 0,
            snapshot: None,
        }
    }

    #[test]
    fn a_full_queue_drops_and_tells() {
        let (inbox, queue) = Inbox::new();
        let outboxes = Outboxes::default();
        let mut end = outboxes.open(NodeId(2), Priority::Bulk).expect("first");
        assert!(outboxes.open(NodeId(2), Priority::Bulk).is_none(), "one stream a priority");
        let size = limits::PEER_QUEUE_BYTES_MAX / 2;
        outboxes.send(vec![append(size), append(size), append(1)], &inbox);
        assert!(matches!(queue.try_recv(), Ok(ShardMessage::Unreachable { node: NodeId(2) })));
        assert_eq!(outboxes.queued(), [(NodeId(2), Priority::Bulk, weight(&append(size)) + weight(&append(1)))]);
        assert_eq!(end.try_next().expect("the first fits").entries[0].payload.len(), size);
        assert_eq!(end.try_next().expect("a small one fits behind it").entries[0].payload.len(), 1);
        assert!(end.try_next().is_none());
        outboxes.send(vec![append(size)], &inbox);
        assert!(end.try_next().is_some(), "taking gives the bytes back");
        assert!(queue.try_recv().is_err());
    }
}
