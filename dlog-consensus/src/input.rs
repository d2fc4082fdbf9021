//! What can happen to a replica: a closed list.

use crate::message::PeerMessage;
use crate::output::{FetchId, WriteId};
use crate::state_image::StateImage;
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{DiskState, Fault, Frame, LogIndex, Mended, Offset, ReplicaId, RequestId, TimestampMs};
use dlog_replication::Intent;

/// One event. The shell hands events in one at a time, in the order in which they happened for this replica.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// One tick of the clock passed (50 ms in production).
    Tick,
    /// A producer wants batches appended.
    Propose(Proposal),
    /// Several proposals that were waiting at once: they share one write and one message per peer.
    ProposeAll(Vec<Proposal>),
    /// The catalogue wants a command appended (group 0 only).
    ProposeCommand {
        /// Names the reply.
        request: RequestId,
        /// The encoded command; at most [`crate::options::COMMAND_BYTES_MAX`].
        command: Bytes,
    },
    /// A message of another replica of this log.
    Peer(PeerMessage),
    /// Every write up to and with this one is durable. Writes without operations need not be named.
    Persisted {
        /// The id of the last durable write.
        write: WriteId,
    },
    /// Frames up to and with `index` stand in the replica's segment (or its tail cache), where readers find them.
    ///
    /// Must arrive in order with [`Input::Persisted`]: what is told after the `Persisted` of a cut was written after the cut.
    WrittenOut {
        /// The last frame there.
        index: LogIndex,
        /// The offset after it.
        next_offset: Offset,
    },
    /// The answer to [`crate::Output::ReadEntries`]. Delaying it is the throttle of catch-up.
    EntriesRead {
        /// Which question.
        fetch: FetchId,
        /// The frames from the first index asked for, contiguous, at least one; or why they could not be read.
        result: Result<Vec<Frame>, FetchError>,
    },
    /// Where does the log end? Answered after a majority confirmed the leader; on a follower the leader is asked.
    ReadIndex {
        /// Names the reply.
        request: RequestId,
    },
    /// Records below `to` need no longer be readable: the leader has all replicas agree on it. At most the high watermark. The
    /// answer ([`crate::Reply::LogStart`]) comes at once if the log starts there already.
    MoveLogStart {
        /// Names the reply.
        request: RequestId,
        /// The new log start.
        to: Offset,
    },
    /// Storage keeps no frame up to and with `start` any more: segments below the log start were dropped. A peer that needs such
    /// frames gets a snapshot. Never said of group 0.
    LocalStart {
        /// What stands before the first frame kept.
        start: LogPoint,
    },
    /// Hand leadership over. Ignored unless this replica leads.
    TransferLeadership {
        /// To whom; `None`: to the most caught-up voter.
        to: Option<ReplicaId>,
    },
    /// What the catalogue wants of the log's membership. The leader drives the log there and says [`crate::Output::Confirmed`];
    /// others remember it. An intent older than the newest known is ignored, and so is one that no log may have.
    Intend(Intent),
    /// Try to become leader now, because the catalogue prefers this replica. Ignored while a leader is known.
    Campaign,
    /// The connection to this peer broke: what was in flight to it may be lost.
    Unreachable {
        /// The peer.
        peer: ReplicaId,
    },
    /// Group 0's apply thread applied the commands up to and with this index.
    Applied {
        /// The last applied index.
        index: LogIndex,
    },
    /// The answer to [`crate::Output::TakeState`]: group 0's state as of the last command applied. Comes behind the
    /// [`Input::Applied`] of that command.
    StateTaken {
        /// The state store's applied index.
        index: LogIndex,
        /// All that it holds.
        state: StateImage,
    },
    /// The answer to [`crate::Output::InstallState`].
    StateInstalled {
        /// The index asked for.
        index: LogIndex,
        /// The state store holds that state or a later one, synced; or why it can't.
        result: Result<(), String>,
    },
    /// Storage found frames that the disk can't give back. Others are asked for them. What is known already may be told again.
    Faulty {
        /// Where they are.
        faults: Vec<Fault>,
    },
    /// The answer to [`crate::Output::Mend`].
    Mended {
        /// Which fault.
        fault: Fault,
        /// What became of the frames; an error is for want of room, say: the next try comes by itself.
        result: Result<Mended, String>,
    },
    /// What the node's disk allows from now on: whether it has room for records, and whether it answers.
    Disk(DiskState),
    /// Asks for the producer table as of the last applied entry: [`crate::Output::Producers`], at once unless a snapshot is being
    /// installed.
    TakeProducers,
    /// Finish what is in flight, hand leadership over, then say [`crate::Output::Stopped`]. New proposals are rejected.
    Shutdown,
}

/// Batches of one producer's request. All of them are appended, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Names the reply.
    pub request: RequestId,
    /// Record batches that the service has validated; each becomes one entry. At most
    /// [`crate::options::BATCHES_PER_PROPOSAL_MAX`], never empty.
    pub batches: Vec<Bytes>,
    /// The time to stamp, for topics that keep the append time.
    pub append_time: Option<TimestampMs>,
    /// When to reply.
    pub acks: Acks,
}

/// When a producer is told that its batches were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// On stable storage of a majority.
    Quorum,
    /// On stable storage of the leader alone: may be lost with it.
    Leader,
    /// Quorum, and on stable storage of every replica that is in sync at that moment.
    All,
}

/// Why entries could not be read for a peer that catches up. The peer's next answer asks again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading entries for a peer failed: {reason}")]
pub struct FetchError {
    /// What storage said.
    pub reason: String,
}
