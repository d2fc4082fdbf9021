//! Errors as a new user meets them: each names what failed and the next thing to try, in words and not in types. Errors are
//! text on standard error whatever `-o` says, so that standard output holds results alone.

use dlog_cluster_tests::{Cluster, NodeOptions, Ran, Turn, Verb, ports};
use std::path::Path;

/// A mistake, its exit code, and what standard error must say.
struct Mistake<'a> {
    args: Vec<&'a str>,
    code: i32,
    says: Vec<&'a str>,
}

fn mistake<'a>(line: &'a str, code: i32, says: &[&'a str]) -> Mistake<'a> {
    Mistake { args: line.split(' ').collect(), code, says: says.to_vec() }
}

/// What every refusal says.
const NOT_APPLIED: &str = "not applied";
/// What no error may show to a user.
const NEVER: &[&str] = &["panicked", "ErrorDetail", "tonic::", "Status {", "Some(", "Os {"];

#[track_caller]
fn check(ran: Ran, mistake: &Mistake<'_>) {
    eprintln!("$ dlog {}\n{}", mistake.args.join(" "), ran.stderr.trim_end());
    assert_eq!(ran.stdout, b"", "an error is no result: {ran}");
    for part in NEVER {
        assert!(!ran.stderr.contains(part), "{part} says nothing to a user: {ran}");
    }
    if mistake.code != 2 {
        assert!(ran.stderr.starts_with("error: "), "{ran}");
    }
    ran.expect_code(mistake.code).expect_says(&mistake.says);
}

/// Names that aren't there, with the one that was meant.
fn of_names() -> Vec<Mistake<'static>> {
    vec![
        mistake(
            "produce ordrs",
            1,
            &["line 1 was not sent", "there is no topic ordrs", "did you mean orders?", NOT_APPLIED],
        ),
        mistake("topic describe order", 1, &["can't describe topic order", "did you mean orders?", "dlog topic list"]),
        mistake("topic delete Orders --yes", 1, &["can't delete topic Orders", "did you mean orders?"]),
        mistake("topic alter oders --config retention.ms=1h", 1, &["can't alter topic oders", "did you mean orders?"]),
        mistake("offsets odrers", 1, &["can't tell the offsets", "did you mean orders?"]),
        mistake("bench produce --topic odrers", 1, &["can't use topic odrers", "did you mean orders?"]),
        mistake("consume odrers", 1, &["can't consume topic odrers", "did you mean orders?"]),
        mistake("offsets payments", 1, &["there is no topic payments", "dlog topic create"]),
        mistake("consume payments -o json", 1, &["there is no topic payments", "dlog topic create"]),
        mistake("partition list payments", 1, &["there is no topic payments", "dlog topic list"]),
        mistake("produce orders -p 2", 1, &["orders", "2 partitions", "dlog topic describe"]),
        mistake("node describe n2", 1, &["there is no node", "n1", "dlog node list"]),
        mistake("partition transfer orders/0 --to n2", 1, &["there is no node", "n1", NOT_APPLIED]),
    ]
}

/// What can't be made.
fn of_what_is_made() -> Vec<Mistake<'static>> {
    vec![
        mistake(
            "topic create orders",
            1,
            &["can't create topic orders", "exists", "--if-not-exists", NOT_APPLIED, "node n1"],
        ),
        mistake(
            "topic create wide --replicas 3",
            1,
            &["can't create topic wide", "3 replicas", "the cluster has 1", NOT_APPLIED],
        ),
        mistake("topic create __mine", 1, &["__mine", "begins with __"]),
        mistake("topic create a/b", 2, &["a/b", "A-Z a-z 0-9"]),
        mistake("topic create odd --config retention.hours=3", 1, &["retention.hours", "retention.ms", NOT_APPLIED]),
        mistake("topic create odd --config segment.bytes=1", 1, &["segment.bytes", "64KiB"]),
        mistake("topic create odd --config segment.bytes", 2, &["segment.bytes", "KEY=VALUE"]),
        mistake("topic delete orders", 2, &["--yes", "dlog topic delete orders --yes"]),
    ]
}

/// Verbs, flags and units.
fn of_flags() -> Vec<Mistake<'static>> {
    vec![
        mistake("tpoic list", 2, &["tpoic", "topic"]),
        mistake("topic lst", 2, &["lst", "list"]),
        mistake("topic list --ouput json", 2, &["--ouput", "--output"]),
        mistake("topic list --timeout 5", 2, &["--timeout", "write a number and", "250ms"]),
        mistake("produce orders --batch-bytes 1XB", 2, &["--batch-bytes", "KiB"]),
        mistake("produce orders --acks two", 2, &["two", "quorum", "leader", "all"]),
        mistake("produce orders --compression zip", 2, &["zip", "gzip", "zstd"]),
        mistake("bench latency --rate fast", 2, &["fast", "200/s"]),
        mistake("offsets orders --at noon", 2, &["noon", "RFC 3339"]),
        mistake("partition transfer orders --to n1", 2, &["orders", "TOPIC/PARTITION"]),
        mistake("topic list -s localhost", 2, &["localhost", "HOST:PORT"]),
    ]
}

#[test]
fn at_a_node_that_runs() {
    let turn = Turn::take("errors-teach");
    let cluster = Cluster::start(&turn, 1);
    cluster.create_topic("orders", 2, &[]);
    let address = cluster.nodes[0].options().client_address();
    let folder = turn.dir().display().to_string();
    let in_folder = format!("produce orders {folder}");
    let running = format!("verify --data-dir {}", cluster.data_dir(0).display());
    let no_log = format!("inspect log {folder}");
    let of_files = vec![
        mistake("produce orders no/such/file", 1, &["can't open no/such/file"]),
        mistake(&in_folder, 1, &["can't open", "folder"]),
        mistake("verify --data-dir no/such/dir", 1, &["can't verify no/such/dir", "no folder"]),
        mistake(&running, 1, &["can't verify", "in use", "stop that node"]),
        mistake(&no_log, 1, &["can't inspect", "DATA/shard-N/logs/LOG/REPLICA"]),
        mistake("inspect segment no/such.segment", 1, &["can't inspect no/such.segment"]),
    ];
    let mistakes = [of_names(), of_what_is_made(), of_flags(), of_files].into_iter().flatten();
    for mut mistake in mistakes {
        if mistake.args[0] == "produce" && mistake.code == 1 {
            mistake.says.push("0 records acked");
        }
        let ran = Verb::new(&address, &mistake.args).stdin("x\n").run();
        check(ran, &mistake);
    }
    let topics = cluster.dlog(["topic", "list", "-o", "json"]).ok().json();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "no mistake made or deleted anything: {topics}");
    assert_eq!(cluster.dlog(["consume", "orders"]).ok().text(), "", "nor wrote a record");
    cluster.finish();
}

#[test]
fn a_line_too_long_names_itself_and_both_bounds() {
    let turn = Turn::take("errors-long");
    let cluster = Cluster::start(&turn, 1);
    cluster.create_topic("small", 1, &["--config", "max.batch.bytes=4KiB"]);
    let input = format!("one\ntwo\n{}\nfour\n", "x".repeat(5000));
    let ran = cluster.dlog(["produce", "small"]).stdin(input.clone()).run().expect_code(1);
    let ran = ran.expect_says(&["line 3 was not sent", "5.0 KiB", "topic small", "at most 4.0 KiB", "max.batch.bytes"]);
    ran.expect_says(&["--compression", "dlog topic alter", "2 records acked", "1 rejected"]);
    assert_eq!(cluster.dlog(["consume", "small"]).ok().text(), "one\ntwo\n", "the lines before it are there");
    // Both ways that it names work.
    cluster.dlog(["produce", "small", "--compression", "zstd"]).stdin(input.clone()).ok();
    cluster.dlog(["topic", "alter", "small", "--config", "max.batch.bytes=8KiB"]).ok();
    cluster.dlog(["produce", "small"]).stdin(input).ok();
    assert_eq!(cluster.dlog(["consume", "small"]).ok().text().lines().count(), 10);
    cluster.finish();
}

#[test]
fn at_a_wrong_port() {
    let turn = Turn::take("errors-port");
    let cluster = Cluster::start(&turn, 1);
    let options = cluster.nodes[0].options();
    let (ops, peer) = (format!("127.0.0.1:{}", options.ops), format!("127.0.0.1:{}", options.peer));
    let nobody = format!("127.0.0.1:{}", ports::free());
    let line = "topic list --timeout 2s";
    for (server, says) in [
        (&ops, &["answers plain HTTP", "--ops-listen", "--listen", "7411"][..]),
        (&peer, &["where nodes talk to each other", "--peer-listen", "--listen", "7411"]),
        (&nobody, &["no cluster at", "refused", "dlog dev"]),
    ] {
        let mut says = says.to_vec();
        says.push(server);
        check(Verb::new(server, line.split(' ')).run(), &mistake(line, 1, &says));
    }
    cluster.finish();
}

#[test]
fn at_the_start_of_a_node() {
    let turn = Turn::take("errors-start");
    let options = |name: &str| NodeOptions::new(turn.dir(), name);
    let serve = |options: &NodeOptions| Verb::new("", options.args()).run();
    let write = |path: &Path, text: &str| std::fs::write(path, text).expect("a file");

    let file = turn.dir().join("odd.toml");
    write(&file, "name = \"n1\"\nlistne = \"127.0.0.1:1\"\n");
    let odd = NodeOptions { flags: vec!["--config".into(), file.display().to_string()], ..options("odd") };
    serve(&odd).expect_code(2).expect_says(&["odd.toml", "listne", "listen"]);
    write(&file, "shards = 99\n");
    serve(&odd).expect_code(2).expect_says(&["shards", "99", "64"]);
    let missing = NodeOptions { flags: vec!["--config".into(), "no/such.toml".into()], ..options("missing") };
    serve(&missing).expect_code(2).expect_says(&["can't read the config file no/such.toml"]);
    let open = NodeOptions { flags: vec!["--advertise".into(), "nonsense".into()], ..options("open") };
    serve(&open).expect_code(2).expect_says(&["--advertise", "nonsense", "HOST:PORT"]);
    Verb::new("", ["serve", "--name", "n1"]).run().expect_code(2).expect_says(&["--data-dir"]);

    let blocked = options("blocked");
    write(&blocked.data_dir, "a file where the folder should be");
    serve(&blocked).expect_code(1).expect_says(&["blocked can't start", "can't make the data directory"]);

    let forbidden = NodeOptions { data_dir: "/proc/dlog".into(), ..options("forbidden") };
    serve(&forbidden)
        .expect_code(1)
        .expect_says(&["forbidden can't start", "can't make the data directory /proc/dlog"]);

    let cluster = Cluster::start(&turn, 1);
    let taken = NodeOptions { client: cluster.nodes[0].options().client, ..options("taken") };
    serve(&taken).expect_code(1).expect_says(&["taken", &taken.client_address(), "in use", "--listen"]);
    let base = (cluster.nodes[0].options().client - 1).to_string();
    let dev = Verb::new("", ["dev", "--nodes", "1", "--port-base", &base]).run().expect_code(1);
    dev.expect_says(&["a port is taken", "--port-base", "in use"]);
    let second = NodeOptions { data_dir: cluster.data_dir(0).to_path_buf(), ..options("n1") };
    serve(&second).expect_code(1).expect_says(&["n1", "in use", "--data-dir"]);
    cluster.finish();
}
