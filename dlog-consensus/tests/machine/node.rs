//! One node of the cluster: the machine, its disk with what isn't synced yet, and what the disk has to tell.

use crate::model::Model;
use bytes::Bytes;
use dlog_consensus::{FetchError, FetchId, Input, Progress, Replica, WriteId};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, ReplicaId};
use std::collections::VecDeque;

/// What waits for the disk thread.
#[derive(Clone, Debug)]
pub enum Job {
    Write(WriteId, ReplicaWrite),
    Producers(LogIndex, Bytes),
}

/// A read for a lagging peer.
#[derive(Clone, Debug)]
pub struct Read {
    pub fetch: FetchId,
    pub from: LogIndex,
    pub to: LogIndex,
    pub max_bytes: u64,
}

pub struct Node {
    pub id: ReplicaId,
    pub machine: Option<Replica>,
    /// Everything said, durable or not.
    pub said: Model,
    pub durable: Model,
    pub jobs: VecDeque<Job>,
    /// From the disk thread to the machine, in order.
    pub told: VecDeque<Input>,
    pub reads: VecDeque<Read>,
    pub last_write: WriteId,
    pub progress: Progress,
    /// Committed frames that were compared with the ledger.
    pub checked: LogIndex,
    /// What the machine was told to be in segments.
    pub written: LogIndex,
    pub stopped: bool,
    /// Group 0: commands given to the apply thread, all of them and those whose effect is synced.
    pub given: Vec<Frame>,
    pub state_applied: LogIndex,
}

impl Node {
    pub fn new(id: ReplicaId) -> Node {
        Node {
            id,
            machine: None,
            said: Model::default(),
            durable: Model::default(),
            jobs: VecDeque::new(),
            told: VecDeque::new(),
            reads: VecDeque::new(),
            last_write: WriteId(0),
            progress: Progress::default(),
            checked: LogIndex::ZERO,
            written: LogIndex::ZERO,
            stopped: false,
            given: Vec::new(),
            state_applied: LogIndex::ZERO,
        }
    }

    /// One group: the first `count` jobs become durable under one sync, and are told of. `write_out`: segments follow.
    pub fn sync(&mut self, log: LogId, count: usize, write_out: bool) {
        let mut last = None;
        let mut appended = false;
        for job in self.jobs.drain(..count.min(self.jobs.len())) {
            match job {
                Job::Write(id, write) => {
                    self.durable.apply(log, &write);
                    appended |= write.ops.iter().any(|op| matches!(op, WriteOp::Append(_)));
                    last = Some(id);
                }
                Job::Producers(index, bytes) => self.durable.keep_producers(index, bytes),
            }
        }
        self.told.extend(last.map(|write| Input::Persisted { write }));
        if appended && write_out {
            self.write_out();
        }
    }

    /// Segments have everything that is durable.
    pub fn write_out(&mut self) {
        let last = self.durable.last();
        if last.index > self.durable.start.index {
            self.told.push_back(Input::WrittenOut { index: last.index, next_offset: last.next_offset });
        }
    }

    /// Storage drops frames up to `index`, or as many as it may, and says so.
    pub fn drop_through(&mut self, index: LogIndex) {
        let index = index.min(self.durable.droppable());
        if index > self.durable.start.index {
            self.durable.drop_through(index);
            self.said.drop_through(index);
            self.told.push_back(Input::LocalStart { start: self.durable.start });
        }
    }

    /// Power loss: of what waits, a group of the first `survivors` jobs had been written.
    pub fn lose_power(&mut self, log: LogId, survivors: usize) {
        self.sync(log, survivors, false);
        self.machine = None;
        self.jobs.clear();
        self.told.clear();
        self.reads.clear();
        self.said = self.durable.clone();
        self.stopped = false;
    }

    pub fn answer(&self, read: &Read) -> Result<Vec<Frame>, FetchError> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut index = read.from;
        while index < read.to {
            let frame = self.durable.frame(index).ok_or(FetchError { reason: "not there".to_owned() })?;
            bytes += frame.payload.len() as u64;
            if !frames.is_empty() && bytes > read.max_bytes {
                break;
            }
            frames.push(frame.clone());
            index = index.next();
        }
        Ok(frames)
    }
}
