//! From faults to health: when each phase ends, how long it may take, and what must hold at the end.

use super::starts::{CLUSTER, SHARD};
use super::{Event, Phase, World};
use crate::network::NODES;
use crate::node::{Inbound, log_of, replica_of};
use crate::options::Shape;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_core::Offset;
use dlog_storage::inspect::{self, LogPlace};
use dlog_storage::{LoseUnsynced, ShardStore};

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
            Phase::Quiet if self.is_equal() => {
                self.equal_looks += 1;
                if self.equal_looks == EQUAL_LOOKS {
                    self.enter(Phase::Over);
                }
            }
            Phase::Core | Phase::Healed | Phase::Quiet if since > LIVELINESS => {
                return Err(Failure::liveness(self.picture()));
            }
            Phase::Core | Phase::Healed | Phase::Quiet => {}
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.note(format_args!("phase {phase:?}"));
        self.phase = phase;
        self.phase_since = self.schedule.now();
        self.fresh.fill(false);
    }

    /// No fault comes any more, and those that are there go: of the network, of the disks, of the processes.
    fn heal(&mut self, phase: Phase) {
        self.enter(phase);
        self.partition += 1;
        self.network.become_reliable();
        let down = (phase == Phase::Core).then(|| self.fault_random.usize(0..NODES));
        for node in 0..NODES {
            let now = self.schedule.now();
            let faulted = self.nodes[node].disk_faulted;
            let one = &mut self.nodes[node];
            one.held_down = down == Some(node);
            (one.paused_until, one.slow_until) = (now, now);
            if faulted || one.held_down {
                // Only a new process surely has a healthy disk.
                self.kill(node, LoseUnsynced::Nothing);
            }
            self.start_after(node, MILLISECOND);
            self.want_turn(node);
        }
    }

    /// Every partition took something new, and nobody waits for anything old.
    fn goes_on(&self) -> bool {
        let began = self.phase_since;
        let old = |producer: &crate::clients::producers::Producer| producer.waits_since().is_none_or(|at| at >= began);
        self.fresh.iter().all(|fresh| *fresh) && self.producers.iter().all(old)
    }

    /// Nobody waits, and all replicas have the same, durable, readable and known to be committed.
    fn is_equal(&self) -> bool {
        let quiet = self.producers.iter().all(|producer| producer.waits() == 0);
        quiet && (0..self.options.partitions as usize).all(|partition| self.is_partition_equal(partition))
    }

    fn is_partition_equal(&self, partition: usize) -> bool {
        let log = &self.checkers.logs[partition];
        (0..NODES).all(|node| {
            let Some(process) = &self.nodes[node].process else { return false };
            let Some(machine) = process.host.get(replica_of(node, partition)) else { return false };
            let status = machine.status();
            let all = [status.last, status.progress.commit, status.persisted, status.written];
            let starts = status.progress.log_start >= self.checkers.log_starts[partition];
            starts && all.iter().all(|index| *index == log.last()) && status.progress.read_bound == log.end()
        })
    }

    /// What the replicas are at, for a failure's text.
    fn picture(&self) -> String {
        let phase_ms = (self.schedule.now() - self.phase_since) / MILLISECOND;
        let mut text = format!("phase {:?} isn't over after {phase_ms} ms", self.phase);
        for partition in 0..self.options.partitions as usize {
            let log = &self.checkers.logs[partition];
            text += &format!("\n  partition {partition}: fresh {} committed {}", self.fresh[partition], log.last());
            for node in 0..NODES {
                let machine = self.nodes[node].process.as_ref().and_then(|p| p.host.get(replica_of(node, partition)));
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
        text
    }

    /// After the last phase: everything acked is there, readers get all of it, and disks alone tell the same.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        for (partition, acks) in self.checkers.acks.iter().enumerate() {
            acks.finish().map_err(|what| Failure::correctness(format!("partition {partition}: {what}")))?;
            self.counts.acked += acks.acked_batches();
            self.counts.frames += self.checkers.logs[partition].last().0;
        }
        self.counts.elections = self.checkers.leaders.elections();
        self.read_to_the_end()?;
        if self.options.shape == Shape::PowerLoss {
            for node in 0..NODES {
                self.nodes[node].process = None;
                self.nodes[node].disk.set_lose_unsynced(LoseUnsynced::All);
                self.nodes[node].disk.crash();
            }
        } else {
            self.stop_all()?;
            self.compare_digests()?;
        }
        let mut log_starts = vec![None; self.options.partitions as usize];
        (0..NODES).try_for_each(|node| self.check_disk(node, &mut log_starts))
    }

    /// Every node stops in order.
    fn stop_all(&mut self) -> Result<(), Failure> {
        for node in 0..NODES {
            self.nodes[node].held_down = true;
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
        for partition in 0..self.options.partitions as usize {
            let mut digests = Vec::new();
            for node in 0..NODES {
                let replica = replica_of(node, partition);
                let place = LogPlace { root: String::new(), shard: SHARD.shard, log: log_of(partition), replica };
                let report = inspect::log(&self.nodes[node].disk, &place, CLUSTER, &mut |_| {})
                    .map_err(|error| Failure::correctness(format!("node {node} can't be inspected: {error}")))?;
                if !report.damage.is_empty() {
                    return Err(Failure::correctness(format!("node {node} is damaged: {:?}", report.damage)));
                }
                if self.options.retention_ms == 0 {
                    digests.push((report.high_watermark, report.digest_hex()));
                }
            }
            let last = self.checkers.logs[partition].last();
            // Logs that begin at different places have different digests: their frames are compared one by one.
            if digests.iter().any(|digest| digest.0 != last || *digest != digests[0]) {
                return Err(Failure::correctness(format!("digests of partition {partition}, {last}: {digests:?}")));
            }
        }
        Ok(())
    }

    /// A node's disk alone, opened once more, holds all that was committed and is kept, and starts where the others do.
    fn check_disk(&mut self, node: usize, log_starts: &mut [Option<Offset>]) -> Result<(), Failure> {
        let fail = |what: String| Failure::correctness(format!("node {node}, opened at the end: {what}"));
        let opened = ShardStore::open(self.nodes[node].disk.clone(), "", SHARD, self.options.store);
        let (store, restored) = opened.map_err(|error| fail(error.to_string()))?;
        let clean = self.options.shape != Shape::PowerLoss;
        if store.started_clean() != clean {
            return Err(fail(format!("it says that the stop was clean: {}", store.started_clean())));
        }
        for replica in restored {
            let partition = crate::node::partition_of(replica.replica);
            self.checkers.promises.restored(&replica).map_err(fail)?;
            let reader = store.reader(replica.replica).ok_or_else(|| fail("no reader".to_owned()))?;
            let last = self.checkers.logs[partition].last();
            let mut at = replica.local_start.index;
            let log_start = replica.log_start;
            if *log_starts[partition].get_or_insert(log_start) != log_start
                || replica.local_start.next_offset > log_start
            {
                return Err(fail(format!(
                    "partition {partition} starts at {log_start}, locally at {:?}",
                    replica.local_start
                )));
            }
            while at < last {
                let frames = reader.read_frames(at.next(), last.next(), READ_BYTES).map_err(|e| fail(e.to_string()))?;
                for frame in &frames {
                    self.checkers.logs[partition].observe(frame).map_err(fail)?;
                }
                at = frames.last().ok_or_else(|| fail(format!("frame {} is gone", at.next())))?.index;
            }
        }
        Ok(())
    }
}
