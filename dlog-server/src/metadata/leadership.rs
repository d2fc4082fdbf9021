//! Brings leadership back to where the catalogue prefers it: so that a restart, which hands everything over, doesn't leave
//! the load on the others for ever.

use crate::context::NodeContext;
use crate::shard::inbox::ShardMessage;
use dlog_consensus::Role;
use dlog_core::ReplicaId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the node looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The preferred replica must have been in sync for so many looks in a row: a node that has just come back catches up first.
const LOOKS_BEFORE_TRANSFER: u32 = 5;
/// Transfers begun in one look: each costs its partition some milliseconds without a leader.
const TRANSFERS_PER_LOOK: usize = 8;

/// Runs until the node stops.
pub async fn balance(context: Arc<NodeContext>) {
    let mut steady: BTreeMap<ReplicaId, u32> = BTreeMap::new();
    while !context.is_stopping() {
        tokio::time::sleep(LOOK_EVERY).await;
        let wishes = wishes(&context);
        steady.retain(|replica, _| wishes.iter().any(|(r, _)| r == replica));
        let mut begun = 0;
        for (replica, preferred) in wishes {
            let looks = steady.entry(replica).or_default();
            *looks += 1;
            if *looks >= LOOKS_BEFORE_TRANSFER && begun < TRANSFERS_PER_LOOK && !context.is_stopping() {
                *looks = 0;
                begun += 1;
                let shard = crate::peer::incoming::shard_of(replica, context.shards.len());
                tracing::info!(%replica, to = %preferred, "leadership goes back to the preferred replica");
                context.shards[shard].inbox.send(ShardMessage::Transfer { replica, to: preferred });
            }
        }
    }
}

/// Replicas that lead here though another, in sync, is preferred.
fn wishes(context: &NodeContext) -> Vec<(ReplicaId, ReplicaId)> {
    let catalogue = context.catalogue();
    let mut wishes = Vec::new();
    for shard in &context.shards {
        for (replica, status) in shard.status.lock().expect("no holder panics").iter() {
            if status.role != Role::Leader {
                continue;
            }
            let Some(partition) = catalogue.partition_of_log(status.log) else { continue };
            let preferred = partition.preferred;
            if preferred != *replica && status.peers.iter().any(|p| p.replica == preferred && p.in_sync) {
                wishes.push((*replica, preferred));
            }
        }
    }
    wishes
}
