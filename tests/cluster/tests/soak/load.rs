//! The load: writers, followers, readers of the tail, and topics that come and go, all through the client library and none
//! of them ever told of an error.

use dlog_client::{
    Client, ClientOptions, ConsumedRecord, Consumer, ConsumerOptions, Error, NewTopic, Outcome, Producer,
    ProducerOptions, Record, Start, TimestampMs,
};
use dlog_cluster_tests::history::{Reading, Told, Value, Write};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The topic under load.
pub const TOPIC: &str = "soak";
/// Its partitions.
pub const PARTITIONS: u32 = 4;
/// Those who write, each with a producer of its own.
pub const WRITERS: u32 = 3;
/// Between two records of one writer.
const PACE: Duration = Duration::from_millis(10);
/// For one record, request or answer, retries included: longer than any restart takes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks of a follower whether the load has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Between two reads of the tail, and two topics that come and go.
const PAUSE: Duration = Duration::from_millis(1500);
/// Records of each partition in a read of the tail.
const TAIL: u64 = 100;
/// Records in a topic that comes and goes.
const CHURN_RECORDS: u32 = 20;
/// Bytes of a record.
const RECORD_BYTES: usize = 200;

/// What the load knows, shared by its tasks and the test.
#[derive(Debug, Default)]
pub struct Load {
    servers: Vec<String>,
    /// Writers stop, then readers once they have everything.
    writers_stop: AtomicBool,
    readers_stop: AtomicBool,
    /// For each partition the offset after the greatest that anybody was told of.
    known: [AtomicU64; PARTITIONS as usize],
    writes: Mutex<Vec<Write>>,
    readings: Mutex<Vec<Reading>>,
    errors: Mutex<Vec<String>>,
    /// Records acked, read, read of the tail; topics that came and went.
    pub acked: AtomicUsize,
    /// Records that followers got.
    pub followed: AtomicUsize,
    /// Reads of the tail.
    pub tails: AtomicUsize,
    /// Topics that came and went.
    pub churned: AtomicUsize,
}

impl Load {
    /// A load on the cluster at these addresses.
    pub fn new(servers: &str) -> Load {
        Load { servers: servers.split(',').map(str::to_owned).collect(), ..Load::default() }
    }

    /// Lets the writers end after what they have under way.
    pub fn stop_writers(&self) {
        self.writers_stop.store(true, Ordering::Relaxed);
    }

    /// What went wrong so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("no holder panics").clone()
    }

    /// Everything noted, to be checked.
    pub fn take_history(&self) -> (Vec<Write>, Vec<Reading>) {
        let mut writes = std::mem::take(&mut *self.writes.lock().expect("no holder panics"));
        writes.sort_by_key(|write| write.value);
        (writes, std::mem::take(&mut *self.readings.lock().expect("no holder panics")))
    }

    /// Bytes that the notes themselves take in this process.
    pub fn notes_bytes(&self) -> u64 {
        let writes = self.writes.lock().expect("no holder panics").capacity() * size_of::<Write>();
        let read = self.followed.load(Ordering::Relaxed) + self.tails.load(Ordering::Relaxed) * 4 * TAIL as usize;
        (writes + read * 2 * size_of::<(u64, Value)>()) as u64
    }

    fn fail(&self, what: &str, error: impl std::fmt::Display) {
        let text = format!("{what}: {error}");
        eprintln!("soak: an error to the caller: {text}");
        self.errors.lock().expect("no holder panics").push(text);
    }

    fn learn(&self, partition: u32, offset: u64) {
        self.known[partition as usize].fetch_max(offset + 1, Ordering::Relaxed);
    }

    fn known(&self, partition: u32) -> Option<u64> {
        self.known[partition as usize].load(Ordering::Relaxed).checked_sub(1)
    }

    async fn client(&self) -> Result<Client, Error> {
        Client::connect(ClientOptions::new(self.servers.clone()).with_timeout(TIMEOUT)).await
    }
}

/// Runs the whole load until it was stopped and every follower has everything; then reads all of it from each node.
pub async fn run(load: &'static Load, nodes: Vec<String>) {
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(load, writer))).collect();
    let mut readers = vec![tokio::spawn(read_tails(load)), tokio::spawn(churn(load))];
    readers.push(tokio::spawn(follow(load, None)));
    readers.extend(nodes.iter().map(|node| tokio::spawn(follow(load, Some(node.clone())))));
    for writer in writers {
        writer.await.expect("a writer doesn't panic");
    }
    load.readers_stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("a reader doesn't panic");
    }
    for node in nodes {
        if let Err(error) = read_all(load, &node).await {
            load.fail(&format!("the last read from {node}"), error);
        }
    }
}

async fn write(load: &'static Load, writer: u32) {
    let producer = match producer(load).await {
        Ok(producer) => producer,
        Err(error) => return load.fail("a producer", error),
    };
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way = tokio::task::JoinSet::new();
    let mut counter = 0;
    while !load.writers_stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let value = Value { writer, counter };
        // Runs of one partition, so that batches follow each other closely.
        let partition = (counter / 8).wrapping_mul(7).wrapping_add(writer) % PARTITIONS;
        let known = load.known(partition);
        counter += 1;
        let write = Write { value, partition, known, told: Told::Unknown };
        match producer.send(TOPIC, Some(partition), record(value)).await {
            Ok(delivery) => {
                under_way.spawn(async move { note(load, write, delivery.await) });
            }
            Err(error) => note(load, write, Err(error)),
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn producer(load: &Load) -> Result<Producer, Error> {
    load.client().await?.producer(ProducerOptions { timeout: TIMEOUT, ..ProducerOptions::default() })
}

fn record(value: Value) -> Record {
    Record::new(TimestampMs::NONE, format!("{:<RECORD_BYTES$}", value.text()))
}

fn note(load: &Load, mut write: Write, told: Result<dlog_client::Delivered, Error>) {
    write.told = match told {
        Ok(at) => {
            load.learn(write.partition, at.offset.0);
            load.acked.fetch_add(1, Ordering::Relaxed);
            Told::Acked(at.offset.0)
        }
        Err(error) => {
            load.fail(&format!("producing {:?}", write.value), &error);
            if error.outcome() == Outcome::Rejected { Told::Rejected } else { Told::Unknown }
        }
    };
    load.writes.lock().expect("no holder panics").push(write);
}

/// What one reader got, by partition.
#[derive(Default)]
struct Notes {
    readings: BTreeMap<u32, Vec<(u64, Value)>>,
}

impl Notes {
    fn add(&mut self, load: &Load, record: &ConsumedRecord) {
        let value = record.record.value.as_deref().and_then(Value::parse);
        let Some(value) = value else {
            return load.fail("reading", format!("a record that nobody wrote: {record:?}"));
        };
        load.learn(record.partition, record.offset.0);
        self.readings.entry(record.partition).or_default().push((record.offset.0, value));
    }

    fn end(&self, partition: u32) -> u64 {
        self.readings.get(&partition).and_then(|records| records.last()).map_or(0, |(offset, _)| offset + 1)
    }

    fn finish(self, load: &Load, reader: &str) {
        let reading = |(partition, records)| Reading { reader: reader.to_owned(), partition, records };
        load.readings.lock().expect("no holder panics").extend(self.readings.into_iter().map(reading));
    }
}

async fn open(load: &Load, options: ConsumerOptions) -> Result<Consumer, Error> {
    load.client().await?.consumer(ConsumerOptions { timeout: TIMEOUT, ..options }).await
}

/// Follows the whole topic, from the leaders or from one node, until it has everything that was written.
async fn follow(load: &'static Load, node: Option<String>) {
    let name = format!("a follower of {}", node.as_deref().unwrap_or("the leaders"));
    let mut notes = Notes::default();
    let mut consumer = match open(load, ConsumerOptions { follow: true, node, ..ConsumerOptions::new(TOPIC) }).await {
        Ok(consumer) => consumer,
        Err(error) => return load.fail(&name, error),
    };
    let has_all = |notes: &Notes| (0..PARTITIONS).all(|p| load.known(p).is_none_or(|known| notes.end(p) > known));
    let mut heard = Instant::now();
    while !(load.readers_stop.load(Ordering::Relaxed) && has_all(&notes)) {
        // The wait is short so that the end of the load is seen; silence is counted from the last record.
        match tokio::time::timeout(LOOK, consumer.next()).await {
            Ok(Some(Ok(record))) => {
                load.followed.fetch_add(1, Ordering::Relaxed);
                notes.add(load, &record);
                heard = Instant::now();
            }
            Ok(Some(Err(error))) => {
                load.fail(&name, error);
                break;
            }
            Ok(None) => {
                load.fail(&name, "the stream ended");
                break;
            }
            Err(_) if heard.elapsed() > TIMEOUT => {
                load.fail(&name, format!("nothing came for {TIMEOUT:?}"));
                break;
            }
            Err(_) => {}
        }
    }
    notes.finish(load, &name);
}

/// Reads the newest records again and again: each time all that was acked before must be there.
async fn read_tails(load: &'static Load) {
    let mut count = 0;
    while !load.readers_stop.load(Ordering::Relaxed) {
        let name = format!("tail {count}");
        let known: Vec<Option<u64>> = (0..PARTITIONS).map(|partition| load.known(partition)).collect();
        match read(load, ConsumerOptions { from: Start::Last(TAIL), ..ConsumerOptions::new(TOPIC) }).await {
            Ok(notes) => {
                for (partition, known) in (0..).zip(known) {
                    if let Some(known) = known.filter(|known| notes.end(partition) <= *known) {
                        let end = notes.end(partition);
                        load.fail(&name, format!("partition {partition} ended at {end}, {known} was known before"));
                    }
                }
                notes.finish(load, &name);
            }
            Err(error) => load.fail(&name, error),
        }
        count += 1;
        load.tails.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(load: &Load, options: ConsumerOptions) -> Result<Notes, Error> {
    let mut notes = Notes::default();
    let mut consumer = open(load, options).await?;
    while let Some(record) = consumer.next().await {
        notes.add(load, &record?);
    }
    Ok(notes)
}

async fn read_all(load: &Load, node: &str) -> Result<(), Error> {
    let notes = read(load, ConsumerOptions { node: Some(node.to_owned()), ..ConsumerOptions::new(TOPIC) }).await?;
    notes.finish(load, &format!("the last read from {node}"));
    Ok(())
}

/// Topics that come, take records, give them back and go.
async fn churn(load: &'static Load) {
    let mut count = 0;
    while !load.readers_stop.load(Ordering::Relaxed) {
        let name = format!("churn-{count}");
        if let Err(error) = come_and_go(load, &name).await {
            load.fail(&name, error);
        }
        count += 1;
        load.churned.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn come_and_go(load: &Load, name: &str) -> Result<(), Error> {
    let client = load.client().await?;
    let topic = NewTopic { name: name.to_owned(), partitions: 2, if_not_exists: true, ..NewTopic::default() };
    client.admin().create_topic(topic).await?;
    let producer = client.producer(ProducerOptions { timeout: TIMEOUT, ..ProducerOptions::default() })?;
    let mut written = Vec::new();
    for counter in 0..CHURN_RECORDS {
        let value = Value { writer: 0, counter };
        let delivery = producer.send(name, Some(counter % 2), record(value)).await?;
        let at = delivery.await?;
        written.push((at.partition, at.offset.0, value));
    }
    let mut read = Vec::new();
    let options = ConsumerOptions { timeout: TIMEOUT, ..ConsumerOptions::new(name) };
    let mut consumer = client.consumer(options).await?;
    while let Some(record) = consumer.next().await {
        let record = record?;
        let value = record.record.value.as_deref().and_then(Value::parse);
        read.extend(value.map(|value| (record.partition, record.offset.0, value)));
    }
    written.sort_unstable();
    read.sort_unstable();
    if written != read {
        load.fail(name, format!("written: {written:?}; read: {read:?}"));
    }
    client.admin().delete_topic(name, false).await.map(drop)
}
