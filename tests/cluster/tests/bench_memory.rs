//! `bench produce` at full speed: each node's memory stays bounded, its journal is recycled, and its disk holds data and
//! journal and nothing else.

use dlog_cluster_tests::usage::{Disk, Memory};
use dlog_cluster_tests::{Cluster, Turn, short_or_full, wait};
use dlog_core::limits::{JOURNAL_FILE_BYTES, JOURNAL_FILES_MAX, NODE_IN_FLIGHT_BYTES_MAX};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// All requests in flight, and as much as queues between threads, the tail cache, open groups and the state store take
/// beside them; ten seconds of input at full speed would fill it.
const RESIDENT_MAX: u64 = NODE_IN_FLIGHT_BYTES_MAX as u64 + 128 * MIB;
/// State store, checkpoints, identity.
const REST_MAX: u64 = 128 * MIB;
/// What indexes and producer files may cost beside the data, and the metadata group's own log.
const LOGS_SLACK: u64 = 8 * MIB;
const PARTITIONS: u32 = 6;

/// Runs a bench and watches the nodes' resident memory meanwhile: the greatest seen in each half of the time.
fn bench(cluster: &mut Cluster, topic: &str, duration: Duration) -> (Value, Vec<[u64; 2]>) {
    let pids: Vec<u32> = cluster.nodes.iter_mut().map(|node| node.process().pid()).collect();
    let seconds = format!("{}s", duration.as_secs());
    let verb = cluster.dlog(["bench", "produce", "--topic", topic, "--duration", &seconds, "-o", "json"]);
    let verb = verb.bound(duration + Duration::from_secs(120));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let start = Instant::now();
            let mut greatest = vec![[0; 2]; pids.len()];
            while !done.load(Ordering::Relaxed) {
                let half = usize::from(start.elapsed() > duration / 2);
                for (pid, seen) in pids.iter().zip(&mut greatest) {
                    seen[half] = seen[half].max(Memory::of(*pid).resident);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            greatest
        });
        let ran = verb.run();
        done.store(true, Ordering::Relaxed);
        let greatest = watcher.join().expect("the watcher doesn't panic");
        (ran.expect_code(0).json(), greatest)
    })
}

/// Bytes of a topic's segments, on one replica of each partition.
fn data_bytes(cluster: &Cluster, topic: &str) -> u64 {
    let described = cluster.describe(topic);
    let parts = dlog_cluster_tests::cluster::partitions(&described);
    parts.iter().map(|p| p["bytes"].as_u64().expect("a number")).sum()
}

/// Asks that a node's disk holds its data and its journal, and not much else.
fn assert_disk(cluster: &Cluster, node: usize, data: u64) -> Disk {
    let allowed = data + data / 20 + LOGS_SLACK;
    let journal_max = JOURNAL_FILES_MAX as u64 * JOURNAL_FILE_BYTES + MIB;
    let name = cluster.nodes[node].name();
    // Files that are written ahead or removed late are gone in a moment.
    wait::until_ok(&format!("the disk of {name} holds data and journal"), wait::LONG, || {
        let disk = Disk::of(cluster.data_dir(node));
        let good = disk.logs <= allowed && disk.journal <= journal_max && disk.rest <= REST_MAX;
        if good {
            Ok(disk)
        } else {
            Err(format!("{disk:?}, data {data}, at most {allowed} of logs, {journal_max} of journal"))
        }
    })
}

#[test]
fn stays_bounded_at_full_speed() {
    let turn = Turn::take("bench-memory");
    // A minute a round: each round's topic is deleted, so that ten minutes don't fill the disk.
    let (rounds, duration) = short_or_full((1, Duration::from_secs(10)), (10, Duration::from_secs(60)));
    let mut cluster = Cluster::start(&turn, 3);
    let mut first_peaks = Vec::new();
    for round in 0..rounds {
        let topic = format!("bench-{round}");
        cluster.create_topic(&topic, PARTITIONS, &["--replicas", "3"]);
        let (report, resident) = bench(&mut cluster, &topic, duration);
        eprintln!("round {round}: {report}");
        assert_eq!(report["errors"].as_u64(), Some(0), "{report}");
        let data = data_bytes(&cluster, &topic);
        for (node, halves) in resident.iter().enumerate() {
            let disk = assert_disk(&cluster, node, data);
            let name = cluster.nodes[node].name();
            eprintln!(
                "{name}: resident at most {} MiB then {} MiB; data {} MiB, logs {} MiB, journal {} MiB in {} files, the newest is number {}, rest {} MiB",
                halves[0] / MIB,
                halves[1] / MIB,
                data / MIB,
                disk.logs / MIB,
                disk.journal / MIB,
                disk.journal_files,
                disk.newest_journal,
                disk.rest / MIB
            );
            assert!(halves.iter().all(|bytes| *bytes <= RESIDENT_MAX), "{name} uses {halves:?} bytes of memory");
            if data > 2 * JOURNAL_FILES_MAX as u64 * JOURNAL_FILE_BYTES {
                assert!(disk.newest_journal > JOURNAL_FILES_MAX as u64, "{name} recycles its journal: {disk:?}");
            }
        }
        let peak = resident.iter().flatten().copied().max().unwrap_or_default();
        first_peaks.push(peak);
        cluster.dlog(["topic", "delete", &topic, "--yes"]).ok();
        for node in 0..3 {
            let disk = assert_disk(&cluster, node, 0);
            eprintln!("{}: logs {} MiB after the topic's end", cluster.nodes[node].name(), disk.logs / MIB);
        }
    }
    // Later rounds need no more than the first ones did: nothing is kept from round to round.
    let early = first_peaks.iter().take(3).copied().max().unwrap_or_default();
    let late = first_peaks.iter().skip(3).copied().max().unwrap_or_default();
    assert!(late <= early + early / 2 + 64 * MIB, "memory grows from round to round: {first_peaks:?}");
    cluster.wait_healthy();
    cluster.finish();
}
