//! Where each way to do it wrong must be found, and by how many seeds: with room to spare, since any change of what a seed draws
//! moves it.

use super::Place;
use crate::Broken;
use crate::options::Shape;
#[cfg(feature = "mutants")]
use crate::scenes::Scene;
#[cfg(feature = "mutants")]
use dlog_core::mutants::Mutant;

/// The runs that find it, and how many must do. `None` of what is not wrong.
pub fn bound(broken: Broken) -> Option<(Place, u64)> {
    let mixed = Place::Cluster(Shape::Mixed);
    match broken {
        Broken::No => None,
        Broken::NoSync => Some((Place::Cluster(Shape::PowerLoss), 5)),
        Broken::SyncLater => Some((mixed, 40)),
        Broken::VotesForgotten | Broken::UncommittedRead | Broken::RetryWithoutSequence => Some((mixed, 30)),
        #[cfg(feature = "mutants")]
        Broken::Production(mutant) => Some(bound_of_mutant(mutant)),
    }
}

#[cfg(feature = "mutants")]
fn bound_of_mutant(mutant: Mutant) -> (Place, u64) {
    let [mixed, splits, bad_disks, asked, moves] =
        [Shape::Mixed, Shape::Splits, Shape::BadDisks, Shape::Asked, Shape::Moves].map(Place::Cluster);
    let [decay, lone_voter] = [Scene::Decay, Scene::LoneVoter].map(Place::Scene);
    match mutant {
        Mutant::AnswerBeforeSync | Mutant::VoteBeforeSync | Mutant::MustSyncIgnored => (mixed, 60),
        Mutant::OwnCopyBeforeSync => (bad_disks, 60),
        Mutant::LeadsBeforeTerm => (lone_voter, 60),
        Mutant::AckedOnLeader => (mixed, 30),
        Mutant::DuplicateAckedAtOnce => (splits, 40),
        Mutant::OverlayKept => (asked, 200),
        Mutant::NoOverlay | Mutant::EarlyProducers | Mutant::SequenceUnchecked => (mixed, 30),
        Mutant::ProducersNotRebuilt => (mixed, 30),
        Mutant::SnapshotWithoutProducers => (mixed, 40),
        Mutant::SnapshotOfPlace => (mixed, 120),
        Mutant::StateOfApplied => (mixed, 150),
        Mutant::ReadPastWritten | Mutant::ReadUncommitted => (mixed, 40),
        Mutant::ReadContextReused => (asked, 20),
        Mutant::EndWithoutReadIndex | Mutant::LeaseRead => (asked, 250),
        Mutant::LearnerCounted => (moves, 250),
        Mutant::UsedIdStartedEmpty => (moves, 200),
        Mutant::ChangesBelowState | Mutant::DeletedOnIntent | Mutant::CommitNotCarried => (moves, 60),
        Mutant::ChangeInFlight | Mutant::LateConfirmation => (moves, 40),
        Mutant::NewcomersNotAwaited => (moves, 200),
        Mutant::CutTooFar => (splits, 20),
        Mutant::StaleBootAccepted | Mutant::BelowToldAccepted => (Place::Scenario("wiped_node"), 1),
        Mutant::LeavesWithoutHandover => (Place::Scenario("leader_leaves"), 1),
        Mutant::GroupUnsynced => (Place::Cluster(Shape::PowerLoss), 5),
        Mutant::CutBeforeGroup => (splits, 600),
        Mutant::RecycledBeforeCheckpoint => (mixed, 250),
        Mutant::CheckpointBeforeSegments | Mutant::DirectoryUnsynced => (mixed, 30),
        Mutant::EqualBytesSkipped => (bad_disks, 150),
        Mutant::UnprovedGroupDropped => (mixed, 20),
        Mutant::RecycledTooSoon | Mutant::BadGroupDropped => (decay, 400),
        Mutant::NoSeal => (decay, 600),
    }
}
