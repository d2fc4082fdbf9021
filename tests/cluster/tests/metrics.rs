//! `/metrics`: a page that Prometheus accepts in both formats, whose values move with what is done.

use crate::wire;
use dlog_cluster_tests::{Cluster, Scrape, Turn, scrape, wait};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

const TOPIC: &str = "measured";
const PARTITIONS: u32 = 3;
const RECORDS: usize = 1000;
const OPENMETRICS: &str = "application/openmetrics-text";

fn scrapes(cluster: &Cluster) -> Vec<Scrape> {
    cluster.nodes.iter().map(Scrape::of).collect()
}

/// The sum over all nodes.
fn total(scrapes: &[Scrape], name: &str, labels: &str) -> f64 {
    scrapes.iter().map(|scrape| scrape.sum(name, labels)).sum()
}

/// What each described name is, and that every series belongs to one of them in the way its type asks for.
fn check_form(page: &str) {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(types.insert(name, kind).is_none(), "{name} is described twice");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }
    for series in Scrape::parse(page).series() {
        let name = series.split('{').next().unwrap_or(series);
        let of = |suffix: &str| name.strip_suffix(suffix).and_then(|base| types.get(base).copied());
        let fits = matches!(types.get(name), Some(&("gauge" | "counter")))
            || of("_total") == Some("counter")
            || ["_sum", "_count", "_bucket"].iter().any(|suffix| of(suffix) == Some("histogram"));
        assert!(fits, "{series} belongs to no described metric");
    }
    assert!(types.len() > 40, "{types:?}");
}

/// Prometheus' own check, where it is installed.
fn check_with_promtool(page: &str) {
    let spawned = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        return dlog_cluster_tests::skip("promtool check metrics", "there is no promtool");
    };
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), page.as_bytes()).expect("it reads");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "promtool finds fault with the page: {status}");
}

#[test]
fn pages_have_the_form_that_prometheus_reads() {
    let turn = Turn::take("metrics-form");
    let cluster = Cluster::start(&turn, 1);
    let port = cluster.nodes[0].options().ops;
    cluster.create_topic(TOPIC, 1, &[]);
    let older = scrape::get(port, "/metrics", "*/*").expect("a page");
    assert_eq!(older.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    check_form(&older.body);
    check_with_promtool(&older.body);
    let newer = scrape::get(port, "/metrics", OPENMETRICS).expect("a page");
    assert_eq!(newer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    check_form(&newer.body);
    assert!(newer.body.ends_with("# EOF\n"), "OpenMetrics wants its end mark");
    assert_eq!(scrape::get(port, "/livez", "*/*").expect("an answer").body, "ok\n");
    assert_eq!(scrape::get(port, "/readyz", "*/*").expect("an answer").body, "ready\n");
    cluster.finish();
}

#[test]
fn values_move_with_the_work() {
    let turn = Turn::take("metrics-values");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);
    let before = scrapes(&cluster);
    assert_eq!(total(&before, "dlog_produce_records_total", ""), 0.0);
    let lines: String = (0..RECORDS).map(|i| format!("k{i}\tvalue {i}\n")).collect();
    cluster.dlog(["produce", TOPIC, "--key-separator", "\t"]).stdin(lines).ok();
    assert_eq!(cluster.dlog(["consume", TOPIC]).ok().text().lines().count(), RECORDS);
    wire::run(async {
        let mut log = wire::log(&cluster.nodes[0].options().client_address()).await;
        log.produce_once(wire::once("nowhere", 0, wire::batch(&["x"]))).await.expect_err("no such topic");
    });
    let after = scrapes(&cluster);
    let records = RECORDS as f64;
    for name in ["dlog_produce_records_total", "dlog_consume_records_total", "dlog_partition_read_records_total"] {
        assert_eq!(total(&after, name, ""), records, "{name}");
    }
    let batches = total(&after, "dlog_produce_batches_total", "");
    assert_eq!(total(&after, "dlog_produce_ack_duration_seconds_count", "quorum"), batches);
    for name in [
        "dlog_produce_bytes_total",
        "dlog_consume_bytes_total",
        "dlog_consume_batches_total",
        "dlog_produce_ack_duration_seconds_sum",
        "dlog_connections_accepted_total",
    ] {
        assert!(total(&after, name, "") > total(&before, name, ""), "{name} stands still");
    }
    assert_eq!(after[0].value("dlog_errors_total{code=\"unknown_topic\"}"), 1.0);
    for (old, new) in before.iter().zip(&after) {
        // Every node has written and synced: it leads or follows.
        for name in [
            "dlog_append_duration_seconds_count",
            "dlog_journal_sync_duration_seconds_count",
            "dlog_journal_sync_duration_seconds_sum",
            "dlog_journal_group_bytes_sum",
            "dlog_journal_group_writes_sum",
            "dlog_uptime_seconds",
            "dlog_process_cpu_seconds_total",
        ] {
            assert!(new.sum(name, "") >= old.sum(name, "") && new.sum(name, "") > 0.0, "{name}");
        }
        assert!(new.sum("dlog_journal_bytes", "") >= (32 << 20) as f64, "the first journal file");
        assert!(new.sum("dlog_disk_free_bytes", "") <= new.sum("dlog_disk_capacity_bytes", ""));
        assert_eq!(new.value("dlog_ready"), 1.0);
        assert_eq!(new.value("dlog_insecure"), 0.0);
        assert_eq!(new.value("dlog_replicas"), f64::from(PARTITIONS + 1), "and the metadata group's");
    }
    for node in &cluster.nodes {
        wait::until("the clocks agree: there is only one here", wait::LONG, || {
            (Scrape::of(node).value("dlog_wall_clock_agrees") == 1.0).then_some(())
        });
    }
    of_partitions(&cluster);
    of_a_dead_leader(&mut cluster);
    cluster.finish();
}

/// Every replica of every partition tells where it is, and one of them leads.
fn of_partitions(cluster: &Cluster) {
    let of_topic = format!("topic=\"{TOPIC}\"");
    wait::until_ok("every replica has all records", wait::LONG, || {
        let now = scrapes(cluster);
        let ends = |name| now.iter().map(|scrape| scrape.sum(name, &of_topic)).collect::<Vec<f64>>();
        let all = [ends("dlog_partition_high_watermark"), ends("dlog_partition_log_end")];
        let lags =
            total(&now, "dlog_partition_lag_records", "") + total(&now, "dlog_partition_follower_lag_entries", "");
        let good = all.iter().flatten().all(|end| *end == RECORDS as f64) && lags == 0.0;
        if good { Ok(()) } else { Err(format!("ends {all:?}, lags {lags}")) }
    });
    let now = scrapes(cluster);
    for partition in 0..PARTITIONS {
        let label = format!("topic=\"{TOPIC}\",partition=\"{partition}\"");
        assert_eq!(total(&now, "dlog_partition_leader", &label), 1.0, "one leader");
        assert_eq!(total(&now, "dlog_partition_replicas", &label), 3.0);
        assert_eq!(total(&now, "dlog_partition_in_sync_replicas", &label), 3.0);
        assert!(total(&now, "dlog_partition_term", &label) >= 3.0, "each replica knows a term");
        assert!(total(&now, "dlog_partition_size_bytes", &label) > 0.0);
        assert_eq!(total(&now, "dlog_partition_log_start", &label), 0.0);
    }
    assert_eq!(total(&now, "dlog_replicas_led", ""), f64::from(PARTITIONS + 1));
    assert_eq!(total(&now, "dlog_partitions_under_replicated", ""), 0.0);
}

fn of_a_dead_leader(cluster: &mut Cluster) {
    let leader = cluster.leader_of(TOPIC, 0);
    let dead = cluster.index_of(&leader);
    let others: Vec<usize> = (0..3).filter(|node| *node != dead).collect();
    let count = |cluster: &Cluster, name: &str| -> f64 {
        others.iter().map(|node| Scrape::of(&cluster.nodes[*node]).sum(name, "")).sum()
    };
    let (changes, won) = (count(cluster, "dlog_leader_changes_total"), count(cluster, "dlog_elections_won_total"));
    cluster.nodes[dead].kill();
    wait::until_ok("the others have elected", Duration::from_secs(60), || {
        let now = [
            count(cluster, "dlog_leader_changes_total") - changes,
            count(cluster, "dlog_elections_won_total") - won,
            count(cluster, "dlog_partitions_under_replicated"),
        ];
        // Both survivors see a new leader, one has won, and one replica is missed.
        if now[0] >= 2.0 && now[1] >= 1.0 && now[2] >= 1.0 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    cluster.restart(dead);
    cluster.wait_healthy();
}
