//! Where partitions begin and end. Without `local` only a leader answers, and only after a majority has confirmed it: what was
//! acked before the question lies below the answer. With `local` and `linearizable` any replica promises the same: it asks the
//! leader, and waits until it can serve all of it.

use super::errors::{from_storage, to_status, to_wire};
use super::lookup;
use crate::context::NodeContext;
use crate::replicas::ReplicaHandle;
use crate::shard::inbox::{ReplyResult, ShardMessage};
use dlog_consensus::Reply;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogId, Offset, PartitionIndex, TimestampMs};
use dlog_protocol::ListOffsetsInput;
use dlog_protocol::v1::{ListOffsetsRequest, ListOffsetsResponse, PartitionOffsets};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

/// Longest wait for a majority to confirm a leader: several elections.
const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(5);

/// A question to one partition that is under way.
struct Asked {
    handle: Arc<ReplicaHandle>,
    /// `None`: the replica's own mark is enough.
    answer: Option<oneshot::Receiver<ReplyResult>>,
    /// Whether everything below the answer must be readable here.
    readable: bool,
}

/// Answers for each partition on its own.
///
/// # Errors
/// If the topic isn't known.
pub async fn list(context: &Arc<NodeContext>, request: ListOffsetsRequest) -> Result<ListOffsetsResponse, Status> {
    let request = ListOffsetsInput::try_from(request).map_err(|error| to_status(context, error))?;
    let deadline = Instant::now() + READ_INDEX_TIMEOUT;
    let wanted = wanted(context, &request).map_err(|error| to_status(context, error))?;
    // All questions first: one heartbeat of each group answers them side by side.
    let asked: Vec<(PartitionIndex, Result<Asked, ErrorDetail>)> = wanted
        .into_iter()
        .map(|(partition, log)| (partition, log.and_then(|log| ask(context, log, &request))))
        .collect();
    let mut partitions = Vec::with_capacity(asked.len());
    for (partition, asked) in asked {
        let result = match asked {
            Ok(asked) => asked.offsets(&request, deadline).await,
            Err(error) => Err(error),
        };
        partitions.push(match result {
            Ok(offsets) => PartitionOffsets { partition: partition.0, ..offsets },
            Err(error) => PartitionOffsets {
                partition: partition.0,
                error: Some(to_wire(context, error)),
                ..PartitionOffsets::default()
            },
        });
    }
    Ok(ListOffsetsResponse { partitions })
}

/// The partitions that are meant, in order, each with its log or why it has none.
#[expect(clippy::type_complexity, reason = "a list that only its caller takes apart")]
fn wanted(
    context: &NodeContext,
    request: &ListOffsetsInput,
) -> Result<Vec<(PartitionIndex, Result<LogId, ErrorDetail>)>, ErrorDetail> {
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, &request.topic)?;
    if request.partitions.is_empty() {
        let all = catalogue.partitions_of(topic.topic);
        let here = all.filter(|p| !request.local || context.replicas.get(p.log).is_some());
        return Ok(here.map(|p| (p.index, Ok(p.log))).collect());
    }
    let log = |number| lookup::partition(&catalogue, topic, number).map(|p| p.log);
    Ok(request.partitions.iter().map(|number| (*number, log(*number))).collect())
}

fn ask(context: &NodeContext, log: LogId, request: &ListOffsetsInput) -> Result<Asked, ErrorDetail> {
    if request.local {
        let handle = context.replica(log)?;
        let answer = request.linearizable.then(|| send_read_index(&handle)).transpose()?;
        return Ok(Asked { handle, answer, readable: request.linearizable });
    }
    let (handle, _) = lookup::leading_replica(context, log)?;
    let answer = Some(send_read_index(&handle)?);
    Ok(Asked { handle, answer, readable: false })
}

fn send_read_index(handle: &ReplicaHandle) -> Result<oneshot::Receiver<ReplyResult>, ErrorDetail> {
    let (reply, answer) = oneshot::channel();
    match handle.inbox.send(ShardMessage::ReadIndex { replica: handle.replica, reply }) {
        true => Ok(answer),
        false => Err(super::errors::shutting_down()),
    }
}

async fn read_index_answer(answer: oneshot::Receiver<ReplyResult>, deadline: Instant) -> Result<Offset, ErrorDetail> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(Ok(Reply::ReadIndex { high_watermark, .. }))) => Ok(high_watermark),
        Ok(Ok(Ok(other))) => {
            let text = format!("the shard answered a read index with {other:?}; this is a fault in dlog");
            Err(ErrorDetail::rejected(ErrorCode::Internal, Stage::Replication, text))
        }
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) => Err(super::errors::shutting_down()),
        Err(_) => {
            let text =
                "no majority confirmed the leader in time; `dlog cluster health` says which replicas are missing";
            Err(ErrorDetail::rejected(ErrorCode::Timeout, Stage::Replication, text))
        }
    }
}

/// Where the log ends, as a majority confirms it: everything acked before the call lies below. On a follower the leader is
/// asked, and the answer may be more than is readable here yet.
///
/// # Errors
/// `not_leader` and other answers of the replica; `timeout` at the deadline.
pub async fn read_index(handle: &ReplicaHandle, deadline: Instant) -> Result<Offset, ErrorDetail> {
    read_index_answer(send_read_index(handle)?, deadline).await
}

/// Waits until everything below `end` can be read here.
///
/// # Errors
/// `not_yet_available` at the deadline or when the replica leaves.
pub async fn readable(handle: &ReplicaHandle, end: Offset, deadline: Instant) -> Result<(), ErrorDetail> {
    let mut watch = handle.watch();
    let readable = watch.wait_for(|progress| progress.read_bound >= end);
    if matches!(tokio::time::timeout_at(deadline, readable).await, Ok(Ok(_))) {
        return Ok(());
    }
    let has = handle.progress().read_bound;
    let text = format!(
        "the partition ends at {end}, and this replica has {has} so far; ask again in a moment, or the partition's leader"
    );
    Err(ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Storage, text))
}

impl Asked {
    async fn offsets(self, request: &ListOffsetsInput, deadline: Instant) -> Result<PartitionOffsets, ErrorDetail> {
        let high_watermark = match self.answer {
            Some(answer) => read_index_answer(answer, deadline).await?,
            None => self.handle.progress().high_watermark,
        };
        if self.readable {
            readable(&self.handle, high_watermark, deadline).await?;
        }
        let log_start = self.handle.log_start();
        let at_offset = match request.at {
            Some(at) => find_time(&self.handle, at, high_watermark, deadline).await?,
            None => None,
        };
        Ok(PartitionOffsets {
            log_start: log_start.0,
            high_watermark: high_watermark.0,
            at_offset: at_offset.map(|offset| offset.0),
            last_records_offset: request.last_records.map(|n| last_records(n, log_start, high_watermark).0),
            ..PartitionOffsets::default()
        })
    }
}

/// Where the last `count` records below `end` begin. Offsets have no gaps, so they can be counted.
fn last_records(count: u64, log_start: Offset, end: Offset) -> Offset {
    Offset(end.0.saturating_sub(count)).max(log_start)
}

/// The first committed record at or after `at`, once everything committed is readable here.
async fn find_time(
    handle: &ReplicaHandle,
    at: TimestampMs,
    end: Offset,
    deadline: Instant,
) -> Result<Option<Offset>, ErrorDetail> {
    readable(handle, end, deadline).await?;
    let Some(reader) = handle.reader().cloned() else { return Ok(None) };
    let found = tokio::task::spawn_blocking(move || reader.offset_for_time(at, end)).await;
    found.map_err(|_| super::errors::shutting_down())?.map_err(|error| {
        handle.report(&error);
        from_storage(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_begin_at_the_log_start_at_least() {
        assert_eq!(last_records(3, Offset(0), Offset(10)), Offset(7));
        assert_eq!(last_records(30, Offset(0), Offset(10)), Offset(0));
        assert_eq!(last_records(30, Offset(4), Offset(10)), Offset(4));
        assert_eq!(last_records(0, Offset(4), Offset(10)), Offset(10));
    }
}
