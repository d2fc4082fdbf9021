//! Two shards on each node: partitions are spread over both, and nothing else is different.

use dlog_cluster_tests::{Cluster, Input, Turn};
use std::collections::BTreeSet;
use std::path::Path;

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 24;

/// The shards below a data directory that hold replicas.
fn shards_in_use(cluster: &Cluster, node: usize) -> BTreeSet<String> {
    let root = cluster.data_dir(node);
    let dirs = cluster.log_dirs().into_values().flatten();
    let below = dirs.filter_map(|dir| dir.strip_prefix(root).map(Path::to_path_buf).ok());
    below.filter_map(|dir| Some(dir.components().next()?.as_os_str().to_string_lossy().into_owned())).collect()
}

#[test]
fn two_a_node_carry_what_one_does() {
    let turn = Turn::take("shards");
    let input = Input::sample();
    let mut cluster = Cluster::start_with(&turn, 3, &["--shards", "2"]);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);
    let leaders = cluster.leaders(TOPIC);
    assert_eq!(leaders.len(), 3, "leadership is spread over the nodes: {leaders:?}");

    let args = ["produce", TOPIC, "-", "--key-json", "/tailnum", "--timestamp-json", "/time"];
    cluster.dlog(args).stdin(input.bytes()).ok();
    for node in ["n1", "n2", "n3"] {
        input.assert_exact(&format!("what {node} gives"), &cluster.consume(TOPIC, Some(node)));
    }
    for node in 0..3 {
        let shards = shards_in_use(&cluster, node);
        assert_eq!(shards.len(), 2, "both shards of node {node} hold replicas: {shards:?}");
    }

    // Once by kill, once by a stop: recovery of both shards.
    cluster.nodes[0].kill();
    cluster.restart(0);
    assert_eq!(cluster.nodes[1].terminate(), 0);
    cluster.restart(1);
    cluster.wait_in_sync(TOPIC);
    for node in ["n1", "n2", "n3"] {
        input.assert_exact(&format!("what {node} gives after the restarts"), &cluster.consume(TOPIC, Some(node)));
    }
    cluster.wait_healthy();
    let dirs: Vec<_> = (0..3).map(|node| cluster.data_dir(node).to_path_buf()).collect();
    cluster.finish();
    for dir in dirs {
        let args = ["verify", "--data-dir", &dir.display().to_string()];
        dlog_cluster_tests::Verb::new("", args).ok();
    }
}
