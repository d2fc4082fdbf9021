//! A node whose shard is played by the test: real services, a real listener and real segments, without consensus.

use super::lookup::tests::catalogue;
use crate::clock::Clock;
use crate::config::ServeArgs;
use crate::context::NodeContext;
use crate::metadata::group_zero::GroupZero;
use crate::metadata::producer_ids::ProducerIds;
use crate::peer::pool::PeerPool;
use crate::replicas::{ReplicaHandle, ReplicaProgress, Replicas};
use crate::shard::ShardHandle;
use crate::shard::inbox::{Inbox, ProposeRequest, ShardMessage};
use bytes::Bytes;
use dlog_consensus::{Appended, Reply, Role};
use dlog_core::write::LogPoint;
use dlog_core::{Frame, FrameKind, LogIndex, NodeId, Offset, PartitionIndex, ReplicaId, Term, batch};
use dlog_protocol::services;
use dlog_protocol::v1::log_client::LogClient;
use dlog_replication::Catalogue;
use dlog_storage::{ClusterId, DirectoryId, Identity, Log, LogIdentity, LogOptions, OsDisk, TailCache};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);
const TERM: Term = Term(3);

/// The shard's side of partition 0 of topic `a`.
struct Shard {
    log: Log<OsDisk>,
    at: LogPoint,
    progress: Option<watch::Sender<ReplicaProgress>>,
    hold: bool,
    held: Vec<ProposeRequest>,
}

/// Node 1 of three; the other two don't answer.
pub(super) struct TestNode {
    pub(super) context: Arc<NodeContext>,
    pub(super) catalogue: watch::Sender<Arc<Catalogue>>,
    shard: Arc<Mutex<Shard>>,
    pub(super) address: String,
    shutdown: Option<oneshot::Sender<()>>,
    pub(super) server: tokio::task::JoinHandle<anyhow::Result<()>>,
    _dir: tempfile::TempDir,
}

impl Shard {
    fn append(&mut self, request: ProposeRequest) {
        let mut appended = Vec::new();
        for bytes in &request.batches {
            let base = self.at.next_offset;
            let payload = batch::stamp(bytes, base, TERM, request.append_time);
            let count = batch::BatchHeader::decode(bytes).expect("the service validates").record_count;
            let log = self.log.reader().identity().log;
            let index = self.at.index.next();
            let frame = Frame::new(log, FrameKind::Records, TERM, index, base, count, self.at.crc, payload);
            self.at = LogPoint { index, term: TERM, next_offset: base.plus(count.into()), crc: frame.crc };
            self.log.append(&[frame]).expect("there is space");
            appended.push(Appended {
                base_offset: base,
                last_offset: base.plus(u64::from(count) - 1),
                duplicate: false,
            });
        }
        let (index, end) = (self.at.index, self.at.next_offset);
        self.change(|p| (p.commit, p.high_watermark, p.read_bound, p.log_end) = (index, end, end, end));
        let _ = request.reply.send(Ok(Reply::Appended(appended)));
    }

    fn change(&self, change: impl FnOnce(&mut ReplicaProgress)) {
        self.progress.as_ref().expect("not removed").send_modify(change);
    }

    fn take(&mut self, message: ShardMessage) {
        match message {
            ShardMessage::Propose(request) if self.hold => self.held.push(request),
            ShardMessage::Propose(request) => self.append(request),
            ShardMessage::ReadIndex { reply, .. } => {
                let high_watermark = self.at.next_offset;
                let _ = reply.send(Ok(Reply::ReadIndex { high_watermark, index: self.at.index }));
            }
            _ => {}
        }
    }
}

fn identity() -> Identity {
    let mut identity = Identity::new("n1", 1, DirectoryId([1; 16]));
    identity.node = NodeId(1);
    identity.cluster = CLUSTER;
    identity.begin_boot(5);
    identity
}

fn leading(replica: ReplicaId) -> ReplicaProgress {
    ReplicaProgress {
        high_watermark: Offset::ZERO,
        commit: LogIndex::ZERO,
        read_bound: Offset::ZERO,
        log_end: Offset::ZERO,
        log_start: Offset::ZERO,
        term: TERM,
        role: Role::Leader,
        leader: Some(replica),
    }
}

impl TestNode {
    /// Starts it, leading partition 0 of topic `a`.
    pub(super) async fn start() -> TestNode {
        let dir = tempfile::tempdir().expect("a folder");
        let known = catalogue();
        let topic = known.topic_by_name("a").expect("made").topic;
        let partition = known.partition(topic, PartitionIndex(0)).expect("made").clone();
        let replica = partition.replica_on(NodeId(1)).expect("three nodes, three replicas");
        let log_identity = LogIdentity { cluster: CLUSTER, log: partition.log, replica };
        let options = LogOptions { segment_bytes: 1 << 20, index_interval_bytes: 4096 };
        let disk = OsDisk::new(dir.path()).expect("a folder");
        let log = Log::create(disk, "log", log_identity, LogPoint::default(), options, TailCache::new(1 << 20))
            .expect("there is space");

        let (inbox, queue) = Inbox::new();
        let (progress, progress_watch) = watch::channel(leading(replica));
        let replicas = Arc::new(Replicas::default());
        let reader = Some(log.reader());
        replicas.insert(Arc::new(ReplicaHandle::new(partition.log, replica, inbox.clone(), progress_watch, reader)));
        let shard = Shard { log, at: LogPoint::default(), progress: Some(progress), hold: false, held: Vec::new() };
        let shard = Arc::new(Mutex::new(shard));
        let thread_shard = Arc::clone(&shard);
        std::thread::spawn(move || {
            while let Ok(message) = queue.recv() {
                thread_shard.lock().expect("no holder panics").take(message);
            }
        });

        let (catalogue, catalogue_watch) = watch::channel(Arc::new(known));
        let (_, applied) = watch::channel(LogIndex::ZERO);
        let peers = Arc::new(PeerPool::new(CLUSTER, NodeId(1), Arc::default()));
        let args = ServeArgs { name: Some("n1".into()), data_dir: Some(dir.path().into()), ..ServeArgs::default() };
        let handle = ShardHandle {
            inbox,
            status: Arc::default(),
            disk: mpsc::channel().0,
            sync_times: Arc::default(),
            disk_health: Arc::default(),
        };
        let context = Arc::new(NodeContext {
            config: args.into_config().expect("valid"),
            identity: identity(),
            clock: Clock::start(),
            clock_agreement: Arc::default(),
            shards: vec![handle],
            group_zero: GroupZero::new(
                NodeId(1),
                Arc::clone(&replicas),
                Arc::clone(&peers),
                catalogue_watch.clone(),
                applied,
            ),
            replicas,
            catalogue: catalogue_watch,
            peers,
            producer_ids: ProducerIds::default(),
            metrics: Arc::default(),
            stopping: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (shutdown, down) = oneshot::channel();
        let server = tokio::spawn(super::listener::serve(listener, Arc::clone(&context), async {
            let _ = down.await;
        }));
        TestNode { context, catalogue, shard, address, shutdown: Some(shutdown), server, _dir: dir }
    }

    pub(super) async fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).expect("an address").connect().await.expect("it listens")
    }

    pub(super) async fn log(&self) -> LogClient<Channel> {
        services::log_client(self.channel().await)
    }

    /// From now on proposals wait for [`TestNode::release`].
    pub(super) fn hold(&self) {
        self.shard.lock().expect("no holder panics").hold = true;
    }

    /// Appends what was held, in order.
    pub(super) fn release(&self) {
        let mut shard = self.shard.lock().expect("no holder panics");
        shard.hold = false;
        for request in std::mem::take(&mut shard.held) {
            shard.append(request);
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ReplicaProgress)) {
        self.shard.lock().expect("no holder panics").change(change);
    }

    /// The replica follows node 2.
    pub(super) fn follow(&self) {
        self.change(|p| (p.role, p.leader) = (Role::Follower, Some(ReplicaId::new(NodeId(2), 2))));
    }

    /// The replica leaves the node.
    pub(super) fn remove_replica(&self) {
        let mut shard = self.shard.lock().expect("no holder panics");
        self.context.replicas.remove(shard.log.reader().identity().replica);
        shard.progress = None;
    }

    /// Stops as a node does.
    pub(super) fn stop(&mut self) {
        self.context.stopping.store(true, Ordering::Release);
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }
}

/// A batch of `records` records, all of this time.
pub(super) fn batch_of(records: u32, time: i64) -> Bytes {
    let mut builder = dlog_core::BatchBuilder::new(dlog_core::Codec::None);
    for _ in 0..records {
        builder.push(&dlog_core::Record::new(dlog_core::TimestampMs(time), &b"value"[..])).expect("fits");
    }
    builder.build().expect("records")
}
