//! The unary produce: one batch, or records that the server encodes for those who can't.

use super::{ONCE_TIMEOUT, Submission, submit};
use crate::clock::wall_clock;
use crate::context::NodeContext;
use crate::service::errors::{invalid_argument, to_status};
use crate::service::listener::ConnectionInfo;
use crate::service::log::LogService;
use crate::service::lookup;
use bytes::Bytes;
use dlog_client::partitioner::partition_for_key;
use dlog_consensus::Role;
use dlog_core::error::{ErrorDetail, Stage};
use dlog_core::{BatchBuilder, Codec, PartitionIndex, Record};
use dlog_protocol::{OnceBody, ProduceOnceInput, TopicRef, v1};
use dlog_replication::Catalogue;
use dlog_replication::catalogue::TopicInfo;
use tokio::time::Instant;
use tonic::Status;

/// Appends one batch and answers when it is as durable as asked.
///
/// # Errors
/// A status with details; see the protocol's comments.
pub async fn once(
    service: &LogService,
    connection: &ConnectionInfo,
    request: v1::ProduceOnceRequest,
) -> Result<v1::ProduceOnceResponse, Status> {
    produce(service, connection, request).await.map_err(|error| to_status(&service.context, error))
}

async fn produce(
    service: &LogService,
    connection: &ConnectionInfo,
    request: v1::ProduceOnceRequest,
) -> Result<v1::ProduceOnceResponse, ErrorDetail> {
    let deadline = Instant::now() + ONCE_TIMEOUT;
    let ProduceOnceInput { topic, partition, body, acks } = ProduceOnceInput::from_request(request, wall_clock())?;
    let (partition, batch) = match body {
        OnceBody::Batch(batch) => {
            let partition = partition.ok_or_else(|| invalid_argument("a batch needs its partition given"))?;
            (partition, batch)
        }
        OnceBody::Records(records, codec) => {
            let partition = match partition {
                Some(partition) => partition,
                None => choose(&service.context, &topic, &records)?,
            };
            (partition, encode(&records, codec)?)
        }
    };
    let submission = Submission { topic, partition, batch, acks, deadline };
    let submitted = submit(service, connection, submission).await.map_err(|refused| refused.error)?;
    let acked = submitted.acked().await?;
    Ok(v1::ProduceOnceResponse {
        partition: partition.0,
        base_offset: acked.base_offset.0,
        last_offset: acked.last_offset.0,
        duplicate: acked.duplicate,
    })
}

/// The partition of records whose maker didn't name one.
fn choose(context: &NodeContext, topic: &TopicRef, records: &[Record]) -> Result<PartitionIndex, ErrorDetail> {
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, topic)?;
    let chosen = match partition_of_keys(records, topic.partitions)? {
        Some(partition) => partition,
        None => any_partition(context, &catalogue, topic),
    };
    Ok(PartitionIndex(chosen))
}

/// The partition that all keys go to; `None` if no record has one.
fn partition_of_keys(records: &[Record], partitions: u32) -> Result<Option<u32>, ErrorDetail> {
    let mut found = None;
    for (number, record) in records.iter().enumerate() {
        let Some(key) = &record.key else { continue };
        let partition = partition_for_key(key, partitions);
        match found {
            None => found = Some(partition),
            Some(first) if first != partition => {
                return Err(invalid_argument(format!(
                    "the key of record {number} belongs to partition {partition}, an earlier one's to partition {first}; \
                     send them in a request each, or name the partition"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// A partition that is led here, another one each time; else partition 0, whose refusal says where to go.
fn any_partition(context: &NodeContext, catalogue: &Catalogue, topic: &TopicInfo) -> u32 {
    let leads = |log| context.replicas.get(log).is_some_and(|replica| replica.progress().role == Role::Leader);
    let led: Vec<u32> = catalogue.partitions_of(topic.topic).filter(|p| leads(p.log)).map(|p| p.index.0).collect();
    // The clock's microseconds spread well enough: nothing depends on an even spread.
    let turn = (context.clock.now().0 / 1000) as usize;
    led.get(turn.checked_rem(led.len()).unwrap_or(0)).copied().unwrap_or(0)
}

/// One batch of the records.
fn encode(records: &[Record], codec: Codec) -> Result<Bytes, ErrorDetail> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        builder.push(record).map_err(|e| e.to_detail(Stage::Admission))?;
    }
    builder.build().map_err(|e| e.to_detail(Stage::Admission))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::TimestampMs;
    use dlog_core::batch::decode_records;
    use dlog_core::error::ErrorCode;

    fn keyed(key: Option<&'static str>) -> Record {
        let record = Record::new(TimestampMs(5), &b"value"[..]);
        match key {
            Some(key) => record.with_key(key.as_bytes()),
            None => record,
        }
    }

    #[test]
    fn keys_choose_one_partition() {
        assert_eq!(partition_of_keys(&[keyed(None), keyed(None)], 8), Ok(None));
        let alone = partition_of_keys(&[keyed(Some("a"))], 8).expect("one key");
        assert_eq!(alone, Some(partition_for_key(b"a", 8)));
        assert_eq!(partition_of_keys(&[keyed(Some("a")), keyed(None), keyed(Some("a"))], 8), Ok(alone));
        let names: &[&'static str] = &["a", "b", "c", "d", "e", "f", "g", "h"];
        let all: Vec<Record> = names.iter().map(|n| keyed(Some(n))).collect();
        assert_eq!(partition_of_keys(&all, 8).expect_err("spread").code, ErrorCode::InvalidArgument);
        assert_eq!(partition_of_keys(&all, 1), Ok(Some(0)));
    }

    #[test]
    fn records_become_one_batch() {
        let sent = [keyed(Some("k")).with_header("h", Some(Bytes::from_static(b"v"))), keyed(None)];
        for codec in Codec::ALL {
            let bytes = encode(&sent, codec).expect("valid");
            let records: Vec<Record> =
                decode_records(&bytes).expect("a batch").map(|r| r.expect("a record").record).collect();
            assert_eq!(records, sent, "{codec}");
        }
    }
}
