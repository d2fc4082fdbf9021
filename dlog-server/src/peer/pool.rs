//! Unary calls to other nodes' peer listeners, over connections that are kept.

use super::address_book::AddressBook;
use super::outgoing::chain;
use bytes::Bytes;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogIndex, NodeId, limits};
use dlog_protocol::status::from_status;
use dlog_protocol::v1::peer_client::PeerClient;
use dlog_protocol::v1::{ForwardRequest, NodeReportRequest, NodeReportResponse};
use dlog_replication::CommandOutcome;
use dlog_storage::ClusterId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A peer must accept a connection within this: half the shortest election timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Connections to all peers.
pub struct PeerPool {
    cluster: ClusterId,
    node: NodeId,
    book: Arc<AddressBook>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

/// How every connection between nodes is set up.
///
/// # Errors
/// If `address` is no `HOST:PORT`.
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|e| format!("{address}: {}", chain(&e)))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .max_frame_size(limits::GRPC_FRAME_BYTES)
        .initial_stream_window_size(limits::GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::GRPC_CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true))
}

impl PeerPool {
    /// A pool without connections.
    pub fn new(cluster: ClusterId, node: NodeId, book: Arc<AddressBook>) -> PeerPool {
        PeerPool { cluster, node, book, channels: Mutex::default() }
    }

    fn client(&self, node: NodeId) -> Result<PeerClient<Channel>, ErrorDetail> {
        let unavailable = |text: String| ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Connection, text);
        let address = self.book.get(node).ok_or_else(|| unavailable(format!("node {node} has no known address")))?;
        let mut channels = self.channels.lock().expect("no holder panics");
        let channel = match channels.get(&address) {
            Some(channel) => channel.clone(),
            None => {
                let channel = endpoint(&address).map_err(unavailable)?.connect_lazy();
                channels.insert(address, channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(limits::GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::GRPC_MESSAGE_BYTES_MAX))
    }

    /// Passes an encoded catalogue command to `leader`; returns where it was applied and its outcome.
    ///
    /// # Errors
    /// The leader's own answer; outcome unknown if none came.
    pub async fn forward(
        &self,
        leader: NodeId,
        command: Bytes,
        timeout: Duration,
    ) -> Result<(LogIndex, CommandOutcome), ErrorDetail> {
        let mut client = self.client(leader)?;
        let mut request = tonic::Request::new(ForwardRequest {
            cluster_id: self.cluster.0.to_vec().into(),
            from_node: self.node.0,
            command,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        });
        request.set_timeout(timeout);
        let answer = client.forward(request).await.map_err(|status| from_status(&status))?.into_inner();
        let outcome = CommandOutcome::decode(&answer.outcome).ok_or_else(|| {
            let text = "the metadata leader's answer can't be read: do all nodes run the same version?";
            ErrorDetail::unknown(ErrorCode::Internal, Stage::Connection, text)
        })?;
        Ok((LogIndex(answer.index), outcome))
    }

    /// Asks `node` what it holds.
    ///
    /// # Errors
    /// If it can't be reached or doesn't answer within `timeout`.
    pub async fn report(
        &self,
        node: NodeId,
        mut request: NodeReportRequest,
        timeout: Duration,
    ) -> Result<NodeReportResponse, ErrorDetail> {
        request.cluster_id = self.cluster.0.to_vec().into();
        let mut client = self.client(node)?;
        let call = client.node_report(tonic::Request::new(request));
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(from_status(&status)),
            Err(_) => Err(ErrorDetail::rejected(
                ErrorCode::Timeout,
                Stage::Connection,
                format!("node {node} did not answer within {timeout:?}"),
            )),
        }
    }
}
