//! Group 0's state store, as a value: what storage promises of it, and what the apply thread does with it.

use bytes::Bytes;
use dlog_consensus::{StateFound, StateImage};
use dlog_core::{Frame, LogIndex};
use std::collections::BTreeMap;

/// The state machine keeps every command by its index, so that one that is lost or applied twice shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub applied: LogIndex,
    pub entries: BTreeMap<LogIndex, Bytes>,
    pub origin: Option<Bytes>,
}

/// The state, and what of it a power loss leaves.
#[derive(Clone, Debug, Default)]
pub struct StateStore {
    pub now: State,
    pub synced: State,
}

impl StateStore {
    pub fn apply(&mut self, frame: &Frame) {
        if frame.index > self.now.applied {
            self.now.entries.insert(frame.index, frame.payload.clone());
            self.now.applied = frame.index;
        }
    }

    pub fn sync(&mut self) {
        self.synced = self.now.clone();
    }

    pub fn crash(&mut self) {
        self.now = self.synced.clone();
    }

    pub fn image(&self) -> StateImage {
        let key = |index: &LogIndex| Bytes::copy_from_slice(&index.0.to_be_bytes());
        StateImage::of_entries(self.now.entries.iter().map(|(index, payload)| (key(index), payload.clone())))
    }

    pub fn install(&mut self, index: LogIndex, state: &StateImage, origin: Bytes) {
        if self.now.applied < index {
            let number = |key: Bytes| LogIndex(u64::from_be_bytes(key[..].try_into().expect("an index")));
            let entries = state.entries().expect("own state").into_iter().map(|(key, value)| (number(key), value));
            self.now = State { applied: index, entries: entries.collect(), origin: Some(origin) };
        }
        self.sync();
    }

    pub fn found(&self) -> StateFound {
        StateFound { applied: self.now.applied, origin: self.now.origin.clone() }
    }
}
