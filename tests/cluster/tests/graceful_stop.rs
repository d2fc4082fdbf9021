//! SIGTERM of each node in turn during a produce: each ends with 0, and no write fails.

use dlog_cluster_tests::{Cluster, Input, Producing, Turn, acks, short_or_full};
use std::time::{Duration, Instant};

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 6;

#[test]
fn of_each_node_fails_no_write() {
    let turn = Turn::take("graceful-stop");
    let input = Input::chosen();
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);

    let stops = short_or_full(3, 12);
    let share = input.len() / (stops + 1);
    let mut producing = Producing::flights(&cluster, TOPIC, &input, share / 3, &[]);
    let mut gaps = Vec::new();
    for stop in 0..stops {
        producing.allow(share * (stop + 1));
        producing.wait_acked(share * stop + share / 4);
        let node = stop % 3;
        let name = cluster.nodes[node].name().to_string();
        let led = cluster.leaders(TOPIC).remove(&name).unwrap_or_default();
        let at = Instant::now();
        let code = cluster.nodes[node].terminate();
        let took = at.elapsed();
        assert_eq!(code, 0, "{name} ended on SIGTERM with {code}; it said:\n{}", cluster.nodes[node].stderr());
        producing.wait_acked(share * (stop + 1));
        gaps.extend(acks::gaps(&producing.acks(), at, took + Duration::from_millis(500), &led));
        eprintln!("stop {}: {name}, which led {led:?}, took {took:?}", stop + 1);
        cluster.restart(node);
        cluster.wait_in_sync(TOPIC);
    }
    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());
    eprintln!("longest silence of a partition around a stop, median and worst: {:?}", acks::median_and_worst(gaps));
    let rows = cluster.consume(TOPIC, None);
    input.assert_exact("what the cluster gives", &rows);
    acks::assert_kept(&produced.acks, &rows, |line| input.events[line - 1].line.clone());
    cluster.wait_healthy();
    cluster.finish();
}
