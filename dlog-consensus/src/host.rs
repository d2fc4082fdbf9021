//! Many replicas on one thread: routing, ticks, and questions about all of them. Holds no queue of its own: every call steps at
//! once and says what to do, so what is queued is bounded by whoever calls.
//!
//! Replicas are stepped in the order of their ids: the same inputs give the same outputs. A tick steps all of them in one turn, so
//! the heartbeats of all groups to one node come out together and the shell sends them as one bundle.

use crate::error::LoadError;
use crate::input::Input;
use crate::mending::{Mending, Whole};
use crate::message::PeerMessage;
use crate::options::ReplicaOptions;
use crate::output::Output;
use crate::replica::Replica;
use crate::status::Status;
use bytes::Bytes;
use dlog_core::write::Create;
use dlog_core::{DiskState, LogId, LogIndex, MonotonicTime, NodeId, ReplicaId};
use std::collections::BTreeMap;

/// The replicas of one shard.
pub struct Host {
    replicas: BTreeMap<ReplicaId, Replica>,
    /// Those that can't start yet. None of them is in `replicas`.
    mending: BTreeMap<ReplicaId, Mending>,
    random: fastrand::Rng,
    disk: DiskState,
    scratch: Vec<Output>,
}

/// What the replicas of a host say, each output with the replica that says it.
pub type HostOutputs = Vec<(ReplicaId, Output)>;

impl Host {
    /// An empty host. `seed` must differ between two starts of a node.
    pub fn new(seed: u64) -> Host {
        Host {
            replicas: BTreeMap::new(),
            mending: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            disk: DiskState::default(),
            scratch: Vec::new(),
        }
    }

    /// A seed for one replica's own generator, for [`crate::ReplicaLoader::finish`].
    pub fn draw_seed(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// Takes in a replica that was restored. One that was here under the same id is dropped.
    pub fn add(&mut self, mut replica: Replica) {
        self.mending.remove(&replica.id());
        replica.set_disk(self.disk);
        self.replicas.insert(replica.id(), replica);
    }

    /// Takes in a replica that must be mended before it can start. [`Output::Whole`] says that it is.
    pub fn add_mending(&mut self, mending: Mending) {
        self.mending.insert(mending.id(), mending);
    }

    /// Takes out a replica that is whole, to load it and [`Host::add`] it.
    pub fn take_whole(&mut self, replica: ReplicaId) -> Option<Whole> {
        self.mending.get(&replica).filter(|mending| mending.is_done())?;
        self.mending.remove(&replica).map(Mending::into_whole)
    }

    /// The replicas here that can't start yet.
    pub fn mending(&self) -> impl Iterator<Item = &Mending> {
        self.mending.values()
    }

    /// Starts a replica that this node never had. Its first output makes it known to storage.
    ///
    /// # Errors
    /// [`LoadError`] if it is here already, its membership can't be read, or the options don't fit together.
    pub fn create(
        &mut self,
        now: MonotonicTime,
        options: ReplicaOptions,
        replica: ReplicaId,
        log: LogId,
        create: Create,
        out: &mut HostOutputs,
    ) -> Result<(), LoadError> {
        if self.contains(replica) {
            return Err(LoadError::Exists { replica });
        }
        let seed = self.draw_seed();
        let mut created = Replica::create(options, replica, log, create, seed, now, &mut self.scratch)?;
        created.set_disk(self.disk);
        self.replicas.insert(replica, created);
        out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        Ok(())
    }

    /// Ends a replica for good, because the catalogue as of the group 0 index `ended` says that it is out of use: its last output
    /// deletes it. Nothing happens if it isn't here.
    pub fn delete(&mut self, replica: ReplicaId, ended: LogIndex, out: &mut HostOutputs) {
        if let Some(gone) = self.replicas.remove(&replica) {
            gone.delete(ended, &mut self.scratch);
            out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        }
        if let Some(gone) = self.mending.remove(&replica) {
            gone.delete(ended, &mut self.scratch);
            out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        }
    }

    /// Whether the replica is here, started or not.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.replicas.contains_key(&replica) || self.mending.contains_key(&replica)
    }

    /// The replica, to look at.
    pub fn get(&self, replica: ReplicaId) -> Option<&Replica> {
        self.replicas.get(&replica)
    }

    /// Every replica here, in the order of ids.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    /// Steps one replica. An input for one that isn't here is dropped: it is late. `false` says so; a request among such inputs
    /// is for the caller to answer.
    pub fn step(&mut self, now: MonotonicTime, replica: ReplicaId, input: Input, out: &mut HostOutputs) -> bool {
        let Some(target) = self.replicas.get_mut(&replica) else { return self.step_mending(replica, input, out) };
        target.step(now, input, &mut self.scratch);
        out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        true
    }

    fn step_mending(&mut self, replica: ReplicaId, input: Input, out: &mut HostOutputs) -> bool {
        let Some(target) = self.mending.get_mut(&replica) else { return false };
        let was_done = target.is_done();
        target.step(input, &mut self.scratch);
        if target.is_done() && !was_done {
            self.scratch.push(Output::Whole);
        }
        out.extend(self.scratch.drain(..).map(|output| (replica, output)));
        true
    }

    /// Routes a peer's message. The caller has checked that the authenticated peer node owns the id it is from. `false`: no such
    /// replica is here.
    pub fn receive(&mut self, now: MonotonicTime, message: PeerMessage, out: &mut HostOutputs) -> bool {
        self.step(now, message.to, Input::Peer(message), out)
    }

    /// The connection to a node broke: every replica that has a member there is told.
    pub fn unreachable(&mut self, now: MonotonicTime, node: NodeId, out: &mut HostOutputs) {
        let there = |replica: &Replica| {
            let members = replica.membership().members().into_iter().filter(|member| member.node() == node);
            members.map(|member| (replica.id(), member)).collect::<Vec<_>>()
        };
        let pairs: Vec<_> = self.replicas.values().flat_map(there).collect();
        for (replica, peer) in pairs {
            self.step(now, replica, Input::Unreachable { peer }, out);
        }
    }

    /// What the node's disk allows from now on: every replica is told, and those that come later.
    pub fn set_disk(&mut self, now: MonotonicTime, disk: DiskState, out: &mut HostOutputs) {
        self.disk = disk;
        for (id, replica) in &mut self.replicas {
            replica.step(now, Input::Disk(disk), &mut self.scratch);
            out.extend(self.scratch.drain(..).map(|output| (*id, output)));
        }
    }

    /// One tick for every replica.
    pub fn tick_all(&mut self, now: MonotonicTime, out: &mut HostOutputs) {
        for (id, replica) in &mut self.replicas {
            replica.step(now, Input::Tick, &mut self.scratch);
            out.extend(self.scratch.drain(..).map(|output| (*id, output)));
        }
        let mending: Vec<ReplicaId> = self.mending.keys().copied().collect();
        for id in mending {
            self.step_mending(id, Input::Tick, out);
        }
    }

    /// The producer table of every replica of a data partition, and the entry it is as of. Left out are those that are just
    /// installing a snapshot: storage has its table already, or keeps the one from before.
    pub fn producer_tables(&self) -> Vec<(ReplicaId, LogIndex, Bytes)> {
        let data = self.replicas.values().filter(|replica| replica.log() != LogId::GROUP_ZERO);
        let table = |replica: &Replica| {
            let (index, bytes) = replica.producer_table()?;
            Some((replica.id(), index, bytes))
        };
        data.filter_map(table).collect()
    }

    /// Those that lead and could hand leadership over: a lone voter can't.
    pub fn led(&self) -> Vec<ReplicaId> {
        let has_other = |replica: &&Replica| replica.membership().voters.iter().any(|voter| *voter != replica.id());
        let led = self.replicas.values().filter(|replica| replica.is_leader()).filter(has_other);
        led.map(Replica::id).collect()
    }

    /// The status of every replica.
    pub fn statuses(&self) -> BTreeMap<ReplicaId, Status> {
        let mending = self.mending.iter().map(|(id, mending)| (*id, mending.status()));
        self.replicas.iter().map(|(id, replica)| (*id, replica.status())).chain(mending).collect()
    }
}
