//! A tour of the client library: a topic, a producer, consumers of both kinds. With a cluster on this machine (`dlog dev`):
//! `cargo run -p dlog-client --example tour`; `DLOG_SERVER` names another one.

use dlog_client::{
    Client, ClientOptions, Codec, ConsumerOptions, Delivery, Error, NewTopic, OffsetsQuery, Outcome, ProducerOptions,
    ReadLevel, Record, Start, TimestampMs,
};
use std::time::Duration;

const TOPIC: &str = "tour";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let servers = std::env::var("DLOG_SERVER").unwrap_or_else(|_| "127.0.0.1:7411".to_owned());
    tour(servers.split(',')).await
}

/// Everything, one after the other.
pub async fn tour(servers: impl Iterator<Item = &str>) -> Result<(), Error> {
    let client = Client::connect(ClientOptions::new(servers)).await?;
    let topic = NewTopic { name: TOPIC.to_owned(), partitions: 3, if_not_exists: true, ..NewTopic::default() };
    client.admin().create_topic(topic).await?;
    produce(&client).await?;
    let end = client.admin().offsets(TOPIC, &[], OffsetsQuery::default()).await?;
    println!("{} records are there", end.iter().map(|partition| partition.high_watermark).sum::<u64>());
    read_the_newest(&client).await?;
    follow_one_key(&client).await
}

/// Many records in flight, each with a future of its own.
async fn produce(client: &Client) -> Result<(), Error> {
    let producer = client.producer(ProducerOptions { codec: Codec::Lz4, ..ProducerOptions::default() })?;
    let mut deliveries: Vec<Delivery> = Vec::new();
    for number in 0..100 {
        let record =
            Record::new(TimestampMs::NONE, format!("reading {number}")).with_key(format!("sensor-{}", number % 5));
        // Waits only where the bytes in flight have reached their bound.
        deliveries.push(producer.send(TOPIC, None, record).await?);
    }
    for delivery in deliveries {
        match delivery.await {
            Ok(_at) => {}
            Err(error) if error.outcome() == Outcome::Unknown => println!("may have been written: {error}"),
            Err(error) => return Err(error),
        }
    }
    producer.close().await;
    Ok(())
}

/// A read that ends by itself, and misses nothing that was acked before it began.
async fn read_the_newest(client: &Client) -> Result<(), Error> {
    let options =
        ConsumerOptions { from: Start::Last(2), read: ReadLevel::Linearizable, ..ConsumerOptions::new(TOPIC) };
    let mut consumer = client.consumer(options).await?;
    while let Some(found) = consumer.next().await {
        let found = found?;
        let value = found.record.value.unwrap_or_default();
        println!("{}/{} {}", found.partition, found.offset, String::from_utf8_lossy(&value));
    }
    Ok(())
}

/// A read without end, left after the first record that is wanted: dropping the consumer ends it.
async fn follow_one_key(client: &Client) -> Result<(), Error> {
    let mut consumer = client.consumer(ConsumerOptions { follow: true, ..ConsumerOptions::new(TOPIC) }).await?;
    let search = async {
        while let Some(found) = consumer.next().await {
            let found = found?;
            if found.record.key.as_deref() == Some(b"sensor-3") {
                println!("the first of sensor-3 is {}/{}", found.partition, found.offset);
                break;
            }
        }
        Ok(())
    };
    // Any future of this library may be dropped at any moment, as this timeout may.
    tokio::time::timeout(Duration::from_secs(30), search).await.unwrap_or(Ok(()))
}
