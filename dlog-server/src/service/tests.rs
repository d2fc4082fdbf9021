//! The services through a real listener and real clients, over a shard that the test plays.

use super::testing::{CLUSTER, TestNode, batch_of};
use bytes::Bytes;
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::{NodeId, Offset};
use dlog_protocol::v1::topic_selector::By;
use dlog_protocol::v1::{
    ConsumeRequest, ListOffsetsRequest, MetadataRequest, ProduceOnceRequest, ProduceRequest, ProduceResponse, Record,
    TopicSelector,
};
use dlog_protocol::{ClusterId, services, status};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn named(name: &str) -> Option<TopicSelector> {
    Some(TopicSelector { by: Some(By::Name(name.into())) })
}

fn request(request_id: u64, batch: Bytes) -> ProduceRequest {
    ProduceRequest { request_id, topic: named("a"), batch, timeout_ms: 60_000, ..ProduceRequest::default() }
}

async fn stream(node: &TestNode) -> (mpsc::Sender<ProduceRequest>, Streaming<ProduceResponse>) {
    let (requests, receiver) = mpsc::channel(16);
    let answers = node.log().await.produce(ReceiverStream::new(receiver)).await.expect("a stream");
    (requests, answers.into_inner())
}

async fn answer(answers: &mut Streaming<ProduceResponse>) -> (ProduceResponse, Option<ErrorDetail>) {
    let mut answer = answers.message().await.expect("the stream goes on").expect("an answer comes");
    let error = answer.error.take().map(status::from_message);
    (answer, error)
}

/// Appends through the unary call; returns the base offset.
async fn append(node: &TestNode, records: u32, time: i64) -> u64 {
    let batch = Some(batch_of(records, time));
    let request = ProduceOnceRequest { topic: named("a"), partition: Some(0), batch, ..ProduceOnceRequest::default() };
    node.log().await.produce_once(request).await.expect("appended").into_inner().base_offset
}

fn from(from: u64) -> ConsumeRequest {
    ConsumeRequest { topic: named("a"), from, ..ConsumeRequest::default() }
}

/// How a consume stream ends: the offset after what it gave, and its error.
async fn consume(node: &TestNode, request: ConsumeRequest) -> (u64, Option<ErrorDetail>) {
    let mut next = request.from;
    let mut answers = match node.log().await.consume(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (next, Some(status::from_status(&status))),
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => next = answer.next_offset,
            Ok(None) => return (next, None),
            Err(status) => return (next, Some(status::from_status(&status))),
        }
    }
}

#[tokio::test]
async fn each_request_is_answered_in_its_partitions_order() {
    let node = TestNode::start().await;
    node.hold();
    let (requests, mut answers) = stream(&node).await;
    let mut corrupt = batch_of(1, 1).to_vec();
    *corrupt.last_mut().expect("not empty") ^= 1;
    let unknown = ProduceRequest { topic: named("nothing"), ..request(4, batch_of(1, 1)) };
    let nameless = ProduceRequest { topic: None, ..request(5, batch_of(1, 1)) };
    let sent = [
        request(1, batch_of(3, 1)),
        request(2, corrupt.into()),
        request(3, Bytes::new()),
        unknown,
        nameless,
        request(6, batch_of(2, 1)),
    ];
    for request in sent {
        requests.send(request).await.expect("the stream is open");
    }
    let (first, error) = answer(&mut answers).await;
    assert_eq!((first.request_id, error.expect("refused").code), (4, ErrorCode::UnknownTopic));
    let (second, error) = answer(&mut answers).await;
    assert_eq!((second.request_id, error.expect("refused").code), (5, ErrorCode::InvalidArgument));
    node.release();
    let (good, error) = answer(&mut answers).await;
    assert_eq!((good.request_id, good.base_offset, good.last_offset, error), (1, 0, 2, None));
    let (bad, error) = answer(&mut answers).await;
    let error = error.expect("refused");
    assert_eq!((bad.request_id, error.code, error.stage), (2, ErrorCode::InvalidBatch, Stage::Admission));
    assert_eq!(answer(&mut answers).await.0.request_id, 3, "an empty batch, in its place");
    drop(requests);
    let (last, error) = answer(&mut answers).await;
    assert_eq!((last.request_id, last.base_offset, last.high_watermark, error), (6, 3, Some(5), None));
    assert!(answers.message().await.expect("a good end").is_none(), "the client closed its side");
}

#[tokio::test]
async fn whoever_does_not_lead_says_who_does() {
    let node = TestNode::start().await;
    node.follow();
    let (requests, mut answers) = stream(&node).await;
    requests.send(request(1, batch_of(1, 1))).await.expect("open");
    let error = answer(&mut answers).await.1.expect("refused");
    assert_eq!((error.code, error.outcome, error.leader), (ErrorCode::NotLeader, Outcome::Rejected, Some(NodeId(2))));
    assert_eq!(error.leader_address.as_deref(), Some("127.0.0.1:7002"));
    assert_eq!(error.node.as_deref(), Some("n1"));
    let elsewhere = ProduceRequest { partition: 1, ..request(2, batch_of(1, 1)) };
    requests.send(elsewhere).await.expect("open");
    let error = answer(&mut answers).await.1.expect("refused");
    assert!(error.is_retryable() && error.code == ErrorCode::NotLeader, "no replica of partition 1 runs here: {error}");
}

#[tokio::test]
async fn a_deadline_that_passes_leaves_the_outcome_open() {
    let node = TestNode::start().await;
    node.hold();
    let (requests, mut answers) = stream(&node).await;
    let hasty = ProduceRequest { timeout_ms: 20, ..request(1, batch_of(1, 1)) };
    requests.send(hasty).await.expect("open");
    let error = answer(&mut answers).await.1.expect("late");
    assert_eq!((error.code, error.outcome, error.stage), (ErrorCode::Timeout, Outcome::Unknown, Stage::Replication));
    node.release();
    requests.send(request(2, batch_of(1, 1))).await.expect("open");
    assert_eq!(answer(&mut answers).await.0.base_offset, 1, "the late one was appended all the same");
}

#[tokio::test]
async fn structured_records_are_encoded_here() {
    let node = TestNode::start().await;
    let records = vec![Record { value: Some(Bytes::from_static(b"v")), ..Record::default() }; 2];
    let once = ProduceOnceRequest { topic: named("a"), records, ..ProduceOnceRequest::default() };
    let acked = node.log().await.produce_once(once.clone()).await.expect("appended").into_inner();
    // Without keys a partition that is led here is chosen.
    assert_eq!((acked.partition, acked.base_offset, acked.last_offset), (0, 0, 1));
    node.follow();
    let refused = node.log().await.produce_once(once).await.expect_err("nothing is led here");
    assert!(status::from_status(&refused).is_retryable());
}

#[tokio::test]
async fn a_stream_ends_where_it_was_asked_to() {
    let node = TestNode::start().await;
    for time in [10, 20, 30] {
        append(&node, 2, time).await;
    }
    assert_eq!(consume(&node, from(0)).await, (6, None));
    assert_eq!(consume(&node, from(3)).await, (6, None), "the batch that holds 3 is whole");
    assert_eq!(consume(&node, ConsumeRequest { until: Some(3), ..from(0) }).await, (4, None));
    assert_eq!(consume(&node, ConsumeRequest { max_bytes: 1, ..from(0) }).await, (6, None), "a batch at a time");
    assert_eq!(consume(&node, from(6)).await, (6, None), "at the end there is nothing");
}

#[tokio::test]
async fn a_stream_at_the_tail_goes_on() {
    let node = TestNode::start().await;
    append(&node, 1, 1).await;
    let follow = ConsumeRequest { follow: true, max_wait_ms: 10, ..from(0) };
    let mut answers = node.log().await.consume(follow).await.expect("a stream").into_inner();
    let first = answers.message().await.expect("goes on").expect("one batch");
    assert_eq!((first.batches.len(), first.next_offset, first.high_watermark), (1, 1, 1));
    let marks = answers.message().await.expect("goes on").expect("a sign of life");
    assert_eq!((marks.batches.len(), marks.next_offset), (0, 1));
    let mut next = marks.next_offset;
    for _ in 0..50 {
        append(&node, 3, 1).await;
        while next < node.context.replicas.all()[0].progress().high_watermark.0 {
            let answer = answers.message().await.expect("goes on").expect("goes on");
            let mut expected = next;
            for batch in &answer.batches {
                let header = dlog_core::BatchHeader::decode(batch).expect("a batch");
                assert_eq!(header.base_offset, Offset(expected), "no gap, no double read");
                expected = header.next_offset().0;
            }
            assert_eq!(expected, answer.next_offset);
            next = answer.next_offset;
        }
    }
    assert_eq!(next, 151);
}

#[tokio::test]
async fn only_the_leader_says_that_there_is_nothing() {
    let node = TestNode::start().await;
    append(&node, 5, 1).await;
    let beyond = ConsumeRequest { max_wait_ms: 20, ..from(9) };
    let error = consume(&node, beyond.clone()).await.1.expect("above the end");
    assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
    assert!(error.message.contains('9') && error.message.contains('5'), "{error}");
    node.follow();
    let error = consume(&node, beyond).await.1.expect("not here");
    assert_eq!((error.code, error.leader), (ErrorCode::NotYetAvailable, Some(NodeId(2))));
    let until = ConsumeRequest { until: Some(9), max_wait_ms: 20, ..from(0) };
    let (next, error) = consume(&node, until).await;
    assert_eq!((next, error.expect("not here").code), (5, ErrorCode::NotYetAvailable));
}

#[tokio::test]
async fn what_is_committed_but_not_readable_here_waits() {
    let node = TestNode::start().await;
    append(&node, 5, 1).await;
    // The commit has passed this node's own disk.
    node.change(|p| p.high_watermark = Offset(8));
    let ahead = ConsumeRequest { max_wait_ms: 20, ..from(7) };
    assert_eq!(consume(&node, ahead).await.1.expect("not yet").code, ErrorCode::NotYetAvailable);
    assert_eq!(consume(&node, from(0)).await, (5, None));
}

#[tokio::test]
async fn streams_end_with_their_replica() {
    let node = TestNode::start().await;
    append(&node, 1, 1).await;
    let follow = || ConsumeRequest { follow: true, ..from(0) };
    let mut moved = node.log().await.consume(follow()).await.expect("a stream").into_inner();
    moved.message().await.expect("goes on").expect("one batch");
    node.remove_replica();
    let error = status::from_status(&moved.message().await.expect_err("the replica is gone"));
    assert!(error.code == ErrorCode::NotLeader && error.is_retryable(), "{error}");

    let node = TestNode::start().await;
    append(&node, 1, 1).await;
    let mut deleted = node.log().await.consume(follow()).await.expect("a stream").into_inner();
    deleted.message().await.expect("goes on").expect("one batch");
    let mut without = (*node.context.catalogue()).clone();
    let delete = dlog_replication::command::DeleteTopic { name: "a".into(), ..Default::default() };
    let command = crate::metadata::registration::command(dlog_replication::CommandBody::DeleteTopic(delete));
    without.apply(without.applied().next(), &command.encode());
    node.catalogue.send_replace(Arc::new(without));
    node.remove_replica();
    let error = status::from_status(&deleted.message().await.expect_err("the topic is gone"));
    assert_eq!(error.code, ErrorCode::UnknownTopic);
}

#[tokio::test]
async fn a_node_that_stops_ends_its_streams() {
    let mut node = TestNode::start().await;
    append(&node, 1, 1).await;
    let follow = ConsumeRequest { follow: true, ..from(0) };
    let mut consumed = node.log().await.consume(follow).await.expect("a stream").into_inner();
    consumed.message().await.expect("goes on").expect("one batch");
    node.hold();
    let (requests, mut answers) = stream(&node).await;
    requests.send(request(1, batch_of(1, 1))).await.expect("open");
    while node.context.shards[0].inbox.admitted_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    node.stop();
    let error = status::from_status(&consumed.message().await.expect_err("the node stops"));
    assert!(error.code == ErrorCode::ShuttingDown && error.is_retryable(), "{error}");
    node.release();
    let (acked, error) = answer(&mut answers).await;
    assert_eq!((acked.request_id, acked.base_offset, error), (1, 1, None), "what is in flight is finished");
    let error = status::from_status(&answers.message().await.expect_err("the node stops"));
    assert_eq!(error.code, ErrorCode::ShuttingDown);
    drop((consumed, answers, requests));
    node.server.await.expect("no panic").expect("a good end");
}

#[tokio::test]
async fn new_records_are_refused_while_leadership_is_handed_over() {
    let node = TestNode::start().await;
    let (requests, mut answers) = stream(&node).await;
    node.context.stopping.store(true, std::sync::atomic::Ordering::Release);
    requests.send(request(1, batch_of(1, 1))).await.expect("open");
    let error = answer(&mut answers).await.1.expect("refused");
    assert_eq!((error.code, error.outcome, error.leader), (ErrorCode::NotLeader, Outcome::Rejected, None));
}

#[tokio::test]
async fn offsets_come_from_the_leader_unless_asked_otherwise() {
    let node = TestNode::start().await;
    for time in [10, 20, 30] {
        append(&node, 2, time).await;
    }
    let request = ListOffsetsRequest {
        topic: named("a"),
        at_timestamp_ms: Some(20),
        last_records: Some(3),
        ..ListOffsetsRequest::default()
    };
    let told = node.log().await.list_offsets(request.clone()).await.expect("known topic").into_inner().partitions;
    assert_eq!(told.len(), 2);
    let first = &told[0];
    assert_eq!(
        (first.log_start, first.high_watermark, first.at_offset, first.last_records_offset),
        (0, 6, Some(2), Some(3))
    );
    let error = status::from_message(told[1].error.clone().expect("not led here"));
    assert_eq!((told[1].partition, error.code), (1, ErrorCode::NotLeader));

    node.follow();
    let local = ListOffsetsRequest { local: true, at_timestamp_ms: Some(31), ..request.clone() };
    let told = node.log().await.list_offsets(local).await.expect("known topic").into_inner().partitions;
    assert_eq!(told.len(), 1, "only what is here");
    assert_eq!((told[0].high_watermark, told[0].at_offset, told[0].error.clone()), (6, None, None));
    let told = node.log().await.list_offsets(request).await.expect("known topic").into_inner().partitions;
    assert!(told.iter().all(|partition| partition.error.is_some()));
}

#[tokio::test]
async fn metadata_names_leaders_and_what_is_unknown() {
    let node = TestNode::start().await;
    let mut client = services::cluster_client(node.channel().await);
    let topics = ["a", "nothing"].into_iter().filter_map(named).collect();
    let answer = client.metadata(MetadataRequest { topics, ..MetadataRequest::default() }).await.expect("answers");
    let answer = answer.into_inner();
    assert_eq!((&answer.cluster_id[..], answer.answered_by, answer.nodes.len()), (&CLUSTER.0[..], 1, 3));
    assert_eq!(answer.topics.len(), 1);
    let partitions = &answer.topics[0].partitions;
    assert_eq!((partitions[0].leader, partitions[0].term, partitions[0].replicas.len()), (Some(1), 3, 3));
    assert_eq!(partitions[1].leader, None, "the others don't answer");
    assert_eq!(answer.unknown_topics, [named("nothing").expect("named")]);
    assert_eq!(answer.topics[0].max_batch_bytes, 1 << 20);
}

#[tokio::test]
async fn the_listener_checks_the_cluster_and_tells_its_health() {
    let mut node = TestNode::start().await;
    let mut health = HealthClient::new(node.channel().await);
    let check = HealthCheckRequest { service: "dlog.v1.Log".into() };
    let answer = health.check(check).await.expect("answers").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);

    let mut client = services::cluster_client(node.channel().await);
    for (cluster, welcome) in [(CLUSTER.0, true), ([8; 16], false)] {
        let mut request = tonic::Request::new(MetadataRequest::default());
        ClusterId(cluster).attach(request.metadata_mut());
        let answer = client.metadata(request).await.map_err(|s| status::from_status(&s).code);
        assert_eq!(answer.is_ok(), welcome);
        if !welcome {
            assert_eq!(answer.expect_err("another cluster"), ErrorCode::WrongCluster);
        }
    }
    drop((health, client));
    node.stop();
    node.server.await.expect("no panic").expect("a good end");
}

#[tokio::test]
async fn a_linearizable_read_has_all_that_was_acked_before() {
    let node = TestNode::start().await;
    for time in [10, 20, 30] {
        append(&node, 1, time).await;
    }
    // This replica lags: the third record is acked and not known here.
    node.follow();
    node.change(|p| (p.high_watermark, p.read_bound) = (Offset(2), Offset(2)));
    let linearizable =
        |from_offset, max_wait_ms| ConsumeRequest { linearizable: true, max_wait_ms, ..from(from_offset) };
    assert_eq!(consume(&node, from(0)).await, (2, None), "a committed read ends at what this replica has");
    let (next, error) = consume(&node, linearizable(0, 50)).await;
    let error = error.expect("never less than was acked");
    assert_eq!((next, error.code, error.outcome), (0, ErrorCode::NotYetAvailable, Outcome::Rejected));
    assert!(error.is_retryable() && error.message.contains("ends at 3"), "{error}");

    let offsets =
        ListOffsetsRequest { topic: named("a"), partitions: vec![0], local: true, ..ListOffsetsRequest::default() };
    let stale = node.log().await.list_offsets(offsets.clone()).await.expect("answers").into_inner();
    assert_eq!(stale.partitions[0].high_watermark, 2);
    let mut log = node.log().await;
    let offsets = log.list_offsets(ListOffsetsRequest { linearizable: true, ..offsets });
    let (read, told, ()) = tokio::join!(consume(&node, linearizable(0, 10_000)), offsets, async {
        tokio::task::yield_now().await;
        node.change(|p| (p.high_watermark, p.read_bound) = (Offset(3), Offset(3)));
    });
    assert_eq!(read, (3, None));
    assert_eq!(told.expect("answers").into_inner().partitions[0].high_watermark, 3);

    // Having asked the leader, a follower too may say where the end is.
    let error = consume(&node, linearizable(4, 10_000)).await.1.expect("there is nothing");
    assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
}
