//! A copy of a node's directory, taken while the node runs and put back after it acked more: the next start is a new one, but its
//! peers were told more than it has. It is refused and ends with 12, and nothing acked is lost. The directory itself is let in.

use dlog_cluster_tests::{Cluster, Input, Turn, wait};
use std::path::{Path, PathBuf};

const BEFORE: &str = "before";
const AFTER: &str = "after";
const PARTITIONS: u32 = 3;
const NEEDS_OPERATOR: i32 = 12;

/// `cp -r`, of a node that runs: a file may go in the middle of it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn produce(cluster: &Cluster, topic: &str, input: &Input) {
    let args = ["produce", topic, "-", "--key-json", "/tailnum", "--timestamp-json", "/time"];
    cluster.dlog(args).stdin(input.bytes()).ok();
}

#[test]
fn within_a_boot_is_refused_and_a_restart_is_not() {
    let turn = Turn::take("put-back");
    let input = Input::sample().first(1_000);
    let mut cluster = Cluster::start(&turn, 3);
    for topic in [BEFORE, AFTER] {
        cluster.create_topic(topic, PARTITIONS, &["--replicas", "3"]);
    }
    produce(&cluster, BEFORE, &input);
    // A restart is no copy, though the process lost all that it had in memory.
    cluster.nodes[2].kill();
    cluster.restart(2);
    for topic in [BEFORE, AFTER] {
        cluster.wait_in_sync(topic);
    }

    let dir = cluster.data_dir(2).to_path_buf();
    let [kept, taken] = ["kept", "copy"].map(|name| PathBuf::from(format!("{}.{name}", dir.display())));
    wait::until_ok("the directory is copied", wait::LONG, || {
        let _ = std::fs::remove_dir_all(&taken);
        copy(&dir, &taken).map_err(|error| error.to_string())
    });
    produce(&cluster, AFTER, &input);
    cluster.wait_in_sync(AFTER);
    cluster.nodes[2].kill();
    std::fs::rename(&dir, &kept).expect("kept");
    std::fs::rename(&taken, &dir).expect("put back");

    cluster.nodes[2].start();
    assert_eq!(cluster.nodes[2].wait_end(), NEEDS_OPERATOR, "it said:\n{}", cluster.nodes[2].stderr());
    let said = cluster.nodes[2].stderr();
    for part in ["refuses this start", "but had told that group", "replace the node as a new one"] {
        assert!(said.contains(part), "n3 doesn't say {part:?}:\n{said}");
    }
    assert!((0..2).any(|node| cluster.nodes[node].stderr().contains("but had told that group")), "nobody refused it");
    // However often it is started.
    for _ in 0..2 {
        cluster.nodes[2].start();
        assert_eq!(cluster.nodes[2].wait_end(), NEEDS_OPERATOR, "it said:\n{}", cluster.nodes[2].stderr());
    }
    let said = cluster.nodes[2].stderr();
    assert!(said.contains("doesn't come from the start of it that is known here"), "n3 says something else:\n{said}");
    for topic in [BEFORE, AFTER] {
        input.assert_exact("what the leaders give", &cluster.consume(topic, None));
    }

    std::fs::rename(&dir, &taken).expect("moved away");
    std::fs::rename(&kept, &dir).expect("as the node left it");
    cluster.restart(2);
    cluster.wait_healthy();
    for topic in [BEFORE, AFTER] {
        cluster.wait_in_sync(topic);
        input.assert_exact("what n3 gives", &cluster.consume(topic, Some("n3")));
    }
    cluster.finish();
}
