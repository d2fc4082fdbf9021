//! dlog reads what kafka-python writes, and leaves batches of its own for kafka-python to read (`test_batches.py`).

use bytes::Bytes;
use dlog_core::batch::{BATCH_HEADER_BYTES, TimestampType, decode_records, stamp, validate_records};
use dlog_core::{BatchBuilder, BatchError, BatchHeader, Codec, ErrorCode, Offset, Record, Term};
use dlog_interop::{BatchSet, COMPRESSIONS};
use std::path::Path;

fn records_of(batch: &Bytes) -> Vec<Record> {
    let read = decode_records(batch).expect("a valid header").collect::<Result<Vec<_>, BatchError>>();
    read.expect("valid records").into_iter().map(|read| read.record).collect()
}

fn build(set: &BatchSet, codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.set_producer(set.producer);
    for record in &set.records {
        builder.push(record).expect("within the bounds");
    }
    builder.build().expect("a working codec")
}

#[test]
fn every_golden_batch_says_what_was_put_in() {
    let sets = BatchSet::all();
    assert_eq!(sets.len(), 9, "all sets are there");
    for (set, (compression, codec)) in sets.iter().flat_map(|set| COMPRESSIONS.map(|c| (set, c))) {
        let name = format!("{}.{compression}", set.name);
        let batch = set.batch(compression);
        let header = validate_records(&batch).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(header.codec(), codec, "{name}");
        assert_eq!(header.record_count as usize, set.records.len(), "{name}");
        assert_eq!((header.base_offset, header.term()), (Offset(0), Some(Term(0))), "{name}");
        assert_eq!(header.producer(), set.producer, "{name}");
        assert_eq!(header.base_timestamp, set.records[0].timestamp, "{name}");
        let newest = set.expected().iter().map(|record| record.timestamp).max();
        assert_eq!(Some(header.max_timestamp), newest, "{name}");
        let kind = if set.append_time.is_some() { TimestampType::Append } else { TimestampType::Create };
        assert_eq!((header.timestamp_type(), header.is_transactional()), (kind, set.transactional), "{name}");
        assert_eq!(header.encode()[..], batch[..BATCH_HEADER_BYTES], "{name}");
        assert_eq!(records_of(&batch), set.expected(), "{name}");
    }
}

/// Byte for byte: header, varints, nulls and headers of records, and the checksum over them.
#[test]
fn uncompressed_batches_are_encoded_to_the_same_bytes() {
    for set in BatchSet::all() {
        let golden = set.batch("none");
        let built = build(&set, Codec::None);
        if set.transactional {
            // Only a coordinator's clients may write these, so the builder has no way to say it.
            assert_eq!(built[BATCH_HEADER_BYTES..], golden[BATCH_HEADER_BYTES..], "{}", set.name);
            let theirs = BatchHeader::decode(&golden).expect("valid");
            let ours = BatchHeader::decode(&built).expect("valid");
            let same = BatchHeader { leader_epoch: 0, crc: theirs.crc, attributes: theirs.attributes, ..ours };
            assert_eq!(same, theirs, "{}", set.name);
        } else {
            assert_eq!(stamp(&built, Offset(0), Term(0), set.append_time), golden, "{}", set.name);
            if set.append_time.is_none() {
                let again = BatchSet { records: records_of(&golden), ..set.clone() };
                assert_eq!(stamp(&build(&again, Codec::None), Offset(0), Term(0), None), golden, "{}", set.name);
            }
        }
    }
}

/// What a client may send is what kafka-python's producers send, but for transactions.
#[test]
fn golden_batches_are_admitted() {
    for (set, (compression, _)) in BatchSet::all().iter().flat_map(|set| COMPRESSIONS.map(|c| (set, c))) {
        let header = validate_records(&set.batch(compression)).expect("valid");
        match header.check_producible() {
            Ok(()) => assert!(!set.transactional, "{}", set.name),
            Err(error) => {
                assert!(set.transactional, "{}: {error}", set.name);
                assert_eq!(error.code(), ErrorCode::Unsupported);
            }
        }
    }
}

/// Each set in each codec, as a reader would get it from a partition: at offset 1000, stamped in term 7.
#[test]
fn own_batches_are_written_for_the_other_library() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dlog-batches");
    std::fs::create_dir_all(&folder).expect("target/tmp can be written");
    for set in BatchSet::all().iter().filter(|set| !set.transactional) {
        for codec in Codec::ALL {
            let batch = stamp(&build(set, codec), Offset(1000), Term(7), set.append_time);
            let header = validate_records(&batch).expect("own bytes");
            assert_eq!(header.codec(), codec, "{}: compression makes it smaller", set.name);
            assert_eq!(records_of(&batch), set.expected(), "{}.{codec}", set.name);
            std::fs::write(folder.join(format!("{}.{codec}.batch", set.name)), &batch)
                .expect("target/tmp can be written");
        }
    }
}
