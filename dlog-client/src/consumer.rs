//! [`Consumer`]: a stream of a topic's records.
//!
//! Each partition has a reader: a task that asks a replica, checks what comes, and hands records on in order; partitions
//! interleave freely. After any failure a reader goes on at the next offset, on another replica if need be.

mod range;
mod reader;

use crate::admin::topic_name;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use dlog_core::limits::{CONSUME_ANSWER_BYTES_MAX, PARTITIONS_PER_TOPIC_MAX};
use dlog_core::{ErrorCode, Offset, PartitionIndex, Record, TimestampMs};
use range::Range;
use reader::{Chunk, Reader};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
    /// Read from the node of this name and no other. Default: the leader, or whichever replica answers.
    pub node: Option<String>,
    /// See [`OnGap`].
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
/// first error. Dropping it stops the reading at once.
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
        let deadline = Deadline::after(options.timeout);
        let topic = client.topic(&name, false, deadline).await?;
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
            Some(name) => Some(client.node(name, deadline).await?),
            None => None,
        };
        let mut warnings = Vec::new();
        let ranges =
            range::find(&client, &topic, &partitions, node.as_ref(), &options, deadline, &mut warnings).await?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let options = Arc::new(options);
        let mut readers = JoinSet::new();
        for (partition, range) in partitions.into_iter().zip(ranges) {
            if !range.is_empty() {
                let reader =
                    Reader::new(client.clone(), topic.clone(), partition, range, node.clone(), options.clone());
                readers.spawn(reader.run(sender.clone()));
            }
        }
        Ok(Consumer { chunks, current: VecDeque::new(), warnings, failed: false, _readers: readers })
    }

    /// What the caller's user should know though it is no error; each is told once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The next record; `None` after the last. Safe to cancel.
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
                Some(Ok(chunk)) => self.current = chunk.records,
                Some(Err(error)) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

/// The error for an offset that can't be read.
fn out_of_range(topic: &str, partition: PartitionIndex, offset: Offset, log_start: Offset, end: Offset) -> Error {
    let message =
        format!("offset {offset} of {topic}/{partition} can't be read; there are {log_start} to {end}, exclusive");
    Error::rejected(ErrorCode::OffsetOutOfRange, message)
}

/// The part of a partition that is still to be read.
impl Range {
    fn is_empty(&self) -> bool {
        self.until.is_some_and(|until| self.next >= until)
    }
}
