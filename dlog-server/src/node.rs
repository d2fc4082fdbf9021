//! One node from start to stop: lock, identity, cluster, shards, peers, services, in that order, and back.

mod formation;
pub mod notify;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::metadata::apply_thread::{ApplyMessage, ApplyThread};
use crate::metadata::group_zero::GroupZero;
use crate::metadata::reconciler::Reconciler;
use crate::metadata::{leadership, registration};
use crate::peer::address_book::AddressBook;
use crate::peer::hello::HelloCheck;
use crate::peer::incoming::{Formed, shard_of};
use crate::peer::outbox::{Outboxes, Priority};
use crate::peer::outgoing::Outgoing;
use crate::peer::pool::PeerPool;
use crate::replicas::Replicas;
use crate::shard::inbox::{Inbox, ShardMessage, StartReplica};
use crate::shard::start::{self, ShardThreads};
use crate::{ops, service};
use anyhow::Context;
use dlog_consensus::Membership;
use dlog_core::{LogId, LogIndex, NodeId, ReplicaId, limits};
use dlog_replication::bootstrap::group_zero_replica;
use dlog_replication::reconcile::LocalReplica;
use dlog_storage::state_store::rocks::RocksStateStore;
use dlog_storage::{BootTable, DirectoryLock, OsDisk};
use formation::Formation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest time that a stop waits for leadership to be taken over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that a stop waits for requests in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a stop looks whether it can go on.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// A running node.
pub struct Node {
    context: Arc<NodeContext>,
    registered: watch::Receiver<bool>,
    shutdown: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    listeners: Vec<JoinHandle<anyhow::Result<()>>>,
    threads: Vec<ShardThreads>,
    apply: (mpsc::Sender<ApplyMessage>, std::thread::JoinHandle<()>),
    outboxes: Arc<Outboxes>,
    _lock: DirectoryLock,
}

impl Node {
    /// Starts a node: returns once its listeners answer. It may take writes only later, see [`Node::ready`].
    ///
    /// # Errors
    /// What keeps it from starting, and what to do; a directory that needs an operator has its own kind.
    pub async fn start(config: NodeConfig) -> anyhow::Result<Node> {
        config.validate()?;
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("can't make the data directory {}", config.data_dir.display()))?;
        let lock = DirectoryLock::acquire(&config.data_dir)?;
        let client_listener = listen("--listen", config.listen).await?;
        let peer_listener = listen("--peer-listen", config.peer_listen).await?;
        let ops_listener = match config.ops_listen {
            Some(address) => Some(listen("--ops-listen", address).await?),
            None => None,
        };
        if config.insecure {
            tracing::warn!("--insecure: TLS and authentication are off; anyone who reaches the ports can read and write");
        }
        let (shutdown, shutdown_seen) = watch::channel(false);
        let disk = OsDisk::new(&config.data_dir)?;
        let formation = Formation::begin(&config, &disk, peer_listener, shutdown_seen.clone())?;
        let (identity, peer_server, formed) = formation.finish(&config, &disk).await?;
        let clock = Clock::start();

        let book = Arc::new(AddressBook::default());
        for (node, address) in formation::known_addresses(&config, &identity) {
            book.set(node, &address);
        }
        let outboxes = Arc::new(Outboxes::default());
        let replicas = Arc::new(Replicas::default());
        let store = RocksStateStore::open(&config.data_dir.join("state"))?;
        let (shard_inboxes, shard_queues): (Vec<Inbox>, Vec<_>) = (0..identity.shards).map(|_| Inbox::new()).unzip();
        let (disk_senders, disk_queues): (Vec<_>, Vec<_>) = (0..identity.shards).map(|_| mpsc::channel()).unzip();
        let group_zero = group_zero_replica(identity.node);
        let group_zero_inbox = shard_inboxes[shard_of(group_zero, shard_inboxes.len())].clone();
        let (apply_thread, catalogue, applied) = ApplyThread::new(store, group_zero_inbox, disk_senders.clone())?;
        let (apply_sender, apply_queue) = mpsc::channel();

        let plan = start::Plan {
            identity: &identity,
            disk: &disk,
            clock,
            replicas: &replicas,
            outboxes: &outboxes,
            apply: &apply_sender,
            group_zero_applied: *applied.borrow(),
        };
        let mut threads = Vec::new();
        let mut local: BTreeMap<ReplicaId, LocalReplica> = BTreeMap::new();
        let mut marks = BTreeSet::new();
        let ends = shard_queues.into_iter().zip(disk_senders.iter().cloned().zip(disk_queues));
        for ((number, inbox), (queue, disk_ends)) in (0u16..).zip(&shard_inboxes).zip(ends) {
            let started = start::start_shard(&plan, number, inbox.clone(), queue, disk_ends)?;
            local.extend(started.local.into_iter().map(|l| (l.replica, l)));
            marks.extend(started.marks);
            threads.push(started.threads);
        }
        let apply_handle = std::thread::Builder::new().name("dlog-apply".into()).spawn(move || {
            if let Err(error) = apply_thread.run(&apply_queue) {
                crate::fatal(&format!("the state store failed: {error}"));
            }
        })?;
        if !local.contains_key(&group_zero) {
            start_group_zero(&identity, group_zero, &shard_inboxes)?;
            let start = LocalReplica {
                replica: group_zero,
                log: LogId::GROUP_ZERO,
                intent: LogIndex::ZERO,
                settings: None,
            };
            local.insert(group_zero, start);
        }

        let peers = Arc::new(PeerPool::new(identity.cluster, identity.node, Arc::clone(&book)));
        let shards: Vec<_> = threads.iter().map(|t| t.handle.clone()).collect();
        let context = Arc::new(NodeContext {
            group_zero: GroupZero::new(
                identity.node,
                Arc::clone(&replicas),
                Arc::clone(&peers),
                catalogue.clone(),
                applied,
            ),
            config,
            clock,
            shards: shards.clone(),
            replicas,
            catalogue: catalogue.clone(),
            peers,
            stopping: AtomicBool::new(false),
            identity: identity.clone(),
        });
        let boots = BootTable::load(&disk, "")?;
        let own_address = context.config.peer_advertise.clone();
        let hello = Arc::new(HelloCheck::new(identity.clone(), own_address, boots, disk.clone()));
        let _ = formed.set(Formed { context: Arc::clone(&context), hello: Arc::clone(&hello) });

        let meet = meet_peers(&context, &book, &hello, &outboxes, shard_inboxes);
        for node in book.nodes() {
            meet(node);
        }
        let reconciler = Reconciler { node: identity.node, shards, local, marks, book, meet: Box::new(meet) };
        let (registered_sender, registered) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(reconciler.run(catalogue)),
            tokio::spawn(leadership::balance(Arc::clone(&context))),
            tokio::spawn(register(Arc::clone(&context), registered_sender)),
        ];
        let mut listeners = vec![peer_server];
        let seen = shutdown_seen.clone();
        listeners.push(tokio::spawn(service::listener::serve(client_listener, Arc::clone(&context), until(seen))));
        if let Some(listener) = ops_listener {
            let ready = registered.clone();
            listeners.push(tokio::spawn(ops::serve(listener, Arc::clone(&context), ready, until(shutdown_seen))));
        }
        Ok(Node {
            context,
            registered,
            shutdown,
            tasks,
            listeners,
            threads,
            apply: (apply_sender, apply_handle),
            outboxes,
            _lock: lock,
        })
    }

    /// What the services share.
    pub fn context(&self) -> &Arc<NodeContext> {
        &self.context
    }

    /// Waits until writes can be taken: group 0 has a leader and has this node registered. `false` if that never happens.
    pub async fn ready(&self) -> bool {
        self.registered.clone().wait_for(|registered| *registered).await.is_ok()
    }

    /// Stops in order: no new work, leadership handed over, what is in flight finished, files closed.
    ///
    /// # Errors
    /// A thread or listener that ended badly; the data is safe either way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.context.stopping.store(true, Ordering::Release);
        self.hand_over().await;
        let drained = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        while self.context.shards.iter().any(|s| s.inbox.admitted_bytes() > 0) && tokio::time::Instant::now() < drained
        {
            tokio::time::sleep(STOP_LOOK).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        let _ = self.shutdown.send(true);
        for listener in self.listeners {
            match tokio::time::timeout(DRAIN_TIMEOUT, listener).await {
                Ok(Ok(Ok(()))) | Err(_) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%error, "a listener ended badly"),
                Ok(Err(error)) => tracing::warn!(%error, "a listener ended badly"),
            }
        }
        self.outboxes.close();
        let (apply, apply_handle) = self.apply;
        let threads = self.threads;
        tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.stop()?;
            }
            let _ = apply.send(ApplyMessage::Stop);
            apply_handle.join().map_err(|_| anyhow::anyhow!("the apply thread ended badly"))
        })
        .await?
    }

    /// Asks again until nothing is led here that another could lead, or until time is up.
    async fn hand_over(&self) {
        let deadline = tokio::time::Instant::now() + HAND_OVER_TIMEOUT;
        loop {
            let mut led = 0;
            for shard in &self.context.shards {
                let (reply, answer) = tokio::sync::oneshot::channel();
                if shard.inbox.send(ShardMessage::HandOver { reply }) {
                    led += answer.await.unwrap_or(0);
                }
            }
            if led == 0 || tokio::time::Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(STOP_LOOK).await;
        }
    }
}

async fn listen(flag: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("can't listen on {address} ({flag}): is another node running there? choose another port or stop it")
    })
}

/// Resolves once the node shuts down.
async fn until(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|down| *down).await;
}

/// The first start of group 0 here: its members follow from the bootstrap set alone.
fn start_group_zero(
    identity: &dlog_storage::Identity,
    replica: ReplicaId,
    inboxes: &[Inbox],
) -> anyhow::Result<()> {
    let members = crate::bootstrap::set_of(identity)?.group_zero();
    let preferred = members.voters.first() == Some(&replica);
    let mut membership = Membership::of_voters(members.voters);
    membership.learners.extend(members.learners);
    inboxes[shard_of(replica, inboxes.len())].send(ShardMessage::Start(StartReplica {
        replica,
        log: LogId::GROUP_ZERO,
        membership: membership.encode(),
        intent: LogIndex::ZERO,
        preferred,
        segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
        batch_bytes_max: limits::BATCH_BYTES_DEFAULT,
    }));
    Ok(())
}

/// A function that opens the two streams to a peer, once.
fn meet_peers(
    context: &Arc<NodeContext>,
    book: &Arc<AddressBook>,
    hello: &Arc<HelloCheck>,
    outboxes: &Arc<Outboxes>,
    inboxes: Vec<Inbox>,
) -> impl Fn(NodeId) + Send + 'static {
    let (own, book, hello, outboxes) = (context.node_id(), Arc::clone(book), Arc::clone(hello), Arc::clone(outboxes));
    let runtime = tokio::runtime::Handle::current();
    move |node| {
        if node == own {
            return;
        }
        for priority in Priority::ALL {
            if let Some(queue) = outboxes.open(node, priority) {
                let stream = Outgoing {
                    node,
                    priority,
                    book: Arc::clone(&book),
                    hello: Arc::clone(&hello),
                    inboxes: inboxes.clone(),
                };
                runtime.spawn(stream.run(queue));
            }
        }
    }
}

async fn register(context: Arc<NodeContext>, registered: watch::Sender<bool>) {
    match registration::register(&context).await {
        Ok(()) => {
            registered.send_replace(true);
        }
        Err(rejection) => crate::fatal(&format!("the cluster refuses this node: {rejection}")),
    }
}
