//! The record batch: header, checks, records under each codec.

use crate::target::{Mend, Target};
use bytes::Bytes;
use dlog_core::batch::{
    BATCH_CRC_START, BATCH_HEADER_BYTES, BATCH_LENGTH_END, BATCH_MAGIC, OffsetRecord, decode_records, stamp, validate,
    validate_records,
};
use dlog_core::limits::MIB;
use dlog_core::{BatchBuilder, BatchHeader, BatchLimits, Codec, Offset, ProducerId, Record, Term, TimestampMs};

pub(super) const BATCH: Target =
    Target { name: "batch", seeds, mend: Mend::InPlace(mend), check, memory: 48 * MIB, runs: 24_000 };

/// Batches of a few records under each codec, with and without a producer.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for codec in Codec::ALL {
        for (records, producer) in [(1u8, false), (6, true), (40, false)] {
            let mut builder = BatchBuilder::new(codec);
            if producer {
                builder = builder.producer(ProducerId(7), 1, 300);
            }
            for number in 0..records {
                let record = Record::new(TimestampMs(1000 + i64::from(number % 5)), vec![b'v'; usize::from(number)]);
                let record = if number % 2 == 0 { record.with_key(format!("k{number}")) } else { record };
                let record = if number % 3 == 1 { record.with_header("h", None) } else { record };
                builder.push(&record).expect("fits");
            }
            let batch = builder.build().expect("has records");
            let append_time = (records == 6).then_some(TimestampMs(2000));
            seeds.push(stamp(&batch, Offset(u64::from(records)), Term(3), append_time).to_vec());
        }
    }
    seeds
}

/// Length, magic and CRC.
pub(super) fn mend(batch: &mut [u8]) {
    if batch.len() < BATCH_HEADER_BYTES {
        return;
    }
    let length = (batch.len() - BATCH_LENGTH_END) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = BATCH_MAGIC as u8;
    let crc = crc32c::crc32c(&batch[BATCH_CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn check(input: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(header) = BatchHeader::decode(input) {
        assert_eq!(header.encode(), input[..BATCH_HEADER_BYTES], "the header is written as it was read");
    }
    let whole = validate(input, BatchLimits::HARD);
    let strict = validate_records(input);
    let lenient = decode_records(&bytes).and_then(|records| records.collect::<Result<Vec<OffsetRecord>, _>>());
    let Ok(header) = strict else { return false };
    assert_eq!(whole.as_ref(), Ok(&header));
    let records = lenient.expect("what is valid can be read");
    assert_eq!(records.len(), header.record_count as usize);
    assert_eq!(records.last().map(|last| last.offset.plus(1)), Some(header.next_offset()));
    check_skipping(&bytes, &records);
    check_again(&header, &records);
    if header.base_offset <= Offset::MAX {
        let stamped = stamp(input, Offset(5), Term(9), Some(TimestampMs(77)));
        let header = validate_records(&stamped).expect("a stamp leaves it valid");
        assert_eq!((header.base_offset, header.term()), (Offset(5), Some(Term(9))));
    }
    true
}

/// Passing over records gives the others as they are.
fn check_skipping(bytes: &Bytes, records: &[OffsetRecord]) {
    let middle = records.len() / 2;
    let mut rest = decode_records(bytes).expect("read before");
    rest.skip_to(records[middle].offset).expect("read before");
    let rest: Result<Vec<OffsetRecord>, _> = rest.collect();
    assert_eq!(rest.as_deref(), Ok(&records[middle..]));
}

/// The records, built into a batch again, are the same.
fn check_again(header: &BatchHeader, records: &[OffsetRecord]) {
    let mut builder = BatchBuilder::new(header.codec());
    for found in records {
        // A record may be too far from the first in time for a batch whose base it is.
        if builder.push(&found.record).is_err() {
            return;
        }
    }
    let batch = stamp(&builder.build().expect("has records"), header.base_offset, Term(1), None);
    let again: Result<Vec<OffsetRecord>, _> = decode_records(&batch).expect("own bytes").collect();
    assert!(again.as_deref() == Ok(records), "other records than were written");
}
