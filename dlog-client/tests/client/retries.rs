//! The metadata cache and the tries within one deadline.

use crate::fake::{Action, Fake, TOPIC};
use dlog_client::{ClientOptions, ErrorCode, OffsetsQuery, Outcome, ProducerOptions, Record, TimestampMs};
use dlog_core::{ErrorDetail, Stage};
use std::time::{Duration, Instant};

fn record(value: &str) -> Record {
    Record::new(TimestampMs(1), value.as_bytes().to_vec())
}

fn producing() -> ProducerOptions {
    ProducerOptions { timeout: Duration::from_secs(20), ..ProducerOptions::default() }
}

/// Many partitions lose their leader together: one question serves all of them.
#[tokio::test]
async fn one_refresh_serves_all_partitions() {
    const PARTITIONS: u32 = 40;
    let fake = Fake::start(2, PARTITIONS as usize).await;
    let producer = fake.client().await.producer(producing()).expect("good options");
    for partition in 0..PARTITIONS {
        let sent = producer.send(TOPIC, Some(partition), record("a")).await.expect("room");
        sent.await.expect("acked");
    }
    assert_eq!(fake.state().topics_asked, 1, "what is known is not asked again");
    // No hint: each partition must find out by itself who leads now.
    fake.elect(Some(2));
    fake.on_produce(|node, _| match node {
        1 => Action::Refuse(ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Admission, "no hint")),
        _ => Action::Serve,
    });
    let mut deliveries = Vec::new();
    for partition in 0..PARTITIONS {
        deliveries.push(producer.send(TOPIC, Some(partition), record("b")).await.expect("room"));
    }
    for delivery in deliveries {
        delivery.await.expect("acked");
    }
    let asked = fake.state().topics_asked - 1;
    assert!(asked <= PARTITIONS / 4, "{asked} questions for {PARTITIONS} partitions");
}

/// A hint is enough: nobody is asked for metadata.
#[tokio::test]
async fn a_hint_makes_metadata_superfluous() {
    let fake = Fake::start(2, 1).await;
    let producer = fake.client().await.producer(producing()).expect("good options");
    producer.send(TOPIC, Some(0), record("a")).await.expect("room").await.expect("acked");
    fake.elect(Some(2));
    producer.send(TOPIC, Some(0), record("b")).await.expect("room").await.expect("acked");
    assert_eq!(fake.state().topics_asked, 1);
    assert_eq!(fake.state().produced.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 1, 2]);
}

/// One leader takes the question and is silent, another answers: the partitions of the second don't wait for the first, and
/// once the first is replaced its successor is asked, all within the one deadline.
#[tokio::test]
async fn a_silent_leader_costs_one_try() {
    let fake = Fake::start(2, 2).await;
    fake.fill(0, &["a"]);
    let client = fake.client().await;
    fake.set(|state| state.silent = vec![1]);
    let admin = client.admin();
    let asking = tokio::spawn(async move { admin.offsets(TOPIC, &[], OffsetsQuery::default()).await });
    fake.until(|state| !state.offsets_asked.is_empty()).await;
    fake.elect(Some(2));
    let offsets = asking.await.expect("no panic").expect("the new leader answers");
    assert_eq!(offsets.iter().map(|o| o.high_watermark).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn all_tries_share_one_deadline() {
    let fake = Fake::start(3, 1).await;
    let timeout = Duration::from_millis(700);
    let options = ClientOptions::new(fake.addresses()).with_timeout(timeout);
    let client = dlog_client::Client::connect(options).await.expect("the fake answers");
    fake.elect(None);
    let began = Instant::now();
    let error = client.admin().offsets(TOPIC, &[], OffsetsQuery::default()).await.expect_err("nobody leads");
    let took = began.elapsed();
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
    assert!(took >= timeout, "given up too early: {took:?}");
    assert!(took < timeout + Duration::from_secs(5), "tries add up: {took:?}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("nobody leads"), "{cause}");
}

/// A duplicate's answer is the first append's, whichever node gives it.
#[tokio::test]
async fn a_retry_is_acked_with_the_first_appends_offset() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["before"]);
    let mut first = true;
    fake.on_produce(move |_, _| if std::mem::take(&mut first) { Action::AppendAndCut } else { Action::Serve });
    let producer = fake.client().await.producer(producing()).expect("good options");
    let at = producer.send(TOPIC, Some(0), record("a")).await.expect("room").await.expect("acked");
    assert_eq!(at.offset.0, 1);
    let after = producer.send(TOPIC, Some(0), record("b")).await.expect("room").await.expect("acked");
    assert_eq!(after.offset.0, 2);
    assert_eq!(fake.state().logs[0].values(), ["before", "a", "b"]);
}

/// A runtime that ends takes a producer's tasks with it. On another one the same producer goes on, under another producer id:
/// with the old one its first batch would be taken for a retry of the very first.
#[test]
fn a_producer_outlives_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (to_here, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            to_here.send(Fake::start(1, 1).await).expect("the test waits");
            std::future::pending::<()>().await;
        });
    });
    let fake = started.recv().expect("it starts");
    let first = runtime();
    let producer = first.block_on(async {
        let options = ProducerOptions { timeout: Duration::from_secs(5), ..producing() };
        let producer = fake.client().await.producer(options).expect("good options");
        producer.send(TOPIC, Some(0), record("a")).await.expect("room").await.expect("acked");
        producer
    });
    drop(first);
    let at = runtime().block_on(async {
        let mut last = None;
        // What the first runtime took with it fails once.
        for _ in 0..10 {
            match producer.send(TOPIC, Some(0), record("b")).await.expect("room").await {
                Ok(at) => return at,
                Err(error) => last = Some(error),
            }
        }
        panic!("{last:?}")
    });
    assert_eq!(at.offset.0, 1, "not the offset of the first record");
    assert_eq!(fake.state().logs[0].values(), ["a", "b"]);
}
