//! Makes this node's replicas those that the catalogue intends: looks whenever the catalogue changed, carries the plan out.

use crate::peer::address_book::AddressBook;
use crate::peer::incoming::shard_of;
use crate::shard::ShardHandle;
use crate::shard::inbox::{ShardMessage, StartReplica};
use dlog_consensus::Membership;
use dlog_core::{NodeId, ReplicaId};
use dlog_replication::reconcile::LocalAction;
use dlog_replication::{Catalogue, LocalReplicas};
use std::sync::Arc;
use tokio::sync::watch;

/// The local side of the catalogue.
pub struct Reconciler {
    /// Its shards.
    pub shards: Vec<ShardHandle>,
    /// What stands here, and what never will again.
    pub local: LocalReplicas,
    /// Where peers are: kept as the catalogue says.
    pub book: Arc<AddressBook>,
    /// Called with every node of the catalogue, to open streams to it.
    pub meet: Box<dyn Fn(NodeId) + Send>,
}

impl Reconciler {
    /// Runs until the catalogue's publisher is gone.
    pub async fn run(mut self, mut catalogue: watch::Receiver<Arc<Catalogue>>) {
        loop {
            let now = Arc::clone(&catalogue.borrow_and_update());
            for node in now.nodes() {
                self.book.set(node.node, &node.peer_address);
                (self.meet)(node.node);
            }
            for action in self.local.follow(&now) {
                self.carry_out(action);
            }
            if catalogue.changed().await.is_err() {
                return;
            }
        }
    }

    fn shard(&self, replica: ReplicaId) -> &ShardHandle {
        &self.shards[shard_of(replica, self.shards.len())]
    }

    fn carry_out(&self, action: LocalAction) {
        match action {
            LocalAction::Start(start) => {
                tracing::info!(replica = %start.replica, log = %start.log, "starting a replica");
                let message = ShardMessage::Start(StartReplica {
                    replica: start.replica,
                    log: start.log,
                    membership: Membership::of_creation(start.voters, start.created).encode(),
                    intent: start.intent,
                    preferred: start.preferred,
                    segment_bytes: start.settings.segment_bytes(),
                    batch_bytes_max: start.settings.max_batch_bytes() as usize,
                    retention_bytes: start.settings.retention_bytes(),
                    retention_ms: start.settings.retention_ms(),
                });
                self.shard(start.replica).inbox.send(message);
            }
            LocalAction::Configure { replica, settings } => {
                self.shard(replica).inbox.send(ShardMessage::Settings {
                    replica,
                    segment_bytes: settings.segment_bytes(),
                    batch_bytes_max: settings.max_batch_bytes() as usize,
                    retention_bytes: settings.retention_bytes(),
                    retention_ms: settings.retention_ms(),
                });
            }
            LocalAction::Intend { replica, intent } => {
                self.shard(replica).inbox.send(ShardMessage::Intend { replica, intent });
            }
            LocalAction::Delete { replica, log, ended } => {
                tracing::info!(%replica, %log, "deleting a replica: it is out of use");
                self.shard(replica).inbox.send(ShardMessage::Delete { replica, ended });
            }
        }
    }
}
