//! Segments that a disk has spoiled are found, never served, and mended from the other replicas, while the cluster goes on. What only
//! one replica had is lost, and said to be.

use dlog_cluster_tests::scrape::Scrape;
use dlog_cluster_tests::{Cluster, Input, Turn, wait};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const TOPIC: &str = "damaged";
const ALONE: &str = "alone";
/// The sample has 3.5 MB: more than ten of these.
const SEGMENT_BYTES: usize = 256 << 10;
/// n3, which is damaged.
const VICTIM: usize = 2;

/// The replica's segments that are no longer written to, from old to new, of the log with the most of them below `dir`.
fn ended_segments(cluster: &Cluster) -> Vec<PathBuf> {
    let victim = cluster.data_dir(VICTIM).to_path_buf();
    let of_victim = |dir: &PathBuf| dir.starts_with(&victim);
    let all = cluster.log_dirs().into_values().flatten().filter(of_victim).map(|dir| segments(&dir));
    let mut most = all.max_by_key(Vec::len).unwrap_or_default();
    most.pop();
    most
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("a replica's folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "segment"));
    files.sort();
    files
}

/// Other bytes in the middle of a file.
fn spoil(file: &Path, bytes: usize) {
    let open = OpenOptions::new().read(true).write(true).open(file).expect("it opens");
    let at = open.metadata().expect("a file").len() / 2;
    let mut old = vec![0; bytes];
    open.read_exact_at(&mut old, at).expect("read");
    old.iter_mut().for_each(|byte| *byte ^= 0x55);
    open.write_all_at(&old, at).expect("written");
}

fn produce(cluster: &Cluster, topic: &str, input: &Input) {
    let args = ["produce", topic, "-", "--key-json", "/tailnum", "--timestamp-json", "/time"];
    cluster.dlog(args).stdin(input.bytes()).ok();
}

/// All of a topic as n3 has it; an error while something can't be read there.
fn read_at_victim(cluster: &Cluster, topic: &str) -> Result<Vec<u8>, String> {
    let ran = cluster.dlog(["consume", topic, "--node", "n3", "-o", "json"]).run();
    if ran.code == Some(0) { Ok(ran.stdout) } else { Err(ran.to_string()) }
}

#[test]
fn spoiled_segments_are_mended_from_other_replicas() {
    let turn = Turn::take("damage");
    let input = Input::sample();
    let mut cluster = Cluster::start(&turn, 3);
    let config = format!("segment.bytes={SEGMENT_BYTES}");
    cluster.create_topic(TOPIC, 1, &["--replicas", "3", "--config", &config]);
    produce(&cluster, TOPIC, &input);
    cluster.wait_in_sync(TOPIC);
    // What was just written is in memory: a restart reads the disk.
    cluster.nodes[VICTIM].terminate();
    let ended = ended_segments(&cluster);
    assert!(ended.len() > 5, "several segments: {ended:?}");
    spoil(&ended[0], 1);
    spoil(&ended[1], 5_000);
    std::fs::remove_file(&ended[2]).expect("removed");
    let short = OpenOptions::new().write(true).open(&ended[3]).expect("it opens");
    short.set_len(1_000).expect("shortened");
    cluster.restart(VICTIM);

    wait::until_ok("n3 gives everything again", wait::LONG, || {
        read_at_victim(&cluster, TOPIC)?;
        let scrape = Scrape::of(&cluster.nodes[VICTIM]);
        let [found, mended] = ["found", "mended"].map(|what| scrape.sum(&format!("dlog_faults_{what}_total"), ""));
        if found >= 4.0 && found == mended { Ok(()) } else { Err(format!("{found} faults found, {mended} mended")) }
    });
    input.assert_exact("what n3 gives", &cluster.consume(TOPIC, Some("n3")));
    cluster.wait_healthy();
    for dirs in cluster.log_dirs().into_values() {
        wait::until_ok("all replicas are whole and equal", wait::LONG, || {
            let seen: Vec<_> = dirs.iter().map(|dir| cluster.inspect_log(dir)).collect();
            let whole = seen.iter().all(|ran| ran.code == Some(0) && ran.json()["damaged"] == 0);
            let same = whole && seen.iter().all(|ran| ran.json()["digest"] == seen[0].json()["digest"]);
            if same { Ok(()) } else { Err(format!("{:?}", seen.iter().map(ToString::to_string).collect::<Vec<_>>())) }
        });
    }
    cluster.finish();
}

#[test]
fn what_one_replica_alone_had_is_told_as_lost() {
    let turn = Turn::take("damage-alone");
    let input = Input::sample();
    let mut cluster = Cluster::start(&turn, 1);
    let config = format!("segment.bytes={SEGMENT_BYTES}");
    cluster.create_topic(ALONE, 1, &["--replicas", "1", "--config", &config]);
    produce(&cluster, ALONE, &input);
    cluster.nodes[0].terminate();
    let victim = cluster.data_dir(0).to_path_buf();
    let dirs = cluster.log_dirs().into_values().flatten().filter(|dir| dir.starts_with(&victim));
    let of_log = dirs.map(|dir| segments(&dir)).max_by_key(Vec::len).expect("a log");
    assert!(of_log.len() > 5, "several segments: {of_log:?}");
    spoil(&of_log[1], 1);
    cluster.restart(0);

    // It is met by whoever reads it, refused by name, and everything else goes on.
    let ran = cluster.dlog(["consume", ALONE, "--timeout", "5s"]).run();
    assert!(ran.code == Some(1) && ran.to_string().contains("corrupt_data"), "{ran}");
    let health = wait::until("health says so", wait::LONG, || {
        let ran = cluster.dlog(["cluster", "health"]).run();
        (ran.code == Some(10) && ran.to_string().contains("no other replica has them")).then_some(ran)
    });
    assert!(health.to_string().contains("replica_damaged") && health.to_string().contains(ALONE), "{health}");
    produce(&cluster, ALONE, &input);
    let rows = cluster.dlog(["consume", ALONE, "--from=-1000", "-o", "json"]).ok();
    assert_eq!(rows.json_lines().len(), 1000, "the newest are read");
    cluster.finish();
}
