//! Writers through the client library; readers by hand, each bound to one node and one kind of read.

use crate::wire;
use dlog_client::{Client, ClientOptions, ProducerOptions, Record, TimestampMs};
use dlog_cluster_tests::realtime::{AckAt, ReadAt};
use dlog_protocol::v1::log_client::LogClient;
use dlog_protocol::v1::{ConsumeRequest, ListOffsetsRequest};
use dlog_protocol::{services, status};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The topic, of one partition.
pub const TOPIC: &str = "linearizable";
const WRITERS: usize = 2;
/// Between two records of a writer, and two reads of a reader.
const PACE: Duration = Duration::from_millis(5);
/// For one record, retries included.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// For one read. Longer than a node is paused, so that what it was asked before and answers when it wakes counts.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// What the replica may take for it, in milliseconds.
const MAX_WAIT_MS: u32 = 2_000;

/// Which promise a read has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Everything acked before.
    Linearizable,
    /// What this replica knows.
    Committed,
}

/// What the load saw.
#[derive(Debug)]
pub struct Load {
    servers: Vec<String>,
    began: Instant,
    stop: AtomicBool,
    /// Records acked so far.
    pub acked: AtomicUsize,
    acks: Mutex<Vec<AckAt>>,
    reads: Mutex<BTreeMap<Kind, Vec<ReadAt>>>,
    /// Reads that failed, by kind and node, and what they were told.
    failed: Mutex<BTreeMap<(Kind, usize), BTreeMap<String, usize>>>,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// A load on the cluster at these addresses.
    pub fn new(servers: &str) -> Load {
        Load {
            servers: servers.split(',').map(str::to_owned).collect(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            acked: AtomicUsize::new(0),
            acks: Mutex::default(),
            reads: Mutex::default(),
            failed: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Ends it once what is under way is done.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Every ack.
    pub fn acks(&self) -> Vec<AckAt> {
        self.acks.lock().expect("no holder panics").clone()
    }

    /// Every read of a kind that ended well.
    pub fn reads(&self, kind: Kind) -> Vec<ReadAt> {
        self.reads.lock().expect("no holder panics").get(&kind).cloned().unwrap_or_default()
    }

    /// How often what was answered instead.
    pub fn failed(&self) -> BTreeMap<(Kind, usize), BTreeMap<String, usize>> {
        self.failed.lock().expect("no holder panics").clone()
    }

    /// What should never have been answered.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().expect("no holder panics").clone()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short test")
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell_wrong(&self, text: String) {
        eprintln!("linearizable: {text}");
        self.wrong.lock().expect("no holder panics").push(text);
    }
}

/// Writes and reads until it is stopped.
pub async fn run(load: &'static Load) {
    let mut tasks: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(load))).collect();
    for node in 0..load.servers.len() {
        tasks.push(tokio::spawn(read(load, node, Kind::Linearizable)));
        tasks.push(tokio::spawn(read(load, node, Kind::Committed)));
    }
    for task in tasks {
        task.await.expect("no task panics");
    }
}

async fn write(load: &'static Load) {
    let options = ClientOptions::new(load.servers.clone()).with_timeout(WRITE_TIMEOUT);
    let client = Client::connect(options).await.expect("the cluster is up");
    let producer = client.producer(ProducerOptions { timeout: WRITE_TIMEOUT, ..ProducerOptions::default() });
    let producer = producer.expect("good options");
    while !load.is_stopped() {
        let delivered = match producer.send(TOPIC, Some(0), Record::new(TimestampMs::NONE, &b"value"[..])).await {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        match delivered {
            Ok(at) => {
                load.acks.lock().expect("no holder panics").push(AckAt { at: load.now(), offset: at.offset.0 });
                load.acked.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => load.tell_wrong(format!("a write failed: {error}")),
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Asks one node where the log ends, by reading it and by asking for its offsets in turn.
async fn read(load: &'static Load, node: usize, kind: Kind) {
    let endpoint = Endpoint::from_shared(format!("http://{}", load.servers[node])).expect("an address");
    let endpoint = endpoint.connect_timeout(Duration::from_secs(1));
    let mut log = services::log_client(endpoint.connect_lazy());
    let mut end = 0;
    for count in 0.. {
        if load.is_stopped() {
            return;
        }
        let began = load.now();
        let result = tokio::time::timeout(READ_TIMEOUT, async {
            if count % 2 == 0 { consume(&mut log, end, kind).await } else { offsets(&mut log, kind).await }
        });
        match result.await {
            Ok(Ok(found)) => {
                let read = ReadAt { began, ended: load.now(), end: found, node };
                load.reads.lock().expect("no holder panics").entry(kind).or_default().push(read);
                // Where this replica is known to be, so that a committed read never waits for more.
                end = end.max(found);
            }
            Ok(Err(status)) => note_failure(load, node, kind, &status),
            Err(_) => note_failure(load, node, kind, &Status::deadline_exceeded("no answer")),
        }
        tokio::time::sleep(PACE).await;
    }
}

fn note_failure(load: &Load, node: usize, kind: Kind, status: &Status) {
    let detail = status::from_status(status);
    let broken = matches!(detail.stage, dlog_client::Stage::Connection);
    if !detail.is_retryable() && !broken && status.code() != tonic::Code::DeadlineExceeded {
        load.tell_wrong(format!("a {kind:?} read from node {} failed for good: {detail}", node + 1));
    }
    let mut failed = load.failed.lock().expect("no holder panics");
    *failed.entry((kind, node)).or_default().entry(detail.code.to_string()).or_default() += 1;
}

/// Where the stream ended that began at `from`.
async fn consume(log: &mut LogClient<Channel>, from: u64, kind: Kind) -> Result<u64, Status> {
    let request = ConsumeRequest {
        topic: wire::topic(TOPIC),
        from,
        max_wait_ms: MAX_WAIT_MS,
        linearizable: kind == Kind::Linearizable,
        ..ConsumeRequest::default()
    };
    let mut answers = log.consume(request).await?.into_inner();
    let mut end = from;
    while let Some(answer) = answers.message().await? {
        end = answer.next_offset;
    }
    Ok(end)
}

async fn offsets(log: &mut LogClient<Channel>, kind: Kind) -> Result<u64, Status> {
    let request = ListOffsetsRequest {
        topic: wire::topic(TOPIC),
        partitions: vec![0],
        local: true,
        linearizable: kind == Kind::Linearizable,
        ..ListOffsetsRequest::default()
    };
    let answer = log.list_offsets(request).await?.into_inner();
    let partition = answer.partitions.into_iter().next().ok_or_else(|| Status::internal("no partition"))?;
    match partition.error {
        None => Ok(partition.high_watermark),
        Some(error) => Err(status::to_status(&status::from_message(error))),
    }
}
