//! What must hold after every step: nothing is promised before it is durable, committed frames are the same everywhere and
//! stay, one leader leads a term.

use super::{Answer, Cluster};
use dlog_consensus::{Acks, MessageKind, PeerMessage, Progress, Reply, Role};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, ReplicaId};

impl Cluster {
    /// A message may leave only when what it promises is durable.
    pub(super) fn check_message(&self, id: ReplicaId, message: &PeerMessage) {
        assert_eq!(message.from, id);
        assert_eq!(message.validate(), Ok(()), "an honest message is valid: {message:?}");
        let durable = &self.node(id).durable;
        let is_candidacy = matches!(message.kind, MessageKind::RequestPreVote | MessageKind::RequestPreVoteResponse);
        assert!(is_candidacy || message.term <= durable.term, "a term is told of only once it is durable: {message:?}");
        match message.kind {
            MessageKind::RequestVote if durable.term == message.term => assert_eq!(durable.vote, Some(id)),
            MessageKind::RequestVoteResponse if !message.reject && durable.term == message.term => {
                assert_eq!(durable.vote, Some(message.to), "a vote is durable before it is told");
            }
            // An ack of an older term may leave late, when a newer leader's entries have replaced what it speaks of: that is as if
            // the network had kept it.
            MessageKind::AppendResponse if !message.reject && durable.term == message.term => {
                assert!(
                    durable.last().index >= message.index,
                    "entries are durable before they are acked: {message:?}"
                );
                let said = &self.node(id).said;
                // A newer leader's cut, or a reset, may be said already, and not be durable yet.
                if said.term == message.term && said.start.index <= message.index {
                    assert_eq!(said.frame(message.index), durable.frame(message.index));
                }
            }
            _ => {}
        }
    }

    pub(super) fn check_told(&self, id: ReplicaId, now: Progress) {
        let node = self.node(id);
        let before = node.progress;
        assert!(now.high_watermark >= before.high_watermark && now.commit >= before.commit, "{before:?} then {now:?}");
        assert!(now.read_bound >= before.read_bound, "a reader never goes back");
        assert!(now.read_bound <= now.high_watermark, "reads stop at the high watermark");
        assert_eq!(now.log_end, node.said.last().next_offset);
        assert_eq!(
            now.high_watermark,
            node.said.offset_after(now.commit),
            "the high watermark follows the commit index"
        );
        assert!(now.log_start >= before.log_start, "the log start never goes back");
        if now.read_bound > before.read_bound {
            let written = node.written.min(node.durable.last().index).max(node.durable.start.index);
            assert!(now.read_bound <= node.durable.offset_after(written), "what is read is in a segment");
        }
    }

    /// Compares what the node knows to be committed with what any other node knew.
    pub(super) fn check_progress(&mut self, id: ReplicaId) {
        let commit = self.node(id).progress.commit;
        let checked = self.node(id).checked.max(self.node(id).said.start.index);
        for index in checked.0 + 1..=commit.0 {
            let frame = self.node(id).said.frame(LogIndex(index)).expect("what is committed is in the log").clone();
            let at = usize::try_from(index - 1).expect("small");
            match self.ledger.get(at) {
                Some(known) => assert_eq!(known, &frame, "committed frames are the same everywhere"),
                None => {
                    assert_eq!(self.ledger.len(), at);
                    assert!(self.is_durable_on_majority(&frame), "replica {id} took {index} for committed");
                    self.note_change(&frame);
                    self.ledger.push(frame);
                }
            }
        }
        self.node_mut(id).checked = commit;
    }

    /// Whether the node has this committed frame, or had it and needs it no more.
    pub(super) fn holds(&self, id: ReplicaId, frame: &Frame) -> bool {
        let Some(durable) = self.nodes.get(&id).map(|node| &node.durable) else { return false };
        durable.start.index >= frame.index || durable.frame(frame.index) == Some(frame)
    }

    /// A log is reset to a place that every replica agrees on, with the state that everyone has.
    pub(super) fn check_reset(&self, id: ReplicaId, write: &ReplicaWrite) {
        let of_group_zero = self.log == LogId::GROUP_ZERO;
        let ops = match &write.ops[..] {
            [WriteOp::HardState { .. }, ops @ ..] => ops,
            ops => ops,
        };
        let [WriteOp::Reset(at), WriteOp::LogStart(log_start), WriteOp::Configuration { index, membership }, rest @ ..] =
            ops
        else {
            panic!("a snapshot's write is another one: {write:?}")
        };
        let as_of = match rest {
            [WriteOp::Producers { index: as_of, table }, ..] if !of_group_zero => {
                if let Some(known) = self.tables.get(as_of) {
                    assert_eq!(known, table, "replica {id}: the table as of {as_of} is the same everywhere");
                }
                as_of
            }
            [WriteOp::Append(_), ..] | [] if of_group_zero => {
                let synced = self.node(id).store.synced.applied;
                assert!(
                    synced >= at.index,
                    "replica {id}: the log is reset to {}, the state is as of {synced}",
                    at.index
                );
                index
            }
            _ => panic!("a snapshot's write is another one: {write:?}"),
        };
        let place = &self.ledger[usize::try_from(at.index.0).expect("small") - 1];
        assert_eq!((place.term, place.next_offset(), place.crc), (at.term, at.next_offset, at.crc));
        assert!(*log_start >= at.next_offset && index == as_of && *as_of >= at.index);
        assert_eq!(membership, &self.members_as_of(*as_of).encode());
        assert!(as_of.0 <= self.ledger.len() as u64, "the state is one of committed entries");
    }

    /// Group 0's state is that of every command up to its index, each once.
    pub fn check_state(&self, id: ReplicaId) {
        let state = &self.node(id).store.now;
        let commands =
            self.ledger.iter().filter(|frame| frame.kind == FrameKind::Command && frame.index <= state.applied);
        let expected: Vec<_> = commands.map(|frame| (frame.index, &frame.payload)).collect();
        let found: Vec<_> = state.entries.iter().map(|(index, payload)| (*index, payload)).collect();
        assert!(found == expected, "replica {id}: the state as of {} is another one", state.applied);
    }

    pub(super) fn check_role(&mut self, id: ReplicaId, change: dlog_consensus::RoleChange) {
        if change.role == Role::Leader {
            let known = *self.leaders.entry(change.term).or_insert(id);
            assert_eq!(known, id, "one leader in term {}", change.term);
        }
    }

    /// An ack is given only for what is durable where the ack says so.
    pub(super) fn check_answer(&self, answer: &Answer) {
        let Ok(Reply::Appended(batches)) = &answer.result else { return };
        for batch in batches {
            let from = self.ledger.partition_point(|frame| frame.base_offset < batch.base_offset);
            let same = self.ledger[from..].iter().take_while(|frame| frame.base_offset == batch.base_offset);
            let in_ledger = same.into_iter().find(|frame| frame.kind == FrameKind::Records);
            let frame = match answer.acks {
                Acks::Leader => {
                    let frames = &self.node(answer.node).durable.frames;
                    let found = frames.iter().find(|f| f.base_offset == batch.base_offset && f.record_count > 0);
                    in_ledger.or(found).expect("acks=leader: durable on the leader")
                }
                _ => in_ledger.expect("acks=quorum: committed, and so durable on a majority"),
            };
            assert_eq!(frame.next_offset(), batch.last_offset.plus(1));
            if answer.acks == Acks::All {
                let peers = self.machine(answer.node).status().peers;
                for peer in peers.into_iter().filter(|peer| peer.in_sync && peer.voter) {
                    assert!(self.holds(peer.replica, frame), "acks=all: durable on every replica in sync");
                }
            }
        }
    }

    /// After a run that ended well: every log is the ledger.
    pub fn check_converged(&self) {
        for node in self.member_nodes() {
            let start = usize::try_from(node.durable.start.index.0).expect("small");
            assert_eq!(start + node.durable.frames.len(), self.ledger.len(), "replica {} has all and no more", node.id);
            assert!(node.durable.frames == self.ledger[start..], "byte for byte");
            let one = self.member_nodes().next().expect("a node");
            assert_eq!(node.progress.log_start, one.progress.log_start, "the log starts at the same offset everywhere");
            assert_eq!(node.durable.log_start, one.progress.log_start, "and is durable");
            if self.log == LogId::GROUP_ZERO {
                self.check_state(node.id);
                assert!(node.apply.is_empty(), "every command is applied");
            }
        }
    }
}
