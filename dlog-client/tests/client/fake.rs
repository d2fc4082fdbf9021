//! A cluster that isn't one: several addresses over one shared state, whose every answer a test can bend. It keeps what the
//! client relies on (sequences, one order, marks) and nothing else.

mod catalogue;
mod log;
mod records;
mod routes;

use bytes::Bytes;
use dlog_client::{Client, ClientOptions};
use dlog_core::{ErrorCode, ErrorDetail, NodeId, Stage};
use dlog_protocol::{ConsumeInput, ListOffsetsInput, ProduceInput};
use log::FakeLog;
use routes::Routes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

pub const TOPIC: &str = "t";
pub const TOPIC_ID: u64 = 5;

/// What a node does with a produce request.
pub enum Action {
    /// What a good node does.
    Serve,
    /// Append, but end the stream instead of answering.
    AppendAndCut,
    /// End the stream without appending.
    Cut,
    /// Never answer.
    Ignore,
    /// Append, but never answer.
    AppendAndIgnore,
    Refuse(ErrorDetail),
}

type ProduceRule = Box<dyn FnMut(u32, &ProduceInput) -> Action + Send>;
type ConsumeRule = Box<dyn FnMut(u32, Bytes) -> Result<Bytes, Status> + Send>;

pub struct State {
    pub cluster_id: [u8; 16],
    pub addresses: BTreeMap<u32, String>,
    pub leader: Option<u32>,
    /// What metadata say, if that isn't the truth.
    pub claimed_leader: Option<u32>,
    pub term: u64,
    pub logs: Vec<FakeLog>,
    /// Who has replicas, where that isn't everybody.
    pub replicas: Option<Vec<u32>>,
    /// Where nodes stand; those that aren't here have no rack.
    pub racks: BTreeMap<u32, String>,
    /// How much of each log a node has, where that isn't all.
    pub has: BTreeMap<u32, u64>,
    /// What retention took from each log.
    pub log_start: u64,
    /// Metadata requests about topics, and all others.
    pub topics_asked: u32,
    pub consumed: Vec<(u32, ConsumeInput)>,
    pub offsets_asked: Vec<(u32, ListOffsetsInput)>,
    /// Nodes that take questions about offsets and never answer.
    pub silent: Vec<u32>,
    pub produced: Vec<(u32, ProduceInput)>,
    /// The ids of the changes that were asked for.
    pub changes: Vec<Bytes>,
    pub create_answers: Vec<Result<(), Status>>,
    pub produce_rule: ProduceRule,
    pub consume_rule: ConsumeRule,
    pub next_producer_id: i64,
}

#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

#[derive(Clone)]
struct Node {
    id: u32,
    fake: Fake,
}

pub fn text(value: Option<Bytes>) -> String {
    String::from_utf8(value.expect("a value").to_vec()).expect("text")
}

impl Fake {
    pub async fn start(nodes: u32, partitions: usize) -> Fake {
        let state = State {
            cluster_id: [7; 16],
            addresses: BTreeMap::new(),
            leader: Some(1),
            claimed_leader: None,
            term: 1,
            logs: vec![FakeLog::default(); partitions],
            replicas: None,
            racks: BTreeMap::new(),
            has: BTreeMap::new(),
            log_start: 0,
            topics_asked: 0,
            consumed: Vec::new(),
            offsets_asked: Vec::new(),
            silent: Vec::new(),
            produced: Vec::new(),
            changes: Vec::new(),
            create_answers: Vec::new(),
            produce_rule: Box::new(|_, _| Action::Serve),
            consume_rule: Box::new(|_, batch| Ok(batch)),
            next_producer_id: 100,
        };
        let fake = Fake { state: Arc::new(Mutex::new(state)), changed: watch::channel(()).0 };
        for id in 1..=nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            fake.state().addresses.insert(id, listener.local_addr().expect("bound").to_string());
            let routes = Routes::of(&Node { id, fake: fake.clone() });
            let incoming = TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().serve_with_incoming(routes, incoming);
            tokio::spawn(async move { server.await.expect("serves until aborted") });
        }
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn on_produce(&self, rule: impl FnMut(u32, &ProduceInput) -> Action + Send + 'static) {
        self.state().produce_rule = Box::new(rule);
    }

    pub fn on_consume(&self, rule: impl FnMut(u32, Bytes) -> Result<Bytes, Status> + Send + 'static) {
        self.state().consume_rule = Box::new(rule);
    }

    /// Changes the state, and wakes whoever waits for it.
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// Another node leads from now on.
    pub fn elect(&self, leader: Option<u32>) {
        self.set(|state| {
            state.leader = leader;
            state.term += 1;
        });
    }

    pub fn addresses(&self) -> Vec<String> {
        self.state().addresses.values().cloned().collect()
    }

    pub async fn client(&self) -> Client {
        let options = ClientOptions::new(self.addresses()).with_timeout(Duration::from_secs(20));
        Client::connect(options).await.expect("the fake answers")
    }

    /// Appends a batch of these values as if somebody had produced them.
    pub fn fill(&self, partition: usize, values: &[&str]) {
        self.set(|state| state.logs[partition].fill(values));
    }

    /// Waits until the state satisfies `condition`.
    pub async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(&self.state()) {
            changed.changed().await.expect("the fake lives");
        }
    }

    fn error(&self, code: ErrorCode, hint: bool) -> ErrorDetail {
        let state = self.state();
        let error = ErrorDetail::rejected(code, Stage::Admission, "the fake says so");
        match state.leader.filter(|_| hint) {
            Some(leader) => error.with_leader(Some(NodeId(leader)), state.addresses.get(&leader).cloned()),
            None => error,
        }
    }
}
