//! All replicas of one shard, on one thread: routing, ticks, and what concerns them all. Still pure.

use crate::error::{LoadError, Refusal};
use crate::input::Input;
use crate::message::PeerMessage;
use crate::options::ReplicaOptions;
use crate::output::Output;
use crate::replica::Replica;
use crate::status::Status;
use bytes::Bytes;
use dlog_core::write::{Create, ReplicaWrite, WriteOp};
use dlog_core::{LogId, LogIndex, MonotonicTime, NodeId, ReplicaId};
use std::collections::BTreeMap;

/// The replicas of a shard.
pub struct Host {
    replicas: BTreeMap<ReplicaId, Replica>,
    random: fastrand::Rng,
    scratch: Vec<Output>,
}

impl Host {
    /// A host without replicas; `seed` begets the seeds of those created later.
    pub fn new(seed: u64) -> Host {
        Host { replicas: BTreeMap::new(), random: fastrand::Rng::with_seed(seed), scratch: Vec::new() }
    }

    /// A seed for one replica's own generator.
    pub fn draw_seed(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// Takes in a replica that was restored.
    pub fn add(&mut self, replica: Replica) {
        self.replicas.insert(replica.id(), replica);
    }

    /// Creates a replica that this node never had; its create record is the first output.
    ///
    /// # Errors
    /// Those of [`Replica::create`].
    pub fn create(
        &mut self,
        now: MonotonicTime,
        options: ReplicaOptions,
        replica: ReplicaId,
        log: LogId,
        create: Create,
        out: &mut Vec<(ReplicaId, Output)>,
    ) -> Result<(), LoadError> {
        let seed = self.draw_seed();
        let mut outputs = Vec::new();
        let created = Replica::create(options, replica, log, create, seed, now, &mut outputs)?;
        out.extend(outputs.into_iter().map(|output| (replica, output)));
        self.add(created);
        Ok(())
    }

    /// Deletes a replica: its last output is the delete record.
    pub fn delete(&mut self, replica: ReplicaId, out: &mut Vec<(ReplicaId, Output)>) {
        let Some(mut gone) = self.replicas.remove(&replica) else { return };
        let mut outputs = Vec::new();
        gone.lose_leadership(&mut outputs);
        let id = gone.writes.next_id();
        let write =
            ReplicaWrite { replica, log: gone.log(), commit: gone.progress().commit, ops: vec![WriteOp::Delete] };
        outputs.push(Output::Write { id, write });
        out.extend(outputs.into_iter().map(|output| (replica, output)));
    }

    /// Whether the replica is here.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.replicas.contains_key(&replica)
    }

    /// A replica.
    pub fn get(&self, replica: ReplicaId) -> Option<&Replica> {
        self.replicas.get(&replica)
    }

    /// All replicas, by id.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    /// Steps one replica; an input for one that isn't here has no effect.
    pub fn step(&mut self, now: MonotonicTime, replica: ReplicaId, input: Input, out: &mut Vec<(ReplicaId, Output)>) {
        if let Some(machine) = self.replicas.get_mut(&replica) {
            machine.step(now, input, &mut self.scratch);
            out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        }
    }

    /// Steps a peer's message at the replica that it names.
    pub fn receive(&mut self, now: MonotonicTime, message: PeerMessage, out: &mut Vec<(ReplicaId, Output)>) {
        let to = message.to;
        if self.contains(to) {
            self.step(now, to, Input::Peer(message), out);
        } else {
            // A replica that isn't started yet, or is deleted: the sender asks again, or learns it from the catalogue.
            let refusal = Refusal::NotForUs(to);
            tracing::trace!(from = message.from.0, %refusal, "a message for a replica that isn't here");
        }
    }

    /// One tick for every replica.
    pub fn tick_all(&mut self, now: MonotonicTime, out: &mut Vec<(ReplicaId, Output)>) {
        let ids: Vec<ReplicaId> = self.replicas.keys().copied().collect();
        for replica in ids {
            self.step(now, replica, Input::Tick, out);
        }
    }

    /// The connection to a node broke.
    pub fn unreachable(&mut self, now: MonotonicTime, node: NodeId, out: &mut Vec<(ReplicaId, Output)>) {
        let led: Vec<(ReplicaId, Vec<ReplicaId>)> = self
            .replicas
            .values()
            .filter(|replica| replica.is_leader())
            .map(|replica| {
                let peers = replica.membership.members().into_iter().filter(|peer| peer.node() == node);
                (replica.id(), peers.collect())
            })
            .collect();
        for (replica, peers) in led {
            for peer in peers {
                self.step(now, replica, Input::Unreachable { peer }, out);
            }
        }
    }

    /// Replicas that lead and that another voter could lead.
    pub fn led(&self) -> Vec<ReplicaId> {
        let led = self.replicas.values().filter(|r| r.is_leader() && r.membership.voters.len() > 1);
        led.map(Replica::id).collect()
    }

    /// Every replica's producers as of its applied index, where the log has records.
    pub fn producer_tables(&self) -> Vec<(ReplicaId, LogIndex, Bytes)> {
        let data = self.replicas.values().filter(|replica| replica.log() != LogId::GROUP_ZERO);
        data.map(|replica| {
            let (index, bytes) = replica.producer_table();
            (replica.id(), index, bytes)
        })
        .collect()
    }

    /// Every replica at a glance.
    pub fn statuses(&self) -> BTreeMap<ReplicaId, Status> {
        self.replicas.values().map(|replica| (replica.id(), replica.status())).collect()
    }
}
