//! `dlog consume --on-gap` where retention took the beginning: an error by default, never a silent jump.

use dlog_cluster_tests::{Cluster, Input, Turn, wait};

const TOPIC: &str = "gap";

/// Log start and high watermark of the one partition.
fn marks(cluster: &Cluster) -> (u64, u64) {
    let offsets = cluster.dlog(["offsets", TOPIC, "-o", "json"]).ok().json();
    let number = |key: &str| offsets[0][key].as_u64().expect("a number");
    (number("log_start"), number("high_watermark"))
}

#[test]
fn is_an_error_unless_a_jump_was_asked_for_and_is_told() {
    let turn = Turn::take("consume-gap");
    let cluster = Cluster::start(&turn, 3);
    let settings = ["--config", "segment.bytes=131072", "--config", "retention.bytes=524288"];
    cluster.create_topic(TOPIC, 1, &settings);
    let input = Input::sample();
    cluster.dlog(["produce", TOPIC, "-"]).stdin(input.bytes()).ok();
    let (start, end) = wait::until("retention has taken the beginning", wait::LONG, || {
        Some(marks(&cluster)).filter(|(start, _)| *start > 0)
    });
    assert_eq!(end, input.len() as u64);
    let beyond = (end + 1000).to_string();
    let consume =
        |from: &str, flags: &[&str]| cluster.dlog(["consume", TOPIC, "--from", from, "-f", "%o\\n"]).args(flags).run();
    let offsets = |from: &str, flags: &[&str]| -> Vec<u64> {
        let ran = consume(from, flags).expect_code(0);
        assert!(ran.stderr.contains("warning: ") && ran.stderr.contains(from), "a jump is told: {ran}");
        ran.text().lines().map(|line| line.parse().expect("an offset")).collect()
    };
    for from in ["0", &beyond] {
        for flags in [&[][..], &["--on-gap", "fail"], &["--follow"], &["--node", "n2"]] {
            let ran = consume(from, flags).expect_code(1).expect_says(&["offset_out_of_range", "next: `dlog offsets"]);
            assert!(ran.stdout.is_empty() && ran.stderr.contains(from), "{ran}");
        }
        for flags in
            [&["--on-gap", "earliest"][..], &["--on-gap", "earliest", "--node", "n2", "--read", "linearizable"]]
        {
            let kept = offsets(from, flags);
            // Retention may go on meanwhile, but never back.
            let first = kept[0];
            assert!(first >= start && kept == (first..end).collect::<Vec<u64>>(), "{from} {flags:?}: {first} to {end}");
        }
        assert_eq!(offsets(from, &["--on-gap", "latest"]), Vec::<u64>::new(), "from {from}");
    }
    let none = consume(&(end - 1).to_string(), &["--on-gap", "latest"]).expect_code(0);
    assert!(none.stderr.is_empty() && none.text().lines().count() == 1, "no gap, no jump: {none}");
    cluster.finish();
}
