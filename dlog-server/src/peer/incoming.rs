//! The service that other nodes call: their streams of Raft messages, forwarded catalogue commands, reports, bootstrap.

use super::convert;
use super::hello::{HelloCheck, Refused};
use crate::bootstrap::BootstrapState;
use crate::context::NodeContext;
use crate::service::report;
use crate::shard::inbox::Inbox;
use dlog_consensus::PeerMessage;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogId, NodeId, ReplicaId};
use dlog_protocol::status::{to_message, to_status};
use dlog_protocol::v1::peer_server::Peer;
use dlog_protocol::v1::{self, PeerBundle, PeerNotice};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Notices that may wait for a peer that doesn't read them; more are dropped.
const NOTICES_QUEUED: usize = 16;
/// The first bundle must come within this.
const FIRST_BUNDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a forwarded command, whatever the caller says.
const FORWARD_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What the peer service needs once the cluster is formed.
pub struct Formed {
    /// The node.
    pub context: Arc<NodeContext>,
    /// Who may talk.
    pub hello: Arc<HelloCheck>,
}

/// The service. Before the cluster is formed it answers bootstrap calls alone.
#[derive(Clone)]
pub struct PeerService {
    bootstrap: Arc<BootstrapState>,
    formed: Arc<OnceLock<Formed>>,
}

impl PeerService {
    /// A service that answers bootstrap calls, and everything once `formed` is set.
    pub fn new(bootstrap: Arc<BootstrapState>, formed: Arc<OnceLock<Formed>>) -> PeerService {
        PeerService { bootstrap, formed }
    }

    fn formed(&self) -> Result<&Formed, Status> {
        self.formed.get().ok_or_else(|| {
            let text = "this node is still waiting for the others to form the cluster";
            to_status(&ErrorDetail::rejected(ErrorCode::Unavailable, Stage::Connection, text))
        })
    }

    fn same_cluster(formed: &Formed, cluster: &[u8]) -> Result<(), Status> {
        if cluster == &formed.context.identity.cluster.0[..] {
            return Ok(());
        }
        let text = "the call comes from a node of another cluster";
        Err(to_status(&ErrorDetail::rejected(ErrorCode::WrongCluster, Stage::Connection, text)))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ConsensusStream = ReceiverStream<Result<PeerNotice, Status>>;

    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapResponse>, Status> {
        Ok(Response::new(self.bootstrap.answer(request.get_ref())))
    }

    async fn consensus(
        &self,
        request: Request<Streaming<PeerBundle>>,
    ) -> Result<Response<Self::ConsensusStream>, Status> {
        let formed = self.formed()?;
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(FIRST_BUNDLE_TIMEOUT, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??
            .unwrap_or_default();
        let (notices, receiver) = mpsc::channel(NOTICES_QUEUED);
        let peer = match formed.hello.check(first.hello.as_ref()) {
            Ok(peer) => peer,
            Err(Refused { error, start }) => {
                tracing::warn!(error = error.message, "a peer was refused");
                let Some(start) = start else { return Err(to_status(&error)) };
                // It learns which start is meant, and that it is no error of the connection.
                let notice =
                    PeerNotice { error: Some(to_message(&error)), refused: Some(start), ..PeerNotice::default() };
                let _ = notices.try_send(Ok(notice));
                let _ = notices.try_send(Err(to_status(&error)));
                return Ok(Response::new(ReceiverStream::new(receiver)));
            }
        };
        formed.hello.told(peer, &first.synced);
        let priority = first.hello.as_ref().map(v1::Hello::priority).unwrap_or_default();
        let welcome = PeerNotice { hello: Some(formed.hello.own(priority)), ..PeerNotice::default() };
        notices.send(Ok(welcome)).await.map_err(|_| Status::cancelled("the peer is gone"))?;
        let own = formed.context.node_id();
        let hello = Arc::clone(&formed.hello);
        let inboxes: Vec<Inbox> = formed.context.shards.iter().map(|s| s.inbox.clone()).collect();
        tokio::spawn(async move {
            while let Ok(Some(bundle)) = stream.message().await {
                // Known before what rests on it is.
                hello.told(peer, &bundle.synced);
                if !deliver(own, peer.node, bundle, &inboxes, &notices).await {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn forward(&self, request: Request<v1::ForwardRequest>) -> Result<Response<v1::ForwardResponse>, Status> {
        let formed = self.formed()?;
        let request = request.into_inner();
        Self::same_cluster(formed, &request.cluster_id)?;
        let timeout = Duration::from_millis(u64::from(request.timeout_ms)).min(FORWARD_TIMEOUT_MAX);
        let work = formed.context.group_zero.execute_here(request.command);
        let (index, outcome) = tokio::time::timeout(timeout, work)
            .await
            .map_err(|_| {
                let text = "the metadata group did not commit the command in time";
                to_status(&ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, text))
            })?
            .map_err(|error| to_status(&formed.context.complete_error(error)))?;
        Ok(Response::new(v1::ForwardResponse { index: index.0, outcome: outcome.encode().into() }))
    }

    async fn node_report(
        &self,
        request: Request<v1::NodeReportRequest>,
    ) -> Result<Response<v1::NodeReportResponse>, Status> {
        let formed = self.formed()?;
        Self::same_cluster(formed, &request.get_ref().cluster_id)?;
        Ok(Response::new(report::local_report(&formed.context, request.get_ref())))
    }
}

/// The shard that owns a replica: fixed for life by its number.
pub fn shard_of(replica: ReplicaId, shards: usize) -> usize {
    replica.number() as usize % shards
}

/// Hands a bundle's messages to their shards. `false` once this node goes down.
async fn deliver(
    own: NodeId,
    peer: NodeId,
    bundle: PeerBundle,
    inboxes: &[Inbox],
    notices: &mpsc::Sender<Result<PeerNotice, Status>>,
) -> bool {
    let mut by_shard: Vec<(Vec<PeerMessage>, usize)> = vec![Default::default(); inboxes.len()];
    for message in bundle.messages {
        let log = LogId(message.log);
        match admit(own, peer, message) {
            Ok(message) => {
                let slot = &mut by_shard[shard_of(message.to, inboxes.len())];
                slot.1 += convert::weight(&message);
                slot.0.push(message);
            }
            Err(text) => {
                tracing::warn!(%peer, %log, error = text, "a peer's message was refused");
                let error = ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Connection, text);
                let notice = PeerNotice { error: Some(to_message(&error)), log: Some(log.0), ..PeerNotice::default() };
                // A peer that doesn't read its notices doesn't get them.
                let _ = notices.try_send(Ok(notice));
            }
        }
    }
    for (inbox, (messages, bytes)) in inboxes.iter().zip(by_shard) {
        if !messages.is_empty() && !inbox.send_peers(messages, bytes).await {
            return false;
        }
    }
    true
}

/// A stream carries messages of its own node's replicas to ours, and nothing else.
fn admit(own: NodeId, peer: NodeId, message: v1::RaftMessage) -> Result<PeerMessage, String> {
    let message = convert::from_wire(message)?;
    if message.from.node() != peer {
        return Err(format!("replica {} isn't node {peer}'s", message.from));
    }
    if message.to.node() != own {
        return Err(format!("replica {} isn't this node's", message.to));
    }
    Ok(message)
}
