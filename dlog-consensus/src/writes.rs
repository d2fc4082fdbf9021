//! Writes that wait for the disk, with what they release: messages that may leave only then, and the raft crate's number.

use crate::message::PeerMessage;
use crate::output::WriteId;
use dlog_core::MonotonicTime;
use std::collections::VecDeque;

#[derive(Debug)]
struct Waiting {
    id: WriteId,
    /// The last ready of the raft crate that is durable with it.
    number: u64,
    messages: Vec<PeerMessage>,
    hard_state: bool,
    cut: bool,
    since: MonotonicTime,
}

/// The queue, by rising id.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    next: u64,
    waiting: VecDeque<Waiting>,
}

impl Writes {
    /// The next write's id.
    pub(crate) fn next_id(&mut self) -> WriteId {
        self.next += 1;
        WriteId(self.next)
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when the oldest write waits.
    pub(crate) fn oldest(&self) -> Option<MonotonicTime> {
        self.waiting.front().map(|w| w.since)
    }

    /// Whether a cut isn't durable yet: what storage tells of its segments may be from before it.
    pub(crate) fn has_cut(&self) -> bool {
        self.waiting.iter().any(|w| w.cut)
    }

    /// A write was said.
    pub(crate) fn push(&mut self, id: WriteId, number: u64, hard_state: bool, cut: bool, since: MonotonicTime) {
        self.waiting.push_back(Waiting { id, number, messages: Vec::new(), hard_state, cut, since });
    }

    /// A ready without anything to write is durable with the last write before it; `false` if there is none.
    pub(crate) fn attach_number(&mut self, number: u64) -> bool {
        let last = self.waiting.back_mut();
        last.map(|w| w.number = number).is_some()
    }

    /// Messages that must wait for everything said so far; given back if nothing waits.
    pub(crate) fn hold_behind_all(&mut self, messages: Vec<PeerMessage>) -> Vec<PeerMessage> {
        match self.waiting.back_mut() {
            Some(last) => {
                last.messages.extend(messages);
                Vec::new()
            }
            None => messages,
        }
    }

    /// A leader's messages wait only for the hard state of its term; given back if none waits.
    pub(crate) fn hold_behind_hard_state(&mut self, messages: Vec<PeerMessage>) -> Vec<PeerMessage> {
        match self.waiting.iter_mut().rev().find(|w| w.hard_state) {
            Some(write) => {
                write.messages.extend(messages);
                Vec::new()
            }
            None => messages,
        }
    }

    /// Everything up to `id` is durable: the messages that may leave, and the last number.
    pub(crate) fn persisted(&mut self, id: WriteId) -> (Vec<PeerMessage>, Option<u64>) {
        let (mut messages, mut number) = (Vec::new(), None);
        while self.waiting.front().is_some_and(|w| w.id <= id) {
            let Some(write) = self.waiting.pop_front() else { break };
            messages.extend(write.messages);
            number = Some(write.number);
        }
        (messages, number)
    }
}
