//! What the services of a running node share.

use crate::clock::Clock;
use crate::clock::agreement::ClockAgreement;
use crate::config::NodeConfig;
use crate::metadata::group_zero::GroupZero;
use crate::metadata::producer_ids::ProducerIds;
use crate::metrics::Metrics;
use crate::peer::pool::PeerPool;
use crate::replicas::{ReplicaHandle, Replicas};
use crate::shard::ShardHandle;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogId, NodeId};
use dlog_replication::Catalogue;
use dlog_storage::Identity;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Shared by every service of one node. Cheap to share as `Arc<NodeContext>`; there may be several in one process.
pub struct NodeContext {
    /// The settings, fixed at start.
    pub config: NodeConfig,
    /// Who this node is; fixed once the cluster is formed.
    pub identity: Identity,
    /// The process's monotonic clock.
    pub clock: Clock,
    /// Whether the wall clock may decide what is too old.
    pub clock_agreement: Arc<ClockAgreement>,
    /// One for each shard, by number.
    pub shards: Vec<ShardHandle>,
    /// This node's replicas.
    pub replicas: Arc<Replicas>,
    /// The catalogue as last applied here. Other nodes may be ahead.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// The way to change the catalogue, from any node.
    pub group_zero: GroupZero,
    /// Producer ids that this start may still give.
    pub producer_ids: ProducerIds,
    /// Unary calls to other nodes.
    pub peers: Arc<PeerPool>,
    /// What this node counts.
    pub metrics: Arc<Metrics>,
    /// Set once the node begins to stop: no new work is taken.
    pub stopping: AtomicBool,
}

impl NodeContext {
    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.node
    }

    /// The catalogue as of now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.borrow())
    }

    /// Whether the node is going down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The replica of `log` on this node.
    ///
    /// # Errors
    /// `not_leader` with what this node knows of the leader: it is never this node.
    pub fn replica(&self, log: LogId) -> Result<Arc<ReplicaHandle>, ErrorDetail> {
        self.replicas.get(log).ok_or_else(|| {
            ErrorDetail::rejected(
                ErrorCode::NotLeader,
                Stage::Service,
                "this node has no replica of the partition; ask for its leader again",
            )
            .with_node(&self.config.name)
        })
    }

    /// Adds the leader's address (from the catalogue) and this node's name to an error that is about to leave.
    pub fn complete_error(&self, mut error: ErrorDetail) -> ErrorDetail {
        if error.node.is_none() {
            error.node = Some(self.config.name.clone());
        }
        if let (Some(leader), None) = (error.leader, &error.leader_address) {
            error.leader_address = self.client_address(leader);
        }
        error
    }

    /// A node's address for clients, from the catalogue.
    pub fn client_address(&self, node: NodeId) -> Option<String> {
        self.catalogue().node(node).map(|n| n.client_address.clone())
    }
}
