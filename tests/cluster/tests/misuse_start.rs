//! Misuse at the start of a node: names, directories, ports, settings, a full disk. Each is told clearly, with the right exit
//! code, and harms nothing that runs or lies there.

use crate::misuse::Guard;
use dlog_cluster_tests::{Cluster, Node, NodeOptions, Ran, Turn, Verb, skip, verb};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A node that can't start says so within this.
const BOUND: Duration = Duration::from_secs(60);

/// Runs `dlog serve` and expects that it ends by itself.
#[track_caller]
fn refused(options: &NodeOptions) -> Ran {
    let ran = Verb::new("", options.args()).bound(BOUND).run();
    eprintln!("{}: exit {:?}: {}", ran.line, ran.code, ran.stderr.trim());
    assert!(!ran.stderr.lines().any(|line| line == "ready"), "{ran}");
    ran
}

#[test]
fn of_names_directories_and_ports() {
    let turn = Turn::take("misuse-start");
    let mut cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let n1 = cluster.nodes[0].options().clone();
    let other = |name: &str| NodeOptions::new(&turn.dir().join("other"), name);

    // A second n1, with an empty directory and ports of its own, for the same cluster.
    let second = NodeOptions { initial_cluster: n1.initial_cluster.clone(), ..other("n1") };
    refused(&second).expect_codes(&[1, 12]).expect_says(&["n1"]);
    guard.assert_unchanged(&cluster, "a second n1");

    // A list that names a node twice, one that doesn't name this node, one that is nonsense.
    for (list, says) in [("n1=127.0.0.1:1,n1=127.0.0.1:2", "n1"), ("n2=127.0.0.1:1", "n1"), ("nonsense", "nonsense")] {
        let options = NodeOptions { initial_cluster: Some(list.to_string()), ..other("n1") };
        refused(&options).expect_code(2).expect_says(&["--initial-cluster", says]);
    }

    // A directory in use.
    let in_use = NodeOptions { data_dir: n1.data_dir.clone(), ..other("n1") };
    refused(&in_use).expect_code(1).expect_says(&["use", &n1.data_dir.display().to_string()]);
    // Each port in use.
    for taken in [n1.client, n1.peer, n1.ops] {
        let mut options = other("lonely");
        match taken {
            port if port == n1.client => options.client = port,
            port if port == n1.peer => options.peer = port,
            port => options.ops = port,
        }
        refused(&options).expect_code(1).expect_says(&["use", &taken.to_string()]);
    }
    guard.assert_unchanged(&cluster, "directories and ports in use");

    // Another cluster's directory: of a cluster of one that had the same name.
    let mut stranger = Node::new(NodeOptions::new(&turn.dir().join("stranger"), "n3"));
    stranger.start();
    stranger.wait_ready();
    assert_eq!(stranger.terminate(), 0);
    assert_eq!(cluster.nodes[2].terminate(), 0);
    let n3 = cluster.nodes[2].options().clone();
    let foreign = NodeOptions { data_dir: stranger.options().data_dir.clone(), ..n3.clone() };
    refused(&foreign).expect_code(12).expect_says(&["cluster"]);
    // And this cluster's directory under another name.
    let renamed = NodeOptions { name: "n2".to_string(), ..n3 };
    refused(&renamed).expect_codes(&[2, 12]).expect_says(&["n3"]);
    cluster.restart(2);
    guard.assert_unchanged(&cluster, "another cluster's directory");

    // The refused directory still works where it belongs.
    stranger.start();
    stranger.wait_ready();
    assert_eq!(stranger.terminate(), 0);
    cluster.finish();
}

#[test]
fn of_flags_and_keys() {
    // No node gets so far as to open a directory: no turn is needed.
    let dir = tempfile::tempdir().expect("a folder");
    let node = || NodeOptions::new(dir.path(), "n1");
    let with = |flags: &[&str]| NodeOptions { flags: flags.iter().map(|f| (*f).to_string()).collect(), ..node() };
    for (flags, says) in [
        (&["--nonsense", "1"][..], "--nonsense"),
        (&["--shards", "0"], "shards"),
        (&["--shards", "many"], "shards"),
        (&["--rack", "a/b"], "--rack"),
        (&["--advertise", "nowhere"], "--advertise"),
        (&["--config", "/nonexistent/dlog.toml"], "/nonexistent/dlog.toml"),
    ] {
        refused(&with(flags)).expect_code(2).expect_says(&[says]);
    }
    let file = dir.path().join("dlog.toml");
    for (text, says) in
        [("nonsense = 1\n", "nonsense"), ("shards = \"many\"\n", "shards"), ("shards = \n", "dlog.toml")]
    {
        std::fs::write(&file, text).expect("a file");
        refused(&with(&["--config", &file.display().to_string()])).expect_code(2).expect_says(&[says]);
    }
    let environment = |name: &str, value: &str| Verb::new("", node().args()).env(name, value).bound(BOUND);
    environment("DLOG_SHARDS", "many").run().expect_code(2).expect_says(&["shards", "many"]);
    let beyond =
        ["serve", "--name", "n1", "--data-dir", &node().data_dir.display().to_string(), "--listen", "0.0.0.0:7411"];
    Verb::new("", beyond).args(["--advertise", "db1:7411"]).run().expect_code(2).expect_says(&["--insecure"]);
    Verb::new("", ["serve"]).run().expect_code(2).expect_says(&["--name"]);
    assert!(!node().data_dir.exists(), "a refused start leaves no directory behind");
}

/// A file system of its own size, unmounted when it is dropped.
struct Tmpfs<'a>(&'a Path);

impl Tmpfs<'_> {
    fn mount(dir: &Path, options: &str) -> Result<(), String> {
        let out = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).output();
        let out = out.map_err(|e| format!("mount can't be run: {e}"))?;
        if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_string()) }
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn without_space() {
    let turn = Turn::take("misuse-space");
    let small = turn.dir().join("small");
    std::fs::create_dir(&small).expect("a folder");
    if let Err(why) = Tmpfs::mount(&small, "size=1m") {
        return skip("misuse_start::without_space", &format!("a small file system can't be mounted: {why}"));
    }
    let mounted = Tmpfs(&small);
    // Standard error goes beside the mount: it must not fill it.
    let options = NodeOptions { data_dir: small.join("n1"), ..NodeOptions::new(turn.dir(), "n1") };
    refused(&options).expect_code(1).expect_says(&["space"]);
    // A second try says the same: the first left nothing that looks like damage.
    refused(&options).expect_code(1).expect_says(&["space"]);

    Tmpfs::mount(&small, "remount,size=1g").expect("a bigger file system");
    let mut command = verb::command("");
    command.args(options.args());
    let mut process = dlog_cluster_tests::process::Process::start(&mut command, &turn.dir().join("n1.stderr"));
    dlog_cluster_tests::wait::until_ok("the node starts once there is space", BOUND, || {
        let said = process.stderr();
        assert!(process.ended().is_none(), "the node ended; it said:\n{said}");
        if said.lines().any(|line| line == "ready") { Ok(()) } else { Err(said) }
    });
    let address = options.client_address();
    Verb::new(&address, ["topic", "create", "t"]).ok();
    Verb::new(&address, ["produce", "t"]).stdin("a\n").ok();
    assert_eq!(Verb::new(&address, ["consume", "t"]).ok().text(), "a\n");
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait("the node", BOUND).code(), Some(0), "{}", process.stderr());
    drop(mounted);
}
