//! Two of three nodes down: writes fail clearly and in time, the survivor still gives what was committed; when one comes
//! back, everything goes on by itself.

use dlog_cluster_tests::{Cluster, Input, Turn, wait};
use std::time::Duration;

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(4);
/// What a process needs beside its deadline, on a loaded machine: this asks for "within", not for a speed.
const SLACK: Duration = Duration::from_secs(10);

#[test]
fn stops_writes_but_not_reads_until_one_returns() {
    let turn = Turn::take("two-down");
    let input = Input::sample().first(3_000);
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);
    let args = ["produce", TOPIC, "-", "--key-json", "/tailnum", "--timestamp-json", "/time"];
    cluster.dlog(args).stdin(input.bytes()).ok();
    // The survivor knows that all of it is committed before the others go.
    input.assert_exact("what n3 gives", &cluster.consume(TOPIC, Some("n3")));
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();

    let timeout = format!("{}ms", TIMEOUT.as_millis());
    for partition in 0..PARTITIONS {
        let args = ["produce", TOPIC, "-p", &partition.to_string(), "--timeout", &timeout, "-o", "json"];
        let ran = cluster.dlog(args).stdin("lost?\n").run().expect_codes(&[1, 3]);
        assert!(ran.took < TIMEOUT + SLACK, "a write without a quorum ends in time: {ran}");
        assert!(!ran.stderr.trim().is_empty(), "a write without a quorum says why it failed: {ran}");
        let report = ran.json();
        assert_eq!(report["records"].as_u64(), Some(0), "nothing was acked: {ran}");
        // Exit 3 says that something may have been applied, and only then.
        assert_eq!(ran.code == Some(3), report["unknown"].as_u64() != Some(0), "{ran}");
    }

    let ran =
        cluster.dlog(["consume", TOPIC, "--node", "n3", "--format", dlog_cluster_tests::flights::ROW_FORMAT]).ok();
    let rows = dlog_cluster_tests::flights::parse_rows(&ran.stdout);
    input.assert_exact("what the survivor gives", &rows);
    assert!(!ran.stderr.trim().is_empty(), "without a leader the end is the survivor's own, with a warning: {ran}");

    cluster.restart(0);
    // By itself: the same command that failed.
    wait::until_ok("writes go on", wait::LONG, || {
        let ran = cluster.dlog(["produce", TOPIC, "-p", "0"]).stdin("back again\n").run();
        if ran.code == Some(0) { Ok(()) } else { Err(ran.to_string()) }
    });
    for partition in 1..PARTITIONS {
        cluster.dlog(["produce", TOPIC, "-p", &partition.to_string()]).stdin("back again\n").ok();
    }
    let values: Vec<String> = cluster.consume(TOPIC, None).into_iter().map(|row| row.value).collect();
    let back = values.iter().filter(|value| *value == "back again").count();
    assert!(back >= PARTITIONS as usize, "what was acked after the return is there: {back}");
    let lost = values.iter().filter(|value| *value == "lost?").count();
    // Unknown means: at most once.
    assert!(lost <= PARTITIONS as usize, "a record of unknown outcome stands there {lost} times");
    assert_eq!(values.len(), input.len() + back + lost);

    cluster.restart(1);
    cluster.wait_healthy();
    cluster.finish();
}
