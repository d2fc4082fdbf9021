//! [`Producer`]: records in, their partition and offset out.
//!
//! Each partition has a *lane*, which makes batches of what queues, sends them in order to the partition's leader and
//! sends them again, the same bytes in the same order, to the next leader if that one fails. All lanes of one leader share
//! one stream. Bytes not yet acked are bounded: whoever sends more waits.

mod driver;
mod flight;
pub(crate) mod lane;
mod link;

use crate::admin::topic_name;
use crate::backoff::random_seed;
use crate::client::Client;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::Topic;
use crate::partitioner::{Sticky, partition_for_key};
use dlog_core::TopicId;
use dlog_core::limits::{BATCH_BYTES_MAX, BATCH_BYTES_MIN, KIB, MIB};
use dlog_core::{
    Codec, ErrorCode, ErrorDetail, Offset, Outcome, PartitionIndex, ProducerId, Record, Stage, TimestampMs,
};
use dlog_protocol::Acks;
use dlog_protocol::convert::PRODUCE_TIMEOUT_MS_MAX;
use driver::{Command, Driver, Pending};
use link::Links;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
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
    /// Bytes of records given but not yet acked, 128 for each record's own cost included; `send` waits for room. A record
    /// that is larger than the bound takes all of it. Default 32 MiB; at least [`batch_bytes`](Self::batch_bytes), at most
    /// 4 GiB.
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

/// Sends records. Cheap to clone; clones share everything.
///
/// *Back-pressure*: the bytes of records that were given and are not yet acked are bounded by
/// [`ProducerOptions::in_flight_bytes`], all partitions together. Where there is no room [`Producer::send`] waits, first come
/// first served; nothing is dropped and nothing is buffered beyond it.
///
/// *Ending*: [`Producer::flush`] waits for what was given so far, [`Producer::close`] also refuses what comes later. Dropping
/// the last clone loses nothing either: what was given is still sent, within its deadline, as long as the runtime lives; but
/// a runtime that ends takes with it what isn't acked, so flush before the end of `main`.
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
    clock: Clock,
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

/// The future of one record: resolves when it is acked, or with what became of it.
///
/// Dropping it doesn't take the record back: it is sent and counted against the bytes in flight as before, only nobody is
/// told. It may be polled from any task, and waited for in any order.
///
/// # Errors
/// With outcome unknown the record may be in the log (at most once, if the producer is idempotent): `timeout` when the answer
/// didn't come in time, `shutting_down` when the runtime ended. With outcome rejected it is not and never will be: `timeout`
/// if it was never sent, `batch_too_large`, `unknown_topic` if the topic was deleted, `disk_full`, and what else a leader
/// refuses.
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
        let shared =
            Shared { clock: Clock::new(), links: Links::new(client.clone()), client, options, id: OnceCell::new() };
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
    /// Safe to cancel: if the future is dropped before it returns, the record isn't sent, and the room that it waited for is
    /// free for others. Once it has returned, the record is on its way.
    ///
    /// # Errors
    /// Always with outcome rejected: `unknown_topic`, `unknown_partition`, `invalid_topic_name`, `batch_too_large`, `timeout`
    /// if there was no room or no metadata in time, or `shutting_down` after [`Producer::close`].
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
        let room = self.room(cost.min(options.in_flight_bytes), deadline).await?;
        // From here to the end nothing waits, so a record that took room is given to its lane.
        let partition = self.choose(&topic, partition, &record, cost)?;
        let (reply, answer) = oneshot::channel();
        let pending = Pending { record, deadline: at, reply, room };
        self.to_lane(&topic, partition, Command::Record(pending));
        Ok(Delivery { answer })
    }

    /// Returns when every record given before is acked or has failed; their [`Delivery`]s say which. Nothing lingers
    /// meanwhile. Safe to cancel: what was given goes on. No longer than the latest deadline of these records.
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

    /// Refuses every later [`Producer::send`] (of all clones, also of those that wait for room), then flushes. Safe to cancel:
    /// it stays closed.
    pub async fn close(&self) {
        self.inner.room.close();
        self.flush().await;
    }

    /// Bytes of the records that were given and aren't settled, counted as for [`ProducerOptions::in_flight_bytes`].
    pub fn bytes_in_flight(&self) -> usize {
        self.inner.shared.options.in_flight_bytes - self.inner.room.available_permits()
    }

    /// Waits for room among the bytes in flight.
    async fn room(&self, bytes: usize, deadline: Deadline) -> Result<OwnedSemaphorePermit, Error> {
        let permits = u32::try_from(bytes).expect("checked with the options");
        match deadline.bound(self.inner.room.clone().acquire_many_owned(permits)).await {
            Some(Ok(room)) => Ok(room),
            Some(Err(_)) => {
                let closed = "this producer was closed; make another one";
                Err(Error::rejected(ErrorCode::ShuttingDown, closed))
            }
            None => {
                let full = "earlier records are not acked yet, and their bytes fill the producer's bound";
                let full = Error::rejected(ErrorCode::Overloaded, full);
                Err(Error::timeout(Outcome::Rejected, "sending the record", Some(full)))
            }
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
        let start = |own_id| Driver::start(self.inner.shared.clone(), topic, partition, own_id);
        let lane = lanes.entry((topic.id, partition)).or_insert_with(|| start(false));
        if let Err(mpsc::error::SendError(command)) = lane.send(command) {
            // The lane's task has ended (its runtime is going down, or it panicked): begin anew. Its sequence is lost with
            // it, and one that began again at 0 would be taken for a retry.
            *lane = start(true);
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
