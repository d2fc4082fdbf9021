//! From faults to health: when each phase ends, how long it may take, and what must hold at the end.

use super::starts::{CLUSTER, SHARD};
use super::{Event, Phase, World};
use crate::clients::producers::Producer;
use crate::node::{Inbound, id_of, node_of};
use crate::options::Shape;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_core::{LogId, Offset, ReplicaId};
use dlog_replication::quorum::majority;
use dlog_storage::inspect::{self, LogPlace};
use dlog_storage::{LoseUnsynced, ShardStore};
use std::collections::{BTreeMap, BTreeSet};

/// How often the phase is looked at.
const WATCH: u64 = 50 * MILLISECOND;
/// How long a healed cluster may take until every partition takes writes again, and every request that waited is acked:
/// a dozen elections.
const LIVELINESS: u64 = 30_000 * MILLISECOND;
/// Looks that must find all replicas equal: a commit index is noted for the disk with the next tick.
const EQUAL_LOOKS: u32 = 6;
/// Bytes of frames read at once.
const READ_BYTES: usize = 256 << 10;

impl World {
    pub(crate) fn on_watch(&mut self) -> Result<(), Failure> {
        self.schedule.after(WATCH, Event::Watch);
        let since = self.schedule.now() - self.phase_since;
        if self.phase == Phase::Quiet {
            // The last entry may have moved nothing that replicas tell of.
            (0..self.nodes.len()).try_for_each(|node| self.observe_all(node))?;
        }
        if self.phase != Phase::Safety {
            self.give_up_hopeless();
        }
        match self.phase {
            Phase::Safety if since >= self.options.safety_ms * MILLISECOND => {
                let core = self.options.core_first;
                self.heal(if core { Phase::Core } else { Phase::Healed });
            }
            Phase::Safety | Phase::Over => {}
            Phase::Core | Phase::Healed if self.goes_on() => match self.phase {
                Phase::Core => self.heal(Phase::Healed),
                _ => self.enter(Phase::Quiet),
            },
            Phase::Quiet if self.is_equal() && (0..self.nodes.len()).all(|node| !self.is_mending(node)) => {
                self.equal_looks += 1;
                if self.equal_looks == EQUAL_LOOKS {
                    self.enter(Phase::Over);
                }
            }
            Phase::Core | Phase::Healed | Phase::Quiet if since > LIVELINESS => {
                return Err(Failure::liveness(self.picture()));
            }
            Phase::Core | Phase::Healed | Phase::Quiet => self.equal_looks = 0,
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.note(format_args!("phase {phase:?}"));
        self.phase = phase;
        self.phase_since = self.schedule.now();
        self.fresh.clear();
    }

    /// No fault comes any more, and those that are there go: of the network, of the disks, of the processes.
    fn heal(&mut self, phase: Phase) {
        self.enter(phase);
        self.partition += 1;
        self.network.become_reliable();
        let down = if phase == Phase::Core { self.draw_core() } else { BTreeSet::new() };
        for node in 0..self.nodes.len() {
            let now = self.schedule.now();
            if self.nodes[node].full_until > 0 {
                self.make_room(node);
            }
            let faulted = self.nodes[node].disk_faulted;
            let one = &mut self.nodes[node];
            one.held_down = down.contains(&node);
            (one.paused_until, one.slow_until) = (now, now);
            if faulted || one.held_down {
                // Only a new process surely has a healthy disk.
                self.kill(node, LoseUnsynced::Nothing);
            }
            self.start_after(node, MILLISECOND);
            self.scrub(node);
            self.want_turn(node);
        }
        self.probe_catalogue();
    }

    /// The nodes that stay down while a core goes on: a minority.
    fn draw_core(&mut self) -> BTreeSet<usize> {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        self.fault_random.shuffle(&mut nodes);
        let most = self.sound_nodes().len().saturating_sub(majority(self.nodes.len()));
        let count = if most == 0 { 0 } else { self.fault_random.usize(1..=most) };
        let voters = self.directory.metadata_voters();
        if !self.directory.is_settled(LogId::GROUP_ZERO) {
            // Nobody can say whose majority it needs.
            return BTreeSet::new();
        }
        let mut down = BTreeSet::new();
        for node in nodes {
            down.insert(node);
            // The core can't go on without the catalogue's majority.
            let left = voters.iter().filter(|voter| !down.contains(voter) && self.is_sound(**voter)).count();
            if down.len() > count || left < majority(voters.len()) {
                down.remove(&node);
            }
        }
        down
    }

    /// Whether so many of a log's replicas may be up that it must go on.
    fn is_owed(&self, log: LogId) -> bool {
        let nodes = self.directory.nodes_of(log);
        let up = nodes.iter().filter(|node| !self.nodes[**node].held_down && !self.is_lost(**node)).count();
        // In the middle of a change nobody can say whose majority it needs.
        up >= majority(nodes.len()) && (self.directory.is_settled(log) || self.nodes.iter().all(|node| !node.held_down))
    }

    /// Every log that must go on took something new, and nobody waits for anything old.
    fn goes_on(&self) -> bool {
        let began = self.phase_since;
        let old = |producer: &Producer| producer.waits_since().is_none_or(|at| at >= began);
        let answered = self.fresh.contains(&LogId::GROUP_ZERO)
            && self.founded
            && self.operators.pending().all(|pending| pending.since >= began);
        answered
            && self.directory.logs().iter().all(|log| self.fresh.contains(log) || !self.is_owed(*log))
            && self
                .producers
                .iter()
                .all(|producer| old(producer) || self.directory.is_deleted(producer.log) || !self.is_owed(producer.log))
            && self.lanes.iter().all(|lane| {
                let old = lane.waits_since().is_none_or(|at| at >= began);
                old || self.directory.is_deleted(lane.log) || !self.is_owed(lane.log)
            })
    }

    /// Nobody waits, and all replicas have the same, durable, readable and known to be committed.
    fn is_equal(&self) -> bool {
        let quiet =
            self.producers.iter().all(|producer| producer.waits() == 0 || self.directory.is_deleted(producer.log))
                && self.lanes.iter().all(|lane| lane.waits() == 0 || self.directory.is_deleted(lane.log));
        let answered = self.operators.pending().next().is_none();
        let mut logs = self.directory.logs();
        logs.push(LogId::GROUP_ZERO);
        let settled = logs.iter().all(|log| self.directory.is_settled(*log)) && self.is_evacuated();
        quiet && answered && settled && self.is_catalogue_equal() && logs.into_iter().all(|log| self.is_log_equal(log))
    }

    /// Every node has the newest catalogue, and the replicas with the settings that it says, no others.
    fn is_catalogue_equal(&self) -> bool {
        let newest = self.directory.catalogue();
        (0..self.nodes.len()).filter(|node| !self.is_lost(*node)).all(|node| {
            let Some(process) = &self.nodes[node].process else { return false };
            let id = id_of(node);
            let intended: BTreeSet<_> = newest.replicas_on(id).map(|(replica, _)| replica).collect();
            let here = process.by_log.iter().filter(|(log, _)| **log != LogId::GROUP_ZERO);
            let configured = newest.replicas_on(id).all(|(replica, partition)| {
                let settings = newest.topic(partition.topic).map(|topic| &topic.settings);
                process.local.get(replica).is_some_and(|local| local.settings.as_ref() == settings)
            });
            process.catalogue.applied() == newest.applied()
                && here.map(|(_, replica)| *replica).collect::<BTreeSet<_>>() == intended
                && configured
        })
    }

    fn is_log_equal(&self, log: LogId) -> bool {
        let Some(checks) = self.checkers.logs.get(&log) else { return false };
        let (last, end) = (checks.log.last(), checks.log.end());
        let kept = |replica: &&ReplicaId| !self.is_lost(node_of(**replica));
        self.directory.replicas_of(log).iter().filter(kept).all(|replica| {
            let Some(process) = &self.nodes[node_of(*replica)].process else { return false };
            let Some(machine) = process.host.get(*replica) else { return false };
            let status = machine.status();
            let all = [status.last, status.progress.commit, status.persisted, status.written];
            let starts = status.progress.log_start >= checks.log_start;
            starts && all.iter().all(|index| *index == last) && status.progress.read_bound == end
        })
    }

    /// What the replicas are at, for a failure's text.
    fn picture(&self) -> String {
        let phase_ms = (self.schedule.now() - self.phase_since) / MILLISECOND;
        let mut text = format!("phase {:?} isn't over after {phase_ms} ms", self.phase);
        for pending in self.operators.pending() {
            text += &format!("\n  {:?} waits since {}: {:?}", pending.id, pending.since, pending.purpose);
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let applied = node.process.as_ref().map(|process| process.catalogue.applied());
            text += &format!("\n  node {number}: catalogue {applied:?} of {}", self.directory.catalogue().applied());
        }
        for log in [LogId::GROUP_ZERO].into_iter().chain(self.directory.logs()) {
            let committed = self.checkers.logs.get(&log).map(|checks| checks.log.last()).unwrap_or_default();
            text += &format!("\n  log {log}: fresh {} committed {committed}", self.fresh.contains(&log));
            for replica in self.directory.replicas_of(log) {
                let node = node_of(*replica);
                let machine = self.nodes[node].process.as_ref().and_then(|process| process.host.get(*replica));
                match machine.map(dlog_consensus::Replica::status) {
                    Some(s) => {
                        text += &format!("\n    node {node}: {:?} term {} leader {:?}", s.role, s.term, s.leader);
                        text += &format!(" last {} persisted {} written {}", s.last, s.persisted, s.written);
                        text += &format!(" commit {} bound {}", s.progress.commit, s.progress.read_bound);
                        text += &format!(" pinned {} waits {:?}", s.pinned_bytes, s.unpersisted_since);
                    }
                    None => text += &format!("\n    node {node}: down"),
                }
            }
        }
        for (number, producer) in self.producers.iter().enumerate().filter(|(_, producer)| producer.waits() > 0) {
            text +=
                &format!("\n  producer {number} waits for {} requests: {:?}", producer.waits(), producer.waits_since());
        }
        for lane in self.lanes.iter().filter(|lane| lane.waits() > 0) {
            text +=
                &format!("\n  producer {} waits for {} records: {:?}", lane.number, lane.waits(), lane.waits_since());
        }
        text
    }

    /// After the last phase: everything acked is there, readers get all of it, and disks alone tell the same.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        for (log, checks) in &self.checkers.logs {
            self.counts.acked += checks.acks.acked_batches();
            self.counts.frames += checks.log.last().0;
            self.counts.changes += checks.members.changes();
            // A deleted log's end may never have been seen.
            if !self.directory.is_deleted(*log) {
                checks.acks.finish().map_err(|what| Failure::correctness(format!("log {log}: {what}")))?;
            }
        }
        let finished = self.checkers.catalogues.finish(self.directory.catalogue());
        finished.map_err(Failure::correctness)?;
        self.counts.elections = self.checkers.leaders.elections();
        self.read_to_the_end()?;
        if self.options.shape == Shape::PowerLoss {
            for node in 0..self.nodes.len() {
                self.nodes[node].process = None;
                self.nodes[node].disk.set_lose_unsynced(LoseUnsynced::All);
                self.nodes[node].disk.crash();
            }
        } else {
            self.stop_all()?;
            self.compare_digests()?;
        }
        let mut log_starts = BTreeMap::new();
        (0..self.nodes.len()).try_for_each(|node| self.check_disk(node, &mut log_starts))
    }

    /// Every node stops in order.
    fn stop_all(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            let one = &mut self.nodes[node];
            one.held_down = true;
            one.process.take_if(|_| one.lost.is_some());
            self.push(node, Inbound::Stop);
        }
        while self.nodes.iter().any(|node| node.process.is_some()) {
            let Some(event) = self.schedule.take() else { break };
            match event {
                Event::Turn { node, life } => self.on_turn(node, life)?,
                Event::Disk { node, life, token } => self.on_disk(node, life, token)?,
                _ => {}
            }
        }
        if self.nodes.iter().any(|node| node.process.is_some()) {
            return Err(Failure::liveness("a node doesn't stop when it is asked to"));
        }
        Ok(())
    }

    /// `inspect log` gives one digest on all disks.
    fn compare_digests(&self) -> Result<(), Failure> {
        for (&log, checks) in &self.checkers.logs {
            let mut digests = Vec::new();
            for &replica in self.directory.replicas_of(log) {
                let node = node_of(replica);
                if !self.is_sound(node) {
                    continue;
                }
                let place = LogPlace { root: String::new(), shard: SHARD.shard, log, replica };
                let report = inspect::log(&self.nodes[node].disk, &place, CLUSTER, &mut |_| {})
                    .map_err(|error| Failure::correctness(format!("node {node} can't be inspected: {error}")))?;
                if !report.damage.is_empty() {
                    return Err(Failure::correctness(format!("node {node} is damaged: {:?}", report.damage)));
                }
                if self.options.retention_ms == 0 && log != LogId::GROUP_ZERO {
                    digests.push((report.high_watermark, report.digest_hex()));
                }
            }
            let last = checks.log.last();
            // Logs that begin at different places have different digests: their frames are compared one by one.
            if digests.iter().any(|digest| digest.0 != last || *digest != digests[0]) {
                return Err(Failure::correctness(format!("digests of log {log}, {last}: {digests:?}")));
            }
        }
        Ok(())
    }

    /// A node's disk alone, opened once more, holds all that was committed and is kept, and starts where the others do.
    fn check_disk(&mut self, node: usize, log_starts: &mut BTreeMap<LogId, Offset>) -> Result<(), Failure> {
        let fail = |what: String| Failure::correctness(format!("node {node}, opened at the end: {what}"));
        if self.is_lost(node) {
            return Ok(());
        }
        let decayed = self.nodes[node].decayed;
        let opened = match ShardStore::open(self.nodes[node].disk.clone(), "", SHARD, self.options.store) {
            // It says what was done to it.
            Err(_) if decayed => return Ok(()),
            opened => opened,
        };
        let (store, restored) = opened.map_err(|error| fail(error.to_string()))?;
        let clean = self.options.shape != Shape::PowerLoss;
        if decayed && !store.damage().is_empty() {
            return Ok(());
        }
        if store.started_clean() != clean && !restored.is_empty() && !decayed {
            return Err(fail(format!("it says that the stop was clean: {}", store.started_clean())));
        }
        for replica in restored {
            let (log, log_start) = (replica.log, replica.log_start);
            if self.directory.is_deleted(log) {
                continue;
            }
            self.checkers.promises.restored(&replica).map_err(fail)?;
            let reader = store.reader(replica.replica).ok_or_else(|| fail("no reader".to_owned()))?;
            let last = self.checkers.of(log).log.last();
            let mut at = replica.local_start.index;
            if *log_starts.entry(log).or_insert(log_start) != log_start || replica.local_start.next_offset > log_start {
                return Err(fail(format!("log {log} starts at {log_start}, locally at {:?}", replica.local_start)));
            }
            while at < last {
                let frames = match reader.read_frames(at.next(), last.next(), READ_BYTES) {
                    Err(_) if decayed => return Ok(()),
                    read => read.map_err(|error| fail(error.to_string()))?,
                };
                for frame in &frames {
                    self.checkers.of(log).log.observe(frame).map_err(fail)?;
                }
                at = frames.last().ok_or_else(|| fail(format!("frame {} is gone", at.next())))?.index;
            }
        }
        Ok(())
    }
}
