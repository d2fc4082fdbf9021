//! Changes of the catalogue over the wire: a request that is repeated after a cut connection is carried out once, producer
//! ids are never given twice, and altered settings reach every running replica.

use crate::wire;
use dlog_client::ErrorCode;
use dlog_cluster_tests::{Cluster, Turn, wait};
use dlog_protocol::v1::admin_client::AdminClient;
use dlog_protocol::v1::{
    AllocateProducerIdRequest, AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, ProduceRequest,
};
use dlog_protocol::{services, status};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

async fn admin(cluster: &Cluster, node: usize) -> AdminClient<Channel> {
    let address = cluster.nodes[node].options().client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    services::admin_client(endpoint.connect().await.expect("the node runs"))
}

fn code(status: &Status) -> ErrorCode {
    status::from_status(status).code
}

fn create(name: &str, id: Option<u8>) -> CreateTopicRequest {
    let request_id = id.map(|id| vec![id; 16].into());
    CreateTopicRequest { name: name.into(), partitions: 2, request_id, ..CreateTopicRequest::default() }
}

fn delete(name: &str, id: u8) -> DeleteTopicRequest {
    DeleteTopicRequest {
        topic: wire::topic(name),
        request_id: Some(vec![id; 16].into()),
        ..DeleteTopicRequest::default()
    }
}

#[test]
fn a_repeated_request_is_carried_out_once() {
    let turn = Turn::take("repeated-requests");
    let mut cluster = Cluster::start(&turn, 3);
    wire::run(async {
        let (mut first, mut second) = (admin(&cluster, 0).await, admin(&cluster, 1).await);
        let made = first.create_topic(create("a", Some(1))).await.expect("made").into_inner();
        let again = second.create_topic(create("a", Some(1))).await.expect("the same").into_inner();
        assert!(made.created && again.created && made.topic_id == again.topic_id, "{made:?} {again:?}");
        let refused = second.create_topic(create("a", Some(2))).await.expect_err("another request");
        assert_eq!(code(&refused), ErrorCode::TopicExists);
        let refused = second.create_topic(create("b", Some(2))).await.expect_err("told the same as before");
        assert_eq!(code(&refused), ErrorCode::TopicExists);
        let misused = first.delete_topic(delete("a", 1)).await.expect_err("the id is another request's");
        assert_eq!(code(&misused), ErrorCode::InvalidArgument);
        let odd = CreateTopicRequest { request_id: Some(vec![1; 15].into()), ..create("c", None) };
        assert_eq!(code(&first.create_topic(odd).await.expect_err("15 bytes")), ErrorCode::InvalidArgument);

        // A late repeat of a delete leaves the successor alone.
        first.delete_topic(delete("a", 3)).await.expect("deleted");
        let newer = first.create_topic(create("a", Some(4))).await.expect("made").into_inner();
        let repeated = second.delete_topic(delete("a", 3)).await.expect("was deleted").into_inner();
        assert_eq!(repeated.topic_id, made.topic_id);
        let still = second.create_topic(create("a", Some(4))).await.expect("made").into_inner();
        assert_eq!((still.topic_id, still.created), (newer.topic_id, true));

        // The connection is cut at some moment of each create: the repeat, at another node, has one outcome all the same.
        for (cut, id) in (100u8..120).enumerate() {
            let name = format!("cut-{id}");
            let bound = Duration::from_millis(cut as u64);
            let mut cut = admin(&cluster, cut % 3).await;
            let lost = tokio::time::timeout(bound, cut.create_topic(create(&name, Some(id)))).await;
            drop(cut);
            let made = second.create_topic(create(&name, Some(id))).await.expect("made").into_inner();
            assert!(made.created, "{name}: {made:?}");
            if let Ok(Ok(first)) = lost {
                assert_eq!(first.into_inner().topic_id, made.topic_id, "{name}");
            }
        }
    });
    let names: Vec<String> = cluster
        .dlog(["topic", "list", "-o", "json"])
        .ok()
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|topic| topic["name"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(names.len(), 21, "{names:?}");
    cluster.nodes[2].kill();
    cluster.restart(2);
    wire::run(async {
        let again = admin(&cluster, 2).await.create_topic(create("cut-100", Some(100))).await;
        assert!(again.expect("the same as before").into_inner().created, "a node that was killed knows it too");
    });
    cluster.finish();
}

#[test]
fn producer_ids_are_never_given_twice() {
    let turn = Turn::take("producer-ids");
    let mut cluster = Cluster::start(&turn, 3);
    let mut given = BTreeSet::new();
    for round in 0..3 {
        for node in 0..3 {
            let firsts: Vec<i64> = wire::run(async {
                let mut admin = admin(&cluster, node).await;
                let mut firsts = Vec::new();
                for count in [1u32, 1, 600, 600] {
                    let request = AllocateProducerIdRequest { count };
                    let got = admin.allocate_producer_id(request).await.expect("given").into_inner();
                    assert_eq!(got.count, count);
                    firsts.push(got.first_producer_id);
                    let ids = got.first_producer_id..got.first_producer_id + i64::from(count);
                    assert!(ids.clone().all(|id| given.insert(id)), "{ids:?} was given before");
                }
                let many = admin.allocate_producer_id(AllocateProducerIdRequest { count: 1001 }).await;
                assert_eq!(code(&many.expect_err("more than a block")), ErrorCode::InvalidArgument);
                firsts
            });
            assert_eq!(firsts[1], firsts[0] + 1, "from one block");
        }
        match round {
            0 => cluster.nodes[0].kill(),
            _ => assert_eq!(cluster.nodes[0].terminate(), 0),
        }
        cluster.restart(0);
    }
    cluster.finish();
}

fn alter(config: &[(&str, &str)]) -> AlterTopicRequest {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    AlterTopicRequest { topic: wire::topic("a"), config, ..AlterTopicRequest::default() }
}

fn config(cluster: &Cluster) -> BTreeMap<String, String> {
    let described = cluster.describe("a");
    let config = described["config"].as_object().expect("settings");
    config.iter().map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned())).collect()
}

fn segments(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|end| end == "segment")).count()
}

/// Appends one batch of about so many bytes at the leader; the append time if it was stamped.
async fn produce(cluster: &Cluster, bytes: usize) -> Result<Option<i64>, ErrorCode> {
    let leader = cluster.index_of(&cluster.leader_of("a", 0));
    let mut log = wire::log(&cluster.nodes[leader].options().client_address()).await;
    let request: ProduceRequest = wire::request(1, "a", 0, wire::batch(&["x".repeat(bytes)]));
    let mut answers = log.produce(tokio_stream::iter([request])).await.expect("a stream").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one");
    match answer.error {
        None => Ok(answer.append_time_ms),
        Some(error) => Err(status::from_message(error).code),
    }
}

#[test]
fn altered_settings_reach_every_running_replica() {
    let turn = Turn::take("altered");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic("a", 1, &["--replicas", "3"]);
    let before = config(&cluster);
    assert_eq!((before["retention.ms"].as_str(), before["segment.bytes"].as_str()), ("unlimited", "67108864"));
    let altered = wire::run(async {
        assert_eq!(produce(&cluster, 10_000).await, Ok(None));
        let mut admin = admin(&cluster, 1).await;
        let wish = [
            ("retention.bytes", "64MiB"),
            ("retention.ms", "7d"),
            ("segment.bytes", "64KiB"),
            ("max.batch.bytes", "20000"),
            ("timestamp.type", "append"),
        ];
        let dry = AlterTopicRequest { dry_run: true, ..alter(&wish) };
        let planned = admin.alter_topic(dry).await.expect("possible").into_inner().config;
        let refused = admin.alter_topic(alter(&[("retention.ms", "soon")])).await.expect_err("no time");
        assert!(refused.message().contains("36500d"), "{refused:?}");
        assert_eq!(config(&cluster), before, "a dry run and a refusal change nothing");
        let altered = admin.alter_topic(alter(&wish)).await.expect("altered").into_inner().config;
        assert_eq!(altered, planned);
        altered
    });
    assert_eq!(config(&cluster), altered.into_iter().collect());
    wait::until_ok("the leader refuses large batches and stamps the others", wait::LONG, || {
        let seen = wire::run(async { (produce(&cluster, 30_000).await, produce(&cluster, 10_000).await) });
        let good = seen.0 == Err(ErrorCode::BatchTooLarge) && matches!(seen.1, Ok(Some(_)));
        if good { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    wait::until("segments roll at the new size on every node", wait::LONG, || {
        wire::run(async { produce(&cluster, 19_000).await.expect("appended") });
        let dirs: Vec<_> = cluster.log_dirs().into_values().flatten().collect();
        (dirs.iter().filter(|dir| segments(dir) >= 3).count() == 3).then_some(())
    });
    // What was set holds after a restart of all, and a default comes back.
    for node in 0..3 {
        cluster.nodes[node].kill();
        cluster.restart(node);
        cluster.wait_in_sync("a");
    }
    wire::run(async {
        assert_eq!(produce(&cluster, 30_000).await, Err(ErrorCode::BatchTooLarge));
        let mut admin = admin(&cluster, 0).await;
        admin.alter_topic(alter(&[("max.batch.bytes", ""), ("retention.ms", "default")])).await.expect("altered");
    });
    let after = config(&cluster);
    let shown = (after["max.batch.bytes"].as_str(), after["retention.ms"].as_str(), after["retention.bytes"].as_str());
    assert_eq!(shown, ("1048576", "unlimited", "67108864"));
    cluster.finish();
}
