//! Mutants: ways to do it wrong on purpose, one for each thing that must be right, to show that the tests notice.
//!
//! Where production does the right thing, a line asks [`is`] whether it is to be done wrong. Without the feature `mutants`, which
//! nothing but the mutation gate and storage's own tests switch on, the answer is a constant `false`: no build for use has a switch, or knows a mutant's
//! name. With the feature the answer is what was chosen for this thread (`choose`): a simulated run is one thread, and several
//! runs go on at once.

/// Whether this build can be told to do it wrong.
pub const ARE_HERE: bool = cfg!(feature = "mutants");

/// Declares the mutants, so that none lacks its name and its sentence.
macro_rules! mutants {
    ($($mutant:ident $name:literal $wrong:literal)*) => {
        /// What is done wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $(#[doc = $wrong] $mutant,)*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),*];

            /// The name on a command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)*
                }
            }

            /// What is wrong, in a sentence.
            pub const fn wrong(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $wrong,)*
                }
            }
        }
    };
}

mutants! {
    // What leaves before it is durable.
    AnswerBeforeSync "answer-before-sync" "A follower acknowledges entries before they are durable."
    OwnCopyBeforeSync "own-copy-before-sync" "A leader counts its own copy before it is durable."
    VoteBeforeSync "vote-before-sync" "A vote is told before it is durable."
    LeadsBeforeTerm "leads-before-term" "A leader's messages leave before its term is durable."
    MustSyncIgnored "must-sync-ignored" "A group without frames (terms and votes) is written, but not synced."

    // Acks.
    AckedOnLeader "acked-on-leader" "An entry is acked when the leader alone has it."
    DuplicateAckedAtOnce "duplicate-acked-at-once" "A retry of a batch in flight is acked before the batch is committed."

    // Producers.
    NoOverlay "no-overlay" "A leader looks for retries only among applied batches, not among those in flight."
    OverlayKept "overlay-kept" "What was in flight when leadership was lost counts as appended when it comes back."
    EarlyProducers "early-producers" "A leader takes producers' batches before it has applied what its predecessors left."
    SequenceUnchecked "sequence-unchecked" "A batch is appended whatever its sequence."
    ProducersNotRebuilt "producers-not-rebuilt" "A start takes the table of producers from its file, and doesn't replay what came after it."
    SnapshotWithoutProducers "snapshot-without-producers" "A snapshot carries no producers."
    SnapshotOfPlace "snapshot-of-place" "A snapshot's state is said to be as of its place, not of the entry that it is as of."
    StateOfApplied "state-of-applied" "Snapshots and tables are as of what is applied, though the sender's own state may be newer, of a snapshot."

    // Reads.
    ReadPastWritten "read-past-written" "Readers are let up to the high watermark, written here or not."
    ReadUncommitted "read-uncommitted" "Readers are let up to what is written here, committed or not."
    ReadContextReused "read-context-reused" "All reads of a replica ask the leader in the same words, so that an old answer does for a new read."
    EndWithoutReadIndex "end-without-read-index" "A leader says where the log ends without asking a majority."
    LeaseRead "lease-read" "A leader answers reads for as long as it takes itself for one."

    // Membership.
    LearnerCounted "learner-counted" "What learners hold counts for acks as if they voted."
    ChangesBelowState "changes-below-state" "Changes of membership are applied once more by who has them already, from a snapshot or a start."
    NewcomersNotAwaited "newcomers-not-awaited" "The joint state is entered before those who are to vote have the log."
    ChangeInFlight "change-in-flight" "A change of membership is proposed while another is in flight."
    LeavesWithoutHandover "leaves-without-handover" "A leader that will have no vote leaves the joint state itself, and hands nothing over."
    LateConfirmation "late-confirmation" "The catalogue takes a confirmation for the newest intent, whichever it was made for."
    DeletedOnIntent "deleted-on-intent" "A replica is deleted as soon as it is no longer intended, before its log goes without it."
    UsedIdStartedEmpty "used-id-started-empty" "A checkpoint forgets which replicas were deleted, so that their ids can be started empty."
    StaleBootAccepted "stale-boot-accepted" "A node is believed with an earlier start of its directory than was seen."
    BelowToldAccepted "below-told-accepted" "A node is believed with a new start that recovered less than the node had told."

    // Commit.
    CommitNotCarried "commit-not-carried" "The commit index doesn't go with a replica's records."
    CutTooFar "cut-too-far" "A cut takes the frame before it, too, which may be committed."

    // Storage.
    GroupUnsynced "group-unsynced" "A group is written, but not synced, whatever is in it."
    CutBeforeGroup "cut-before-group" "A cut takes segments before the group that says so is durable."
    RecycledBeforeCheckpoint "recycled-before-checkpoint" "A file of the journal is used again as soon as it is full, before the checkpoint that does without it."
    RecycledTooSoon "recycled-too-soon" "Files of the journal are used again when one checkpoint does without them, not both."
    CheckpointBeforeSegments "checkpoint-before-segments" "A checkpoint names segments that aren't synced."
    DirectoryUnsynced "directory-unsynced" "A new segment's bytes are synced, its name isn't."
    EqualBytesSkipped "equal-bytes-skipped" "Recovery doesn't write what it can read: after a failed sync that is gone with the power."
    UnprovedGroupDropped "unproved-group-dropped" "Recovery takes a whole group for torn if nothing follows it."
    BadGroupDropped "bad-group-dropped" "Recovery takes any damaged group for torn, and drops all that follows."
    NoSeal "no-seal" "Nothing proves that the last sync returned."
}

/// Whether this is to be done wrong: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(!is(Mutant::AnswerBeforeSync), "a build for use is right at compile time already");

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this is to be done wrong, on this thread.
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// From now on this thread does this wrong, and nothing else.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{choose, is};

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_does_one_thing_wrong() {
        assert!(ARE_HERE && Mutant::ALL.iter().all(|mutant| !is(*mutant)));
        choose(Some(Mutant::NoSeal));
        let wrong: Vec<Mutant> = Mutant::ALL.iter().copied().filter(|mutant| is(*mutant)).collect();
        assert_eq!(wrong, [Mutant::NoSeal]);
        choose(None);
        assert!(!is(Mutant::NoSeal));
    }

    #[test]
    fn names_differ_and_sentences_end() {
        let mut names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Mutant::ALL.len());
        assert!(Mutant::ALL.iter().all(|mutant| mutant.wrong().ends_with('.')));
    }
}
