//! Builds that do it wrong are found: without these, passing seeds would prove nothing.

use dlog_sim::many::{Seeds, cores};
use dlog_sim::{Broken, Kind, Report, Shape};

/// The failures of the first seeds of a broken variant, stopping at the `enough`-th.
fn failures(broken: Broken, shape: Shape, count: u64, enough: usize) -> Vec<Report> {
    let seeds = Seeds { first: 1, count, shape: Some(shape), broken, threads: cores() };
    let mut failed = Vec::new();
    seeds.run(|report| {
        if report.failure.is_some() {
            failed.push(report);
        }
        failed.len() < enough
    });
    failed
}

#[test]
fn a_build_without_the_sync_fails() {
    let failed = failures(Broken::NoSync, Shape::PowerLoss, 20, 20);
    assert_eq!(failed.len(), 20, "every seed with power losses finds the missing sync");
}

#[test]
fn a_build_that_syncs_in_the_background_loses_what_was_acked() {
    let failed = failures(Broken::SyncLater, Shape::PowerLoss, 40, 3);
    assert!(failed.len() >= 3, "found by {} of 40 seeds", failed.len());
    let kinds: Vec<Kind> = failed.iter().filter_map(|report| Some(report.failure.as_ref()?.kind)).collect();
    assert!(kinds.contains(&Kind::Correctness), "{kinds:?}");
}

#[test]
fn every_broken_variant_is_found() {
    for broken in Broken::SHELL {
        let failed = failures(broken, Shape::Mixed, 80, 1);
        let shown = failed.first().and_then(|report| report.failure.clone());
        println!("{broken}: {shown:?}");
        assert!(shown.is_some(), "{broken} wasn't found by 80 seeds");
    }
}
