//! What of a node runs without a socket: its shards, group 0's apply thread, and the replicas found on the disk.

use crate::clock::Clock;
use crate::clock::agreement::ClockAgreement;
use crate::config::NodeConfig;
use crate::metadata::apply_thread::{AppliedWatch, ApplyMessage, ApplyThread};
use crate::metadata::confirmations::{self, Confirmation};
use crate::metrics::Metrics;
use crate::peer::incoming::shard_of;
use crate::peer::outbox::Outboxes;
use crate::peer::synced::SyncedGroups;
use crate::replicas::Replicas;
use crate::scrub::Scrub;
use crate::shard::ShardHandle;
use crate::shard::inbox::{Inbox, ShardMessage, StartReplica};
use crate::shard::start::{self, ShardThreads};
use dlog_consensus::{Membership, StateFound};
use dlog_core::{LogId, LogIndex, ReplicaId, limits};
use dlog_replication::bootstrap::group_zero_replica;
use dlog_replication::reconcile::LocalReplica;
use dlog_replication::{Catalogue, LocalReplicas};
use dlog_storage::state_store::rocks::RocksStateStore;
use dlog_storage::{Identity, OsDisk, SpaceOptions, StateStore};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// The running threads, and what the rest of the node needs of them.
pub struct Engine {
    /// The process's clock.
    pub clock: Clock,
    /// Whether the wall clock may decide.
    pub clock_agreement: Arc<ClockAgreement>,
    /// This node's replicas.
    pub replicas: Arc<Replicas>,
    /// Queues to peers.
    pub outboxes: Arc<Outboxes>,
    /// The catalogue as applied here.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// How far that is.
    pub applied: AppliedWatch,
    /// What leaders here say of their logs' members.
    pub confirmed: tokio::sync::mpsc::Receiver<Confirmation>,
    /// Replicas that stand here, and those that never will again.
    pub local: LocalReplicas,
    /// To be stopped at the end.
    pub threads: EngineThreads,
}

/// The threads of a node.
pub struct EngineThreads {
    shards: Vec<ShardThreads>,
    synced: Arc<SyncedGroups>,
    apply: mpsc::Sender<ApplyMessage>,
    apply_handle: JoinHandle<()>,
    /// The scrub ends once this is gone.
    scrub: mpsc::Sender<()>,
    scrub_handle: JoinHandle<()>,
}

impl EngineThreads {
    /// One handle for each shard, by number.
    pub fn handles(&self) -> Vec<ShardHandle> {
        self.shards.iter().map(|threads| threads.handle.clone()).collect()
    }

    /// How far the shards' journals are synced, for peers.
    pub fn synced(&self) -> Arc<SyncedGroups> {
        Arc::clone(&self.synced)
    }

    /// Ends all threads once everything queued is done. Blocks.
    ///
    /// # Errors
    /// A thread that ended badly.
    pub fn stop(self) -> anyhow::Result<()> {
        drop(self.scrub);
        self.scrub_handle.join().map_err(|_| anyhow::anyhow!("the scrub ended badly"))?;
        for threads in self.shards {
            threads.stop()?;
        }
        let _ = self.apply.send(ApplyMessage::Stop);
        self.apply_handle.join().map_err(|_| anyhow::anyhow!("the apply thread ended badly"))
    }
}

/// Opens everything below the data directory and starts the threads.
///
/// # Errors
/// What keeps a shard or the state store from opening.
pub fn start(
    config: &NodeConfig,
    identity: &Identity,
    disk: &OsDisk,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Engine> {
    let (clock, replicas, outboxes) = (Clock::start(), Arc::<Replicas>::default(), Arc::<Outboxes>::default());
    let (inboxes, queues): (Vec<Inbox>, Vec<_>) = (0..identity.shards).map(|_| Inbox::new()).unzip();
    let (disk_senders, disk_queues): (Vec<_>, Vec<_>) = (0..identity.shards).map(|_| mpsc::channel()).unzip();
    let group_zero = group_zero_replica(identity.node);
    let store = RocksStateStore::open(&config.data_dir.join("state"))?;
    let group_zero_state = StateFound { applied: store.applied(), origin: store.origin()? };
    let group_zero_inbox = inboxes[shard_of(group_zero, inboxes.len())].clone();
    let (apply_thread, catalogue, applied) = ApplyThread::new(store, group_zero_inbox, disk_senders.clone())?;
    let (apply, apply_queue) = mpsc::channel();
    let (confirmations, confirmed) = tokio::sync::mpsc::channel(confirmations::QUEUE_MAX);

    let clock_agreement = Arc::<ClockAgreement>::default();
    let synced = Arc::new(SyncedGroups::new(identity.shards));
    let plan = start::Plan {
        identity,
        disk,
        clock,
        clock_agreement: &clock_agreement,
        replicas: &replicas,
        outboxes: &outboxes,
        apply: &apply,
        confirmations: &confirmations,
        metrics,
        synced: &synced,
        group_zero_state,
        space: space_of(config, identity),
        stall: config.disk_stall,
    };
    let mut shards = Vec::new();
    let (mut standing, mut marks) = (Vec::new(), Vec::new());
    let ends = queues.into_iter().zip(disk_senders.into_iter().zip(disk_queues));
    for ((number, inbox), (queue, disk_ends)) in (0u16..).zip(&inboxes).zip(ends) {
        let started = start::start_shard(&plan, number, inbox.clone(), queue, disk_ends)?;
        standing.extend(started.local);
        marks.extend(started.marks);
        shards.push(started.threads);
    }
    let apply_handle = std::thread::Builder::new().name("dlog-apply".into()).spawn(move || {
        if let Err(error) = apply_thread.run(&apply_queue) {
            crate::fatal(&format!("the state store failed: {error}"));
        }
    })?;
    let (scrub, scrub_end) = mpsc::channel();
    let scrubber = Scrub::new(Arc::clone(&replicas), Arc::clone(metrics), scrub_end);
    let scrub_handle = std::thread::Builder::new().name("dlog-scrub".into()).spawn(move || scrubber.run())?;
    let mut local = LocalReplicas::new(identity.node, standing, marks);
    if local.get(group_zero).is_none() {
        local.add(start_group_zero(identity, group_zero, &inboxes)?);
    }
    let threads = EngineThreads { shards, synced, apply, apply_handle, scrub, scrub_handle };
    Ok(Engine { clock, clock_agreement, replicas, outboxes, catalogue, applied, confirmed, local, threads })
}

/// What of the disk isn't for records: what was asked for, or a part of it.
fn space_of(config: &NodeConfig, identity: &Identity) -> SpaceOptions {
    let of_disk = || crate::metrics::process::disk(&config.data_dir).map_or(0, |(_, size)| size);
    let reserve = config.disk_reserve.unwrap_or_else(|| SpaceOptions::default_reserve(of_disk()));
    SpaceOptions::of_reserve(reserve, identity.shards)
}

/// The first start of group 0 here: its members follow from the bootstrap set alone.
fn start_group_zero(identity: &Identity, replica: ReplicaId, inboxes: &[Inbox]) -> anyhow::Result<LocalReplica> {
    let members = crate::bootstrap::set_of(identity)?.group_zero();
    let preferred = members.voters.first() == Some(&replica);
    inboxes[shard_of(replica, inboxes.len())].send(ShardMessage::Start(StartReplica {
        replica,
        log: LogId::GROUP_ZERO,
        membership: Membership::of_group_zero(members).encode(),
        intent: LogIndex::ZERO,
        preferred,
        segment_bytes: limits::GROUP_ZERO_SEGMENT_BYTES,
        batch_bytes_max: limits::BATCH_BYTES_DEFAULT,
        // Its log is shortened by what its state has synced.
        retention_bytes: None,
        retention_ms: None,
    }));
    Ok(LocalReplica::untold(replica, LogId::GROUP_ZERO, LogIndex::ZERO))
}
