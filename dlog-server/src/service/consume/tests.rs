//! The pure parts of a consume stream; whole streams are tested against real replicas elsewhere.

use super::*;
use dlog_core::{BatchBuilder, Codec, Record, Term, TimestampMs, batch};

fn batch_at(base: u64, records: u32) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..records {
        builder.push(&Record::new(TimestampMs(1), &b"v"[..])).expect("fits");
    }
    batch::stamp(&builder.build().expect("records"), Offset(base), Term(1), None)
}

#[test]
fn it_reads_until_the_bound_and_waits_there() {
    assert_eq!(next_step(Offset(3), None, Offset(5)), Step::Read);
    assert_eq!(next_step(Offset(5), None, Offset(5)), Step::Wait);
    // A replica that this client moved to may be behind the client.
    assert_eq!(next_step(Offset(7), None, Offset(5)), Step::Wait);
    assert_eq!(next_step(Offset(5), Some(Offset(5)), Offset(9)), Step::End);
    assert_eq!(next_step(Offset(4), Some(Offset(5)), Offset(4)), Step::Wait);
    assert_eq!(next_step(Offset(4), Some(Offset(5)), Offset(5)), Step::Read);
}

#[test]
fn batches_beyond_the_end_are_left_out() {
    let read = || BatchRead {
        batches: vec![batch_at(0, 3), batch_at(3, 3), batch_at(6, 2)],
        next: Offset(8),
        from_cache: true,
    };
    let ends: Vec<(usize, u64)> = [None, Some(9), Some(8), Some(7), Some(6), Some(4), Some(3), Some(1)]
        .into_iter()
        .map(|until| trim(read(), until.map(Offset)))
        .map(|(batches, next)| (batches.len(), next.0))
        .collect();
    assert_eq!(ends, [(3, 8), (3, 8), (3, 8), (3, 8), (2, 6), (2, 6), (1, 3), (1, 3)]);
}
