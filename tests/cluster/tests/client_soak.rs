//! The client library under restarts: keyed writes with little room in flight, followers (one that prefers a rack) and
//! linearizable reads from every node, while nodes end by SIGTERM and by `kill -9` in turn. Nobody is told of an error, each
//! record comes once and in order, and the process of the clients stays as small as it was.

mod load;

use dlog_cluster_tests::history::{self, History};
use dlog_cluster_tests::usage::{self, Memory};
use dlog_cluster_tests::{Cluster, Turn, short_or_full, wait};
use load::{Load, PARTITIONS, TOPIC};
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;
/// How much the clients' process may grow beyond half as much again.
const RESIDENT_SLACK: u64 = 32 * MIB;
/// File handles of connections that are being replaced.
const HANDLES_SLACK: u64 = 32;
/// Restarts after which what is used from the first time on is there: connections, buffers, the allocator's pools.
const WARM: usize = 2;

/// What this process uses, without what the test itself notes.
fn own(load: &Load) -> (u64, u64) {
    let pid = std::process::id();
    (Memory::of(pid).resident.saturating_sub(load.notes_bytes()), usage::open_files(pid))
}

/// Waits until writers, followers and linearizable readers all got on.
fn wait_for_progress(load: &Load) {
    let look = || [&load.acked, &load.followed, &load.linearizable].map(|count| count.load(Ordering::Relaxed));
    let before = look();
    let further = [500, 500, 3];
    wait::until_ok("writers and readers go on", wait::LONG, || {
        let now = look();
        match (0..3).all(|at| now[at] >= before[at] + further[at]) {
            true => Ok(()),
            false => Err(format!("acked, followed, linearizable reads: {before:?}, then {now:?}; {:?}", load.errors())),
        }
    });
}

#[test]
fn restarts_are_not_seen_by_the_clients_callers() {
    let turn = Turn::take("client-soak");
    let racks = [&["--rack", "r1"][..], &["--rack", "r2"], &["--rack", "r3"]];
    let mut cluster = Cluster::start_each(turn.dir(), &racks);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);
    let load: &'static Load = Box::leak(Box::new(Load::new(&cluster.servers())));
    let names = cluster.nodes.iter().map(|node| node.name().to_string()).collect();
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(load::run(load, names));
    });
    wait_for_progress(load);

    let (mut warm, mut used) = ((0, 0), (0, 0));
    for restart in 0..short_or_full(6, 90) {
        let node = restart % cluster.nodes.len();
        let name = cluster.nodes[node].name().to_string();
        let how = if restart % 2 == 0 {
            let code = cluster.nodes[node].terminate();
            assert_eq!(code, 0, "{name} ended on SIGTERM with {code}; it said:\n{}", cluster.nodes[node].stderr());
            "SIGTERM"
        } else {
            cluster.nodes[node].kill();
            "kill -9"
        };
        // While it is away the others carry everything.
        wait::until("writes go on without it", wait::LONG, {
            let before = load.acked.load(Ordering::Relaxed);
            move || (load.acked.load(Ordering::Relaxed) > before + 100).then_some(())
        });
        cluster.restart(node);
        cluster.wait_in_sync(TOPIC);
        wait_for_progress(load);
        used = own(load);
        if restart < WARM {
            warm = (used.0.max(warm.0), used.1.max(warm.1));
        }
        eprintln!(
            "client soak: {how} of {name}; {} acked, {} followed, {} linearizable reads, {} errors; {} MiB, {} file handles",
            load.acked.load(Ordering::Relaxed),
            load.followed.load(Ordering::Relaxed),
            load.linearizable.load(Ordering::Relaxed),
            load.errors().len(),
            used.0 / MIB,
            used.1,
        );
    }
    load.stop();
    loading.join().expect("the load doesn't panic");

    let errors = load.errors();
    assert!(errors.is_empty(), "callers were told of {} errors: {:#?}", errors.len(), &errors[..errors.len().min(20)]);
    let (writes, readings) = load.take_history();
    let verdict = history::check(&History { writes, readings });
    eprintln!("client soak: acked, rejected, unknown: {:?}; {} records read", verdict.told, verdict.read);
    assert!(
        verdict.anomalies.is_empty(),
        "{} anomalies: {:#?}",
        verdict.anomalies.len(),
        verdict.anomalies.iter().take(20)
    );
    assert!(verdict.told[0] > 1000 && verdict.told[1..] == [0, 0], "{:?}", verdict.told);
    assert!(used.0 <= warm.0 + warm.0 / 2 + RESIDENT_SLACK, "the clients' memory grew from {warm:?} to {used:?}");
    assert!(used.1 <= warm.1 + HANDLES_SLACK, "the clients' file handles grew from {warm:?} to {used:?}");
    cluster.wait_healthy();
    cluster.finish();
}
