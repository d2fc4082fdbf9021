//! [`Reader`]: reads one partition to its end, whatever happens to the nodes.

use super::range::Range;
use super::{ConsumedRecord, ConsumerOptions, OnGap, ReadLevel, jumped};
use crate::backoff::random_seed;
use crate::client::{Client, Retry};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::offsets::{Marks, OffsetsQuery};
use crate::retry::{Next, Tries};
use bytes::Bytes;
use dlog_core::batch::{BatchLimits, OffsetRecord, decode_records, validate};
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
/// Invariant: everything before `range.next` (and at or after the start) was handed on, in order, once.
pub(crate) struct Reader {
    client: Client,
    topic: Arc<Topic>,
    partition: PartitionIndex,
    range: Range,
    node: Option<NodeInfo>,
    options: Arc<ConsumerOptions>,
    /// Which replica is next: even ones are the preferred (a rack's, else the leader), odd ones the others.
    turn: usize,
    /// Since when another than a preferred replica is read.
    elsewhere_since: Option<Instant>,
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
        range: Range,
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
            range,
            node,
            options,
            turn: 0,
            elsewhere_since: None,
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
        let what = format!("reading {}/{} from offset {}", self.topic.name, self.partition, self.range.next);
        let next = self.tries.pause(error, hinted, &what, self.deadline).await?;
        if next == Next::Ask {
            self.stale_since = Some(failed_at);
        }
        self.turn += 1;
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
        if next != self.range.next {
            let warning = jumped(self.topic.name.as_str(), self.partition, self.range.next, next);
            self.range.next = next;
            // If nobody listens the next chunk finds out.
            chunks.send(Ok(Chunk { records: VecDeque::new(), warning: Some(warning) })).await.unwrap_or(());
        }
        Ok(error)
    }

    /// The replica to ask now: the chosen one; else in even turns one of the preferred rack (without one, the leader, who has
    /// everything), in odd turns the others.
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
        let mut replicas: Vec<NodeInfo> =
            current.route(partition)?.replicas.iter().filter_map(|id| self.client.node_by_id(*id)).collect();
        // The leader first: it is never behind.
        replicas.sort_by_key(|node| leader.as_ref().map_or(true, |leader| leader.id != node.id));
        let in_rack = |node: &NodeInfo| self.options.prefer_rack.as_ref().is_some_and(|rack| node.rack == *rack);
        let by_rack = replicas.iter().any(in_rack);
        let is_leader = |node: &NodeInfo| leader.as_ref().is_ok_and(|leader| leader.id == node.id);
        let (preferred, others): (Vec<NodeInfo>, Vec<NodeInfo>) =
            replicas.into_iter().partition(|node| if by_rack { in_rack(node) } else { is_leader(node) });
        let round = self.turn / 2;
        let pick = |from: &'_ [NodeInfo]| from.get(round % from.len().max(1)).cloned();
        let chosen = match self.turn.is_multiple_of(2) {
            true => pick(&preferred).or_else(|| pick(&others)),
            false => pick(&others).or_else(|| pick(&preferred)),
        };
        let at_home = !by_rack || chosen.as_ref().is_some_and(in_rack);
        self.elsewhere_since = if at_home { None } else { self.elsewhere_since.or(Some(Instant::now())) };
        // Without any replica of a known address there is the leader that was hinted at, or its error.
        chosen.map_or(leader, Ok)
    }

    async fn try_one(&mut self, chunks: &mpsc::Sender<Result<Chunk, Error>>) -> Ended {
        if self.range.is_empty() {
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
                Ok(()) if self.range.is_empty() => return Ended::Done,
                Ok(()) if self.elsewhere_since.is_some_and(|at| at.elapsed() >= self.options.rack_recheck) => {
                    (self.turn, self.elsewhere_since) = (0, None);
                    return Ended::GoBack;
                }
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
            self.turn = 0;
        }
    }

    async fn open(&self, node: &NodeInfo) -> Result<Streaming<v1::ConsumeResponse>, Error> {
        let request = v1::ConsumeRequest {
            topic: Some((&TopicRef::Id(self.topic.id)).into()),
            partition: self.partition.0,
            from: self.range.next.0,
            until: self.range.until.map(|until| until.0),
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

    /// Checks an answer's batches and moves on behind them; their records from the next offset to the end are added to
    /// `records`. On an error everything before it was taken.
    fn take(&mut self, batches: &[Bytes], records: &mut VecDeque<ConsumedRecord>) -> Result<(), Error> {
        for batch in batches {
            let fresh = self.decode(batch).map_err(|text| {
                let (topic, partition, next) = (&self.topic.name, self.partition, self.range.next);
                let message = format!("what was read of {topic}/{partition} at offset {next} is damaged: {text}");
                Error::rejected(ErrorCode::CorruptData, message)
            })?;
            for found in fresh.records {
                if self.range.until_time.is_some_and(|at| found.record.timestamp >= at) {
                    self.range.until = Some(found.offset);
                }
                if self.range.until.is_some_and(|until| found.offset >= until) {
                    self.range.next = found.offset;
                    return Ok(());
                }
                let (partition, offset, record) = (self.partition.0, found.offset, found.record);
                records.push_back(ConsumedRecord { partition, offset, record });
            }
            self.range.next = fresh.end;
        }
        Ok(())
    }

    /// One whole, checked batch: its records from the next offset on. The error says what is damaged.
    fn decode(&self, batch: &Bytes) -> Result<Fresh, String> {
        let header = validate(batch, BatchLimits::HARD).map_err(|error| error.to_string())?;
        let (first, end) = (header.base_offset, header.next_offset());
        if first > self.range.next || end <= self.range.next {
            return Err(format!("a batch has offsets {first} to {end}, exclusive"));
        }
        let mut records = Vec::new();
        // A coordinator's marker has no record for anyone.
        if !header.is_control() {
            let mut decoded = decode_records(batch).map_err(|error| error.to_string())?;
            decoded.skip_to(self.range.next).map_err(|error| error.to_string())?;
            records = decoded.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        }
        Ok(Fresh { records, end })
    }
}

/// What a batch has that wasn't read yet.
struct Fresh {
    records: Vec<OffsetRecord>,
    end: Offset,
}
