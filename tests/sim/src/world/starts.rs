//! A start: the production store recovers, the production loader replays, as the server's `start_shard` does it.

use super::{Event, World};
use super::{Phase, full_disks};
use crate::node::{ApplyThread, DiskThread, Lost, Process, id_of};
use crate::options::Fault;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_consensus::{Host, LoadError, Replica, ReplicaLoader, StateFound};
use dlog_core::write::RestoredReplica;
use dlog_core::{LogId, ReplicaId, ShardId};
use dlog_replication::LocalReplicas;
use dlog_replication::leadership::Balancer;
use dlog_replication::reconcile::LocalReplica;
use dlog_storage::space_keeper::open_store;
use dlog_storage::{ClusterId, LoseUnsynced, ShardIdentity, ShardStore, SimDisk, StateStore, StorageError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// The simulated cluster's name.
pub(crate) const CLUSTER: ClusterId = ClusterId([0xd1; 16]);
/// The one shard of a node.
pub(crate) const SHARD: ShardIdentity = ShardIdentity { cluster: CLUSTER, shard: ShardId(0) };
/// Bytes of frames read at once; small, so that several reads are needed.
const REPLAY_BYTES: usize = 16 << 10;
/// Ticks between two looks at who leads: a second.
const TICKS_PER_LOOK: u64 = 20;

/// Why a node isn't up.
pub(crate) enum Failed {
    Storage(StorageError),
    Load(LoadError),
    Broken(String),
}

impl World {
    pub(crate) fn on_start(&mut self, node: usize) -> Result<(), Failure> {
        self.nodes[node].start_due = false;
        let gone = self.nodes[node].lost == Some(Lost::Damaged);
        if self.nodes[node].process.is_some() || self.nodes[node].held_down || gone {
            return Ok(());
        }
        self.arm_recovery(node);
        let life = self.nodes[node].life;
        self.note(format_args!("node {node} starts, life {life}"));
        match self.open(node) {
            Ok(process) => {
                let tick = self.nodes[node].tick_ns;
                self.nodes[node].process = Some(process);
                self.schedule.after(tick, Event::Tick { node, life });
                self.want_turn(node);
                self.want_reconcile(node);
                if !self.is_lost(node) {
                    self.introduce(node);
                }
                if self.phase != Phase::Safety {
                    self.scrub(node);
                }
                self.observe_all(node)
            }
            Err(failed) => self.on_failed(node, failed),
        }
    }

    /// A node, or a replica on it, can't start.
    pub(crate) fn on_failed(&mut self, node: usize, failed: Failed) -> Result<(), Failure> {
        match failed {
            _ if self.is_lost(node) => {
                // What was put back there isn't even whole.
                self.nodes[node].lost = Some(Lost::Damaged);
                self.kill(node, LoseUnsynced::Nothing);
                Ok(())
            }
            Failed::Storage(error) if self.is_damage(node, &error) => {
                self.note(format_args!("node {node} finds damage: {error}"));
                self.lose(node, Lost::Damaged);
                Ok(())
            }
            Failed::Storage(error) if self.is_disk_bad(node) => {
                self.count_full(&error);
                self.note(format_args!("node {node} fails to start: {error}"));
                let lose = self.nodes[node].power_armed.unwrap_or(LoseUnsynced::Nothing);
                self.kill(node, lose);
                Ok(())
            }
            Failed::Storage(error) => Err(Failure::crash(format!("node {node} can't start: {error}"))),
            Failed::Load(error) => Err(Failure::crash(format!("node {node} can't go on: {error}"))),
            Failed::Broken(what) => Err(Failure::correctness(format!("node {node} came back: {what}"))),
        }
    }

    /// Sometimes the power goes again in the middle of the recovery.
    fn arm_recovery(&mut self, node: usize) {
        let power = |(fault, _): &(Fault, u32)| matches!(fault, Fault::Power | Fault::PowerAll | Fault::PowerSoon);
        let may = self.phase == Phase::Safety && self.options.faults.iter().any(power);
        if may && self.fault_random.u8(0..6) == 0 {
            self.nodes[node].disk.cut_power_after(self.fault_random.u64(0..60));
            self.nodes[node].power_armed = Some(self.draw_loss());
            self.nodes[node].disk_faulted = true;
        }
    }

    fn open(&mut self, node: usize) -> Result<Process, Failed> {
        let disk = self.nodes[node].disk.clone();
        let mut door = self.open_door(node).map_err(Failed::Storage)?;
        let (store, restored) = open_store(&disk, SHARD, self.options.store).map_err(Failed::Storage)?;
        let watch = full_disks::watch(disk).map_err(Failed::Storage)?;
        door.recovered(store.last_group());
        let of_segments = |error: &StorageError| error.segment().is_some() && self.nodes[node].decayed;
        let (missing, other): (Vec<_>, Vec<_>) = store.damage().into_iter().partition(|(_, error)| of_segments(error));
        if let Some((replica, error)) = other.into_iter().next() {
            let told = format!("replica {replica} is damaged: {error}");
            let faulted = self.is_disk_bad(node) || self.nodes[node].decayed;
            return Err(if faulted { Failed::Storage(error) } else { Failed::Broken(told) });
        }
        let catalogue = self.load_catalogue(node).map_err(Failed::Broken)?;
        let untold = |one: &RestoredReplica| LocalReplica::untold(one.replica, one.log, one.intent);
        let standing: Vec<LocalReplica> = restored.iter().map(untold).collect();
        let mut process = Process {
            door,
            host: Host::new(self.random.u64(..)),
            by_log: BTreeMap::new(),
            catalogue: Rc::default(),
            apply: ApplyThread { catalogue, synced_at: self.schedule.now(), ..ApplyThread::default() },
            reconcile_due: false,
            balancer: Balancer::default(),
            local: LocalReplicas::new(id_of(node), standing, store.known_marks().map(|(replica, _)| replica)),
            store: Some(store),
            readers: BTreeMap::new(),
            progress: BTreeMap::new(),
            faulty: BTreeSet::new(),
            observed: BTreeMap::new(),
            inbox: VecDeque::new(),
            turn_due: false,
            tick_due: false,
            preferred: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_request: 1,
            outputs: Vec::new(),
            disk: DiskThread::default(),
            watch,
            turns: 0,
            ticks: 0,
        };
        let state = &self.nodes[node].state;
        let origin = state.origin().map_err(Failed::Storage)?;
        let found = StateFound { applied: state.applied(), origin };
        for replica in restored {
            if !self.is_lost(node) {
                self.checkers.promises.restored(&replica).map_err(Failed::Broken)?;
            }
            self.restore(&mut process, replica, &found)?;
        }
        for (replica, error) in missing {
            self.report_damage(&mut process, replica, &error);
        }
        self.publish(node, &mut process).map_err(|failure| Failed::Broken(failure.what))?;
        self.start_group_zero(node, &mut process);
        Ok(process)
    }

    pub(crate) fn restore(
        &mut self,
        process: &mut Process,
        restored: RestoredReplica,
        found: &StateFound,
    ) -> Result<(), Failed> {
        let id = restored.replica;
        let store = process.store.as_ref().expect("just opened");
        let text =
            format!("replica {id}: term {} last {} commit {}", restored.term, restored.last.index, restored.commit);
        let state = match restored.log {
            LogId::GROUP_ZERO => found.clone(),
            _ => StateFound::default(),
        };
        let again = restored.clone();
        let mut loader = ReplicaLoader::with_state(restored, state, &self.options.replica).map_err(Failed::Load)?;
        match replay(store, id, &mut loader) {
            Err(Failed::Storage(error)) if error.is_corrupt() => return self.hold_for_repair(process, again, error),
            done => done?,
        }
        let machine = loader.finish(self.options.replica.clone(), process.host.draw_seed()).map_err(Failed::Load)?;
        self.note_of(id, format_args!("restored {text}"));
        adopt(process, &machine, store_reader(process, id));
        process.host.add(machine);
        Ok(())
    }

    /// The checkers look at all that a fresh process has committed.
    pub(crate) fn observe_all(&mut self, node: usize) -> Result<(), Failure> {
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let all: Vec<ReplicaId> = process.by_log.values().copied().collect();
        all.into_iter().try_for_each(|replica| self.observe(node, replica))
    }

    /// How a power loss treats what wasn't synced.
    pub(crate) fn draw_loss(&mut self) -> LoseUnsynced {
        if self.fault_random.bool() { LoseUnsynced::All } else { LoseUnsynced::Random }
    }

    pub(crate) fn on_tick(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if !self.is_alive(node, life) {
            return Ok(());
        }
        let tick = self.nodes[node].tick_ns;
        self.schedule.after(tick, Event::Tick { node, life });
        if let Some(process) = &mut self.nodes[node].process {
            process.tick_due = true;
            process.ticks += 1;
            if process.ticks.is_multiple_of(TICKS_PER_LOOK) {
                self.balance(node);
            }
        }
        self.tick_apply(node);
        self.want_turn(node);
        self.watch_disk(node)
    }

    /// Schedules a turn of the consensus thread.
    pub(crate) fn want_turn(&mut self, node: usize) {
        let (now, paused) = (self.schedule.now(), self.nodes[node].paused_until);
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        if !std::mem::replace(&mut process.turn_due, true) {
            let delay = self.random.u64(5_000..MILLISECOND / 4);
            self.schedule.after(delay.max(paused.saturating_sub(now)), Event::Turn { node, life });
        }
    }
}

fn store_reader(process: &Process, replica: ReplicaId) -> Option<dlog_storage::LogReader<SimDisk>> {
    process.store.as_ref()?.reader(replica)
}

fn adopt(process: &mut Process, machine: &Replica, reader: Option<dlog_storage::LogReader<SimDisk>>) {
    process.progress.insert(machine.id(), machine.progress());
    process.by_log.insert(machine.log(), machine.id());
    if let Some(reader) = reader {
        process.readers.insert(machine.id(), reader);
    }
}

/// Reads again what the machine wants to see.
fn replay(store: &ShardStore<SimDisk>, replica: ReplicaId, loader: &mut ReplicaLoader) -> Result<(), Failed> {
    let wanted = loader.wanted();
    let mut next = wanted.start;
    while next < wanted.end {
        let reader = store.reader(replica).ok_or_else(|| Failed::Broken("its segments are gone".to_owned()))?;
        let frames = reader.read_frames(next, wanted.end, REPLAY_BYTES).map_err(Failed::Storage)?;
        let last = frames.last().ok_or_else(|| Failed::Broken(format!("frame {next} is missing")))?.index;
        for frame in frames {
            loader.replay(frame).map_err(Failed::Load)?;
        }
        next = last.next();
    }
    Ok(())
}
