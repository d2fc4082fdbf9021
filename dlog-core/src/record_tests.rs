//! Tests of `record.rs`.

use super::*;
use proptest::prelude::*;

/// Time stamp delta and offset delta.
type Deltas = (i64, i32);

fn encoded(record: &Record, (time, offset): Deltas) -> Vec<u8> {
    let mut out = Vec::new();
    let body_bytes = record.body_bytes(time, i64::from(offset));
    record.encode(&mut out, body_bytes, time, i64::from(offset));
    out
}

fn parse(bytes: &[u8]) -> Result<RecordSpan, RecordError> {
    RecordSpan::parse(bytes, &mut 0)
}

/// By hand from Kafka's specification.
#[test]
fn golden_bytes() {
    let record = Record::new(TimestampMs(0), &b"hello"[..])
        .with_key(&b"k"[..])
        .with_header("h", Some(Bytes::from_static(b"v")))
        .with_header("n", None);
    let golden: &[u8] = &[
        0x26, // 19 bytes follow
        0x00, // attributes
        0x04, // time stamp delta 2
        0x02, // offset delta 1
        0x02, b'k', // key
        0x0a, b'h', b'e', b'l', b'l', b'o', // value
        0x04, // two headers
        0x02, b'h', 0x02, b'v', //
        0x02, b'n', 0x01, //
    ];
    assert_eq!(encoded(&record, (2, 1)), golden);
    let empty = Record { timestamp: TimestampMs(0), ..Record::default() };
    assert_eq!(encoded(&empty, (0, 0)), [0x0c, 0, 0, 0, 1, 1, 0]);
    assert_eq!(encoded(&empty, (0, 0)).len(), crate::limits::RECORD_BYTES_MIN);
}

#[test]
fn nothing_and_empty_are_two_things() {
    let record = Record { key: Some(Bytes::new()), value: None, ..Record::default() };
    let bytes = Bytes::from(encoded(&record, (0, 0)));
    let read = parse(&bytes).expect("own bytes").record(&bytes, TimestampMs(0));
    assert_eq!((read.key, read.value), (Some(Bytes::new()), None));
}

#[test]
fn each_kind_of_damage_has_its_error() {
    assert_eq!(parse(&[]).unwrap_err(), RecordError::Varint(VarintError::Short));
    assert_eq!(parse(&[0x01]).unwrap_err(), RecordError::Length("body", -1));
    assert_eq!(parse(&[0x0c, 0]).unwrap_err(), RecordError::Short("body"));
    assert_eq!(parse(&[0x00]).unwrap_err(), RecordError::Short("attributes"));
    assert_eq!(parse(&[0x0c, 1, 0, 0, 1, 1, 0]).unwrap_err(), RecordError::Attributes(1));
    assert_eq!(parse(&[0x0c, 0, 0, 0, 3, 1, 0]).unwrap_err(), RecordError::Length("key", -2));
    assert_eq!(parse(&[0x0c, 0, 0, 0, 1, 8, 0]).unwrap_err(), RecordError::Short("value"));
    assert_eq!(parse(&[0x0c, 0, 0, 0, 1, 1, 1]).unwrap_err(), RecordError::Length("list of headers", -1));
    assert_eq!(parse(&[0x0e, 0, 0, 0, 1, 1, 0, 9]).unwrap_err(), RecordError::Trailing(1));
    assert_eq!(parse(&[0x10, 0, 0, 0, 1, 1, 2, 1, 1]).unwrap_err(), RecordError::HeaderKey);
    assert_eq!(parse(&[0x12, 0, 0, 0, 1, 1, 2, 2, 0xff, 1]).unwrap_err(), RecordError::HeaderKey);
    // A key length of 1 GiB and a header count of 2^27, with no bytes behind them.
    let large_key = [0x14, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x08, 1, 0];
    assert!(matches!(parse(&large_key), Err(RecordError::TooLarge { what: "key", .. })));
    let many_headers = [0x14, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert!(matches!(parse(&many_headers), Err(RecordError::TooLarge { what: "list of headers", .. })));
}

#[test]
fn bounds_hold_before_anything_is_written() {
    let large = |bytes: usize| Bytes::from(vec![0; bytes]);
    let base = Record::new(TimestampMs(0), &b"v"[..]);
    assert_eq!(base.clone().with_key(large(RECORD_KEY_BYTES_MAX)).check(), Ok(()));
    let too_large = |record: Record| matches!(record.check(), Err(RecordError::TooLarge { .. }));
    assert!(too_large(base.clone().with_key(large(RECORD_KEY_BYTES_MAX + 1))));
    assert!(too_large(Record::new(TimestampMs(0), large(RECORD_VALUE_BYTES_MAX + 1))));
    assert!(too_large(base.clone().with_header("x".repeat(RECORD_HEADER_KEY_BYTES_MAX + 1), None)));
    let header = Header { key: "h".into(), value: None };
    assert!(too_large(Record { headers: vec![header; RECORD_HEADERS_MAX + 1], ..base }));
}

/// Any record within the bounds, small.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let bytes = |max: usize| proptest::option::of(proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from));
    let header = (".{0,8}", bytes(20)).prop_map(|(key, value)| Header { key, value });
    (-1i64..1 << 50, bytes(40), bytes(200), proptest::collection::vec(header, 0..4))
        .prop_map(|(time, key, value, headers)| Record { timestamp: TimestampMs(time), key, value, headers })
}

proptest! {
    #[test]
    fn round_trip(record in any_record(), time in any::<i64>(), offset in any::<i32>(), before in 0usize..3) {
        let mut bytes = vec![0; before];
        bytes.extend(encoded(&record, (time, offset)));
        let bytes = Bytes::from(bytes);
        let mut at = before;
        let span = RecordSpan::parse(&bytes, &mut at).expect("own bytes");
        prop_assert_eq!(at, bytes.len());
        prop_assert_eq!((span.timestamp_delta, span.offset_delta), (time, offset));
        let read = span.record(&bytes, record.timestamp);
        if let Some(value) = read.value.as_ref().filter(|value| !value.is_empty()) {
            let shared = bytes.as_ptr_range();
            prop_assert!(shared.contains(&value.as_ptr()), "the value is a copy");
        }
        prop_assert_eq!(read, record);
    }

    /// A cut or changed record gives an error or another record, never a panic; what is read stays inside its bytes.
    #[test]
    fn any_damage_is_answered(record in any_record(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encoded(&record, (5, 6));
        let at = at.index(bytes.len());
        prop_assert!(parse(&bytes[..at]).is_err(), "cut at {}", at);
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        if let Ok(span) = parse(&bytes) {
            span.record(&bytes, TimestampMs(0));
        }
    }

    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..60), whole in any::<bool>()) {
        let mut bytes = Vec::new();
        if whole {
            varint::write(&mut bytes, body.len() as i64);
            bytes.push(0);
        }
        bytes.extend(body);
        let bytes = Bytes::from(bytes);
        let mut at = 0;
        if let Ok(span) = RecordSpan::parse(&bytes, &mut at) {
            prop_assert!(at <= bytes.len());
            span.record(&bytes, TimestampMs(0));
        }
    }
}
