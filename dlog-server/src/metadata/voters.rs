//! Keeps group 0's voters healthy: where it is led, this node watches the others' replicas of it and has who is lost for long
//! replaced by one that is in sync.

use super::registration::command;
use crate::context::NodeContext;
use dlog_consensus::{Role, Status};
use dlog_core::{LogId, NodeId};
use dlog_replication::voters::{Observed, improve};
use dlog_replication::{CommandBody, CommandOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// How often the node looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A voter that was out of sync for so long is lost. Well above a restart, even of a whole machine: a change of voters is no
/// cure for a moment's absence.
const LOST_AFTER: Duration = Duration::from_secs(300);
/// How long a change is tried; the next look tries again.
const TIMEOUT: Duration = Duration::from_secs(5);
const _: () = assert!(LOOK_EVERY.as_secs() * 10 < LOST_AFTER.as_secs());

/// Runs until the node stops.
pub async fn keep_healthy(context: Arc<NodeContext>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut absences = Absences::default();
    while !context.is_stopping() {
        looks.tick().await;
        let Some(status) = led_here(&context) else {
            absences.forget();
            continue;
        };
        let observed = absences.look(&status, Instant::now());
        let Some(set) = improve(&context.catalogue(), &observed) else { continue };
        tracing::info!(voters = ?set.nodes, lost = ?observed.lost, "the metadata group gets other voters");
        let command = command(CommandBody::SetMetadataVoters(set));
        match context.group_zero.execute(&command, TIMEOUT).await {
            Ok(CommandOutcome::Rejected(rejection)) => tracing::info!(%rejection, "the voters stay as they are"),
            Ok(_) => {}
            Err(error) => tracing::info!(%error, "the change of voters did not get through; it is tried again"),
        }
    }
}

/// Group 0's replica here, if it leads.
fn led_here(context: &NodeContext) -> Option<Status> {
    context.shards.iter().find_map(|shard| {
        let statuses = shard.status.lock().expect("no holder panics");
        let leads = |status: &&Status| status.log == LogId::GROUP_ZERO && status.role == Role::Leader;
        statuses.values().find(leads).cloned()
    })
}

/// Since when each node is out of sync, as one leadership has seen it.
#[derive(Default)]
struct Absences(BTreeMap<NodeId, Instant>);

impl Absences {
    fn forget(&mut self) {
        self.0.clear();
    }

    fn look(&mut self, status: &Status, now: Instant) -> Observed {
        let mut observed = Observed::default();
        for peer in &status.peers {
            let node = peer.replica.node();
            if peer.in_sync || peer.replica == status.replica {
                self.0.remove(&node);
                observed.fit.insert(node);
            } else if now.duration_since(*self.0.entry(node).or_insert(now)) >= LOST_AFTER {
                observed.lost.insert(node);
            }
        }
        observed
    }
}
