//! Tests of the conversions: what is valid survives a round trip, what isn't is refused with the field's name.

use super::*;
use proptest::prelude::*;
use prost::Message;

fn topic(name: &str) -> Option<v1::TopicSelector> {
    Some(v1::TopicSelector { by: Some(v1::topic_selector::By::Name(name.into())) })
}

fn produce() -> v1::ProduceRequest {
    v1::ProduceRequest {
        request_id: 7,
        topic: topic("t"),
        partition: 3,
        batch: Bytes::from_static(b"batch"),
        acks: v1::Acks::All.into(),
        timeout_ms: 1500,
    }
}

fn code<T: fmt::Debug>(result: Result<T, ErrorDetail>) -> ErrorCode {
    let error = result.expect_err("refused");
    assert_eq!(error.outcome, dlog_core::Outcome::Rejected);
    error.code
}

#[test]
fn a_produce_request_is_checked() {
    let input = ProduceInput::try_from(produce()).expect("valid");
    assert_eq!((input.request_id, input.partition, input.acks), (7, PartitionIndex(3), Acks::All));
    assert_eq!(input.timeout, Duration::from_millis(1500));
    assert_eq!(input.topic, TopicRef::Name(TopicName::new("t").expect("valid")));

    let wrong = [
        v1::ProduceRequest { topic: None, ..produce() },
        v1::ProduceRequest { topic: Some(v1::TopicSelector { by: None }), ..produce() },
        v1::ProduceRequest { batch: Bytes::new(), ..produce() },
        v1::ProduceRequest { timeout_ms: 0, ..produce() },
        v1::ProduceRequest { timeout_ms: PRODUCE_TIMEOUT_MS_MAX + 1, ..produce() },
        v1::ProduceRequest { partition: PARTITIONS_PER_TOPIC_MAX, ..produce() },
        v1::ProduceRequest { acks: 9, ..produce() },
    ];
    for request in wrong {
        assert_eq!(code(ProduceInput::try_from(request)), ErrorCode::InvalidArgument);
    }
    let request = v1::ProduceRequest { topic: topic("a/b"), ..produce() };
    assert_eq!(code(ProduceInput::try_from(request)), ErrorCode::InvalidTopicName);
}

/// The batch in a request is a view of the bytes it came in, so nothing is copied before admission.
#[test]
fn payloads_share_the_buffer_they_came_in() {
    let request = v1::ProduceRequest { batch: Bytes::from(vec![9; 4096]), ..produce() };
    let wire = Bytes::from(request.encode_to_vec());
    let back = v1::ProduceRequest::decode(wire.clone()).expect("own bytes");
    let (start, end) = (wire.as_ptr() as usize, wire.as_ptr() as usize + wire.len());
    assert!((start..end).contains(&(back.batch.as_ptr() as usize)));
}

#[test]
fn produce_once_takes_a_batch_or_records() {
    let record = v1::Record { value: Some(Bytes::from_static(b"v")), ..v1::Record::default() };
    let base = || v1::ProduceOnceRequest { topic: topic("t"), ..v1::ProduceOnceRequest::default() };
    let now = TimestampMs(5);
    let with_records = v1::ProduceOnceRequest { records: vec![record.clone()], codec: 4, ..base() };
    let input = ProduceOnceInput::from_request(with_records, now).expect("valid");
    assert_eq!(input.body, OnceBody::Records(vec![Record::new(now, &b"v"[..])], Codec::Zstd));
    assert_eq!((input.partition, input.acks), (None, Acks::Quorum));

    let batch = Some(Bytes::from_static(b"b"));
    let with_batch = v1::ProduceOnceRequest { batch: batch.clone(), partition: Some(0), ..base() };
    assert!(ProduceOnceInput::from_request(with_batch, now).is_ok());
    let wrong = [
        base(),
        v1::ProduceOnceRequest { batch: batch.clone(), ..base() },
        v1::ProduceOnceRequest { batch: Some(Bytes::new()), partition: Some(0), ..base() },
        v1::ProduceOnceRequest { batch, partition: Some(0), records: vec![record.clone()], ..base() },
        v1::ProduceOnceRequest { records: vec![record], codec: 5, ..base() },
    ];
    for request in wrong {
        assert_eq!(code(ProduceOnceInput::from_request(request, now)), ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_consume_request_is_checked_and_bounded() {
    let base = || v1::ConsumeRequest { topic: topic("t"), from: 5, ..v1::ConsumeRequest::default() };
    let input = ConsumeInput::try_from(base()).expect("valid");
    assert_eq!((input.from, input.until, input.follow), (Offset(5), None, false));
    assert_eq!(input.max_bytes, CONSUME_ANSWER_BYTES_MAX);
    assert_eq!(input.max_wait, Duration::from_millis(u64::from(CONSUME_WAIT_MS_DEFAULT)));
    let greedy = v1::ConsumeRequest { max_bytes: u32::MAX, until: Some(5), ..base() };
    let input = ConsumeInput::try_from(greedy).expect("valid");
    assert_eq!((input.max_bytes, input.until), (CONSUME_ANSWER_BYTES_MAX, Some(Offset(5))));
    let wrong = [
        v1::ConsumeRequest { from: u64::MAX, ..base() },
        v1::ConsumeRequest { until: Some(4), ..base() },
        v1::ConsumeRequest { max_wait_ms: CONSUME_WAIT_MS_MAX + 1, ..base() },
    ];
    for request in wrong {
        assert_eq!(code(ConsumeInput::try_from(request)), ErrorCode::InvalidArgument);
    }
}

#[test]
fn list_offsets_sorts_its_partitions() {
    let request = v1::ListOffsetsRequest { topic: topic("t"), partitions: vec![3, 1, 3], ..Default::default() };
    let input = ListOffsetsInput::try_from(request).expect("valid");
    assert_eq!(input.partitions, [PartitionIndex(1), PartitionIndex(3)]);
}

#[test]
fn acks_have_names_and_numbers() {
    for acks in [Acks::Quorum, Acks::Leader, Acks::All] {
        assert_eq!(acks.name().parse(), Ok(acks));
        assert_eq!(Acks::from_message(acks.to_message()).expect("known"), acks);
    }
    assert_eq!(Acks::from_message(0).expect("not said"), Acks::Quorum);
    assert!("most".parse::<Acks>().is_err());
}

/// Every service and message is in the descriptor that reflection shows.
#[test]
fn the_descriptor_has_every_service() {
    let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("own bytes");
    let names: Vec<&str> = set.file.iter().flat_map(|file| &file.service).map(|service| service.name()).collect();
    assert_eq!(names.len(), 4);
    for name in ["Log", "Admin", "Cluster", "Peer"] {
        assert!(names.contains(&name), "{name} is missing");
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let field = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from));
    let header = (".{0,9}", field()).prop_map(|(key, value)| Header { key, value });
    (any::<i64>(), field(), field(), proptest::collection::vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| Record { timestamp: TimestampMs(timestamp), key, value, headers })
}

proptest! {
    /// A key, value or header that is null stays null, an empty one stays empty.
    #[test]
    fn records_round_trip_over_the_wire(record in any_record()) {
        let wire = record_to_message(record.clone()).encode_to_vec();
        let back = v1::Record::decode(Bytes::from(wire)).expect("own bytes");
        prop_assert_eq!(record_from_message(back, TimestampMs(0)), record);
    }

    #[test]
    fn topic_refs_round_trip(name in "[a-z]{1,20}", id in 1u64..) {
        for topic in [TopicRef::Name(TopicName::new(&name).expect("valid")), TopicRef::Id(TopicId(id))] {
            prop_assert_eq!(TopicRef::try_from(Some(v1::TopicSelector::from(&topic))).expect("valid"), topic);
        }
    }

    /// No bytes from a socket make a check panic.
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        if let Ok(request) = v1::ProduceRequest::decode(bytes.clone()) {
            let _answered = ProduceInput::try_from(request).is_ok();
        }
        if let Ok(request) = v1::ConsumeRequest::decode(bytes) {
            let _answered = ConsumeInput::try_from(request).is_ok();
        }
    }
}
