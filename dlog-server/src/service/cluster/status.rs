//! Health, status and nodes as messages.

use crate::context::NodeContext;
use crate::service::view::ClusterView;
use dlog_core::LogId;
use dlog_protocol::v1;
use dlog_replication::Catalogue;
use dlog_replication::catalogue::NodeInfo;
use dlog_replication::health::{Health, NodeRole, PartitionCounts, Reason};

/// A node as the catalogue has it.
pub(super) fn node_message(info: &NodeInfo) -> v1::Node {
    v1::Node {
        id: info.node.0,
        name: info.name.clone(),
        client_address: info.client_address.clone(),
        peer_address: info.peer_address.clone(),
        rack: info.rack.clone().unwrap_or_default(),
        version: info.version.clone(),
        shards: info.shards,
    }
}

/// The answer to "is the cluster healthy". What a healthy cluster tells is a warning.
pub(super) fn health(health: &Health) -> v1::HealthResponse {
    let told = if health.is_healthy() { &health.warnings } else { &health.reasons };
    v1::HealthResponse {
        healthy: health.is_healthy(),
        reasons: told.iter().map(reason).collect(),
        nodes: health
            .nodes
            .iter()
            .map(|node| v1::NodeHealth {
                name: node.name.clone(),
                id: node.node.0,
                alive: node.alive,
                role: node.role.name().to_string(),
                address: node.address.clone(),
                rack: node.rack.clone().unwrap_or_default(),
            })
            .collect(),
        partitions: Some(counts(&health.partitions)),
    }
}

fn reason(reason: &Reason) -> v1::HealthReason {
    v1::HealthReason {
        code: reason.code.clone(),
        subject: reason.subject.clone(),
        detail: reason.detail.clone(),
        next: reason.next.clone(),
    }
}

fn counts(counts: &PartitionCounts) -> v1::PartitionCounts {
    // The catalogue's bound on partitions is far below.
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::PartitionCounts {
        total: number(counts.total),
        without_leader: number(counts.without_leader),
        under_replicated: number(counts.under_replicated),
    }
}

/// All nodes, by id.
pub(super) fn nodes(catalogue: &Catalogue, health: &Health, view: &ClusterView) -> Vec<v1::NodeStatus> {
    let status = |info: &NodeInfo| {
        let report = view.node(info.node);
        let role = health.nodes.iter().find(|node| node.node == info.node).map_or(NodeRole::Unknown, |node| node.role);
        let intended = || u32::try_from(catalogue.replicas_on(info.node).count()).unwrap_or(u32::MAX);
        v1::NodeStatus {
            node: Some(node_message(info)),
            alive: report.is_some(),
            role: role.name().to_string(),
            replicas: report.map_or_else(intended, |report| report.replica_count),
            leaders: report.map_or(0, |report| report.leader_count),
            bytes: report.map_or(0, |report| report.bytes),
            boot_number: report.map_or(info.boot, |report| report.boot_number),
        }
    };
    catalogue.nodes().map(status).collect()
}

/// The cluster on one screen.
pub(super) fn status(context: &NodeContext, view: &ClusterView) -> v1::StatusResponse {
    let catalogue = context.catalogue();
    let health = view.health(&catalogue);
    let leader = health.nodes.iter().find(|node| node.role == NodeRole::Leader);
    v1::StatusResponse {
        cluster_id: context.identity.cluster.0.to_vec().into(),
        cluster_name: context.config.cluster_name.clone(),
        nodes: nodes(&catalogue, &health, view),
        metadata_leader: leader.map(|node| node.name.clone()),
        metadata_term: view.term(LogId::GROUP_ZERO),
        topics: u32::try_from(catalogue.topics().len()).unwrap_or(u32::MAX),
        partitions: Some(counts(&health.partitions)),
        healthy: health.is_healthy(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_core::NodeId;
    use std::collections::BTreeMap;

    #[test]
    fn nodes_that_are_silent_are_listed_as_such() {
        let catalogue = catalogue();
        let report = v1::NodeReportResponse {
            replica_count: 9,
            leader_count: 4,
            bytes: 77,
            boot_number: 5,
            ..Default::default()
        };
        let reports = BTreeMap::from([(NodeId(1), Some(report)), (NodeId(2), None), (NodeId(3), None)]);
        let view = ClusterView::new(reports, &catalogue);
        let nodes = nodes(&catalogue, &view.health(&catalogue), &view);
        let told: Vec<_> = nodes.iter().map(|n| (n.alive, n.replicas, n.leaders, n.bytes, n.boot_number)).collect();
        // Silent ones: what the catalogue knows.
        assert_eq!(told, [(true, 9, 4, 77, 5), (false, 2, 0, 0, 1), (false, 2, 0, 0, 1)]);
    }

    #[test]
    fn warnings_are_told_only_by_a_healthy_cluster() {
        let warning = Reason::new("insecure", "n1", "detail", "next");
        let mut found =
            Health { reasons: vec![], warnings: vec![warning], nodes: vec![], partitions: PartitionCounts::default() };
        let healthy = health(&found);
        assert!(healthy.healthy);
        assert_eq!(healthy.reasons[0].code, "insecure");
        found.reasons.push(Reason::new("node_down", "n2", "detail", "next"));
        let sick = health(&found);
        assert!(!sick.healthy);
        assert_eq!(sick.reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), ["node_down"]);
    }
}
