//! [`Consumer`]: a stream of a topic's records.
//!
//! Each partition has a reader: a task that asks a replica, checks what comes, and hands records on in order; partitions
//! interleave freely. After any failure a reader goes on at the next offset, on another replica if need be.

pub(crate) mod position;
mod range;
mod reader;
pub(crate) mod turns;

use crate::admin::topic_name;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use dlog_core::limits::{CONSUME_ANSWER_BYTES_MAX, PARTITIONS_PER_TOPIC_MAX};
use dlog_core::{ErrorCode, NodeId, Offset, PartitionIndex, Record, TimestampMs};
use reader::{Chunk, Reader};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::Stream;

/// Answers read ahead of the caller, all partitions together. Each is at most one answer's bytes, decompressed.
const CHUNKS_AHEAD: usize = 4;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// At the log start.
    #[default]
    Earliest,
    /// At the high watermark: only what comes later.
    Latest,
    /// At this offset of each partition.
    Offset(Offset),
    /// So many records before the high watermark of each partition.
    Last(u64),
    /// At the first record whose time stamp is at or after this, else at the high watermark.
    Time(TimestampMs),
}

/// Where to end, earlier than otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before this offset of each partition.
    Offset(Offset),
    /// Before the first record whose time stamp is at or after this.
    Time(TimestampMs),
}

/// What to do where the next offset can't be read: it is below log start, or above the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnGap {
    /// Fail with `offset_out_of_range`.
    #[default]
    Fail,
    /// Go on at log start.
    Earliest,
    /// Go on at the high watermark.
    Latest,
}

/// Which promise a read has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadLevel {
    /// Only committed records, and never back in time; a replica may not know the newest ones yet.
    #[default]
    Committed,
    /// Everything that was acked before the read began is read, from whichever replica: the cluster is asked where each log
    /// ends, and nothing less will do. A read that ends by itself ends there. With [`ConsumerOptions::follow`] a replica that
    /// is asked to go on first confirms that it has all that was acked by then.
    Linearizable,
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// The topic's name.
    pub topic: String,
    /// Its partitions; empty: all that there are at the start.
    pub partitions: Vec<u32>,
    /// Where to begin. Default: earliest.
    pub from: Start,
    /// Where to end. Default, and at the latest without `follow`: at the high watermark that each leader tells at the start.
    pub to: Option<End>,
    /// Go on with new records, without end. Default: no.
    pub follow: bool,
    /// Read from the node of this name and no other. Default: the leader, or whichever replica answers. If no leader
    /// answers within a third of the timeout, a committed read goes by what that node itself knows, with a warning.
    pub node: Option<String>,
    /// Read from a replica in this rack where there is one that answers, else from any. Default: none. Not together with
    /// `node`.
    pub prefer_rack: Option<String>,
    /// How long a partition is read elsewhere before its replicas in the preferred rack are tried again. Default 30 s.
    pub rack_recheck: Duration,
    /// See [`ReadLevel`]. Default: committed.
    pub read: ReadLevel,
    /// See [`OnGap`]. A jump is told as a warning. Default: fail.
    pub on_gap: OnGap,
    /// Bytes of batches in one answer. Default 1 MiB, which is also the most.
    pub max_bytes: usize,
    /// The wait for the first and for each further answer; not the total. Has no meaning once a follower has caught up.
    /// Default 10 s.
    pub timeout: Duration,
}

impl ConsumerOptions {
    /// The defaults, for this topic.
    pub fn new(topic: impl Into<String>) -> ConsumerOptions {
        ConsumerOptions {
            topic: topic.into(),
            partitions: Vec::new(),
            from: Start::Earliest,
            to: None,
            follow: false,
            node: None,
            prefer_rack: None,
            rack_recheck: Duration::from_secs(30),
            read: ReadLevel::Committed,
            on_gap: OnGap::Fail,
            max_bytes: CONSUME_ANSWER_BYTES_MAX,
            timeout: Duration::from_secs(10),
        }
    }
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
    /// The record.
    pub record: Record,
}

/// A stream of records: in order within each partition, every offset once. It ends after the last record, or after the
/// first error. What is read ahead is bounded: some answers (see [`ConsumerOptions::max_bytes`], decompressed), and one for
/// each partition that waits for its turn; a caller that stops calling stops the reading. Dropping it ends the reading.
#[derive(Debug)]
pub struct Consumer {
    chunks: mpsc::Receiver<Result<Chunk, Error>>,
    current: VecDeque<ConsumedRecord>,
    warnings: Vec<String>,
    failed: bool,
    _readers: JoinSet<()>,
}

impl Consumer {
    pub(crate) async fn open(client: Client, options: ConsumerOptions) -> Result<Consumer, Error> {
        let name = topic_name(&options.topic)?;
        options.check()?;
        let deadline = Deadline::after(options.timeout);
        let topic = client.topic(&name, false, deadline).await.map_err(Error::of_read)?;
        let mut partitions = options.partitions.clone();
        if partitions.is_empty() {
            partitions = (0..topic.partitions.len() as u32).collect();
        }
        partitions.sort_unstable();
        partitions.dedup();
        debug_assert!(partitions.len() <= PARTITIONS_PER_TOPIC_MAX as usize);
        let partitions: Vec<_> = partitions.into_iter().map(PartitionIndex).collect();
        for partition in &partitions {
            topic.route(*partition)?;
        }
        let node = match &options.node {
            Some(name) => Some(chosen(&client, name, &topic, &partitions, deadline).await?),
            None => None,
        };
        let mut warnings = Vec::new();
        warnings.extend(options.prefer_rack.as_ref().and_then(|rack| empty_rack(&client, rack, &topic, &partitions)));
        let ranges =
            range::find(&client, &topic, &partitions, node.as_ref(), &options, deadline, &mut warnings).await?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let options = Arc::new(options);
        let mut readers = JoinSet::new();
        for (partition, range) in partitions.into_iter().zip(ranges) {
            if !range.is_at_end() {
                let reader =
                    Reader::new(client.clone(), topic.clone(), partition, range, node.clone(), options.clone());
                readers.spawn(reader.run(sender.clone()));
            }
        }
        Ok(Consumer { chunks, current: VecDeque::new(), warnings, failed: false, _readers: readers })
    }

    /// What the caller's user should know though it is no error, such as a jump over a gap; each is told once. Look before
    /// the first record, and after any.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The next record; `None` after the last, and after an error.
    ///
    /// Safe to cancel: a record is taken only in the moment in which it is returned, so a future that is dropped before that
    /// loses none.
    ///
    /// # Errors
    /// `offset_out_of_range` where [`OnGap::Fail`] meets a gap; `corrupt_data` if no replica has it whole;
    /// `unknown_topic` if the topic was deleted; `timeout` if nothing was read within the timeout. Always with outcome
    /// rejected: a read changes nothing.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.current.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            if self.failed {
                return Poll::Ready(None);
            }
            match ready!(self.chunks.poll_recv(context)) {
                Some(Ok(chunk)) => {
                    self.warnings.extend(chunk.warning);
                    self.current = chunk.records;
                }
                Some(Err(error)) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl ConsumerOptions {
    fn check(&self) -> Result<(), Error> {
        let refuse = |message: &str| Err(Error::rejected(ErrorCode::InvalidArgument, message));
        if self.node.is_some() && self.prefer_rack.is_some() {
            return refuse("a node and a preferred rack contradict each other; give one");
        }
        if self.timeout.is_zero() {
            return refuse("the timeout is 0; give the wait for one answer");
        }
        Ok(())
    }
}

/// The node of this name, if it has a replica of each of these partitions.
async fn chosen(
    client: &Client,
    name: &str,
    topic: &Topic,
    partitions: &[PartitionIndex],
    deadline: Deadline,
) -> Result<NodeInfo, Error> {
    let node = client.node(name, deadline).await.map_err(Error::of_read)?;
    for partition in partitions {
        let mut replicas = topic.route(*partition)?.replicas.clone();
        if !replicas.contains(&node.id) {
            // It may have come to this node since.
            let newer = client.refresh(&topic.name, false, Instant::now(), deadline).await.map_err(Error::of_read)?;
            replicas = newer.route(*partition)?.replicas.clone();
        }
        if !replicas.contains(&node.id) {
            let names: Vec<String> =
                replicas.iter().filter_map(|id| client.node_by_id(*id)).map(|node| node.name).collect();
            let place = format!("{}/{partition}", topic.name);
            let message = format!("node {name} has no replica of {place}; there is one on {}", names.join(", "));
            return Err(Error::rejected(ErrorCode::InvalidArgument, message));
        }
    }
    Ok(node)
}

/// What to tell if some partitions have no replica in the preferred rack.
fn empty_rack(client: &Client, rack: &str, topic: &Topic, partitions: &[PartitionIndex]) -> Option<String> {
    let stands_there = |id: &NodeId| client.node_by_id(*id).is_some_and(|node| node.rack == rack);
    let without = |partition: &&PartitionIndex| {
        topic.route(**partition).is_ok_and(|route| !route.replicas.iter().any(stands_there))
    };
    let empty: Vec<String> = partitions.iter().filter(without).map(PartitionIndex::to_string).collect();
    if empty.is_empty() {
        return None;
    }
    let (name, which) = (&topic.name, empty.join(", "));
    Some(format!("no replica of partition {which} of {name} stands in rack {rack}: other replicas are read"))
}

/// What is told of a jump.
fn jumped(topic: &str, partition: PartitionIndex, from: Offset, to: Offset) -> String {
    format!("offset {from} of {topic}/{partition} can't be read: reading goes on at {to}")
}

/// The error for an offset that can't be read.
fn out_of_range(topic: &str, partition: PartitionIndex, offset: Offset, log_start: Offset, end: Offset) -> Error {
    let message =
        format!("offset {offset} of {topic}/{partition} can't be read; there are {log_start} to {end}, exclusive");
    Error::rejected(ErrorCode::OffsetOutOfRange, message)
}
