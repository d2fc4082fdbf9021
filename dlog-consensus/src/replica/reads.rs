//! Reads that wait until a majority confirmed the leader, and (on a follower) until the commit index is known here.

use crate::options::PENDING_READS_MAX;
use crate::output::{Output, Reply};
use bytes::{BufMut, Bytes, BytesMut};
use dlog_core::error::ErrorDetail;
use dlog_core::{LogIndex, Offset, ReplicaId, RequestId};
use std::collections::BTreeMap;

/// The context of a read: replica, a value drawn at its start, a counter. Unique for each attempt, so that an old answer can't
/// be taken for a new one.
const CONTEXT_BYTES: usize = 24;

struct PendingRead {
    request: RequestId,
    deadline: u64,
    index: Option<LogIndex>,
}

/// The reads of one replica.
pub(crate) struct Reads {
    replica: ReplicaId,
    start: u64,
    next: u64,
    pending: BTreeMap<u64, PendingRead>,
}

impl Reads {
    pub(crate) fn new(replica: ReplicaId, start: u64) -> Reads {
        Reads { replica, start, next: 1, pending: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_READS_MAX
    }

    /// Notes a read and gives its context.
    pub(crate) fn begin(&mut self, request: RequestId, deadline: u64) -> Vec<u8> {
        let number = self.next;
        self.next += 1;
        self.pending.insert(number, PendingRead { request, deadline, index: None });
        let mut context = BytesMut::with_capacity(CONTEXT_BYTES);
        context.put_u64(self.replica.0);
        context.put_u64(self.start);
        context.put_u64(number);
        context.to_vec()
    }

    /// The number of one of our own pending reads.
    fn number(&self, context: &Bytes) -> Option<u64> {
        let word = |at: usize| context.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let ours = context.len() == CONTEXT_BYTES && word(0)? == self.replica.0 && word(8)? == self.start;
        let number = word(16)?;
        (ours && self.pending.contains_key(&number)).then_some(number)
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
        self.pending.retain(|_, read| {
            if read.index.is_none_or(|index| index > commit) {
                return true;
            }
            let result = Ok(Reply::ReadIndex { high_watermark, index: commit });
            out.push(Output::Reply { request: read.request, result });
            false
        });
    }

    /// Fails those that waited too long.
    pub(crate) fn expire(&mut self, now: u64, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.fail_where(|read| read.deadline <= now, error, out);
    }

    /// Fails those that no leader has confirmed: the one they asked is gone.
    pub(crate) fn fail_unconfirmed(&mut self, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.fail_where(|read| read.index.is_none(), error, out);
    }

    pub(crate) fn fail_all(&mut self, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.fail_where(|_| true, error, out);
    }

    fn fail_where(&mut self, fails: impl Fn(&PendingRead) -> bool, error: &ErrorDetail, out: &mut Vec<Output>) {
        self.pending.retain(|_, read| {
            let fails = fails(read);
            if fails {
                out.push(Output::Reply { request: read.request, result: Err(error.clone()) });
            }
            !fails
        });
    }
}
