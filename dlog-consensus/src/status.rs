//! What can be told of a replica at a glance: for `describe`, health and metrics.

use crate::membership::{Membership, Standing};
use crate::output::{Progress, Role};
use crate::repair::FaultStatus;
use dlog_core::{LogId, LogIndex, MonotonicTime, Offset, ReplicaId, Term};

/// One replica, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The log.
    pub log: LogId,
    /// The replica.
    pub replica: ReplicaId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of the term, if known.
    pub leader: Option<ReplicaId>,
    /// How far it is.
    pub progress: Progress,
    /// The index before its first frame.
    pub local_start: LogIndex,
    /// The base offset of its first frame; never above the log start.
    pub local_start_offset: Offset,
    /// Its last frame.
    pub last: LogIndex,
    /// Its last durable frame.
    pub persisted: LogIndex,
    /// Its last frame in a segment.
    pub written: LogIndex,
    /// The last entry applied to producer table and membership (group 0's state machine follows on its own).
    pub applied: LogIndex,
    /// Group 0: the last command that the apply thread told of.
    pub state_applied: LogIndex,
    /// Who belongs to the log.
    pub membership: Membership,
    /// The entry that made it, or C of the snapshot that brought it; 0 for the one of creation.
    pub membership_index: LogIndex,
    /// What this replica is to its log; `None`: it was removed, or isn't in yet.
    pub standing: Option<Standing>,
    /// What a change of membership is at; only a leader knows, and only if it was told what is wanted or stands in a joint state.
    pub change: Option<ChangeStatus>,
    /// C of the last snapshot that was installed, 0 if none was: entries up to it change neither membership nor producers.
    pub as_of: LogIndex,
    /// The leader's view of every member, itself included, in the order of ids; empty on others.
    pub peers: Vec<PeerStatus>,
    /// Bytes of frames held in memory.
    pub pinned_bytes: usize,
    /// Requests that wait.
    pub pending_requests: usize,
    /// Producers remembered.
    pub producers: usize,
    /// Since when the oldest write waits for the disk.
    pub unpersisted_since: Option<MonotonicTime>,
    /// Frames that could not be read for peers, since the start.
    pub failed_fetches: u64,
    /// Snapshots sent to peers that need entries which aren't kept here, since the start.
    pub sent_snapshots: u64,
    /// Those of them that did not arrive in time.
    pub failed_snapshots: u64,
    /// Snapshots installed here, since the start.
    pub installed_snapshots: u64,
    /// What of the log the disk can't give back.
    pub faults: Vec<FaultStatus>,
    /// Faults that were mended with others' frames, since the start.
    pub mended_faults: u64,
    /// Why it stands still for good, if it does: its damage isn't one of frames.
    pub stuck: Option<String>,
}

/// A member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub replica: ReplicaId,
    /// Whether it votes, before or after a change under way.
    pub voter: bool,
    /// What it is to the log.
    pub standing: Standing,
    /// Durable there up to this index, as far as known.
    pub matched: LogIndex,
    /// Ticks since it was last heard in this term.
    pub silent_ticks: Option<u64>,
    /// Heard within one election timeout, and durable up to the high watermark of one heartbeat ago.
    pub in_sync: bool,
    /// Its disk takes producers' records, as far as known.
    pub has_room: bool,
}

/// A change of membership, as the leader sees it. How far those are for whom it waits stands in [`Status::peers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeStatus {
    /// The intent that is followed; `None`: a joint state is left though nobody has said what is wanted.
    pub intent: Option<LogIndex>,
    /// What is done now.
    pub step: ChangeStep,
    /// Those that the step is about, or waits for, in the order of ids.
    pub waits_for: Vec<ReplicaId>,
}

/// A step of a change of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStep {
    /// A replica comes in as a learner.
    AddLearner,
    /// Those who are to vote don't have all of the log yet, or weren't heard lately.
    CatchUp,
    /// The joint state is entered.
    EnterJoint,
    /// The joint state is left.
    LeaveJoint,
    /// A voter is to lead that goes on to vote.
    HandOver,
    /// A learner that nobody wants goes.
    RemoveLearner,
    /// The log has the members that are wanted; the catalogue doesn't know yet.
    Confirm,
    /// The catalogue knows.
    Done,
}
