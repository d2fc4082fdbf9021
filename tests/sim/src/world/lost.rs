//! Nodes that are lost for good: a disk was wiped, an old copy of it was put back, or its bytes decayed and it found so.
//!
//! An atlas keeps what recovery is owed: a disk is only touched while each log keeps a majority of its members on disks that
//! nobody touched. From then on nothing is left to the node alone, and operators move what it held to others.

use super::door::{next_claim, would_refuse};
use super::starts::SHARD;
use super::{Event, Phase, World};
use crate::clients::operators::Purpose;
use crate::decay::{Reach, decay};
use crate::node::{Copy, Lost, node_of, number_of};
use crate::schedule::MILLISECOND;
use dlog_core::LogId;
use dlog_replication::bootstrap::voter_count;
use dlog_replication::quorum::majority;
use dlog_replication::{CommandBody, SetMetadataVoters, SetReplicas};
use dlog_storage::state_store::memory::MemoryStateStore;
use dlog_storage::{LoseUnsynced, SimDisk, SimDiskOptions, StorageError};
use std::collections::BTreeSet;

/// How often operators look what is still on lost nodes.
const EVACUATE: u64 = 300 * MILLISECOND;
/// Nodes whose disks may be touched in one run: of two, a topic with five replicas still has a majority elsewhere.
const UNSOUND_MAX: usize = 2;

impl World {
    /// Whether a node is out for good.
    pub(crate) fn is_lost(&self, node: usize) -> bool {
        self.nodes[node].lost.is_some()
    }

    /// Whether a node is counted on: nobody touched its disk.
    pub(crate) fn is_sound(&self, node: usize) -> bool {
        !self.is_lost(node) && !self.nodes[node].decayed
    }

    /// Whether most of these nodes are sound.
    pub(crate) fn is_safe_on(&self, nodes: &[u32]) -> bool {
        nodes.iter().filter(|node| self.is_sound(**node as usize - 1)).count() >= majority(nodes.len())
    }

    /// The nodes that are counted on, by their ids.
    pub(crate) fn sound_nodes(&self) -> Vec<u32> {
        (0..self.nodes.len()).filter(|node| self.is_sound(*node)).map(|node| node as u32 + 1).collect()
    }

    fn lost_nodes(&self) -> BTreeSet<u32> {
        let lost = |node: &usize| self.is_lost(*node);
        (0..self.nodes.len()).filter(lost).map(|node| node as u32 + 1).collect()
    }

    /// How many replicas a new topic must have at least, so that most of them are on sound nodes wherever it is placed.
    pub(crate) fn replicas_min(&self) -> u32 {
        2 * (self.nodes.len() - self.sound_nodes().len()) as u32 + 1
    }

    /// Whether a node's disk may be touched.
    fn may_touch(&self, node: usize) -> bool {
        let unsound = self.nodes.len() - self.sound_nodes().len();
        let most = UNSOUND_MAX.min((self.nodes.len() - 1) / 2);
        if !self.founded || !self.is_sound(node) || unsound >= most {
            return false;
        }
        // What is on its way to the catalogue could still rely on this node.
        let changes = |purpose: &Purpose| {
            matches!(purpose, Purpose::Create | Purpose::Delete(_) | Purpose::Other | Purpose::Evacuate(_))
        };
        if self.operators.pending().any(|pending| changes(&pending.purpose)) {
            return false;
        }
        let sound = |other: &usize| *other != node && self.is_sound(*other);
        let keeps = |nodes: &[usize]| nodes.iter().filter(|other| sound(other)).count() >= majority(nodes.len());
        let catalogue = self.directory.catalogue();
        let partitions_keep = catalogue.partitions().all(|partition| {
            let nodes: Vec<usize> = partition.intended.iter().copied().map(node_of).collect();
            let mut holders = partition.holders.iter().copied().map(node_of);
            if partition.is_confirmed() { keeps(&nodes) } else { holders.all(|holder| sound(&holder)) }
        });
        partitions_keep && self.directory.is_settled(LogId::GROUP_ZERO) && keeps(&self.directory.metadata_voters())
    }

    /// The nodes whose disks may be touched.
    fn touchable(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.may_touch(*node)).collect()
    }

    /// Takes a copy of a node's disk, as it is at this moment.
    pub(crate) fn copy_disk(&mut self, node: usize) {
        if self.is_sound(node) {
            let seed = self.fault_random.u64(..);
            let one = &mut self.nodes[node];
            one.copy = Some(Copy { disk: one.disk.copy(seed), state: one.state.copy() });
            self.counts.copies += 1;
        }
    }

    /// Puts the copy of a node's disk back, if all others would notice. A node whose copy is as good as its disk is not lost.
    pub(crate) fn restore_disk(&mut self) {
        let random = self.fault_random.u64(..);
        let candidates = self.touchable();
        let noticed = |node: &usize| {
            let copy = self.nodes[*node].copy.as_ref();
            let claim = copy.and_then(|copy| next_claim(&copy.disk, self.options.store, random));
            let mut others = (0..self.nodes.len()).filter(|other| other != node && self.is_sound(*other));
            claim.is_some_and(|claim| others.all(|other| would_refuse(&self.nodes[other].disk, &claim)))
        };
        let candidates: Vec<usize> = candidates.into_iter().filter(noticed).collect();
        let Some(node) = self.fault_random.choice(candidates) else { return };
        let Some(copy) = self.nodes[node].copy.take() else { return };
        self.counts.restored += 1;
        self.lose(node, Lost::Restored);
        (self.nodes[node].disk, self.nodes[node].state) = (copy.disk, copy.state);
        self.make_room(node);
    }

    /// Empties a disk.
    pub(crate) fn wipe_disk(&mut self) {
        let Some(node) = self.fault_random.choice(self.touchable()) else { return };
        self.counts.wiped += 1;
        self.lose(node, Lost::Wiped);
        let seed = self.fault_random.u64(..);
        self.nodes[node].disk = SimDisk::new(SimDiskOptions { seed, ..SimDiskOptions::default() });
        self.nodes[node].state = MemoryStateStore::new();
    }

    /// Changes synced bytes of a disk, mostly of segments; while its node is down, or runs. It finds out, early or late.
    pub(crate) fn decay_disk(&mut self) {
        let Some(node) = self.fault_random.choice(self.touchable()) else { return };
        let segments = self.fault_random.u8(0..3) > 0;
        let runs = segments && self.fault_random.bool() && !self.is_disk_bad(node);
        if !runs {
            let lose = self.draw_loss();
            self.kill(node, lose);
        }
        let (reach, places) =
            if segments { (Reach::Segments, self.fault_random.u8(1..=4)) } else { (Reach::Proved, 1) };
        for _ in 0..places {
            let decayed = decay(&self.nodes[node].disk, SHARD, reach, &mut self.fault_random);
            let Some(decayed) = decayed else { return };
            self.note(format_args!("node {node} decays: {decayed}"));
            self.counts.decayed += 1;
            self.nodes[node].decayed = true;
        }
    }

    /// A node is out for good. A wiped or restored one still starts, and isn't believed; one that found damage doesn't.
    pub(crate) fn lose(&mut self, node: usize, lost: Lost) {
        self.note(format_args!("node {node} is lost: {lost:?}"));
        if self.nodes.iter().all(|one| one.lost.is_none()) {
            self.schedule.after(EVACUATE, Event::Evacuate);
        }
        self.nodes[node].lost = Some(lost);
        self.counts.lost += 1;
        self.kill(node, LoseUnsynced::Nothing);
    }

    /// Whether a storage error is the damage that was done to a disk.
    pub(crate) fn is_damage(&self, node: usize, error: &StorageError) -> bool {
        let told = matches!(error, StorageError::NeedsOperator { .. });
        self.nodes[node].decayed && (error.is_corrupt() || told)
    }

    /// What lost nodes held goes to others, or to nobody where there is none.
    pub(crate) fn on_evacuate(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        self.schedule.after(EVACUATE, Event::Evacuate);
        let lost: BTreeSet<u32> = self.lost_nodes();
        let catalogue = std::rc::Rc::clone(self.directory.catalogue());
        let mut commands = Vec::new();
        for partition in catalogue.partitions() {
            let nodes: Vec<u32> = partition.intended.iter().map(|replica| replica.node().0).collect();
            if nodes.iter().any(|node| lost.contains(node)) {
                let (topic, index, intent) = (partition.topic.0, partition.index.0, partition.intent.0);
                let nodes = self.without_lost(&nodes);
                let set = SetReplicas { topic, partition: index, nodes, intent };
                commands.push((partition.log, CommandBody::SetReplicas(set)));
            }
        }
        let voters = catalogue.metadata_voters();
        if voters.intended.iter().any(|node| lost.contains(&node.0)) {
            let mut nodes = self.sound_nodes();
            nodes.truncate(voter_count(nodes.len()));
            let set = SetMetadataVoters { nodes, intent: voters.intent.0 };
            commands.push((LogId::GROUP_ZERO, CommandBody::SetMetadataVoters(set)));
        }
        for (log, body) in commands {
            let purpose = Purpose::Evacuate(log);
            if !self.operators.pending().any(|pending| pending.purpose == purpose) {
                self.command(body, purpose);
            }
        }
    }

    /// These nodes with sound ones in the place of those that are lost; without those that have no replacement, and without
    /// doubtful ones where they would be too many.
    fn without_lost(&mut self, nodes: &[u32]) -> Vec<u32> {
        let mut spare: Vec<u32> = self.sound_nodes().into_iter().filter(|node| !nodes.contains(node)).collect();
        self.client_random.shuffle(&mut spare);
        let lost = self.lost_nodes();
        let mut kept: Vec<u32> =
            nodes.iter().filter_map(|node| if lost.contains(node) { spare.pop() } else { Some(*node) }).collect();
        if !self.is_safe_on(&kept) {
            kept.retain(|node| self.is_sound(*node as usize - 1));
        }
        kept
    }

    /// Whether nothing that counts is left on lost nodes.
    pub(crate) fn is_evacuated(&self) -> bool {
        let catalogue = self.directory.catalogue();
        let partitions =
            catalogue.partitions().flat_map(|partition| partition.holders.iter().map(|replica| replica.node()));
        partitions
            .chain(catalogue.metadata_voters().intended.iter().copied())
            .all(|node| !self.is_lost(number_of(node)))
    }
}
