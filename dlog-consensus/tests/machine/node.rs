//! One node of the cluster: the machine, its disk with what isn't synced yet, and what the disk has to tell.

use crate::model::Model;
use crate::state::StateStore;
use bytes::Bytes;
use dlog_consensus::{FetchError, FetchId, Input, Progress, Replica, StateImage, WriteId};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, ReplicaId};
use std::collections::VecDeque;

/// What waits for the disk thread.
#[derive(Clone, Debug)]
pub enum Job {
    Write(WriteId, ReplicaWrite),
    Producers(LogIndex, Bytes),
}

impl Job {
    /// The entries whose memberships it writes down.
    pub fn memberships(&self) -> Vec<LogIndex> {
        let ops = match self {
            Job::Write(_, write) => &write.ops[..],
            Job::Producers(..) => &[],
        };
        let index = |op: &WriteOp| match op {
            WriteOp::Configuration { index, .. } => Some(*index),
            _ => None,
        };
        ops.iter().filter_map(index).collect()
    }
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
    /// Group 0: what waits for the apply thread, and its store.
    pub apply: VecDeque<ApplyJob>,
    pub store: StateStore,
}

/// What waits for the apply thread.
#[derive(Clone, Debug)]
pub enum ApplyJob {
    Command(Frame),
    Take,
    Install(LogIndex, StateImage, Bytes),
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
            apply: VecDeque::new(),
            store: StateStore::default(),
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
        self.drop_at_most(index.min(self.durable.droppable()));
    }

    /// The same of group 0: what its state has synced.
    pub fn shorten(&mut self, index: LogIndex) {
        self.drop_at_most(index.min(self.store.synced.applied).min(self.durable.commit).min(self.durable.last().index));
    }

    fn drop_at_most(&mut self, index: LogIndex) {
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
        self.apply.clear();
        self.store.crash();
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
