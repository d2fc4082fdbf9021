//! Replicas that are moved from node to node under load, with nodes killed in the middle: nothing is lost, doubled or out of
//! order, each move ends, and what is out of use goes from the disks.

use crate::wire;
use dlog_cluster_tests::cluster::partitions;
use dlog_cluster_tests::{Cluster, Input, Producing, Random, Turn, acks, short_or_full, wait};
use dlog_protocol::v1;
use dlog_replication::{Command, CommandBody, CommandId, CommandOutcome, SetMetadataVoters, SetReplicas};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 3;
const NODES: usize = 4;
/// How long the lines of one round take to hand over: the move and the death are in the middle of them.
const LINES_FOR: Duration = Duration::from_secs(4);

/// Has the catalogue take a command, whichever node leads its group.
fn command(cluster: &Cluster, random: &mut Random, body: &CommandBody) -> CommandOutcome {
    let id = (u128::from(random.number()) << 64) | u128::from(random.number());
    let bytes = Command::new(CommandId(id), body.clone()).encode();
    wait::until_ok("the catalogue takes a command", wait::LONG, || {
        let running = cluster.nodes.iter().filter(|node| node.is_started());
        let mut said = Vec::new();
        for options in running.map(|node| node.options()) {
            let (client, peer) = (options.client_address(), format!("127.0.0.1:{}", options.peer));
            match wire::run(forward(&client, &peer, bytes.clone())) {
                Ok(outcome) => return Ok(outcome),
                Err(error) => said.push(error),
            }
        }
        Err(format!("{said:?}"))
    })
}

async fn forward(client: &str, peer: &str, command: bytes::Bytes) -> Result<CommandOutcome, String> {
    let metadata = wire::cluster(client).await.metadata(v1::MetadataRequest::default()).await;
    let cluster_id = metadata.map_err(|status| status.to_string())?.into_inner().cluster_id;
    let request = v1::ForwardRequest { cluster_id, from_node: 1, command, timeout_ms: 5_000 };
    let answer = wire::peer(peer).await.forward(request).await.map_err(|status| status.to_string())?;
    CommandOutcome::decode(&answer.into_inner().outcome).ok_or_else(|| "an outcome that can't be read".to_owned())
}

fn names(partition: &Value, key: &str) -> Vec<String> {
    let list = partition[key].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Moves a partition from one of its nodes to the one that doesn't hold it. Gives the node that it leaves.
fn move_one(cluster: &Cluster, random: &mut Random, partition: u32) -> String {
    let described = cluster.describe(TOPIC);
    let topic = described["id"].as_u64().expect("an id");
    let all = partitions(&described);
    let entry = all.iter().find(|p| p["partition"].as_u64() == Some(partition.into())).expect("the partition");
    let holds = names(entry, "replicas");
    let all_nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name().to_owned()).collect();
    let comes = all_nodes.iter().find(|name| !holds.contains(name)).expect("one of four doesn't hold it").clone();
    let leaves = holds[random.below(holds.len())].clone();
    // Node ids count the sorted names from 1.
    let id = |name: &String| all_nodes.iter().position(|other| other == name).expect("a node") as u32 + 1;
    let nodes = holds.iter().filter(|name| **name != leaves).chain([&comes]).map(id).collect();
    let body = CommandBody::SetReplicas(SetReplicas { topic, partition, nodes, intent: 0 });
    let outcome = command(cluster, random, &body);
    assert!(matches!(outcome, CommandOutcome::ReplicasIntended { .. }), "{outcome:?}");
    eprintln!("{TOPIC}/{partition}: {comes} for {leaves} of {holds:?}");
    leaves
}

/// The folders of a log's replicas on one disk.
fn folders(data: &Path, log: u64) -> Vec<PathBuf> {
    let place = data.join("shard-0/logs").join(log.to_string());
    std::fs::read_dir(place).map_or_else(|_| Vec::new(), |entries| entries.flatten().map(|e| e.path()).collect())
}

#[test]
fn loses_nothing_while_replicas_move_and_nodes_die() {
    let turn = Turn::take("moves");
    let rounds = short_or_full(3, 20);
    let mut random = Random::new("moves");
    let input = Input::chosen();
    let mut cluster = Cluster::start(&turn, NODES);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);

    let share = input.len() / (rounds + 1);
    let mut producing = Producing::flights(&cluster, TOPIC, &input, share / LINES_FOR.as_secs() as usize, &[]);
    for round in 0..rounds {
        producing.allow(share * (round + 1));
        producing.wait_acked(share * round + random.below(share / 3));
        let left: Vec<String> = (0..PARTITIONS).map(|p| move_one(&cluster, &mut random, p)).collect();
        let victim = random.below(NODES);
        std::thread::sleep(Duration::from_millis(random.below(400) as u64));
        cluster.nodes[victim].kill();
        producing.wait_acked(share * (round + 1));
        cluster.restart(victim);
        eprintln!("round {}: {} died in the middle", round + 1, cluster.nodes[victim].name());
        cluster.wait_in_sync(TOPIC);
        // Logs count from 1 in the order of partitions: it is the first topic.
        for (log, name) in (1u64..).zip(&left) {
            let data = cluster.data_dir(cluster.index_of(name)).to_owned();
            wait::until_ok("the replica that left is gone from its disk", wait::LONG, || {
                let there = folders(&data, log);
                if there.is_empty() { Ok(()) } else { Err(format!("{there:?}")) }
            });
        }
    }
    let voters = CommandBody::SetMetadataVoters(SetMetadataVoters { nodes: vec![2, 3, 4], intent: 0 });
    let outcome = command(&cluster, &mut random, &voters);
    assert!(matches!(outcome, CommandOutcome::ReplicasIntended { .. }), "{outcome:?}");
    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());
    // The metadata group outlives the loss of one of its new voters, and of the node that no longer votes.
    for gone in [0, 1] {
        cluster.nodes[gone].kill();
        cluster.dlog(["topic", "create", &format!("after-{gone}"), "--replicas", "1"]).ok();
        cluster.restart(gone);
    }
    cluster.wait_healthy();
    let rows = cluster.consume(TOPIC, None);
    input.assert_exact("what the leaders give", &rows);
    acks::assert_kept(&produced.acks, &rows, |line| input.events[line - 1].line.clone());
    cluster.finish();
}
