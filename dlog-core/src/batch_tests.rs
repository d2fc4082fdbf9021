//! Tests of `batch.rs`, `batch_builder.rs` and `batch_records.rs`.

use super::*;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::record::Header;
use crate::{CodecError, ErrorCode, Record, RecordError, Stage};

/// Batches made by another implementation (kafka-python 3.0): its leader epoch is 0 where dlog's builder writes -1.
mod golden {
    /// Three records without compression; the last is older than the first.
    pub const PLAIN: &str = concat!(
        "00000000000000000000005300000000020c9e3f540000000000020000018bcfe568000000018bcfe56805ffffffffffffff",
        "ffffffffffffff0000000326000000026b0a68656c6c6f0402680276026e010c000a020101000c000104000000",
    );
    /// One record of an idempotent producer.
    pub const IDEMPOTENT: &str = concat!(
        "000000000000000000000102000000000287ed04a20000000000000000018bcfe568000000018bcfe5680000000000000012",
        "67000300011170000000019e0300000001900378787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "7878787878787878787878787878787878787800",
    );
    /// Twenty like records.
    pub const LZ4: &str = concat!(
        "0000000000000000000000e800000000025123a81d0003000000130000018bcfe568000000018bcfe56813ffffffffffffff",
        "ffffffffffffff0000001404224d18684020030000000000003ba0000000f2124e000000066b65793c7468652073616d6520",
        "76616c756520616761696e20616e640a005f004e0002022800132f04042800132f06062800132f08082800132f0a0a280013",
        "2f0c0c2800132f0e0e2800132f10102800132f12122800132f14142800132f16162800132f18182800132f1a1a2800132f1c",
        "1c2800132f1e1e2800132f20202800132f22222800132f24242800132f262628000c506761696e0000000000",
    );
    /// Twenty like records.
    pub const ZSTD: &str = concat!(
        "0000000000000000000000b50000000002c286d0df0004000000130000018bcfe568000000018bcfe56813ffffffffffffff",
        "ffffffffffffff0000001428b52ffd602002d50300a4044e000000066b65793c7468652073616d652076616c756520616761",
        "696e20616e64004e0002020404060608080a0a0c0c0e0e101012121414161618181a1a1c1c1e1e2020222224242626140001",
        "898307070f0e1e1c3c387870f0e0e0c1c1838307070f0e1e1c3c387870f0e0e0c1c18383075feae974284f",
    );
    /// Twenty like records.
    pub const GZIP: &str = concat!(
        "0000000000000000000000b600000000025e4e72a30001000000130000018bcfe568000000018bcfe56813ffffffffffffff",
        "ffffffffffffff000000141f8b08001ef7006b02ff8dca5d0a45501480d19d7492244992a49d6414c6600ebb9cee957bbdf8",
        "29b3f76002dfdb7a589388b8d5dfe3f1f5badbdfeb65bfd3ab7d6cd9d4b6f9954c1204ec85217bceb11745ecc5317b49c25e",
        "9ab29765ece5397b45c15e59b25755ecd5357b4dc35edbb2a7ca5ed7b1d7f7ec0d03790fbb3901f020030000",
    );
}

const BASE_TIME: TimestampMs = TimestampMs(1_700_000_000_000);

fn unhex(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn built(codec: Codec, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        builder.push(record).expect("a small record");
    }
    builder.build().expect("a working codec")
}

pub(super) fn read(batch: &Bytes) -> Result<Vec<OffsetRecord>, BatchError> {
    decode_records(batch)?.collect()
}

pub(super) fn records_of(batch: &Bytes) -> Vec<Record> {
    read(batch).expect("a valid batch").into_iter().map(|r| r.record).collect()
}

/// Writes the CRC anew, so that a change behind it counts as the producer's.
pub(super) fn resealed(mut bytes: Vec<u8>) -> Bytes {
    write_crc(&mut bytes);
    Bytes::from(bytes)
}

fn plain_records() -> Vec<Record> {
    let bytes = |b: &'static [u8]| Some(Bytes::from_static(b));
    let header = |key: &str, value| Header { key: key.into(), value };
    vec![
        Record {
            timestamp: BASE_TIME,
            key: bytes(b"k"),
            value: bytes(b"hello"),
            headers: vec![header("h", bytes(b"v")), header("n", None)],
        },
        Record { timestamp: TimestampMs(BASE_TIME.0 + 5), key: None, value: None, headers: vec![] },
        Record { timestamp: TimestampMs(BASE_TIME.0 - 1), key: bytes(b""), value: bytes(b""), headers: vec![] },
    ]
}

fn like_records() -> Vec<Record> {
    let like =
        |i| Record::new(TimestampMs(BASE_TIME.0 + i), &b"the same value again and again"[..]).with_key(&b"key"[..]);
    (0..20).map(like).collect()
}

#[test]
fn golden_plain() {
    let golden = unhex(golden::PLAIN);
    assert_eq!(hex(&stamp(&built(Codec::None, &plain_records()), Offset(0), Term(0), None)), golden::PLAIN);
    let header = validate_records(&golden).expect("a valid batch");
    assert_eq!(header.total_bytes(), golden.len());
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.base_timestamp, header.max_timestamp), (BASE_TIME, TimestampMs(BASE_TIME.0 + 5)));
    assert_eq!((header.producer(), header.term(), header.codec()), (None, Some(Term(0)), Codec::None));
    assert_eq!(header.encode()[..], golden[..BATCH_HEADER_BYTES]);
    assert_eq!(records_of(&golden), plain_records());
}

#[test]
fn golden_idempotent() {
    let golden = unhex(golden::IDEMPOTENT);
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(4711), 3, 70_000);
    builder.push(&Record::new(BASE_TIME, vec![b'x'; 200])).expect("a small record");
    let batch = builder.build().expect("no codec");
    assert_eq!(validate(&batch, BatchLimits::HARD).expect("own bytes").term(), None);
    assert_eq!(hex(&stamp(&batch, Offset(0), Term(0), None)), golden::IDEMPOTENT);
    let producer = ProducerSequence { id: ProducerId(4711), epoch: 3, base_sequence: 70_000 };
    assert_eq!(validate_records(&golden).expect("a valid batch").producer(), Some(producer));
    let other = ProducerSequence { id: ProducerId(4711), epoch: 4, base_sequence: 0 };
    let restamped = stamp_producer(&golden, other);
    assert_eq!(validate_records(&restamped).expect("a valid batch").producer(), Some(other));
    assert_eq!(stamp_producer(&restamped, producer), golden);
}

#[test]
fn golden_compressed() {
    for (golden, codec) in [(golden::GZIP, Codec::Gzip), (golden::LZ4, Codec::Lz4), (golden::ZSTD, Codec::Zstd)] {
        let golden = unhex(golden);
        let header = validate_records(&golden).expect("a valid batch");
        assert_eq!((header.codec(), header.record_count), (codec, 20));
        assert_eq!(records_of(&golden), like_records());
        let own = built(codec, &like_records());
        assert_eq!(validate_records(&own).expect("own bytes").codec(), codec);
        assert_eq!(records_of(&own), like_records());
    }
}

#[test]
fn stamping_an_append_time() {
    let batch = built(Codec::None, &plain_records());
    let time = TimestampMs(5);
    let stamped = stamp(&batch, Offset(100), Term(7), Some(time));
    let header = validate_records(&stamped).expect("the CRC is written anew");
    assert_eq!((header.base_offset, header.next_offset(), header.term()), (Offset(100), Offset(103), Some(Term(7))));
    assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::Append, time));
    let read = read(&stamped).expect("a valid batch");
    assert_eq!(read.iter().map(|r| r.offset).collect::<Vec<_>>(), [Offset(100), Offset(101), Offset(102)]);
    assert!(read.iter().all(|r| r.record.timestamp == time));
}

#[test]
fn a_term_beyond_kafkas_field_is_cut() {
    let stamped = stamp(&built(Codec::None, &plain_records()), Offset::MAX, Term(u64::MAX), None);
    let header = BatchHeader::decode(&stamped).expect("a valid header");
    assert_eq!((header.base_offset, header.term()), (Offset::MAX, Some(Term(i32::MAX as u64))));
}

#[test]
fn sequences_wrap_as_kafkas_do() {
    assert_eq!(ProducerSequence::advance(0, 5), 5);
    assert_eq!(ProducerSequence::advance(i32::MAX, 1), 0);
    assert_eq!(ProducerSequence::advance(i32::MAX - 1, 4), 2);
}

#[test]
fn limits_are_met_first() {
    let batch = built(Codec::None, &plain_records());
    let limits = BatchLimits::of_topic(batch.len());
    assert!(validate(&batch, limits).is_ok());
    let too_large = BatchError::TooLarge { bytes: batch.len(), max: batch.len() - 1 };
    assert_eq!(validate(&batch, BatchLimits::of_topic(batch.len() - 1)), Err(too_large.clone()));
    assert_eq!(too_large.to_detail(Stage::Admission).code, ErrorCode::BatchTooLarge);
    assert_eq!(
        validate(&batch, BatchLimits { records: 2, ..limits }),
        Err(BatchError::TooManyRecords { records: 3, max: 2 })
    );
    assert_eq!(BatchLimits::of_topic(usize::MAX), BatchLimits::HARD);
}

/// One changed field each, with a CRC that fits: what a faulty producer may send.
#[test]
fn each_rule_of_the_header_has_its_error() {
    let batch = unhex(golden::IDEMPOTENT);
    let changed = |at: usize, bytes: &[u8]| {
        let mut copy = batch.to_vec();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        validate(&resealed(copy), BatchLimits::HARD).expect_err("a wrong header")
    };
    let field = |field, value| BatchError::Field { field, value };
    assert_eq!(changed(0, &[0xff; 8]), field("base offset", -1));
    assert_eq!(changed(8, &[0xff; 4]), field("length", -1));
    assert_eq!(changed(8, &[0, 0, 0, 48]), field("length", 48));
    let said = batch.len() + 1;
    assert_eq!(changed(11, &[batch[11] + 1]), BatchError::Length { said, have: batch.len() });
    assert_eq!(changed(16, &[1]), BatchError::Magic(1));
    assert_eq!(changed(21, &[0x00, 0x80]), BatchError::Attributes(0x80));
    assert_eq!(changed(21, &[0x80, 0x00]), BatchError::Attributes(i16::MIN));
    assert_eq!(changed(22, &[5]), BatchError::Attributes(5));
    assert_eq!(changed(23, &[0xff; 4]), field("last offset delta", -1));
    assert_eq!(changed(26, &[1]), BatchError::Count { records: 1, last_offset_delta: 1 });
    assert_eq!(
        changed(23, &[0x7f, 0xff, 0xff, 0xff]),
        BatchError::Count { records: 1, last_offset_delta: i32::MAX as u32 }
    );
    assert_eq!(changed(43, &(-2i64).to_be_bytes()), field("producer id", -2));
    assert_eq!(changed(51, &[0xff; 2]), field("producer epoch", -1));
    assert_eq!(changed(53, &[0xff; 4]), field("base sequence", -1));
    assert_eq!(changed(57, &[0xff; 4]), field("record count", -1));
    assert_eq!(changed(57, &[0; 4]), BatchError::Count { records: 0, last_offset_delta: 0 });
    let many = BatchError::TooManyRecords { records: i32::MAX as u32, max: RECORDS_PER_BATCH_MAX };
    assert_eq!(changed(57, &[0x7f, 0xff, 0xff, 0xff]), many);
    let mut transactional = batch.to_vec();
    transactional[22] = 0x10;
    transactional[43..51].copy_from_slice(&[0xff; 8]);
    assert_eq!(BatchHeader::decode(&transactional), Err(field("producer id of a transaction", -1)));
    let short = BatchError::Short { needed: 61, have: 60 };
    assert_eq!(validate(&batch[..60], BatchLimits::HARD), Err(short));
}

/// The count agrees with the header's other fields, but so many records can't be in so few bytes.
#[test]
fn a_count_beyond_the_bytes_is_found_without_parsing() {
    let mut batch = built(Codec::None, &[Record::new(BASE_TIME, vec![1; 93])]).to_vec();
    for (records, fits) in [(14u8, true), (15, false)] {
        batch[26] = records - 1;
        batch[60] = records;
        assert_eq!(validate(&resealed(batch.clone()), BatchLimits::HARD).is_ok(), fits);
        assert!(validate_records(&resealed(batch.clone())).is_err());
    }
}

#[test]
fn what_clients_may_not_write() {
    let batch = unhex(golden::IDEMPOTENT);
    let with_bits = |bits: u8| {
        let mut copy = batch.to_vec();
        copy[22] = bits;
        validate(&resealed(copy), BatchLimits::HARD).expect("a valid batch").check_producible()
    };
    assert_eq!(with_bits(0), Ok(()));
    assert_eq!(with_bits(0x08), Ok(()));
    assert_eq!(with_bits(0x10), Err(BatchError::NotProducible("part of a transaction")));
    assert_eq!(with_bits(0x20), Err(BatchError::NotProducible("control markers")));
    assert_eq!(with_bits(0x40), Err(BatchError::NotProducible("marked by compaction")));
    assert_eq!(with_bits(0x40).unwrap_err().code(), ErrorCode::Unsupported);
}

/// Batches whose CRC is right and whose records are not.
#[test]
fn records_are_checked_one_by_one() {
    let batch = built(Codec::None, &plain_records());
    // The second record begins with its length (6 bytes) behind the first's 20 bytes.
    let second = BATCH_HEADER_BYTES + 20;
    assert_eq!(batch[second..second + 4], [0x0c, 0, 0x0a, 0x02]);
    let changed = |at: usize, byte: u8| {
        let mut copy = batch.to_vec();
        copy[at] = byte;
        resealed(copy)
    };
    let wrong_delta = changed(second + 3, 0x04);
    assert_eq!(validate_records(&wrong_delta), Err(BatchError::OffsetDelta { number: 1, found: 2 }));
    let items: Vec<_> = decode_records(&wrong_delta).expect("a valid header").collect();
    assert_eq!(items.len(), 2, "ends with the error");
    assert!(items[0].is_ok() && items[1].is_err());
    let attributes = BatchError::Record { number: 1, error: RecordError::Attributes(1) };
    assert_eq!(validate_records(&changed(second + 1, 1)), Err(attributes));
    let newest = TimestampMs(BASE_TIME.0 + 5);
    let found = TimestampMs(BASE_TIME.0 + 6);
    assert_eq!(validate_records(&changed(second + 2, 0x0c)), Err(BatchError::MaxTimestamp { stored: newest, found }));
    let overflow = BatchError::Record { number: 1, error: RecordError::Timestamp };
    let mut late = batch.to_vec();
    late[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    assert_eq!(validate_records(&resealed(late)), Err(overflow));
    let mut longer = batch.to_vec();
    longer.push(0);
    longer[11] += 1;
    let longer = resealed(longer);
    assert_eq!(validate_records(&longer), Err(BatchError::Trailing(1)));
    assert_eq!(read(&longer), Err(BatchError::Trailing(1)));
}

#[test]
fn bombs_in_batches_are_refused() {
    let nothing = vec![0; DECOMPRESSED_BYTES_MAX + 1];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut compressed = built(codec, &like_records())[..BATCH_HEADER_BYTES].to_vec();
        codec.compress(&nothing, &mut compressed).expect("a working codec");
        let length = (compressed.len() - BATCH_LENGTH_END) as u32;
        compressed[8..12].copy_from_slice(&length.to_be_bytes());
        let bomb = resealed(compressed);
        let header = validate(&bomb, BatchLimits::HARD).expect("small, and nothing is decompressed");
        assert_eq!(header.codec(), codec);
        let error = validate_records(&bomb).expect_err("a bomb");
        let max = decompressed_bytes_max(bomb.len() - BATCH_HEADER_BYTES);
        assert_eq!(error, BatchError::Codec(CodecError::TooLarge { codec, max }));
        assert_eq!(error.code(), ErrorCode::BatchTooLarge);
        assert_eq!(read(&bomb).expect_err("a bomb"), error);
    }
}

#[test]
fn uncompressed_records_share_the_batch() {
    let batch = built(Codec::None, &plain_records());
    let first = records_of(&batch).remove(0);
    let value = first.value.expect("it has one");
    assert!(batch.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn skipping_goes_to_the_offset() {
    let batch = stamp(&built(Codec::Zstd, &like_records()), Offset(1000), Term(1), None);
    for (to, first) in [(0, Some(1000)), (1000, Some(1000)), (1013, Some(1013)), (1020, None), (u64::MAX, None)] {
        let mut records = decode_records(&batch).expect("a valid batch");
        records.skip_to(Offset(to)).expect("valid records");
        assert_eq!(records.next().map(|r| r.expect("a valid record").offset.0), first, "to {to}");
    }
    assert_eq!(decode_records(&batch).expect("a valid batch").size_hint(), (0, Some(20)));
}

#[test]
fn a_builder_keeps_its_bounds() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    assert!(builder.is_empty());
    assert_eq!(builder.clone().build(), Err(BatchError::Empty));
    let half = Record::new(TimestampMs(0), vec![0; BATCH_BYTES_MAX / 2]);
    builder.push(&half).expect("half of the bound");
    let before = builder.estimated_bytes();
    let bytes = builder.estimated_bytes_with(&half);
    assert_eq!(builder.push(&half), Err(BatchError::TooLarge { bytes, max: BATCH_BYTES_MAX }));
    let far = Record::new(TimestampMs(i64::MIN), &b""[..]);
    builder.push(&far).expect("as far as it can be");
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(&Record::new(TimestampMs(1), &b""[..])).expect("a small record");
    let error = BatchError::Record { number: 1, error: RecordError::Timestamp };
    assert_eq!(builder.push(&far), Err(error));
    assert_eq!(builder.record_count(), 1);
    assert!(before > BATCH_BYTES_MAX / 2);
}

#[test]
fn the_largest_record_fits() {
    let record = Record::new(TimestampMs(i64::MAX), vec![0; crate::limits::RECORD_VALUE_BYTES_MAX]);
    let batch = built(Codec::None, &[record]);
    assert!(batch.len() <= BATCH_BYTES_MAX);
    assert!(validate_records(&batch).is_ok());
}

#[test]
fn so_many_records_and_no_more() {
    let record = Record { timestamp: BASE_TIME, ..Record::default() };
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for _ in 0..RECORDS_PER_BATCH_MAX {
        builder.push(&record).expect("within the bound");
    }
    let records = RECORDS_PER_BATCH_MAX + 1;
    assert_eq!(builder.push(&record), Err(BatchError::TooManyRecords { records, max: RECORDS_PER_BATCH_MAX }));
    let batch = builder.build().expect("a working codec");
    assert_eq!(validate_records(&batch).expect("own bytes").record_count, RECORDS_PER_BATCH_MAX);
}

#[test]
fn what_compression_cannot_shrink_stays_as_it_is() {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let record = Record::new(BASE_TIME, (0..5000).map(|_| noise()).collect::<Vec<u8>>());
    for codec in Codec::ALL {
        let batch = built(codec, std::slice::from_ref(&record));
        assert_eq!(batch, built(Codec::None, std::slice::from_ref(&record)));
    }
}
