//! Group 0's log is shortened while topics come and go; a node that was away past that comes back by a snapshot of the catalogue,
//! and `kill -9` in the middle of it, or a restart after it, changes nothing.

use crate::wire;
use dlog_client::{Client, ClientOptions, NewTopic};
use dlog_cluster_tests::{Cluster, Turn, wait};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Topics that are made and deleted: two entries of group 0 each, more than it keeps for followers (1,024) and a segment more.
const TOPICS: usize = 960;
/// As many at once.
const TASKS: usize = 12;
/// Fills segments.
const NAME_BYTES: usize = 220;
/// A sync of the state store every ten seconds, and two checkpoints at least five seconds apart.
const SHORTENED: Duration = Duration::from_secs(120);

async fn come_and_go(servers: String, task: usize) {
    let client = Client::connect(ClientOptions::new(servers.split(',').map(str::to_owned))).await.expect("connected");
    for number in (task..TOPICS).step_by(TASKS) {
        let name = format!("{:x<NAME_BYTES$}", format!("churn-{number}-"));
        let topic = NewTopic { name: name.clone(), partitions: 1, ..NewTopic::default() };
        client.admin().create_topic(topic).await.expect("made");
        client.admin().delete_topic(&name, false).await.expect("deleted");
    }
}

/// The folder of a node's replica of group 0.
fn folder(cluster: &Cluster, node: usize) -> PathBuf {
    let own = cluster.data_dir(node);
    let dirs = cluster.log_dirs().remove("0").expect("every node has group 0");
    dirs.into_iter().find(|dir| dir.starts_with(own)).expect("this one too")
}

/// Where its log begins and ends, and the bytes of its segments.
fn look(cluster: &Cluster, dir: &Path) -> Result<(u64, u64, u64), String> {
    let ran = cluster.inspect_log(dir);
    if ran.code != Some(0) {
        return Err(ran.to_string());
    }
    let log = ran.json();
    let number = |field: &str| log[field].as_u64().ok_or_else(|| log.to_string());
    let files = std::fs::read_dir(dir).map_err(|error| error.to_string())?.flatten();
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "segment"));
    let bytes = segments.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    Ok((number("first_index")?, number("last_index")?, bytes))
}

/// Waits until the log begins behind `index`.
fn wait_shortened(cluster: &Cluster, node: usize, index: u64) -> (u64, u64, u64) {
    let dir = folder(cluster, node);
    wait::until_ok(&format!("node {node} has shortened group 0's log"), SHORTENED, || {
        let found = look(cluster, &dir)?;
        if found.0 > index { Ok(found) } else { Err(format!("{found:?}")) }
    })
}

#[test]
fn a_shortened_log_and_a_node_that_comes_back_behind_it() {
    let turn = Turn::take("group-zero-log");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic("kept", 2, &["--replicas", "3"]);
    cluster.dlog(["produce", "kept"]).stdin("one\ntwo\n").ok();
    cluster.nodes[2].kill();
    let (_, away_last, _) = look(&cluster, &folder(&cluster, 2)).expect("nobody writes there");

    let servers = [0, 1].map(|node| cluster.nodes[node].options().client_address()).join(",");
    wire::run(async {
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(come_and_go(servers.clone(), task))).collect();
        for task in tasks {
            task.await.expect("every topic came and went");
        }
    });
    cluster.dlog(["topic", "create", "late", "--partitions", "1"]).ok();
    for node in [0, 1] {
        let (first, last, bytes) = wait_shortened(&cluster, node, away_last + 1);
        println!("node {node}: group 0 keeps {first} to {last} in {bytes} bytes");
        assert!(first + 1024 <= last && bytes < (last * 2 * 250), "what followers may need stays");
    }
    // A start with a shortened log.
    cluster.nodes[0].kill();
    cluster.restart(0);

    // Back, killed as soon as the catalogue is there, and back again.
    cluster.nodes[2].start();
    wait::until_ok("the state has come", wait::LONG, || {
        let said = cluster.nodes[2].stderr();
        if said.contains("the metadata group's state came with a snapshot") { Ok(()) } else { Err(said) }
    });
    cluster.nodes[2].kill();
    cluster.restart(2);
    cluster.wait_in_sync("kept");
    cluster.wait_in_sync("late");
    let (first, ..) = wait_shortened(&cluster, 2, away_last + 1);
    println!("node 2: group 0 goes on at {first}");
    cluster.wait_healthy();
    assert_eq!(cluster.consume("kept", Some("n3")).len(), 2);

    // It leads, votes and keeps like the others; and all of them start again.
    cluster.dlog(["topic", "create", "later", "--partitions", "3"]).ok();
    for node in [2, 0, 1] {
        cluster.nodes[node].kill();
        cluster.restart(node);
    }
    for topic in ["kept", "late", "later"] {
        cluster.wait_in_sync(topic);
    }
    let listed = cluster.dlog(["topic", "list", "-o", "json"]).ok();
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("churn-"), "what was deleted stays deleted");
    cluster.finish();
}
