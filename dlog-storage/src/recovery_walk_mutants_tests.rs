//! Each way to do storage wrong on purpose is found by the walk or by the single faults, within so many disks.

use super::faults::faults;
use super::scripts::{self, Step};
use super::{Extent, Found, Walk, Walked};
use dlog_core::mutants::{self, Mutant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Power losses at each cut point.
    Power,
    /// A sync that fails, and a power loss behind it.
    Syncs,
    /// Single faults.
    Faults,
}

type Sequence = (&'static str, fn() -> Vec<Step>);

fn looked_at(by: By, (name, steps): Sequence) -> Result<u64, Found> {
    let steps = steps();
    // A file is missed only between two of a few steps.
    let extent = Extent { stops: u64::MAX, ..Extent::SHORT };
    let mut walk = Walk { name, steps: &steps, extent, walked: Walked::default() };
    match by {
        By::Power => walk.power()?,
        By::Syncs => walk.syncs()?,
        By::Faults => return faults(name, &steps, extent).map(|(tried, _)| tried),
    }
    Ok(walk.walked.disks)
}

/// Does it wrong, and demands that it is found within so many disks; and that as many are right where nothing is wrong.
fn is_found(mutant: Mutant, by: By, sequence: Sequence, within: u64) {
    mutants::choose(Some(mutant));
    let found = catch_unwind(AssertUnwindSafe(|| looked_at(by, sequence)));
    mutants::choose(None);
    let Found { cuts, disks, what } = match found {
        Ok(Ok(disks)) => panic!("{} is not found by {by:?} of {} on {disks} disks", mutant.name(), sequence.0),
        Ok(Err(found)) => found,
        Err(_) => panic!("{} trips over an assertion, and no start was compared", mutant.name()),
    };
    println!("{}: {by:?} of {}, at {cuts}, disk {disks} of {within}: {what}", mutant.name(), sequence.0);
    assert!(disks <= within, "{} is found on disk {disks}, not within {within}: {what}", mutant.name());
    if let Err(found) = looked_at(by, sequence) {
        panic!("nothing is wrong, and yet: {}", found.what);
    }
}

#[test]
fn no_fdatasync() {
    is_found(Mutant::GroupUnsynced, By::Power, ("appends", scripts::appends), 400);
}

#[test]
fn no_directory_sync() {
    is_found(Mutant::DirectoryUnsynced, By::Power, ("appends", scripts::appends), 1500);
}

#[test]
fn a_cut_before_its_group_is_durable() {
    is_found(Mutant::CutBeforeGroup, By::Power, ("cuts", scripts::cuts), 2000);
}

#[test]
fn recycling_before_the_checkpoint() {
    is_found(Mutant::RecycledBeforeCheckpoint, By::Power, ("recycling", scripts::recycling), 2000);
}

#[test]
fn recycling_when_one_checkpoint_does_without_a_file() {
    is_found(Mutant::RecycledTooSoon, By::Faults, ("recycling", scripts::recycling), 3000);
}

#[test]
fn dropping_all_behind_the_first_bad_checksum() {
    is_found(Mutant::BadGroupDropped, By::Faults, ("appends", scripts::appends), 300);
}

#[test]
fn equal_bytes_skipped_in_recovery() {
    is_found(Mutant::EqualBytesSkipped, By::Syncs, ("recycling", scripts::recycling), 200);
}

#[test]
fn a_checkpoint_before_its_segments() {
    is_found(Mutant::CheckpointBeforeSegments, By::Power, ("recycling", scripts::recycling), 2500);
}

#[test]
fn votes_without_a_sync() {
    is_found(Mutant::MustSyncIgnored, By::Power, ("appends", scripts::appends), 1500);
}

#[test]
fn a_whole_group_taken_for_torn() {
    is_found(Mutant::UnprovedGroupDropped, By::Power, ("appends", scripts::appends), 1500);
}

#[test]
fn no_proof_of_the_last_sync() {
    is_found(Mutant::NoSeal, By::Faults, ("appends", scripts::appends), 300);
}

#[test]
fn marks_forgotten() {
    is_found(Mutant::UsedIdStartedEmpty, By::Power, ("creations", scripts::creations), 2000);
}
