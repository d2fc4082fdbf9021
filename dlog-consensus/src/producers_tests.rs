//! Tests of the producer table and its overlay.

use super::*;
use dlog_core::TimestampMs;
use dlog_core::batch::{Attributes, BatchHeader};
use proptest::prelude::*;

fn sequence(id: i64, epoch: i16, base_sequence: i32) -> ProducerSequence {
    ProducerSequence { id: ProducerId(id), epoch, base_sequence }
}

fn header(batch: ProducerSequence, count: u32, base_offset: Offset) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 100,
        leader_epoch: 1,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: count - 1,
        base_timestamp: TimestampMs(0),
        max_timestamp: TimestampMs(0),
        producer_id: batch.id.0,
        producer_epoch: batch.epoch,
        base_sequence: batch.base_sequence,
        record_count: count,
    }
}

fn admit(producers: &mut Producers, batch: ProducerSequence, count: u32, at: u64) -> Result<Decision, SequenceError> {
    producers.admit(batch, count, Offset(at * 10), LogIndex(at))
}

#[test]
fn the_window_answers_duplicates() {
    let mut producers = Producers::new(ProducerTable::new(10));
    for number in 0..7 {
        assert_eq!(admit(&mut producers, sequence(1, 0, number), 1, number as u64 + 1), Ok(Decision::Append));
    }
    for number in 2..7 {
        let Ok(Decision::Duplicate(original)) = admit(&mut producers, sequence(1, 0, number), 1, 99) else { panic!() };
        assert_eq!(original.index, LogIndex(number as u64 + 1));
    }
    let older = admit(&mut producers, sequence(1, 0, 1), 1, 99);
    assert_eq!(older, Err(SequenceError::OutOfOrder { expected: 7, found: 1 }));
    let longer = admit(&mut producers, sequence(1, 0, 6), 2, 99);
    assert!(longer.is_err(), "the same first sequence with another length is another batch");
}

#[test]
fn sequences_wrap() {
    let mut producers = Producers::new(ProducerTable::new(10));
    producers.table.apply(&header(sequence(1, 0, i32::MAX - 1), 2, Offset(0)), LogIndex(1));
    assert_eq!(admit(&mut producers, sequence(1, 0, 0), 3, 2), Ok(Decision::Append), "0 follows i32::MAX");
    producers.table.apply(&header(sequence(2, 0, i32::MAX - 1), 4, Offset(10)), LogIndex(2));
    assert_eq!(admit(&mut producers, sequence(2, 0, 2), 1, 3), Ok(Decision::Append), "a batch across the wrap");
}

#[test]
fn the_overlay_ends_with_its_last_entry_or_with_leadership() {
    let mut producers = Producers::new(ProducerTable::new(10));
    assert_eq!(admit(&mut producers, sequence(1, 0, 0), 1, 1), Ok(Decision::Append));
    assert_eq!(admit(&mut producers, sequence(1, 0, 1), 1, 2), Ok(Decision::Append));
    producers.keep();
    producers.apply(&header(sequence(1, 0, 0), 1, Offset(10)), LogIndex(1));
    assert_eq!(producers.overlay.len(), 1, "its second batch is in flight");
    producers.apply(&header(sequence(1, 0, 1), 1, Offset(20)), LogIndex(2));
    assert!(producers.overlay.is_empty());
    assert_eq!(admit(&mut producers, sequence(1, 0, 2), 1, 3), Ok(Decision::Append));
    producers.drop_overlay();
    assert_eq!(admit(&mut producers, sequence(1, 0, 2), 1, 3), Ok(Decision::Append), "it never was");
}

#[test]
fn what_is_undone_never_was() {
    let mut producers = Producers::new(ProducerTable::new(10));
    assert_eq!(admit(&mut producers, sequence(1, 0, 0), 1, 1), Ok(Decision::Append));
    let mark = producers.mark();
    assert_eq!(admit(&mut producers, sequence(1, 0, 1), 1, 2), Ok(Decision::Append));
    assert_eq!(admit(&mut producers, sequence(2, 0, 0), 1, 3), Ok(Decision::Append));
    producers.undo_to(mark);
    assert_eq!(admit(&mut producers, sequence(1, 0, 1), 1, 2), Ok(Decision::Append));
    assert_eq!(producers.overlay.len(), 1);
}

#[test]
fn the_oldest_is_forgotten_first() {
    let mut table = ProducerTable::new(2);
    for (at, id) in [(1, 7), (2, 5), (3, 7), (4, 6)] {
        let batch = sequence(id, 0, if at == 3 { 1 } else { 0 });
        table.apply(&header(batch, 1, Offset(at)), LogIndex(at));
    }
    let ids: Vec<i64> = table.producers.keys().map(|id| id.0).collect();
    assert_eq!(ids, [6, 7]);
}

#[test]
fn golden_bytes() {
    let mut table = ProducerTable::new(2);
    table.apply(&header(sequence(3, 1, 4), 2, Offset(9)), LogIndex(8));
    let hex: String = table.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "0801120e080310011a080804100218092008");
}

proptest! {
    #[test]
    fn round_trip(batches in proptest::collection::vec((0i64..6, 0i16..2, 0i32..5, 1u32..4), 0..60)) {
        let mut table = ProducerTable::new(4);
        let mut offset = Offset(0);
        for (at, (id, epoch, first, count)) in batches.into_iter().enumerate() {
            table.apply(&header(sequence(id, epoch, first), count, offset), LogIndex(at as u64 + 1));
            offset = offset.plus(u64::from(count));
            prop_assert!(table.len() <= 4 && table.by_age.len() == table.len());
        }
        prop_assert_eq!(ProducerTable::decode(&table.encode(), 4), Ok(table));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(table) = ProducerTable::decode(&bytes, 4) {
            prop_assert!(table.len() <= 4);
        }
    }

    /// Whatever is offered, what a leader admits is gapless for each producer and epoch.
    #[test]
    fn what_is_admitted_is_gapless(offers in proptest::collection::vec((0i64..3, 0i16..3, 0i32..8), 0..80)) {
        let mut producers = Producers::new(ProducerTable::new(8));
        let mut next: BTreeMap<(i64, i16), i32> = BTreeMap::new();
        let mut newest: BTreeMap<i64, i16> = BTreeMap::new();
        for (at, (id, epoch, first)) in offers.into_iter().enumerate() {
            if admit(&mut producers, sequence(id, epoch, first), 1, at as u64 + 1) == Ok(Decision::Append) {
                let due = next.entry((id, epoch)).or_default();
                prop_assert_eq!(first, *due);
                *due += 1;
                let newest = newest.entry(id).or_default();
                prop_assert!(epoch >= *newest, "epochs never go back");
                *newest = epoch;
            }
        }
    }
}
