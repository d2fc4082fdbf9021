//! Leads leadership to where the catalogue prefers it: back after a restart, which hands everything over, so that the load
//! doesn't stay on the others for ever; and at once where an operator has just chosen another leader.

use crate::context::NodeContext;
use crate::shard::inbox::ShardMessage;
use dlog_consensus::Role;
use dlog_core::{LogId, ReplicaId};
use dlog_replication::Catalogue;
use dlog_replication::leadership::{Balancer, Wish};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the node looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub async fn balance(context: Arc<NodeContext>) {
    let mut changes = context.catalogue.clone();
    let mut preferred = Preferred::of(&changes.borrow_and_update());
    let mut balancer = Balancer::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !context.is_stopping() {
        tokio::select! {
            _ = looks.tick() => look(&context, &mut balancer, &BTreeSet::new(), 1),
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Preferred::of(&changes.borrow_and_update());
                let chosen = preferred.changed(&now);
                preferred = now;
                if !chosen.is_empty() {
                    look(&context, &mut balancer, &chosen, 0);
                }
            }
        }
    }
}

/// Who should lead each log.
struct Preferred(BTreeMap<LogId, ReplicaId>);

impl Preferred {
    fn of(catalogue: &Catalogue) -> Preferred {
        Preferred(catalogue.partitions().map(|partition| (partition.log, partition.preferred)).collect())
    }

    /// The logs that were there before and for which another replica was chosen.
    fn changed(&self, now: &Preferred) -> BTreeSet<LogId> {
        let other = |(log, replica): &(&LogId, &ReplicaId)| self.0.get(log).is_some_and(|before| before != *replica);
        now.0.iter().filter(other).map(|(log, _)| *log).collect()
    }
}

/// Hands over what should be led elsewhere: at once what an operator has `chosen`, else what has been in sync there for long
/// enough. `counts` says for how many looks this one stands.
fn look(context: &NodeContext, balancer: &mut Balancer, chosen: &BTreeSet<LogId>, counts: u32) {
    for Wish { replica, preferred, .. } in balancer.look(&wishes(context), chosen, counts) {
        let shard = crate::peer::incoming::shard_of(replica, context.shards.len());
        tracing::info!(%replica, to = %preferred, "leadership goes to the preferred replica");
        context.shards[shard].inbox.send(ShardMessage::Transfer { replica, to: preferred });
    }
}

fn wishes(context: &NodeContext) -> Vec<Wish> {
    let catalogue = context.catalogue();
    let mut wishes = Vec::new();
    for shard in &context.shards {
        let all = shard.status.lock().expect("no holder panics");
        for (replica, status) in all.iter().filter(|(_, status)| status.role == Role::Leader) {
            let in_sync =
                |preferred| status.peers.iter().any(|peer| peer.replica == preferred && peer.in_sync && peer.has_room);
            wishes.extend(Wish::of(&catalogue, status.log, *replica, in_sync));
        }
    }
    wishes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_core::NodeId;

    #[test]
    fn only_what_was_there_and_is_led_elsewhere_now_was_chosen() {
        let before = Preferred::of(&catalogue());
        assert!(before.changed(&before).is_empty());
        let mut now = Preferred(before.0.clone());
        let log = *now.0.keys().next().expect("two partitions");
        now.0.insert(log, ReplicaId::new(NodeId(9), 1));
        now.0.insert(LogId(999), ReplicaId::new(NodeId(9), 2));
        assert_eq!(before.changed(&now), BTreeSet::from([log]), "a new partition was not chosen");
    }
}
