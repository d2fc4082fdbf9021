//! Is the cluster healthy, and if not, why, and what helps: computed from the catalogue and what every node reports.
//!
//! Healthy means that no reason was found. A warning is told too, but doesn't make a cluster unhealthy.

mod partitions;

use crate::bootstrap::voter_count;
use crate::catalogue::Catalogue;
use dlog_core::{LogId, NodeId, Offset, ReplicaId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Reasons of one code that are told one by one; then one more says how many were left out.
pub const REASONS_PER_CODE_MAX: usize = 20;

/// What one node says of itself, or that it doesn't answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Did it answer in time? If not, everything below is empty.
    pub alive: bool,
    /// The version of its software.
    pub version: String,
    /// Does it listen beyond loopback without TLS?
    pub insecure: bool,
    /// Its replicas, group 0's among them.
    pub replicas: Vec<ReplicaReport>,
    /// What it knows to be wrong with itself: a full disk, a retired replica, damage that was found…
    pub problems: Vec<Reason>,
}

/// What a node says of one of its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The replica.
    pub replica: ReplicaId,
    /// Its log.
    pub log: LogId,
    /// Its term.
    pub term: Term,
    /// Who leads in that term, as far as it knows; itself if it does.
    pub leader: Option<ReplicaId>,
    /// Its high watermark.
    pub high_watermark: Offset,
    /// A leader's view of its voters; empty from others.
    pub voters: Vec<ReplicaId>,
    /// A leader's view of its learners; empty from others.
    pub learners: Vec<ReplicaId>,
    /// A leader's view of the voters in sync, itself among them; empty from others.
    pub in_sync: Vec<ReplicaId>,
    /// Does a leader know of a change of membership that isn't finished?
    pub changing: bool,
}

/// One cause, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A stable word in snake_case.
    pub code: String,
    /// What it is about: a node's name, `topic/partition`, or `group 0`.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
    /// What to do next.
    pub next: String,
}

impl Reason {
    /// A reason.
    pub fn new(
        code: impl Into<String>,
        subject: impl Into<String>,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Reason {
        Reason { code: code.into(), subject: subject.into(), detail: detail.into(), next: next.into() }
    }
}

/// A node's part in group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// It leads group 0.
    Leader,
    /// It votes there.
    Voter,
    /// It only follows.
    Learner,
    /// Nobody who leads says.
    Unknown,
}

impl NodeRole {
    /// The role's word.
    pub const fn name(self) -> &'static str {
        match self {
            NodeRole::Leader => "leader",
            NodeRole::Voter => "voter",
            NodeRole::Learner => "learner",
            NodeRole::Unknown => "unknown",
        }
    }
}

/// One node of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHealth {
    /// Its name.
    pub name: String,
    /// Its id.
    pub node: NodeId,
    /// Did it answer?
    pub alive: bool,
    /// Its part in group 0.
    pub role: NodeRole,
    /// Where clients reach it; empty if it never registered.
    pub address: String,
    /// Its rack.
    pub rack: Option<String>,
    /// The version of its software: what it reports, or else what it registered with.
    pub version: String,
}

/// Partitions by condition. One without a leader is under-replicated too, since nobody is known to be in sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounts {
    /// All partitions of all topics.
    pub total: usize,
    /// Those that nobody leads.
    pub without_leader: usize,
    /// Those with fewer voters in sync than their topic's replicas.
    pub under_replicated: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why it isn't healthy: nodes first, then group 0, then partitions.
    pub reasons: Vec<Reason>,
    /// What else should be known.
    pub warnings: Vec<Reason>,
    /// All nodes, by id.
    pub nodes: Vec<NodeHealth>,
    /// The partitions.
    pub partitions: PartitionCounts,
}

impl Health {
    /// Is there no reason at all?
    pub fn is_healthy(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// The leader of one log, as found in the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership<'a> {
    /// Who leads.
    pub leader: ReplicaId,
    /// What it says.
    pub report: &'a ReplicaReport,
}

/// The leaders of all logs for which one was reported. Of several claims the one of the highest term counts; a claim that a
/// majority of its voters contradicts by a higher term is one of the past, and none.
pub fn leaders<'a>(reports: &'a BTreeMap<NodeId, NodeReport>) -> BTreeMap<LogId, Leadership<'a>> {
    let mut by_log: BTreeMap<LogId, Vec<&ReplicaReport>> = BTreeMap::new();
    for report in reports.values().filter(|report| report.alive) {
        report.replicas.iter().for_each(|replica| by_log.entry(replica.log).or_default().push(replica));
    }
    by_log.into_iter().filter_map(|(log, replicas)| Some((log, leader_of(&replicas)?))).collect()
}

fn leader_of<'a>(replicas: &[&'a ReplicaReport]) -> Option<Leadership<'a>> {
    let claims = replicas.iter().filter(|report| report.leader == Some(report.replica));
    let report = *claims.max_by_key(|report| report.term)?;
    let beyond = |voter: &&ReplicaId| replicas.iter().any(|other| other.replica == **voter && other.term > report.term);
    let contradicted = report.voters.iter().filter(beyond).count();
    let is_past = contradicted >= crate::quorum::majority(report.voters.len());
    (!is_past).then_some(Leadership { leader: report.replica, report })
}

/// The answer to "is the cluster healthy". A node without a report counts as not alive.
pub fn health(catalogue: &Catalogue, reports: &BTreeMap<NodeId, NodeReport>) -> Health {
    let leaders = leaders(reports);
    let group_zero = leaders.get(&LogId::GROUP_ZERO);
    let mut reasons = Reasons::default();
    let mut nodes = Vec::new();
    for info in catalogue.nodes() {
        let report = reports.get(&info.node).filter(|report| report.alive);
        let version = report.map_or(&info.version, |report| &report.version);
        nodes.push(NodeHealth {
            name: info.name.clone(),
            node: info.node,
            alive: report.is_some(),
            role: role(info.node, group_zero),
            address: info.client_address.clone(),
            rack: info.rack.clone(),
            version: version.clone(),
        });
        check_node(&info.name, info.is_registered(), report, &mut reasons);
    }
    check_group_zero(catalogue, group_zero, &mut reasons);
    let partitions = partitions::check(catalogue, reports, &leaders, &mut reasons);
    Health { reasons: reasons.finish(), warnings: warnings(&nodes, reports), nodes, partitions }
}

fn role(node: NodeId, group_zero: Option<&Leadership<'_>>) -> NodeRole {
    let Some(leadership) = group_zero else { return NodeRole::Unknown };
    let on_node = |replicas: &[ReplicaId]| replicas.iter().any(|replica| replica.node() == node);
    if leadership.leader.node() == node {
        NodeRole::Leader
    } else if on_node(&leadership.report.voters) {
        NodeRole::Voter
    } else if on_node(&leadership.report.learners) {
        NodeRole::Learner
    } else {
        NodeRole::Unknown
    }
}

fn check_node(name: &str, registered: bool, report: Option<&NodeReport>, reasons: &mut Reasons) {
    let Some(report) = report else {
        let detail = match registered {
            true => "the node does not answer",
            false => "the node is part of the cluster but was never heard of",
        };
        let next = format!("start it again (dlog serve --name {name} with its data directory), or look at its log");
        reasons.add(Reason::new("node_down", name, detail, next));
        return;
    };
    if !registered {
        let next = "wait a moment; if it stays, look at the log of the node";
        reasons.add(Reason::new("node_not_registered", name, "the node answers but has not registered yet", next));
    }
    report.problems.iter().for_each(|problem| reasons.add(problem.clone()));
}

fn check_group_zero(catalogue: &Catalogue, leadership: Option<&Leadership<'_>>, reasons: &mut Reasons) {
    const SUBJECT: &str = "group 0";
    let nodes = catalogue.nodes().len();
    let Some(Leadership { report, .. }) = leadership else {
        let detail = "the metadata group has no leader: topics can't be made or changed";
        let next = "start its nodes again until a majority of its voters is up; see dlog cluster status";
        reasons.add(Reason::new("metadata_without_leader", SUBJECT, detail, next));
        return;
    };
    let voters: BTreeSet<ReplicaId> = report.voters.iter().copied().collect();
    let in_sync = report.in_sync.iter().filter(|replica| voters.contains(replica)).count();
    let wanted = voter_count(nodes).max(voters.len());
    if in_sync < wanted {
        let detail = format!("{in_sync} of {wanted} voters of the metadata group are in sync");
        let next = "wait if a node has just started, else start the nodes that are down; see dlog cluster status";
        reasons.add(Reason::new("metadata_under_replicated", SUBJECT, detail, next));
    }
    if report.changing {
        let next = "wait until it is done (dlog cluster health --wait)";
        reasons.add(Reason::new("move_under_way", SUBJECT, "the voters of the metadata group are changing", next));
    }
}

fn warnings(nodes: &[NodeHealth], reports: &BTreeMap<NodeId, NodeReport>) -> Vec<Reason> {
    let mut warnings = Vec::new();
    let alive = || nodes.iter().filter(|node| node.alive);
    let versions: BTreeSet<&str> = alive().map(|node| node.version.as_str()).collect();
    if versions.len() > 1 {
        let detail = format!("the nodes run {} versions: {}", versions.len(), Vec::from_iter(versions).join(", "));
        warnings.push(Reason::new("versions_differ", "cluster", detail, "finish the upgrade"));
    }
    for node in alive().filter(|node| reports.get(&node.node).is_some_and(|report| report.insecure)) {
        let detail = "the node listens beyond loopback without TLS and authentication (--insecure)";
        let next = "keep its ports inside a network that you trust";
        warnings.push(Reason::new("insecure", node.name.as_str(), detail, next));
    }
    warnings
}

/// Reasons in order, with a bound for each code so that one cause doesn't fill the screen.
#[derive(Default)]
struct Reasons {
    reasons: Vec<Reason>,
    counts: BTreeMap<String, usize>,
}

impl Reasons {
    fn add(&mut self, reason: Reason) {
        let count = self.counts.entry(reason.code.clone()).or_default();
        *count += 1;
        if *count <= REASONS_PER_CODE_MAX {
            self.reasons.push(reason);
        }
    }

    fn finish(mut self) -> Vec<Reason> {
        for (code, count) in self.counts {
            if let Some(more) = count.checked_sub(REASONS_PER_CODE_MAX).filter(|&more| more > 0) {
                let detail = format!("{more} more of these are not shown");
                self.reasons.push(Reason::new(code, "more", detail, "deal with those above first"));
            }
        }
        self.reasons
    }
}

#[cfg(test)]
mod tests;
