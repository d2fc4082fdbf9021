//! Tests of the log state's encoding.

use super::*;
use crate::testing::point;
use proptest::prelude::*;

fn sample() -> LogState {
    let segment = |start, generation, last, ended| SegmentState {
        start,
        generation,
        bytes: 500,
        last,
        greatest_time: TimestampMs(77),
        ended,
    };
    let (start, middle, last) = (point(4, 1, 10, 5), point(6, 2, 12, 6), point(9, 3, 20, 7));
    let term = |term, index, offset| TermStart { term: Term(term), index: LogIndex(index), offset: Offset(offset) };
    LogState {
        local_start: start,
        log_start: Offset(11),
        last,
        next_generation: 9,
        segments: vec![segment(start, 1, middle, true), segment(middle, 8, last, false)],
        term_starts: vec![term(2, 5, 10), term(3, 7, 12)],
    }
}

/// The bytes of version 1: a change here breaks every checkpoint.
#[test]
fn golden_bytes() {
    let state = LogState { segments: sample().segments[..1].to_vec(), last: point(6, 2, 12, 6), ..sample() };
    let state = LogState { term_starts: state.term_starts[..1].to_vec(), ..state };
    let mut bytes = Vec::new();
    state.encode_into(&mut bytes);
    let start = "040000000000000001000000000000000a0000000000000005000000";
    let last = "060000000000000002000000000000000c0000000000000006000000";
    let expected = [
        "0100",
        start,
        "0b00000000000000",
        last,
        "0900000000000000",
        "01000000",
        start,
        "0100000000000000",
        "f401000000000000",
        last,
        "4d00000000000000",
        "01",
        "01000000",
        "020000000000000005000000000000000a00000000000000",
    ]
    .concat();
    assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
}

#[test]
fn states_stand_one_behind_the_other() {
    let (first, second) = (sample(), LogState::empty(point(1, 1, 1, 1)));
    let mut bytes = Vec::new();
    first.encode_into(&mut bytes);
    second.encode_into(&mut bytes);
    let mut rest = &bytes[..];
    assert_eq!(LogState::decode(&mut rest), Ok(first));
    assert_eq!(LogState::decode(&mut rest), Ok(second));
    assert!(rest.is_empty());
}

#[test]
fn terms_are_known_from_the_local_start_to_the_end() {
    let state = sample();
    let terms: Vec<Option<u64>> = (3..=10).map(|index| state.term_at(LogIndex(index)).map(|term| term.0)).collect();
    assert_eq!(terms, [None, Some(1), Some(2), Some(2), Some(3), Some(3), Some(3), None]);
}

#[test]
fn a_contradiction_is_found() {
    let spoilers: [fn(&mut LogState); 8] = [
        |state| state.last = point(1, 1, 1, 1),
        |state| state.local_start.crc += 1,
        |state| state.segments[1].start.index = LogIndex(7),
        |state| state.segments[0].ended = false,
        |state| state.segments[1].generation = 9,
        |state| state.term_starts[1].term = Term(2),
        |state| state.term_starts[1].index = LogIndex(10),
        |state| state.term_starts.truncate(0),
    ];
    sample().check().expect("sound");
    for (number, spoil) in spoilers.iter().enumerate() {
        let mut state = sample();
        spoil(&mut state);
        assert!(state.check().is_err(), "spoiler {number}");
    }
}

#[test]
fn trimmed_to_whole_segments_it_is_sound() {
    for from in 0..=11 {
        let mut state = sample();
        state.trim(LogIndex(from));
        state.check().expect("sound");
        let expected = match from {
            0..=5 => 4,
            6..=7 => 6,
            _ => 9,
        };
        assert_eq!(state.last.index, LogIndex(expected), "cut at {from}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = LogState::decode(&mut &bytes[..]);
        let _ = LogState::decode(&mut &[&[1, 0], &bytes[..]].concat()[..]);
    }

    #[test]
    fn shortened_bytes_are_refused(at in any::<proptest::sample::Index>()) {
        let mut bytes = Vec::new();
        sample().encode_into(&mut bytes);
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(LogState::decode(&mut &bytes[..]).is_err());
    }
}
