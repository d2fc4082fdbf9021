//! How `dlog consume` ends: at a count, before a time, at Ctrl-C with 130 and everything written, at a closed pipe with 0.

use dlog_cluster_tests::{Cluster, Turn, verb, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

const TOPIC: &str = "ends";
/// A verb that doesn't end within this hangs.
const BOUND: Duration = Duration::from_secs(60);

fn start(cluster: &Cluster, args: &[&str]) -> Child {
    let mut command = verb::command(&cluster.servers());
    command.args(["consume", TOPIC]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().expect("dlog runs")
}

fn code(child: &mut Child, what: &str) -> Option<i32> {
    wait::until(what, BOUND, || child.try_wait().expect("a child")).code()
}

fn produce(cluster: &Cluster, lines: &str) {
    cluster.dlog(["produce", TOPIC, "--timestamp-json", "/at"]).stdin(lines).ok();
}

fn line(second: u32) -> String {
    format!("{{\"at\":\"2020-01-01T00:00:{second:02}Z\"}}\n")
}

#[test]
fn at_a_count_a_time_a_signal_and_a_closed_pipe() {
    let turn = Turn::take("consume-ends");
    let cluster = Cluster::start(&turn, 1);
    cluster.create_topic(TOPIC, 1, &[]);
    let ten: String = (0..10).map(line).collect();
    produce(&cluster, &ten);

    let consume = |args: &[&str]| cluster.dlog(["consume", TOPIC]).args(args).ok().text().to_owned();
    assert_eq!(consume(&["-n", "3"]), ten.lines().take(3).map(|l| format!("{l}\n")).collect::<String>());
    assert_eq!(consume(&["-n", "3", "-F", "--from", "5"]).lines().count(), 3, "a count ends a follower too");
    let four: String = (0..4).map(line).collect();
    assert_eq!(consume(&["--to", "@2020-01-01T00:00:04Z"]), four);
    assert_eq!(consume(&["--to", "4"]), four);
    assert_eq!(consume(&["--to", "@2030-01-01T00:00:00Z"]), ten, "no record is so late: to the end");
    assert_eq!(consume(&["--from", "@2020-01-01T00:00:02Z", "--to", "@2020-01-01T00:00:03Z"]), line(2));
    assert_eq!(consume(&["--from", "-1", "-f", "%t %p %o %T %k %v%%\\t%h\\n"]).trim_end_matches(['\t', '\n']), {
        format!("{TOPIC} 0 9 1577836809000  {}%", line(9).trim_end())
    });

    // A follower is to end before a time that no record has reached yet.
    let mut until = start(&cluster, &["-F", "--from", "9", "--to", "@2020-01-01T00:00:30Z"]);
    let mut lines = BufReader::new(until.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), line(9).trim_end());
    produce(&cluster, &format!("{}{}{}", line(10), line(40), line(11)));
    assert_eq!(lines.next().expect("a line").expect("text"), line(10).trim_end());
    assert!(lines.next().is_none(), "it ends before the first that is so late");
    assert_eq!(code(&mut until, "the follower ends"), Some(0));

    // Ctrl-C: everything that was read is written.
    let mut follower = start(&cluster, &["-F"]);
    let mut out = BufReader::new(follower.stdout.take().expect("piped"));
    let mut got = String::new();
    for _ in 0..13 {
        out.read_line(&mut got).expect("text");
    }
    kill_process(Pid::from_child(&follower), Signal::INT).expect("it runs");
    assert_eq!(code(&mut follower, "the follower ends at Ctrl-C"), Some(130));
    out.read_to_string(&mut got).expect("text");
    assert_eq!(got.lines().count(), 13, "whole lines, each once");

    // A reader that goes away: silently, with 0, also if there is nothing more to write.
    let many = line(1).repeat(200_000);
    for (args, more) in [(&["-F"][..], ""), (&[], &many), (&["-F"], "")] {
        produce(&cluster, more);
        let stderr = turn.dir().join("closed.stderr");
        let mut command = verb::command(&cluster.servers());
        command.args(["consume", TOPIC]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(std::fs::File::create(&stderr).expect("a file"));
        let mut child = command.spawn().expect("dlog runs");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("text");
        assert_eq!(code(&mut child, "it ends when nobody reads"), Some(0), "{args:?}");
        assert_eq!(std::fs::read_to_string(&stderr).expect("a file"), "", "silently: {args:?}");
    }

    // Who reads nothing more keeps a Ctrl-C from writing what was read: the second one doesn't wait for it.
    let mut stuck = start(&cluster, &[]);
    let mut out = BufReader::new(stuck.stdout.take().expect("piped"));
    out.read_line(&mut String::new()).expect("text");
    let ended = wait::until("it ends though nobody reads", BOUND, || {
        // Gone already is what is waited for.
        let _ = kill_process(Pid::from_child(&stuck), Signal::INT);
        stuck.try_wait().expect("a child")
    });
    assert_eq!(ended.code(), Some(130));
    cluster.finish();
}
