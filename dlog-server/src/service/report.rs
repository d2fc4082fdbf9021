//! What this node knows of what it holds, and the same of every other node.

use crate::clock::agreement::Verdict;
use crate::clock::wall_clock;
use crate::context::NodeContext;
use crate::replicas::ReplicaProgress;
use dlog_consensus::{Role, Standing, Status};
use dlog_core::{LogId, NodeId};
use dlog_protocol::v1::{NodeReportRequest, NodeReportResponse, NodeTrouble, ReplicaReport, ReplicaRole};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A node that doesn't answer within this counts as down: about the longest election timeout.
pub const REPORT_TIMEOUT: Duration = Duration::from_millis(1000);
/// The code of the trouble that a listener beyond loopback without TLS is reported as; health shows it as a warning.
pub const INSECURE: &str = "insecure";

/// This node's own report. The cluster id of `request` is the caller's business.
pub fn local_report(context: &NodeContext, request: &NodeReportRequest) -> NodeReportResponse {
    let wanted: BTreeSet<LogId> = request.logs.iter().map(|log| LogId(*log)).collect();
    let mut report = NodeReportResponse {
        node_id: context.node_id().0,
        boot_number: context.identity.boot.number,
        applied_index: context.catalogue().applied().0,
        uptime_ms: context.clock.now().0 / 1_000_000,
        troubles: troubles(context),
        wall_clock_ms: Some(wall_clock().0),
        ..NodeReportResponse::default()
    };
    for shard in &context.shards {
        let statuses = shard.status.lock().expect("no holder panics").clone();
        for status in statuses.values() {
            // A replica without a handle has left since the tick.
            let Some(handle) = context.replicas.get(status.log).filter(|h| h.replica == status.replica) else {
                continue;
            };
            let progress = handle.progress();
            let bytes = handle.reader().map_or(0, |reader| reader.bytes());
            report.bytes += bytes;
            if status.log != LogId::GROUP_ZERO {
                report.replica_count += 1;
                report.leader_count += u32::from(progress.role == Role::Leader);
            }
            if !request.totals_only && (wanted.is_empty() || wanted.contains(&status.log)) {
                report.replicas.push(replica_report(status, &progress, handle.log_start().0, bytes));
            }
        }
    }
    report.replicas.sort_by_key(|replica| (replica.log, replica.replica));
    report
}

fn troubles(context: &NodeContext) -> Vec<NodeTrouble> {
    let insecure = context.config.beyond_loopback().then(|| NodeTrouble {
        code: INSECURE.into(),
        subject: context.config.name.clone(),
        detail: "the node listens beyond loopback without TLS and authentication".into(),
        next: "keep its ports inside a network that you trust".into(),
    });
    let clock = match context.clock_agreement.verdict() {
        Verdict::Differs(by_ms) => Some(NodeTrouble {
            code: "clocks_differ".into(),
            subject: context.config.name.clone(),
            detail: format!(
                "its wall clock and those of other nodes differ by up to {} s; nothing that it leads is dropped by age",
                by_ms / 1000
            ),
            next: "compare `date -u` on all nodes and set the clock that is wrong".into(),
        }),
        Verdict::Agrees | Verdict::Unknown => None,
    };
    insecure.into_iter().chain(clock).chain(disk(context)).chain(damaged(context)).collect()
}

/// Replicas whose disk has lost some of their frames, or all that they need to start.
fn damaged(context: &NodeContext) -> Vec<NodeTrouble> {
    let statuses = context.shards.iter().map(|shard| shard.status.lock().expect("no holder panics").clone());
    let catalogue = context.catalogue();
    let trouble = |status: &Status| {
        let first = status.faults.iter().find(|fault| fault.lost).or(status.faults.first());
        let (detail, next) = match (&status.stuck, first) {
            (Some(reason), _) => (
                format!("its replica {} can't start: {reason}", status.replica),
                "move the replica to another node and back",
            ),
            (None, Some(fault)) if fault.lost => (
                format!(
                    "the entries {} to {} are damaged here, and no other replica has them",
                    fault.first, fault.last
                ),
                "start the nodes that are down; what none of them has is lost, and readers are told corrupt_data there",
            ),
            (None, Some(fault)) => (
                format!(
                    "the entries {} to {} are damaged here; they are asked of the other replicas",
                    fault.first, fault.last
                ),
                "wait; if it stays, start the nodes that are down, and check the disk",
            ),
            (None, None) => return None,
        };
        let subject = match catalogue.partition_of_log(status.log) {
            Some(partition) => match catalogue.topic(partition.topic) {
                Some(topic) => format!("{}/{} on {}", topic.name, partition.index, context.config.name),
                None => format!("log {} on {}", status.log, context.config.name),
            },
            None => format!("the metadata group on {}", context.config.name),
        };
        Some(NodeTrouble { code: "replica_damaged".into(), subject, detail, next: next.into() })
    };
    statuses.flat_map(|statuses| statuses.values().filter_map(trouble).collect::<Vec<_>>()).collect()
}

/// The worst that a shard says of its disk; shards of a node share one.
fn disk(context: &NodeContext) -> Option<NodeTrouble> {
    let troubles =
        context.shards.iter().filter_map(|shard| Some((shard.disk_health.state(), shard.disk_health.trouble()?)));
    let (_, worst) = troubles.max_by_key(|(state, _)| (state.stuck, state.space.level))?;
    Some(NodeTrouble {
        code: worst.code.into(),
        subject: context.config.name.clone(),
        detail: worst.detail,
        next: worst.next.into(),
    })
}

/// What is told of one replica: its members as of the last tick, everything that moves with the records as of now, so that
/// whoever has just been acked finds it counted.
fn replica_report(status: &Status, progress: &ReplicaProgress, log_start: u64, bytes: u64) -> ReplicaReport {
    let membership = &status.membership;
    let role = match progress.role {
        Role::Leader => ReplicaRole::Leader,
        Role::Candidate => ReplicaRole::Candidate,
        Role::Follower if membership.learners.contains(&status.replica) => ReplicaRole::Learner,
        Role::Follower => ReplicaRole::Follower,
    };
    // Another term's view of its followers is of the past.
    let in_sync = match progress.role {
        Role::Leader if status.term == progress.term => {
            let voters = status.peers.iter().filter(|p| p.standing == Standing::Voter);
            voters.filter(|p| p.in_sync).map(|p| p.replica.0).collect()
        }
        _ => Vec::new(),
    };
    ReplicaReport {
        log: status.log.0,
        replica: status.replica.0,
        role: role.into(),
        term: progress.term.0,
        leader: progress.leader.map(|replica| replica.0),
        log_start,
        high_watermark: progress.high_watermark.0,
        log_end: progress.log_end.0,
        commit: progress.commit.0,
        bytes,
        in_sync,
        voters: membership.voters.iter().map(|replica| replica.0).collect(),
        learners: membership.learners.iter().map(|replica| replica.0).collect(),
        membership_index: 0,
        changing: !membership.voters_outgoing.is_empty(),
    }
}

/// The reports of all nodes of the catalogue, asked side by side; `None` from those that didn't answer in time. This node's
/// own is always there.
pub async fn gather(
    context: &Arc<NodeContext>,
    request: &NodeReportRequest,
) -> BTreeMap<NodeId, Option<NodeReportResponse>> {
    let own = context.node_id();
    let mut tasks = JoinSet::new();
    let mut reports = BTreeMap::from([(own, Some(local_report(context, request)))]);
    for node in context.catalogue().nodes().map(|info| info.node).filter(|node| *node != own) {
        reports.insert(node, None);
        let (context, request) = (Arc::clone(context), request.clone());
        tasks.spawn(async move { (node, context.peers.report(node, request, REPORT_TIMEOUT).await) });
    }
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((node, Ok(report))) if report.node_id == node.0 => {
                reports.insert(node, Some(report));
            }
            Ok((node, Ok(report))) => {
                tracing::warn!(%node, answered = report.node_id, "another node answers at that node's address");
            }
            Ok((node, Err(error))) => tracing::debug!(%node, error = error.message, "no report"),
            Err(error) => tracing::warn!(%error, "a report was given up"),
        }
    }
    reports
}
