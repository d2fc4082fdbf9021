//! Records at a pace, each timed on its own.
//!
//! Closed loop: a record is sent when one of the window's places is free, and timed from its sending. Open loop: a record is due
//! at its time whatever happened before, and timed from then, so that a stall counts for all that were due meanwhile.

use super::PARTITIONS_DEFAULT;
use super::figures::{Figures, NodeSync};
use super::own_topic::OwnTopic;
use crate::cli::{out, similar};
use anyhow::{Context, bail};
use bytes::Bytes;
use dlog_client::v1::{NodeStatsResponse, TopicDescription};
use dlog_client::{Acks, Admin, Client, Error, Producer, ProducerOptions, Record, TimestampMs};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// The longest latency told apart, in microseconds: the longest timeout.
pub(super) const LATENCY_US_MAX: u64 = 600_000_000;
/// How long a place stays taken after an error, so that a failing cluster isn't flooded.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Due records that wait for the sender; more of them would only be later.
const DUE_MAX: usize = 1 << 20;

/// When records are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as a place is free.
    Closed,
    /// As soon as a place is free, at most so many a second.
    ClosedAt(f64),
    /// So many a second.
    Open(f64),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// An existing topic; `None`: one of its own.
    pub topic: Option<String>,
    /// How many partitions to write to.
    pub partitions: Option<u32>,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// How long.
    pub duration: Duration,
    /// Records in flight.
    pub window: u32,
    /// When records are sent.
    pub pace: Pace,
    /// When a record is acked.
    pub acks: Acks,
    /// Of each record.
    pub timeout: Duration,
}

/// What was measured so far.
struct Measured {
    latencies: Histogram<u64>,
    errors: u64,
    last_error: Option<Error>,
}

impl Load {
    /// Runs the load: makes its topic if it needs one, and deletes that at the end, however it ends.
    ///
    /// # Errors
    /// What kept it from measuring; single records that fail are counted.
    pub async fn run(&self, client: &Client, stop: &CancellationToken) -> anyhow::Result<Figures> {
        if let Some(topic) = &self.topic {
            return self.run_on(client, topic, stop).await;
        }
        let own = OwnTopic::make(client, self.partitions.unwrap_or(PARTITIONS_DEFAULT)).await?;
        let result = self.run_on(client, &own.name, stop).await;
        own.delete().await;
        result
    }

    async fn run_on(&self, client: &Client, topic: &str, stop: &CancellationToken) -> anyhow::Result<Figures> {
        let admin = client.admin();
        let described = similar::explain(&admin, topic, admin.describe_topic(topic).await).await;
        let described = described.with_context(|| format!("can't use topic {topic}"))?;
        let partitions = self.partition_count(&described)?;
        let options = ProducerOptions { acks: self.acks, timeout: self.timeout, ..ProducerOptions::default() };
        let producer = client.producer(options).context("can't produce")?;
        let sender = Sender::new(producer, topic, partitions, self.record_bytes);
        tokio::select! {
            warm = sender.warm_up() => warm?,
            () = stop.cancelled() => bail!("interrupted before the measurement began"),
        }
        let before = node_stats(&admin).await;
        let began = Instant::now();
        let measured = self.send_all(Arc::new(sender), stop).await?;
        let took = began.elapsed();
        let after = node_stats(&admin).await;
        if let Some(error) = &measured.last_error {
            out::note(format!("{} records failed, the last with: {error}", measured.errors));
        }
        let records = measured.latencies.len();
        let nodes = before.iter().map(|(name, before)| {
            let after = after.get(name).and_then(Option::as_ref);
            NodeSync::new(name.clone(), before.as_ref(), after)
        });
        Ok(Figures {
            records,
            bytes: records * self.record_bytes as u64,
            errors: measured.errors,
            took,
            what: "ack after",
            latencies: measured.latencies,
            durability: durability(self.acks, &described),
            nodes: nodes.collect(),
        })
    }

    fn partition_count(&self, topic: &TopicDescription) -> anyhow::Result<u32> {
        let there = topic.partitions.len() as u32;
        match self.partitions {
            Some(wanted) if wanted > there => {
                bail!("topic {} has {there} partitions, --partitions asks for {wanted}", topic.name)
            }
            wanted => Ok(wanted.unwrap_or(there)),
        }
    }

    async fn send_all(&self, sender: Arc<Sender>, stop: &CancellationToken) -> anyhow::Result<Measured> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        let measured = Arc::new(Mutex::new(Measured { latencies, errors: 0, last_error: None }));
        let window = Arc::new(Semaphore::new(self.window as usize));
        let mut due = match self.pace {
            Pace::Closed => None,
            Pace::ClosedAt(rate) | Pace::Open(rate) => Some(start_clock(rate, self.duration)),
        };
        let open = matches!(self.pace, Pace::Open(_));
        // What was due in an open loop is sent even if that is late: to leave it out would flatter the figures.
        let patience = if open { self.timeout } else { Duration::ZERO };
        let ends = tokio::time::Instant::now() + self.duration + patience;
        let mut number = 0;
        loop {
            let next = async {
                let due_at = match &mut due {
                    Some(due) => due.recv().await?,
                    None => Instant::now(),
                };
                Some((due_at, window.clone().acquire_owned().await.ok()?))
            };
            let (due_at, place) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(ends) => break,
                next = next => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            let (sender, measured) = (sender.clone(), measured.clone());
            tokio::spawn(async move {
                let from = if open { due_at } else { Instant::now() };
                let result = sender.send(number).await;
                let failed = result.is_err();
                measured.lock().expect("no holder panics").take(result, from.elapsed());
                if failed {
                    tokio::time::sleep(AFTER_ERROR).await;
                }
                drop(place);
            });
            number += 1;
        }
        // Every place free again: every record has its ack or its error.
        let all = window.acquire_many(self.window).await;
        drop(all);
        let never_sent = due.filter(|_| open && !stop.is_cancelled()).map_or(0, |mut due| count_left(&mut due));
        measured.lock().expect("no holder panics").errors += never_sent;
        let empty =
            Measured { latencies: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?, errors: 0, last_error: None };
        Ok(std::mem::replace(&mut *measured.lock().expect("no holder panics"), empty))
    }
}

impl Measured {
    fn take(&mut self, result: Result<(), Error>, took: Duration) {
        match result {
            Ok(()) => self.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)),
            Err(error) => {
                self.errors += 1;
                self.last_error = Some(error);
            }
        }
    }
}

/// Sends one record and waits for its ack.
struct Sender {
    producer: Producer,
    topic: String,
    partitions: u32,
    value: Bytes,
}

impl Sender {
    fn new(producer: Producer, topic: &str, partitions: u32, record_bytes: usize) -> Sender {
        // Noise: whatever compresses on the way would flatter the figures.
        let mut random = crate::random::random();
        let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(record_bytes).collect();
        Sender { producer, topic: topic.to_string(), partitions, value: value.into() }
    }

    async fn send(&self, number: u64) -> Result<(), Error> {
        let record = Record { timestamp: TimestampMs::NONE, value: Some(self.value.clone()), ..Record::default() };
        let partition = (number % u64::from(self.partitions)) as u32;
        self.producer.send(&self.topic, Some(partition), record).await?.await.map(|_| ())
    }

    /// One record for each partition, so that elections and connections are not measured.
    async fn warm_up(&self) -> anyhow::Result<()> {
        for partition in 0..self.partitions {
            let sent = self.send(u64::from(partition)).await;
            sent.with_context(|| format!("can't write to {}/{partition}", self.topic))?;
        }
        Ok(())
    }
}

/// Tells when each record is due. A thread, since the runtime's timer knows only milliseconds.
fn start_clock(rate: f64, duration: Duration) -> mpsc::Receiver<Instant> {
    let (due, receiver) = mpsc::channel(DUE_MAX);
    std::thread::spawn(move || {
        let began = Instant::now();
        for number in 0u64.. {
            let after = Duration::from_secs_f64(number as f64 / rate);
            if after >= duration {
                return;
            }
            let at = began + after;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.blocking_send(at).is_err() {
                return;
            }
        }
    });
    receiver
}

/// How many were due and not sent.
fn count_left(due: &mut mpsc::Receiver<Instant>) -> u64 {
    due.close();
    std::iter::from_fn(|| due.try_recv().ok()).count() as u64
}

/// The figures of each node by its name; `None` of one that doesn't answer.
pub(super) async fn node_stats(admin: &Admin) -> BTreeMap<String, Option<NodeStatsResponse>> {
    let mut stats = BTreeMap::new();
    for status in admin.nodes().await.unwrap_or_default() {
        let name = status.node.unwrap_or_default().name;
        // One that is down would only cost its timeout.
        let answer = if status.alive { admin.node_stats(&name).await.ok() } else { None };
        stats.insert(name, answer);
    }
    stats
}

/// What an ack meant.
fn durability(acks: Acks, topic: &TopicDescription) -> String {
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    match acks {
        Acks::Quorum => format!("quorum: fdatasync on {} of {replicas} replicas before each ack", replicas / 2 + 1),
        Acks::Leader => format!("leader: fdatasync on the leader alone before each ack, of {replicas} replicas"),
        Acks::All => format!("all: fdatasync on every replica in sync before each ack, of {replicas} replicas"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::v1::PartitionDescription;

    fn topic(replicas: usize) -> TopicDescription {
        let partition = PartitionDescription { replicas: vec!["n".into(); replicas], ..Default::default() };
        TopicDescription { name: "t".into(), partitions: vec![partition], ..Default::default() }
    }

    #[test]
    fn an_ack_says_what_it_means() {
        assert!(durability(Acks::Quorum, &topic(3)).contains("2 of 3"));
        assert!(durability(Acks::Quorum, &topic(1)).contains("1 of 1"));
        assert!(durability(Acks::Leader, &topic(3)).contains("leader alone"));
    }

    #[test]
    fn the_clock_is_never_early_and_drops_nothing() {
        let began = Instant::now();
        let mut due = start_clock(1000.0, Duration::from_millis(50));
        let mut times = Vec::new();
        while let Some(at) = due.blocking_recv() {
            assert!(at <= Instant::now());
            times.push(at);
        }
        assert_eq!(times.len(), 50);
        assert!(times[0] >= began && times.is_sorted());
    }
}
