//! A disk that fills up: producers are refused with the figures, all else goes on, and with room again writes do too.
//!
//! The disk is this machine's. What a node keeps in reserve is chosen so that some gigabytes are left above it; a file takes them.

use dlog_cluster_tests::{Cluster, Turn, scrape, skip, wait};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

const TOPIC: &str = "filling";
/// What other programs may write meanwhile without a say in the outcome.
const GAP_BYTES_MIN: u64 = 1 << 30;
const GAP_BYTES_MAX: u64 = 4 << 30;

fn free(dir: &Path) -> u64 {
    let disk = statvfs(dir).expect("the disk can be asked");
    disk.f_bavail * disk.f_frsize
}

/// A disk of which so much is free that a node can keep all but a gap of it in reserve, and a file that takes twice the gap.
struct Filling {
    reserve: u64,
    gap: u64,
    file: PathBuf,
}

impl Filling {
    fn new(turn: &Turn) -> Option<Filling> {
        let free = free(turn.dir());
        let gap = (free / 8).min(GAP_BYTES_MAX);
        if gap < GAP_BYTES_MIN {
            skip("disk_full", &format!("{free} bytes are free; 8 GiB or more are needed"));
            return None;
        }
        Some(Filling { reserve: free - gap, gap, file: turn.dir().join("filler") })
    }

    fn flag(&self) -> String {
        format!("{}B", self.reserve)
    }

    /// Allocated, not written: it takes a moment.
    fn fill(&self) -> bool {
        let file = File::create(&self.file).expect("a file can be made");
        let filled = fallocate(&file, FallocateFlags::empty(), 0, 2 * self.gap);
        if let Err(error) = filled {
            skip("disk_full", &format!("this file system doesn't allocate files: {error}"));
        }
        filled.is_ok()
    }

    fn empty(&self) {
        std::fs::remove_file(&self.file).expect("it is there");
    }
}

/// The reason with this code that `cluster health` gives.
fn reason(cluster: &Cluster, code: &str) -> Result<Value, String> {
    let ran = cluster.dlog(["cluster", "health", "-o", "json"]).run();
    let reasons = ran.json()["reasons"].as_array().cloned().unwrap_or_default();
    reasons.into_iter().find(|reason| reason["code"] == code).ok_or_else(|| ran.to_string())
}

fn full_metric(cluster: &Cluster, node: usize) -> String {
    let page = scrape::get(cluster.nodes[node].options().ops, "/metrics", "*/*").expect("it answers");
    let line = page.body.lines().find(|line| line.starts_with("dlog_disk_full{"));
    line.expect("the family is there").to_string()
}

#[test]
fn refuses_records_until_there_is_room() {
    let turn = Turn::take("disk-full");
    let Some(filling) = Filling::new(&turn) else { return };
    let cluster = Cluster::start_with(&turn, 1, &["--disk-reserve", &filling.flag()]);
    cluster.create_topic(TOPIC, 1, &[]);
    cluster.dlog(["produce", TOPIC]).stdin("before\n").ok();
    if !filling.fill() {
        return cluster.finish();
    }
    let told = wait::until_ok("health names the full disk", wait::LONG, || reason(&cluster, "disk_full"));
    let text = told.to_string();
    assert!(told["subject"] == "n1" && text.contains("are free") && text.contains("kept in reserve"), "{text}");

    let refused =
        cluster.dlog(["produce", TOPIC, "--timeout", "3s", "-o", "json"]).stdin("refused\n").run().expect_code(1);
    let refused = refused.expect_says(&["disk_full", "are free", "kept in reserve"]);
    assert_eq!((&refused.json()["records"], &refused.json()["rejected"]), (&0.into(), &1.into()), "{refused}");
    let ready = scrape::get(cluster.nodes[0].options().ops, "/readyz", "*/*").expect("it answers");
    assert!(ready.status == 503 && ready.body.contains("full"), "{ready:?}");
    assert!(full_metric(&cluster, 0).ends_with(" 1"));

    // Reads and all that makes room go on.
    assert_eq!(cluster.dlog(["consume", TOPIC]).ok().text(), "before\n");
    cluster.dlog(["topic", "create", "gone"]).ok();
    cluster.dlog(["topic", "alter", TOPIC, "--config", "retention.ms=3600000"]).ok();
    cluster.dlog(["topic", "delete", "gone", "--yes"]).ok();

    filling.empty();
    // The producer was told to try again, and does until its deadline: no restart, no command.
    cluster.dlog(["produce", TOPIC, "--timeout", "60s"]).stdin("after\n").ok();
    assert_eq!(cluster.dlog(["consume", TOPIC]).ok().text(), "before\nafter\n");
    cluster.wait_healthy();
    cluster.finish();
}

#[test]
fn on_one_node_stops_nobody() {
    let turn = Turn::take("disk-full-one");
    let Some(filling) = Filling::new(&turn) else { return };
    let flag = filling.flag();
    let cluster = Cluster::start_each(turn.dir(), &[&["--disk-reserve", &flag], &[], &[]]);
    cluster.create_topic(TOPIC, 3, &["--replicas", "3"]);
    cluster.dlog(["produce", TOPIC, "-p", "0"]).stdin("before\n").ok();
    if !filling.fill() {
        return cluster.finish();
    }
    wait::until_ok("health names the full disk", wait::LONG, || reason(&cluster, "disk_full"));
    wait::until_ok("others lead", wait::LONG, || {
        let leaders = cluster.leaders(TOPIC);
        if leaders.contains_key("n1") { Err(format!("{leaders:?}")) } else { Ok(()) }
    });
    for partition in ["0", "1", "2"] {
        cluster.dlog(["produce", TOPIC, "-p", partition, "--timeout", "60s"]).stdin("meanwhile\n").ok();
    }
    cluster
        .dlog(["partition", "transfer", &format!("{TOPIC}/0"), "--to", "n1"])
        .run()
        .expect_code(11)
        .expect_says(&["full"]);
    assert!(!cluster.leaders(TOPIC).contains_key("n1"), "nobody hands it back");
    assert_eq!(cluster.dlog(["consume", TOPIC, "-p", "0", "--node", "n1"]).ok().text(), "before\nmeanwhile\n");
    filling.empty();
    cluster.wait_healthy();
    wait::until_ok("n1 leads again", wait::LONG, || {
        let leaders = cluster.leaders(TOPIC);
        if leaders.contains_key("n1") { Ok(()) } else { Err(format!("{leaders:?}")) }
    });
    cluster.dlog(["produce", TOPIC]).stdin("after\n").ok();
    cluster.finish();
}
