//! [`Cluster`]: nodes as processes, formed with `--initial-cluster`.

use crate::{Node, NodeOptions, Ran, Turn, Verb, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of each node's standard error that a failed test shows.
const SHOWN_LINES: usize = 60;

/// A cluster of processes. All end when it is dropped; a failed test then shows what they said.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in order of name: n1, n2, …
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts so many nodes and waits until all are ready.
    #[track_caller]
    pub fn start(turn: &Turn, count: usize) -> Cluster {
        Cluster::start_with(turn, count, &[])
    }

    /// As [`Cluster::start`], with more flags for each node.
    #[track_caller]
    pub fn start_with(turn: &Turn, count: usize, flags: &[&str]) -> Cluster {
        Cluster::start_in(turn.dir(), count, flags)
    }

    /// As [`Cluster::start_with`], with its directories below `dir`.
    #[track_caller]
    pub fn start_in(dir: &Path, count: usize, flags: &[&str]) -> Cluster {
        Cluster::start_each(dir, &vec![flags; count])
    }

    /// A node for each list of more flags, with directories below `dir`.
    #[track_caller]
    pub fn start_each(dir: &Path, flags: &[&[&str]]) -> Cluster {
        let mut options: Vec<NodeOptions> =
            (1..=flags.len()).map(|i| NodeOptions::new(dir, &format!("n{i}"))).collect();
        let list: Vec<String> = options.iter().map(|o| format!("{}=127.0.0.1:{}", o.name, o.peer)).collect();
        for (o, flags) in options.iter_mut().zip(flags) {
            o.initial_cluster = Some(list.join(","));
            o.flags = flags.iter().map(|flag| (*flag).to_string()).collect();
        }
        let mut cluster = Cluster { nodes: options.into_iter().map(Node::new).collect() };
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.nodes.iter_mut().for_each(Node::wait_ready);
        cluster
    }

    /// Where clients reach the nodes, comma-separated.
    pub fn servers(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|n| n.options().client_address()).collect();
        addresses.join(",")
    }

    /// A command line that may ask every node.
    pub fn dlog<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Verb {
        Verb::new(&self.servers(), args)
    }

    /// The place of the node with this name.
    #[track_caller]
    pub fn index_of(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|n| n.name() == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// A node's data directory.
    pub fn data_dir(&self, node: usize) -> &Path {
        &self.nodes[node].options().data_dir
    }

    /// Starts a node that was ended, and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].start();
        self.nodes[node].wait_ready();
    }

    /// Makes a topic, and waits until each partition has its leader and all replicas in sync.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: u32, flags: &[&str]) {
        self.dlog(["topic", "create", name, "--partitions", &partitions.to_string()]).args(flags).ok();
        self.wait_in_sync(name);
    }

    /// `topic describe -o json`, or what it said instead.
    pub fn try_describe(&self, topic: &str) -> Result<Value, String> {
        let ran = self.dlog(["topic", "describe", topic, "-o", "json"]).run();
        if ran.code == Some(0) { Ok(ran.json()) } else { Err(ran.to_string()) }
    }

    /// `topic describe -o json`.
    #[track_caller]
    pub fn describe(&self, topic: &str) -> Value {
        self.try_describe(topic).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The name of the node that leads a partition, once one does.
    #[track_caller]
    pub fn leader_of(&self, topic: &str, partition: u32) -> String {
        wait::until_ok(&format!("{topic}/{partition} has a leader"), wait::LONG, || {
            let described = self.try_describe(topic)?;
            let entry = partitions(&described).into_iter().find(|p| p["partition"].as_u64() == Some(partition.into()));
            let leader = entry.and_then(|p| p["leader"].as_str().map(str::to_string));
            leader.ok_or_else(|| described.to_string())
        })
    }

    /// Which partitions of a topic each node leads, by name.
    #[track_caller]
    pub fn leaders(&self, topic: &str) -> BTreeMap<String, Vec<u32>> {
        let mut leaders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for p in partitions(&self.describe(topic)) {
            let number = u32::try_from(p["partition"].as_u64().expect("a number")).expect("a small one");
            if let Some(leader) = p["leader"].as_str() {
                leaders.entry(leader.to_string()).or_default().push(number);
            }
        }
        leaders
    }

    /// Waits until every replica of every partition of a topic is in sync.
    #[track_caller]
    pub fn wait_in_sync(&self, topic: &str) {
        wait::until_ok(&format!("all replicas of {topic} are in sync"), wait::LONG, || {
            let described = self.try_describe(topic)?;
            let all = partitions(&described);
            let good = |p: &Value| {
                let count = |key: &str| p[key].as_array().map_or(0, Vec::len);
                !p["leader"].is_null() && count("replicas") > 0 && count("in_sync") == count("replicas")
            };
            if !all.is_empty() && all.iter().all(good) { Ok(()) } else { Err(described.to_string()) }
        });
    }

    /// Waits until `cluster health` finds no reason at all.
    #[track_caller]
    pub fn wait_healthy(&self) {
        wait::until_ok("the cluster is healthy", wait::LONG, || {
            let ran = self.dlog(["cluster", "health", "-o", "json"]).run();
            if ran.code == Some(0) && ran.json()["healthy"] == Value::Bool(true) {
                return Ok(());
            }
            let said: Vec<&str> = self.nodes.iter().filter(|n| !n.is_started()).map(Node::name).collect();
            Err(format!("{ran}\nnot running: {said:?}"))
        });
    }

    /// Everything in a topic, as rows, read from one node (by name) or from the leaders.
    #[track_caller]
    pub fn consume(&self, topic: &str, node: Option<&str>) -> Vec<crate::Row> {
        let mut verb =
            self.dlog(["consume", topic, "--format", crate::flights::ROW_FORMAT]).bound(Duration::from_secs(600));
        if let Some(node) = node {
            verb = verb.args(["--node", node]);
        }
        crate::flights::parse_rows(&verb.ok().stdout)
    }

    /// Fails if any node, in any of its starts, panicked.
    #[track_caller]
    pub fn assert_no_panic(&self) {
        for node in &self.nodes {
            let said = node.stderr();
            let at = said.find("panicked at");
            assert!(at.is_none(), "{} panicked:\n{}", node.name(), &said[at.unwrap_or(0)..]);
        }
    }

    /// The end of a test: no node panicked or ended by itself, and all end with 0 on SIGTERM.
    #[track_caller]
    pub fn finish(mut self) {
        self.assert_no_panic();
        for node in self.nodes.iter_mut().filter(|n| n.is_started()) {
            let ended = node.process().ended();
            assert!(ended.is_none(), "{} ended by itself: {ended:?}; it said:\n{}", node.name(), node.stderr());
            node.process().signal(Signal::TERM);
        }
        for node in self.nodes.iter_mut().filter(|n| n.is_started()) {
            let code = node.wait_end();
            assert_eq!(code, 0, "{} ended on SIGTERM with {code}; it said:\n{}", node.name(), node.stderr());
        }
        self.assert_no_panic();
    }

    /// Where each node keeps the replicas of each log, found in the data directories: log id to folders.
    pub fn log_dirs(&self) -> BTreeMap<String, Vec<PathBuf>> {
        let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for node in 0..self.nodes.len() {
            for shard in entries(self.data_dir(node)).into_iter().filter(|p| name_of(p).starts_with("shard-")) {
                for log in entries(&shard.join("logs")) {
                    found.entry(name_of(&log)).or_default().extend(entries(&log).into_iter().filter(|p| p.is_dir()));
                }
            }
        }
        found
    }

    /// `inspect log -o json` of a replica's folder.
    #[track_caller]
    pub fn inspect_log(&self, dir: &Path) -> Ran {
        self.dlog([OsStr::new("inspect"), OsStr::new("log"), dir.as_os_str(), OsStr::new("-o"), OsStr::new("json")])
            .run()
    }
}

/// The entries of a folder, sorted; none if it isn't there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The partitions of a description.
pub fn partitions(described: &Value) -> Vec<Value> {
    described["partitions"].as_array().cloned().unwrap_or_default()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().filter(|n| n.is_started()) {
            node.kill();
        }
        if std::thread::panicking() {
            for node in &self.nodes {
                let said = node.stderr();
                let lines: Vec<&str> = said.lines().collect();
                let from = lines.len().saturating_sub(SHOWN_LINES);
                eprintln!("--- {} said (the last lines) ---\n{}", node.name(), lines[from..].join("\n"));
            }
        }
    }
}
