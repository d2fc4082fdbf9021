//! What a shard must be after a start: all that was committed, as the tests know it.

use crate::error::StorageError;
use crate::log::point_after;
use crate::shard_store::ShardStore;
use crate::sim_disk::SimDisk;
use bytes::Bytes;
use dlog_core::write::{LogPoint, ReplicaWrite, RestoredReplica, WriteOp};
use dlog_core::{Frame, LogIndex, Offset, ReplicaId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What a replica must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelReplica {
    pub(crate) start: LogPoint,
    pub(crate) frames: Vec<Frame>,
    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    pub(crate) membership: (LogIndex, Bytes),
    pub(crate) log_start: Offset,
    /// In the journal.
    pub(crate) recorded: LogIndex,
    /// Told so far.
    pub(crate) told: LogIndex,
    /// Label of the table that a snapshot brought.
    pub(crate) producers: Option<LogIndex>,
    /// The greatest label that was given.
    pub(crate) producers_max: Option<LogIndex>,
    /// The same over resets: labels only rise.
    pub(crate) labels_max: LogIndex,
    /// The furthest local start that retention may have reached.
    pub(crate) retired: LogIndex,
    /// Group 0's state is synced up to here: nothing below need stay.
    pub(crate) state_synced: LogIndex,
}

impl ModelReplica {
    pub(crate) fn last(&self) -> LogPoint {
        self.frames.last().map_or(self.start, point_after)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) replicas: BTreeMap<ReplicaId, ModelReplica>,
    pub(crate) marks: BTreeSet<ReplicaId>,
}

impl Model {
    /// Takes what was committed in one group.
    pub(crate) fn apply(&mut self, writes: &[ReplicaWrite]) {
        let synced = writes.iter().any(|write| !write.ops.is_empty());
        for write in writes {
            for op in &write.ops {
                self.apply_op(write.replica, op);
            }
            if let Some(replica) = self.replicas.get_mut(&write.replica) {
                replica.told = replica.told.max(write.commit);
            }
        }
        for write in writes.iter().filter(|_| synced) {
            if let Some(replica) = self.replicas.get_mut(&write.replica) {
                replica.recorded = replica.told.min(replica.last().index);
            }
        }
    }

    pub(crate) fn apply_op(&mut self, id: ReplicaId, op: &WriteOp) {
        if let WriteOp::Create(create) = op {
            let replica = ModelReplica {
                start: create.start,
                frames: Vec::new(),
                term: Term(0),
                vote: None,
                membership: (LogIndex(0), create.membership.clone()),
                log_start: create.start.next_offset,
                recorded: LogIndex(0),
                told: LogIndex(0),
                producers: None,
                producers_max: None,
                labels_max: LogIndex(0),
                retired: create.start.index,
                state_synced: LogIndex(0),
            };
            self.replicas.insert(id, replica);
            return;
        }
        let replica = self.replicas.get_mut(&id).expect("the generator knows what is there");
        match op {
            WriteOp::Create(_) => {}
            WriteOp::Append(frames) => replica.frames.extend(frames.iter().cloned()),
            WriteOp::HardState { term, vote } => (replica.term, replica.vote) = (*term, *vote),
            WriteOp::Configuration { index, membership } => replica.membership = (*index, membership.clone()),
            WriteOp::Cut { from } => replica.frames.retain(|frame| frame.index < *from),
            WriteOp::LogStart(offset) => replica.log_start = replica.log_start.max(*offset),
            WriteOp::Reset(at) => {
                replica.frames.clear();
                replica.start = *at;
                replica.log_start = replica.log_start.max(at.next_offset);
                (replica.producers, replica.producers_max, replica.retired) = (None, None, at.index);
            }
            WriteOp::Producers { index, .. } => {
                (replica.producers, replica.producers_max) = (Some(*index), replica.producers_max.max(Some(*index)));
                replica.labels_max = replica.labels_max.max(*index);
            }
            WriteOp::Delete { .. } => {
                self.replicas.remove(&id);
                self.marks.insert(id);
            }
        }
    }

    /// Why the store is not this model; empty if it is. A frame that can't be read is no difference where `may_be_unreadable`
    /// says so.
    pub(crate) fn differs(
        &self,
        store: &ShardStore<SimDisk>,
        restored: &[RestoredReplica],
        may_be_unreadable: &dyn Fn(&StorageError) -> bool,
    ) -> String {
        let ids: Vec<ReplicaId> = restored.iter().map(|replica| replica.replica).collect();
        if ids != self.replicas.keys().copied().collect::<Vec<_>>() {
            return format!("replicas {ids:?}, not {:?}", self.replicas.keys());
        }
        let marks: BTreeSet<ReplicaId> = store.known_marks().map(|(id, _)| id).collect();
        if marks != self.marks {
            return format!("marks {marks:?}, not {:?}", self.marks);
        }
        let each = restored.iter().map(|replica| {
            let why = self.replicas[&replica.replica].differs(replica);
            if why.is_empty() { self.replicas[&replica.replica].read(store, replica, may_be_unreadable) } else { why }
        });
        let ids = restored.iter().map(|replica| replica.replica);
        let found = ids.zip(each).find(|(_, why)| !why.is_empty());
        found.map(|(id, why)| format!("{id} has {why}")).unwrap_or_default()
    }
}

impl ModelReplica {
    fn differs(&self, replica: &RestoredReplica) -> String {
        let found = (replica.term, replica.vote, replica.membership_index, &replica.membership, replica.log_start);
        let expected = (self.term, self.vote, self.membership.0, &self.membership.1, self.log_start);
        if found != expected {
            return format!("{found:?}, not {expected:?}");
        }
        let label = replica.producers.as_ref().map(|(index, _)| *index);
        let too_old = label.is_some_and(|label| label < replica.local_start.index);
        if label < self.producers || label > self.producers_max || too_old {
            return format!("producers as of {label:?}, not {:?} to {:?}", self.producers, self.producers_max);
        }
        let retired = self.frames.iter().find(|frame| frame.index == replica.local_start.index).map(point_after);
        let may_go = |at: &LogPoint| {
            let is_below = at.next_offset <= replica.log_start && Some(at.index) <= label;
            is_below || at.index <= self.state_synced
        };
        let start = retired.filter(may_go).unwrap_or(self.start);
        if (replica.local_start, replica.last) != (start, self.last()) {
            let found = (replica.local_start, replica.last);
            return format!("{found:?}, not {:?}", (self.start, self.last()));
        }
        if replica.commit < self.recorded || replica.commit > self.told.min(self.last().index) {
            return format!("commit {}, recorded {}, told {}", replica.commit, self.recorded, self.told);
        }
        String::new()
    }

    fn read(
        &self,
        store: &ShardStore<SimDisk>,
        replica: &RestoredReplica,
        may_be_unreadable: &dyn Fn(&StorageError) -> bool,
    ) -> String {
        let Some(reader) = store.reader(replica.replica) else { return "no reader".to_string() };
        let (mut next, end) = (replica.local_start.index.next(), self.last().index.next());
        while next < end {
            match reader.read_frames(next, end, usize::MAX) {
                Ok(read) => {
                    for frame in &read {
                        if self.frames.iter().find(|known| known.index == frame.index) != Some(frame) {
                            return format!("another frame {}", frame.index);
                        }
                    }
                    next = read.last().map_or(end, |last| last.index.next());
                    if read.is_empty() {
                        return format!("no frame {next}");
                    }
                }
                Err(error) if may_be_unreadable(&error) => next = next.next(),
                Err(error) => return format!("frame {next} not readable: {error}"),
            }
        }
        String::new()
    }
}
