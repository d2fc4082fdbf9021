//! Seeds that must pass: short by default, in their full number with `DLOG_TEST_FULL=1`.

use dlog_sim::many::{Seeds, cores};
use dlog_sim::report::Counts;
use dlog_sim::{Broken, Report, Shape};

fn full() -> bool {
    std::env::var_os("DLOG_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Runs seeds and gives back what happened in all of them.
fn run_all(shape: Shape, short: u64, long: u64) -> Vec<Report> {
    let count = if full() { long } else { short };
    let seeds = Seeds { first: 1, count, shape: Some(shape), broken: Broken::No, threads: cores() };
    let mut reports = Vec::new();
    seeds.run(|report| {
        if report.failure.is_some() {
            let again = format!("cargo run -p dlog-sim -- --seed {} --shape {}", report.seed, shape.name());
            eprintln!("{}\n{report}\nreproduce: {again}", seeds.options(report.seed));
        }
        reports.push(report);
        true
    });
    let failed: Vec<u64> = reports.iter().filter(|report| report.failure.is_some()).map(|report| report.seed).collect();
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
    assert_eq!(reports.len() as u64, count);
    reports
}

fn sum(reports: &[Report], of: impl Fn(&Counts) -> u64) -> u64 {
    reports.iter().map(|report| of(&report.counts)).sum()
}

/// A run in which nothing happens proves nothing.
fn assert_happened(shape: &str, reports: &[Report], happened: &[(&str, u64)]) {
    println!("{} {shape} seeds: {happened:?}", reports.len());
    for (what, count) in happened {
        assert!(*count >= 10, "only {count} {what} in {} seeds", reports.len());
    }
}

#[test]
fn anything_may_break_and_nothing_acked_is_lost() {
    let reports = run_all(Shape::Mixed, 800, 10_000);
    let happened: [(&str, u64); 32] = [
        ("acks", sum(&reports, |c| c.acked)),
        ("retries that were found", sum(&reports, |c| c.duplicates)),
        ("deaths", sum(&reports, |c| c.deaths)),
        ("power losses", sum(&reports, |c| c.power_losses)),
        ("full disks", sum(&reports, |c| c.full_disks)),
        ("times without room", sum(&reports, |c| c.no_room)),
        ("times with less room told", sum(&reports, |c| c.less_room)),
        ("times with room again", sum(&reports, |c| c.room_again)),
        ("requests refused for want of room", sum(&reports, |c| c.disk_full)),
        ("ballasts given back", sum(&reports, |c| c.ballasts)),
        ("stuck disks", sum(&reports, |c| c.stuck)),
        ("ends for a stuck disk", sum(&reports, |c| c.hopeless)),
        ("jumps of wall clocks", sum(&reports, |c| c.clock_jumps)),
        ("append times that go back", sum(&reports, |c| c.stamps_back)),
        ("told ends that were read", sum(&reports, |c| c.ends_read)),
        ("orderly stops", sum(&reports, |c| c.graceful_stops)),
        ("partitions", sum(&reports, |c| c.partitions)),
        ("checkpoints", sum(&reports, |c| c.checkpoints)),
        ("cuts", sum(&reports, |c| c.cuts)),
        ("catch-up reads", sum(&reports, |c| c.catch_up_reads)),
        ("ends told", sum(&reports, |c| c.ends_told)),
        ("batches read", sum(&reports, |c| c.batches_read)),
        ("log starts moved", sum(&reports, |c| c.log_start_moves)),
        ("logs shortened", sum(&reports, |c| c.drops)),
        ("snapshots installed", sum(&reports, |c| c.installs)),
        ("readers that came too late", sum(&reports, |c| c.skips)),
        ("batches rejected for good", sum(&reports, |c| c.rejected)),
        ("commands answered", sum(&reports, |c| c.commands)),
        ("replicas deleted", sum(&reports, |c| c.deletions)),
        ("changes of members", sum(&reports, |c| c.changes)),
        ("states of group 0 installed", sum(&reports, |c| c.states_installed)),
        ("intents confirmed", sum(&reports, |c| c.confirmed)),
    ];
    assert_happened("mixed", &reports, &happened);
}

#[test]
fn lost_disks_cost_nothing_acked() {
    let reports = run_all(Shape::LostDisks, 100, 3_000);
    let happened: [(&str, u64); 9] = [
        ("acks", sum(&reports, |c| c.acked)),
        ("runs of frames lost", sum(&reports, |c| c.faults)),
        ("replicas mended", sum(&reports, |c| c.repaired)),
        ("copies taken", sum(&reports, |c| c.copies)),
        ("copies put back", sum(&reports, |c| c.restored)),
        ("disks wiped", sum(&reports, |c| c.wiped)),
        ("disks that decayed", sum(&reports, |c| c.decayed)),
        ("nodes lost", sum(&reports, |c| c.lost)),
        ("starts refused", sum(&reports, |c| c.refused_starts)),
    ];
    assert_happened("lost-disks", &reports, &happened);
    let held = sum(&reports, |c| c.starts_held);
    assert!(held >= 3, "only {held} starts waited for lost frames");
    // Damage of journals and checkpoints is found by a node at its start, and never served.
    let found = sum(&reports, |c| c.lost) - sum(&reports, |c| c.restored) - sum(&reports, |c| c.wiped);
    assert!(found >= 3, "only {found} nodes found damage that nobody mends");
}

#[test]
fn power_loss_of_all_loses_nothing_acked() {
    let reports = run_all(Shape::PowerLoss, 200, 2_000);
    let (losses, acked) = (sum(&reports, |c| c.all_power_losses), sum(&reports, |c| c.acked));
    println!("{} power-loss seeds: all lost power {losses} times, {acked} batches acked", reports.len());
    assert!(losses >= 2 * reports.len() as u64, "only {losses} power losses of all");
    assert!(acked >= 50 * reports.len() as u64, "only {acked} acks");
}
