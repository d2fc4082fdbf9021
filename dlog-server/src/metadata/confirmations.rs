//! What leaders here say of their logs' members goes to the catalogue, which then knows that a change is done.

use super::registration::command;
use crate::context::NodeContext;
use dlog_consensus::Membership;
use dlog_core::{LogId, LogIndex};
use dlog_replication::{CommandBody, CommandOutcome, ConfirmReplicas, Intent};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Confirmations that may wait: what doesn't fit is said again soon. A few dozen bytes each.
pub const QUEUE_MAX: usize = 4096;
/// Proposed at once: a node that leads thousands of moving partitions must not crowd group 0.
const IN_FLIGHT_MAX: usize = 16;
/// How long one is tried; the leader says it again if it didn't get through.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A log has the members that an intent asks for.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// The log.
    pub log: LogId,
    /// The intent's version.
    pub intent: LogIndex,
    /// The entry of the log that made its membership.
    pub membership_index: LogIndex,
    /// The membership.
    pub membership: Membership,
}

/// Proposes what is said until the shards are gone.
pub async fn propose(context: Arc<NodeContext>, mut said: mpsc::Receiver<Confirmation>) {
    let mut in_flight: JoinSet<LogId> = JoinSet::new();
    let mut logs: BTreeSet<LogId> = BTreeSet::new();
    loop {
        tokio::select! {
            Some(done) = in_flight.join_next() => {
                if let Ok(log) = done {
                    logs.remove(&log);
                }
            }
            next = said.recv(), if in_flight.len() < IN_FLIGHT_MAX => {
                let Some(confirmation) = next else { return };
                let newest = Intent::of(&context.catalogue(), confirmation.log);
                let is_news = newest.is_some_and(|now| now.version == confirmation.intent && !now.confirmed);
                if is_news && logs.insert(confirmation.log) {
                    in_flight.spawn(confirm(Arc::clone(&context), confirmation));
                }
            }
        }
    }
}

async fn confirm(context: Arc<NodeContext>, confirmation: Confirmation) -> LogId {
    let Confirmation { log, intent, membership_index, membership } = confirmation;
    let body = CommandBody::ConfirmReplicas(ConfirmReplicas {
        log: log.0,
        intent: intent.0,
        membership: membership_index.0,
        voters: membership.voters.iter().map(|voter| voter.0).collect(),
    });
    let command = command(body);
    match context.group_zero.execute(&command, TIMEOUT).await {
        Ok(CommandOutcome::Rejected(rejection)) => {
            tracing::info!(%log, %intent, %rejection, "the catalogue refuses a confirmation");
        }
        Ok(_) => tracing::info!(%log, %intent, "the log has the members that were asked for"),
        Err(error) => tracing::info!(%log, %intent, %error, "a confirmation did not get through; it is said again"),
    }
    log
}
