//! The cluster as all nodes together report it: who leads what, and how far it is. Pure.

use super::report::INSECURE;
use dlog_core::{LogId, NodeId, Offset, ReplicaId, Term};
use dlog_protocol::v1::{NodeReportResponse, ReplicaReport};
use dlog_replication::health::{self, NodeReport, Reason};
use dlog_replication::{Catalogue, health::Health};
use std::collections::BTreeMap;

/// Reports of one round, indexed by log.
///
/// Invariants: a replica stands under its own node (a node that reports another's replicas isn't believed); `leaders` holds
/// replicas of `by_log` alone.
#[derive(Default)]
pub struct ClusterView {
    nodes: BTreeMap<NodeId, Option<NodeReportResponse>>,
    by_log: BTreeMap<LogId, Vec<ReplicaReport>>,
    leaders: BTreeMap<LogId, ReplicaId>,
    health_reports: BTreeMap<NodeId, NodeReport>,
}

impl ClusterView {
    /// The view of these reports; `None` is a node that didn't answer.
    pub fn new(mut nodes: BTreeMap<NodeId, Option<NodeReportResponse>>, catalogue: &Catalogue) -> ClusterView {
        let mut by_log: BTreeMap<LogId, Vec<ReplicaReport>> = BTreeMap::new();
        let mut health_reports = BTreeMap::new();
        for (node, report) in &mut nodes {
            let Some(report) = report else {
                health_reports.insert(*node, NodeReport::default());
                continue;
            };
            report.replicas.retain(|replica| ReplicaId(replica.replica).node() == *node);
            let version = catalogue.node(*node).map(|info| info.version.clone()).unwrap_or_default();
            health_reports.insert(*node, health_report(report, version));
            for replica in &report.replicas {
                by_log.entry(LogId(replica.log)).or_default().push(replica.clone());
            }
        }
        let leaders = health::leaders(&health_reports).into_iter().map(|(log, found)| (log, found.leader)).collect();
        ClusterView { nodes, by_log, leaders, health_reports }
    }

    /// What a node said; `None` if it didn't answer.
    pub fn node(&self, node: NodeId) -> Option<&NodeReportResponse> {
        self.nodes.get(&node)?.as_ref()
    }

    /// The leader's report of a log.
    pub fn leader(&self, log: LogId) -> Option<&ReplicaReport> {
        let leader = self.leaders.get(&log)?;
        self.by_log.get(&log)?.iter().find(|replica| replica.replica == leader.0)
    }

    /// Who leads a log: itself says so, or else somebody names it. With the term of whoever says it.
    pub fn leader_hint(&self, log: LogId) -> Option<(NodeId, Term)> {
        if let Some(leader) = self.leader(log) {
            return Some((ReplicaId(leader.replica).node(), Term(leader.term)));
        }
        let named = self.by_log.get(&log)?.iter().filter_map(|r| Some((Term(r.term), ReplicaId(r.leader?).node())));
        named.max_by_key(|(term, _)| *term).map(|(term, node)| (node, term))
    }

    /// The leader's report, or without one that of the replica that is furthest.
    pub fn best(&self, log: LogId) -> Option<&ReplicaReport> {
        let furthest = || self.by_log.get(&log)?.iter().max_by_key(|replica| replica.high_watermark);
        self.leader(log).or_else(furthest)
    }

    /// The highest term that anybody reports of a log.
    pub fn term(&self, log: LogId) -> u64 {
        self.by_log.get(&log).into_iter().flatten().map(|replica| replica.term).max().unwrap_or(0)
    }

    /// Is the cluster healthy, and if not, why?
    pub fn health(&self, catalogue: &Catalogue) -> Health {
        health::health(catalogue, &self.health_reports)
    }
}

fn health_report(report: &NodeReportResponse, version: String) -> NodeReport {
    let troubles = report.troubles.iter().filter(|trouble| trouble.code != INSECURE);
    NodeReport {
        alive: true,
        version,
        insecure: report.troubles.iter().any(|trouble| trouble.code == INSECURE),
        replicas: report.replicas.iter().map(health_replica).collect(),
        problems: troubles.map(|t| Reason::new(&t.code, &t.subject, &t.detail, &t.next)).collect(),
    }
}

fn health_replica(replica: &ReplicaReport) -> health::ReplicaReport {
    let leads = replica.leader == Some(replica.replica);
    let replicas = |ids: &[u64]| if leads { ids.iter().copied().map(ReplicaId).collect() } else { Vec::new() };
    health::ReplicaReport {
        replica: ReplicaId(replica.replica),
        log: LogId(replica.log),
        term: Term(replica.term),
        leader: replica.leader.map(ReplicaId),
        high_watermark: Offset(replica.high_watermark),
        voters: replicas(&replica.voters),
        learners: replicas(&replica.learners),
        in_sync: replicas(&replica.in_sync),
        changing: leads && replica.changing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_protocol::v1::NodeTrouble;

    fn replica(log: u64, node: u32, term: u64, leader: Option<u32>, high_watermark: u64) -> ReplicaReport {
        let id = |node| ReplicaId::new(NodeId(node), 2).0;
        ReplicaReport {
            log,
            replica: id(node),
            term,
            leader: leader.map(id),
            high_watermark,
            voters: vec![id(1), id(2), id(3)],
            in_sync: vec![id(node)],
            ..ReplicaReport::default()
        }
    }

    fn view(replicas: Vec<ReplicaReport>) -> ClusterView {
        let mut nodes: BTreeMap<NodeId, Option<NodeReportResponse>> = (1..=3).map(|n| (NodeId(n), None)).collect();
        for replica in replicas {
            let node = ReplicaId(replica.replica).node();
            nodes.get_mut(&node).expect("one of three").get_or_insert_default().replicas.push(replica);
        }
        ClusterView::new(nodes, &catalogue())
    }

    #[test]
    fn the_leader_of_the_highest_term_counts() {
        let view =
            view(vec![replica(7, 1, 4, Some(1), 90), replica(7, 2, 5, Some(2), 80), replica(7, 3, 5, Some(2), 70)]);
        let leader = view.leader(LogId(7)).expect("one leads");
        assert_eq!(ReplicaId(leader.replica).node(), NodeId(2));
        assert_eq!(view.leader_hint(LogId(7)), Some((NodeId(2), Term(5))));
        assert_eq!(view.best(LogId(7)).map(|r| r.high_watermark), Some(80), "the leader's, not the highest");
        assert_eq!(view.term(LogId(7)), 5);
    }

    #[test]
    fn a_leader_that_does_not_answer_is_still_a_hint() {
        let view = view(vec![replica(7, 1, 4, None, 10), replica(7, 3, 5, Some(2), 70)]);
        assert!(view.leader(LogId(7)).is_none());
        assert_eq!(view.leader_hint(LogId(7)), Some((NodeId(2), Term(5))));
        assert_eq!(view.best(LogId(7)).map(|r| r.high_watermark), Some(70));
        assert!(view.node(NodeId(2)).is_none());
        assert!(view.best(LogId(8)).is_none());
    }

    #[test]
    fn a_node_speaks_only_for_its_own_replicas() {
        let mut nodes = BTreeMap::new();
        let report =
            NodeReportResponse { replicas: vec![replica(7, 2, 9, Some(2), 5)], ..NodeReportResponse::default() };
        nodes.insert(NodeId(1), Some(report));
        assert!(ClusterView::new(nodes, &catalogue()).best(LogId(7)).is_none());
    }

    #[test]
    fn silence_and_troubles_reach_health() {
        let troubles = ["disk_full", INSECURE].map(|code| NodeTrouble { code: code.into(), ..NodeTrouble::default() });
        let report = NodeReportResponse { troubles: troubles.into(), ..NodeReportResponse::default() };
        let nodes = BTreeMap::from([(NodeId(1), Some(report)), (NodeId(2), None)]);
        let catalogue = catalogue();
        let health = ClusterView::new(nodes, &catalogue).health(&catalogue);
        let codes: Vec<&str> = health.reasons.iter().map(|r| r.code.as_str()).collect();
        assert!(codes.contains(&"disk_full") && !codes.contains(&INSECURE), "{codes:?}");
        assert_eq!(codes.iter().filter(|c| **c == "node_down").count(), 2, "2 and 3 don't answer: {codes:?}");
        assert!(health.warnings.iter().any(|w| w.code == "insecure"));
    }
}
