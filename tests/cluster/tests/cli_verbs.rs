//! The verbs of the command line on a cluster of three: each does what it says, and its JSON has the keys that scripts use.

use dlog_cluster_tests::process::Process;
use dlog_cluster_tests::{Cluster, Producing, Turn, Verb, verb, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[track_caller]
fn assert_keys(value: &Value, expected: &[&str]) {
    let (mut found, mut expected) = (keys(value), expected.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "the keys of {value}");
}

#[test]
fn alter_changes_settings_and_says_what_would() {
    let turn = Turn::take("cli-alter");
    let cluster = Cluster::start(&turn, 3);
    cluster.create_topic("orders", 1, &["--config", "retention.ms=7d"]);
    let config = || cluster.describe("orders")["config"].clone();
    let before = config();
    assert_eq!(before["retention.ms"], "604800000");
    let alter = |flags: &[&str]| cluster.dlog(["topic", "alter", "orders"]).args(flags);

    let planned = alter(&["--config", "retention.bytes=1GiB", "--dry-run"]).ok();
    assert_eq!(planned.text(), "retention.bytes = 1073741824 (it was unlimited)\n");
    assert_eq!(config(), before, "a dry run changes nothing");

    let wanted = ["--config", "retention.bytes=1GiB", "--config", "retention.ms=", "--config", "max.batch.bytes=2MiB"];
    alter(&wanted).ok().expect_says(&["3 settings changed", "retention.ms = unlimited (it was 604800000)"]);
    let after = config();
    assert_eq!(after["retention.bytes"], "1073741824");
    assert_eq!(after["retention.ms"], "unlimited", "an empty value is the default");
    assert_eq!(after["max.batch.bytes"], "2097152");
    assert_eq!(after["segment.bytes"], before["segment.bytes"], "what isn't named stays");
    // The new bound holds for producers at once.
    cluster.dlog(["produce", "orders"]).stdin("x".repeat(1_500_000) + "\n").ok();

    alter(&["--config", "nonsense=1"]).run().expect_code(1).expect_says(&["nonsense", "retention.ms"]);
    alter(&["--config", "retention.ms=soon"]).run().expect_code(1).expect_says(&["retention.ms", "soon", "36500d"]);
    alter(&[]).run().expect_code(2).expect_says(&["--config"]);
    assert_eq!(config(), after, "what is refused changes nothing");
    cluster.finish();
}

#[test]
fn leadership_goes_where_it_is_sent_and_stays() {
    let turn = Turn::take("cli-transfer");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic("orders", 2, &["--replicas", "3"]);
    cluster.create_topic("lone", 1, &["--replicas", "1"]);
    cluster.dlog(["produce", "orders", "-p", "0"]).stdin("a\nb\n").ok();
    let first = cluster.leader_of("orders", 0);
    let other = ["n1", "n2", "n3"].into_iter().find(|name| *name != first).expect("three nodes");
    let transfer =
        |place: &str, to: &str, flags: &[&str]| cluster.dlog(["partition", "transfer", place, "--to", to]).args(flags);

    let planned = transfer("orders/0", other, &["--dry-run"]).ok();
    assert!(planned.text().contains(&format!("from {first} to {other}")), "{planned}");
    assert_eq!(cluster.leader_of("orders", 0), first, "a dry run changes nothing");
    transfer("orders/0", other, &["--wait"]).ok().expect_says(&[&format!("{other} leads orders/0")]);
    assert_eq!(cluster.leader_of("orders", 0), other);
    transfer("orders/0", other, &[]).ok().expect_says(&["leads orders/0 already"]);
    assert_eq!(cluster.dlog(["consume", "orders", "-p", "0"]).ok().text(), "a\nb\n", "no record is lost");

    transfer("orders/9", other, &[]).run().expect_code(1).expect_says(&["2 partitions"]);
    transfer("ordres/0", other, &[]).run().expect_code(1).expect_says(&["did you mean orders?"]);
    transfer("orders/0", "n9", &[]).run().expect_code(1).expect_says(&["n9", "n1, n2, n3"]);
    transfer("orders", other, &[]).run().expect_code(2).expect_says(&["TOPIC/PARTITION"]);
    let holder = cluster.leader_of("lone", 0);
    let stranger = ["n1", "n2", "n3"].into_iter().find(|name| *name != holder).expect("three nodes");
    let refused = transfer("lone/0", stranger, &[]).run().expect_code(1);
    refused.expect_says(&[stranger, "holds no replica", &holder]);

    // One that is down is not in sync: refused as unsafe, and nothing is changed.
    let down = ["n1", "n2", "n3"].into_iter().find(|name| *name != other).expect("three nodes");
    let place = cluster.index_of(down);
    cluster.nodes[place].kill();
    wait::until_ok("the dead node is out of sync", wait::LONG, || {
        let ran = cluster.dlog(["partition", "transfer", "orders/0", "--to", down, "--dry-run"]).run();
        if ran.code == Some(11) { Ok(()) } else { Err(ran.to_string()) }
    });
    let refused = cluster.dlog(["partition", "transfer", "orders/0", "--to", down]).run().expect_code(11);
    refused.expect_says(&[down, "not in sync", "not applied"]);
    assert_eq!(cluster.leader_of("orders", 0), other);
    cluster.restart(place);
    cluster.wait_in_sync("orders");

    // The leader stops and comes back: leadership follows it, though that isn't where the partition was placed.
    let place = cluster.index_of(other);
    assert_eq!(cluster.nodes[place].terminate(), 0);
    assert_ne!(cluster.leader_of("orders", 0), other);
    cluster.restart(place);
    wait::until_ok("leadership comes back to the chosen node", wait::LONG, || {
        let leader = cluster.leader_of("orders", 0);
        if leader == other { Ok(()) } else { Err(format!("{leader} leads")) }
    });
    cluster.finish();
}

#[test]
fn transfers_during_a_produce_fail_no_write() {
    let turn = Turn::take("cli-transfer-load");
    let cluster = Cluster::start(&turn, 3);
    cluster.create_topic("t", 1, &["--replicas", "3"]);
    let lines: Vec<String> = (0..4_000).map(|n| format!("record {n}")).collect();
    let total = lines.len();
    let mut producing = Producing::lines(&cluster, "t", lines, 2_000, &[]);
    let mut terms = Vec::new();
    for to in ["n1", "n2", "n3", "n1", "n2", "n3"] {
        producing.wait_more(200);
        cluster.dlog(["partition", "transfer", "t/0", "--to", to, "--wait"]).ok();
        terms.push(cluster.describe("t")["partitions"][0]["term"].as_u64().expect("a number"));
        producing.wait_more(200);
    }
    assert!(terms.last() > terms.first(), "leadership moved while records went in: terms {terms:?}");
    let produced = producing.finish(Duration::from_secs(120));
    produced.assert_all_acked(total);
    let wanted: String = (0..total).map(|n| format!("record {n}\n")).collect();
    assert!(cluster.dlog(["consume", "t"]).ok().text() == wanted, "every record once, in order");
    cluster.finish();
}

#[test]
fn every_json_has_its_keys() {
    let turn = Turn::take("cli-json");
    let cluster = Cluster::start(&turn, 3);
    cluster.create_topic("a", 2, &[]);
    cluster.create_topic("b", 1, &[]);
    let report = cluster.dlog(["produce", "a", "-o", "json"]).stdin("1\n2\n3\n").ok().json();
    assert_keys(&report, &["records", "unknown", "rejected", "bytes", "seconds", "partitions"]);
    assert_keys(&report["partitions"][0], &["partition", "first_offset", "last_offset"]);
    let json = |args: &[&str]| cluster.dlog(args).args(["-o", "json"]).ok().json();

    let topics = json(&["topic", "list"]);
    assert_keys(&topics[0], &["name", "id", "partitions", "replicas", "bytes"]);
    let described = json(&["topic", "describe", "a"]);
    assert_keys(&described, &["name", "id", "config", "partitions"]);
    let of_partition = ["partition", "leader", "replicas", "in_sync", "log_start", "high_watermark", "term", "bytes"];
    assert_keys(&described["partitions"][0], &of_partition);

    let all = json(&["partition", "list"]);
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    assert_keys(&all[0], &[&of_partition[..], &["topic"]].concat());
    assert_eq!(json(&["partition", "list", "b"]).as_array().map(Vec::len), Some(1));
    let table = cluster.dlog(["partition", "list", "a"]).ok();
    assert_eq!(table.text().lines().count(), 3, "{table}");
    assert!(table.text().starts_with("TOPIC  PARTITION  LEADER  REPLICAS"), "{table}");

    assert_keys(&json(&["offsets", "a"])[0], &["partition", "log_start", "high_watermark", "at"]);
    let health = json(&["cluster", "health"]);
    assert_keys(&health, &["healthy", "reasons", "nodes", "partitions"]);
    assert_keys(&health["nodes"][0], &["name", "id", "alive", "role", "address", "rack"]);
    assert_keys(&health["partitions"], &["total", "without_leader", "under_replicated"]);
    let status = json(&["cluster", "status"]);
    let of_status = ["cluster_id", "cluster_name", "healthy", "metadata_leader", "metadata_term"];
    assert_keys(&status, &[&of_status[..], &["topics", "partitions", "nodes"]].concat());
    let nodes = json(&["node", "list"]);
    let of_node = keys(&nodes[0]);
    let described = json(&["node", "describe", "n2"]);
    let more = ["uptime_ms", "journal_bytes", "journal_sync_p50_ms", "journal_sync_p99_ms", "partitions"];
    assert_keys(&described, &[&of_node[..], &more].concat());
    assert_eq!((&described["name"], &described["alive"]), (&Value::from("n2"), &Value::from(true)));
    let led = described["partitions"].as_array().map_or(0, |held| held.iter().filter(|p| p["leads"] == true).count());
    assert_eq!(described["leaders"].as_u64(), Some(led as u64), "{described}");
    let text = cluster.dlog(["node", "describe", "n2"]).ok();
    for part in ["clients", "peers", "boot", "sync", "TOPIC  PARTITION  LEADS  IN_SYNC"] {
        assert!(text.text().contains(part), "{part}: {text}");
    }
    cluster.dlog(["node", "describe", "n9"]).run().expect_code(1).expect_says(&["n9", "n1, n2, n3", "node list"]);

    let dirs = cluster.log_dirs();
    let log = dirs.values().flatten().next().expect("a replica");
    let inspected = cluster.inspect_log(log).expect_code(0).json();
    assert_keys(&inspected, &["first_index", "last_index", "log_start", "log_end", "frames", "damaged", "digest"]);
    cluster.finish();
}

#[test]
fn produce_sends_what_its_flags_say() {
    let turn = Turn::take("cli-produce");
    let cluster = Cluster::start(&turn, 3);
    cluster.create_topic("t", 2, &[]);
    let lines: String = (0..50).map(|n| format!("{{\"t\":{},\"n\":{n}}}\n", 1_357_035_300_000u64 + n)).collect();
    let mut expected = 0;
    for (codec, acks) in [("none", "all"), ("gzip", "quorum"), ("snappy", "leader"), ("lz4", "all"), ("zstd", "quorum")]
    {
        let flags = ["-p", "1", "-k", "key", "-H", "codec=none", "-H", "empty=", "--timestamp-json", "/t"];
        let more = ["--compression", codec, "--acks", acks, "--linger", "5ms", "--batch-bytes", "1KiB", "-v"];
        let acked = cluster.dlog(["produce", "t", "-"]).args(flags).args(more).stdin(lines.clone()).ok();
        let acks: Vec<String> = acked.text().lines().map(str::to_owned).collect();
        let wanted: Vec<String> = (1..=50).map(|line| format!("1 {} {line}", expected + line - 1)).collect();
        assert_eq!(acks, wanted, "partition, offset and line of each ack, with {codec}");
        expected += 50;
        acked.expect_says(&["50 records acked", "0 unknown, 0 rejected", "partition 1: offsets"]);
    }
    let records = cluster.dlog(["consume", "t", "-o", "json"]).ok().json_lines();
    assert_eq!(records.len(), 250);
    for (at, record) in records.iter().enumerate() {
        let n = at as u64 % 50;
        assert_eq!(record["value"], format!("{{\"t\":{},\"n\":{n}}}", 1_357_035_300_000u64 + n));
        assert_eq!(
            (&record["timestamp"], &record["key"]),
            (&Value::from(1_357_035_300_000u64 + n), &Value::from("key"))
        );
        let headers = serde_json::json!([{"key": "codec", "value": "none"}, {"key": "empty", "value": ""}]);
        assert_eq!(record["headers"], headers);
    }
    cluster.dlog(["produce", "t", "--key-separator", "="]).stdin("a=b=c\n=d\n").ok();
    let mut keyed = cluster.dlog(["consume", "t", "--from", "-2", "-f", "%k|%v\\n"]).ok().text().to_owned();
    assert!(keyed.contains("a|b=c\n"), "{keyed}");
    keyed.retain(|letter| letter == '|');
    assert!(keyed.len() >= 2);
    // At an error that keeps it from beginning there is a report, too.
    let none = cluster.dlog(["produce", "t", "no/such/file", "-o", "json"]).run().expect_code(1);
    assert_eq!((&none.json()["records"], &none.json()["rejected"]), (&Value::from(0), &Value::from(0)));
    cluster.finish();
}

#[test]
fn bench_measures_in_both_directions() {
    let turn = Turn::take("cli-bench");
    let cluster = Cluster::start(&turn, 3);
    let figures =
        ["records_per_s", "mb_per_s", "p50_ms", "p99_ms", "p999_ms", "max_ms", "errors", "durability", "nodes"];
    let bench = |args: &[&str]| {
        let json = cluster.dlog(["bench"]).args(args).args(["--duration", "1s", "-o", "json"]).ok().json();
        for key in figures {
            assert!(!json[key].is_null(), "{key} of bench {args:?}: {json}");
        }
        assert!(json["records_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{json}");
        assert_eq!(json["nodes"].as_array().map(Vec::len), Some(3));
        json
    };
    bench(&["produce", "--record-bytes", "100"]);
    let latency = bench(&["latency", "--rate", "50/s"]);
    assert!(latency["records_per_s"].as_f64().is_some_and(|rate| rate < 200.0), "an open loop keeps to its rate");
    bench(&["consume", "--record-bytes", "100KiB", "--partitions", "2"]);
    cluster.create_topic("mine", 1, &[]);
    cluster.dlog(["bench", "consume", "--topic", "mine"]).run().expect_code(1).expect_says(&["mine", "no records"]);
    cluster.dlog(["produce", "mine"]).stdin("x\n".repeat(1000)).ok();
    let paced = bench(&["consume", "--topic", "mine", "--rate", "300"]);
    assert!(paced["records_per_s"].as_f64().is_some_and(|rate| rate < 400.0), "{paced}");
    let topics = cluster.dlog(["topic", "list", "-o", "json"]).ok().json();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "its own topics are gone: {topics}");
    cluster.finish();
}

#[test]
fn flags_stand_before_the_verb_too() {
    let turn = Turn::take("cli-flags");
    let cluster = Cluster::start(&turn, 1);
    let server = cluster.nodes[0].options().client_address();
    Verb::new("", ["-s", &server, "--timeout", "5s", "topic", "create", "t"]).ok();
    Verb::new("", [&format!("--server={server}"), "produce", "t"]).stdin("x\n").ok();
    assert_eq!(Verb::new("", ["-s", &server, "consume", "t"]).ok().text(), "x\n");
    Verb::new("", ["-s", &server, "verify", "--data-dir", "d"]).run().expect_code(2).expect_says(&["-s"]);
    cluster.finish();
}

#[test]
fn a_closed_pipe_ends_every_printing_verb_silently() {
    let turn = Turn::take("cli-pipe");
    let cluster = Cluster::start(&turn, 1);
    cluster.create_topic("t", 1, &[]);
    cluster.dlog(["produce", "t"]).stdin("some record\n".repeat(20_000)).ok();
    let log = cluster.log_dirs().into_values().flatten().next_back().expect("a replica").display().to_string();
    for args in [
        &["topic", "list"][..],
        &["topic", "describe", "t"],
        &["partition", "list"],
        &["offsets", "t"],
        &["node", "list"],
        &["node", "describe", "n1"],
        &["cluster", "status"],
        &["cluster", "status", "-w"],
        &["cluster", "health"],
        &["consume", "t"],
        &["inspect", "log", &log],
        &["completions", "bash"],
        &["bench", "latency", "--duration", "300ms"],
    ] {
        let mut command = verb::command(&cluster.servers());
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't run dlog: {e}"));
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = child.wait().expect("it ends");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "dlog {args:?} into a closed pipe");
    }
    cluster.finish();
}

#[test]
fn ctrl_c_reports_and_ends_with_130() {
    let turn = Turn::take("cli-interrupt");
    let cluster = Cluster::start(&turn, 1);
    cluster.create_topic("t", 1, &[]);
    let start = |args: &[&str]| {
        let mut command = verb::command(&cluster.servers());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|e| panic!("can't run dlog: {e}"))
    };
    // Each has printed its first line of output when it is interrupted, so it is at work.
    for (args, input, says) in [
        (&["produce", "t", "-v"][..], "one\ntwo\n", "records acked"),
        (&["consume", "t", "--follow"], "", ""),
        (&["cluster", "status", "--watch"], "", ""),
    ] {
        let mut child = start(args);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        out.read_line(&mut first).expect("text");
        assert!(!first.is_empty(), "dlog {args:?} printed nothing");
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        // The rest of its output is read, so that it is not the pipe that ends it.
        out.read_to_string(&mut first).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "dlog {args:?} said: {said}");
        assert!(said.contains(says), "dlog {args:?} said: {said}");
        drop(stdin);
    }
    cluster.finish();
}

#[test]
fn ctrl_c_tidies_up_after_bench_disk() {
    let turn = Turn::take("cli-bench-disk");
    let dir = turn.dir().join("disk");
    std::fs::create_dir(&dir).expect("a folder");
    let entries = || std::fs::read_dir(&dir).map_or(0, Iterator::count);
    let shown = dir.display().to_string();
    let mut command = verb::command("");
    command.args(["bench", "disk", "--dir", &shown, "--duration", "10m"]);
    let mut bench = Process::start(&mut command, &turn.dir().join("bench.stderr"));
    wait::until("it has begun to write", wait::LONG, || (entries() > 0).then_some(()));
    bench.signal(Signal::INT);
    assert_eq!(bench.wait("dlog bench disk", wait::LONG).code(), Some(130));
    assert_eq!(entries(), 0, "its files are removed");
    let figures = Verb::new("", ["bench", "disk", "--dir", &shown, "--duration", "50ms", "-o", "json"]).ok().json();
    for kind in ["growing", "allocated", "overwritten"] {
        assert_keys(&figures[kind], &["fdatasync_p50_ms", "fdatasync_p99_ms", "bytes_per_s"]);
    }
}
