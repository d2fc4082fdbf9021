//! What a client makes of a replica's answer: a batch, from an offset in it on.

use crate::target::{Mend, Target};
use crate::targets::batch;
use bytes::Bytes;
use dlog_client::machines::Position;
use dlog_client::partitioner::partition_for_key;
use dlog_core::limits::MIB;
use dlog_core::{BatchHeader, Offset};

pub(super) const ANSWER: Target =
    Target { name: "answer", seeds, mend: Mend::InPlace(mend), check, memory: 48 * MIB, runs: 12_000 };

/// Batches behind one byte: how far into the batch the reader is.
fn seeds() -> Vec<Vec<u8>> {
    // The first of each three has one record.
    (0u8..).zip(batch::seeds()).map(|(number, batch)| [vec![number % 3], batch].concat()).collect()
}

fn mend(input: &mut [u8]) {
    if let Some((_, batch)) = input.split_first_mut() {
        batch::mend(batch);
    }
}

fn check(input: &[u8]) -> bool {
    assert!(partition_for_key(input, 7) < 7);
    let Some((skipped, batch)) = input.split_first() else { return false };
    let Ok(header) = BatchHeader::decode(batch) else { return false };
    let from = Offset(header.base_offset.0.saturating_add(u64::from(*skipped)));
    let mut position = Position { next: from, ..Position::default() };
    let mut records = Vec::new();
    let taken = position.take(&[Bytes::copy_from_slice(batch)], &mut records).is_ok();
    let expected = (from.0..).take(records.len()).map(Offset);
    assert!(records.iter().map(|found| found.offset).eq(expected), "each offset once, in order");
    assert_eq!(position.next, if taken { header.next_offset() } else { from }, "it moves by what it took");
    taken
}
