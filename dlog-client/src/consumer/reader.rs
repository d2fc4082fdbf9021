//! [`Reader`]: reads one partition to its end, whatever happens to the nodes.

use super::range::Range;
use super::{ConsumedRecord, ConsumerOptions, OnGap};
use crate::backoff::Backoff;
use crate::client::Client;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::offsets::OffsetsQuery;
use bytes::Bytes;
use dlog_core::batch::{BatchLimits, OffsetRecord, decode_records, validate};
use dlog_core::{ErrorCode, ErrorDetail, Offset, Outcome, PartitionIndex, Stage};
use dlog_protocol::{TopicRef, services, status, v1};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

/// How long a replica may have nothing to say before it says so.
const WAIT: Duration = Duration::from_secs(1);
/// A replica that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(6);
/// The longest wait for a replica to take the request.
const OPENING: Duration = Duration::from_secs(2);

/// Records of one answer.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) records: VecDeque<ConsumedRecord>,
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
    /// Which replica is next: 0 is the leader.
    turn: usize,
    deadline: Deadline,
    backoff: Backoff,
    stale_since: Option<Instant>,
}

/// How a try ended.
enum Ended {
    /// Everything was read, or nobody listens any more.
    Done,
    Failed(Error),
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
        let backoff = Backoff::new();
        Reader { client, topic, partition, range, node, options, turn: 0, deadline, backoff, stale_since: None }
    }

    /// Reads until the end, the first error that can't be helped, or nobody listens.
    pub(crate) async fn run(mut self, chunks: mpsc::Sender<Result<Chunk, Error>>) {
        loop {
            let error = match self.try_one(&chunks).await {
                Ended::Done => return,
                Ended::Failed(error) => error,
            };
            if let Err(error) = self.recover(error).await {
                // Nobody listens: nobody misses it.
                chunks.send(Err(error)).await.unwrap_or(());
                return;
            }
        }
    }

    /// Decides whether to go on after an error, and waits a little.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        let pinned = self.node.is_some();
        match error.code() {
            ErrorCode::OffsetOutOfRange => return self.jump(error).await,
            // Another replica may have it whole.
            ErrorCode::CorruptData if !pinned => {}
            _ if error.is_retryable() => {}
            _ => return Err(error.of_read()),
        }
        if self.deadline.has_passed() {
            if error.code() == ErrorCode::CorruptData {
                return Err(error.of_read());
            }
            let what = format!("reading {}/{} from offset {}", self.topic.name, self.partition, self.range.next);
            return Err(Error::timeout(Outcome::Rejected, &what, Some(error)));
        }
        tracing::debug!(topic = %self.topic.name, partition = self.partition.0, %error, "reading is tried again");
        if !self.client.take_hint(&self.topic.name, self.partition, &error) {
            self.stale_since = Some(Instant::now());
        }
        self.turn += 1;
        let wait = self.backoff.step(error.detail().retry_after_ms);
        self.deadline.sleep(wait).await;
        Ok(())
    }

    /// The next offset can't be read: go where the caller said.
    async fn jump(&mut self, error: Error) -> Result<(), Error> {
        if self.options.on_gap == OnGap::Fail {
            return Err(error.of_read());
        }
        let partitions = [self.partition];
        let deadline = Deadline::after(self.options.timeout);
        let query = OffsetsQuery::default();
        let marks = match &self.node {
            Some(node) => self.client.local_offsets(node, &self.topic, &partitions, query, deadline).await?,
            None => self.client.leader_offsets(&self.topic, &partitions, query, deadline).await?,
        };
        let marks = marks.first().ok_or(error)?;
        let next = match self.options.on_gap {
            OnGap::Latest => marks.high_watermark,
            OnGap::Earliest | OnGap::Fail => marks.log_start,
        };
        tracing::warn!(topic = %self.topic.name, partition = self.partition.0, from = %self.range.next, to = next, "gap");
        self.range.next = Offset(next);
        self.deadline.sleep(self.backoff.step(None)).await;
        Ok(())
    }

    /// The replica to ask now: the chosen one, else the leader, then the others in turn.
    async fn replica(&mut self) -> Result<NodeInfo, Error> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let (topic, partition) = (&self.topic, self.partition);
        // Finding it out is worth one answer's time; a follower goes on for ever.
        let within = Deadline::after(self.deadline.remaining(self.options.timeout));
        let leader = self.client.leader(&topic.name, topic.id, partition, self.stale_since.take(), within).await;
        let leader = match leader {
            Err(error) if !error.is_retryable() => return Err(error),
            leader => leader,
        };
        let current = self.client.topic(&topic.name, false, within).await?;
        let replicas: Vec<NodeInfo> =
            current.route(partition)?.replicas.iter().filter_map(|id| self.client.node_by_id(*id)).collect();
        // Every other try is the leader's: it has everything.
        if self.turn.is_multiple_of(2) || replicas.is_empty() {
            return leader;
        }
        let others: Vec<_> =
            replicas.iter().filter(|node| leader.as_ref().map_or(true, |leader| leader.id != node.id)).collect();
        match others.get(self.turn / 2 % others.len().max(1)) {
            Some(node) => Ok((*node).clone()),
            None => leader,
        }
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
            if !records.is_empty() && chunks.send(Ok(Chunk { records })).await.is_err() {
                return Ended::Done;
            }
            self.progress(&answer);
            match taken {
                Err(error) => return Ended::Failed(error),
                Ok(()) if self.range.is_empty() => return Ended::Done,
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
            self.backoff.reset();
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
            linearizable: false,
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
