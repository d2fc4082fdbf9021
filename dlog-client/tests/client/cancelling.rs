//! Futures that are dropped: nothing lost, nothing doubled, no room kept. And the ends of a producer.

use crate::fake::{Action, Fake, TOPIC, text};
use dlog_client::{ConsumerOptions, Delivery, ErrorCode, Outcome, Producer, ProducerOptions, Record, TimestampMs};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Room for a few records of [`VALUE_BYTES`].
const ROOM: usize = 16 * 1024;
const VALUE_BYTES: usize = 3000;

fn record(value: &str) -> Record {
    Record::new(TimestampMs(1), value.as_bytes().to_vec())
}

fn large(number: usize) -> Record {
    record(&format!("{number:<VALUE_BYTES$}"))
}

fn options() -> ProducerOptions {
    let timeout = Duration::from_secs(20);
    ProducerOptions { timeout, in_flight_bytes: ROOM, batch_bytes: 4 * 1024, ..ProducerOptions::default() }
}

/// A producer whose leader doesn't answer until another leads.
async fn stuck(fake: &Fake) -> Producer {
    fake.on_produce(|node, _| if node == 1 { Action::Ignore } else { Action::Serve });
    fake.client().await.producer(options()).expect("good options")
}

/// Polls once; what isn't ready is dropped.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Gives records until there is no room for another.
async fn fill(producer: &Producer) -> Vec<Delivery> {
    // The topic's metadata are not waited for below.
    let mut deliveries = vec![producer.send(TOPIC, Some(0), large(0)).await.expect("room")];
    while let Poll::Ready(sent) = poll_once(producer.send(TOPIC, Some(0), large(deliveries.len()))) {
        deliveries.push(sent.expect("room"));
    }
    deliveries
}

fn numbers(fake: &Fake) -> Vec<usize> {
    fake.state().logs[0].values().iter().map(|value| value.trim().parse().expect("a number")).collect()
}

#[tokio::test]
async fn a_send_dropped_while_it_waits_sends_nothing_and_keeps_no_room() {
    let fake = Fake::start(2, 1).await;
    let producer = stuck(&fake).await;
    let deliveries = fill(&producer).await;
    let given = deliveries.len();
    assert!((2..10).contains(&given), "{given} records have room");
    let taken = producer.bytes_in_flight();
    for _ in 0..100 {
        assert!(poll_once(producer.send(TOPIC, Some(0), large(999))).is_pending());
    }
    assert_eq!(producer.bytes_in_flight(), taken, "those who went away took no room");
    fake.elect(Some(2));
    for delivery in deliveries {
        delivery.await.expect("acked");
    }
    producer.flush().await;
    assert_eq!(numbers(&fake), (0..given).collect::<Vec<_>>(), "what was dropped was not sent");
    assert_eq!(producer.bytes_in_flight(), 0);
    fake.on_produce(|_, _| Action::Ignore);
    assert_eq!(fill(&producer).await.len(), given, "there is as much room as at first");
}

#[tokio::test]
async fn a_dropped_delivery_is_sent_once_and_gives_its_room_back() {
    let fake = Fake::start(2, 1).await;
    let producer = stuck(&fake).await;
    let mut deliveries = fill(&producer).await;
    let given = deliveries.len();
    let last = deliveries.pop().expect("some");
    drop(deliveries);
    assert!(producer.bytes_in_flight() > 0, "what is on its way counts, whoever waits for it");
    fake.elect(Some(2));
    assert_eq!(last.await.expect("acked").offset.0 as usize, given - 1);
    producer.flush().await;
    assert_eq!(numbers(&fake), (0..given).collect::<Vec<_>>());
    assert_eq!(producer.bytes_in_flight(), 0);
}

#[tokio::test]
async fn who_waits_for_room_gets_it_in_turn() {
    let fake = Fake::start(2, 1).await;
    let producer = stuck(&fake).await;
    let given = fill(&producer).await.len();
    let waiting: Vec<_> = (0..5)
        .map(|extra| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let sent = producer.send(TOPIC, Some(0), large(given + extra)).await;
                sent.expect("room, in the end").await.expect("acked");
            })
        })
        .collect();
    fake.elect(Some(2));
    for task in waiting {
        task.await.expect("no panic");
    }
    let mut seen = numbers(&fake);
    seen.sort_unstable();
    assert_eq!(seen, (0..given + 5).collect::<Vec<_>>(), "each once");
}

#[tokio::test]
async fn no_room_in_time_is_a_rejection_that_says_so() {
    let fake = Fake::start(1, 1).await;
    fake.on_produce(|_, _| Action::Ignore);
    let short = ProducerOptions { timeout: Duration::from_millis(400), ..options() };
    let producer = fake.client().await.producer(short).expect("good options");
    let _kept = fill(&producer).await;
    // A record that would take all the room waits for all of it.
    let error = producer.send(TOPIC, Some(0), record(&"x".repeat(2 * ROOM))).await.map(drop);
    // The records before it are given up at the same time, so it may just get through: then its own fate is unknown.
    if let Err(error) = error {
        assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("overloaded"), "{cause}");
    }
}

#[tokio::test]
async fn a_next_that_is_dropped_loses_nothing() {
    let fake = Fake::start(1, 1).await;
    let client = fake.client().await;
    let mut consumer =
        client.consumer(ConsumerOptions { follow: true, ..ConsumerOptions::new(TOPIC) }).await.expect("there");
    for number in 0..50 {
        assert!(poll_once(consumer.next()).is_pending(), "nothing is there yet");
        let value = number.to_string();
        fake.fill(0, &[&value]);
        // Dropped at every moment of its way, again and again.
        let found = loop {
            match poll_once(consumer.next()) {
                Poll::Ready(found) => break found.expect("goes on").expect("whole"),
                Poll::Pending => tokio::task::yield_now().await,
            }
        };
        assert_eq!((found.offset.0, text(found.record.value)), (number, value));
    }
}

#[tokio::test]
async fn a_flush_that_is_dropped_stops_nothing() {
    let fake = Fake::start(1, 1).await;
    let lingering = ProducerOptions { linger: Duration::from_secs(15), ..options() };
    let producer = fake.client().await.producer(lingering).expect("good options");
    let delivery = producer.send(TOPIC, Some(0), record("a")).await.expect("room");
    assert!(poll_once(producer.flush()).is_pending());
    delivery.await.expect("acked without lingering");
}

#[tokio::test]
async fn close_settles_what_was_given_and_refuses_what_comes() {
    let fake = Fake::start(2, 1).await;
    let producer = stuck(&fake).await;
    let deliveries = fill(&producer).await;
    let given = deliveries.len();
    let waits = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(TOPIC, Some(0), large(999)).await.map(drop) }
    });
    let closing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.close().await }
    });
    let refused = waits.await.expect("no panic").expect_err("closed while it waited");
    assert_eq!((refused.code(), refused.outcome()), (ErrorCode::ShuttingDown, Outcome::Rejected));
    assert!(!closing.is_finished(), "what was given is not settled yet");
    fake.elect(Some(2));
    closing.await.expect("no panic");
    for delivery in deliveries {
        assert!(matches!(poll_once(delivery), Poll::Ready(Ok(_))), "settled when close returns");
    }
    assert_eq!(numbers(&fake), (0..given).collect::<Vec<_>>());
    let error = producer.send(TOPIC, Some(0), record("late")).await.expect_err("closed");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::ShuttingDown, Outcome::Rejected));
    producer.close().await;
}
