//! [`Link`]: one produce stream to one node, shared by the lanes of all partitions that this node leads.

use crate::client::Client;
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::NodeInfo;
use dlog_core::{ErrorCode, ErrorDetail, NodeId, Stage};
use dlog_protocol::v1::{ProduceRequest, ProduceResponse};
use dlog_protocol::{services, status};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

/// The longest wait for a node to take a stream.
const OPENING: Duration = Duration::from_secs(2);

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The lane's number for it.
    pub(crate) attempt: u64,
    pub(crate) result: Result<ProduceResponse, Error>,
}

/// A stream to one node. It ends when nobody holds it.
///
/// The queue of requests has no bound of its own: the producer bounds the bytes of all records that aren't acked.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    /// Another one for each link of a producer.
    pub(crate) number: u64,
    requests: mpsc::UnboundedSender<ProduceRequest>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for which answer.
///
/// Invariant: once `closed` is set nobody is entered any more, and everybody who waited was told.
#[derive(Debug, Default)]
struct Waiting {
    closed: Option<Error>,
    /// By the request's number: the lane, and its own number for the attempt.
    lanes: BTreeMap<u64, (mpsc::UnboundedSender<Answer>, u64)>,
}

/// The link to one node; locked while it is opened, so that all lanes share one try.
type Slot = tokio::sync::Mutex<Option<Arc<Link>>>;

/// The links of a producer, one for each node.
#[derive(Debug)]
pub(crate) struct Links {
    client: Client,
    /// Of links and of requests.
    numbers: AtomicU64,
    open: Mutex<BTreeMap<NodeId, Arc<Slot>>>,
}

impl Links {
    pub(crate) fn new(client: Client) -> Links {
        Links { client, numbers: AtomicU64::new(1), open: Mutex::default() }
    }

    /// A request's number, unique in this producer.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The stream to a node, opened now if there is none that lives. An error means that nothing was sent.
    pub(crate) async fn get(&self, node: &NodeInfo, deadline: Deadline) -> Result<Arc<Link>, Error> {
        let slot = self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(node.id).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = Arc::new(self.open(node, deadline).await?);
        *slot = Some(link.clone());
        Ok(link)
    }

    async fn open(&self, node: &NodeInfo, deadline: Deadline) -> Result<Link, Error> {
        let within = deadline.remaining(OPENING);
        let connection = self.client.connections().get(&node.address, Deadline::after(within)).await?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let request = self.client.request(UnboundedReceiverStream::new(receiver));
        let mut service = services::log_client(connection.channel.clone());
        let result = tokio::time::timeout(within, service.produce(request)).await;
        let failed = match result {
            Ok(Ok(response)) => {
                let waiting = Arc::new(Mutex::new(Waiting::default()));
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let link = Link { node: node.id, number, requests, waiting: waiting.clone() };
                let reader = Reader { client: self.client.clone(), connection, waiting, name: node.name.clone() };
                tokio::spawn(reader.run(response.into_inner()));
                return Ok(link);
            }
            Ok(Err(failure)) => status::from_status(&failure),
            Err(_) => {
                let message = format!("{} took no produce stream within {within:?}", node.address);
                ErrorDetail::rejected(ErrorCode::Timeout, Stage::Connection, message)
            }
        };
        if failed.stage == Stage::Connection {
            self.client.connections().forget(&connection).await;
        }
        // No request was on the stream yet.
        Err(Error::new(ErrorDetail { outcome: dlog_core::Outcome::Rejected, ..failed }))
    }
}

impl Link {
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting().closed.is_some()
    }

    /// Sends a request, the lane's `attempt`; its answer, or the stream's end, comes to `lane`.
    ///
    /// # Errors
    /// The stream has ended; the request was not sent.
    pub(crate) fn submit(
        &self,
        request: ProduceRequest,
        attempt: u64,
        lane: &mpsc::UnboundedSender<Answer>,
    ) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if let Some(error) = &waiting.closed {
            return Err(error.clone());
        }
        let request_id = request.request_id;
        if self.requests.send(request).is_err() {
            let message = "the produce stream has ended";
            return Err(Error::new(ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Connection, message)));
        }
        waiting.lanes.insert(request_id, (lane.clone(), attempt));
        Ok(())
    }

    /// The lane doesn't wait for this answer any more.
    pub(crate) fn abandon(&self, request_id: u64) {
        self.waiting().lanes.remove(&request_id);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands answers to the lanes until the stream ends.
struct Reader {
    client: Client,
    connection: Connection,
    waiting: Arc<Mutex<Waiting>>,
    name: String,
}

impl Reader {
    async fn run(self, mut answers: Streaming<ProduceResponse>) {
        let error = loop {
            match answers.message().await {
                Ok(Some(response)) => self.hand_over(response),
                Ok(None) => {
                    let message = "the node ended the produce stream";
                    break ErrorDetail::unknown(ErrorCode::Unavailable, Stage::Connection, message);
                }
                Err(failure) => break status::from_status(&failure),
            }
        };
        if error.stage == Stage::Connection {
            self.client.connections().forget(&self.connection).await;
        }
        let node = error.node.clone().unwrap_or_else(|| self.name.clone());
        self.close(Error::new(error.with_node(node)));
    }

    fn hand_over(&self, mut response: ProduceResponse) {
        let request_id = response.request_id;
        let lane = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).lanes.remove(&request_id);
        let Some((lane, attempt)) = lane else { return };
        let result = match response.error.take() {
            None => Ok(response),
            Some(error) => Err(Error::new(status::from_message(error))),
        };
        tell(&lane, attempt, result);
    }

    /// Everyone who still waits learns that the fate of the request is unknown.
    fn close(&self, error: Error) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = std::mem::take(&mut waiting.lanes);
        // Whoever comes later hasn't sent anything.
        waiting.closed = Some(error.clone().with_outcome(dlog_core::Outcome::Rejected));
        drop(waiting);
        for (lane, attempt) in lanes.into_values() {
            let error = error.clone().with_outcome(dlog_core::Outcome::Unknown);
            tell(&lane, attempt, Err(error));
        }
    }

    fn is_closed(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed.is_some()
    }
}

fn tell(lane: &mpsc::UnboundedSender<Answer>, attempt: u64, result: Result<ProduceResponse, Error>) {
    // A lane that has ended doesn't wait.
    lane.send(Answer { attempt, result }).unwrap_or(());
}

/// A runtime that ends drops its tasks where they are: the stream has ended then too.
impl Drop for Reader {
    fn drop(&mut self) {
        if !self.is_closed() {
            let message = "the runtime of the produce stream has ended";
            self.close(Error::new(ErrorDetail::unknown(ErrorCode::Unavailable, Stage::Connection, message)));
        }
    }
}
