//! Reads that wait until a majority confirmed the leader, and (on a follower) until the commit index is known here.
//!
//! A question to the leader, or its answer, may be lost, and a leader that has committed nothing in its term stays silent: a
//! follower asks again from time to time, each time under another context, so that no answer is taken for another's. The answer
//! to any of them will do: all were asked after the read began.

use super::Replica;
use crate::options::PENDING_READS_MAX;
use crate::output::{Output, Reply};
use bytes::{BufMut, Bytes, BytesMut};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogIndex, Offset, ReplicaId, RequestId};
use std::collections::BTreeMap;

/// The context of a read: replica, a value drawn at its start, a counter. Unique for each attempt, so that an old answer can't
/// be taken for a new one.
const CONTEXT_BYTES: usize = 24;

/// A read fails when it was not answered within so many election timeouts.
const DEADLINE_ELECTIONS: u64 = 2;

struct PendingRead {
    request: RequestId,
    deadline: u64,
    /// The tick at which the leader is asked again.
    again: u64,
    index: Option<LogIndex>,
    /// The attempts after the first, by which the read may be answered too.
    attempts: Vec<u64>,
}

/// The reads of one replica.
///
/// Invariant: `attempts` names each attempt of each pending read, and its first.
pub(crate) struct Reads {
    replica: ReplicaId,
    start: u64,
    next: u64,
    /// By the number of the first attempt.
    pending: BTreeMap<u64, PendingRead>,
    attempts: BTreeMap<u64, u64>,
}

impl Reads {
    pub(crate) fn new(replica: ReplicaId, start: u64) -> Reads {
        Reads { replica, start, next: 1, pending: BTreeMap::new(), attempts: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_READS_MAX
    }

    /// Notes a read and gives its context.
    pub(crate) fn begin(&mut self, request: RequestId, deadline: u64, again: u64) -> Vec<u8> {
        let number = self.next;
        self.pending.insert(number, PendingRead { request, deadline, again, index: None, attempts: Vec::new() });
        self.attempt(number)
    }

    /// A context for one more attempt of a read.
    fn attempt(&mut self, read: u64) -> Vec<u8> {
        self.attempts.insert(self.next_number(), read);
        self.next_context()
    }

    fn next_number(&self) -> u64 {
        if mutants::is(Mutant::ReadContextReused) { 0 } else { self.next }
    }

    /// A context that no attempt has had; for a question of the replica itself, not one that anybody waits for here.
    pub(crate) fn next_context(&mut self) -> Vec<u8> {
        let number = self.next_number();
        self.next += 1;
        let mut context = BytesMut::with_capacity(CONTEXT_BYTES);
        context.put_u64(self.replica.0);
        context.put_u64(self.start);
        context.put_u64(number);
        context.to_vec()
    }

    /// New contexts for the reads that have waited long enough since they were asked last; the next time is at `again`.
    fn begin_again(&mut self, now: u64, again: u64) -> Vec<Vec<u8>> {
        let waits = |read: &PendingRead| read.index.is_none() && read.again <= now;
        let due: Vec<u64> = self.pending.iter().filter(|(_, read)| waits(read)).map(|(number, _)| *number).collect();
        let mut contexts = Vec::with_capacity(due.len());
        for number in due {
            let attempt = self.next;
            contexts.push(self.attempt(number));
            if let Some(read) = self.pending.get_mut(&number) {
                read.attempts.push(attempt);
                read.again = again;
            }
        }
        contexts
    }

    /// The read that one of our own attempts belongs to, if it is still pending.
    fn number(&self, context: &Bytes) -> Option<u64> {
        let word = |at: usize| context.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let ours = context.len() == CONTEXT_BYTES && word(0)? == self.replica.0 && word(8)? == self.start;
        let attempt = word(16)?;
        ours.then(|| self.attempts.get(&attempt).copied()).flatten()
    }

    pub(crate) fn is_pending(&self, context: &Bytes) -> bool {
        self.number(context).is_some()
    }

    /// A majority confirmed that the leader's commit index was `index` after the read began.
    pub(crate) fn confirm(&mut self, context: &Bytes, index: LogIndex) {
        let Some(number) = self.number(context) else { return };
        if let Some(read) = self.pending.get_mut(&number) {
            read.index = Some(index);
        }
    }

    /// Replies to confirmed reads whose index is committed here.
    pub(crate) fn release(&mut self, commit: LogIndex, high_watermark: Offset, out: &mut Vec<Output>) {
        let result = |_: &PendingRead| Ok(Reply::ReadIndex { high_watermark, index: commit });
        self.end_where(|read| read.index.is_some_and(|index| index <= commit), result, out);
    }

    /// Fails those that waited too long.
    pub(crate) fn expire(&mut self, now: u64, out: &mut Vec<Output>) {
        let error = |read: &PendingRead| {
            let (code, text) = match read.index {
                None => (
                    ErrorCode::Timeout,
                    "no majority confirmed the leader in time; `dlog cluster health` says which replicas are missing",
                ),
                Some(_) => (
                    ErrorCode::NotYetAvailable,
                    "this replica lags behind the leader; ask again, or read from another replica",
                ),
            };
            Err(ErrorDetail::rejected(code, Stage::Replication, text))
        };
        self.end_where(|read| read.deadline <= now, error, out);
    }

    /// Fails those that no leader has confirmed: the one they asked is gone.
    pub(crate) fn fail_unconfirmed(&mut self, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.end_where(|read| read.index.is_none(), |_| Err(error.clone()), out);
    }

    pub(crate) fn fail_all(&mut self, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.end_where(|_| true, |_| Err(error.clone()), out);
    }

    fn end_where(
        &mut self,
        ends: impl Fn(&PendingRead) -> bool,
        result: impl Fn(&PendingRead) -> Result<Reply, ErrorDetail>,
        out: &mut Vec<Output>,
    ) {
        let attempts = &mut self.attempts;
        self.pending.retain(|number, read| {
            let ends = ends(read);
            if ends {
                attempts.remove(number);
                for attempt in &read.attempts {
                    attempts.remove(attempt);
                }
                out.push(Output::Reply { request: read.request, result: result(read) });
            }
            !ends
        });
    }
}

impl Replica {
    pub(super) fn on_read_index(&mut self, request: RequestId, out: &mut Vec<Output>) {
        let refused = if self.reads.is_full() {
            let text = "too many reads wait for the leader's confirmation; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Replication, text))
        } else if self.driver.is_leader() && !self.driver.raft().commit_to_current_term() {
            let text = "the new leader does not know the end of the log yet; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Replication, text))
        } else if self.leader().is_none() {
            Some(self.not_leader(false))
        } else {
            None
        };
        if let Some(error) = refused {
            out.push(Output::Reply { request, result: Err(error) });
            return;
        }
        if mutants::is(Mutant::EndWithoutReadIndex) && self.driver.is_leader() {
            let (high_watermark, index) = (self.progress.high_watermark, self.progress.commit);
            out.push(Output::Reply { request, result: Ok(Reply::ReadIndex { high_watermark, index }) });
            return;
        }
        let deadline = self.ticks + DEADLINE_ELECTIONS * u64::from(self.options.election_ticks);
        let context = self.reads.begin(request, deadline, self.next_attempt());
        self.driver.call(|raw| raw.read_index(context));
    }

    /// A question that goes a long way is asked again before its answer can be here: that costs two messages.
    fn next_attempt(&self) -> u64 {
        self.ticks + u64::from(self.options.election_ticks / 2).max(1)
    }

    /// Asks the leader again for reads whose question or answer may be lost. A leader's own are confirmed with its heartbeats.
    pub(super) fn ask_again(&mut self) {
        if self.driver.is_leader() || self.leader().is_none() {
            return;
        }
        for context in self.reads.begin_again(self.ticks, self.next_attempt()) {
            self.driver.call(|raw| raw.read_index(context));
        }
    }
}
