//! The short run: every target's corpus, and some thousand mutations of it. `DLOG_FUZZ_RUNS` multiplies the number of inputs,
//! `DLOG_FUZZ_SEED` draws others.

use dlog_fuzz::corpus::{self, MEMBER_BYTES_MAX};
use dlog_fuzz::{TARGETS, bound, random, replay, targets};

fn number(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn short_run(name: &str) {
    let target = targets::named(name).expect("a target");
    let members = corpus::load(target).expect("each target has a corpus; make fuzz-corpus");
    let _turn = bound::turn();
    replay(target, &members).unwrap_or_else(|failure| panic!("{failure}"));
    let runs = target.runs * number("DLOG_FUZZ_RUNS", 1) as u32;
    let report =
        random(target, &members, number("DLOG_FUZZ_SEED", 1), runs).unwrap_or_else(|failure| panic!("{failure}"));
    // Else the mutations never get past the outermost check.
    assert!(report.taken > 0, "none of {} inputs was taken", report.inputs);
    assert!(report.taken < report.inputs, "each of {} inputs was taken", report.inputs);
}

macro_rules! short_runs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short_run(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_test_and_a_corpus_of_small_files() {
            let tested = [$(stringify!($name)),*];
            let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested.to_vec(), targets);
            for target in TARGETS {
                let members = corpus::load(target).expect("a corpus");
                assert!(members.iter().any(corpus::Member::is_seed), "{} has no seed", target.name);
                for member in members {
                    assert!(member.bytes.len() <= MEMBER_BYTES_MAX, "{}/{} is too long", target.name, member.name);
                }
            }
        }
    };
}

short_runs! {
    varint
    codec
    batch
    frame
    identity
    boots
    manifest
    producers_file
    checkpoint
    index
    segment
    journal_table
    journal_file
    directory
    command
    state
    outcome
    settings
    payloads
    message
    requests
    answer
}
