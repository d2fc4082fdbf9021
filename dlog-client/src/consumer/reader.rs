//! [`Reader`]: reads one partition to its end, whatever happens to the nodes.

use super::position::Position;
use super::turns::{Choice, Turns};
use super::{ConsumedRecord, ConsumerOptions, OnGap, ReadLevel, jumped};
use crate::backoff::random_seed;
use crate::client::{Client, Retry};
use crate::clock::Clock;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::offsets::{Marks, OffsetsQuery};
use crate::retry::{Next, Tries};
use bytes::Bytes;
use dlog_core::batch::OffsetRecord;
use dlog_core::{ErrorCode, ErrorDetail, Offset, PartitionIndex, Stage};
use dlog_protocol::{TopicRef, services, status, v1};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

/// How long a replica may have nothing to say before it says so.
const WAIT: Duration = Duration::from_secs(1);
/// A replica that is silent for so long is given up: less than half of the usual timeout, so that another one has its turn.
const SILENCE: Duration = Duration::from_secs(4);
/// The longest wait for a replica to take the request.
const OPENING: Duration = Duration::from_secs(2);

/// The longest wait for finding out who leads; after it those who are known to have replicas are asked.
const FINDING: Duration = Duration::from_secs(3);

/// Records of one answer.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) records: VecDeque<ConsumedRecord>,
    /// What happened before them that the caller's user should know.
    pub(crate) warning: Option<String>,
}

/// One partition's reading.
///
/// Invariant: everything before `position.next` (and at or after the start) was handed on, in order, once.
pub(crate) struct Reader {
    client: Client,
    topic: Arc<Topic>,
    partition: PartitionIndex,
    position: Position,
    node: Option<NodeInfo>,
    options: Arc<ConsumerOptions>,
    clock: Clock,
    turns: Turns,
    deadline: Deadline,
    tries: Tries,
    stale_since: Option<Instant>,
}

/// How a try ended.
enum Ended {
    /// Everything was read, or nobody listens any more.
    Done,
    Failed(Error),
    /// A preferred replica is to be tried again.
    GoBack,
}

impl Reader {
    pub(crate) fn new(
        client: Client,
        topic: Arc<Topic>,
        partition: PartitionIndex,
        position: Position,
        node: Option<NodeInfo>,
        options: Arc<ConsumerOptions>,
    ) -> Reader {
        let deadline = Deadline::after(options.timeout);
        let mut tries = Tries::new(Retry::Always, random_seed());
        // Another replica may have whole what is damaged in one.
        tries.set_elsewhere(node.is_none());
        Reader {
            client,
            topic,
            partition,
            position,
            node,
            options,
            clock: Clock::new(),
            turns: Turns::default(),
            deadline,
            tries,
            stale_since: None,
        }
    }

    /// Reads until the end, the first error that can't be helped, or nobody listens.
    pub(crate) async fn run(mut self, chunks: mpsc::Sender<Result<Chunk, Error>>) {
        loop {
            let error = match self.try_one(&chunks).await {
                Ended::Done => return,
                Ended::GoBack => continue,
                Ended::Failed(error) => error,
            };
            if let Err(error) = self.recover(error, &chunks).await {
                // Nobody listens: nobody misses it.
                chunks.send(Err(error.of_read())).await.unwrap_or(());
                return;
            }
        }
    }

    /// Decides whether to go on after an error, and waits a little.
    async fn recover(&mut self, error: Error, chunks: &mpsc::Sender<Result<Chunk, Error>>) -> Result<(), Error> {
        let failed_at = Instant::now();
        let error = match error.code() {
            ErrorCode::OffsetOutOfRange => self.jump(error, chunks).await?,
            _ => self.tries.judge(error)?,
        };
        let hinted = self.client.take_hint(&self.topic.name, self.partition, &error);
        let what = format!("reading {}/{} from offset {}", self.topic.name, self.partition, self.position.next);
        let next = self.tries.pause(error, hinted, &what, self.deadline).await?;
        if next == Next::Ask {
            self.stale_since = Some(failed_at);
        }
        self.turns.failed();
        Ok(())
    }

    /// The next offset can't be read: go where the caller said, and say so.
    async fn jump(&mut self, error: Error, chunks: &mpsc::Sender<Result<Chunk, Error>>) -> Result<Error, Error> {
        if self.options.on_gap == OnGap::Fail {
            return Err(error);
        }
        let partitions = [self.partition];
        let deadline = Deadline::after(self.options.timeout);
        let query = OffsetsQuery::default();
        let (client, topic) = (&self.client, &self.topic);
        let marks = match &self.node {
            Some(node) => client.replica_offsets(node, Marks::Local, topic, &partitions, query, deadline).await?,
            None => client.leader_offsets(topic, &partitions, query, deadline).await?,
        };
        let Some(marks) = marks.first() else { return Err(error) };
        let next = Offset(if self.options.on_gap == OnGap::Latest { marks.high_watermark } else { marks.log_start });
        if next != self.position.next {
            let warning = jumped(self.topic.name.as_str(), self.partition, self.position.next, next);
            self.position.next = next;
            // If nobody listens the next chunk finds out.
            chunks.send(Ok(Chunk { records: VecDeque::new(), warning: Some(warning) })).await.unwrap_or(());
        }
        Ok(error)
    }

    /// The replica to ask now: the chosen one, else whose turn it is.
    async fn replica(&mut self) -> Result<NodeInfo, Error> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (topic, partition) = (&self.topic, self.partition);
        let within = Deadline::after(self.deadline.remaining(FINDING.min(self.options.timeout)));
        let leader = self.client.leader(&topic.name, topic.id, partition, self.stale_since.take(), within).await;
        let leader = match leader {
            Err(error) if !error.is_retryable() => return Err(error),
            leader => leader,
        };
        let current = self.client.topic(&topic.name, false, within).await?;
        let replicas: Vec<NodeInfo> =
            current.route(partition)?.replicas.iter().filter_map(|id| self.client.node_by_id(*id)).collect();
        let in_rack = |node: &NodeInfo| self.options.prefer_rack.as_ref().is_some_and(|rack| node.rack == *rack);
        let choices: Vec<Choice> =
            replicas.iter().map(|node| Choice { node: node.id, in_rack: in_rack(node) }).collect();
        let leads = leader.as_ref().ok().map(|leader| leader.id);
        let chosen = self.turns.choose(self.clock.now(), &choices, leads);
        let chosen = chosen.and_then(|id| replicas.into_iter().find(|node| node.id == id));
        // Without any replica of a known address there is the leader that was hinted at, or its error.
        chosen.map_or(leader, Ok)
    }

    async fn try_one(&mut self, chunks: &mpsc::Sender<Result<Chunk, Error>>) -> Ended {
        if self.position.is_at_end() {
            return Ended::Done;
        }
        let opened = async {
            let node = self.replica().await?;
            let stream = self.open(&node).await?;
            Ok((node, stream))
        };
        let (node, mut stream) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return Ended::Failed(error),
        };
        loop {
            let answer = match self.next_answer(&node, &mut stream).await {
                Ok(answer) => answer,
                Err(error) => return Ended::Failed(error),
            };
            let mut records = VecDeque::new();
            let taken = self.take(&answer.batches, &mut records);
            // What was whole is handed on even if something behind it is not: the next try begins after it.
            if !records.is_empty() && chunks.send(Ok(Chunk { records, warning: None })).await.is_err() {
                return Ended::Done;
            }
            self.progress(&answer);
            match taken {
                Err(error) => return Ended::Failed(error),
                Ok(()) if self.position.is_at_end() => return Ended::Done,
                Ok(()) if self.turns.goes_back(self.clock.now(), self.options.rack_recheck) => return Ended::GoBack,
                Ok(()) => {}
            }
        }
    }

    /// An answer came and was handed on: the wait for the next one begins. Who follows waits without end from here on.
    fn progress(&mut self, answer: &v1::ConsumeResponse) {
        if self.options.follow {
            self.deadline = Deadline::never();
        } else if !answer.batches.is_empty() {
            self.deadline = Deadline::after(self.options.timeout);
        }
        if self.options.follow || !answer.batches.is_empty() {
            self.tries.reset();
            self.turns.succeeded();
        }
    }

    async fn open(&self, node: &NodeInfo) -> Result<Streaming<v1::ConsumeResponse>, Error> {
        let request = v1::ConsumeRequest {
            topic: Some((&TopicRef::Id(self.topic.id)).into()),
            partition: self.partition.0,
            from: self.position.next.0,
            until: self.position.until.map(|until| until.0),
            follow: self.options.follow,
            max_bytes: u32::try_from(self.options.max_bytes).unwrap_or(u32::MAX),
            max_wait_ms: WAIT.as_millis() as u32,
            // Where a read ends that ends by itself was found out for all replicas before it began.
            linearizable: self.options.follow && self.options.read == ReadLevel::Linearizable,
        };
        let request = self.client.request(request);
        let call =
            |connection: Connection| async move { services::log_client(connection.channel).consume(request).await };
        self.client.call(&node.address, self.deadline.remaining(OPENING), call).await
    }

    async fn next_answer(
        &self,
        node: &NodeInfo,
        stream: &mut Streaming<v1::ConsumeResponse>,
    ) -> Result<v1::ConsumeResponse, Error> {
        let broken = |code, text: &str| {
            let message = format!("node {} {text}", node.name);
            Error::new(ErrorDetail::rejected(code, Stage::Connection, message).with_node(node.name.clone()))
        };
        match tokio::time::timeout(self.deadline.remaining(SILENCE), stream.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(broken(ErrorCode::Unavailable, "ended the stream too early")),
            Ok(Err(failure)) => Err(Error::new(status::from_status(&failure))),
            Err(_) => {
                self.client.connections().note_failure(&node.address);
                Err(broken(ErrorCode::Timeout, "was silent for too long"))
            }
        }
    }

    /// Takes from an answer what is new. On an error everything before it was taken.
    fn take(&mut self, batches: &[Bytes], records: &mut VecDeque<ConsumedRecord>) -> Result<(), Error> {
        let mut found = Vec::new();
        let taken = self.position.take(batches, &mut found);
        let partition = self.partition.0;
        let consumed = |found: OffsetRecord| ConsumedRecord { partition, offset: found.offset, record: found.record };
        records.extend(found.into_iter().map(consumed));
        taken.map_err(|text| {
            let message = format!(
                "what was read of {}/{partition} at offset {} is damaged: {text}",
                self.topic.name, self.position.next
            );
            Error::rejected(ErrorCode::CorruptData, message)
        })
    }
}
