//! The way into a shard's consensus thread: one queue, bounded in bytes at its edges.
//!
//! Two counters bound what is queued. *Admitted* bytes are those of producers' batches from admission to their reply;
//! above the bound a producer is told `overloaded`. *Received* bytes are those of peers' entries from the socket until they
//! are persisted; above the bound the peer streams stop being read, so that the peer's own queue fills and its leader slows.

use super::repair::RepairMessage;
use bytes::Bytes;
use dlog_consensus::{Acks, FetchId, PeerMessage, Reply, StateImage, WriteId};
use dlog_core::Frame;
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::write::LogPoint;
use dlog_core::{LogId, LogIndex, ReplicaId, Space, TimestampMs, limits};
use dlog_replication::Intent;
use dlog_storage::WrittenOut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use tokio::sync::{Notify, oneshot};

/// How a request to the consensus thread ends.
pub type ReplyResult = Result<Reply, ErrorDetail>;

/// What the consensus thread is told.
pub enum ShardMessage {
    /// A producer's batches for a replica led here.
    Propose(ProposeRequest),
    /// A catalogue command, for group 0.
    Command { replica: ReplicaId, command: Bytes, reply: oneshot::Sender<ReplyResult> },
    /// Where is the end? Answered by a leader after a read index.
    ReadIndex { replica: ReplicaId, reply: oneshot::Sender<ReplyResult> },
    /// Messages of other nodes' replicas; `bytes` were counted as received.
    Peers { messages: Vec<PeerMessage>, bytes: usize },
    /// The disk thread looked at the room that its disk has.
    Space(Space),
    /// Journal groups are durable: for each replica the greatest write.
    Persisted(Vec<(ReplicaId, WriteId)>),
    /// Frames stand in their segments.
    WrittenOut(Vec<WrittenOut>),
    /// Segments below the log start were dropped: what now stands before the first frame of each.
    LocalStarts(Vec<(ReplicaId, LogPoint)>),
    /// Old frames that a slow follower needs.
    EntriesRead { replica: ReplicaId, fetch: FetchId, frames: Result<Vec<Frame>, String> },
    /// The state machine of group 0 has applied up to here.
    Applied { replica: ReplicaId, index: LogIndex },
    /// The state of group 0 that its replica asked for.
    StateTaken { replica: ReplicaId, index: LogIndex, state: StateImage },
    /// What became of a state that came with a snapshot.
    StateInstalled { replica: ReplicaId, index: LogIndex, result: Result<(), String> },
    /// A peer's stream broke: messages to its node may be lost.
    Unreachable { node: dlog_core::NodeId },
    /// The catalogue intends a replica here.
    Start(StartReplica),
    /// The settings of the replica's topic, all of them, as they hold from now on. Also sent once to each replica found at
    /// start.
    Settings {
        /// The replica.
        replica: ReplicaId,
        /// At how many bytes a segment ends.
        segment_bytes: u64,
        /// The topic's largest batch.
        batch_bytes_max: usize,
        /// How many bytes of records are kept; `None`: all.
        retention_bytes: Option<u64>,
        /// For how many milliseconds records are kept; `None`: for ever.
        retention_ms: Option<u64>,
    },
    /// What the catalogue wants of the membership of a replica's log.
    Intend { replica: ReplicaId, intent: Intent },
    /// The catalogue as of the group 0 index `ended` has confirmed that this replica goes.
    Delete { replica: ReplicaId, ended: LogIndex },
    /// Hand leadership of one replica to another.
    Transfer { replica: ReplicaId, to: ReplicaId },
    /// The disk thread is about to write a checkpoint and wants the producer tables as of now.
    TakeProducers,
    /// Hand every leadership over; answered with the number still led here.
    HandOver { reply: oneshot::Sender<usize> },
    /// Damage of segments, and its repair.
    Repair(RepairMessage),
    /// End the thread after everything queued before.
    Stop,
}

/// A producer's batches on their way in.
pub struct ProposeRequest {
    /// The replica that is asked to lead them.
    pub replica: ReplicaId,
    /// Validated batches, one entry each.
    pub batches: Vec<Bytes>,
    /// The time to stamp, where the topic says so.
    pub append_time: Option<TimestampMs>,
    /// When the reply is due.
    pub acks: Acks,
    /// Admitted bytes to give back with the reply.
    pub permit: AdmissionPermit,
    /// Told once.
    pub reply: oneshot::Sender<ReplyResult>,
}

/// A replica to start, from the catalogue.
pub struct StartReplica {
    /// Its id.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// The partition's creation membership, encoded.
    pub membership: Bytes,
    /// The group 0 index of the intent.
    pub intent: LogIndex,
    /// Whether this replica should campaign first, so that leadership starts where it was planned.
    pub preferred: bool,
    /// The topic's segment size.
    pub segment_bytes: u64,
    /// The topic's largest batch.
    pub batch_bytes_max: usize,
    /// How many bytes of records are kept; `None`: all.
    pub retention_bytes: Option<u64>,
    /// For how many milliseconds records are kept; `None`: for ever.
    pub retention_ms: Option<u64>,
}

/// Bytes of one producer request while it is admitted.
pub struct AdmissionPermit {
    bytes: usize,
    admitted: Arc<AtomicUsize>,
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.admitted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes received from peers and not yet persisted.
#[derive(Default)]
pub struct ReceivedBytes {
    bytes: AtomicUsize,
    freed: Notify,
}

impl ReceivedBytes {
    /// How many there are now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Gives back what is persisted or dropped.
    pub fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }
}

/// A sender to one shard's consensus thread. Clones share the queue and its counters.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::Sender<ShardMessage>,
    admitted: Arc<AtomicUsize>,
    received: Arc<ReceivedBytes>,
}

impl Inbox {
    /// A queue and its end.
    pub fn new() -> (Inbox, mpsc::Receiver<ShardMessage>) {
        let (sender, receiver) = mpsc::channel();
        (Inbox { sender, admitted: Arc::default(), received: Arc::default() }, receiver)
    }

    /// Queues a message. `false` if the thread has ended.
    pub fn send(&self, message: ShardMessage) -> bool {
        self.sender.send(message).is_ok()
    }

    /// Counts `bytes` of a producer as admitted, or refuses.
    ///
    /// # Errors
    /// `overloaded` (rejected, retryable) when the shard has too much in flight.
    pub fn admit(&self, bytes: usize) -> Result<AdmissionPermit, ErrorDetail> {
        let before = self.admitted.fetch_add(bytes, Ordering::Relaxed);
        let permit = AdmissionPermit { bytes, admitted: Arc::clone(&self.admitted) };
        if before > 0 && before + bytes > limits::SHARD_INBOX_BYTES_MAX {
            return Err(ErrorDetail::new(
                ErrorCode::Overloaded,
                Stage::Admission,
                Outcome::Rejected,
                format!("{before} bytes are waiting for the disk or for other replicas; send again in a moment"),
            )
            .with_retry_after_ms(20));
        }
        Ok(permit)
    }

    /// Queues peers' messages, waiting while too much of them isn't persisted yet.
    pub async fn send_peers(&self, messages: Vec<PeerMessage>, bytes: usize) -> bool {
        loop {
            let freed = self.received.freed.notified();
            if self.received.bytes.load(Ordering::Relaxed) < limits::SHARD_INBOX_BYTES_MAX {
                break;
            }
            freed.await;
        }
        self.received.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.send(ShardMessage::Peers { messages, bytes })
    }

    /// The counter of received bytes, for the thread that gives them back.
    pub fn received(&self) -> Arc<ReceivedBytes> {
        Arc::clone(&self.received)
    }

    /// Bytes of producers now in flight.
    pub fn admitted_bytes(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }
}
