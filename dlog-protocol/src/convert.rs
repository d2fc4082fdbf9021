//! Messages into checked values: what a service works with has passed through here, and every refusal says which field is
//! wrong.

use crate::v1;
use bytes::Bytes;
use dlog_core::limits::{CONSUME_ANSWER_BYTES_MAX, PARTITIONS_PER_TOPIC_MAX, RECORDS_PER_BATCH_MAX};
use dlog_core::{Codec, ErrorCode, ErrorDetail, Header, Offset, PartitionIndex, Record, Stage, TimestampMs, TopicId};
use dlog_core::{TopicName, TopicNameError};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest time that a produce request may wait for its answer, in milliseconds: what a slot in the server's tables may
/// be taken for.
pub const PRODUCE_TIMEOUT_MS_MAX: u32 = 600_000;
/// The longest wait of a consume stream for something new, in milliseconds: after it the marks are told, so this also
/// bounds how old they are.
pub const CONSUME_WAIT_MS_MAX: u32 = 60_000;
/// The wait of a consume stream if the client doesn't choose one, in milliseconds.
pub const CONSUME_WAIT_MS_DEFAULT: u32 = 1_000;

/// How durable a record is when its producer is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// Synced on a majority of the partition's voters.
    #[default]
    Quorum,
    /// Synced on the leader alone. May be lost when the leader fails.
    Leader,
    /// Synced on a majority, and on every replica that is in sync at that moment.
    All,
}

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// By name: whichever topic has it now.
    Name(TopicName),
    /// By id: this one and no later one of the same name.
    Id(TopicId),
}

/// A checked [`v1::ProduceRequest`]. The batch's own bytes are not looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceInput {
    /// The client's number; the answer repeats it.
    pub request_id: u64,
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The batch as sent. Shares the transport's buffer.
    pub batch: Bytes,
    /// When to answer.
    pub acks: Acks,
    /// How long the client waits, 1 ms to [`PRODUCE_TIMEOUT_MS_MAX`].
    pub timeout: Duration,
}

/// A checked [`v1::ProduceOnceRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceOnceInput {
    /// The topic.
    pub topic: TopicRef,
    /// The partition; `None` only with [`OnceBody::Records`]: the server chooses.
    pub partition: Option<PartitionIndex>,
    /// What to append.
    pub body: OnceBody,
    /// When to answer.
    pub acks: Acks,
}

/// What a [`ProduceOnceInput`] appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnceBody {
    /// A batch as sent; never empty.
    Batch(Bytes),
    /// At least one record, for the server to encode.
    Records(Vec<Record>, Codec),
}

/// A checked [`v1::ConsumeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumeInput {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted.
    pub from: Offset,
    /// Where the stream ends (exclusive); at least `from`.
    pub until: Option<Offset>,
    /// Whether it goes on at the end of the log.
    pub follow: bool,
    /// Bytes of batches in one answer beyond the first, 1 to [`CONSUME_ANSWER_BYTES_MAX`].
    pub max_bytes: usize,
    /// How long to wait for something new, 1 ms to [`CONSUME_WAIT_MS_MAX`].
    pub max_wait: Duration,
    /// Whether the replica first finds out, and waits for, all that was acked before.
    pub linearizable: bool,
}

/// A checked [`v1::ListOffsetsRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOffsetsInput {
    /// The topic.
    pub topic: TopicRef,
    /// Rising, without repeats; empty: all.
    pub partitions: Vec<PartitionIndex>,
    /// This replica's own marks instead of the leader's.
    pub local: bool,
    /// Also the first record at or after this time.
    pub at: Option<TimestampMs>,
    /// Also where the last so many records begin.
    pub last_records: Option<u64>,
    /// With `local`: this replica first finds out, and waits for, all that was acked before.
    pub linearizable: bool,
}

fn refused(message: impl Into<String>) -> ErrorDetail {
    ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, message)
}

/// The error for a name that can't be a topic's.
pub fn topic_name_error(error: &TopicNameError) -> ErrorDetail {
    ErrorDetail::rejected(ErrorCode::InvalidTopicName, Stage::Service, error.to_string())
}

fn offset(field: &str, value: u64) -> Result<Offset, ErrorDetail> {
    if value > Offset::MAX.0 {
        return Err(refused(format!("{field} is {value}, offsets end at {}", Offset::MAX)));
    }
    Ok(Offset(value))
}

fn partition(value: u32) -> Result<PartitionIndex, ErrorDetail> {
    if value >= PARTITIONS_PER_TOPIC_MAX {
        return Err(refused(format!(
            "partition is {value}, partitions are numbered 0 to {}",
            PARTITIONS_PER_TOPIC_MAX - 1
        )));
    }
    Ok(PartitionIndex(value))
}

impl TryFrom<Option<v1::TopicSelector>> for TopicRef {
    type Error = ErrorDetail;

    fn try_from(selector: Option<v1::TopicSelector>) -> Result<TopicRef, ErrorDetail> {
        use v1::topic_selector::By;
        match selector.and_then(|selector| selector.by) {
            Some(By::Name(name)) => TopicName::new(&name).map(TopicRef::Name).map_err(|e| topic_name_error(&e)),
            Some(By::Id(0)) | None => Err(refused("no topic is named; give its name or its id")),
            Some(By::Id(id)) => Ok(TopicRef::Id(TopicId(id))),
        }
    }
}

impl From<&TopicRef> for v1::TopicSelector {
    fn from(topic: &TopicRef) -> v1::TopicSelector {
        use v1::topic_selector::By;
        let by = match topic {
            TopicRef::Name(name) => By::Name(name.as_str().to_owned()),
            TopicRef::Id(id) => By::Id(id.0),
        };
        v1::TopicSelector { by: Some(by) }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicRef::Name(name) => write!(f, "{name}"),
            TopicRef::Id(id) => write!(f, "with id {id}"),
        }
    }
}

impl Acks {
    /// The acks of a request's field.
    ///
    /// # Errors
    /// `invalid_argument` for a number that this version doesn't know.
    pub fn from_message(number: i32) -> Result<Acks, ErrorDetail> {
        match v1::Acks::try_from(number) {
            Ok(v1::Acks::Unspecified | v1::Acks::Quorum) => Ok(Acks::Quorum),
            Ok(v1::Acks::Leader) => Ok(Acks::Leader),
            Ok(v1::Acks::All) => Ok(Acks::All),
            Err(_) => Err(refused(format!("acks {number} is unknown; use quorum, leader or all"))),
        }
    }

    /// The acks as a request's field.
    pub fn to_message(self) -> i32 {
        match self {
            Acks::Quorum => v1::Acks::Quorum,
            Acks::Leader => v1::Acks::Leader,
            Acks::All => v1::Acks::All,
        }
        .into()
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Acks::Quorum => "quorum",
            Acks::Leader => "leader",
            Acks::All => "all",
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of the acks'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("acks {0:?} is unknown; use quorum, leader or all")]
pub struct UnknownAcks(pub String);

impl FromStr for Acks {
    type Err = UnknownAcks;

    fn from_str(name: &str) -> Result<Acks, UnknownAcks> {
        let all = [Acks::Quorum, Acks::Leader, Acks::All];
        all.into_iter().find(|acks| acks.name() == name).ok_or_else(|| UnknownAcks(name.to_owned()))
    }
}

impl TryFrom<v1::ProduceRequest> for ProduceInput {
    type Error = ErrorDetail;

    fn try_from(request: v1::ProduceRequest) -> Result<ProduceInput, ErrorDetail> {
        if request.batch.is_empty() {
            return Err(refused("the request has no batch"));
        }
        if request.timeout_ms == 0 || request.timeout_ms > PRODUCE_TIMEOUT_MS_MAX {
            let given = request.timeout_ms;
            return Err(refused(format!("timeout_ms is {given}, 1 to {PRODUCE_TIMEOUT_MS_MAX} are allowed")));
        }
        Ok(ProduceInput {
            request_id: request.request_id,
            topic: request.topic.try_into()?,
            partition: partition(request.partition)?,
            batch: request.batch,
            acks: Acks::from_message(request.acks)?,
            timeout: Duration::from_millis(u64::from(request.timeout_ms)),
        })
    }
}

impl ProduceOnceInput {
    /// Checks a request. Records without a time stamp get `now`, the server's clock.
    ///
    /// # Errors
    /// `invalid_argument` and the like: nothing was applied.
    pub fn from_request(request: v1::ProduceOnceRequest, now: TimestampMs) -> Result<ProduceOnceInput, ErrorDetail> {
        let partition = request.partition.map(partition).transpose()?;
        let body = match (request.batch, request.records) {
            (Some(_), records) if !records.is_empty() => return Err(refused("give a batch or records, not both")),
            (Some(batch), _) if batch.is_empty() => return Err(refused("the batch is empty")),
            (Some(_), _) if partition.is_none() => return Err(refused("a batch needs its partition given")),
            (Some(batch), _) => OnceBody::Batch(batch),
            (None, records) if records.is_empty() => return Err(refused("the request has neither batch nor records")),
            (None, records) if records.len() > RECORDS_PER_BATCH_MAX as usize => {
                return Err(refused(format!("{} records, at most {RECORDS_PER_BATCH_MAX} fit a batch", records.len())));
            }
            (None, records) => OnceBody::Records(
                records.into_iter().map(|record| record_from_message(record, now)).collect(),
                codec_from_message(request.codec)?,
            ),
        };
        Ok(ProduceOnceInput {
            topic: request.topic.try_into()?,
            partition,
            body,
            acks: Acks::from_message(request.acks)?,
        })
    }
}

impl TryFrom<v1::ConsumeRequest> for ConsumeInput {
    type Error = ErrorDetail;

    fn try_from(request: v1::ConsumeRequest) -> Result<ConsumeInput, ErrorDetail> {
        let from = offset("from", request.from)?;
        let until = request.until.map(|until| offset("until", until)).transpose()?;
        if let Some(until) = until.filter(|until| *until < from) {
            return Err(refused(format!("until is {until}, before from ({from})")));
        }
        if request.max_wait_ms > CONSUME_WAIT_MS_MAX {
            return Err(refused(format!(
                "max_wait_ms is {}, at most {CONSUME_WAIT_MS_MAX} is allowed",
                request.max_wait_ms
            )));
        }
        let wait_ms = if request.max_wait_ms == 0 { CONSUME_WAIT_MS_DEFAULT } else { request.max_wait_ms };
        let max_bytes = match request.max_bytes as usize {
            0 => CONSUME_ANSWER_BYTES_MAX,
            bytes => bytes.min(CONSUME_ANSWER_BYTES_MAX),
        };
        Ok(ConsumeInput {
            topic: request.topic.try_into()?,
            partition: partition(request.partition)?,
            from,
            until,
            follow: request.follow,
            max_bytes,
            max_wait: Duration::from_millis(u64::from(wait_ms)),
            linearizable: request.linearizable,
        })
    }
}

impl TryFrom<v1::ListOffsetsRequest> for ListOffsetsInput {
    type Error = ErrorDetail;

    fn try_from(request: v1::ListOffsetsRequest) -> Result<ListOffsetsInput, ErrorDetail> {
        let mut partitions = request.partitions.into_iter().map(partition).collect::<Result<Vec<_>, _>>()?;
        partitions.sort_unstable();
        partitions.dedup();
        Ok(ListOffsetsInput {
            topic: request.topic.try_into()?,
            partitions,
            local: request.local,
            at: request.at_timestamp_ms.map(TimestampMs),
            last_records: request.last_records,
            linearizable: request.linearizable,
        })
    }
}

/// A structured record as dlog's own; without a time stamp it gets `now`. Bounds are checked when it is encoded.
pub fn record_from_message(record: v1::Record, now: TimestampMs) -> Record {
    let headers = record.headers.into_iter().map(|header| Header { key: header.key, value: header.value }).collect();
    let timestamp = record.timestamp_ms.map_or(now, TimestampMs);
    Record { timestamp, key: record.key, value: record.value, headers }
}

/// dlog's record as a structured one.
pub fn record_to_message(record: Record) -> v1::Record {
    let headers =
        record.headers.into_iter().map(|header| v1::Header { key: header.key, value: header.value }).collect();
    v1::Record { timestamp_ms: Some(record.timestamp.0), key: record.key, value: record.value, headers }
}

/// The codec of a request's field.
///
/// # Errors
/// `invalid_argument` for a number that this version doesn't know.
pub fn codec_from_message(number: i32) -> Result<Codec, ErrorDetail> {
    let known = u8::try_from(number).ok().and_then(Codec::from_number);
    known.ok_or_else(|| refused(format!("codec {number} is unknown; use none, gzip, snappy, lz4 or zstd")))
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
