//! Retention: old records go on every replica alike, by size and by age; a replica that was away too long comes back without
//! them, and nobody's acks or order suffer.

use dlog_cluster_tests::{Cluster, Input, Node, Producing, Row, Turn, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TOPIC: &str = "kept-for-a-while";
const SEGMENT_BYTES: u64 = 128 << 10;
const RETENTION_BYTES: u64 = 512 << 10;
/// Over the wanted bytes: a segment that is kept so that these are whole, the active one, and a batch that made one larger.
const OVER_BYTES: u64 = 3 * SEGMENT_BYTES;

/// The folders of the topic's replicas by node: the log with records in it.
fn replica_dirs(cluster: &Cluster) -> Vec<PathBuf> {
    wait::until("each node has the log", wait::LONG, || {
        let logs = cluster.log_dirs().into_values();
        let has_records = |dir: &PathBuf| look(cluster, dir).is_some_and(|log| number(&log, "log_end") > 0);
        let mut found: Vec<Vec<PathBuf>> = logs.filter(|dirs| dirs.iter().any(has_records)).collect();
        found.pop().filter(|dirs| dirs.len() == cluster.nodes.len() && found.is_empty())
    })
}

/// `inspect log` of a replica, unless its node writes too fast to be looked at just now.
fn look(cluster: &Cluster, dir: &Path) -> Option<Value> {
    let ran = cluster.inspect_log(dir);
    (ran.code == Some(0)).then(|| ran.json())
}

fn number(log: &Value, field: &str) -> u64 {
    log[field].as_u64().unwrap_or_else(|| panic!("{field} is missing in {log}"))
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a replica's folder").flatten();
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "segment"));
    // A file that goes between the two calls takes no space.
    segments.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Waits until all replicas have the same log start and the same frames above it, and gives one picture of them.
fn wait_alike(cluster: &Cluster, dirs: &[PathBuf], what: impl Fn(&Value) -> bool) -> Value {
    wait::until("all replicas keep the same", wait::LONG, || {
        let logs: Vec<Value> = dirs.iter().map(|dir| look(cluster, dir)).collect::<Option<_>>()?;
        let same = ["log_start", "log_end", "last_index", "digest"];
        let alike = logs.windows(2).all(|two| same.iter().all(|field| two[0][*field] == two[1][*field]));
        (alike && logs.iter().all(|log| number(log, "damaged") == 0 && what(log))).then(|| logs[0].clone())
    })
}

/// The rows are the input's lines from `from` or later on (retention may still be at work), each at its own offset: one
/// producer wrote one partition in order. Returns where they begin.
fn assert_rest(what: &str, rows: &[Row], input: &Input, from: u64) -> u64 {
    let offsets: Vec<u64> = rows.iter().map(|row| row.offset).collect();
    let start = offsets.first().copied().expect("retention leaves what is wanted");
    assert!(start >= from, "{what}: {start} is below the log start, {from}");
    assert_eq!(offsets, (start..input.len() as u64).collect::<Vec<_>>(), "{what}: every offset from {start} on, once");
    for row in rows {
        let line = &input.events[usize::try_from(row.offset).expect("small")].line;
        assert_eq!(&row.value, line, "{what}: offset {}", row.offset);
    }
    start
}

fn kill_and_start_all(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(Node::kill);
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.nodes.iter_mut().for_each(Node::wait_ready);
    cluster.wait_in_sync(TOPIC);
}

#[test]
fn by_size_with_a_replica_away_past_the_start() {
    let turn = Turn::take("retention-size");
    let input = Input::sample();
    let mut cluster = Cluster::start(&turn, 3);
    let (segment, retention) = (format!("segment.bytes={SEGMENT_BYTES}"), format!("retention.bytes={RETENTION_BYTES}"));
    cluster.create_topic(TOPIC, 1, &["--replicas", "3", "--config", &segment, "--config", &retention]);

    // One producer with one producer id, from the first record to the last.
    let mut producing = Producing::flights(&cluster, TOPIC, &input, input.len() / 60, &[]);
    producing.wait_acked(100);
    let dirs = replica_dirs(&cluster);
    let leader = cluster.leader_of(TOPIC, 0);
    let away = (0..3).find(|node| cluster.nodes[*node].name() != leader).expect("two of three");
    let place =
        |node: usize| dirs.iter().find(|dir| dir.starts_with(cluster.data_dir(node))).expect("one each").clone();
    let its_dir = place(away);
    wait::until("the log starts later on the replica that goes away", wait::LONG, || {
        look(&cluster, &its_dir).filter(|log| number(log, "log_start") > 0)
    });
    cluster.nodes[away].kill();
    let had = look(&cluster, &its_dir).map(|log| number(&log, "last_index")).expect("nobody writes it");
    let others: Vec<PathBuf> = dirs.iter().filter(|dir| **dir != its_dir).cloned().collect();
    for dir in &others {
        wait::until("what it lacks is gone elsewhere", wait::LONG, || {
            look(&cluster, dir).filter(|log| number(log, "first_index") > had + 1)
        });
    }
    cluster.restart(away);
    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());
    cluster.wait_in_sync(TOPIC);

    let log = wait_alike(&cluster, &dirs, |log| number(log, "log_end") == input.len() as u64);
    let bound = RETENTION_BYTES + OVER_BYTES;
    for dir in &dirs {
        wait::until("its files go", wait::LONG, || (segment_bytes(dir) <= bound).then_some(()));
        assert!(segment_bytes(dir) >= RETENTION_BYTES / 2, "not more than was wanted: {}", dir.display());
    }
    let mut start = number(&log, "log_start");
    assert!(start > had, "{log}");
    for node in ["n1", "n2", "n3"] {
        start = assert_rest(node, &cluster.consume(TOPIC, Some(node)), &input, start);
    }
    let below = cluster.dlog(["consume", TOPIC, "--partition", "0", "--from", "0"]).run();
    let told = below.to_string();
    assert!(below.code != Some(0) && told.contains("out_of_range") && told.contains("there are"), "{below}");

    // After the power went everywhere it still starts there, or later.
    kill_and_start_all(&mut cluster);
    wait_alike(&cluster, &dirs, |log| number(log, "log_start") >= start);
    assert_rest("after a crash of all", &cluster.consume(TOPIC, None), &input, start);
    cluster.finish();
}

#[test]
fn by_age_a_quiet_topic_too() {
    let turn = Turn::take("retention-age");
    let input = Input::sample().first(2000);
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3", "--config", &format!("segment.bytes={SEGMENT_BYTES}")]);
    // Their times are those of the flights, years ago.
    Producing::flights(&cluster, TOPIC, &input, 100_000, &[])
        .finish(Duration::from_secs(60))
        .assert_all_acked(input.len());
    let dirs = replica_dirs(&cluster);
    wait_alike(&cluster, &dirs, |log| number(log, "log_end") == 2000 && number(log, "log_start") == 0);

    cluster.dlog(["topic", "alter", TOPIC, "--config", "retention.ms=1h"]).ok();
    let log = wait_alike(&cluster, &dirs, |log| number(log, "log_start") == 2000);
    assert_eq!(number(&log, "log_end"), 2000, "the active segment went too, and no offset is given again");
    assert_eq!(cluster.consume(TOPIC, None), []);

    let young = Input::sample().first(100);
    cluster.dlog(["produce", TOPIC, "-"]).stdin(young.bytes()).ok();
    let offsets: Vec<u64> = cluster.consume(TOPIC, None).iter().map(|row| row.offset).collect();
    assert_eq!(offsets, (2000..2100).collect::<Vec<u64>>());
    kill_and_start_all(&mut cluster);
    let offsets: Vec<u64> = cluster.consume(TOPIC, None).iter().map(|row| row.offset).collect();
    assert_eq!(offsets, (2000..2100).collect::<Vec<u64>>(), "after a restart");
    cluster.finish();
}
