//! Where the log ends: only a leader that a majority has just confirmed may say so.

use super::Replica;
use crate::options::PENDING_READS_MAX;
use crate::output::{Output, Reply};
use crate::proposal::not_leader;
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::{LogIndex, Offset, RequestId};
use raft::ReadState;
use std::collections::BTreeMap;

struct Read {
    request: RequestId,
    high_watermark: Offset,
    index: LogIndex,
    since_tick: u64,
}

/// Reads that wait for a majority's word, by the number that names the attempt: never used twice.
#[derive(Default)]
pub(crate) struct Reads {
    next: u64,
    waiting: BTreeMap<u64, Read>,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Replica {
    pub(crate) fn on_read_index(&mut self, request: RequestId, out: &mut Vec<Output>) {
        let refused = if !self.is_leader() {
            Some(not_leader(self.leader(), Outcome::Rejected))
        } else if self.view().term(self.committed()) != Some(self.term()) {
            // The crate would drop the read without a word: a fresh leader doesn't know yet what is committed.
            let text = "the new leader has not committed anything yet; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Service, text).with_retry_after_ms(10))
        } else if self.reads.waiting.len() >= PENDING_READS_MAX {
            let text = "too many reads are waiting; ask again in a moment";
            Some(ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, text).with_retry_after_ms(20))
        } else {
            None
        };
        if let Some(error) = refused {
            out.push(Output::Reply { request, result: Err(error) });
            return;
        }
        self.reads.next += 1;
        let context = self.reads.next;
        let index = self.committed();
        let high_watermark = self.told.high_watermark.max(self.view().offset_after(index).unwrap_or_default());
        let read = Read { request, high_watermark, index, since_tick: self.ticks };
        self.reads.waiting.insert(context, read);
        self.raw.read_index(context.to_be_bytes().to_vec());
    }

    /// A majority has confirmed these.
    pub(crate) fn on_read_states(&mut self, states: Vec<ReadState>, out: &mut Vec<Output>) {
        for state in states {
            let Ok(context) = <[u8; 8]>::try_from(state.request_ctx.as_slice()) else { continue };
            if let Some(read) = self.reads.waiting.remove(&u64::from_be_bytes(context)) {
                let reply = Reply::ReadIndex { high_watermark: read.high_watermark, index: read.index };
                out.push(Output::Reply { request: read.request, result: Ok(reply) });
            }
        }
    }

    /// Reads that no majority answered within an election timeout get an answer, too.
    pub(crate) fn expire_reads(&mut self, out: &mut Vec<Output>) {
        let limit = 2 * u64::from(self.options.election_ticks);
        let ticks = self.ticks;
        self.reads.waiting.retain(|_, read| {
            let late = ticks - read.since_tick > limit;
            if late {
                let text = "no majority confirmed this leader in time; ask again";
                let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, text);
                out.push(Output::Reply { request: read.request, result: Err(error.with_retry_after_ms(50)) });
            }
            !late
        });
    }

    pub(crate) fn fail_reads(&mut self, out: &mut Vec<Output>) {
        let leader = self.leader();
        for read in std::mem::take(&mut self.reads.waiting).into_values() {
            let result = Err(not_leader(leader, Outcome::Rejected));
            out.push(Output::Reply { request: read.request, result });
        }
    }
}
