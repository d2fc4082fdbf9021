//! Requests of clients, messages of peers and statuses, as they come out of a socket.

use crate::target::{Mend, Target};
use bytes::Bytes;
use dlog_core::{ErrorCode, ErrorDetail, Stage, TimestampMs, TopicName};
use dlog_protocol::v1;
use dlog_protocol::{ClusterId, ConsumeInput, ListOffsetsInput, ProduceInput, ProduceOnceInput, status};
use prost::Message;
use std::fmt::Debug;

pub(super) const REQUESTS: Target =
    Target { name: "requests", seeds, mend: Mend::Nothing, check, memory: 64 << 10, runs: 32_000 };

fn topic() -> Option<v1::TopicSelector> {
    Some(v1::TopicSelector { by: Some(v1::topic_selector::By::Name("t".to_owned())) })
}

fn record() -> v1::Record {
    v1::Record {
        timestamp_ms: Some(7),
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: vec![v1::Header { key: "h".to_owned(), value: None }],
    }
}

fn entry() -> v1::RaftEntry {
    v1::RaftEntry { kind: 1, term: 3, index: 4, payload: Bytes::from_static(b"batch") }
}

fn seeds() -> Vec<Vec<u8>> {
    let (acks, batch) = (v1::Acks::All.into(), Bytes::from_static(b"batch"));
    let produce = v1::ProduceRequest {
        request_id: 7,
        topic: topic(),
        partition: 3,
        batch: batch.clone(),
        acks,
        timeout_ms: 1500,
    };
    let records = vec![record(), record()];
    let once = v1::ProduceOnceRequest { topic: topic(), records, acks, ..Default::default() };
    let once_batch =
        v1::ProduceOnceRequest { topic: topic(), partition: Some(1), batch: Some(batch), ..Default::default() };
    let consume = v1::ConsumeRequest { topic: topic(), from: 5, until: Some(9), max_bytes: 10, ..Default::default() };
    let offsets = v1::ListOffsetsRequest {
        topic: topic(),
        partitions: vec![3, 1, 1],
        at_timestamp_ms: Some(5),
        last_records: Some(2),
        ..Default::default()
    };
    let message = v1::RaftMessage { log: 9, from: 1, to: 2, term: 3, entries: vec![entry()], ..Default::default() };
    let detail = ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, "no");
    let all: [(u8, Vec<u8>); 9] = [
        (0, produce.encode_to_vec()),
        (1, once.encode_to_vec()),
        (1, once_batch.encode_to_vec()),
        (2, consume.encode_to_vec()),
        (3, offsets.encode_to_vec()),
        (4, message.encode_to_vec()),
        (5, status::to_message(&detail).encode_to_vec()),
        (6, vec![0xab; 16]),
        (7, b"orders.eu-1_x".to_vec()),
    ];
    all.into_iter().map(|(kind, bytes)| [vec![kind], bytes].concat()).collect()
}

/// Reads a message; what is read is written and read again as the same.
fn read<M: Message + Default + PartialEq + Debug>(bytes: &Bytes) -> Option<M> {
    let message = M::decode(bytes.clone()).ok()?;
    let again = M::decode(Bytes::from(message.encode_to_vec()));
    assert!(again.as_ref() == Ok(&message), "another message than was written: {message:?}");
    Some(message)
}

fn check(input: &[u8]) -> bool {
    let Some((kind, bytes)) = input.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 8 {
        0 => read::<v1::ProduceRequest>(&bytes).is_some_and(|request| ProduceInput::try_from(request).is_ok()),
        1 => read::<v1::ProduceOnceRequest>(&bytes)
            .is_some_and(|request| ProduceOnceInput::from_request(request, TimestampMs(1)).is_ok()),
        2 => read::<v1::ConsumeRequest>(&bytes).is_some_and(|request| {
            ConsumeInput::try_from(request)
                .is_ok_and(|input| input.max_bytes > 0 && input.until.is_none_or(|until| until >= input.from))
        }),
        3 => read::<v1::ListOffsetsRequest>(&bytes).is_some_and(|request| {
            ListOffsetsInput::try_from(request)
                .is_ok_and(|input| input.partitions.windows(2).all(|two| two[0] < two[1]))
        }),
        4 => read::<v1::RaftMessage>(&bytes).is_some(),
        5 => check_status(&bytes),
        6 => ClusterId::from_bytes(&bytes).is_ok(),
        _ => std::str::from_utf8(&bytes).is_ok_and(|name| {
            TopicName::new(name).is_ok_and(|topic| {
                assert_eq!(topic.as_str(), name);
                true
            })
        }),
    }
}

fn check_status(details: &Bytes) -> bool {
    let Some(message) = read::<v1::ErrorDetail>(details) else { return false };
    let known = message.code != 0;
    let error = status::from_message(message);
    // What was understood is told on as the same.
    assert_eq!(status::from_message(status::to_message(&error)), error);
    known
}
