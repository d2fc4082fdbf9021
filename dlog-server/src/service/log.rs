//! The service `dlog.v1.Log`: records in and out. Each call's work stands in a file of its own.

use super::listener::ConnectionInfo;
use super::{consume, offsets, produce};
use crate::context::NodeContext;
use crate::metrics::Rooms;
use dlog_core::limits;
use dlog_protocol::v1::log_server::Log;
use dlog_protocol::v1::{self, ConsumeResponse, ProduceRequest, ProduceResponse};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The service. Clones share everything.
#[derive(Clone)]
pub struct LogService {
    /// The node.
    pub context: Arc<NodeContext>,
    /// Bytes of produce requests that may still come in, over all connections.
    pub in_flight: Arc<Semaphore>,
    /// Consume streams that may still be opened.
    pub consumers: Arc<Semaphore>,
    /// Cancelled when the listener closes: long streams end.
    pub closing: CancellationToken,
}

impl LogService {
    /// A service with nothing in flight.
    pub fn new(context: Arc<NodeContext>, closing: CancellationToken) -> LogService {
        let in_flight = Arc::new(Semaphore::new(limits::NODE_IN_FLIGHT_BYTES_MAX));
        let consumers = Arc::new(Semaphore::new(limits::CONSUME_STREAMS_MAX));
        let rooms = Rooms { in_flight: Arc::clone(&in_flight), consumers: Arc::clone(&consumers) };
        // A node makes one log service; of several the first is watched.
        let _ = context.metrics.rooms.set(rooms);
        LogService { context, in_flight, consumers, closing }
    }
}

#[tonic::async_trait]
impl Log for LogService {
    type ProduceStream = ReceiverStream<Result<ProduceResponse, Status>>;
    type ConsumeStream = ReceiverStream<Result<ConsumeResponse, Status>>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_default();
        Ok(Response::new(produce::start(self.clone(), connection, request.into_inner())))
    }

    async fn produce_once(
        &self,
        request: Request<v1::ProduceOnceRequest>,
    ) -> Result<Response<v1::ProduceOnceResponse>, Status> {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_default();
        produce::once(self, &connection, request.into_inner()).await.map(Response::new)
    }

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        consume::start(self, request.into_inner()).map(Response::new)
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        offsets::list(&self.context, request.into_inner()).await.map(Response::new)
    }
}
