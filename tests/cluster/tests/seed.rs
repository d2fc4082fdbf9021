//! The first thing that anybody does: start a server, connect by one address, make `test-log`, produce two keyed records,
//! consume from offset 0, get the same two.

use crate::wire;
use dlog_client::{Client, ClientOptions, ConsumerOptions, End, NewTopic, ProducerOptions, Record, Start, TimestampMs};
use dlog_cluster_tests::{Node, NodeOptions, Turn, Verb};

const TOPIC: &str = "test-log";

fn server(turn: &Turn) -> Node {
    let mut node = Node::new(NodeOptions::new(turn.dir(), "n1"));
    node.start();
    node.wait_ready();
    node
}

#[test]
fn by_the_command_line() {
    let turn = Turn::take("seed-cli");
    let mut node = server(&turn);
    let address = node.options().client_address();
    let dlog = |args: &[&str]| Verb::new("", args).args(["--server", &address]);

    dlog(&["topic", "create", TOPIC]).ok();
    dlog(&["produce", TOPIC, "--key-separator", "="]).stdin("key-1=first\nkey-2=second\n").ok();
    let records = dlog(&["consume", TOPIC, "--from", "0", "-o", "json"]).ok().json_lines();
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r["offset"].as_u64(), r["key"].as_str().unwrap_or_default(), r["value"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(seen, [(Some(0), "key-1", "first"), (Some(1), "key-2", "second")]);
    assert!(records.iter().all(|r| r["topic"] == TOPIC && r["partition"].as_u64() == Some(0)), "{records:?}");

    assert_eq!(node.terminate(), 0);
    node.start();
    node.wait_ready();
    let again = dlog(&["consume", TOPIC, "--from", "0", "-o", "json"]).ok().json_lines();
    assert_eq!(again, records, "after a restart");
    assert_eq!(node.terminate(), 0);
}

#[test]
fn by_the_library() {
    let turn = Turn::take("seed-library");
    let mut node = server(&turn);
    let address = node.options().client_address();
    let sent = [("key-1", "first"), ("key-2", "second")];

    wire::run(async {
        let client = Client::connect(ClientOptions::new([address])).await.expect("connected by one address");
        client.admin().create_topic(NewTopic { name: TOPIC.into(), ..NewTopic::default() }).await.expect("a topic");
        let producer = client.producer(ProducerOptions::default()).expect("a producer");
        for (offset, (key, value)) in (0..).zip(sent) {
            let record = Record::new(TimestampMs(1_000), value).with_key(key);
            let delivery = producer.send(TOPIC, None, record).await.expect("room for the record");
            let delivered = delivery.await.expect("acked");
            assert_eq!((delivered.partition, delivered.offset.0), (0, offset));
        }
        // Another client, so that nothing is known from before.
        let client = Client::connect(ClientOptions::new([node.options().client_address()])).await.expect("connected");
        let options = ConsumerOptions { from: Start::Offset(dlog_client::Offset(0)), ..ConsumerOptions::new(TOPIC) };
        let seen = consume(&client, options.clone()).await;
        assert_eq!(seen, [(0, "key-1".into(), "first".into()), (1, "key-2".into(), "second".into())]);
        let first = ConsumerOptions { to: Some(End::Offset(dlog_client::Offset(1))), ..options };
        assert_eq!(consume(&client, first).await.len(), 1);
    });
    assert_eq!(node.terminate(), 0);
}

/// Everything that a consumer gives until it ends: offset, key, value.
async fn consume(client: &Client, options: ConsumerOptions) -> Vec<(u64, String, String)> {
    let mut consumer = client.consumer(options).await.expect("a consumer");
    let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.expect("not null").to_vec()).expect("UTF-8");
    let mut seen = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record.expect("a record");
        assert_eq!(record.record.timestamp, TimestampMs(1_000));
        seen.push((record.offset.0, text(record.record.key), text(record.record.value)));
    }
    seen
}
