//! What replicas of one log say to each other. The raft crate's own types never leave this crate.
//!
//! A message is flat: a field that its kind doesn't use is zero. [`PeerMessage::validate`] checks what can be checked without
//! knowing the receiver; what depends on the receiver's log is checked by `replica/guard.rs` before the raft crate sees it.

use crate::error::Refusal;
use bytes::Bytes;
use dlog_core::{Frame, FrameKind, LogId, LogIndex, ReplicaId, SpaceLevel, Term, limits};
use raft_proto::eraftpb::{Entry, EntryType, Message, MessageType};

/// Terms and indexes above this are refused: no honest replica gets there, and arithmetic on them can't overflow.
pub const NUMBER_MAX: u64 = 1 << 60;
/// Entries in one message; bounds the work of checking one.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 16 * 1024;
/// Bytes of a message's context: a campaign's name, or a read's number.
pub const CONTEXT_BYTES_MAX: usize = 64;

/// What a message is. The numbers are on the wire: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageKind {
    /// Entries, or a probe without any.
    Append = 1,
    /// How far the entries were made durable, or where the logs differ.
    AppendResponse = 2,
    /// Vote for me.
    RequestVote = 3,
    /// The vote.
    RequestVoteResponse = 4,
    /// Would you vote for me?
    RequestPreVote = 5,
    /// The answer.
    RequestPreVoteResponse = 6,
    /// I lead, and this much of your log is committed.
    Heartbeat = 7,
    /// I follow.
    HeartbeatResponse = 8,
    /// Campaign at once: leadership is handed to you.
    TimeoutNow = 9,
    /// A follower asks where the log ends.
    ReadIndex = 10,
    /// The leader's answer.
    ReadIndexResponse = 11,
    /// Go on from here: the entries before are no longer kept.
    Snapshot = 12,
    /// This much of the state that comes with your snapshot is here (group 0); `reject`: it can't be taken.
    SnapshotResponse = 13,
    /// My disk has lost what stands behind `index`, up to `commit`: give it to me.
    RepairRequest = 14,
    /// The first of it; `reject`: it isn't here either.
    RepairResponse = 15,
}

impl MessageKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [MessageKind; 15] = [
        MessageKind::Append,
        MessageKind::AppendResponse,
        MessageKind::RequestVote,
        MessageKind::RequestVoteResponse,
        MessageKind::RequestPreVote,
        MessageKind::RequestPreVoteResponse,
        MessageKind::Heartbeat,
        MessageKind::HeartbeatResponse,
        MessageKind::TimeoutNow,
        MessageKind::ReadIndex,
        MessageKind::ReadIndexResponse,
        MessageKind::Snapshot,
        MessageKind::SnapshotResponse,
        MessageKind::RepairRequest,
        MessageKind::RepairResponse,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number, if there is one.
    pub fn from_number(number: u8) -> Option<MessageKind> {
        MessageKind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Whether it answers another message; only a member's answers count.
    pub const fn is_response(self) -> bool {
        matches!(
            self,
            MessageKind::AppendResponse
                | MessageKind::RequestVoteResponse
                | MessageKind::RequestPreVoteResponse
                | MessageKind::HeartbeatResponse
                | MessageKind::SnapshotResponse
                | MessageKind::RepairResponse
        )
    }

    fn of_raft(kind: MessageType) -> Option<MessageKind> {
        Some(match kind {
            MessageType::MsgAppend => MessageKind::Append,
            MessageType::MsgAppendResponse => MessageKind::AppendResponse,
            MessageType::MsgRequestVote => MessageKind::RequestVote,
            MessageType::MsgRequestVoteResponse => MessageKind::RequestVoteResponse,
            MessageType::MsgRequestPreVote => MessageKind::RequestPreVote,
            MessageType::MsgRequestPreVoteResponse => MessageKind::RequestPreVoteResponse,
            MessageType::MsgHeartbeat => MessageKind::Heartbeat,
            MessageType::MsgHeartbeatResponse => MessageKind::HeartbeatResponse,
            MessageType::MsgTimeoutNow => MessageKind::TimeoutNow,
            MessageType::MsgReadIndex => MessageKind::ReadIndex,
            MessageType::MsgReadIndexResp => MessageKind::ReadIndexResponse,
            MessageType::MsgSnapshot => MessageKind::Snapshot,
            _ => return None,
        })
    }

    const fn to_raft(self) -> MessageType {
        match self {
            MessageKind::Append => MessageType::MsgAppend,
            MessageKind::AppendResponse => MessageType::MsgAppendResponse,
            MessageKind::RequestVote => MessageType::MsgRequestVote,
            MessageKind::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
            MessageKind::RequestPreVote => MessageType::MsgRequestPreVote,
            MessageKind::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
            MessageKind::Heartbeat => MessageType::MsgHeartbeat,
            MessageKind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
            MessageKind::TimeoutNow => MessageType::MsgTimeoutNow,
            MessageKind::ReadIndex => MessageType::MsgReadIndex,
            MessageKind::ReadIndexResponse => MessageType::MsgReadIndexResp,
            MessageKind::Snapshot => MessageType::MsgSnapshot,
            // Never stepped: `replica/state_sending.rs` and `replica/repairing.rs` take them.
            MessageKind::SnapshotResponse | MessageKind::RepairRequest | MessageKind::RepairResponse => {
                MessageType::MsgSnapStatus
            }
        }
    }
}

/// One message between two replicas of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The log of both.
    pub log: LogId,
    /// Who sends. The shell has checked that the authenticated peer node owns this id.
    pub from: ReplicaId,
    /// To whom.
    pub to: ReplicaId,
    /// What it is.
    pub kind: MessageKind,
    /// The sender's term; 0 only for [`MessageKind::ReadIndex`].
    pub term: Term,
    /// The term of the entry at `index`.
    pub log_term: Term,
    /// Append: the index before the first entry. Responses: how far, or what is rejected, or the snapshot's index. Votes: the
    /// sender's last index.
    pub index: LogIndex,
    /// The sender's commit index, as far as the receiver may take it over.
    pub commit: LogIndex,
    /// The term of the entry at `commit` (votes only).
    pub commit_term: Term,
    /// The entries, contiguous from `index + 1`.
    pub entries: Vec<WireEntry>,
    /// A response says no. Of [`MessageKind::HeartbeatResponse`]: the sender's disk is full.
    pub reject: bool,
    /// Where a rejecting follower suggests to look next; of [`MessageKind::SnapshotResponse`]: bytes of the state that are there; of
    /// [`MessageKind::HeartbeatResponse`]: 1 if the full disk takes no records at all.
    pub reject_hint: LogIndex,
    /// A campaign's name, or a read's number.
    pub context: Bytes,
    /// The sender's priority in an election (votes only).
    pub priority: i64,
    /// Just with [`MessageKind::Snapshot`].
    pub snapshot: Option<WireSnapshot>,
}

/// A snapshot on the wire: where to go on, and the state to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireSnapshot {
    /// The index before the first entry that follows.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The encoded membership.
    pub membership: Bytes,
    /// Everything else, in an encoding of this crate.
    pub data: Bytes,
}

impl WireSnapshot {
    /// Bytes of what it holds.
    pub fn bytes(&self) -> usize {
        self.membership.len() + self.data.len()
    }
}

/// An entry on the wire: a frame without what the receiver computes itself (offset, record count, CRCs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEntry {
    /// The entry's term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// What its payload is.
    pub kind: FrameKind,
    /// The payload; shares the batch's buffer.
    pub payload: Bytes,
}

impl PeerMessage {
    /// Bytes that the message takes in a bundle, about: payloads, and a fixed cost for each entry and message.
    pub fn approximate_bytes(&self) -> usize {
        const MESSAGE_BYTES: usize = 96;
        const ENTRY_BYTES: usize = 32;
        MESSAGE_BYTES
            + self.context.len()
            + self.snapshot.as_ref().map_or(0, WireSnapshot::bytes)
            + self.entries.iter().map(|entry| ENTRY_BYTES + entry.payload.len()).sum::<usize>()
    }

    /// Checks what needs no knowledge of the receiver: bounds, contiguity, fields that belong to the kind.
    ///
    /// # Errors
    /// [`Refusal`] names the field.
    pub fn validate(&self) -> Result<(), Refusal> {
        if self.from.node().0 == 0 || self.from == self.to {
            return Err(Refusal::Sender(self.from));
        }
        if self.snapshot.is_some() != (self.kind == MessageKind::Snapshot) {
            return Err(Refusal::Field("snapshot"));
        }
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.term > self.term) {
            return Err(Refusal::Field("snapshot"));
        }
        let numbers = [
            ("term", self.term.0),
            ("log_term", self.log_term.0),
            ("index", self.index.0),
            ("commit", self.commit.0),
            ("commit_term", self.commit_term.0),
            ("reject_hint", self.reject_hint.0),
        ];
        if let Some((field, _)) = numbers.into_iter().find(|(_, number)| *number > NUMBER_MAX) {
            return Err(Refusal::Field(field));
        }
        // Term 0 means "local" to the raft crate, which then trusts the message.
        if (self.term.0 == 0) != (self.kind == MessageKind::ReadIndex) {
            return Err(Refusal::Field("term"));
        }
        // A replica of term 0 that rejects a vote for its priority would answer with term 0, on which the raft crate panics.
        if self.priority < 0 {
            return Err(Refusal::Field("priority"));
        }
        if self.context.len() > CONTEXT_BYTES_MAX {
            return Err(Refusal::Field("context"));
        }
        let is_read = matches!(self.kind, MessageKind::ReadIndex | MessageKind::ReadIndexResponse);
        if is_read && self.context.is_empty() {
            return Err(Refusal::Field("context"));
        }
        let has_entries = matches!(self.kind, MessageKind::Append | MessageKind::RepairResponse);
        if !has_entries && !self.entries.is_empty() {
            return Err(Refusal::Field("entries"));
        }
        match self.kind {
            MessageKind::Append => self.validate_append(),
            MessageKind::RepairResponse => self.validate_entries(),
            _ => Ok(()),
        }
    }

    fn validate_append(&self) -> Result<(), Refusal> {
        // The raft crate takes term 0 at an index beyond its log for a match and panics on the gap.
        if (self.index.0 == 0) != (self.log_term.0 == 0) {
            return Err(Refusal::Field("log_term"));
        }
        if self.log_term > self.term {
            return Err(Refusal::Field("log_term"));
        }
        self.validate_entries()
    }

    fn validate_entries(&self) -> Result<(), Refusal> {
        if self.entries.len() > ENTRIES_PER_MESSAGE_MAX {
            return Err(Refusal::Field("entries"));
        }
        let bytes: usize = self.entries.iter().map(|entry| entry.payload.len()).sum();
        if bytes > limits::APPEND_BYTES_MAX + limits::FRAME_PAYLOAD_BYTES_MAX {
            return Err(Refusal::Field("entries"));
        }
        let mut before = (self.index, self.log_term);
        for entry in &self.entries {
            let fits = entry.index == before.0.next() && entry.term >= before.1 && entry.term <= self.term;
            if !fits || entry.term.0 == 0 {
                return Err(Refusal::Sequence(entry.index));
            }
            if entry.payload.len() > limits::FRAME_PAYLOAD_BYTES_MAX {
                return Err(Refusal::Entry { index: entry.index, reason: "payload too large".to_owned() });
            }
            before = (entry.index, entry.term);
        }
        Ok(())
    }

    /// What a replica asks another for its repair, or answers, still without what it is about.
    pub(crate) fn of_repair(
        kind: MessageKind,
        (log, from, to): (LogId, ReplicaId, ReplicaId),
        term: Term,
        index: LogIndex,
    ) -> PeerMessage {
        PeerMessage {
            log,
            from,
            to,
            kind,
            term,
            log_term: Term::ZERO,
            index,
            commit: LogIndex::ZERO,
            commit_term: Term::ZERO,
            entries: Vec::new(),
            reject: false,
            reject_hint: LogIndex::ZERO,
            context: Bytes::new(),
            priority: 0,
            snapshot: None,
        }
    }

    /// Says with an answer to a heartbeat how much room the sender's disk has.
    pub(crate) fn set_space(&mut self, level: SpaceLevel) {
        self.reject = level > SpaceLevel::Ample;
        self.reject_hint = LogIndex(u64::from(level == SpaceLevel::Exhausted));
    }

    /// What an answer to a heartbeat says of its sender's disk; the raft crate doesn't see it.
    pub(crate) fn take_space(&mut self) -> SpaceLevel {
        match (std::mem::take(&mut self.reject), std::mem::take(&mut self.reject_hint)) {
            (false, _) => SpaceLevel::Ample,
            (true, LogIndex::ZERO) => SpaceLevel::Full,
            (true, _) => SpaceLevel::Exhausted,
        }
    }

    /// The raft crate's form; of a snapshot its place alone.
    pub(crate) fn into_raft(self) -> Message {
        let mut message = Message::default();
        message.set_msg_type(self.kind.to_raft());
        message.from = self.from.0;
        message.to = self.to.0;
        message.term = self.term.0;
        message.log_term = self.log_term.0;
        message.index = self.index.0;
        message.commit = self.commit.0;
        message.commit_term = self.commit_term.0;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint.0;
        message.priority = self.priority;
        if matches!(self.kind, MessageKind::ReadIndex | MessageKind::ReadIndexResponse) {
            // The crate indexes entries[0] unchecked.
            message.set_entries(vec![Entry { data: self.context, ..Entry::default() }].into());
        } else {
            message.context = self.context;
            let entries: Vec<Entry> = self.entries.into_iter().map(WireEntry::into_raft).collect();
            message.set_entries(entries.into());
        }
        if let Some(snapshot) = self.snapshot {
            let metadata = message.mut_snapshot().mut_metadata();
            (metadata.index, metadata.term) = (snapshot.index.0, snapshot.term.0);
        }
        message
    }

    /// From what the raft crate wants sent; a snapshot is put in by whoever knows the state. `None` for what dlog never sends
    /// (forwarded proposals).
    pub(crate) fn from_raft(log: LogId, mut message: Message) -> Option<PeerMessage> {
        let kind = MessageKind::of_raft(message.get_msg_type())?;
        let mut raft_entries: Vec<Entry> = message.take_entries().into();
        let is_read = matches!(kind, MessageKind::ReadIndex | MessageKind::ReadIndexResponse);
        let context = if is_read {
            std::mem::take(&mut raft_entries.first_mut()?.data)
        } else {
            std::mem::take(&mut message.context)
        };
        let entries = if is_read { Vec::new() } else { raft_entries.into_iter().map(WireEntry::from_raft).collect() };
        Some(PeerMessage {
            log,
            from: ReplicaId(message.from),
            to: ReplicaId(message.to),
            kind,
            term: Term(message.term),
            log_term: Term(message.log_term),
            index: LogIndex(message.index),
            commit: LogIndex(message.commit),
            commit_term: Term(message.commit_term),
            entries,
            reject: message.reject,
            reject_hint: LogIndex(message.reject_hint),
            context,
            priority: message.priority,
            snapshot: None,
        })
    }
}

impl WireEntry {
    pub(crate) fn into_raft(self) -> Entry {
        raft_entry(self.kind, self.term, self.index, self.payload)
    }

    /// A frame's; shares the payload.
    pub(crate) fn of_frame(frame: &Frame) -> WireEntry {
        WireEntry { term: frame.term, index: frame.index, kind: frame.kind, payload: frame.payload.clone() }
    }

    fn from_raft(entry: Entry) -> WireEntry {
        let (term, index) = (Term(entry.term), LogIndex(entry.index));
        WireEntry { term, index, kind: kind_of(&entry), payload: entry.data }
    }
}

/// The kind travels in the entry's context: one byte, which no copy of the entry loses.
pub(crate) fn kind_context(kind: FrameKind) -> Bytes {
    const KINDS: [[u8; 1]; 7] = [[0], [1], [2], [3], [4], [5], [6]];
    Bytes::from_static(&KINDS[kind as usize])
}

/// The kind of an entry that the raft crate holds. An entry without a context is one that the crate made itself: a no-op.
pub(crate) fn kind_of(entry: &Entry) -> FrameKind {
    entry.context.first().and_then(|number| FrameKind::from_number(*number)).unwrap_or(FrameKind::NoOp)
}

/// The raft crate's entry of these parts.
pub(crate) fn raft_entry(kind: FrameKind, term: Term, index: LogIndex, payload: Bytes) -> Entry {
    let mut entry = Entry { term: term.0, index: index.0, data: payload, ..Entry::default() };
    if kind == FrameKind::Configuration {
        entry.set_entry_type(EntryType::EntryConfChangeV2);
    }
    if kind != FrameKind::NoOp {
        entry.context = kind_context(kind);
    }
    entry
}

/// The raft crate's entry of a frame; shares the payload.
pub(crate) fn entry_of_frame(frame: &Frame) -> Entry {
    raft_entry(frame.kind, frame.term, frame.index, frame.payload.clone())
}
