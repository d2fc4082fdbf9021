//! `dlog consume --read linearizable`: everything acked before is there, from any replica, also from one that has just slept
//! through it; and without a quorum it is an error, where a committed read of a node goes by what that node knows.

use dlog_cluster_tests::{Cluster, Ran, Turn};
use std::time::Duration;

const TOPIC: &str = "acked";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const TIMEOUT: Duration = Duration::from_secs(6);
/// What a process needs beside its deadline, on a loaded machine: this asks for "within", not for a speed.
const SLACK: Duration = Duration::from_secs(10);
/// Records that are written while a follower sleeps.
const BATCH: usize = 200;

fn produce(cluster: &Cluster, count: usize) {
    let lines: String = (0..count).map(|number| format!("{number}\n")).collect();
    cluster.dlog(["produce", TOPIC]).stdin(lines).ok();
}

fn consume(cluster: &Cluster, flags: &[&str]) -> Ran {
    cluster.dlog(["consume", TOPIC, "--read", "linearizable"]).args(flags).run()
}

#[track_caller]
fn assert_all(ran: Ran, expected: usize) {
    let ran = ran.expect_code(0);
    assert_eq!(ran.text().lines().count(), expected, "{} gives all that was acked", ran.line);
}

#[test]
fn sees_all_that_was_acked_from_any_replica() {
    let turn = Turn::take("consume-linearizable");
    let mut cluster = Cluster::start(&turn, NODES.len());
    cluster.create_topic(TOPIC, 2, &["--replicas", "3"]);
    let mut acked = 0;
    for _ in 0..4 {
        for node in NODES {
            produce(&cluster, 1);
            acked += 1;
            assert_all(consume(&cluster, &["--node", node]), acked);
        }
        produce(&cluster, 1);
        acked += 1;
        assert_all(consume(&cluster, &[]), acked);
    }
    // Who leads nothing sleeps while others go on; what it says when it wakes is no older than what was acked.
    let leaders = cluster.leaders(TOPIC);
    let asleep = NODES.iter().position(|node| !leaders.contains_key(*node)).expect("two partitions, three nodes");
    cluster.nodes[asleep].pause();
    produce(&cluster, BATCH);
    acked += BATCH;
    cluster.nodes[asleep].resume();
    assert_all(consume(&cluster, &["--node", NODES[asleep]]), acked);
    // The newest of each partition: what is left out is not what came last.
    let last = consume(&cluster, &["--node", NODES[asleep], "--from", "-1", "-o", "json"]).expect_code(0);
    let offsets = cluster.dlog(["offsets", TOPIC, "-o", "json"]).ok().json();
    for record in last.json_lines() {
        let partition = usize::try_from(record["partition"].as_u64().expect("a number")).expect("small");
        let end = offsets[partition]["high_watermark"].as_u64().expect("a number");
        assert_eq!(record["offset"].as_u64(), Some(end - 1), "{last}");
    }
    cluster.wait_healthy();
    cluster.finish();
}

#[test]
fn without_a_quorum_it_is_an_error_and_a_committed_read_is_not() {
    let turn = Turn::take("consume-no-quorum");
    let mut cluster = Cluster::start(&turn, NODES.len());
    cluster.create_topic(TOPIC, 2, &["--replicas", "3"]);
    produce(&cluster, 10);
    // The survivor knows that all of it is committed before the others go.
    assert_all(consume(&cluster, &["--node", "n3"]), 10);
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    for flags in [&["--node", "n3", "--timeout", &timeout][..], &["--timeout", &timeout]] {
        let ran = consume(&cluster, flags).expect_code(1).expect_says(&["timeout", "next:"]);
        assert!(ran.took < TIMEOUT + SLACK, "in time: {ran}");
        assert!(ran.stdout.is_empty(), "nothing is given that isn't sure: {ran}");
    }
    let committed = cluster.dlog(["consume", TOPIC, "--node", "n3", "--timeout", &timeout]).ok();
    assert_eq!(committed.text().lines().count(), 10);
    assert!(committed.stderr.contains("warning: no leader"), "{committed}");
    assert!(committed.took < TIMEOUT + SLACK, "looking for leaders takes a part of the timeout: {committed}");
    cluster.restart(0);
    cluster.restart(1);
    cluster.wait_healthy();
    assert_all(consume(&cluster, &["--node", "n3"]), 10);
    cluster.finish();
}

/// A leader dies and its followers are asked at once: each answer comes within the timeout, whole.
#[test]
fn right_after_a_leaders_death_a_node_answers_within_the_timeout() {
    let turn = Turn::take("consume-after-death");
    let mut cluster = Cluster::start(&turn, NODES.len());
    cluster.create_topic(TOPIC, 3, &["--replicas", "3"]);
    produce(&cluster, BATCH);
    for death in 0..3 {
        let leader = cluster.leader_of(TOPIC, death);
        let dead = cluster.index_of(&leader);
        let asked = NODES[(dead + 1) % NODES.len()];
        cluster.nodes[dead].kill();
        let ran = cluster.dlog(["consume", TOPIC, "--node", asked]).ok();
        eprintln!(
            "consume --node {asked} right after the death of {leader} took {:?}; it said: {}",
            ran.took, ran.stderr
        );
        assert_eq!(ran.text().lines().count(), BATCH, "{ran}");
        assert!(ran.took < Duration::from_secs(10), "it waited for the dead: {ran}");
        cluster.restart(dead);
        cluster.wait_in_sync(TOPIC);
    }
    cluster.finish();
}
