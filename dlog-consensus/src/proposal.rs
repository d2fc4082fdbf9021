//! Requests that wait for their entries: released in order, each once; failed when leadership is lost.
//!
//! They are keyed by the index of their last entry within the leader's own term: all of them are of the current term, because
//! losing the term fails them all.

use crate::input::Acks;
use crate::output::{Appended, Output, Reply};
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::{LogIndex, NodeId, ReplicaId, RequestId};
use std::collections::VecDeque;

/// What a waiting request is told when its time has come.
#[derive(Debug)]
pub(crate) enum Answer {
    Appended(Vec<Appended>),
    Command,
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    /// The entry whose fate decides.
    pub(crate) index: LogIndex,
    pub(crate) acks: Acks,
    pub(crate) answer: Answer,
}

/// How far things are, for each kind of ack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) committed: LogIndex,
    pub(crate) persisted: LogIndex,
    /// Durable on every replica in sync.
    pub(crate) everywhere: LogIndex,
}

/// The queue.
///
/// Invariant: in the order of the requests; a weaker ack waits behind a stronger one, so acks keep order.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    waiting: VecDeque<Pending>,
}

impl Proposals {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        self.waiting.push_back(pending);
    }

    /// Whether any request asks for all replicas.
    pub(crate) fn wants_all(&self) -> bool {
        self.waiting.front().is_some_and(|p| p.acks == Acks::All)
    }

    /// Answers every request whose time has come.
    pub(crate) fn release(&mut self, reached: Reached, out: &mut Vec<Output>) {
        while let Some(front) = self.waiting.front() {
            let done = match front.acks {
                Acks::Quorum => reached.committed,
                Acks::Leader => reached.persisted.max(reached.committed),
                Acks::All => reached.committed.min(reached.everywhere),
            };
            if front.index > done {
                return;
            }
            let Some(pending) = self.waiting.pop_front() else { return };
            let reply = match pending.answer {
                Answer::Appended(batches) => Reply::Appended(batches),
                Answer::Command => Reply::Command { index: pending.index },
            };
            out.push(Output::Reply { request: pending.request, result: Ok(reply) });
        }
    }

    /// Leadership is lost: the entries may survive it or not.
    pub(crate) fn fail_all(&mut self, leader: Option<ReplicaId>, out: &mut Vec<Output>) {
        for pending in self.waiting.drain(..) {
            let error = not_leader(leader, Outcome::Unknown);
            out.push(Output::Reply { request: pending.request, result: Err(error) });
        }
    }
}

/// Another replica leads, or none.
pub(crate) fn not_leader(leader: Option<ReplicaId>, outcome: Outcome) -> ErrorDetail {
    let node: Option<NodeId> = leader.map(ReplicaId::node);
    let text = match (outcome, node) {
        (Outcome::Unknown, _) => "leadership was lost before the batch was committed; it may survive or not".to_owned(),
        (_, Some(node)) => format!("node {node} leads this partition"),
        (_, None) => "this replica doesn't lead the partition, and knows no leader".to_owned(),
    };
    let stage = if outcome == Outcome::Unknown { Stage::Replication } else { Stage::Admission };
    let error = ErrorDetail::new(ErrorCode::NotLeader, stage, outcome, text).with_leader(node, None);
    if node.is_none() { error.with_retry_after_ms(20) } else { error }
}
