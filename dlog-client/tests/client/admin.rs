//! Finding the cluster, and calls that change something.

use crate::fake::{Fake, TOPIC};
use dlog_client::{Client, ClientOptions, ErrorCode, NewTopic, OffsetsQuery, Outcome};
use std::time::Duration;
use tonic::Status;

fn new_topic() -> NewTopic {
    NewTopic { name: "new".into(), ..NewTopic::default() }
}

#[tokio::test]
async fn a_dead_server_in_the_list_does_no_harm() {
    let fake = Fake::start(1, 1).await;
    let dead = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound").to_string()
    };
    let servers = [dead, fake.addresses().remove(0)];
    let client = Client::connect(ClientOptions::new(servers)).await.expect("the second answers");
    assert!(client.admin().health().await.expect("it answers").healthy);
    assert_eq!(client.admin().node_stats("n1").await.expect("it is there").node_id, 1);
    let error = client.admin().node_stats("n9").await.expect_err("no such node");
    assert_eq!(error.code(), ErrorCode::UnknownNode);
}

#[tokio::test]
async fn no_server_at_all_is_told_with_its_cause() {
    let options = ClientOptions::new(["127.0.0.1:1"]).with_timeout(Duration::from_millis(300));
    let error = Client::connect(options).await.expect_err("nobody listens there");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::Timeout, Outcome::Rejected));
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("127.0.0.1:1"), "{cause}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let fake = Fake::start(1, 1).await;
    let client = fake.client().await;
    fake.state().cluster_id = [8; 16];
    let error = client.admin().metadata(&[TOPIC], false).await.expect_err("another cluster");
    assert_eq!(error.code(), ErrorCode::WrongCluster);
}

#[tokio::test]
async fn an_unknown_topic_is_said_to_be_unknown() {
    let fake = Fake::start(2, 1).await;
    let admin = fake.client().await.admin();
    let error = admin.offsets("nothing", &[], OffsetsQuery::default()).await.expect_err("there is none");
    assert_eq!((error.code(), error.outcome()), (ErrorCode::UnknownTopic, Outcome::Rejected));
    assert_eq!(
        admin.offsets("a/b", &[], OffsetsQuery::default()).await.expect_err("no name").code(),
        ErrorCode::InvalidTopicName
    );
}

#[tokio::test]
async fn offsets_come_from_the_leader() {
    let fake = Fake::start(2, 2).await;
    fake.fill(1, &["a", "b"]);
    let admin = fake.client().await.admin();
    fake.elect(Some(2));
    fake.state().claimed_leader = Some(1);
    let offsets =
        admin.offsets(TOPIC, &[], OffsetsQuery { last_records: Some(1), at: None }).await.expect("redirected");
    let found: Vec<_> = offsets.iter().map(|o| (o.partition, o.high_watermark, o.last_records_offset)).collect();
    assert_eq!(found, [(0, 0, Some(0)), (1, 2, Some(1))]);
}

#[tokio::test]
async fn a_topic_whose_making_is_in_doubt_is_asked_for_again_under_the_same_id() {
    let fake = Fake::start(1, 1).await;
    let admin = fake.client().await.admin();
    fake.state().create_answers = vec![Err(Status::unavailable("cut"))];
    assert!(admin.create_topic(new_topic()).await.expect("tried again").created);
    assert!(admin.create_topic(new_topic()).await.expect("another one").created);
    let ids = fake.state().changes.clone();
    assert_eq!(ids.len(), 3, "two tries, and another request");
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn a_delete_that_was_done_by_an_earlier_try_is_done() {
    let fake = Fake::start(1, 1).await;
    let admin = fake.client().await.admin();
    fake.state().create_answers = vec![Err(Status::unavailable("cut"))];
    assert_eq!(admin.delete_topic(TOPIC, false).await.expect("done").name, TOPIC);
    let error = admin.delete_topic(TOPIC, false).await.expect_err("the first try says so");
    assert_eq!(error.code(), ErrorCode::UnknownTopic);
}
