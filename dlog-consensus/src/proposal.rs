//! Requests that wait for their entries: released in the order in which they came, once their acks are met.

use crate::input::Acks;
use crate::output::{Output, Reply};
use dlog_core::error::ErrorDetail;
use dlog_core::{LogIndex, RequestId, Term};
use std::collections::VecDeque;

/// A request whose entries are in the log of this leader.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: RequestId,
    pub(crate) acks: Acks,
    /// The last entry that the request waits for; of a duplicate: the original's.
    pub(crate) index: LogIndex,
    /// The term in which it waits. In one term an index names one entry.
    pub(crate) term: Term,
    pub(crate) reply: Reply,
}

/// How far entries are, for each kind of ack.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    /// Durable on a majority.
    pub(crate) quorum: LogIndex,
    /// Durable here.
    pub(crate) leader: LogIndex,
    /// Durable on a majority and on every replica in sync.
    pub(crate) all: LogIndex,
}

/// The requests of one leader in one term.
///
/// Invariant: all of them are of the same term.
#[derive(Debug, Default)]
pub(crate) struct PendingQueue {
    queue: VecDeque<Pending>,
}

impl PendingQueue {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        debug_assert!(self.queue.back().is_none_or(|last| last.term == pending.term), "one term at a time");
        self.queue.push_back(pending);
    }

    /// Replies to those at the front whose acks are met. A weaker ack waits behind a stronger one.
    pub(crate) fn release(&mut self, term: Term, reached: Reached, out: &mut Vec<Output>) {
        while let Some(front) = self.queue.front() {
            assert_eq!(front.term, term, "requests end with the term of their leader");
            let enough = match front.acks {
                Acks::Quorum => reached.quorum,
                Acks::Leader => reached.leader,
                Acks::All => reached.all,
            };
            if front.index > enough {
                break;
            }
            if let Some(done) = self.queue.pop_front() {
                out.push(Output::Reply { request: done.request, result: Ok(done.reply) });
            }
        }
    }

    /// Leadership is lost: every request fails. Their entries may survive.
    pub(crate) fn fail_all(&mut self, error: &ErrorDetail, out: &mut Vec<Output>) {
        for pending in self.queue.drain(..) {
            out.push(Output::Reply { request: pending.request, result: Err(error.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::error::{ErrorCode, Outcome, Stage};

    fn pending(request: u64, acks: Acks, index: u64) -> Pending {
        let reply = Reply::Command { index: LogIndex(index) };
        Pending { request: RequestId(request), acks, index: LogIndex(index), term: Term(1), reply }
    }

    fn released(queue: &mut PendingQueue, quorum: u64, leader: u64, all: u64) -> Vec<u64> {
        let reached = Reached { quorum: LogIndex(quorum), leader: LogIndex(leader), all: LogIndex(all) };
        let mut out = Vec::new();
        queue.release(Term(1), reached, &mut out);
        out.iter()
            .map(|output| match output {
                Output::Reply { request, result: Ok(_) } => request.0,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_weaker_ack_waits_behind_a_stronger_one() {
        let mut queue = PendingQueue::default();
        queue.push(pending(1, Acks::All, 1));
        queue.push(pending(2, Acks::Quorum, 2));
        queue.push(pending(3, Acks::Leader, 3));
        assert_eq!(released(&mut queue, 2, 3, 0), []);
        assert_eq!(released(&mut queue, 2, 3, 1), [1, 2, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn each_ack_needs_its_own() {
        for (acks, reached) in [(Acks::Quorum, (5, 0, 0)), (Acks::Leader, (0, 5, 0)), (Acks::All, (0, 0, 5))] {
            let mut queue = PendingQueue::default();
            queue.push(pending(1, acks, 5));
            assert_eq!(released(&mut queue, 4, 4, 4), []);
            assert_eq!(released(&mut queue, reached.0, reached.1, reached.2), [1]);
        }
    }

    #[test]
    fn all_fail_with_leadership() {
        let mut queue = PendingQueue::default();
        queue.push(pending(1, Acks::Quorum, 1));
        queue.push(pending(2, Acks::Quorum, 2));
        let mut out = Vec::new();
        queue.fail_all(&ErrorDetail::unknown(ErrorCode::NotLeader, Stage::Replication, "lost"), &mut out);
        let unknown =
            |output: &Output| matches!(output, Output::Reply { result: Err(e), .. } if e.outcome == Outcome::Unknown);
        assert!(out.len() == 2 && out.iter().all(unknown));
        assert_eq!(queue.len(), 0);
    }
}
