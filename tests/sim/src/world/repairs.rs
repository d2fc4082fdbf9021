//! Damage of segments: whoever meets it has the segment examined and the replica told, which gets the frames from others; what was
//! to start with them starts once they are back.

use super::starts::Failed;
use super::{Event, World};
use crate::node::{DiskMessage, Inbound, Lost, Process};
use crate::schedule::MICROSECOND;
use dlog_consensus::{FaultStatus, Input, Mending, StateFound};
use dlog_core::write::RestoredReplica;
use dlog_core::{Fault, Frame, LogId, MendPlace, Mended, MonotonicTime, ReplicaId};
use dlog_storage::{LogReader, SimDisk, StateStore, StorageError};

impl World {
    /// A read of a replica's log met what may be damage. `true`: it is, and is being seen to; `false`: the node is lost by it.
    pub(crate) fn repair(&mut self, node: usize, replica: ReplicaId, error: &StorageError) -> bool {
        let Some(process) = &mut self.nodes[node].process else { return true };
        let known = process.host.get(replica).is_some_and(|machine| !machine.faults().is_empty());
        if known && process.faulty.contains(&replica) {
            return true;
        }
        let Some(faults) = process.readers.get(&replica).and_then(|reader| faults_of(reader, error)) else {
            return false;
        };
        process.faulty.insert(replica);
        self.counts.faults += faults.len() as u64;
        self.note_of(replica, format_args!("{replica} has lost {faults:?}"));
        self.push(node, Inbound::Faulty(replica, faults));
        true
    }

    /// A start found a segment missing or short.
    pub(crate) fn report_damage(&mut self, process: &mut Process, replica: ReplicaId, error: &StorageError) {
        let Some(faults) = process.readers.get(&replica).and_then(|reader| faults_of(reader, error)) else { return };
        self.note_of(replica, format_args!("{replica} starts without {faults:?}"));
        if process.faulty.insert(replica) {
            self.counts.faults += faults.len() as u64;
        }
        process.inbox.push_back(Inbound::Faulty(replica, faults));
    }

    /// All segments of a node whose disk decayed are read: what nobody has met by now is found.
    pub(crate) fn scrub(&mut self, node: usize) {
        if !self.nodes[node].decayed || self.is_lost(node) {
            return;
        }
        let Some(process) = &self.nodes[node].process else { return };
        let mut found = Vec::new();
        for (replica, reader) in &process.readers {
            for name in reader.segment_names() {
                match reader.faults_in(name, &mut |_| true) {
                    Ok(faults) if !faults.is_empty() => found.push((*replica, faults)),
                    _ => {}
                }
            }
        }
        for (replica, faults) in found {
            self.note_of(replica, format_args!("{replica} is scrubbed: {faults:?}"));
            if let Some(process) = &mut self.nodes[node].process
                && process.faulty.insert(replica)
            {
                self.counts.faults += faults.len() as u64;
            }
            self.push(node, Inbound::Faulty(replica, faults));
        }
    }

    /// A replica whose frames nobody keeps any more, because of retention, or that nobody else ever kept, because they weren't
    /// committed, is moved by operators: its node counts as lost.
    pub(crate) fn give_up_hopeless(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(process) = self.nodes[node].process.as_ref().filter(|_| !self.is_lost(node)) else { continue };
            let hopeless = |replica: &&ReplicaId| {
                let running = process.host.get(**replica).map(|machine| (machine.log(), machine.faults()));
                let waiting = process.host.mending().find(|one| one.id() == **replica);
                let found = running.or(waiting.map(|one| (one.log(), one.status().faults)));
                let Some((log, faults)) = found else { return false };
                faults.iter().any(|fault| fault.lost && !self.is_kept(node, log, fault))
            };
            if let Some(replica) = process.faulty.iter().find(hopeless).copied() {
                self.note_of(replica, format_args!("{replica} has lost what nobody keeps"));
                self.lose(node, Lost::Damaged);
            }
        }
    }

    /// Whether another node that nobody touched could give these frames.
    fn is_kept(&self, node: usize, log: LogId, fault: &FaultStatus) -> bool {
        (0..self.nodes.len()).filter(|other| *other != node && self.is_sound(*other)).any(|other| {
            let Some(process) = &self.nodes[other].process else { return true };
            let Some(reader) = process.by_log.get(&log).and_then(|replica| process.readers.get(replica)) else {
                return false;
            };
            let last = reader.read_frames(fault.last, fault.last.next(), 1);
            let same = last.is_ok_and(|frames| frames.first().is_some_and(|frame| frame.crc == fault.crc));
            same && reader.local_start().index < fault.first
        })
    }

    /// Whether a node has, or knows of, damage that others can mend.
    pub(crate) fn is_mending(&self, node: usize) -> bool {
        let Some(process) = &self.nodes[node].process else { return false };
        let damaged =
            |replica: &ReplicaId| process.host.get(*replica).is_none_or(|machine| !machine.faults().is_empty());
        process.faulty.iter().any(damaged)
    }

    pub(crate) fn queue_mend(&mut self, node: usize, replica: ReplicaId, part: (Fault, MendPlace, Vec<Frame>)) {
        self.queue_for_disk(node, DiskMessage::Mend(replica, Box::new(part)));
    }

    /// The disk thread puts frames back.
    pub(crate) fn mend(
        &mut self,
        process: &mut Process,
        replica: ReplicaId,
        (fault, place, frames): &(Fault, MendPlace, Vec<Frame>),
    ) -> Result<(), StorageError> {
        let store = process.store.as_mut().expect("open until closed");
        let result = match store.mend(replica, fault, *place, frames) {
            Err(error @ StorageError::Full { .. }) => {
                self.count_full(&error);
                Err(error.to_string())
            }
            done => Ok(done?),
        };
        self.note_of(replica, format_args!("{replica} mends {} of {fault:?}: {result:?}", frames.len()));
        process.inbox.push_back(Inbound::Mended(replica, Box::new((*fault, result))));
        Ok(())
    }

    /// What became of frames that were put back.
    pub(crate) fn take_mended(
        &mut self,
        process: &mut Process,
        now: MonotonicTime,
        replica: ReplicaId,
        (fault, result): (Fault, Result<Mended, String>),
    ) {
        process.host.step(now, replica, Input::Mended { fault, result }, &mut process.outputs);
        let is_whole = process.host.get(replica).is_some_and(|machine| machine.faults().is_empty());
        if is_whole && process.faulty.remove(&replica) {
            self.counts.repaired += 1;
        }
    }

    /// A replica that couldn't start for want of frames waits for them.
    pub(crate) fn hold_for_repair(
        &mut self,
        process: &mut Process,
        restored: RestoredReplica,
        error: StorageError,
    ) -> Result<(), Failed> {
        let (replica, log) = (restored.replica, restored.log);
        let reader = process.store.as_ref().and_then(|store| store.reader(replica));
        let Some((reader, faults)) = reader.and_then(|reader| Some((reader.clone(), faults_of(&reader, &error)?)))
        else {
            return Err(Failed::Storage(error));
        };
        self.counts.faults += faults.len() as u64;
        self.counts.starts_held += 1;
        self.note_of(replica, format_args!("{replica} can't start without {faults:?}"));
        process.faulty.insert(replica);
        process.host.add_mending(Mending::new(restored, &faults).map_err(Failed::Load)?);
        process.by_log.insert(log, replica);
        process.readers.insert(replica, reader);
        Ok(())
    }

    /// A replica has all that it needs to start.
    pub(crate) fn start_whole(&mut self, node: usize, replica: ReplicaId) -> Result<(), Failed> {
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        let Some(whole) = process.host.take_whole(replica) else {
            self.nodes[node].process = Some(process);
            return Ok(());
        };
        process.faulty.remove(&replica);
        self.counts.repaired += 1;
        let state = &self.nodes[node].state;
        let found = match whole.restored.log {
            LogId::GROUP_ZERO => {
                StateFound { applied: state.applied(), origin: state.origin().map_err(Failed::Storage)? }
            }
            _ => StateFound::default(),
        };
        let done = self.restore(&mut process, whole.restored, &found);
        if let Some(intent) = whole.intent {
            process.inbox.push_back(Inbound::Intend(replica, Box::new(intent)));
        }
        let life = self.nodes[node].life;
        self.nodes[node].process = Some(process);
        self.schedule.after(MICROSECOND, Event::Turn { node, life });
        done
    }
}

/// What of the segment that an error names can't be read; `None` if it names none, or nothing is wrong with it.
fn faults_of(reader: &LogReader<SimDisk>, error: &StorageError) -> Option<Vec<Fault>> {
    let name = error.segment()?;
    reader.faults_in(name, &mut |_| true).ok().filter(|faults| !faults.is_empty())
}
