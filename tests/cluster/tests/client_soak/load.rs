//! One producer with little room, followers, and readers who must see all that was acked; none is ever told of an error.

use dlog_client::{
    Client, ClientOptions, Codec, ConsumedRecord, ConsumerOptions, Error, Outcome, ProducerOptions, ReadLevel, Record,
    Start, TimestampMs,
};
use dlog_cluster_tests::history::{Reading, Told, Value, Write};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The topic under load.
pub const TOPIC: &str = "client-soak";
/// Its partitions.
pub const PARTITIONS: u32 = 4;
/// Between two records.
const PACE: Duration = Duration::from_millis(3);
/// For one record or answer, retries included: longer than any restart takes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Room in flight: some seconds' records while a leader is missing, then the writer waits.
const ROOM: usize = 128 * 1024;
/// Records of each partition in a linearizable read.
const TAIL: u64 = 50;
/// Between two looks of a follower whether the load has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What the load knows, shared by its tasks and the test.
#[derive(Debug, Default)]
pub struct Load {
    servers: Vec<String>,
    stop: AtomicBool,
    written: AtomicBool,
    /// For each partition the offset after the greatest that was acked.
    known: [AtomicU64; PARTITIONS as usize],
    writes: Mutex<Vec<Write>>,
    readings: Mutex<Vec<Reading>>,
    errors: Mutex<Vec<String>>,
    /// Records acked.
    pub acked: AtomicUsize,
    /// Records that followers got.
    pub followed: AtomicUsize,
    /// Linearizable reads that ended.
    pub linearizable: AtomicUsize,
}

impl Load {
    /// A load on the cluster at these addresses.
    pub fn new(servers: &str) -> Load {
        Load { servers: servers.split(',').map(str::to_owned).collect(), ..Load::default() }
    }

    /// Ends it once everything that was written is settled and read.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What anybody was told of.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("no holder panics").clone()
    }

    /// Everything noted, to be checked.
    pub fn take_history(&self) -> (Vec<Write>, Vec<Reading>) {
        let mut writes = std::mem::take(&mut *self.writes.lock().expect("no holder panics"));
        writes.sort_by_key(|write| write.value);
        (writes, std::mem::take(&mut *self.readings.lock().expect("no holder panics")))
    }

    /// Bytes that the notes themselves take.
    pub fn notes_bytes(&self) -> u64 {
        let writes = self.writes.lock().expect("no holder panics").capacity() * size_of::<Write>();
        let tails = self.linearizable.load(Ordering::Relaxed) * PARTITIONS as usize * TAIL as usize;
        let read = self.followed.load(Ordering::Relaxed) + tails;
        // A vector that grows by doubling has up to twice the room.
        (writes + read * 2 * size_of::<(u64, Value)>()) as u64
    }

    fn fail(&self, what: &str, error: impl std::fmt::Display) {
        let text = format!("{what}: {error}");
        eprintln!("client soak: an error to the caller: {text}");
        self.errors.lock().expect("no holder panics").push(text);
    }

    fn ends(&self) -> Vec<u64> {
        self.known.iter().map(|known| known.load(Ordering::Relaxed)).collect()
    }
}

/// Runs the load until it is stopped and every follower has everything. All share one client.
pub async fn run(load: &'static Load, nodes: Vec<String>) {
    let options = ClientOptions::new(load.servers.clone()).with_timeout(TIMEOUT);
    let client = match Client::connect(options).await {
        Ok(client) => client,
        Err(error) => return load.fail("connecting", error),
    };
    let mut tasks = vec![
        tokio::spawn(follow(load, client.clone(), "a follower of the leaders", None)),
        tokio::spawn(follow(load, client.clone(), "a follower of rack r2", Some("r2"))),
    ];
    let readers = nodes.into_iter().map(Some).chain([None]);
    tasks.extend(readers.map(|node| tokio::spawn(read_linearizably(load, client.clone(), node))));
    if let Err(error) = write(load, &client).await {
        load.fail("the writer", error);
    }
    load.written.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no task panics");
    }
}

async fn write(load: &'static Load, client: &Client) -> Result<(), Error> {
    let options = ProducerOptions {
        timeout: TIMEOUT,
        in_flight_bytes: ROOM,
        batch_bytes: 16 * 1024,
        codec: Codec::Lz4,
        ..ProducerOptions::default()
    };
    let producer = client.producer(options)?;
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way = tokio::task::JoinSet::new();
    for counter in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        pace.tick().await;
        let value = Value { writer: 0, counter };
        let key = format!("key-{}", counter % 97);
        let partition = dlog_client::partitioner::partition_for_key(key.as_bytes(), PARTITIONS);
        let known = load.known[partition as usize].load(Ordering::Relaxed).checked_sub(1);
        let record = Record::new(TimestampMs::NONE, format!("{:<200}", value.text())).with_key(key);
        let write = Write { value, partition, known, told: Told::Unknown };
        let delivery = producer.send(TOPIC, None, record).await;
        under_way.spawn(async move {
            let told = match delivery {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            note(load, write, told);
        });
        while under_way.try_join_next().is_some() {}
    }
    producer.close().await;
    if producer.bytes_in_flight() != 0 {
        load.fail("the writer", format!("{} bytes are in flight after close", producer.bytes_in_flight()));
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

fn note(load: &Load, mut write: Write, told: Result<dlog_client::Delivered, Error>) {
    write.told = match told {
        Ok(at) => {
            if at.partition != write.partition {
                load.fail("producing", format!("{:?} went to partition {}", write.value, at.partition));
            }
            load.known[at.partition as usize].fetch_max(at.offset.0 + 1, Ordering::Relaxed);
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
struct Notes(BTreeMap<u32, Vec<(u64, Value)>>);

impl Notes {
    fn add(&mut self, load: &Load, record: &ConsumedRecord) {
        match record.record.value.as_deref().and_then(Value::parse) {
            Some(value) => self.0.entry(record.partition).or_default().push((record.offset.0, value)),
            None => load.fail("reading", format!("a record that nobody wrote: {record:?}")),
        }
    }

    fn end(&self, partition: u32) -> u64 {
        self.0.get(&partition).and_then(|records| records.last()).map_or(0, |(offset, _)| offset + 1)
    }

    fn finish(self, load: &Load, reader: &str) {
        let reading = |(partition, records)| Reading { reader: reader.to_owned(), partition, records };
        load.readings.lock().expect("no holder panics").extend(self.0.into_iter().map(reading));
    }
}

/// Follows the whole topic until it has everything that was written.
async fn follow(load: &'static Load, client: Client, name: &'static str, rack: Option<&'static str>) {
    let options = ConsumerOptions {
        follow: true,
        prefer_rack: rack.map(str::to_owned),
        rack_recheck: Duration::from_secs(1),
        timeout: TIMEOUT,
        ..ConsumerOptions::new(TOPIC)
    };
    let mut consumer = match client.consumer(options).await {
        Ok(consumer) => consumer,
        Err(error) => return load.fail(name, error),
    };
    let mut notes = Notes::default();
    let has_all = |notes: &Notes| (0..PARTITIONS).zip(load.ends()).all(|(partition, end)| notes.end(partition) >= end);
    while !(load.written.load(Ordering::Relaxed) && has_all(&notes)) {
        match tokio::time::timeout(LOOK, consumer.next()).await {
            Ok(Some(Ok(record))) => {
                load.followed.fetch_add(1, Ordering::Relaxed);
                notes.add(load, &record);
            }
            Ok(Some(Err(error))) => {
                load.fail(name, error);
                break;
            }
            Ok(None) => {
                load.fail(name, "the stream ended");
                break;
            }
            Err(_) => {}
        }
    }
    consumer.take_warnings().iter().for_each(|warning| load.fail(name, warning));
    notes.finish(load, name);
}

/// Reads the newest records linearizably, again and again: each time all that was acked before must be there.
async fn read_linearizably(load: &'static Load, client: Client, node: Option<String>) {
    while !load.stop.load(Ordering::Relaxed) {
        let name = format!("a linearizable reader of {}", node.as_deref().unwrap_or("any"));
        let acked = load.ends();
        let options = ConsumerOptions {
            from: Start::Last(TAIL),
            node: node.clone(),
            read: ReadLevel::Linearizable,
            timeout: TIMEOUT,
            ..ConsumerOptions::new(TOPIC)
        };
        match read(load, &client, options).await {
            Ok(notes) => {
                for (partition, acked) in (0..).zip(acked) {
                    if notes.end(partition) < acked {
                        let end = notes.end(partition);
                        load.fail(&name, format!("partition {partition} ended at {end}, {acked} were acked before"));
                    }
                }
                notes.finish(load, &name);
            }
            Err(error) => load.fail(&name, error),
        }
        load.linearizable.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(LOOK).await;
    }
}

async fn read(load: &Load, client: &Client, options: ConsumerOptions) -> Result<Notes, Error> {
    let mut notes = Notes::default();
    let mut consumer = client.consumer(options).await?;
    while let Some(record) = consumer.next().await {
        notes.add(load, &record?);
    }
    Ok(notes)
}
