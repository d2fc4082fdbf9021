//! One node from start to stop: lock, identity, cluster, shards, peers, services, in that order, and back.

mod engine;
mod formation;
pub mod notify;

use crate::clock::agreement;
use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::metadata::group_zero::GroupZero;
use crate::metadata::producer_ids::ProducerIds;
use crate::metadata::reconciler::Reconciler;
use crate::metadata::{confirmations, leadership, registration, voters};
use crate::metrics::Metrics;
use crate::metrics::page::Page;
use crate::metrics::process;
use crate::peer::address_book::AddressBook;
use crate::peer::hello::HelloCheck;
use crate::peer::incoming::Formed;
use crate::peer::outbox::{Outboxes, Priority};
use crate::peer::outgoing::Outgoing;
use crate::peer::pool::PeerPool;
use crate::shard::inbox::{Inbox, ShardMessage};
use crate::{ops, service};
use anyhow::Context;
use dlog_core::{NodeId, limits};
use dlog_storage::{BootTable, DirectoryLock, OsDisk};
use engine::{Engine, EngineThreads};
use formation::Formation;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest time that a stop waits for leadership to be taken over: some milliseconds are usual, and nobody takes it while
/// the other nodes stop too.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time that a stop waits for requests in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a stop looks whether it can go on.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// File descriptors that a node may come to use: a connection for each client, and some thousand files.
const FDS_WANTED: u64 = limits::CONNECTIONS_MAX as u64 + 4096;

/// A running node.
pub struct Node {
    context: Arc<NodeContext>,
    registered: watch::Receiver<bool>,
    shutdown: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    listeners: Vec<JoinHandle<anyhow::Result<()>>>,
    threads: EngineThreads,
    outboxes: Arc<Outboxes>,
    hello: Arc<HelloCheck>,
    _lock: DirectoryLock,
}

impl Node {
    /// Starts a node: returns once its listeners answer. It may take writes only later, see [`Node::ready`].
    ///
    /// # Errors
    /// What keeps it from starting, and what to do; a directory that needs an operator has its own kind.
    pub async fn start(config: NodeConfig) -> anyhow::Result<Node> {
        config.validate()?;
        let lock = prepare(&config)?;
        let client_listener = listen("--listen", config.listen).await?;
        let peer_listener = listen("--peer-listen", config.peer_listen).await?;
        let ops_listener = match config.ops_listen {
            Some(address) => Some(listen("--ops-listen", address).await?),
            None => None,
        };
        let (shutdown, shutdown_seen) = watch::channel(false);
        let disk = OsDisk::new(&config.data_dir)?;
        let metrics = Arc::<Metrics>::default();
        let stats = Arc::clone(&metrics.doors.peer);
        let formation = Formation::begin(&config, &disk, peer_listener, stats, shutdown_seen.clone())?;
        let (identity, peer_server, formed) = formation.finish(&config, &disk).await?;
        let book = Arc::new(AddressBook::default());
        for (node, address) in formation::known_addresses(&config, &identity) {
            book.set(node, &address);
        }
        let Engine { clock, clock_agreement, replicas, outboxes, catalogue, applied, confirmed, local, threads } =
            engine::start(&config, &identity, &disk, &metrics)?;
        let peers = Arc::new(PeerPool::new(identity.cluster, identity.node, Arc::clone(&book)));
        let known = catalogue.clone();
        let context = Arc::new(NodeContext {
            group_zero: GroupZero::new(identity.node, Arc::clone(&replicas), Arc::clone(&peers), known, applied),
            config,
            clock,
            clock_agreement,
            shards: threads.handles(),
            replicas,
            catalogue: catalogue.clone(),
            peers,
            producer_ids: ProducerIds::default(),
            metrics,
            stopping: AtomicBool::new(false),
            identity: identity.clone(),
        });
        let (boots, own_address) = (BootTable::load(&disk, "")?, context.config.peer_advertise.clone());
        let hello = Arc::new(HelloCheck::new(identity.clone(), own_address, boots, disk, threads.synced()));
        let _ = formed.set(Formed { context: Arc::clone(&context), hello: Arc::clone(&hello) });

        let inboxes = context.shards.iter().map(|s| s.inbox.clone()).collect();
        let meet = meet_peers(&context, &book, &hello, &outboxes, inboxes);
        for node in book.nodes() {
            meet(node);
        }
        let reconciler = Reconciler { shards: context.shards.clone(), local, book, meet: Box::new(meet) };
        let (registered_sender, registered) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(reconciler.run(catalogue)),
            tokio::spawn(leadership::balance(Arc::clone(&context))),
            tokio::spawn(confirmations::propose(Arc::clone(&context), confirmed)),
            tokio::spawn(voters::keep_healthy(Arc::clone(&context))),
            tokio::spawn(agreement::compare(Arc::clone(&context))),
            tokio::spawn(Arc::clone(&hello).keep_told()),
            tokio::spawn(register(Arc::clone(&context), registered_sender)),
        ];
        let mut listeners = vec![peer_server];
        let seen = shutdown_seen.clone();
        listeners.push(tokio::spawn(service::listener::serve(client_listener, Arc::clone(&context), until(seen))));
        if let Some(listener) = ops_listener {
            let ready = registered.clone();
            let page = Page { context: Arc::clone(&context), outboxes: Arc::clone(&outboxes) };
            listeners.push(tokio::spawn(ops::serve(listener, page, ready, until(shutdown_seen))));
        }
        Ok(Node { context, registered, shutdown, tasks, listeners, threads, outboxes, hello, _lock: lock })
    }

    /// What the services share.
    pub fn context(&self) -> &Arc<NodeContext> {
        &self.context
    }

    /// Waits until writes can be taken: group 0 has a leader and has this node registered. `false` if that never happens.
    pub async fn ready(&self) -> bool {
        self.registered.clone().wait_for(|registered| *registered).await.is_ok()
    }

    /// Waits until a peer refuses this start for good, if one ever does, with its words: the directory has forgotten what the
    /// node had said, and the node must not go on.
    pub async fn refused(&self) -> String {
        self.hello.refused().await
    }

    /// Stops in order: no new work, leadership handed over, what is in flight finished, files closed.
    ///
    /// # Errors
    /// A thread or listener that ended badly; the data is safe either way.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.context.stopping.store(true, Ordering::Release);
        self.hand_over().await;
        self.stop_with_cluster().await
    }

    /// As [`Node::stop`], where every other node stops too: there is nobody to hand leadership to.
    ///
    /// # Errors
    /// As [`Node::stop`].
    pub async fn stop_with_cluster(self) -> anyhow::Result<()> {
        self.context.stopping.store(true, Ordering::Release);
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
        let (threads, hello) = (self.threads, self.hello);
        tokio::task::spawn_blocking(move || {
            hello.save_told();
            threads.stop()
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

/// Readies what a node needs before anything of it runs: descriptors, its directory, the lock on it.
fn prepare(config: &NodeConfig) -> anyhow::Result<DirectoryLock> {
    let descriptors = process::raise_fd_limit();
    if let Some(max) = descriptors.filter(|max| *max < FDS_WANTED) {
        tracing::warn!(max, wanted = FDS_WANTED, "few file descriptors: raise the hard limit (ulimit -Hn)");
    }
    // Records are nobody else's business; a directory that is there already keeps the mode that it was given.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("can't make the data directory {}", config.data_dir.display()))?;
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    if config.insecure {
        tracing::warn!("--insecure: TLS and authentication are off; anyone who reaches the ports can read and write");
    }
    Ok(lock)
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
