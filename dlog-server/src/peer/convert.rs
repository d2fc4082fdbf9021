//! Consensus messages to their protobuf form and back. Form only: what a message says is checked by dlog-consensus.

use dlog_consensus::{MessageKind, PeerMessage, WireEntry, WireSnapshot};
use dlog_core::{FrameKind, LogId, LogIndex, ReplicaId, Term};
use dlog_protocol::v1::{self, RaftMessageKind};

/// Kinds on both sides. Proto numbers are published, the machine's are its own.
const KINDS: [(MessageKind, RaftMessageKind); 15] = [
    (MessageKind::Append, RaftMessageKind::Append),
    (MessageKind::AppendResponse, RaftMessageKind::AppendResponse),
    (MessageKind::RequestVote, RaftMessageKind::RequestVote),
    (MessageKind::RequestVoteResponse, RaftMessageKind::RequestVoteResponse),
    (MessageKind::RequestPreVote, RaftMessageKind::RequestPreVote),
    (MessageKind::RequestPreVoteResponse, RaftMessageKind::RequestPreVoteResponse),
    (MessageKind::Heartbeat, RaftMessageKind::Heartbeat),
    (MessageKind::HeartbeatResponse, RaftMessageKind::HeartbeatResponse),
    (MessageKind::TimeoutNow, RaftMessageKind::TimeoutNow),
    (MessageKind::ReadIndex, RaftMessageKind::ReadIndex),
    (MessageKind::ReadIndexResponse, RaftMessageKind::ReadIndexResponse),
    (MessageKind::Snapshot, RaftMessageKind::Snapshot),
    (MessageKind::SnapshotResponse, RaftMessageKind::SnapshotResponse),
    (MessageKind::RepairRequest, RaftMessageKind::RepairRequest),
    (MessageKind::RepairResponse, RaftMessageKind::RepairResponse),
];

/// The form that travels.
pub fn to_wire(message: PeerMessage) -> v1::RaftMessage {
    let kind = KINDS.iter().find(|(ours, _)| *ours == message.kind).map_or(RaftMessageKind::Unspecified, |(_, k)| *k);
    v1::RaftMessage {
        log: message.log.0,
        from: message.from.0,
        to: message.to.0,
        kind: kind.into(),
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        commit: message.commit.0,
        commit_term: message.commit_term.0,
        entries: message.entries.into_iter().map(entry_to_wire).collect(),
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context,
        priority: message.priority,
        snapshot: message.snapshot.map(snapshot_to_wire),
    }
}

fn snapshot_to_wire(snapshot: WireSnapshot) -> v1::RaftSnapshot {
    v1::RaftSnapshot {
        index: snapshot.index.0,
        term: snapshot.term.0,
        membership: snapshot.membership,
        data: snapshot.data,
    }
}

fn entry_to_wire(entry: WireEntry) -> v1::RaftEntry {
    v1::RaftEntry {
        term: entry.term.0,
        index: entry.index.0,
        kind: u32::from(entry.kind as u8),
        payload: entry.payload,
    }
}

/// Back from the wire.
///
/// # Errors
/// A text that says which field is of no known kind.
pub fn from_wire(message: v1::RaftMessage) -> Result<PeerMessage, String> {
    let wire_kind = message.kind();
    let Some((kind, _)) = KINDS.iter().find(|(_, theirs)| *theirs == wire_kind) else {
        return Err(format!("message kind {} is not known", message.kind));
    };
    Ok(PeerMessage {
        log: LogId(message.log),
        from: ReplicaId(message.from),
        to: ReplicaId(message.to),
        kind: *kind,
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: LogIndex(message.index),
        commit: LogIndex(message.commit),
        commit_term: Term(message.commit_term),
        entries: message.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
        reject: message.reject,
        reject_hint: LogIndex(message.reject_hint),
        context: message.context,
        priority: message.priority,
        snapshot: message.snapshot.map(snapshot_from_wire),
    })
}

fn snapshot_from_wire(snapshot: v1::RaftSnapshot) -> WireSnapshot {
    WireSnapshot {
        index: LogIndex(snapshot.index),
        term: Term(snapshot.term),
        membership: snapshot.membership,
        data: snapshot.data,
    }
}

fn entry_from_wire(entry: v1::RaftEntry) -> Result<WireEntry, String> {
    let kind = u8::try_from(entry.kind).ok().and_then(FrameKind::from_number);
    Ok(WireEntry {
        term: Term(entry.term),
        index: LogIndex(entry.index),
        kind: kind.ok_or_else(|| format!("entry kind {} is not known", entry.kind))?,
        // A slice of the transport's buffer would keep all of it in memory for as long as one entry is cached.
        payload: bytes::Bytes::copy_from_slice(&entry.payload),
    })
}

/// Bytes that a message weighs in a queue: its payloads and something for the rest.
pub fn weight(message: &PeerMessage) -> usize {
    128 + message.snapshot.as_ref().map_or(0, WireSnapshot::bytes)
        + message.entries.iter().map(|e| 64 + e.payload.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in MessageKind::ALL {
            let message = PeerMessage {
                log: LogId(1),
                from: ReplicaId(2),
                to: ReplicaId(3),
                kind,
                term: Term(4),
                log_term: Term(5),
                index: LogIndex(6),
                commit: LogIndex(7),
                commit_term: Term(8),
                entries: vec![WireEntry {
                    term: Term(9),
                    index: LogIndex(10),
                    kind: FrameKind::Records,
                    payload: Bytes::from_static(b"x"),
                }],
                reject: true,
                reject_hint: LogIndex(11),
                context: Bytes::from_static(b"c"),
                priority: -12,
                snapshot: (kind == MessageKind::Snapshot).then(|| WireSnapshot {
                    index: LogIndex(13),
                    term: Term(14),
                    membership: Bytes::from_static(b"m"),
                    data: Bytes::from_static(b"d"),
                }),
            };
            assert_eq!(from_wire(to_wire(message.clone())), Ok(message));
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        assert!(from_wire(v1::RaftMessage { kind: 99, ..Default::default() }).is_err());
        let entries = vec![v1::RaftEntry { kind: 99, ..Default::default() }];
        let kind = RaftMessageKind::Append.into();
        assert!(from_wire(v1::RaftMessage { kind, entries, ..Default::default() }).is_err());
    }
}
