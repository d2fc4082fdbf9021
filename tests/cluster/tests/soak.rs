//! An hour in the life of a cluster: produce, consume, follow, topics that come and go, while a random node is killed or
//! stopped every 20 seconds. Nothing lost, doubled or reordered, no error to a caller; memory, file handles and disk flat.
//!
//! `make soak` runs it; `DLOG_SOAK_SECONDS` says for how long. The short form is part of `make test`.

mod flat;
mod load;

use dlog_cluster_tests::history::{self, History, Verdict};
use dlog_cluster_tests::{Cluster, Random, Turn, short_or_full};
use flat::Samples;
use load::{Load, PARTITIONS, TOPIC, WRITERS};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A line of figures at least so often.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// The greatest time for which a node stays down.
const DOWN_MS_MAX: usize = 1500;

fn duration() -> Duration {
    let given = std::env::var("DLOG_SOAK_SECONDS").ok();
    let given = given.map(|text| text.parse().unwrap_or_else(|_| panic!("DLOG_SOAK_SECONDS is {text:?}")));
    Duration::from_secs(given.unwrap_or_else(|| short_or_full(40, 600)))
}

/// Ends one node, in good order or not, and starts it again.
fn restart_one(cluster: &mut Cluster, random: &mut Random) -> String {
    let node = random.below(cluster.nodes.len());
    let name = cluster.nodes[node].name().to_string();
    let how = if random.below(2) == 0 {
        cluster.nodes[node].kill();
        "kill -9"
    } else {
        let code = cluster.nodes[node].terminate();
        assert_eq!(code, 0, "{name} ended on SIGTERM with {code}; it said:\n{}", cluster.nodes[node].stderr());
        "SIGTERM"
    };
    std::thread::sleep(Duration::from_millis(random.below(DOWN_MS_MAX) as u64));
    cluster.restart(node);
    // One at a time: the next may go once this one holds everything again.
    cluster.wait_in_sync(TOPIC);
    format!("{how} of {name}")
}

fn tell(began: Instant, restarts: usize, last: &str, load: &Load, samples: &Samples) {
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
    eprintln!(
        "soak {:>5}s: {restarts} restarts (last: {last}), {} acked, {} followed, {} tails, {} topics came and went, {} \
         errors; {samples}",
        began.elapsed().as_secs(),
        count(&load.acked),
        count(&load.followed),
        count(&load.tails),
        count(&load.churned),
        load.errors().len(),
    );
}

/// Restarts nodes until the time is up. Returns how many restarts there were.
fn torment(cluster: &mut Cluster, random: &mut Random, load: &Load, samples: &mut Samples) -> usize {
    let interval = short_or_full(Duration::from_secs(4), Duration::from_secs(20));
    let (began, duration) = (Instant::now(), duration());
    let (mut restarts, mut told) = (0, began);
    while began.elapsed() < duration {
        let turn = Instant::now();
        let last = restart_one(cluster, random);
        restarts += 1;
        std::thread::sleep(interval.saturating_sub(turn.elapsed()));
        samples.take(cluster, load.notes_bytes());
        if told.elapsed() >= TELL_EVERY || began.elapsed() >= duration {
            told = Instant::now();
            tell(began, restarts, &last, load, samples);
        }
    }
    restarts
}

/// Keeps what the checker saw, for whoever looks into a failure.
fn save(dir: &Path, verdict: &Verdict, history: &History, errors: &[String]) {
    let mut text = String::new();
    errors.iter().for_each(|error| text.push_str(&format!("error {error}\n")));
    verdict.anomalies.iter().for_each(|anomaly| text.push_str(&format!("anomaly {anomaly:?}\n")));
    history.writes.iter().for_each(|write| text.push_str(&format!("{write:?}\n")));
    for reading in &history.readings {
        let _ = write!(text, "reading {} of {}:", reading.reader, reading.partition);
        reading.records.iter().for_each(|(offset, value)| text.push_str(&format!(" {offset}={value:?}")));
        text.push('\n');
    }
    let path = dir.join("history.txt");
    match std::fs::write(&path, text) {
        Ok(()) => eprintln!("soak: what was seen stands in {}", path.display()),
        Err(error) => eprintln!("soak: can't keep what was seen in {}: {error}", path.display()),
    }
}

#[test]
fn restarts_lose_double_and_reorder_nothing_and_everything_stays_flat() {
    let mut turn = Turn::take("soak");
    turn.keep_if_failed();
    let mut random = Random::new("soak");
    let mut cluster = Cluster::start(&turn, 3);
    let retention = format!("retention.bytes={}", flat::RETENTION_BYTES);
    let segment = format!("segment.bytes={}", flat::SEGMENT_BYTES);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3", "--config", &retention, "--config", &segment]);

    let load: &'static Load = Box::leak(Box::new(Load::new(&cluster.servers())));
    let names = cluster.nodes.iter().map(|node| node.name().to_string()).collect();
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(load::run(load, names));
    });
    let mut samples = Samples::default();
    let began = Instant::now();
    let restarts = torment(&mut cluster, &mut random, load, &mut samples);
    load.stop_writers();
    cluster.wait_healthy();
    loading.join().expect("the load doesn't panic");
    samples.take(&mut cluster, load.notes_bytes());
    tell(began, restarts, "none", load, &samples);

    let (writes, readings) = load.take_history();
    let history = History { writes, readings };
    let verdict = history::check(&history);
    let errors = load.errors();
    eprintln!(
        "soak: {WRITERS} writers, {} writes (acked, rejected, unknown: {:?}), {} readings of {} records, {} anomalies",
        history.writes.len(),
        verdict.told,
        history.readings.len(),
        verdict.read,
        verdict.anomalies.len(),
    );
    if !verdict.anomalies.is_empty() || !errors.is_empty() {
        save(turn.dir(), &verdict, &history, &errors);
    }
    let few = &verdict.anomalies[..verdict.anomalies.len().min(20)];
    assert!(few.is_empty(), "{} anomalies, among them {few:#?}", verdict.anomalies.len());
    assert!(errors.is_empty(), "callers were told of {} errors: {:#?}", errors.len(), &errors[..errors.len().min(20)]);
    assert!(restarts >= 3 && verdict.told[0] > 1000, "{restarts} restarts, {} acked: too little", verdict.told[0]);
    assert!(load.churned.load(Ordering::Relaxed) > 3 && load.tails.load(Ordering::Relaxed) > 3, "too few rounds");
    samples.assert_flat();
    flat::assert_disks(&cluster);
    cluster.finish();
}
