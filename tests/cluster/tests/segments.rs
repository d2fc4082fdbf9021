//! A topic's `segment.bytes` holds from a replica's first write on, and what was rolled is read back whole.

use dlog_cluster_tests::{Cluster, Input, Turn, wait};
use std::path::Path;

const TOPIC: &str = "small-segments";
/// The sample has 3.5 MB: more than ten of these.
const SEGMENT_BYTES: usize = 256 << 10;
/// Room for a batch that doesn't fit behind what is there: the default `--batch-bytes`.
const SLACK_BYTES: usize = 256 << 10;

fn segments(dir: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(dir).expect("a replica's folder").map(|entry| entry.expect("an entry"));
    let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "segment"));
    segments.map(|file| file.metadata().expect("a file").len()).collect()
}

#[test]
fn roll_at_the_topics_size() {
    let turn = Turn::take("segments");
    let input = Input::sample();
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3", "--config", &format!("segment.bytes={SEGMENT_BYTES}")]);
    cluster
        .dlog(["produce", TOPIC, "-", "--key-json", "/tailnum", "--timestamp-json", "/time"])
        .stdin(input.bytes())
        .ok();
    for node in ["n1", "n2", "n3"] {
        input.assert_exact(&format!("what {node} gives"), &cluster.consume(TOPIC, Some(node)));
    }
    for dir in cluster.log_dirs().into_values().flatten() {
        let records = cluster.inspect_log(&dir).json()["log_end"].as_u64().unwrap_or(0);
        if records == 0 {
            continue;
        }
        let sizes = wait::until("segments rolled", wait::LONG, || Some(segments(&dir)).filter(|s| s.len() > 5));
        let most = sizes.iter().max().copied().unwrap_or(0);
        assert!(most <= (SEGMENT_BYTES + SLACK_BYTES) as u64, "{}: a segment has {most} bytes", dir.display());
    }
    cluster.nodes[0].kill();
    cluster.restart(0);
    input.assert_exact("what n1 gives after a crash", &cluster.consume(TOPIC, Some("n1")));
    cluster.finish();
}
