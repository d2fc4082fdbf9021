//! What a replica asks its shell to do: a closed list.
//!
//! Outputs are executed in the order given. The machine holds back what must wait (messages behind a sync, replies behind a
//! majority), so the shell may send a [`Output::Send`] or a [`Output::Reply`] at once.

use crate::error::Refusal;
use crate::membership::Membership;
use crate::message::PeerMessage;
use crate::state_image::StateImage;
use bytes::Bytes;
use dlog_core::error::ErrorDetail;
use dlog_core::write::ReplicaWrite;
use dlog_core::{Fault, Frame, LogIndex, MendPlace, Offset, ReplicaId, RequestId, Term};

/// Numbers a replica's writes from 1, strictly rising within one life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WriteId(pub u64);

/// Numbers a replica's fetches from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FetchId(pub u64);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this durable, in order of the ids, then say [`crate::Input::Persisted`]. A write without operations only notes the
    /// commit index: no sync is owed and it need not be acknowledged.
    Write {
        /// Its number.
        id: WriteId,
        /// What to write.
        write: ReplicaWrite,
    },
    /// Send this; may be lost, doubled and reordered on the way.
    Send {
        /// The message; its `to` says to whom.
        message: PeerMessage,
    },
    /// Read frames for a peer that lags: answer with [`crate::Input::EntriesRead`]. At most one outstanding per peer.
    ReadEntries {
        /// Names the answer.
        fetch: FetchId,
        /// The first index wanted.
        from: LogIndex,
        /// The index to stop before.
        to: LogIndex,
        /// Stop after this many bytes of payload, but read at least one frame.
        max_bytes: u64,
        /// A peer that waits for it.
        peer: ReplicaId,
    },
    /// What may be read, and how far the log goes. Told when any of it changed.
    Progress(Progress),
    /// The answer to a request; exactly one for each.
    Reply {
        /// The request.
        request: RequestId,
        /// What to tell the client.
        result: Result<Reply, ErrorDetail>,
    },
    /// Term, role or leader changed.
    Role(RoleChange),
    /// Committed commands in order, for the apply thread (group 0 only). Frames of other kinds are left out.
    Apply {
        /// The commands.
        frames: Vec<Frame>,
    },
    /// Give group 0's state, as of the last command applied, with [`crate::Input::StateTaken`]: a peer needs a snapshot. One at a
    /// time.
    TakeState,
    /// Replace group 0's state by this one, which came with a snapshot, synced, and keep `origin` with it in the same step (a start
    /// hands it to [`crate::ReplicaLoader::with_state`]); then say [`crate::Input::StateInstalled`]. Commands said before stand
    /// before it; if the state is already as of `index` or later, syncing it is enough. One at a time.
    InstallState {
        /// What the state is as of.
        index: LogIndex,
        /// The state.
        state: StateImage,
        /// Where the log goes on.
        origin: Bytes,
    },
    /// Put these frames back to where the disk has lost them, then say [`crate::Input::Mended`]. One at a time.
    Mend {
        /// The fault.
        fault: Fault,
        /// Where the first of the frames goes.
        place: MendPlace,
        /// Contiguous frames behind `place`; none if just the segment's header is missing.
        frames: Vec<Frame>,
    },
    /// A replica that had to be mended before its start is whole: take it from the host, and load it. Said by [`crate::Host`].
    Whole,
    /// The producer table, for storage to keep.
    Producers {
        /// The entry that it is as of; above the last frame where a snapshot said so.
        index: LogIndex,
        /// The table, encoded.
        bytes: Bytes,
    },
    /// The log's membership is what the intent wants, with no change under way: a majority confirmed that this replica led after
    /// it knew the intent. Said by a leader alone, and again from time to time while the intent isn't confirmed.
    Confirmed {
        /// The intent's version.
        intent: LogIndex,
        /// The membership is as of this entry. Of two confirmations the one with the lower index was made first.
        membership_index: LogIndex,
        /// The membership: the intent's voters and learners.
        membership: Membership,
    },
    /// A peer's message was refused without an effect.
    Refused {
        /// Who the message says it is from.
        from: ReplicaId,
        /// Why.
        refusal: Refusal,
    },
    /// The shutdown that was asked for is complete: nothing is in flight, and leadership is handed over where it could be.
    Stopped,
    /// The replica can't go on and does nothing from here on; the reason is for the operator.
    Fatal {
        /// What happened.
        reason: String,
    },
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// The offset after the last committed entry known here.
    pub high_watermark: Offset,
    /// Raft's commit index; may pass what is durable here.
    pub commit: LogIndex,
    /// Where a reader of this replica must stop: committed, and in the segment. Never goes back.
    pub read_bound: Offset,
    /// The first offset not written here.
    pub log_end: Offset,
    /// The first readable offset, as all replicas agreed. Never goes back within a life; above the high watermark for a replica
    /// that catches up behind a snapshot.
    pub log_start: Offset,
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One for each batch of the proposal, in its order.
    Appended(Vec<Appended>),
    /// The log ended here when the request was made, or later. From a follower too: it answers once it knows that much to be
    /// committed; what lies below is readable here once [`Progress::read_bound`] is there.
    ReadIndex {
        /// The offset after `index`: everything acked before the request lies below it.
        high_watermark: Offset,
        /// The commit index it stands for.
        index: LogIndex,
    },
    /// The log start is where it was wanted, or beyond: that is committed.
    LogStart {
        /// The first readable offset now.
        log_start: Offset,
    },
    /// The command was committed; its effect is known once `index` is applied.
    Command {
        /// Its index.
        index: LogIndex,
    },
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// The batch was here already; the offsets are those of the first append.
    pub duplicate: bool,
}

/// What a replica is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows, or knows no leader.
    #[default]
    Follower,
    /// Asks for votes, or whether it would get them.
    Candidate,
    /// Leads.
    Leader,
}

/// Who leads, as this replica knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoleChange {
    /// The current term.
    pub term: Term,
    /// What this replica is.
    pub role: Role,
    /// The leader of the term, if known.
    pub leader: Option<ReplicaId>,
}
