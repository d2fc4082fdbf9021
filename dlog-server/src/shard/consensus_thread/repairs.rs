//! Damage of segments on its way through the consensus thread: from who met it to the read thread that examines it, from there to
//! the replica, from the replica's peers to the disk thread, and at the end to a replica that can start.

use super::ConsensusThread;
use crate::shard::disk_thread::DiskMessage;
use crate::shard::read_thread::ReadRequest;
use crate::shard::repair::{Loaded, RepairMessage};
use crate::shard::start::progress_of;
use dlog_consensus::{Input, Intent};
use dlog_core::{Fault, Frame, LogIndex, MendPlace, ReplicaId};
use dlog_storage::SegmentName;
use std::collections::{BTreeMap, BTreeSet};

/// What is on its way.
#[derive(Default)]
pub(super) struct Repairs {
    /// Segments that are being examined.
    examined: BTreeSet<(ReplicaId, SegmentName)>,
    /// Segments with damage that the replica knows of: who meets it again tells nothing new.
    known: BTreeSet<(ReplicaId, SegmentName)>,
    /// Replicas that are being loaded, with what came for them meanwhile.
    loading: BTreeMap<ReplicaId, Loading>,
}

/// What waits for a replica that is being loaded.
#[derive(Default)]
struct Loading {
    intent: Option<Intent>,
    deleted: Option<LogIndex>,
}

impl ConsensusThread {
    pub(super) fn take_repair(&mut self, message: RepairMessage) {
        match message {
            RepairMessage::Met { replica, segment } => self.examine(replica, segment),
            RepairMessage::Found { replica, segment, faults } => {
                self.repairs.examined.remove(&(replica, segment));
                if !faults.is_empty() {
                    if self.repairs.known.insert((replica, segment)) {
                        tracing::error!(%replica, segment = segment.file(), faults = faults.len(), "frames are damaged here; other replicas are asked for them");
                    }
                    let known = self.faults_of(replica);
                    self.step(replica, Input::Faulty { faults });
                    // Several readers may have met the same.
                    let new = self.faults_of(replica).saturating_sub(known);
                    self.exits.metrics.faults_found.add(new as u64);
                }
            }
            RepairMessage::Mended { replica, fault, result } => {
                let first = fault.first();
                if matches!(result, Ok(dlog_core::Mended::Whole | dlog_core::Mended::Gone)) {
                    let segment = SegmentName { first_index: fault.segment, generation: fault.generation };
                    self.repairs.known.remove(&(replica, segment));
                }
                if result == Ok(dlog_core::Mended::Whole) {
                    tracing::info!(%replica, %first, last = %fault.last, "damaged frames are whole again");
                    self.exits.metrics.faults_mended.add(1);
                }
                self.step(replica, Input::Mended { fault, result });
            }
            RepairMessage::Loaded { replica, loaded } => self.adopt_loaded(replica, loaded),
        }
    }

    /// How much of a replica's log is known to be damaged.
    fn faults_of(&self, replica: ReplicaId) -> usize {
        let waiting = self.host.mending().find(|waiting| waiting.id() == replica);
        match (self.host.get(replica), waiting) {
            (Some(machine), _) => machine.faults().len(),
            (None, Some(waiting)) => waiting.faults().len(),
            (None, None) => 0,
        }
    }

    fn examine(&mut self, replica: ReplicaId, segment: SegmentName) {
        let Some(&log) = self.logs.get(&replica) else { return };
        let is_known = self.repairs.known.contains(&(replica, segment));
        if !is_known && self.repairs.examined.insert((replica, segment)) {
            let _ = self.exits.reads.send(ReadRequest::Examine { replica, log, segment });
        }
    }

    pub(super) fn mend(&mut self, replica: ReplicaId, fault: Fault, place: MendPlace, frames: Vec<Frame>) {
        let _ = self.exits.disk.send(DiskMessage::Mend { replica, fault, place, frames });
    }

    /// A replica has all that it needs to start.
    pub(super) fn load_whole(&mut self, replica: ReplicaId) {
        let Some(whole) = self.host.take_whole(replica) else { return };
        let seed = self.host.draw_seed();
        self.repairs.loading.insert(replica, Loading { intent: whole.intent, deleted: None });
        let _ = self.exits.reads.send(ReadRequest::Load { restored: Box::new(whole.restored), seed });
    }

    fn adopt_loaded(&mut self, replica: ReplicaId, loaded: Loaded) {
        let Some(waiting) = self.repairs.loading.remove(&replica) else { return };
        match loaded {
            Loaded::Running(machine) => {
                let now = progress_of(&machine);
                self.publish(replica, |progress| *progress = now);
                self.host.add(*machine);
                tracing::info!(%replica, "a replica starts, mended");
            }
            Loaded::Waits(mending) => {
                self.exits.metrics.faults_found.add(mending.faults().len() as u64);
                self.host.add_mending(*mending);
            }
        }
        if let Some(intent) = waiting.intent {
            self.step(replica, Input::Intend(intent));
        }
        if let Some(ended) = waiting.deleted {
            self.delete(replica, ended);
        }
    }

    pub(super) fn intend(&mut self, replica: ReplicaId, intent: Intent) {
        match self.repairs.loading.get_mut(&replica) {
            Some(waiting) => waiting.intent = Some(intent),
            None => self.step(replica, Input::Intend(intent)),
        }
    }

    /// `true`: the replica is being loaded, and is deleted after that.
    pub(super) fn delete_later(&mut self, replica: ReplicaId, ended: LogIndex) -> bool {
        let waiting = self.repairs.loading.get_mut(&replica);
        waiting.map(|waiting| waiting.deleted = Some(ended)).is_some()
    }
}
