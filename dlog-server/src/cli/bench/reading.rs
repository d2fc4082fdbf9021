//! Records out: a topic is read from its beginning, again and again until the time is over, and the wait for each record is
//! timed: from asking for the next one until it is there.

use super::PARTITIONS_DEFAULT;
use super::figures::{Figures, NodeSync};
use super::load::{LATENCY_US_MAX, node_stats};
use super::own_topic::OwnTopic;
use crate::cli::similar;
use anyhow::{Context, bail};
use bytes::Bytes;
use dlog_client::{Acks, Client, ConsumerOptions, Delivery, ProducerOptions, Record, TimestampMs};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Bytes that a topic of its own is filled with: more than the tail caches of a small node, little enough to be written soon.
const FILL_BYTES: usize = 128 << 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Reading {
    /// An existing topic; `None`: one of its own, filled first.
    pub topic: Option<String>,
    /// How many partitions: of its own topic, or of those that there are.
    pub partitions: Option<u32>,
    /// Bytes of each value in a topic of its own.
    pub record_bytes: usize,
    /// How long to read.
    pub duration: Duration,
    /// Records in flight while its own topic is filled.
    pub window: u32,
    /// At most so many records a second.
    pub rate: Option<f64>,
    /// When a record counts while its own topic is filled.
    pub acks: Acks,
    /// Of each request.
    pub timeout: Duration,
}

/// What was read so far.
struct Read {
    records: u64,
    bytes: u64,
    waits: Histogram<u64>,
}

impl Reading {
    /// Reads, and deletes its own topic at the end, however it ends.
    ///
    /// # Errors
    /// What kept it from measuring, an empty topic among it.
    pub async fn run(&self, client: &Client, stop: &CancellationToken) -> anyhow::Result<Figures> {
        if let Some(topic) = &self.topic {
            return self.run_on(client, topic, stop).await;
        }
        let own = OwnTopic::make(client, self.partitions.unwrap_or(PARTITIONS_DEFAULT)).await?;
        let result = async {
            self.fill(client, &own.name, stop).await?;
            self.run_on(client, &own.name, stop).await
        };
        let result = result.await;
        own.delete().await;
        result
    }

    async fn fill(&self, client: &Client, topic: &str, stop: &CancellationToken) -> anyhow::Result<()> {
        let options = ProducerOptions { acks: self.acks, timeout: self.timeout, ..ProducerOptions::default() };
        let producer = client.producer(options).context("can't produce")?;
        // Noise: whatever compresses on the way would flatter the figures.
        let mut random = crate::random::random();
        let value: Bytes = std::iter::repeat_with(|| random.u8(..)).take(self.record_bytes).collect::<Vec<u8>>().into();
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let mut flying: VecDeque<Delivery> = VecDeque::new();
        let cannot = || format!("can't fill topic {topic}");
        for number in 0..(FILL_BYTES / self.record_bytes).max(1) {
            if stop.is_cancelled() {
                bail!("interrupted before the measurement began");
            }
            if flying.len() >= self.window as usize
                && let Some(oldest) = flying.pop_front()
            {
                oldest.await.with_context(cannot)?;
            }
            let partition = Some(number as u32 % partitions);
            let record = Record { timestamp: TimestampMs::NONE, value: Some(value.clone()), ..Record::default() };
            flying.push_back(producer.send(topic, partition, record).await.with_context(cannot)?);
        }
        for delivery in flying {
            delivery.await.with_context(cannot)?;
        }
        Ok(())
    }

    async fn run_on(&self, client: &Client, topic: &str, stop: &CancellationToken) -> anyhow::Result<Figures> {
        let admin = client.admin();
        let described = similar::explain(&admin, topic, admin.describe_topic(topic).await).await;
        let described = described.with_context(|| format!("can't use topic {topic}"))?;
        let there = described.partitions.len() as u32;
        let partitions = match self.partitions {
            Some(wanted) if wanted > there => {
                bail!("topic {topic} has {there} partitions, --partitions asks for {wanted}")
            }
            wanted => wanted.unwrap_or(there),
        };
        let before = node_stats(&admin).await;
        let waits = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        let mut read = Read { records: 0, bytes: 0, waits };
        let began = Instant::now();
        while began.elapsed() < self.duration && !stop.is_cancelled() {
            let options = ConsumerOptions {
                partitions: (0..partitions).collect(),
                timeout: self.timeout,
                ..ConsumerOptions::new(topic)
            };
            let before = read.records;
            self.read_once(client, options, began, &mut read, stop).await?;
            if read.records == before && !stop.is_cancelled() && began.elapsed() < self.duration {
                bail!("topic {topic} holds no records; without --topic the measurement makes its own");
            }
        }
        let took = began.elapsed();
        let after = node_stats(&admin).await;
        let nodes = before.iter().map(|(name, before)| {
            let after = after.get(name).and_then(Option::as_ref);
            NodeSync::new(name.clone(), before.as_ref(), after)
        });
        Ok(Figures {
            records: read.records,
            bytes: read.bytes,
            errors: 0,
            took,
            what: "wait for a record",
            latencies: read.waits,
            durability: "read: what a majority of the replicas has synced, up to the high watermark".to_owned(),
            nodes: nodes.collect(),
        })
    }

    /// From the beginning to the end, or until the time is over.
    async fn read_once(
        &self,
        client: &Client,
        options: ConsumerOptions,
        began: Instant,
        read: &mut Read,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut consumer = client.consumer(options).await.context("can't read")?;
        let ends = tokio::time::Instant::from_std(began + self.duration);
        loop {
            if let Some(rate) = self.rate {
                let due = tokio::time::Instant::from_std(began + Duration::from_secs_f64(read.records as f64 / rate));
                tokio::time::sleep_until(due.min(ends)).await;
            }
            let asked = Instant::now();
            if asked >= ends.into_std() {
                return Ok(());
            }
            let next = tokio::select! {
                biased;
                next = consumer.next() => next,
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(ends) => return Ok(()),
            };
            let Some(record) = next.transpose().context("can't read")? else { return Ok(()) };
            read.waits.saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
            read.records += 1;
            let bytes = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len) as u64;
            read.bytes += bytes(&record.record.key) + bytes(&record.record.value);
            if read.records.is_multiple_of(1024) && stop.is_cancelled() {
                return Ok(());
            }
        }
    }
}
