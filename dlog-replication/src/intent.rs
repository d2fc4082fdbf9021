//! [`Intent`]: what the catalogue wants of a log's membership, as every node tells it to its replica of that log.
//!
//! Intents are levels, not steps: whoever leads the log goes from wherever the log stands to the newest intent, so nothing of
//! a change is lost with a leader, and an older set as a newer intent takes a change back.

use crate::catalogue::Catalogue;
use dlog_core::{LogId, LogIndex, ReplicaId};
use std::collections::BTreeSet;

/// What the catalogue wants of a log's membership.
///
/// Invariant: no replica is both voter and learner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// The group 0 index that made it: of two intents the one with the higher version counts.
    pub version: LogIndex,
    /// Those who should vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who should follow without a vote (group 0 only: one on each other node).
    pub learners: BTreeSet<ReplicaId>,
    /// Whether the catalogue knows that the log has reached it.
    pub confirmed: bool,
}

impl Intent {
    /// The newest intent for `log`. `None`: this catalogue doesn't know the log (or group 0 isn't founded in it).
    pub fn of(catalogue: &Catalogue, log: LogId) -> Option<Intent> {
        if log != LogId::GROUP_ZERO {
            let partition = catalogue.partition_of_log(log)?;
            return Some(Intent {
                version: partition.intent,
                voters: partition.intended.iter().copied().collect(),
                learners: BTreeSet::new(),
                confirmed: partition.is_confirmed(),
            });
        }
        let metadata = catalogue.metadata_voters();
        let voters: BTreeSet<ReplicaId> = metadata.replicas().into_iter().collect();
        let all = catalogue.nodes().map(|info| crate::bootstrap::group_zero_replica(info.node));
        let learners = all.filter(|replica| !voters.contains(replica)).collect();
        let confirmed = metadata.confirmed_intent == metadata.intent;
        (!voters.is_empty()).then_some(Intent { version: metadata.intent, voters, learners, confirmed })
    }
}
