//! The log start: moved by an entry that the leader appends, so that all replicas agree on it; and what storage drops below it.
//!
//! The log start follows from the committed entries. A replica writes it when it applies the entry. A crash in between loses
//! nothing: the producer table's file holds the log start as of the same entry, and a start replays what comes after; then it is
//! written once more.

use super::Replica;
use crate::input::Acks;
use crate::output::{Output, Reply};
use crate::payload::encode_log_start;
use crate::proposal::Pending;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::write::LogPoint;
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, Offset, RequestId};

/// A leader's move of the log start that isn't applied yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogStartMove {
    to: Offset,
    index: LogIndex,
}

impl Replica {
    pub(super) fn move_log_start(&mut self, now: MonotonicTime, request: RequestId, to: Offset, out: &mut Vec<Output>) {
        if let Err(error) = self.check_move(to) {
            out.push(Output::Reply { request, result: Err(error) });
            return;
        }
        if to <= self.log_start {
            out.push(Output::Reply { request, result: Ok(Reply::LogStart { log_start: self.log_start }) });
            return;
        }
        let pending = |index, log_start| Pending {
            request,
            acks: Acks::Quorum,
            index,
            term: self.term(),
            reply: Reply::LogStart { log_start },
        };
        if let Some(moving) = self.moving.filter(|moving| moving.to >= to) {
            // It waits for the entry that moves as far; acks keep their order.
            let pending = pending(moving.index, moving.to);
            self.pending.push(pending);
            return;
        }
        let index = self.driver.storage().view.last().index.next();
        let pending = pending(index, to);
        match self.propose_entry(now, FrameKind::LogStart, encode_log_start(to), Some(pending), out) {
            Ok(()) => {
                // Unless the crate dropped it, or leadership ended with this very step.
                let appended = self.driver.is_leader() && self.driver.storage().view.last().index >= index;
                self.moving = appended.then_some(LogStartMove { to, index });
            }
            Err(error) => out.push(Output::Reply { request, result: Err(error) }),
        }
    }

    fn check_move(&self, to: Offset) -> Result<(), ErrorDetail> {
        if self.log == LogId::GROUP_ZERO {
            let text = "the metadata group has no records; its log is shortened as its state is synced";
            return Err(ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Admission, text));
        }
        self.check_leading()?;
        let end = self.progress.high_watermark;
        if to > end {
            let text = format!("the log can't start at {to}: records are committed up to {end} only");
            return Err(ErrorDetail::rejected(ErrorCode::OffsetOutOfRange, Stage::Admission, text));
        }
        Ok(())
    }

    /// Storage dropped segments. It may only drop what all replicas agreed to drop; of group 0, what its state has.
    pub(super) fn on_local_start(&mut self, start: LogPoint, out: &mut Vec<Output>) {
        let needed = match self.log == LogId::GROUP_ZERO {
            true => start.index > self.state_applied,
            false => start.next_offset > self.log_start,
        };
        if needed {
            let reason = format!(
                "storage dropped frames up to {} (offset {}), which are still needed; the log starts at {}, its state is as of {}",
                start.index, start.next_offset, self.log_start, self.state_applied
            );
            self.halt(reason, out);
            return;
        }
        if self.dropped.is_none_or(|known| known.index < start.index) {
            self.dropped = Some(start);
        }
    }

    /// Takes what was dropped out of the view. Behind a snapshot the log start may be ahead of what is applied here: frames
    /// that aren't stay in memory, and the view's start follows when they are.
    pub(super) fn clip(&mut self) {
        let Some(start) = self.dropped else { return };
        let view = &self.driver.storage().view;
        if start.index <= view.applied().min(view.written().index) {
            self.dropped = None;
            self.driver.clip(start);
        }
    }
}
