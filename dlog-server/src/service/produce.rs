//! Produce: batches on their way in. A stream is read in order, each request is admitted at once or refused at once, and its
//! answer comes in the order of its partition ([`lanes`]) when the shard has spoken.
//!
//! What a request may wait for is bounded: its connection's bytes in flight (then the stream isn't read any more), the
//! node's and the shard's (then the producer is told `overloaded`), and its own deadline.

pub mod lanes;
mod once;

pub use once::once;

use super::errors::{invalid_argument, shutting_down, to_status, to_wire};
use super::listener::ConnectionInfo;
use super::log::LogService;
use super::{admission, lookup};
use crate::clock::wall_clock;
use crate::context::NodeContext;
use crate::metrics::Metrics;
use crate::replicas::ReplicaHandle;
use crate::shard::inbox::{ProposeRequest, ReplyResult, ShardMessage};
use bytes::Bytes;
use dlog_consensus::{Appended, Reply};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogId, Offset, PartitionIndex, ReplicaId, TimestampMs};
use dlog_protocol::v1::{ProduceRequest, ProduceResponse, TopicSelector};
use dlog_protocol::{Acks, ProduceInput, TopicRef};
use dlog_replication::TimestampType;
use lanes::Lanes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Answers of one stream that wait for the client to read them; about 100 bytes each.
const ANSWERS_QUEUED: usize = 256;
/// The least that a request counts for in what is in flight: what it costs beside its batch.
const REQUEST_BYTES_MIN: usize = 512;

/// A batch with all that decides about it.
pub struct Submission {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The bytes that came.
    pub batch: Bytes,
    /// How durable before the answer.
    pub acks: Acks,
    /// When the producer gives up.
    pub deadline: Instant,
}

/// A batch that a shard has.
pub struct Submitted {
    handle: Arc<ReplicaHandle>,
    reply: oneshot::Receiver<ReplyResult>,
    append_time: Option<TimestampMs>,
    deadline: Instant,
    arrived: Instant,
    acks: Acks,
    bytes: usize,
    metrics: Arc<Metrics>,
    /// Given back once the answer is known.
    _in_flight: [OwnedSemaphorePermit; 2],
}

/// A batch that is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Of its first record.
    pub base_offset: Offset,
    /// Of its last record.
    pub last_offset: Offset,
    /// It was there before.
    pub duplicate: bool,
    /// As this replica knows it now.
    pub high_watermark: Offset,
    /// What the leader stamped.
    pub append_time: Option<TimestampMs>,
}

/// Why a batch was refused, and in which log's order the answer belongs (none: it named no partition that exists).
pub struct Refused {
    /// The log.
    pub log: Option<LogId>,
    /// Why.
    pub error: ErrorDetail,
}

impl From<ErrorDetail> for Refused {
    fn from(error: ErrorDetail) -> Refused {
        Refused { log: None, error }
    }
}

/// Checks a batch and hands it to its shard.
///
/// # Errors
/// Nothing was appended; the reason, rejected.
pub async fn submit(
    service: &LogService,
    connection: &ConnectionInfo,
    submission: Submission,
) -> Result<Submitted, Refused> {
    let (context, arrived) = (&service.context, Instant::now());
    let (log, append_time) = {
        let catalogue = context.catalogue();
        let topic = lookup::topic(&catalogue, &submission.topic)?;
        let log = lookup::partition(&catalogue, topic, submission.partition)?.log;
        let refused = |error| Refused { log: Some(log), error };
        if context.is_stopping() {
            return Err(refused(going_down(context, log)));
        }
        admission::single_node_rule(&context.config, catalogue.nodes().len()).map_err(refused)?;
        // Before the batch is hashed: whoever asks the wrong node is told so cheaply.
        lookup::leading_replica(context, log).map_err(refused)?;
        admission::check_batch(&submission.batch, topic).map_err(refused)?;
        (log, (topic.settings.timestamp_type() == TimestampType::Append).then(wall_clock))
    };
    let refused = |error| Refused { log: Some(log), error };
    let acks = admission::shard_acks(submission.acks);
    let bytes = submission.batch.len().max(REQUEST_BYTES_MIN);
    let in_flight = take_room(service, connection, bytes, submission.deadline).await.map_err(refused)?;
    // Again, after the wait.
    let (handle, _) = lookup::leading_replica(context, log).map_err(refused)?;
    let permit = handle.inbox.admit(bytes).map_err(refused)?;
    let (reply, answer) = oneshot::channel();
    let sent = submission.batch.len();
    let request =
        ProposeRequest { replica: handle.replica, batches: vec![submission.batch], append_time, acks, permit, reply };
    if !handle.inbox.send(ShardMessage::Propose(request)) {
        return Err(refused(shutting_down()));
    }
    Ok(Submitted {
        handle,
        reply: answer,
        append_time,
        deadline: submission.deadline,
        arrived,
        acks: submission.acks,
        bytes: sent,
        metrics: Arc::clone(&context.metrics),
        _in_flight: in_flight,
    })
}

/// The answer of a node that hands its leaderships over. It looks like any change of leader, so that clients look for the new
/// one instead of waiting for this node.
fn going_down(context: &NodeContext, log: LogId) -> ErrorDetail {
    let leader = context.replica(log).ok().and_then(|handle| handle.progress().leader).map(ReplicaId::node);
    let text = "this node is going down and hands its leaderships over; ask for the partition's leader again";
    ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Service, text)
        .with_leader(leader.filter(|node| *node != context.node_id()), None)
        .with_retry_after_ms(50)
}

/// Waits for room on the connection (whose stream isn't read meanwhile); takes room on the node or refuses.
async fn take_room(
    service: &LogService,
    connection: &ConnectionInfo,
    bytes: usize,
    deadline: Instant,
) -> Result<[OwnedSemaphorePermit; 2], ErrorDetail> {
    let permits = u32::try_from(bytes).map_err(|_| invalid_argument("the batch is too large to be counted"))?;
    let wait = Arc::clone(&connection.in_flight).acquire_many_owned(permits);
    let own = tokio::time::timeout_at(deadline, wait).await.map_err(|_| {
        let text = "the connection had too much in flight until the deadline; read the answers, or send less at once";
        ErrorDetail::rejected(ErrorCode::Timeout, Stage::Admission, text)
    })?;
    let node = Arc::clone(&service.in_flight).try_acquire_many_owned(permits).map_err(|_| {
        let text = "the node has too many bytes of all producers in flight; send again in a moment";
        ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Admission, text).with_retry_after_ms(20)
    })?;
    Ok([own.map_err(|_| shutting_down())?, node])
}

impl Submitted {
    /// The log that the batch goes to.
    pub fn log(&self) -> LogId {
        self.handle.log
    }

    /// Waits until the batch is as durable as was asked.
    ///
    /// # Errors
    /// What the shard says; `timeout` with outcome unknown when the deadline passes first.
    pub async fn acked(self) -> Result<Acked, ErrorDetail> {
        let reply = match tokio::time::timeout_at(self.deadline, self.reply).await {
            Ok(Ok(reply)) => reply?,
            Ok(Err(_)) => {
                let text = "the node stopped before it could say whether the batch was appended";
                return Err(ErrorDetail::unknown(ErrorCode::ShuttingDown, Stage::Replication, text));
            }
            Err(_) => {
                let text = "no quorum confirmed the batch in time; it may still be appended. \
                            `dlog cluster health` says whether replicas are missing";
                return Err(ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, text));
            }
        };
        match reply {
            Reply::Appended(appended) if appended.len() == 1 => {
                let Appended { base_offset, last_offset, duplicate } = appended[0];
                let records = last_offset.0.saturating_sub(base_offset.0) + 1;
                self.metrics.acked(self.acks, self.arrived.elapsed(), records, self.bytes as u64, duplicate);
                Ok(Acked {
                    base_offset,
                    last_offset,
                    duplicate,
                    high_watermark: self.handle.progress().high_watermark,
                    // A duplicate carries the time of its first append, which isn't known here.
                    append_time: self.append_time.filter(|_| !duplicate),
                })
            }
            other => {
                let text =
                    format!("the shard answered a batch with {other:?}; this is a fault in dlog, please report it");
                Err(ErrorDetail::unknown(ErrorCode::Internal, Stage::Replication, text))
            }
        }
    }
}

/// Starts a produce stream and returns its answers.
pub fn start(
    service: LogService,
    connection: ConnectionInfo,
    requests: Streaming<ProduceRequest>,
) -> ReceiverStream<Result<ProduceResponse, Status>> {
    let (answers, receiver) = mpsc::channel(ANSWERS_QUEUED);
    tokio::spawn(run(service, connection, requests, answers));
    ReceiverStream::new(receiver)
}

/// Reads requests until the client has no more, then waits for what is in flight.
async fn run(
    service: LogService,
    connection: ConnectionInfo,
    mut requests: Streaming<ProduceRequest>,
    answers: mpsc::Sender<Result<ProduceResponse, Status>>,
) {
    let mut lanes = Lanes::new(answers.clone());
    let end = loop {
        let next = tokio::select! {
            biased;
            () = answers.closed() => return,
            () = service.closing.cancelled() => break Some(to_status(&service.context, shutting_down())),
            next = requests.message() => next,
        };
        match next {
            Ok(Some(request)) => take(&service, &connection, &mut lanes, &answers, request).await,
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    lanes.finish().await;
    if let Some(status) = end {
        // A client that has gone away needs no reason.
        let _ = answers.send(Err(status)).await;
    }
}

/// Admits or refuses one request; its answer follows in its lane.
async fn take(
    service: &LogService,
    connection: &ConnectionInfo,
    lanes: &mut Lanes,
    answers: &mpsc::Sender<Result<ProduceResponse, Status>>,
    request: ProduceRequest,
) {
    let id = request.request_id;
    let named = (request.topic.clone(), request.partition);
    let submitted = match ProduceInput::try_from(request) {
        Ok(ProduceInput { topic, partition, batch, acks, timeout, .. }) => {
            let submission = Submission { topic, partition, batch, acks, deadline: Instant::now() + timeout };
            submit(service, connection, submission).await
        }
        Err(error) => Err(Refused { log: log_of(&service.context, named), error }),
    };
    match submitted {
        Ok(submitted) => {
            let context = Arc::clone(&service.context);
            let log = submitted.log();
            let answer = async move {
                match submitted.acked().await {
                    Ok(acked) => acked_response(id, &acked),
                    Err(error) => {
                        ProduceResponse { request_id: id, error: Some(to_wire(&context, error)), ..Default::default() }
                    }
                }
            };
            lanes.push(log, Box::pin(answer));
        }
        Err(Refused { log, error }) => {
            let response =
                ProduceResponse { request_id: id, error: Some(to_wire(&service.context, error)), ..Default::default() };
            match log {
                Some(log) if lanes.is_busy(log) => lanes.push(log, Box::pin(std::future::ready(response))),
                _ => drop(answers.send(Ok(response)).await),
            }
        }
    }
}

/// The log that a malformed request meant, if it named one: its refusal stands in that log's order.
fn log_of(context: &NodeContext, (topic, partition): (Option<TopicSelector>, u32)) -> Option<LogId> {
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, &TopicRef::try_from(topic).ok()?).ok()?;
    Some(lookup::partition(&catalogue, topic, PartitionIndex(partition)).ok()?.log)
}

fn acked_response(request_id: u64, acked: &Acked) -> ProduceResponse {
    ProduceResponse {
        request_id,
        base_offset: acked.base_offset.0,
        last_offset: acked.last_offset.0,
        high_watermark: Some(acked.high_watermark.0),
        duplicate: acked.duplicate,
        error: None,
        append_time_ms: acked.append_time.map(|t| t.0),
    }
}

/// Room for requests of one connection.
pub fn connection_room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(dlog_core::limits::CONNECTION_IN_FLIGHT_BYTES_MAX))
}

/// Longest wait of a unary produce, whatever the caller's own deadline.
pub(crate) const ONCE_TIMEOUT: Duration = Duration::from_secs(30);
