//! What must hold after every step: nothing is promised before it is durable, committed frames are the same everywhere and
//! stay, one leader leads a term.

use super::{Answer, Cluster};
use dlog_consensus::{Acks, MessageKind, PeerMessage, Progress, Reply, Role};
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
                let to = usize::try_from(message.index.0).expect("small");
                let said = &self.node(id).said;
                // A newer leader's cut may be said already, and not be durable yet.
                if said.term == message.term {
                    assert_eq!(said.frames[..to].last(), durable.frames[..to].last());
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
        if now.read_bound > before.read_bound {
            let written = node.written.min(node.durable.last().index);
            assert!(now.read_bound <= node.durable.offset_after(written), "what is read is in a segment");
        }
    }

    /// Compares what the node knows to be committed with what any other node knew.
    pub(super) fn check_progress(&mut self, id: ReplicaId) {
        let commit = self.node(id).progress.commit;
        for index in self.node(id).checked.0 + 1..=commit.0 {
            let frame = self.node(id).said.frame(LogIndex(index)).expect("what is committed is in the log").clone();
            let at = usize::try_from(index - 1).expect("small");
            match self.ledger.get(at) {
                Some(known) => assert_eq!(known, &frame, "committed frames are the same everywhere"),
                None => {
                    assert_eq!(self.ledger.len(), at);
                    assert!(self.is_durable_on_majority(&frame), "replica {id} took {index} for committed");
                    self.ledger.push(frame);
                }
            }
        }
        self.node_mut(id).checked = commit;
    }

    fn is_durable_on_majority(&self, frame: &Frame) -> bool {
        let voters = &self.membership.voters;
        let have = voters.iter().filter(|voter| self.node(**voter).durable.frame(frame.index) == Some(frame));
        have.count() * 2 > voters.len()
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
                    let durable = self.node(peer.replica).durable.frame(frame.index);
                    assert_eq!(durable, Some(frame), "acks=all: durable on every replica in sync");
                }
            }
        }
    }

    /// After a run that ended well: every log is the ledger.
    pub fn check_converged(&self) {
        for node in self.nodes.values() {
            assert_eq!(node.durable.frames.len(), self.ledger.len(), "replica {} has all and no more", node.id);
            assert!(node.durable.frames == self.ledger, "byte for byte");
            if self.log == LogId::GROUP_ZERO {
                assert_eq!(node.given, node.durable.commands(node.durable.last().index), "each command once, in order");
            }
        }
    }
}
