//! The partitions' part of the health: who leads, and how many are in sync.

use super::{Leadership, NodeReport, PartitionCounts, Reason, Reasons};
use crate::catalogue::{Catalogue, PartitionInfo};
use dlog_core::{LogId, NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(
    catalogue: &Catalogue,
    reports: &BTreeMap<NodeId, NodeReport>,
    leaders: &BTreeMap<LogId, Leadership<'_>>,
    reasons: &mut Reasons,
) -> PartitionCounts {
    let mut counts = PartitionCounts::default();
    for partition in catalogue.partitions() {
        let Some(topic) = catalogue.topic(partition.topic) else { continue };
        let subject = format!("{}/{}", topic.name, partition.index);
        counts.total += 1;
        let Some(leadership) = leaders.get(&partition.log) else {
            counts.without_leader += 1;
            counts.under_replicated += 1;
            reasons.add(without_leader(catalogue, partition, reports, subject));
            continue;
        };
        let voters: BTreeSet<ReplicaId> = leadership.report.voters.iter().copied().collect();
        let in_sync: BTreeSet<ReplicaId> =
            leadership.report.in_sync.iter().copied().filter(|replica| voters.contains(replica)).collect();
        if in_sync.len() < topic.replicas as usize {
            counts.under_replicated += 1;
            reasons.add(under_replicated(catalogue, partition, &in_sync, topic.replicas, subject.clone()));
        }
        let intended: BTreeSet<ReplicaId> = partition.intended.iter().copied().collect();
        if leadership.report.changing || voters != intended {
            let detail = format!(
                "its voters are on {}, they should be on {}",
                names(catalogue, &voters),
                names(catalogue, &intended)
            );
            let next = "wait until it is done (dlog cluster health --wait)";
            reasons.add(Reason::new("move_under_way", subject, detail, next));
        }
    }
    counts
}

fn without_leader(
    catalogue: &Catalogue,
    partition: &PartitionInfo,
    reports: &BTreeMap<NodeId, NodeReport>,
    subject: String,
) -> Reason {
    let is_up = |replica: &&ReplicaId| reports.get(&replica.node()).is_some_and(|report| report.alive);
    let up = partition.intended.iter().filter(is_up).count();
    let down: BTreeSet<ReplicaId> = partition.intended.iter().copied().filter(|replica| !is_up(&replica)).collect();
    let detail = format!("nobody leads it; {up} of its {} replicas are on nodes that answer", partition.intended.len());
    let next = match down.is_empty() {
        true => {
            "wait for an election (dlog cluster health --wait); if it stays, look at the logs of its nodes".to_owned()
        }
        false => format!("start {} again", names(catalogue, &down)),
    };
    Reason::new("no_leader", subject, detail, next)
}

fn under_replicated(
    catalogue: &Catalogue,
    partition: &PartitionInfo,
    in_sync: &BTreeSet<ReplicaId>,
    wanted: u32,
    subject: String,
) -> Reason {
    let behind: BTreeSet<ReplicaId> =
        partition.intended.iter().copied().filter(|replica| !in_sync.contains(replica)).collect();
    let detail = match behind.is_empty() {
        true => format!("{} of {wanted} replicas are in sync", in_sync.len()),
        false => format!("{} of {wanted} replicas are in sync; missing: {}", in_sync.len(), names(catalogue, &behind)),
    };
    let next = "wait if a node has just started (dlog cluster health --wait), else start the nodes that are down";
    Reason::new("under_replicated", subject, detail, next)
}

fn names(catalogue: &Catalogue, replicas: &BTreeSet<ReplicaId>) -> String {
    let names: Vec<String> = replicas.iter().map(|replica| catalogue.node_name(replica.node())).collect();
    names.join(", ")
}
