//! `kill -9` of all three nodes during a produce: what was acked is there after the restart, and what was not is wholly
//! there or not at all, in order.

use crate::wire;
use dlog_cluster_tests::{Cluster, Input, Node, Producing, Random, Turn, acks, flights, short_or_full};
use dlog_protocol::v1;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 6;

fn kill_all(cluster: &mut Cluster) {
    // All signals before the first wait: none has the time to see another's death.
    cluster.nodes.iter_mut().for_each(|node| node.process().signal(Signal::KILL));
    cluster.nodes.iter_mut().for_each(Node::kill);
}

fn start_all(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.nodes.iter_mut().for_each(Node::wait_ready);
}

#[test]
fn keeps_what_was_acked_and_a_prefix_of_what_was_sent() {
    let turn = Turn::take("death-of-all");
    let mut random = Random::new("death_of_all");
    // Where an event without a key goes is the client's choice: only keyed ones have a known place.
    let input = Input::chosen().keyed();
    let mut cluster = Cluster::start(&turn, 3);

    // The same keys into as many partitions show where each key lives.
    cluster.create_topic("reference", PARTITIONS, &[]);
    let args = ["produce", "reference", "-", "--key-json", "/tailnum", "--timestamp-json", "/time"];
    cluster.dlog(args).stdin(input.bytes()).bound(Duration::from_secs(900)).ok();
    let homes = input.homes(&cluster.consume("reference", None));
    let expected = input.by_partition(&homes);

    for round in 0..short_or_full(2, 10) {
        let topic = format!("{TOPIC}-{round}");
        cluster.create_topic(&topic, PARTITIONS, &[]);
        let rate = input.len() / 8;
        let mut producing = Producing::flights(&cluster, &topic, &input, rate, &["--timeout", "3s"]);
        producing.wait_acked(1 + random.below(input.len() / 2));
        kill_all(&mut cluster);
        let produced = producing.finish(Duration::from_secs(60));
        assert!(matches!(produced.code, Some(1 | 3)), "a produce without nodes fails: {produced:?}");
        assert!(!produced.stderr.trim().is_empty(), "a produce without nodes says why it failed");
        let unknown = produced.report.as_ref().and_then(|report| report["unknown"].as_u64());
        let unknown = unknown.unwrap_or_else(|| panic!("a produce reports at any end: {produced:?}"));
        assert_eq!(produced.code == Some(3), unknown > 0, "3 means that something may have been applied: {produced:?}");
        assert!(produced.acks.len() < input.len(), "the nodes died in the middle");
        start_all(&mut cluster);
        cluster.wait_in_sync(&topic);

        let rows = cluster.consume(&topic, None);
        acks::assert_kept(&produced.acks, &rows, |line| input.events[line - 1].line.clone());
        for (partition, rows) in flights::by_partition(&rows) {
            for (row, place) in rows.iter().zip(&expected[&partition]) {
                let sent = &input.events[*place];
                assert_eq!(
                    row.value, sent.line,
                    "{topic}/{partition} is no prefix of what was sent, at {}",
                    row.offset
                );
            }
            assert!(rows.len() <= expected[&partition].len(), "{topic}/{partition} has more than was sent");
            assert!(rows.iter().zip(0..).all(|(row, offset)| row.offset == offset), "{topic}/{partition} has a gap");
        }
        for node in ["n1", "n2", "n3"] {
            let mut of_node = cluster.consume(&topic, Some(node));
            let mut all = rows.clone();
            for rows in [&mut of_node, &mut all] {
                rows.sort_by_key(|row| (row.partition, row.offset));
            }
            assert!(of_node == all, "{node} gives other rows of {topic} than the leaders");
        }
        eprintln!("round {round}: {} acked, {} there", produced.acks.len(), rows.len());
    }
    cluster.wait_healthy();
    cluster.finish();
}

/// Records of one batch: enough that a half of it would be seen.
const BATCH_RECORDS: usize = 40;

#[test]
fn keeps_each_batch_whole_or_not_at_all() {
    let turn = Turn::take("death-batches");
    let mut random = Random::new("death_of_all batches");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic("batches", 1, &[]);
    let leader = cluster.leader_of("batches", 0);
    let address = cluster.nodes[cluster.index_of(&leader)].options().client_address();
    let die_after = 20 + random.below(150);

    let acked = wire::run(async {
        let mut log = wire::log(&address).await;
        let requests = (0_u64..1000).map(|number| {
            let values: Vec<String> = (0..BATCH_RECORDS).map(|i| format!("{number} {i}")).collect();
            wire::request(number, "batches", 0, wire::batch(&values))
        });
        // A little at a time: the nodes die in the middle.
        let stream = wire::paced(requests.collect(), Duration::from_millis(1));
        let mut answers = log.produce(stream).await.expect("a stream").into_inner();
        let mut acked: Vec<v1::ProduceResponse> = Vec::new();
        let mut dead = false;
        while let Ok(Some(answer)) = answers.message().await {
            if answer.error.is_none() {
                acked.push(answer);
            }
            if acked.len() >= die_after && !dead {
                kill_all(&mut cluster);
                dead = true;
            }
        }
        assert!(dead, "the nodes died in the middle, after {} batches", acked.len());
        acked
    });
    start_all(&mut cluster);
    cluster.wait_in_sync("batches");

    let out = cluster.dlog(["consume", "batches", "--format", "%o %v\\n"]).ok();
    let mut found: BTreeMap<u64, Vec<(u64, usize)>> = BTreeMap::new();
    for line in out.text().lines() {
        let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        let [offset, batch, record] = numbers[..] else { panic!("{line:?}") };
        found.entry(batch).or_default().push((offset, usize::try_from(record).expect("small")));
    }
    for (batch, records) in &found {
        let whole = (0..BATCH_RECORDS).map(|i| (records[0].0 + i as u64, i));
        assert!(records.iter().copied().eq(whole), "batch {batch} is torn, doubled or mixed: {records:?}");
    }
    let last = found.keys().next_back().copied().unwrap_or_default();
    assert_eq!(found.len() as u64, last + 1, "what is there is a prefix of what was sent");
    for answer in &acked {
        let offset = found.get(&answer.request_id).map(|records| records[0].0);
        assert_eq!(offset, Some(answer.base_offset), "batch {} was acked there", answer.request_id);
    }
    eprintln!("{} batches acked, {} there", acked.len(), found.len());
    cluster.finish();
}
