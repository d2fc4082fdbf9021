//! A node's side of the catalogue: the apply thread makes it of group 0's commands, the reconciler compares it with what stands
//! here, and the consensus thread starts and deletes replicas as it says. As the server's `metadata` folder does it.

use super::{Event, World};
use crate::clients::{Answer, Asker};
use crate::node::{ApplyMessage, DiskMessage, Inbound, NewReplica, Process, id_of};
use crate::report::Failure;
use crate::schedule::{MICROSECOND, MILLISECOND};
use bytes::Bytes;
use dlog_consensus::{Membership, StateImage};
use dlog_core::write::{Create, LogPoint};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, ReplicaId};
use dlog_replication::Catalogue;
use dlog_replication::bootstrap::group_zero_replica;
use dlog_replication::leadership::Wish;
use dlog_replication::reconcile::{LocalAction, LocalReplica};
use dlog_storage::{StateStore, StorageError};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Ticks for which the preferred replica of a new partition tries to lead.
const CAMPAIGN_TICKS: u32 = 20;

impl World {
    /// Work for the apply thread.
    pub(crate) fn queue_for_apply(&mut self, node: usize, replica: ReplicaId, message: ApplyMessage) {
        if let Some(process) = &mut self.nodes[node].process {
            process.apply.queue.push_back((replica, message));
            self.want_apply(node);
        }
    }

    fn want_apply(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        if !std::mem::replace(&mut process.apply.due, true) {
            let delay = self.random.u64(10..3_000) * MICROSECOND;
            self.schedule.after(delay, Event::Apply { node, life });
        }
    }

    /// The apply thread.
    pub(crate) fn on_apply(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if !self.is_alive(node, life) {
            return Ok(());
        }
        let (now, paused) = (self.schedule.now(), self.nodes[node].paused_until);
        if paused > now {
            self.schedule.after(paused - now, Event::Apply { node, life });
            return Ok(());
        }
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        process.apply.due = false;
        let done = self.apply_all(node, &mut process);
        let sync_due = now >= process.apply.synced_at + self.options.state_sync_ms * MILLISECOND;
        let synced = if sync_due { self.nodes[node].state.sync().map(Some) } else { Ok(None) };
        process.apply.synced_at = if sync_due { now } else { process.apply.synced_at };
        self.nodes[node].process = Some(process);
        done?;
        if let Some(applied) = synced.map_err(|error| broken_store(node, &error))? {
            self.queue_for_disk(node, DiskMessage::CatalogueSynced(applied));
        }
        self.want_reconcile(node);
        self.want_turn(node);
        Ok(())
    }

    /// The same order as in the server: applied, written, published, told.
    fn apply_all(&mut self, node: usize, process: &mut Process) -> Result<(), Failure> {
        while let Some((replica, message)) = process.apply.queue.pop_front() {
            match message {
                ApplyMessage::Commands(frames) => self.apply_commands(node, process, replica, &frames)?,
                ApplyMessage::TakeState => {
                    let state = &self.nodes[node].state;
                    let entries = state.scan(b"").map_err(|error| broken_store(node, &error))?;
                    let taken = Inbound::StateTaken(replica, state.applied(), StateImage::of_entries(entries));
                    process.inbox.push_back(taken);
                }
                ApplyMessage::Install { index, state, origin } => {
                    self.install_state(node, process, replica, index, &state, origin)?;
                }
            }
        }
        let applied = process.catalogue.applied();
        let waiting = std::mem::take(&mut process.apply.waiting);
        for (index, asker) in waiting {
            if index <= applied {
                self.answer_command(node, process, asker)?;
            } else {
                process.apply.waiting.push((index, asker));
            }
        }
        Ok(())
    }

    fn apply_commands(
        &mut self,
        node: usize,
        process: &mut Process,
        replica: ReplicaId,
        frames: &[Frame],
    ) -> Result<(), Failure> {
        let before = process.catalogue.applied();
        let Some(last) = frames.last().map(|frame| frame.index) else { return Ok(()) };
        if let Some((last, changes)) = process.apply.catalogue.apply_frames(before, frames) {
            let written = self.nodes[node].state.write(changes, last);
            written.map_err(|error| broken_store(node, &error))?;
            self.publish(node, process)?;
        }
        process.inbox.push_back(Inbound::Applied(replica, last));
        Ok(())
    }

    /// A state that came with a snapshot takes the place of the one here, synced, before anybody hears of it.
    fn install_state(
        &mut self,
        node: usize,
        process: &mut Process,
        replica: ReplicaId,
        index: LogIndex,
        state: &StateImage,
        origin: Bytes,
    ) -> Result<(), Failure> {
        let store = &self.nodes[node].state;
        if index > store.applied() {
            let loaded = state.catalogue(index);
            let (catalogue, entries) =
                loaded.map_err(|what| Failure::correctness(format!("a state that came: {what}")))?;
            store.replace(entries, index, origin).map_err(|error| broken_store(node, &error))?;
            process.apply.catalogue = catalogue;
            self.counts.states_installed += 1;
        }
        let synced = self.nodes[node].state.sync().map_err(|error| broken_store(node, &error))?;
        process.inbox.push_back(Inbound::StateInstalled(replica, index, Ok(())));
        process.disk.queue.push_back(DiskMessage::CatalogueSynced(synced));
        self.wake_disk(node, process);
        self.publish(node, process)
    }

    /// The catalogue as the apply thread has it becomes everyone's on this node.
    pub(crate) fn publish(&mut self, node: usize, process: &mut Process) -> Result<(), Failure> {
        process.catalogue = Rc::new(process.apply.catalogue.clone());
        self.counts.published += 1;
        self.trace.note(
            self.schedule.now(),
            None,
            format_args!("node {node} catalogue {}", process.catalogue.applied()),
        );
        if self.is_lost(node) {
            return Ok(());
        }
        let seen = self.checkers.catalogues.seen(id_of(node), &process.catalogue);
        seen.and_then(|()| self.directory.see(&process.catalogue)).map(|_| ()).map_err(Failure::correctness)
    }

    /// A command was committed: its maker waits until it is applied here, too.
    pub(crate) fn command_committed(&mut self, node: usize, index: LogIndex, asker: Asker) -> Result<(), Failure> {
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        let done = if process.catalogue.applied() >= index {
            self.answer_command(node, &process, asker)
        } else {
            process.apply.waiting.push((index, asker));
            Ok(())
        };
        self.nodes[node].process = Some(process);
        done
    }

    fn answer_command(&mut self, node: usize, process: &Process, asker: Asker) -> Result<(), Failure> {
        let Asker::Command { number, .. } = asker else { return Ok(()) };
        let Some(id) = self.operators.find(number).map(|pending| pending.id) else { return Ok(()) };
        let Some(outcome) = process.catalogue.outcome(id) else {
            return Err(Failure::correctness(format!("node {node} applied {id:?} and knows no outcome")));
        };
        self.answer(asker, Answer::Outcome(outcome.clone()));
        Ok(())
    }

    /// The apply thread syncs from time to time, also when nothing has come.
    pub(crate) fn tick_apply(&mut self, node: usize) {
        let due = |process: &Process| process.apply.synced_at + self.options.state_sync_ms * MILLISECOND;
        if self.nodes[node].process.as_ref().is_some_and(|process| self.schedule.now() >= due(process)) {
            self.want_apply(node);
        }
    }

    pub(crate) fn want_reconcile(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        if !std::mem::replace(&mut process.reconcile_due, true) {
            let delay = self.random.u64(10..3_000) * MICROSECOND;
            self.schedule.after(delay, Event::Reconcile { node, life });
        }
    }

    /// The reconciler looks at the catalogue as it is here, and says what the consensus thread has to do.
    pub(crate) fn on_reconcile(&mut self, node: usize, life: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let (now, paused) = (self.schedule.now(), self.nodes[node].paused_until);
        if paused > now {
            return self.schedule.after(paused - now, Event::Reconcile { node, life });
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        process.reconcile_due = false;
        for action in process.local.follow(&process.catalogue) {
            carry_out(process, action);
        }
        self.want_turn(node);
    }

    /// The first start of group 0 here: its members follow from the bootstrap set alone.
    pub(crate) fn start_group_zero(&mut self, node: usize, process: &mut Process) {
        let replica = group_zero_replica(id_of(node));
        if process.local.get(replica).is_some() {
            return;
        }
        let members = self.bootstrap_set().group_zero();
        let preferred = members.voters.first() == Some(&replica);
        let (log, intent) = (LogId::GROUP_ZERO, LogIndex::ZERO);
        let membership = Membership::of_group_zero(members).encode();
        process.inbox.push_back(Inbound::Start(NewReplica { replica, log, membership, intent, preferred }));
        process.local.add(LocalReplica::untold(replica, log, intent));
    }

    /// A new replica.
    pub(crate) fn start_replica(
        &mut self,
        node: usize,
        now: MonotonicTime,
        process: &mut Process,
        start: NewReplica,
    ) -> Result<(), Failure> {
        let NewReplica { replica, log, membership, intent, preferred } = start;
        if process.host.contains(replica) {
            return Ok(());
        }
        self.trace.note(self.schedule.now(), None, format_args!("node {node} starts replica {replica} of log {log}"));
        if !self.is_lost(node) {
            self.checkers.promises.created(replica).map_err(Failure::correctness)?;
        }
        let create = Create { intent, membership, start: LogPoint::default() };
        let options = self.options.replica.clone();
        let created = process.host.create(now, options, replica, log, create, &mut process.outputs);
        created.map_err(|error| Failure::crash(format!("node {node} can't start replica {replica}: {error}")))?;
        let machine = process.host.get(replica).expect("just created");
        process.progress.insert(replica, machine.progress());
        process.by_log.insert(log, replica);
        if preferred {
            process.preferred.insert(replica, CAMPAIGN_TICKS);
        }
        Ok(())
    }

    /// A replica goes, for good.
    pub(crate) fn delete_replica(
        &mut self,
        node: usize,
        process: &mut Process,
        replica: ReplicaId,
        ended: LogIndex,
    ) -> Result<(), Failure> {
        self.trace.note(self.schedule.now(), None, format_args!("node {node} deletes replica {replica}"));
        if let Some(log) = self.directory.log_of(replica).filter(|_| !self.is_lost(node)) {
            let left = self.checkers.of(log).members.has_left(replica);
            let may = left.or_else(|still| {
                let unwanted = self.checkers.catalogues.may_delete(log);
                unwanted.map_err(|why| format!("{why}; {still}"))
            });
            may.map_err(|what| Failure::correctness(format!("replica {replica}: {what}")).about(Some(log)))?;
        }
        self.counts.deletions += 1;
        process.host.delete(replica, ended, &mut process.outputs);
        process.by_log.retain(|_, here| *here != replica);
        process.progress.remove(&replica);
        process.preferred.remove(&replica);
        process.readers.remove(&replica);
        process.faulty.remove(&replica);
        process.observed.remove(&replica);
        Ok(())
    }

    /// Leadership goes where the catalogue prefers it, once that replica has been in sync for a while.
    pub(crate) fn balance(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let mut wishes = Vec::new();
        for replica in process.host.led() {
            let Some(machine) = process.host.get(replica) else { continue };
            let status = machine.status();
            let fits = |preferred| status.peers.iter().any(|p| p.replica == preferred && p.in_sync && p.has_room);
            wishes.extend(Wish::of(&process.catalogue, machine.log(), replica, fits));
        }
        for Wish { replica, preferred, .. } in process.balancer.look(&wishes, &BTreeSet::new(), 1) {
            process.inbox.push_back(Inbound::Prefer { replica, to: preferred });
        }
    }

    /// The catalogue that a node's state store holds.
    pub(crate) fn load_catalogue(&self, node: usize) -> Result<Catalogue, String> {
        let state = &self.nodes[node].state;
        let entries = state.scan(b"").map_err(|error| error.to_string())?;
        Catalogue::load(state.applied(), entries).map_err(|error| error.to_string())
    }
}

fn carry_out(process: &mut Process, action: LocalAction) {
    process.inbox.push_back(match action {
        LocalAction::Start(start) => {
            let (replica, log, intent, preferred) = (start.replica, start.log, start.intent, start.preferred);
            let membership = Membership::of_creation(start.voters, start.created).encode();
            Inbound::Start(NewReplica { replica, log, membership, intent, preferred })
        }
        // Nothing here runs by its settings.
        LocalAction::Configure { .. } => return,
        LocalAction::Intend { replica, intent } => Inbound::Intend(replica, Box::new(intent)),
        LocalAction::Delete { replica, ended, .. } => Inbound::Delete(replica, ended),
    });
}

fn broken_store(node: usize, error: &StorageError) -> Failure {
    Failure::crash(format!("node {node}'s state store: {error}"))
}
