//! How messages, writes and answers are written in a script's output.

use super::requests::Requests;
use bytes::Bytes;
use dlog_consensus::{Membership, MessageKind, PeerMessage, Role, RoleChange, decode_membership};
use dlog_core::write::WriteOp;
use dlog_core::{FrameKind, LogIndex, ReplicaId, Term};

/// A replica: its node, with its number there if that isn't the first.
pub fn replica(id: ReplicaId) -> String {
    match id.number() {
        1 => id.node().0.to_string(),
        number => format!("{}.{number}", id.node().0),
    }
}

/// Replicas in a row.
pub fn replicas<'a>(ids: impl IntoIterator<Item = &'a ReplicaId>) -> String {
    ids.into_iter().map(|id| replica(*id)).collect::<Vec<_>>().join(" ")
}

/// A place in a log: term and index.
pub fn place(term: Term, index: LogIndex) -> String {
    format!("{}:{}", term.0, index.0)
}

/// What an entry holds.
pub fn content(requests: &Requests, kind: FrameKind, payload: &Bytes) -> String {
    match kind {
        FrameKind::Records => requests.name(payload).to_owned(),
        FrameKind::NoOp => "no-op".to_owned(),
        FrameKind::LogStart => "log start".to_owned(),
        FrameKind::Configuration => "configuration".to_owned(),
        FrameKind::Command => "command".to_owned(),
        FrameKind::ProducerExpiry => "producer expiry".to_owned(),
    }
}

/// A message.
pub fn message(requests: &Requests, message: &PeerMessage) -> String {
    let PeerMessage { kind, term, index, log_term, commit, .. } = message;
    let mut text = format!("{}->{} {kind:?}", replica(message.from), replica(message.to));
    if term.0 > 0 {
        text.push_str(&format!(" term {}", term.0));
    }
    match kind {
        MessageKind::Append => {
            text.push_str(&format!(" after {} commit {}", place(*log_term, *index), commit.0));
            for entry in &message.entries {
                let what = content(requests, entry.kind, &entry.payload);
                text.push_str(&format!(" [{} {what}]", place(entry.term, entry.index)));
            }
        }
        MessageKind::AppendResponse if message.reject => {
            text.push_str(&format!(" no: not after {}, look at {}", index.0, place(*log_term, message.reject_hint)));
        }
        MessageKind::AppendResponse => text.push_str(&format!(" up to {} commit {}", index.0, commit.0)),
        MessageKind::RequestVote | MessageKind::RequestPreVote => {
            text.push_str(&format!(" last {} commit {}", place(*log_term, *index), commit.0));
        }
        MessageKind::RequestVoteResponse | MessageKind::RequestPreVoteResponse => {
            text.push_str(if message.reject { " no" } else { " yes" });
        }
        MessageKind::RepairRequest => text.push_str(&format!(" what is after {} up to {}", index.0, commit.0)),
        MessageKind::RepairResponse if message.reject => text.push_str(&format!(" no: not after {}", index.0)),
        MessageKind::RepairResponse => {
            text.push_str(&format!(" {} after {}", message.entries.len(), index.0));
        }
        MessageKind::Heartbeat => text.push_str(&format!(" commit {}", commit.0)),
        MessageKind::ReadIndexResponse => text.push_str(&format!(" index {}", index.0)),
        MessageKind::Snapshot => {
            if let Some(snapshot) = &message.snapshot {
                text.push_str(&format!(" go on after {}", place(snapshot.term, snapshot.index)));
            }
        }
        MessageKind::SnapshotResponse => {
            let no = if message.reject { " no," } else { "" };
            text.push_str(&format!("{no} has {} bytes of the state as of {}", message.reject_hint.0, index.0));
        }
        MessageKind::HeartbeatResponse | MessageKind::TimeoutNow | MessageKind::ReadIndex => {}
    }
    if !message.context.is_empty() {
        let votes = [MessageKind::RequestVote, MessageKind::RequestPreVote];
        text.push_str(if votes.contains(kind) { " (handed over)" } else { " (read)" });
    }
    text
}

/// An operation of a write.
pub fn write_op(requests: &Requests, op: &WriteOp) -> String {
    match op {
        WriteOp::Create(create) => format!("create for intent {}", create.intent.0),
        WriteOp::Append(frames) => {
            let frame = |frame: &dlog_core::Frame| {
                let what = content(requests, frame.kind, &frame.payload);
                let at = if frame.record_count > 0 { format!(" @{}", frame.base_offset.0) } else { String::new() };
                format!("[{} {what}{at}]", place(frame.term, frame.index))
            };
            frames.iter().map(frame).collect::<Vec<_>>().join(" ")
        }
        WriteOp::HardState { term, vote } => {
            let vote = vote.map_or("nobody".to_owned(), replica);
            format!("term {} vote {vote}", term.0)
        }
        WriteOp::Configuration { index, membership } => {
            let members = decode_membership(membership).map_or_else(|error| error.to_string(), |known| members(&known));
            format!("configuration of {}: {members}", index.0)
        }
        WriteOp::Cut { from } => format!("cut from {}", from.0),
        WriteOp::LogStart(offset) => format!("log start {}", offset.0),
        WriteOp::Reset(point) => format!("reset to {} @{}", place(point.term, point.index), point.next_offset.0),
        WriteOp::Producers { index, .. } => format!("producers as of {}", index.0),
        WriteOp::Delete { .. } => "delete".to_owned(),
    }
}

/// The members of a log.
pub fn members(membership: &Membership) -> String {
    let lists = [
        ("voters", &membership.voters),
        ("learners", &membership.learners),
        ("outgoing", &membership.voters_outgoing),
        ("then learners", &membership.learners_next),
    ];
    let some = lists.iter().filter(|(_, list)| !list.is_empty());
    let lists = some.map(|(name, list)| format!("{name} {}", replicas(*list))).collect::<Vec<_>>().join(" ");
    match membership.intent.0 {
        0 => lists,
        intent => format!("{lists} (intent {intent})"),
    }
}

/// A role.
pub fn role(change: &RoleChange) -> String {
    let term = change.term.0;
    match (change.role, change.leader) {
        (Role::Leader, _) => format!("leads term {term}"),
        (Role::Candidate, _) => format!("asks for votes, term {term}"),
        (Role::Follower, Some(leader)) => format!("follows {}, term {term}", replica(leader)),
        (Role::Follower, None) => format!("follows nobody, term {term}"),
    }
}
