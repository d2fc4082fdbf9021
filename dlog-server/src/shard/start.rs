//! From a shard's files to its running threads.

use super::consensus_thread::{ConsensusThread, Exits, ShardStatus};
use super::disk_health::{DiskHealth, DiskWatch};
use super::disk_thread::{DiskMessage, DiskThread};
use super::inbox::{Inbox, ShardMessage};
use super::read_thread::ReadRequest;
use super::repair::{Loaded, RepairMessage};
use super::restore::{RestoreError, restore};
use super::room::Room;
use super::sync_times::SyncTimes;
use super::{ShardHandle, read_thread};
use crate::clock::Clock;
use crate::clock::agreement::ClockAgreement;
use crate::metadata::apply_thread::ApplyMessage;
use crate::metadata::confirmations::Confirmation;
use crate::metrics::Metrics;
use crate::peer::outbox::Outboxes;
use crate::peer::synced::SyncedGroups;
use crate::random::random_seed;
use crate::replicas::{ReplicaProgress, Replicas};
use anyhow::Context;
use dlog_consensus::{Host, Mending, Replica, StateFound};
use dlog_core::write::RestoredReplica;
use dlog_core::{LogId, ReplicaId, ShardId};
use dlog_replication::reconcile::LocalReplica;
use dlog_storage::space_keeper::open_store;
use dlog_storage::{
    Identity, LogReader, OsDisk, ShardIdentity, ShardStore, SpaceKeeper, SpaceOptions, StallBounds, StoreOptions,
};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// What all shards of a node are started with.
pub struct Plan<'a> {
    /// The node.
    pub identity: &'a Identity,
    /// The data directory.
    pub disk: &'a OsDisk,
    /// The process's clock.
    pub clock: Clock,
    /// Whether the wall clock may decide.
    pub clock_agreement: &'a Arc<ClockAgreement>,
    /// Where replicas are registered.
    pub replicas: &'a Arc<Replicas>,
    /// Queues to peers.
    pub outboxes: &'a Arc<Outboxes>,
    /// The apply thread.
    pub apply: &'a mpsc::Sender<ApplyMessage>,
    /// What leaders say of their logs' members.
    pub confirmations: &'a tokio::sync::mpsc::Sender<Confirmation>,
    /// The node's counters.
    pub metrics: &'a Arc<Metrics>,
    /// What peers are told of the journals.
    pub synced: &'a Arc<SyncedGroups>,
    /// What group 0's state store holds.
    pub group_zero_state: StateFound,
    /// What isn't for records.
    pub space: SpaceOptions,
    /// How long the disk may take.
    pub stall: StallBounds,
}

/// A shard that runs.
pub struct Started {
    /// Its threads.
    pub threads: ShardThreads,
    /// The replicas found on its disk.
    pub local: Vec<LocalReplica>,
    /// Replicas that must never be started again.
    pub marks: Vec<ReplicaId>,
}

/// The threads of a shard.
pub struct ShardThreads {
    /// The way in.
    pub handle: ShardHandle,
    consensus: JoinHandle<()>,
    disk: JoinHandle<()>,
}

impl ShardThreads {
    /// Ends the threads once everything queued is done, and closes the files cleanly.
    ///
    /// # Errors
    /// A thread that panicked.
    pub fn stop(self) -> anyhow::Result<()> {
        self.handle.inbox.send(ShardMessage::Stop);
        self.consensus.join().map_err(|_| anyhow::anyhow!("a consensus thread ended badly"))?;
        self.disk.join().map_err(|_| anyhow::anyhow!("a disk thread ended badly"))
    }
}

/// Opens a shard's store, restores its replicas and starts its threads.
///
/// # Errors
/// What keeps the store from opening, or a replica from going on.
pub fn start_shard(
    plan: &Plan<'_>,
    number: u16,
    inbox: Inbox,
    queue: mpsc::Receiver<ShardMessage>,
    (disk_sender, disk_queue): (mpsc::Sender<DiskMessage>, mpsc::Receiver<DiskMessage>),
) -> anyhow::Result<Started> {
    let identity = ShardIdentity { cluster: plan.identity.cluster, shard: ShardId(number) };
    let (store, restored) = open_store(plan.disk, identity, StoreOptions::default())
        .with_context(|| format!("shard {number} can't be opened"))?;
    let keeper = SpaceKeeper::open(plan.disk.clone(), identity.shard, plan.space)?;
    inbox.send(ShardMessage::Space(keeper.space()));
    plan.synced.begin(identity.shard, store.last_group());
    let marks = store.known_marks().map(|(replica, _)| replica).collect();
    let mut host = Host::new(random_seed());
    let untold = |replica: &RestoredReplica| LocalReplica::untold(replica.replica, replica.log, replica.intent);
    let local = restored.iter().map(untold).collect();
    let adopted = restored
        .into_iter()
        .map(|replica| take_in(plan, &store, replica, &mut host))
        .collect::<anyhow::Result<Vec<Adopted>>>()?;
    for (replica, error) in store.damage() {
        if let Some(segment) = error.segment() {
            tracing::error!(%replica, %error, "damage was found at the start");
            inbox.send(ShardMessage::Repair(RepairMessage::Met { replica, segment }));
        }
    }
    let (sync_times, status) = (Arc::new(SyncTimes::default()), ShardStatus::default());
    let disk_health = Arc::<DiskHealth>::default();
    let (read_sender, read_queue) = mpsc::channel();
    let exits = exits(plan, disk_sender.clone(), read_sender);
    let mut consensus = ConsensusThread::new(
        host,
        plan.clock,
        inbox.clone(),
        queue,
        exits,
        Arc::clone(plan.replicas),
        (Arc::clone(&status), DiskWatch::new(Arc::clone(&disk_health), plan.stall)),
    );
    for (log, replica, progress, reader) in adopted {
        consensus.adopt(log, replica, progress, reader);
    }
    let disk = DiskThread::new(
        (store, Room::new(keeper, Arc::clone(&disk_health))),
        disk_queue,
        inbox.clone(),
        Arc::clone(plan.replicas),
        Arc::clone(&sync_times),
        Arc::clone(plan.metrics),
        (identity.shard, Arc::clone(plan.synced)),
    );
    let threads = ShardThreads {
        handle: ShardHandle { inbox: inbox.clone(), status, disk: disk_sender, sync_times, disk_health },
        disk: spawn(format!("dlog-disk-{number}"), move || {
            if let Err(error) = disk.run() {
                crate::fatal(&format!("shard {number}'s disk: {error}"));
            }
        })?,
        consensus: spawn(format!("dlog-raft-{number}"), move || consensus.run())?,
    };
    let replicas = Arc::clone(plan.replicas);
    // Ends with its queue, which the consensus thread holds.
    let state = plan.group_zero_state.clone();
    spawn(format!("dlog-read-{number}"), move || read_thread::run(&read_queue, &inbox, &replicas, &state))?;
    Ok(Started { threads, local, marks })
}

/// A replica that was found: its log, its id, how far it is, and what reads it.
type Adopted = (LogId, ReplicaId, ReplicaProgress, Option<LogReader<OsDisk>>);

/// Puts a restored replica into the host, running or waiting.
fn take_in(
    plan: &Plan<'_>,
    store: &ShardStore<OsDisk>,
    restored: RestoredReplica,
    host: &mut Host,
) -> anyhow::Result<Adopted> {
    let (log, id, reader) = (restored.log, restored.replica, store.reader(restored.replica));
    let loaded = bring_up(store, reader.as_ref(), restored, &plan.group_zero_state, host.draw_seed());
    let progress = match loaded.with_context(|| format!("replica {id} of log {log} can't go on"))? {
        Loaded::Running(machine) => {
            let progress = progress_of(&machine);
            host.add(*machine);
            progress
        }
        Loaded::Waits(mending) => {
            plan.metrics.faults_found.add(mending.faults().len() as u64);
            host.add_mending(*mending);
            ReplicaProgress::default()
        }
    };
    Ok((log, id, progress, reader))
}

/// Loads a replica. One that has lost what no frames can give back stands still: the rest of the node goes on.
fn bring_up(
    store: &ShardStore<OsDisk>,
    reader: Option<&LogReader<OsDisk>>,
    restored: RestoredReplica,
    group_zero_state: &StateFound,
    seed: u64,
) -> Result<Loaded, RestoreError> {
    let replica = restored.replica;
    let lost = store.damage().into_iter().find(|(of, error)| *of == replica && error.segment().is_none());
    let Some((_, error)) = lost else { return restore(reader, restored, group_zero_state, seed) };
    tracing::error!(%replica, %error, "a replica can't start; move it to another node");
    Ok(Loaded::Waits(Box::new(Mending::stuck(restored, error.to_string())?)))
}

/// Where the shard's consensus thread sends what it has for others.
fn exits(plan: &Plan<'_>, disk: mpsc::Sender<DiskMessage>, reads: mpsc::Sender<ReadRequest>) -> Exits {
    Exits {
        disk,
        reads,
        apply: plan.apply.clone(),
        confirmations: plan.confirmations.clone(),
        outboxes: Arc::clone(plan.outboxes),
        metrics: Arc::clone(plan.metrics),
        clock_agreement: Arc::clone(plan.clock_agreement),
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body).context("can't start a thread")
}

/// How far a machine is, for services.
pub fn progress_of(machine: &Replica) -> ReplicaProgress {
    let (progress, role) = (machine.progress(), machine.role());
    ReplicaProgress {
        high_watermark: progress.high_watermark,
        commit: progress.commit,
        read_bound: progress.read_bound,
        log_end: progress.log_end,
        log_start: progress.log_start,
        term: role.term,
        role: role.role,
        leader: role.leader,
    }
}
