//! Where a consumer reads: a preferred rack, one node, and what a linearizable read asks for.

use crate::fake::{Fake, TOPIC, text};
use dlog_client::{Client, Consumer, ConsumerOptions, Error, ErrorCode, Offset, OnGap, Outcome, ReadLevel, Start};
use std::time::Duration;
use tonic::Status;

fn options() -> ConsumerOptions {
    ConsumerOptions { timeout: Duration::from_secs(20), ..ConsumerOptions::new(TOPIC) }
}

fn in_rack(rack: &str) -> ConsumerOptions {
    ConsumerOptions { prefer_rack: Some(rack.into()), ..options() }
}

fn linearizable() -> ConsumerOptions {
    ConsumerOptions { read: ReadLevel::Linearizable, ..options() }
}

/// Everything up to the consumer's end, and what it warned of.
async fn read(client: &Client, options: ConsumerOptions) -> Result<(Vec<String>, Vec<String>), Error> {
    let mut consumer = client.consumer(options).await?;
    let mut values = Vec::new();
    while let Some(found) = consumer.next().await {
        values.push(text(found?.record.value));
    }
    Ok((values, consumer.take_warnings()))
}

async fn next(consumer: &mut Consumer) -> String {
    text(consumer.next().await.expect("goes on").expect("whole").record.value)
}

/// The nodes that were read from, in order.
fn consumed(fake: &Fake) -> Vec<u32> {
    fake.state().consumed.iter().map(|(node, _)| *node).collect()
}

#[tokio::test]
async fn the_replica_in_the_rack_is_read_and_not_the_leader() {
    let fake = Fake::start(3, 1).await;
    fake.set(|state| state.racks.extend([(1, "a".into()), (2, "b".into()), (3, "c".into())]));
    fake.fill(0, &["x", "y"]);
    let client = fake.client().await;
    assert_eq!(read(&client, in_rack("b")).await.expect("read"), (vec!["x".into(), "y".into()], vec![]));
    assert_eq!(consumed(&fake), [2]);
    // The end is the leader's all the same.
    assert_eq!(fake.state().offsets_asked.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn an_empty_rack_is_no_error_and_is_told() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["x"]);
    let client = fake.client().await;
    let (values, warnings) = read(&client, in_rack("nowhere")).await.expect("read");
    assert_eq!(values, ["x"]);
    assert!(warnings.len() == 1 && warnings[0].contains("nowhere"), "{warnings:?}");
    assert_eq!(consumed(&fake), [1], "the leader, as without a rack");
}

#[tokio::test]
async fn a_rack_that_lags_or_fails_is_left_for_another_replica() {
    let fake = Fake::start(3, 1).await;
    fake.set(|state| state.racks.extend([(2, "b".into())]));
    fake.fill(0, &["x"]);
    fake.set(|state| state.has.extend([(2, 0)]));
    let client = fake.client().await;
    assert_eq!(read(&client, in_rack("b")).await.expect("read").0, ["x"]);
    assert_eq!(consumed(&fake), [2, 1], "first the rack, then the leader");

    fake.on_consume(|node, batch| if node == 2 { Err(Status::unavailable("going down")) } else { Ok(batch) });
    fake.set(|state| state.has.clear());
    assert_eq!(read(&client, in_rack("b")).await.expect("read").0, ["x"]);
}

/// Who follows for weeks must come back to its rack after a restart there.
#[tokio::test]
async fn a_follower_comes_back_to_its_rack() {
    let fake = Fake::start(2, 1).await;
    fake.set(|state| state.racks.extend([(2, "b".into())]));
    fake.fill(0, &["x"]);
    let mut down = true;
    fake.on_consume(move |node, batch| match node == 2 && std::mem::take(&mut down) {
        true => Err(Status::unavailable("restarts")),
        false => Ok(batch),
    });
    let client = fake.client().await;
    let follow = ConsumerOptions { follow: true, rack_recheck: Duration::from_millis(1), ..in_rack("b") };
    let mut consumer = client.consumer(follow).await.expect("there");
    assert_eq!(next(&mut consumer).await, "x");
    // The leader's answers go on; one of them finds that it is time to look at the rack again.
    fake.until(|state| state.consumed.iter().filter(|(node, _)| *node == 2).count() == 2).await;
    fake.fill(0, &["y"]);
    assert_eq!(next(&mut consumer).await, "y");
    assert_eq!(consumed(&fake), [2, 1, 2]);
    assert_eq!(fake.state().consumed.last().map(|(_, input)| input.from), Some(Offset(1)), "nothing twice");
}

#[tokio::test]
async fn a_node_and_a_rack_contradict_each_other() {
    let fake = Fake::start(1, 1).await;
    let both = ConsumerOptions { node: Some("n1".into()), ..in_rack("a") };
    let error = fake.client().await.consumer(both).await.expect_err("refused");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::InvalidArgument, Outcome::Rejected));
}

/// The end is confirmed before the read, so it holds whichever replica gives the records.
#[tokio::test]
async fn a_linearizable_read_ends_where_the_leader_says_and_waits_for_it() {
    let fake = Fake::start(2, 1).await;
    fake.set(|state| state.racks.extend([(2, "b".into())]));
    fake.fill(0, &["x"]);
    fake.fill(0, &["y"]);
    fake.set(|state| state.has.extend([(2, 1)]));
    let client = fake.client().await;
    let from_rack = ConsumerOptions { prefer_rack: Some("b".into()), ..linearizable() };
    assert_eq!(read(&client, from_rack).await.expect("read").0, ["x", "y"]);
}

/// A chosen node asks its leader, and answers once it has everything; its own mark is never enough.
#[tokio::test]
async fn a_linearizable_read_of_one_node_asks_that_node_alone() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["x"]);
    fake.fill(0, &["y"]);
    fake.set(|state| state.has.extend([(2, 1)]));
    let client = fake.client().await;
    let pinned = ConsumerOptions { node: Some("n2".into()), ..linearizable() };
    let reading = tokio::spawn({
        let (client, pinned) = (client.clone(), pinned.clone());
        async move { read(&client, pinned).await }
    });
    fake.until(|state| state.offsets_asked.len() >= 2).await;
    assert!(!reading.is_finished(), "it waits for what is missing");
    fake.set(|state| state.has.clear());
    assert_eq!(reading.await.expect("no panic").expect("read").0, ["x", "y"]);
    let state = fake.state();
    assert!(state.offsets_asked.iter().all(|(node, input)| *node == 2 && input.local && input.linearizable));
    assert!(state.consumed.iter().all(|(node, _)| *node == 2));
}

#[tokio::test]
async fn without_a_leader_a_linearizable_read_is_an_error_and_no_guess() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["x"]);
    let client = fake.client().await;
    fake.elect(None);
    let short = ConsumerOptions { timeout: Duration::from_millis(300), ..linearizable() };
    for options in [short.clone(), ConsumerOptions { node: Some("n2".into()), ..short }] {
        let error = client.consumer(options).await.expect_err("nobody confirms the end");
        assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
    }
    assert!(consumed(&fake).is_empty());
}

#[tokio::test]
async fn a_linearizable_follower_asks_for_it_at_each_new_stream() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["x"]);
    let mut cut = true;
    fake.on_consume(move |_, batch| match std::mem::take(&mut cut) {
        true => Err(Status::unavailable("cut")),
        false => Ok(batch),
    });
    let client = fake.client().await;
    let mut consumer = client.consumer(ConsumerOptions { follow: true, ..linearizable() }).await.expect("there");
    assert_eq!(next(&mut consumer).await, "x");
    let flags: Vec<bool> = fake.state().consumed.iter().map(|(_, input)| input.linearizable).collect();
    assert_eq!(flags, [true, true]);
    let mut consumer = client.consumer(options()).await.expect("there");
    assert_eq!(next(&mut consumer).await, "x");
    assert!(!fake.state().consumed.last().expect("one").1.linearizable, "a committed read doesn't ask");
}

/// Retention passes a reader: an error, or a jump that is told.
#[tokio::test]
async fn a_gap_in_the_middle_is_an_error_or_told() {
    for (on_gap, expected) in [(OnGap::Fail, None), (OnGap::Earliest, Some("z")), (OnGap::Latest, Some("later"))] {
        let fake = Fake::start(1, 1).await;
        fake.fill(0, &["x"]);
        let client = fake.client().await;
        let follow = ConsumerOptions { follow: true, on_gap, ..options() };
        let mut consumer = client.consumer(follow).await.expect("there");
        assert_eq!(next(&mut consumer).await, "x");
        // Two records come, and retention takes the first of them before anybody reads it.
        fake.set(|state| {
            state.logs[0].fill(&["y"]);
            state.logs[0].fill(&["z"]);
            state.log_start = 2;
        });
        let Some(expected) = expected else {
            let error = consumer.next().await.expect("an end").expect_err("a gap");
            assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
            continue;
        };
        if on_gap == OnGap::Latest {
            fake.until(|state| state.consumed.last().is_some_and(|(_, input)| input.from == Offset(3))).await;
            fake.fill(0, &["later"]);
        }
        assert_eq!(next(&mut consumer).await, expected);
        let warnings = consumer.take_warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("offset 1 of t/0"), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_gap_at_the_start_is_told_too() {
    let fake = Fake::start(1, 1).await;
    fake.fill(0, &["x"]);
    fake.fill(0, &["y"]);
    fake.set(|state| state.log_start = 1);
    let client = fake.client().await;
    let below = ConsumerOptions { from: Start::Offset(Offset(0)), ..options() };
    assert_eq!(client.consumer(below.clone()).await.expect_err("a gap").code(), ErrorCode::OffsetOutOfRange);
    let (values, warnings) = read(&client, ConsumerOptions { on_gap: OnGap::Earliest, ..below }).await.expect("read");
    assert_eq!((values, warnings.len()), (vec!["y".to_owned()], 1));
}

/// A leader that takes questions and never answers costs one try, not the whole timeout: the chosen node's mark counts then.
#[tokio::test]
async fn a_leader_that_has_just_died_costs_a_part_of_the_timeout() {
    let fake = Fake::start(2, 1).await;
    fake.fill(0, &["x"]);
    let client = fake.client().await;
    fake.set(|state| state.silent = vec![1]);
    let timeout = Duration::from_secs(3);
    let pinned = ConsumerOptions { node: Some("n2".into()), timeout, ..options() };
    let began = std::time::Instant::now();
    let (values, warnings) = read(&client, pinned).await.expect("read");
    assert_eq!((values, warnings.len()), (vec!["x".to_owned()], 1));
    assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_node_without_the_partition_is_said_to_be_one() {
    let fake = Fake::start(2, 1).await;
    let client = fake.client().await;
    let unknown = ConsumerOptions { node: Some("n7".into()), ..options() };
    assert_eq!(client.consumer(unknown).await.expect_err("no such node").code(), ErrorCode::UnknownNode);
    fake.set(|state| state.replicas = Some(vec![1]));
    let client = fake.client().await;
    let pinned = ConsumerOptions { node: Some("n2".into()), ..options() };
    let error = client.consumer(pinned).await.expect_err("it has none");
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("n1"), "it says where there is one: {error}");
}
