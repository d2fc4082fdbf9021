//! The producer: nothing twice, nothing out of order, nothing unsaid.

use crate::fake::{Action, Fake, TOPIC};
use bytes::Bytes;
use dlog_client::{
    Client, Delivered, Delivery, Error, ErrorCode, Outcome, Producer, ProducerOptions, Record, TimestampMs,
};
use dlog_core::{BatchHeader, ErrorDetail, Stage};
use dlog_protocol::ProduceInput;
use std::time::Duration;

fn record(value: impl ToString) -> Record {
    Record::new(TimestampMs(1), value.to_string().into_bytes())
}

fn options() -> ProducerOptions {
    ProducerOptions { timeout: Duration::from_secs(20), ..ProducerOptions::default() }
}

async fn producer(fake: &Fake, options: ProducerOptions) -> (Client, Producer) {
    let client = fake.client().await;
    let producer = client.producer(options).expect("valid options");
    (client, producer)
}

async fn send(producer: &Producer, values: impl IntoIterator<Item = impl ToString>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send(TOPIC, Some(0), record(value)).await.expect("there is room"));
    }
    deliveries
}

async fn all(deliveries: Vec<Delivery>) -> Vec<Result<Delivered, Error>> {
    let mut results = Vec::new();
    for delivery in deliveries {
        results.push(delivery.await);
    }
    results
}

/// Every record is where its future says, in the order given, once.
fn assert_in_order(fake: &Fake, results: &[Result<Delivered, Error>], values: impl IntoIterator<Item = impl ToString>) {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    assert_eq!(fake.state().logs[0].values(), values);
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result.as_ref().expect("acked").offset.0, at as u64);
    }
}

fn once<T>(value: T) -> impl FnMut() -> Option<T> {
    let mut value = Some(value);
    move || value.take()
}

fn records_of(input: &ProduceInput) -> u32 {
    BatchHeader::decode(&input.batch).expect("a batch").record_count
}

#[tokio::test]
async fn records_get_partition_and_offset() {
    let fake = Fake::start(1, 3).await;
    let (_client, producer) = producer(&fake, options()).await;
    for number in 0..10u64 {
        let keyed = record(number).with_key(&b"abc"[..]);
        let delivered = producer.send(TOPIC, None, keyed).await.expect("room").await.expect("acked");
        assert_eq!(delivered.partition, dlog_client::partitioner::partition_for_key(b"abc", 3));
        assert_eq!(delivered.offset.0, number);
    }
    let error = producer.send(TOPIC, Some(3), record(0)).await.expect_err("no such partition");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::UnknownPartition, Outcome::Rejected));
    let error = producer.send("nothing", None, record(0)).await.expect_err("no such topic");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::UnknownTopic, Outcome::Rejected));
}

/// The first record goes at once; what queues while it is in flight is one batch.
#[tokio::test]
async fn what_queues_meanwhile_is_a_batch() {
    let fake = Fake::start(1, 1).await;
    let mut count = 0;
    fake.on_produce(move |_, _| {
        count += 1;
        match count {
            1 => Action::AppendAndIgnore,
            2 => Action::Cut,
            _ => Action::Serve,
        }
    });
    let (_client, producer) = producer(&fake, options()).await;
    let mut deliveries = send(&producer, [0]).await;
    fake.until(|state| state.produced.len() == 1).await;
    deliveries.extend(send(&producer, 1..50).await);
    assert_eq!(fake.state().produced.len(), 1, "nothing is sent while one is in flight");
    // A flush forces the rest out; the stream ends, and both go again.
    producer.flush().await;
    let results = all(deliveries).await;
    assert_in_order(&fake, &results, 0..50);
    let sizes: Vec<u32> = fake.state().produced.iter().map(|(_, input)| records_of(input)).collect();
    assert_eq!(&sizes[..2], [1, 49]);
}

#[tokio::test]
async fn a_hint_is_followed_silently() {
    let fake = Fake::start(3, 1).await;
    fake.state().claimed_leader = Some(2);
    fake.elect(Some(3));
    let (_client, producer) = producer(&fake, options()).await;
    let results = all(send(&producer, 0..20).await).await;
    assert_in_order(&fake, &results, 0..20);
    assert_eq!(fake.state().produced.first().map(|(node, _)| *node), Some(2));
    assert_eq!(fake.state().produced.last().map(|(node, _)| *node), Some(3));
}

#[tokio::test]
async fn without_a_hint_the_metadata_tell() {
    let fake = Fake::start(2, 1).await;
    let (_client, producer) = producer(&fake, options()).await;
    assert_in_order(&fake, &all(send(&producer, [0]).await).await, [0]);
    fake.elect(Some(2));
    fake.on_produce(|node, _| match node {
        1 => Action::Refuse(ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Admission, "no hint")),
        _ => Action::Serve,
    });
    let results = all(send(&producer, [1]).await).await;
    assert_eq!(results[0].as_ref().expect("acked").offset.0, 1);
}

/// The leader appends and dies before it answers: the same bytes go to the next one, which knows them.
#[tokio::test]
async fn a_cut_in_flight_appends_once() {
    let fake = Fake::start(2, 1).await;
    let changer = fake.clone();
    let mut cut = once(());
    fake.on_produce(move |_, _| if cut().is_some() { Action::AppendAndCut } else { Action::Serve });
    let (_client, producer) = producer(&fake, options()).await;
    let first = send(&producer, [0]).await;
    fake.until(|state| state.produced.len() == 1).await;
    changer.elect(Some(2));
    let mut results = all(first).await;
    results.extend(all(send(&producer, [1]).await).await);
    assert_in_order(&fake, &results, [0, 1]);
    let state = fake.state();
    let tries: Vec<&Bytes> = state.produced.iter().map(|(_, input)| &input.batch).take(2).collect();
    assert_eq!(tries[0], tries[1], "a retry has identical bytes, the sequence too");
}

/// Small batches, many in flight, a stream that breaks again and again, a leader that changes.
#[tokio::test]
async fn order_holds_through_failovers() {
    let fake = Fake::start(3, 1).await;
    let mut count = 0;
    fake.on_produce(move |_, _| {
        count += 1;
        match count % 7 {
            3 => Action::AppendAndCut,
            5 => Action::Cut,
            6 => Action::Refuse(ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, "full")),
            _ => Action::Serve,
        }
    });
    let options = ProducerOptions { batch_bytes: 1024, ..options() };
    let (_client, producer) = producer(&fake, options).await;
    let value = |number: u32| format!("{number:0200}");
    let mut deliveries = Vec::new();
    for number in 0..200 {
        deliveries.extend(send(&producer, [value(number)]).await);
    }
    let results = all(deliveries).await;
    assert_in_order(&fake, &results, (0..200).map(value));
    let most = fake.state().produced.iter().map(|(_, input)| records_of(input)).max();
    assert!(most > Some(1) && most < Some(8), "batches of about 1 KiB: {most:?}");
}

#[tokio::test]
async fn a_deadline_after_sending_is_unknown_and_one_before_is_rejected() {
    let fake = Fake::start(1, 1).await;
    fake.on_produce(|_, _| Action::Ignore);
    let short = ProducerOptions { timeout: Duration::from_millis(500), ..options() };
    let (_client, producer) = producer(&fake, short).await;
    let sent = send(&producer, [0]).await;
    fake.until(|state| state.produced.len() == 1).await;
    let error = all(sent).await.remove(0).expect_err("no answer");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Unknown));

    fake.elect(None);
    let (_client, producer) = {
        let client = fake.client().await;
        let short = ProducerOptions { timeout: Duration::from_millis(300), ..options() };
        (client.clone(), client.producer(short).expect("valid"))
    };
    let error = all(send(&producer, [0]).await).await.remove(0).expect_err("nobody to send to");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
    assert_eq!(std::error::Error::source(&error).map(|cause| cause.to_string().contains("nobody leads")), Some(true));
}

/// After a batch was given up its sequence has a gap: what follows begins a new epoch and is appended.
#[tokio::test]
async fn a_batch_given_up_does_not_stop_the_next() {
    let fake = Fake::start(1, 1).await;
    let mut first = once(());
    fake.on_produce(move |_, _| if first().is_some() { Action::Ignore } else { Action::Serve });
    let short = ProducerOptions { timeout: Duration::from_millis(700), ..options() };
    let (_client, producer) = producer(&fake, short).await;
    let given_up = all(send(&producer, ["lost"]).await).await.remove(0);
    assert_eq!(given_up.expect_err("ignored").outcome(), Outcome::Unknown);
    let results = all(send(&producer, ["kept"]).await).await;
    assert_in_order(&fake, &results, ["kept"]);
    let epochs: Vec<_> = fake.state().produced.iter().map(|(_, input)| header_epoch(input)).collect();
    assert_eq!((epochs.first(), epochs.last()), (Some(&0), Some(&1)));
}

fn header_epoch(input: &ProduceInput) -> i16 {
    BatchHeader::decode(&input.batch).expect("a batch").producer().expect("idempotent").epoch
}

/// With acks=leader a failover may lose what was acked; the next batch then has a gap before it.
#[tokio::test]
async fn a_gap_left_by_a_failover_begins_a_new_epoch() {
    let fake = Fake::start(2, 1).await;
    let options = ProducerOptions { acks: dlog_client::Acks::Leader, ..options() };
    let (_client, producer) = producer(&fake, options).await;
    all(send(&producer, ["a"]).await).await.remove(0).expect("acked");
    let kept = fake.state().logs[0].clone();
    all(send(&producer, ["b"]).await).await.remove(0).expect("acked, then lost");
    fake.state().logs[0] = kept;
    fake.elect(Some(2));
    let delivered = all(send(&producer, ["c"]).await).await.remove(0).expect("appended under a new epoch");
    assert_eq!(delivered.offset.0, 1);
    assert_eq!(fake.state().logs[0].values(), ["a", "c"]);
}

#[tokio::test]
async fn a_refused_batch_fails_alone() {
    let fake = Fake::start(1, 1).await;
    fake.on_produce(|_, input| match input.batch.windows(3).any(|bytes| bytes == b"bad") {
        true => Action::Refuse(ErrorDetail::rejected(ErrorCode::BatchTooLarge, Stage::Admission, "too large")),
        false => Action::Serve,
    });
    let (_client, producer) = producer(&fake, options()).await;
    let error = all(send(&producer, ["bad"]).await).await.remove(0).expect_err("refused");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::BatchTooLarge, Outcome::Rejected));
    let results = all(send(&producer, ["good"]).await).await;
    assert_in_order(&fake, &results, ["good"]);
}

#[tokio::test]
async fn without_idempotence_doubt_is_told_and_nothing_is_sent_again() {
    let fake = Fake::start(1, 1).await;
    let mut cut = once(());
    fake.on_produce(move |_, _| if cut().is_some() { Action::AppendAndCut } else { Action::Serve });
    let options = ProducerOptions { idempotent: false, ..options() };
    let (_client, producer) = producer(&fake, options).await;
    let error = all(send(&producer, ["a"]).await).await.remove(0).expect_err("cut");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Unavailable, Outcome::Unknown));
    all(send(&producer, ["b"]).await).await.remove(0).expect("goes on");
    assert_eq!(fake.state().logs[0].values(), ["a", "b"]);
    assert_eq!(fake.state().produced.len(), 2);
}

#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let fake = Fake::start(2, 1).await;
    fake.on_produce(|node, _| if node == 1 { Action::Ignore } else { Action::Serve });
    let bound = 64 * 1024;
    let options = ProducerOptions { in_flight_bytes: bound, batch_bytes: 8 * 1024, ..options() };
    let (_client, producer) = producer(&fake, options).await;
    let value = "x".repeat(4000);
    let mut deliveries = Vec::new();
    loop {
        let sending = producer.send(TOPIC, Some(0), record(&value));
        match tokio::time::timeout(Duration::from_millis(200), sending).await {
            Ok(sent) => deliveries.push(sent.expect("room")),
            Err(_) => break,
        }
    }
    let given = deliveries.len();
    assert!(given * value.len() <= bound, "{given} records");
    assert!((given + 1) * (value.len() + 1000) > bound, "{given} records: the room is used");
    // Once another node leads, what waited goes through and makes room.
    fake.elect(Some(2));
    let results = all(deliveries).await;
    assert_in_order(&fake, &results, vec![&value; given]);
    all(send(&producer, ["more"]).await).await.remove(0).expect("there is room again");
}

/// A leader that is cut off neither answers nor says so: others are asked after a while.
#[tokio::test]
async fn a_silent_leader_is_left_for_the_new_one() {
    let fake = Fake::start(2, 1).await;
    fake.on_produce(|node, _| if node == 1 { Action::Ignore } else { Action::Serve });
    let (_client, producer) = producer(&fake, options()).await;
    let deliveries = send(&producer, 0..3).await;
    fake.until(|state| !state.produced.is_empty()).await;
    fake.elect(Some(2));
    let results = all(deliveries).await;
    assert_in_order(&fake, &results, 0..3);
}

#[tokio::test]
async fn dropping_a_producer_or_a_future_loses_nothing() {
    let fake = Fake::start(1, 1).await;
    let (_client, producer) = producer(&fake, ProducerOptions { linger: Duration::from_secs(10), ..options() }).await;
    drop(send(&producer, 0..5).await);
    drop(producer);
    fake.until(|state| state.logs[0].values().len() == 5).await;
    assert_eq!(fake.state().produced.len(), 1);
}

#[tokio::test]
async fn nonsense_options_are_refused() {
    let fake = Fake::start(1, 1).await;
    let client = fake.client().await;
    let wrong = [
        ProducerOptions { batch_bytes: 0, ..options() },
        ProducerOptions { timeout: Duration::ZERO, ..options() },
        ProducerOptions { in_flight_bytes: 10, ..options() },
    ];
    for options in wrong {
        assert_eq!(client.producer(options).expect_err("refused").code(), ErrorCode::InvalidArgument);
    }
}
