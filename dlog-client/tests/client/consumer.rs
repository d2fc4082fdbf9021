//! The consumer: every record once, in order, whatever happens to the replicas.

use crate::fake::{Fake, TOPIC, text};
use bytes::Bytes;
use dlog_client::{Client, Consumer, ConsumerOptions, End, Error, ErrorCode, Offset, OnGap, Start};
use dlog_core::{ErrorDetail, Stage};
use dlog_protocol::status;
use std::time::Duration;
use tonic::Status;

fn options() -> ConsumerOptions {
    ConsumerOptions { timeout: Duration::from_secs(20), ..ConsumerOptions::new(TOPIC) }
}

async fn read(consumer: &mut Consumer) -> Result<Vec<(u32, u64, String)>, Error> {
    let mut records = Vec::new();
    while let Some(found) = consumer.next().await {
        let found = found?;
        records.push((found.partition, found.offset.0, text(found.record.value)));
    }
    Ok(records)
}

async fn read_all(client: &Client, options: ConsumerOptions) -> Result<Vec<String>, Error> {
    let mut consumer = client.consumer(options).await?;
    Ok(read(&mut consumer).await?.into_iter().map(|(_, _, value)| value).collect())
}

#[tokio::test]
async fn reads_to_the_high_watermark_of_the_start() {
    let fake = Fake::start(3, 2).await;
    fake.fill(0, &["a", "b"]);
    fake.fill(0, &["c"]);
    fake.fill(1, &["z"]);
    let client = fake.client().await;
    let mut consumer = client.consumer(options()).await.expect("there");
    fake.fill(0, &["later"]);
    let mut records = read(&mut consumer).await.expect("read");
    records.sort();
    let expected = [(0, 0, "a"), (0, 1, "b"), (0, 2, "c"), (1, 0, "z")];
    assert_eq!(records, expected.map(|(partition, offset, value)| (partition, offset, value.to_owned())));
}

#[tokio::test]
async fn begins_and_ends_inside_batches() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["0", "1", "2", "3"]);
    fake.fill(0, &["4", "5"]);
    let client = fake.client().await;
    let part = ConsumerOptions { from: Start::Offset(Offset(1)), to: Some(End::Offset(Offset(5))), ..options() };
    assert_eq!(read_all(&client, part).await.expect("read"), ["1", "2", "3", "4"]);
    let last = ConsumerOptions { from: Start::Last(3), ..options() };
    assert_eq!(read_all(&client, last).await.expect("read"), ["3", "4", "5"]);
    let latest = ConsumerOptions { from: Start::Latest, ..options() };
    assert!(read_all(&client, latest).await.expect("read").is_empty());
    let beyond = ConsumerOptions { from: Start::Offset(Offset(7)), ..options() };
    let error = client.consumer(beyond.clone()).await.expect_err("above the end");
    assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
    let jump = ConsumerOptions { on_gap: OnGap::Earliest, ..beyond };
    assert_eq!(read_all(&client, jump).await.expect("read").len(), 6);
}

/// Every answer may be the last of its stream; each record still comes once.
#[tokio::test]
async fn goes_on_after_every_cut() {
    let fake = Fake::start(3, 1).await;
    let values: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    for value in &values {
        fake.fill(0, &[value]);
    }
    let mut count = 0;
    fake.on_consume(move |_, batch| {
        count += 1;
        if count % 3 == 0 { Err(Status::unavailable("the connection was cut")) } else { Ok(batch) }
    });
    let client = fake.client().await;
    assert_eq!(read_all(&client, options()).await.expect("read"), values);
}

#[tokio::test]
async fn another_replica_serves_if_the_leader_does_not() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["a", "b"]);
    fake.on_consume(|node, batch| if node == 1 { Err(Status::unavailable("not me")) } else { Ok(batch) });
    let client = fake.client().await;
    assert_eq!(read_all(&client, options()).await.expect("read"), ["a", "b"]);
}

/// What is whole is handed on; the damaged batch is read from a replica that has it whole.
#[tokio::test]
async fn damage_is_never_handed_on() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["good"]);
    fake.fill(0, &["target"]);
    fake.on_consume(|node, batch| {
        let mut bytes = batch.to_vec();
        if node == 1 && bytes.windows(6).any(|window| window == b"target") {
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
        }
        Ok(Bytes::from(bytes))
    });
    let client = fake.client().await;
    assert_eq!(read_all(&client, options()).await.expect("read"), ["good", "target"]);
    // With that node and no other there is only the error.
    let pinned = ConsumerOptions { node: Some("n1".into()), ..options() };
    let mut consumer = client.consumer(pinned).await.expect("there");
    assert_eq!(text(consumer.next().await.expect("one").expect("whole").record.value), "good");
    assert_eq!(consumer.next().await.expect("one").expect_err("damaged").code(), ErrorCode::CorruptData);
    assert!(consumer.next().await.is_none(), "it ends after an error");
}

#[tokio::test]
async fn a_missing_batch_is_not_passed_over() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["a"]);
    fake.fill(0, &["b"]);
    let other = fake.state().logs[0].batches[1].clone();
    fake.on_consume(move |_, _| Ok(other.clone()));
    let client = fake.client().await;
    let pinned = ConsumerOptions { node: Some("n1".into()), ..options() };
    assert_eq!(read_all(&client, pinned).await.expect_err("a gap").code(), ErrorCode::CorruptData);
}

#[tokio::test]
async fn following_sees_what_comes() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["a"]);
    let client = fake.client().await;
    let follow = ConsumerOptions { follow: true, ..options() };
    let mut consumer = client.consumer(follow).await.expect("there");
    for (at, value) in ["a", "b", "c"].into_iter().enumerate() {
        if at > 0 {
            fake.fill(0, &[value]);
        }
        let found = consumer.next().await.expect("goes on").expect("whole");
        assert_eq!((found.offset.0, text(found.record.value)), (at as u64, value.to_owned()));
    }
}

#[tokio::test]
async fn without_a_leader_the_chosen_nodes_own_mark_ends_it() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["a", "b"]);
    let client = fake.client().await;
    fake.elect(None);
    let pinned = ConsumerOptions {
        node: Some("n2".into()),
        timeout: Duration::from_millis(1500),
        ..ConsumerOptions::new(TOPIC)
    };
    let mut consumer = client.consumer(pinned).await.expect("its own mark");
    assert_eq!(consumer.take_warnings().len(), 1);
    assert_eq!(read(&mut consumer).await.expect("read").len(), 2);
    let any = ConsumerOptions { timeout: Duration::from_millis(300), ..options() };
    let error = client.consumer(any).await.expect_err("no leader, no end");
    assert_eq!(error.code(), ErrorCode::Timeout);
}

#[tokio::test]
async fn what_a_replica_has_not_yet_is_waited_for_within_the_timeout() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["a"]);
    let client = fake.client().await;
    let not_yet = || {
        let detail = ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Service, "not here yet");
        Err(status::to_status(&detail))
    };
    let mut refusals = 3;
    fake.on_consume(move |_, batch| {
        refusals -= 1;
        if refusals >= 0 { not_yet() } else { Ok(batch) }
    });
    assert_eq!(read_all(&client, options()).await.expect("read"), ["a"]);
    fake.on_consume(move |_, _| not_yet());
    let short = ConsumerOptions { timeout: Duration::from_millis(400), ..options() };
    let error = read_all(&client, short).await.expect_err("never there");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, dlog_client::Outcome::Rejected));
}
