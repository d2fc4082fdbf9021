//! [`Producer`]: records in, their partition and offset out.
//!
//! Each partition has a *lane*: a task that makes batches of what queues, sends them in order to the partition's leader and
//! sends them again, the same bytes in the same order, to the next leader if that one fails. All lanes of one leader share
//! one stream. Bytes not yet acked are bounded: whoever sends more waits.

mod flight;
mod lane;
mod link;

use crate::admin::topic_name;
use crate::backoff::random_seed;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::Topic;
use crate::partitioner::{Sticky, partition_for_key};
use dlog_core::limits::{BATCH_BYTES_MAX, BATCH_BYTES_MIN, KIB, MIB};
use dlog_core::{
    Codec, ErrorCode, ErrorDetail, Offset, Outcome, PartitionIndex, ProducerId, Record, Stage, TimestampMs,
};
use dlog_core::{TopicId, TopicName};
use dlog_protocol::Acks;
use dlog_protocol::convert::PRODUCE_TIMEOUT_MS_MAX;
use lane::{Command, Lane, Pending};
use link::Links;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// What a queued record costs beside its bytes: its entry here, its place in a batch. Bounds how many empty ones may queue.
const RECORD_COST_BYTES: usize = 128;

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// When a record counts as acked. Default: quorum.
    pub acks: Acks,
    /// The compression of batches. Default: none.
    pub codec: Codec,
    /// How long a record may wait for others to share its batch. Default 0: sent at once when nothing is in flight for its
    /// partition; a batch is what queued meanwhile.
    pub linger: Duration,
    /// A batch is sent when it has so many bytes, whatever else is in flight. Default 256 KiB; also bounded by the topic's
    /// `max.batch.bytes`.
    pub batch_bytes: usize,
    /// Whether a retry can't append twice. Default: yes. Without it a batch whose fate is unknown is not sent again, and only
    /// one is in flight for each partition.
    pub idempotent: bool,
    /// Bytes of records given but not yet acked; `send` waits for room. Default 32 MiB.
    pub in_flight_bytes: usize,
    /// From `send` to the ack, retries included. Default 10 s, at most 10 minutes.
    pub timeout: Duration,
    /// Let a node that was started to do so create a topic that is missing. Default: no.
    pub create_missing: bool,
}

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            acks: Acks::Quorum,
            codec: Codec::None,
            linger: Duration::ZERO,
            batch_bytes: 256 * KIB,
            idempotent: true,
            in_flight_bytes: 32 * MIB,
            timeout: Duration::from_secs(10),
            create_missing: false,
        }
    }
}

impl ProducerOptions {
    fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::rejected(ErrorCode::InvalidArgument, message));
        if !(BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&self.batch_bytes) {
            return refuse(format!(
                "batch bytes are {}, {BATCH_BYTES_MIN} to {BATCH_BYTES_MAX} are allowed",
                self.batch_bytes
            ));
        }
        let longest = Duration::from_millis(u64::from(PRODUCE_TIMEOUT_MS_MAX));
        if self.timeout.is_zero() || self.timeout > longest {
            return refuse(format!("the timeout is {:?}, at most {longest:?} is allowed, and not 0", self.timeout));
        }
        if self.in_flight_bytes < self.batch_bytes || self.in_flight_bytes > u32::MAX as usize {
            return refuse(format!("in-flight bytes are {}, one batch to 4 GiB are allowed", self.in_flight_bytes));
        }
        Ok(())
    }
}

/// Sends records. Cheap to clone; clones share everything. Dropping it loses nothing: what was given is still sent, within
/// its deadline, as long as the runtime lives.
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    lanes: Mutex<BTreeMap<(TopicId, PartitionIndex), mpsc::UnboundedSender<Command>>>,
    sticky: Mutex<Sticky<TopicId>>,
    room: Arc<Semaphore>,
}

/// What all lanes share.
#[derive(Debug)]
pub(crate) struct Shared {
    client: Client,
    options: ProducerOptions,
    links: Links,
    id: OnceCell<ProducerId>,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
}

/// The future of one record: resolves when it is acked, or with what became of it. Dropping it doesn't take the record back.
#[derive(Debug)]
#[must_use = "only this tells whether the record was acked"]
pub struct Delivery {
    answer: oneshot::Receiver<Result<Delivered, Error>>,
}

impl Future for Delivery {
    type Output = Result<Delivered, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| {
            let message = "the runtime ended before the record was acked";
            Err(Error::new(ErrorDetail::unknown(ErrorCode::ShuttingDown, Stage::Client, message)))
        }))
    }
}

impl Producer {
    pub(crate) fn new(client: Client, options: ProducerOptions) -> Result<Producer, Error> {
        options.check()?;
        let room = Arc::new(Semaphore::new(options.in_flight_bytes));
        let shared = Shared { links: Links::new(client.clone()), client, options, id: OnceCell::new() };
        let inner = Inner {
            shared: Arc::new(shared),
            lanes: Mutex::default(),
            sticky: Mutex::new(Sticky::new(random_seed())),
            room,
        };
        Ok(Producer { inner: Arc::new(inner) })
    }

    /// Gives a record to the partition named, else to the one of its key, else to any. Returns once there is room for it; the
    /// [`Delivery`] then tells its fate. A record whose time stamp is [`TimestampMs::NONE`] gets the present time. Records
    /// given one after the other to the same partition keep that order.
    ///
    /// Safe to cancel: if the future is dropped before it returns, the record isn't sent.
    ///
    /// # Errors
    /// Always with outcome rejected: `unknown_topic`, `unknown_partition`, `batch_too_large`, or `timeout` if there was no room
    /// or no metadata in time.
    pub async fn send(&self, topic: &str, partition: Option<u32>, mut record: Record) -> Result<Delivery, Error> {
        let name = topic_name(topic)?;
        record.check().map_err(|error| Error::rejected(ErrorCode::BatchTooLarge, error.to_string()))?;
        if record.timestamp == TimestampMs::NONE {
            record.timestamp = now();
        }
        let options = &self.inner.shared.options;
        let at = Instant::now() + options.timeout;
        let deadline = Deadline::at(at);
        let topic =
            self.inner.shared.client.topic(&name, options.create_missing, deadline).await.map_err(Error::of_read)?;
        let cost = cost(&record);
        let permits = u32::try_from(cost.min(options.in_flight_bytes)).expect("checked with the options");
        let room = tokio::time::timeout_at(at, self.inner.room.clone().acquire_many_owned(permits)).await;
        let Ok(Ok(room)) = room else {
            let full = ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Client, "earlier records are not acked yet");
            return Err(Error::timeout(Outcome::Rejected, "sending the record", Some(full.into())));
        };
        let partition = self.choose(&topic, partition, &record, cost)?;
        let (reply, answer) = oneshot::channel();
        let pending = Pending { record, cost, deadline: at, reply, room };
        self.to_lane(&topic, partition, Command::Record(pending));
        Ok(Delivery { answer })
    }

    /// Returns when every record given before is acked or has failed. Nothing lingers meanwhile.
    pub async fn flush(&self) {
        let settled: Vec<_> = {
            let lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let flush = |lane: &mpsc::UnboundedSender<Command>| {
                let (reply, settled) = oneshot::channel();
                lane.send(Command::Flush(reply)).ok().map(|()| settled)
            };
            lanes.values().filter_map(flush).collect()
        };
        for lane in settled {
            // An error means that the lane has ended: nothing of it is left to wait for.
            lane.await.unwrap_or(());
        }
    }

    fn choose(
        &self,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record,
        cost: usize,
    ) -> Result<PartitionIndex, Error> {
        let count = topic.partitions.len() as u32;
        let chosen = match (partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => {
                let led = |index: &u32| topic.partitions[*index as usize].leader.is_some();
                let mut usable: Vec<u32> = (0..count).filter(led).collect();
                if usable.is_empty() {
                    usable = (0..count).collect();
                }
                let mut sticky = self.inner.sticky.lock().unwrap_or_else(PoisonError::into_inner);
                sticky.choose(topic.id, &usable, cost, self.inner.shared.options.batch_bytes)
            }
        };
        topic.route(PartitionIndex(chosen))?;
        Ok(PartitionIndex(chosen))
    }

    fn to_lane(&self, topic: &Topic, partition: PartitionIndex, command: Command) {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Lane::start(self.inner.shared.clone(), topic, partition);
        let lane = lanes.entry((topic.id, partition)).or_insert_with(start);
        if let Err(mpsc::error::SendError(command)) = lane.send(command) {
            // The lane's task has ended (its runtime is going down, or it panicked): begin anew.
            *lane = start();
            // If that one has ended too, the record's future says so.
            lane.send(command).unwrap_or(());
        }
    }
}

impl Shared {
    /// The producer id that lanes begin with, taken when the first batch needs it.
    async fn shared_id(&self, deadline: Deadline) -> Result<ProducerId, Error> {
        self.id.get_or_try_init(|| self.new_id(deadline)).await.copied()
    }

    /// A producer id that nobody else has.
    async fn new_id(&self, deadline: Deadline) -> Result<ProducerId, Error> {
        let (id, _) = self.client.admin().allocate_within(1, deadline).await?;
        Ok(id)
    }

    fn selector(id: TopicId) -> dlog_protocol::v1::TopicSelector {
        (&dlog_protocol::TopicRef::Id(id)).into()
    }
}

/// What a record takes of the bytes in flight.
fn cost(record: &Record) -> usize {
    let bytes = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + bytes(&header.value) + 32).sum();
    RECORD_COST_BYTES + bytes(&record.key) + bytes(&record.value) + headers
}

fn now() -> TimestampMs {
    // A clock before 1970 is as good as none.
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}

/// A topic and a partition for messages.
fn place(name: &TopicName, partition: PartitionIndex) -> String {
    format!("{name}/{partition}")
}
