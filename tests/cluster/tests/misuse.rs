//! Misuse on the command line: each mistake has its own clear error and exit code, names the line where there is one, and
//! changes nothing.

use dlog_cluster_tests::{Cluster, Row, Turn, Verb};

/// A topic whose content must stay as it is, whatever is tried.
pub struct Guard {
    rows: Vec<Row>,
}

/// The guarded topic.
pub const GUARDED: &str = "guarded";
const RECORDS: usize = 200;
const PARTITIONS: u32 = 3;

impl Guard {
    /// Fills the topic.
    pub fn new(cluster: &Cluster) -> Guard {
        cluster.create_topic(GUARDED, PARTITIONS, &[]);
        let lines: String = (0..RECORDS).map(|i| format!("{{\"k\":\"key-{}\",\"n\":{i}}}\n", i % 17)).collect();
        cluster.dlog(["produce", GUARDED, "--key-json", "/k"]).stdin(lines).ok();
        Guard { rows: sorted(cluster) }
    }

    /// The topic is as it was, the cluster healthy, and no node panicked.
    #[track_caller]
    pub fn assert_unchanged(&self, cluster: &Cluster, after: &str) {
        cluster.assert_no_panic();
        cluster.wait_healthy();
        assert_eq!(self.rows.len(), RECORDS);
        assert!(sorted(cluster) == self.rows, "the records of {GUARDED} changed after: {after}");
    }
}

fn sorted(cluster: &Cluster) -> Vec<Row> {
    let mut rows = cluster.consume(GUARDED, None);
    rows.sort_by_key(|row| (row.partition, row.offset));
    rows
}

#[test]
fn of_names_and_numbers() {
    let turn = Turn::take("misuse-names");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let dlog = |args: &[&str]| cluster.dlog(args);

    for args in [
        &["produce", "nowhere"][..],
        &["consume", "nowhere"],
        &["offsets", "nowhere"],
        &["topic", "describe", "nowhere"],
        &["topic", "delete", "nowhere", "--yes"],
    ] {
        dlog(args).stdin("x\n").run().expect_code(1).expect_says(&["nowhere", "topic"]);
    }
    let topics = dlog(&["topic", "list", "-o", "json"]).ok().json();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "asking for a topic does not make it: {topics}");

    for args in [&["produce", GUARDED, "-p", "3"][..], &["consume", GUARDED, "-p", "3"]] {
        dlog(args).stdin("x\n").run().expect_code(1).expect_says(&["partition", "3", GUARDED]);
    }
    for args in [
        &["produce", GUARDED, "-p", "-1"][..],
        &["consume", GUARDED, "-p", "x"],
        &["consume", GUARDED, "--from", "soon"],
    ] {
        dlog(args).stdin("x\n").run().expect_code(2);
    }
    for name in ["a b", "..", "a/b", "__offsets", &"x".repeat(250)] {
        dlog(&["topic", "create", name]).run().expect_codes(&[1, 2]).expect_says(&["topic"]);
    }
    dlog(&["topic", "create", GUARDED]).run().expect_code(1).expect_says(&[GUARDED, "exists"]);
    dlog(&["topic", "create", "wide", "--replicas", "4"]).run().expect_codes(&[1, 2]).expect_says(&["replicas", "3"]);
    dlog(&["topic", "create", "none", "--partitions", "0"]).run().expect_codes(&[1, 2]).expect_says(&["partitions"]);
    dlog(&["topic", "create", "odd", "--config", "nonsense=1"]).run().expect_codes(&[1, 2]).expect_says(&["nonsense"]);
    dlog(&["topic", "create", "odd", "--config", "max.batch.bytes=1"])
        .run()
        .expect_codes(&[1, 2])
        .expect_says(&["max.batch.bytes"]);
    dlog(&["topic", "delete", GUARDED]).run().expect_code(2).expect_says(&["--yes"]);
    dlog(&["consume", GUARDED, "--nonsense"]).run().expect_code(2).expect_says(&["--nonsense"]);
    dlog(&["nonsense"]).run().expect_code(2).expect_says(&["nonsense"]);
    guard.assert_unchanged(&cluster, "wrong names and numbers");
    cluster.finish();
}

#[test]
fn of_offsets() {
    let turn = Turn::take("misuse-offsets");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let offsets = cluster.dlog(["offsets", GUARDED, "-o", "json"]).ok().json();
    let end = offsets[0]["high_watermark"].as_u64().expect("a number");

    let from = |offset: u64| cluster.dlog(["consume", GUARDED, "-p", "0", "--from", &offset.to_string()]).run();
    assert_eq!(from(end).expect_code(0).stdout, b"", "the end itself is no error");
    from(end + 1).expect_code(1).expect_says(&["offset", &(end + 1).to_string(), &end.to_string()]);
    guard.assert_unchanged(&cluster, "offsets out of range");
    cluster.finish();
}

#[test]
fn of_lines() {
    let turn = Turn::take("misuse-lines");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    cluster.create_topic("lines", 1, &[]);
    let values = || cluster.dlog(["consume", "lines"]).ok().text().lines().map(str::to_string).collect::<Vec<_>>();
    // Each: flags, a third line that is wrong, what the error says beside the line's number.
    let good = r#"{"k":"a","t":1357035300000}"#;
    let long = "x".repeat(1_500_000);
    let very_long = "x".repeat(9_000_000);
    let cases: [(&[&str], &str, &[&str]); 9] = [
        (&["--key-json", "/k"], "{\"k\":", &["json"]),
        (&["--key-json", "/k"], "", &["json"]),
        (&["--key-json", "/k"], r#"{"k":{"a":1}}"#, &["/k", "object"]),
        (&["--key-json", "/k"], r#"{"k":[1]}"#, &["/k", "array"]),
        (&["--timestamp-json", "/t"], r#"{"t":"yesterday"}"#, &["yesterday"]),
        (&["--timestamp-json", "/t"], r#"{"t":"2013-02-30T00:00:00Z"}"#, &["2013-02-30"]),
        (&["--timestamp-json", "/t"], r#"{"k":1}"#, &["/t"]),
        (&["--timestamp-json", "/t"], "no json", &["json"]),
        (&["--key-separator", ":"], "no separator", &["separator"]),
    ];
    let mut expected = 0;
    for (flags, wrong, says) in cases {
        let input = format!("{good}\n{good}\n{wrong}\n{good}\n");
        let ran = cluster.dlog(["produce", "lines"]).args(flags).stdin(input).run();
        let shown: String = wrong.chars().take(40).collect();
        eprintln!("{flags:?} {shown:?}: {}", ran.stderr.trim());
        // The lines before it are acked.
        expected += 2;
        ran.expect_code(1).expect_says(&["line 3"]).expect_says(says);
        assert_eq!(values().len(), expected, "after {flags:?} {shown:?}");
    }
    // What is too long may be told by the node only, when the next line is on its way already.
    for (wrong, says) in [(&long, "max.batch.bytes"), (&very_long, "bytes")] {
        let ran = cluster.dlog(["produce", "lines"]).stdin(format!("{good}\n{good}\n{wrong}\n{good}\n")).run();
        eprintln!("{} bytes: {}", wrong.len(), ran.stderr.trim());
        ran.expect_code(1).expect_says(&["line 3", says]);
        let seen = values();
        assert!((expected + 2..=expected + 3).contains(&seen.len()), "{} records, there were {expected}", seen.len());
        assert!(seen.iter().all(|value| value.len() < 100), "only good lines are there");
        expected = seen.len();
    }
    for pointer in ["k", "k/", "/~2"] {
        let ran = cluster.dlog(["produce", "lines", "--key-json", pointer]).stdin(format!("{good}\n")).run();
        ran.expect_codes(&[1, 2]).expect_says(&["pointer"]);
    }
    let both = ["produce", "lines", "--key", "a", "--key-separator", ":"];
    cluster.dlog(both).stdin("a:b\n").run().expect_code(2);
    cluster
        .dlog(["produce", "lines", "/nonexistent/file"])
        .run()
        .expect_codes(&[1, 2])
        .expect_says(&["/nonexistent/file"]);
    assert_eq!(values().len(), expected, "nothing was produced by wrong flags");
    guard.assert_unchanged(&cluster, "wrong lines");
    cluster.finish();
}

#[test]
fn of_servers() {
    // No node at all: needs no cluster, and so no turn.
    let port = dlog_cluster_tests::ports::free();
    let servers = format!("127.0.0.1:{port}");
    for args in [&["topic", "list"][..], &["produce", "t"], &["consume", "t"], &["cluster", "health"]] {
        let ran = Verb::new(&servers, args).args(["--timeout", "2s"]).stdin("x\n").run();
        ran.expect_code(1).expect_says(&[&servers]);
    }
    for nonsense in ["nonsense", "127.0.0.1:99999", "127.0.0.1"] {
        Verb::new("", ["topic", "list", "--server", nonsense]).run().expect_codes(&[1, 2]).expect_says(&[nonsense]);
    }
}
