//! The listeners for clients and for other nodes: one set of bounds, one accept loop ([`incoming`]) behind one [`door`], and
//! for clients the way from a path to its service.

pub mod door;
pub mod incoming;
mod routes;
pub mod settling;

pub use incoming::{Connection, ConnectionInfo};

use super::admin::AdminService;
use super::cluster::ClusterService;
use super::log::LogService;
use crate::context::NodeContext;
use crate::peer::incoming::PeerService;
use dlog_core::limits;
use dlog_protocol::{ClusterId, FILE_DESCRIPTOR_SET, services};
use door::{Bounds, Door, DoorStats};
use routes::Routes;
use settling::Settling;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// A connection that answers no ping for [`PING_TIMEOUT`] after so long a silence is closed.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// See [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's headers: dlog's own need a tenth.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client opened and reset before they were looked at: beyond, the connection is closed (rapid reset).
const PENDING_RESETS_MAX: usize = 20;
/// Streams that this side reset because of the client's errors: beyond, the connection is closed.
const LOCAL_ERROR_RESETS_MAX: usize = 1024;
/// Streams of one connection between nodes: two long ones and unary calls.
const PEER_STREAMS_MAX: u32 = 256;
/// Connections of other nodes: a few for each, with room for those that are being replaced.
const PEER_CONNECTIONS_MAX: usize = 4 * limits::NODES_MAX;
/// Connections between nodes from one address: all nodes of `dlog dev` have the same.
const PEER_CONNECTIONS_PER_ADDRESS_MAX: usize = 512;
/// What clients have in flight when the listener closes may take so long; then it is cut off.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for other nodes: their streams never end by themselves, and what is lost of them is sent again.
const PEER_DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// A server with the bounds that every listener of a node has.
fn server(streams_max: u32) -> Server {
    Server::builder()
        .max_frame_size(limits::GRPC_FRAME_BYTES)
        .initial_stream_window_size(limits::GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::GRPC_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(streams_max)
        .concurrency_limit_per_connection(streams_max as usize)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS_MAX))
}

/// Serves clients on a bound listener until `shutdown`; then long streams end with a retryable error, unary calls in flight
/// finish, and what still hangs after some seconds is cut off.
///
/// # Errors
/// If the protocol's own description can't be read, or the server fails.
pub async fn serve(
    listener: TcpListener,
    context: Arc<NodeContext>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    // Older tools ask for reflection by the name it had before it was finished. Only what is answered here is listed.
    let described = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let names = routes::SERVICES.into_iter().chain([routes::HEALTH]);
        names.fold(builder, tonic_reflection::server::Builder::with_service_name)
    };
    let health = HealthReporter::new();
    for service in routes::SERVICES {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let door = Door::new(Bounds::of_clients(), Arc::clone(&context.metrics.doors.client));
    let routes = Routes {
        own: ClusterId(context.identity.cluster.0),
        log: services::log_server(LogService::new(Arc::clone(&context), closing.clone())),
        admin: services::admin_server(AdminService::new(Arc::clone(&context))),
        cluster: services::cluster_server(ClusterService::new(context)),
        health: HealthServer::new(HealthService::from_health_reporter(health.clone())),
        reflection: described().build_v1()?,
        reflection_v1alpha: described().build_v1alpha()?,
    };
    let incoming = incoming::accept(listener, door);
    let signal = {
        let closing = closing.clone();
        async move {
            shutdown.await;
            for service in routes::SERVICES.into_iter().chain([""]) {
                health.set_service_status(service, ServingStatus::NotServing).await;
            }
            closing.cancel();
        }
    };
    let serving =
        server(limits::STREAMS_PER_CONNECTION_MAX).serve_with_incoming_shutdown(Settling(routes), incoming, signal);
    until_drained(serving, closing, DRAIN_TIMEOUT).await
}

/// Serves other nodes on a bound listener until `shutdown`.
///
/// # Errors
/// If the server fails.
pub async fn serve_peers(
    listener: TcpListener,
    service: PeerService,
    stats: Arc<DoorStats>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    let bounds = Bounds {
        connections: PEER_CONNECTIONS_MAX,
        per_address: PEER_CONNECTIONS_PER_ADDRESS_MAX,
        ..Bounds::of_clients()
    };
    let incoming = incoming::accept(listener, Door::new(bounds, stats));
    let signal = {
        let closing = closing.clone();
        async move {
            shutdown.await;
            closing.cancel();
        }
    };
    let service = Settling(services::peer_server(service));
    let serving = server(PEER_STREAMS_MAX).serve_with_incoming_shutdown(service, incoming, signal);
    until_drained(serving, closing, PEER_DRAIN_TIMEOUT).await
}

async fn until_drained(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    closing: CancellationToken,
    at_most: Duration,
) -> anyhow::Result<()> {
    let too_long = async {
        closing.cancelled().await;
        tokio::time::sleep(at_most).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = too_long => Ok(()),
    }
}
