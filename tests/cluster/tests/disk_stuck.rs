//! A disk that doesn't answer, or answers with an error, by faults that strace injects into the syncs of a node's journal.

use dlog_cluster_tests::trace::Tracer;
use dlog_cluster_tests::{Cluster, Turn, scrape, skip, wait};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

const TOPIC: &str = "stuck";
/// Longer than any test takes: it ends when strace lets go.
const FOR_EVER: &str = "delay_enter=3600000000";

fn journal(data_dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data_dir.join("shard-0/journal")).expect("a journal");
    files.map(|file| file.expect("an entry").path()).collect()
}

/// Does something to the journal's syncs of a node; `None`, said loudly, where that isn't possible.
fn inject(cluster: &mut Cluster, node: usize, turn: &Turn, fault: &str) -> Option<Tracer> {
    let files = journal(cluster.data_dir(node));
    let pid = cluster.nodes[node].process().pid();
    match Tracer::inject(pid, &turn.dir().join("injected.trace"), &files, fault) {
        Ok(tracer) => Some(tracer),
        Err(why) => {
            skip("disk_stuck", &why);
            None
        }
    }
}

#[test]
fn of_a_leader_moves_leadership_and_comes_back() {
    let turn = Turn::take("disk-stuck");
    let mut cluster = Cluster::start_with(&turn, 3, &["--disk-stuck-after", "1s", "--disk-exit-after", "1h"]);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    cluster.dlog(["produce", TOPIC]).stdin("before\n").ok();
    let name = cluster.leader_of(TOPIC, 0);
    let leader = cluster.index_of(&name);
    let Some(tracer) = inject(&mut cluster, leader, &turn, FOR_EVER) else { return cluster.finish() };
    // The leader's own sync isn't waited for.
    cluster.dlog(["produce", TOPIC, "--timeout", "60s"]).stdin("meanwhile\n").ok();
    let other = wait::until("another leads", wait::LONG, || Some(cluster.leader_of(TOPIC, 0)).filter(|n| *n != name));
    cluster.dlog(["produce", TOPIC, "--timeout", "60s"]).stdin("later\n").ok();
    wait::until_ok("health names the stuck disk", wait::LONG, || {
        let ran = cluster.dlog(["cluster", "health"]).run();
        let said = ran.text().contains("disk_stuck") && ran.text().contains(&name);
        if said && ran.code == Some(10) { Ok(()) } else { Err(ran.to_string()) }
    });
    let ready = scrape::get(cluster.nodes[leader].options().ops, "/readyz", "*/*").expect("it answers");
    assert!(ready.status == 503 && ready.body.contains("doesn't answer"), "{ready:?}");
    assert_ne!(other, name);

    drop(tracer);
    cluster.wait_healthy();
    assert_eq!(cluster.dlog(["consume", TOPIC, "--node", &name]).ok().text(), "before\nmeanwhile\nlater\n");
    cluster.finish();
}

#[test]
fn for_too_long_ends_the_process() {
    let turn = Turn::take("disk-hopeless");
    let flags = ["--disk-stuck-after", "500ms", "--disk-exit-after", "2s"];
    let mut cluster = Cluster::start_with(&turn, 1, &flags);
    cluster.create_topic(TOPIC, 1, &[]);
    cluster.dlog(["produce", TOPIC]).stdin("before\n").ok();
    let Some(tracer) = inject(&mut cluster, 0, &turn, FOR_EVER) else { return cluster.finish() };
    cluster.dlog(["produce", TOPIC, "--timeout", "2s"]).stdin("never\n").run().expect_codes(&[1, 3]);
    wait::until_ok("it gives up", wait::LONG, || {
        let said = cluster.nodes[0].stderr();
        if said.contains("hasn't answered a write") { Ok(()) } else { Err(said) }
    });
    // Who is traced is gone only once its tracer has seen so.
    drop(tracer);
    assert_eq!(cluster.nodes[0].wait_end(), 1, "{}", cluster.nodes[0].stderr());
    cluster.restart(0);
    let back = cluster.dlog(["consume", TOPIC]).ok();
    assert!(back.text().starts_with("before\n"), "{back}");
    cluster.finish();
}

#[test]
fn that_fails_a_sync_aborts_the_process_at_once() {
    let turn = Turn::take("disk-sync-error");
    let mut cluster = Cluster::start(&turn, 1);
    cluster.create_topic(TOPIC, 1, &[]);
    cluster.dlog(["produce", TOPIC]).stdin("before\n").ok();
    let Some(tracer) = inject(&mut cluster, 0, &turn, "error=EIO") else { return cluster.finish() };
    // It may be durable, and was not acked.
    cluster.dlog(["produce", TOPIC, "--timeout", "5s"]).stdin("doubtful\n").run().expect_codes(&[1, 3]);
    let status = cluster.nodes[0].wait_status();
    assert_eq!(status.signal(), Some(6), "aborted: {status}");
    let said = cluster.nodes[0].stderr();
    assert!(said.contains("fatal: shard 0's disk: sync of shard-0/journal/"), "{said}");
    assert!(said.contains("the process must end now"), "{said}");
    drop(tracer);
    cluster.restart(0);
    let back = cluster.dlog(["consume", TOPIC]).ok();
    assert!(["before\n", "before\ndoubtful\n"].contains(&back.text()), "{back}");
    cluster.finish();
}
