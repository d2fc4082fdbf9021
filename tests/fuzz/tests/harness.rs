//! The fuzz tests' own promises: what breaks is found, cut down and told, and a seed means the same run.

use dlog_fuzz::corpus::Member;
use dlog_fuzz::target::{Mend, Target};
use dlog_fuzz::{bound, random, replay};

const TARGET: Target =
    Target { name: "own", seeds: || Vec::new(), mend: Mend::Nothing, check: |_| true, memory: 1 << 20, runs: 1 };

fn members(bytes: &[u8]) -> [Member; 1] {
    [Member { name: "seed-00".to_string(), bytes: bytes.to_vec() }]
}

#[test]
fn a_panic_is_found_and_told_with_its_place() {
    let target = Target { check: |input| !input.contains(&0xee) || panic!("0xee"), ..TARGET };
    let _turn = bound::turn();
    let failure = random(&target, &members(&[0; 20]), 1, 5000).expect_err("some input has this byte");
    assert!(failure.input.contains(&0xee), "{failure}");
    assert!(failure.reason.contains("0xee") && failure.reason.contains("harness.rs"), "{failure}");
    let again = replay(&target, &members(&failure.input)).expect_err("it is kept and tried again");
    assert_eq!((again.input, again.target), (failure.input, "own"));
}

#[test]
fn a_length_that_takes_memory_is_found() {
    let reserve = |input: &[u8]| {
        let length = input.first().map_or(0, |byte| usize::from(*byte) << 16);
        Vec::<u8>::with_capacity(length).capacity() >= length
    };
    let target = Target { check: reserve, ..TARGET };
    let _turn = bound::turn();
    replay(&target, &members(&[15, 0])).expect("less than a mebibyte");
    let failure = replay(&target, &members(&[17, 0])).expect_err("more");
    assert!(failure.reason.contains("allocated at once"), "{failure}");
}

#[test]
fn a_checksum_is_mended_before_the_check() {
    let mend = |input: &mut [u8]| {
        if let Some((first, rest)) = input.split_first_mut() {
            *first = rest.iter().fold(0, |sum, byte| sum ^ byte);
        }
    };
    let check = |input: &[u8]| input.len() > 1 && input.iter().fold(0, |sum, byte| sum ^ byte) == 0;
    let target = Target { mend: Mend::InPlace(mend), check, ..TARGET };
    let _turn = bound::turn();
    let report = random(&target, &members(&[3, 1, 2]), 1, 400).expect("nothing breaks");
    assert!(report.taken * 2 > report.inputs, "three of four are mended: {report:?}");
}

#[test]
fn a_seed_that_is_no_longer_valid_is_told() {
    let target = Target { check: |_| false, ..TARGET };
    let _turn = bound::turn();
    let failure = replay(&target, &members(b"x")).expect_err("not taken");
    assert!(failure.reason.contains("no longer valid"), "{failure}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let target = Target { check: |input| crc32c::crc32c(input) & 1 == 0, ..TARGET };
    let _turn = bound::turn();
    let run = |seed| random(&target, &members(b"some bytes"), seed, 500).expect("nothing breaks");
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2), "half of the inputs are taken: two seeds take another number of them");
}
