//! What breaks, when, and for how long.
//!
//! The fault model: processes die at any moment, in the middle of a store's call too; power loss leaves each unsynced sector
//! and name old or new; a failed sync gives up what it should have written; messages are lost, late, doubled, reordered.
//! Bytes that were synced change only where `lost.rs` allows it, and no node lies.

use super::{Event, Phase, World};
use crate::network::draw_cuts;
use crate::node::{Inbound, id_of};
use crate::options::Fault;
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_storage::LoseUnsynced;
use std::io::ErrorKind;

/// Leaderships are handed over for so long before an orderly stop goes on without.
const HAND_OVER: u64 = 200 * MILLISECOND;
/// Steps of a disk thread that a power loss may interrupt.
const STEPS_CUT_MAX: usize = 4;

impl World {
    pub(crate) fn schedule_fault(&mut self) {
        let mean = self.options.fault_ms;
        let wait = self.fault_random.u64(mean / 4..=mean * 7 / 4) * MILLISECOND;
        self.schedule.after(wait, Event::Fault);
    }

    pub(crate) fn on_fault(&mut self) -> Result<(), Failure> {
        if self.phase != Phase::Safety {
            return Ok(());
        }
        let total: u32 = self.options.faults.iter().map(|(_, weight)| weight).sum();
        let mut at = self.fault_random.u32(0..total);
        let chosen = self.options.faults.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let fault = chosen.map_or(Fault::Kill, |(fault, _)| *fault);
        let node = self.fault_random.usize(0..self.nodes.len());
        self.note(format_args!("fault {fault:?}, node {node}"));
        match fault {
            Fault::Kill => self.power_cut(LoseUnsynced::Nothing),
            Fault::Power => {
                let lose = self.draw_loss();
                self.power_cut(lose);
            }
            Fault::PowerAll => self.power_cut_all(),
            Fault::PowerSoon => {
                let calls = self.fault_random.u64(1..40);
                self.nodes[node].disk.cut_power_after(calls);
                self.nodes[node].power_armed = Some(self.draw_loss());
                self.nodes[node].disk_faulted = true;
            }
            Fault::Partition => self.cut_links(false),
            Fault::Flapping => self.cut_links(true),
            Fault::Pause => {
                let pause = self.fault_random.u64(50..4_000) * MILLISECOND;
                self.nodes[node].paused_until = self.schedule.now() + pause;
            }
            Fault::SlowDisk => {
                let one = &mut self.nodes[node];
                one.slow_ns = self.fault_random.u64(20..3_000) * MILLISECOND;
                one.slow_until = self.schedule.now() + self.fault_random.u64(500..6_000) * MILLISECOND;
            }
            Fault::DiskError => self.break_disk(node),
            Fault::FullDisk => self.fill_disk(node),
            Fault::ClockJump => self.jump_clock(node),
            Fault::CheckpointError => {
                self.nodes[node].disk.fail_sync_below("shard-0/logs");
                self.nodes[node].disk_faulted = true;
            }
            Fault::Transfer => {
                let logs = self.directory.logs();
                if let Some(log) = self.fault_random.choice(logs) {
                    for node in self.directory.nodes_of(log) {
                        self.push(node, Inbound::Transfer(log));
                    }
                }
            }
            Fault::Graceful => self.stop_in_order(node),
            Fault::CopyDisk => self.copy_disk(node),
            Fault::RestoreDisk => self.restore_disk(),
            Fault::WipeDisk => self.wipe_disk(),
            Fault::DecayDisk => self.decay_disk(),
        }
        self.schedule_fault();
        Ok(())
    }

    /// One, two or all processes die.
    fn power_cut(&mut self, lose: LoseUnsynced) {
        let nodes = self.nodes.len();
        let count = [1, 1, 1, 2, nodes][self.fault_random.usize(0..5)].min(nodes);
        let first = self.fault_random.usize(0..nodes);
        for node in (0..count).map(|at| (first + at) % nodes) {
            self.interrupt(node);
            self.kill(node, lose);
        }
    }

    /// All nodes lose power at the same moment, and every unsynced write.
    pub(crate) fn power_cut_all(&mut self) {
        self.counts.all_power_losses += 1;
        for node in 0..self.nodes.len() {
            self.interrupt(node);
        }
        for node in 0..self.nodes.len() {
            self.kill(node, LoseUnsynced::All);
        }
    }

    /// Lets the disk thread run on until the disk stops it in the middle of a call. Nobody hears of what it did.
    fn interrupt(&mut self, node: usize) {
        if self.fault_random.bool() || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].disk.cut_power_after(self.fault_random.u64(1..12));
        for _ in 0..self.fault_random.usize(1..=STEPS_CUT_MAX) {
            if self.disk_step(node).is_err() || self.nodes[node].process.is_none() {
                return;
            }
        }
    }

    fn cut_links(&mut self, flapping: bool) {
        let nodes = self.nodes.len();
        if nodes == 1 {
            return;
        }
        self.partition += 1;
        self.counts.partitions += 1;
        self.network.heal();
        // Half of the time it is a leader that meets it.
        let leads = |node: &usize| self.nodes[*node].process.as_ref().is_some_and(|one| leads_data(&one.host));
        let leaders: Vec<usize> = (0..nodes).filter(leads).collect();
        let leader = self.fault_random.choice(leaders).filter(|_| self.fault_random.bool());
        self.cuts = draw_cuts(&mut self.fault_random, nodes, leader);
        self.network.sever(&self.cuts);
        self.break_streams();
        let (length, partition) = (self.fault_random.u64(100..5_000) * MILLISECOND, self.partition);
        self.trace.note(self.schedule.now(), None, format_args!("cut: {:?}, flapping: {flapping}", self.cuts));
        if flapping {
            let until = self.schedule.now() + length;
            self.schedule.after(self.fault_random.u64(20..400) * MILLISECOND, Event::Flap { partition, until });
        } else {
            self.schedule.after(length, Event::Connect { partition });
        }
    }

    /// Both ends of a cut link see their connection break.
    fn break_streams(&mut self) {
        for (from, to) in self.cuts.clone() {
            self.push(from, Inbound::Unreachable(id_of(to)));
            self.push(to, Inbound::Unreachable(id_of(from)));
        }
    }

    pub(crate) fn on_connect(&mut self, partition: u64) {
        if partition == self.partition && self.phase == Phase::Safety {
            self.note(format_args!("all links are connected"));
            self.network.heal();
        }
    }

    pub(crate) fn on_flap(&mut self, partition: u64, until: u64) {
        if partition != self.partition || self.phase != Phase::Safety {
            return;
        }
        if self.schedule.now() >= until {
            return self.on_connect(partition);
        }
        if self.network.is_whole() {
            self.note(format_args!("links are cut again"));
            self.network.sever(&self.cuts);
            self.break_streams();
        } else {
            self.note(format_args!("links are connected for a while"));
            self.network.heal();
        }
        self.schedule.after(self.fault_random.u64(20..400) * MILLISECOND, Event::Flap { partition, until });
    }

    fn break_disk(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        match self.fault_random.u8(0..4) {
            0 => disk.fail_syncs(1),
            1 => disk.fail_writes(1, ErrorKind::Other),
            2 => disk.fail_writes(self.fault_random.u32(1..4), ErrorKind::StorageFull),
            _ => disk.fail_reads(self.fault_random.u32(1..20)),
        }
        self.nodes[node].disk_faulted = true;
    }

    /// As an operator restarts a node: leaderships are handed over, then it stops.
    fn stop_in_order(&mut self, node: usize) {
        if self.nodes[node].process.is_none() || std::mem::replace(&mut self.nodes[node].stopping, true) {
            return;
        }
        self.push(node, Inbound::HandOver);
        let life = self.nodes[node].life;
        self.schedule.after(HAND_OVER, Event::StopNode { node, life });
    }

    pub(crate) fn on_stop_node(&mut self, node: usize, life: u64) {
        if self.is_alive(node, life) {
            self.push(node, Inbound::Stop);
        }
    }

    /// The store is closed: the process ends.
    pub(crate) fn on_closed(&mut self, node: usize) {
        self.counts.graceful_stops += 1;
        // The apply thread ends last, and syncs. It can't fail in memory.
        let _ = dlog_storage::StateStore::sync(&self.nodes[node].state);
        self.kill(node, LoseUnsynced::Nothing);
    }
}

/// Whether a node leads a log that clients write to.
fn leads_data(host: &dlog_consensus::Host) -> bool {
    host.led()
        .iter()
        .any(|replica| host.get(*replica).is_some_and(|machine| machine.log() != dlog_core::LogId::GROUP_ZERO))
}
