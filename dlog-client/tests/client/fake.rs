//! A cluster that isn't one: several addresses over one shared state, whose every answer a test can bend. It keeps what the
//! client relies on (sequences, one order, marks) and nothing else.

use bytes::Bytes;
use dlog_client::{Client, ClientOptions};
use dlog_core::batch::stamp;
use dlog_core::{BatchHeader, ErrorCode, ErrorDetail, NodeId, Offset, Stage, Term};
use dlog_protocol::v1::{self, admin_server::Admin, cluster_server::Cluster, log_server::Log};
use dlog_protocol::{ConsumeInput, ListOffsetsInput, ProduceInput, services, status};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Request, Response, Status, Streaming};

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

/// One partition.
#[derive(Default, Clone)]
pub struct FakeLog {
    pub batches: Vec<Bytes>,
    producers: BTreeMap<i64, FakeProducer>,
}

#[derive(Clone)]
struct FakeProducer {
    epoch: i16,
    next: i32,
    known: Vec<(i32, u64, u64)>,
}

pub struct State {
    pub cluster_id: [u8; 16],
    pub addresses: BTreeMap<u32, String>,
    pub leader: Option<u32>,
    /// What metadata say, if that isn't the truth.
    pub claimed_leader: Option<u32>,
    pub term: u64,
    pub logs: Vec<FakeLog>,
    pub produced: Vec<(u32, ProduceInput)>,
    pub created: u32,
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

impl FakeLog {
    fn end(&self) -> u64 {
        self.batches.last().map_or(0, |batch| BatchHeader::decode(batch).expect("own").next_offset().0)
    }

    /// Appends, or finds the first append of the same sequence.
    fn append(&mut self, batch: &Bytes) -> Result<(u64, u64, bool), ErrorCode> {
        let header = BatchHeader::decode(batch).expect("the client sends batches");
        let (base, end) = (self.end(), self.end() + u64::from(header.record_count));
        if let Some(sequence) = header.producer() {
            let fresh = || FakeProducer { epoch: sequence.epoch, next: 0, known: Vec::new() };
            let producer = self.producers.entry(sequence.id.0).or_insert_with(fresh);
            if sequence.epoch < producer.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if sequence.epoch > producer.epoch {
                *producer = fresh();
            }
            if let Some((_, base, last)) = producer.known.iter().find(|(base, ..)| *base == sequence.base_sequence) {
                return Ok((*base, *last, true));
            }
            if sequence.base_sequence != producer.next {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            producer.next += header.record_count as i32;
            producer.known.push((sequence.base_sequence, base, end - 1));
        }
        self.batches.push(stamp(batch, Offset(base), Term(1), None));
        Ok((base, end - 1, false))
    }

    pub fn values(&self) -> Vec<String> {
        let decoded = self.batches.iter().flat_map(|batch| dlog_core::batch::decode_records(batch).expect("own"));
        decoded.map(|record| text(record.expect("own").record.value)).collect()
    }
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
            produced: Vec::new(),
            created: 0,
            create_answers: Vec::new(),
            produce_rule: Box::new(|_, _| Action::Serve),
            consume_rule: Box::new(|_, batch| Ok(batch)),
            next_producer_id: 100,
        };
        let fake = Fake { state: Arc::new(Mutex::new(state)), changed: watch::channel(()).0 };
        for id in 1..=nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            fake.state().addresses.insert(id, listener.local_addr().expect("bound").to_string());
            let node = Node { id, fake: fake.clone() };
            let routes = Routes {
                log: services::log_server(node.clone()),
                admin: services::admin_server(node.clone()),
                cluster: services::cluster_server(node),
            };
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

    /// Another node leads from now on.
    pub fn elect(&self, leader: Option<u32>) {
        let mut state = self.state();
        state.leader = leader;
        state.term += 1;
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
        let mut builder = dlog_core::BatchBuilder::new(dlog_core::Codec::None);
        for value in values {
            let record = dlog_core::Record::new(dlog_core::TimestampMs(1), value.as_bytes().to_vec());
            builder.push(&record).expect("fits");
        }
        self.state().logs[partition].append(&builder.build().expect("records")).expect("no sequence");
        self.changed.send_replace(());
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

impl Node {
    /// `None`: end the stream.
    fn produce_one(&self, input: ProduceInput) -> Option<Result<Option<v1::ProduceResponse>, ()>> {
        let action = {
            let mut state = self.fake.state();
            let action = (state.produce_rule)(self.id, &input);
            state.produced.push((self.id, input.clone()));
            action
        };
        self.fake.changed.send_replace(());
        let respond = |result: Result<(u64, u64, bool), ErrorDetail>| {
            let mut response = v1::ProduceResponse { request_id: input.request_id, ..Default::default() };
            match result {
                Ok((base, last, duplicate)) => {
                    (response.base_offset, response.last_offset, response.duplicate) = (base, last, duplicate);
                }
                Err(error) => response.error = Some(status::to_message(&error)),
            }
            response
        };
        let append = || {
            if self.fake.state().leader != Some(self.id) {
                return Err(self.fake.error(ErrorCode::NotLeader, true));
            }
            let appended = self.fake.state().logs[input.partition.0 as usize].append(&input.batch);
            appended.map_err(|code| self.fake.error(code, false))
        };
        match action {
            Action::Serve => {
                let result = append();
                self.fake.changed.send_replace(());
                Some(Ok(Some(respond(result))))
            }
            Action::AppendAndCut => {
                append().expect("the test cuts a leader");
                None
            }
            Action::AppendAndIgnore => {
                append().expect("the test cuts a leader");
                Some(Ok(None))
            }
            Action::Cut => None,
            Action::Ignore => Some(Ok(None)),
            Action::Refuse(error) => Some(Ok(Some(respond(Err(error))))),
        }
    }
}

/// From a request's path to its service.
#[derive(Clone)]
struct Routes {
    log: v1::log_server::LogServer<Node>,
    admin: v1::admin_server::AdminServer<Node>,
    cluster: v1::cluster_server::ClusterServer<Node>,
}

impl Service<http::Request<Body>> for Routes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1) {
            Some("dlog.v1.Log") => self.log.call(request),
            Some("dlog.v1.Admin") => self.admin.call(request),
            _ => self.cluster.call(request),
        }
    }
}

#[tonic::async_trait]
impl Log for Node {
    type ProduceStream = UnboundedReceiverStream<Result<v1::ProduceResponse, Status>>;
    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (node, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let input = ProduceInput::try_from(request).expect("the client sends valid requests");
                match node.produce_one(input) {
                    Some(Ok(Some(response))) => sender.send(Ok(response)).unwrap_or(()),
                    Some(_) => {}
                    None => {
                        sender.send(Err(Status::unavailable("the connection was cut"))).unwrap_or(());
                        return;
                    }
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn produce_once(
        &self,
        _request: Request<v1::ProduceOnceRequest>,
    ) -> Result<Response<v1::ProduceOnceResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let input = ConsumeInput::try_from(request.into_inner()).expect("the client sends valid requests");
        let (sender, receiver) = mpsc::unbounded_channel();
        let node = self.clone();
        let mut changed = self.fake.changed.subscribe();
        tokio::spawn(async move {
            let mut next = input.from.0;
            loop {
                let batches = node.fake.state().logs[input.partition.0 as usize].batches.clone();
                let header = |batch: &Bytes| BatchHeader::decode(batch).expect("own");
                for batch in batches {
                    if header(&batch).next_offset().0 <= next || input.until.is_some_and(|until| next >= until.0) {
                        continue;
                    }
                    next = header(&batch).next_offset().0;
                    let bent = (node.fake.state().consume_rule)(node.id, batch);
                    let answer = bent.map(|batch| v1::ConsumeResponse {
                        batches: vec![batch],
                        next_offset: next,
                        high_watermark: next,
                        log_start: 0,
                    });
                    let failed = answer.is_err();
                    if sender.send(answer).is_err() || failed {
                        return;
                    }
                }
                if !input.follow || changed.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let input = ListOffsetsInput::try_from(request.into_inner()).expect("the client sends valid requests");
        if !input.local && self.fake.state().leader != Some(self.id) {
            return Err(status::to_status(&self.fake.error(ErrorCode::NotLeader, true)));
        }
        let state = self.fake.state();
        let of = |partition: &dlog_core::PartitionIndex| {
            let end = state.logs[partition.0 as usize].end();
            v1::PartitionOffsets {
                partition: partition.0,
                high_watermark: end,
                last_records_offset: input.last_records.map(|count| end.saturating_sub(count)),
                ..v1::PartitionOffsets::default()
            }
        };
        Ok(Response::new(v1::ListOffsetsResponse { partitions: input.partitions.iter().map(of).collect() }))
    }
}

#[tonic::async_trait]
impl Cluster for Node {
    async fn metadata(&self, request: Request<v1::MetadataRequest>) -> Result<Response<v1::MetadataResponse>, Status> {
        use v1::topic_selector::By;
        let state = self.fake.state();
        let request = request.into_inner();
        let nodes = state.addresses.iter().map(|(id, address)| v1::Node {
            id: *id,
            name: format!("n{id}"),
            client_address: address.clone(),
            ..v1::Node::default()
        });
        let partition = |index: usize| v1::PartitionMetadata {
            partition: index as u32,
            leader: state.claimed_leader.or(state.leader),
            term: state.term,
            replicas: state.addresses.keys().copied().collect(),
        };
        let topic = v1::TopicMetadata {
            name: TOPIC.into(),
            id: TOPIC_ID,
            partitions: (0..state.logs.len()).map(partition).collect(),
            max_batch_bytes: 1 << 20,
        };
        let ours = |selector: &v1::TopicSelector| selector.by == Some(By::Name(TOPIC.into()));
        let (known, unknown): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(ours);
        Ok(Response::new(v1::MetadataResponse {
            cluster_id: Bytes::copy_from_slice(&state.cluster_id),
            answered_by: self.id,
            nodes: nodes.collect(),
            topics: known.iter().map(|_| topic.clone()).collect(),
            unknown_topics: unknown,
            ..v1::MetadataResponse::default()
        }))
    }

    async fn health(&self, _request: Request<v1::HealthRequest>) -> Result<Response<v1::HealthResponse>, Status> {
        Ok(Response::new(v1::HealthResponse { healthy: true, ..v1::HealthResponse::default() }))
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn node_stats(
        &self,
        _request: Request<v1::NodeStatsRequest>,
    ) -> Result<Response<v1::NodeStatsResponse>, Status> {
        let name = format!("n{}", self.id);
        Ok(Response::new(v1::NodeStatsResponse { node_id: self.id, name, ..v1::NodeStatsResponse::default() }))
    }
}

#[tonic::async_trait]
impl Admin for Node {
    async fn create_topic(
        &self,
        _request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let mut state = self.fake.state();
        state.created += 1;
        if !state.create_answers.is_empty() {
            state.create_answers.remove(0)?;
        }
        Ok(Response::new(v1::CreateTopicResponse { topic_id: 9, created: true, placements: Vec::new() }))
    }

    async fn delete_topic(
        &self,
        _request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let mut state = self.fake.state();
        state.created += 1;
        if !state.create_answers.is_empty() {
            state.create_answers.remove(0)?;
        }
        drop(state);
        Err(status::to_status(&self.fake.error(ErrorCode::UnknownTopic, false)))
    }

    async fn list_topics(
        &self,
        _request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_topic(
        &self,
        _request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn alter_topic(
        &self,
        _request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_partitions(
        &self,
        _request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn transfer_leadership(
        &self,
        _request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn allocate_producer_id(
        &self,
        _request: Request<v1::AllocateProducerIdRequest>,
    ) -> Result<Response<v1::AllocateProducerIdResponse>, Status> {
        let mut state = self.fake.state();
        state.next_producer_id += 1;
        let answer = v1::AllocateProducerIdResponse { first_producer_id: state.next_producer_id, count: 1 };
        Ok(Response::new(answer))
    }
}
