//! The answer for clusters that are well, and for each thing that can be wrong.

use super::*;
use crate::bootstrap::{BootstrapSet, group_zero_replica};
use crate::command::CommandBody;
use crate::support_tests::{apply, cluster, create_topic};

/// A report of every node of a cluster in which all is well: preferred replicas lead, group 0 is led by node 1.
fn well(catalogue: &Catalogue) -> BTreeMap<NodeId, NodeReport> {
    let nodes: Vec<NodeId> = catalogue.nodes().map(|info| info.node).collect();
    let report = |node: NodeId| {
        let voters = nodes.iter().take(voter_count(nodes.len())).map(|&node| group_zero_replica(node)).collect();
        let learners = nodes.iter().skip(voter_count(nodes.len())).map(|&node| group_zero_replica(node)).collect();
        let mut zero = replica(group_zero_replica(node), LogId::GROUP_ZERO, group_zero_replica(nodes[0]), voters);
        if node == nodes[0] {
            zero.learners = learners;
        }
        let mut replicas = vec![zero];
        for (id, partition) in catalogue.replicas_on(node) {
            replicas.push(replica(id, partition.log, partition.preferred, partition.intended.clone()));
        }
        NodeReport { alive: true, version: "0.1.0".to_owned(), replicas, ..NodeReport::default() }
    };
    nodes.iter().map(|&node| (node, report(node))).collect()
}

fn replica(replica: ReplicaId, log: LogId, leader: ReplicaId, voters: Vec<ReplicaId>) -> ReplicaReport {
    let voters = if leader == replica { voters } else { Vec::new() };
    ReplicaReport {
        replica,
        log,
        term: Term(2),
        leader: Some(leader),
        high_watermark: Offset(5),
        in_sync: voters.clone(),
        voters,
        learners: Vec::new(),
        changing: false,
    }
}

fn codes(health: &Health) -> Vec<(&str, &str)> {
    health.reasons.iter().map(|reason| (reason.code.as_str(), reason.subject.as_str())).collect()
}

fn leading(reports: &mut BTreeMap<NodeId, NodeReport>, log: LogId) -> &mut ReplicaReport {
    let mut replicas = reports.values_mut().flat_map(|report| &mut report.replicas);
    replicas.find(|replica| replica.log == log && replica.leader == Some(replica.replica)).expect("it has a leader")
}

#[test]
fn a_cluster_without_a_reason_is_healthy() {
    let mut catalogue = cluster(&["", "", "", "b"]);
    create_topic(&mut catalogue, "events", 4, 3);
    let health = health(&catalogue, &well(&catalogue));
    assert!(health.is_healthy(), "{:?}", health.reasons);
    assert_eq!(health.partitions, PartitionCounts { total: 4, without_leader: 0, under_replicated: 0 });
    let roles: Vec<&str> = health.nodes.iter().map(|node| node.role.name()).collect();
    assert_eq!(roles, ["leader", "voter", "voter", "learner"]);
    let last = &health.nodes[3];
    assert_eq!((last.name.as_str(), last.address.as_str(), last.rack.as_deref()), ("n4", "n4:7411", Some("b")));
    assert!(health.warnings.is_empty());
}

#[test]
fn a_node_that_is_down_is_named_and_missed() {
    let mut catalogue = cluster(&["", "", ""]);
    create_topic(&mut catalogue, "events", 1, 3);
    let mut reports = well(&catalogue);
    let log = LogId(1);
    let gone = catalogue.partition_of_log(log).expect("made").intended[1];
    reports.remove(&gone.node());
    leading(&mut reports, log).in_sync.retain(|&replica| replica != gone);
    let health = health(&catalogue, &reports);
    let name = catalogue.node_name(gone.node());
    assert!(codes(&health).contains(&("node_down", name.as_str())));
    assert!(codes(&health).contains(&("under_replicated", "events/0")));
    let reason = health.reasons.iter().find(|reason| reason.code == "under_replicated").expect("just seen");
    assert_eq!(reason.detail, format!("2 of 3 replicas are in sync; missing: {name}"));
    assert_eq!(health.partitions, PartitionCounts { total: 1, without_leader: 0, under_replicated: 1 });
    assert!(!health.nodes.iter().find(|node| node.name == name).expect("listed").alive);
}

#[test]
fn a_learner_does_not_count_as_in_sync() {
    let mut catalogue = cluster(&["", "", ""]);
    create_topic(&mut catalogue, "events", 1, 3);
    let mut reports = well(&catalogue);
    leading(&mut reports, LogId(1)).voters.pop();
    let health = health(&catalogue, &reports);
    assert_eq!(codes(&health), [("under_replicated", "events/0"), ("move_under_way", "events/0")]);
}

#[test]
fn a_partition_without_a_leader_says_whom_to_start() {
    let mut catalogue = cluster(&["", "", ""]);
    create_topic(&mut catalogue, "events", 1, 3);
    let mut reports = well(&catalogue);
    reports.insert(NodeId(2), NodeReport::default());
    reports.insert(NodeId(3), NodeReport::default());
    for replica in &mut reports.get_mut(&NodeId(1)).expect("it reports").replicas {
        replica.leader = None;
    }
    let health = health(&catalogue, &reports);
    let expected =
        [("node_down", "n2"), ("node_down", "n3"), ("metadata_without_leader", "group 0"), ("no_leader", "events/0")];
    assert_eq!(codes(&health), expected);
    assert_eq!(health.reasons[3].next, "start n2, n3 again");
    assert_eq!(health.partitions, PartitionCounts { total: 1, without_leader: 1, under_replicated: 1 });
    assert_eq!(health.nodes[0].role, NodeRole::Unknown);
}

#[test]
fn a_leader_of_the_past_is_none() {
    let mut catalogue = cluster(&["", "", ""]);
    create_topic(&mut catalogue, "events", 1, 3);
    let log = LogId(1);
    let mut reports = well(&catalogue);
    let old = leading(&mut reports, log).replica;
    let mut others = Vec::new();
    for replica in reports.values_mut().flat_map(|report| &mut report.replicas) {
        if replica.log == log && replica.replica != old {
            replica.term = Term(3);
            replica.leader = None;
            others.push(replica.replica);
        }
    }
    assert!(!leaders(&reports).contains_key(&log), "a majority has gone on to another term");
    let new = others[0];
    for replica in reports.values_mut().flat_map(|report| &mut report.replicas) {
        if replica.replica == new {
            replica.leader = Some(new);
            replica.voters = vec![old, new, others[1]];
        }
    }
    assert_eq!(leaders(&reports)[&log].leader, new);
}

#[test]
fn group_zero_is_watched_too() {
    let catalogue = cluster(&["", "", ""]);
    let mut reports = well(&catalogue);
    leading(&mut reports, LogId::GROUP_ZERO).in_sync.pop();
    assert_eq!(codes(&health(&catalogue, &reports)), [("metadata_under_replicated", "group 0")]);
    leading(&mut reports, LogId::GROUP_ZERO).changing = true;
    assert_eq!(codes(&health(&catalogue, &reports))[1], ("move_under_way", "group 0"));
}

#[test]
fn nodes_that_never_registered_are_missed() {
    let mut catalogue = cluster(&["", ""]);
    let set = BootstrapSet::new((1u8..=3).map(|node| (format!("n{node}"), [node; 16]))).expect("valid");
    apply(&mut catalogue, CommandBody::FoundCluster(set.found_command()));
    let mut reports = well(&catalogue);
    assert_eq!(codes(&health(&catalogue, &reports)), [("node_not_registered", "n3")]);
    reports.remove(&NodeId(3));
    let health = health(&catalogue, &reports);
    assert_eq!(codes(&health), [("node_down", "n3")]);
    assert!(health.reasons[0].detail.contains("never"));
}

#[test]
fn problems_of_nodes_are_reasons_and_risks_are_warnings() {
    let catalogue = cluster(&["", ""]);
    let mut reports = well(&catalogue);
    let report = reports.get_mut(&NodeId(2)).expect("it reports");
    report.insecure = true;
    report.version = "0.2.0".to_owned();
    let health_with_warnings = health(&catalogue, &reports);
    assert!(health_with_warnings.is_healthy());
    let warned: Vec<&str> = health_with_warnings.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(warned, ["versions_differ", "insecure"]);
    let full = Reason::new("disk_full", "n2", "the disk is full", "make room");
    reports.get_mut(&NodeId(2)).expect("it reports").problems.push(full.clone());
    assert_eq!(health(&catalogue, &reports).reasons, [full]);
}

#[test]
fn many_reasons_of_one_code_are_summed_up() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "events", 50, 1);
    let mut reports = well(&catalogue);
    reports.values_mut().for_each(|report| report.replicas.truncate(1));
    let health = health(&catalogue, &reports);
    assert_eq!(health.reasons.len(), REASONS_PER_CODE_MAX + 1);
    let last = health.reasons.last().expect("many");
    assert_eq!((last.code.as_str(), last.detail.as_str()), ("no_leader", "30 more of these are not shown"));
    assert_eq!(health.partitions.without_leader, 50);
}
