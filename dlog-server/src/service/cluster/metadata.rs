//! Where everything is: the catalogue's nodes and topics, and for each partition the newest leader that is known. A node
//! answers for its own replicas at once; for the others it asks all nodes, at most every so often.

use super::status::node_message;
use crate::context::NodeContext;
use crate::service::view::ClusterView;
use crate::service::{admin, lookup, report};
use dlog_core::error::{ErrorCode, ErrorDetail};
use dlog_core::{LogId, NodeId, ReplicaId, Term};
use dlog_protocol::TopicRef;
use dlog_protocol::v1::{
    MetadataRequest, MetadataResponse, NodeReportRequest, PartitionMetadata, TopicMetadata, TopicSelector,
};
use dlog_replication::Catalogue;
use dlog_replication::catalogue::{PartitionInfo, TopicInfo};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old reports may be that leaders of partitions without a replica here are taken from: clients that look for a leader
/// after an election ask again and again.
const REPORTS_AGE_MAX: Duration = Duration::from_millis(200);
/// Longest wait for group 0 where the truth is asked for.
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

/// The answers to metadata requests.
pub(super) struct Metadata {
    context: Arc<NodeContext>,
    /// The last round of reports and when it was begun. Held while one is made: those who come meanwhile share it.
    reports: Mutex<Option<(Instant, Arc<ClusterView>)>>,
    /// When the last finished wait for group 0 was begun. Held while one is made.
    barrier: Mutex<Option<Instant>>,
}

impl Metadata {
    pub(super) fn new(context: Arc<NodeContext>) -> Metadata {
        Metadata { context, reports: Mutex::default(), barrier: Mutex::default() }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// A malformed topic; with `fresh`, what keeps group 0 from answering; with `create_missing`, a topic's refusal.
    pub(super) async fn answer(&self, request: MetadataRequest) -> Result<MetadataResponse, ErrorDetail> {
        let wanted: Vec<TopicRef> =
            request.topics.into_iter().map(|selector| TopicRef::try_from(Some(selector))).collect::<Result<_, _>>()?;
        if request.fresh {
            self.catch_up().await?;
        }
        if request.create_missing && self.context.config.auto_create_topics {
            self.create_missing(&wanted).await?;
        }
        let catalogue = self.context.catalogue();
        let mut found: Vec<&TopicInfo> = Vec::new();
        let mut unknown_topics: Vec<TopicSelector> = Vec::new();
        for topic in &wanted {
            match lookup::topic(&catalogue, topic) {
                Ok(info) => found.push(info),
                Err(_) => unknown_topics.push(topic.into()),
            }
        }
        if request.all_topics && wanted.is_empty() {
            found = catalogue.topics().collect();
        }
        let mut seen = BTreeSet::new();
        found.retain(|info| seen.insert(info.topic));
        let partitions = || found.iter().flat_map(|info| catalogue.partitions_of(info.topic));
        let view = match partitions().all(|partition| self.own_hint(partition.log).is_some()) {
            true => Arc::default(),
            false => self.reports().await,
        };
        Ok(MetadataResponse {
            cluster_id: self.context.identity.cluster.0.to_vec().into(),
            cluster_name: self.context.config.cluster_name.clone(),
            answered_by: self.context.node_id().0,
            nodes: catalogue.nodes().map(node_message).collect(),
            topics: found.iter().map(|info| self.topic(&catalogue, info, &view)).collect(),
            unknown_topics,
        })
    }

    fn topic(&self, catalogue: &Catalogue, info: &TopicInfo, view: &ClusterView) -> TopicMetadata {
        let partition = |partition: &PartitionInfo| {
            let hint = newest(self.own_hint(partition.log), view.leader_hint(partition.log));
            PartitionMetadata {
                partition: partition.index.0,
                leader: hint.map(|(node, _)| node.0),
                term: hint.map_or(0, |(_, term)| term.0),
                replicas: partition.intended.iter().map(|replica| replica.node().0).collect(),
            }
        };
        TopicMetadata {
            name: info.name.to_string(),
            id: info.topic.0,
            partitions: catalogue.partitions_of(info.topic).map(partition).collect(),
            max_batch_bytes: u32::try_from(info.settings.max_batch_bytes()).unwrap_or(u32::MAX),
        }
    }

    /// The leader as this node's own replica of a log knows it.
    fn own_hint(&self, log: LogId) -> Option<(NodeId, Term)> {
        let progress = self.context.replicas.get(log)?.progress();
        Some((progress.leader.map(ReplicaId::node)?, progress.term))
    }

    /// What all nodes say, at most [`REPORTS_AGE_MAX`] ago.
    async fn reports(&self) -> Arc<ClusterView> {
        let mut held = self.reports.lock().await;
        if let Some((at, view)) = &*held
            && at.elapsed() <= REPORTS_AGE_MAX
        {
            return Arc::clone(view);
        }
        let reports = report::gather(&self.context, &NodeReportRequest::default()).await;
        let view = Arc::new(ClusterView::new(reports, &self.context.catalogue()));
        // Timed from the end: a node that doesn't answer makes a round last longer than its result is kept.
        *held = Some((Instant::now(), Arc::clone(&view)));
        view
    }

    /// Waits until the catalogue here has everything that was acknowledged before the call. Callers that wait at the same
    /// time share one command.
    async fn catch_up(&self) -> Result<(), ErrorDetail> {
        let asked = Instant::now();
        let mut last = self.barrier.lock().await;
        if last.is_some_and(|begun| begun >= asked) {
            return Ok(());
        }
        let begun = Instant::now();
        admin::barrier(&self.context, FRESH_TIMEOUT).await?;
        *last = Some(begun);
        Ok(())
    }

    async fn create_missing(&self, wanted: &[TopicRef]) -> Result<(), ErrorDetail> {
        for topic in wanted {
            let missing =
                lookup::topic(&self.context.catalogue(), topic).is_err_and(|e| e.code == ErrorCode::UnknownTopic);
            match topic {
                TopicRef::Name(name) if missing => admin::create_missing(&self.context, name).await?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Of two answers the one with the higher term.
fn newest(own: Option<(NodeId, Term)>, reported: Option<(NodeId, Term)>) -> Option<(NodeId, Term)> {
    match (own, reported) {
        (Some(own), Some(reported)) => Some(if reported.1 > own.1 { reported } else { own }),
        (own, reported) => own.or(reported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_term_is_the_newer_answer() {
        let at = |node, term| Some((NodeId(node), Term(term)));
        assert_eq!(newest(None, None), None);
        assert_eq!(newest(at(1, 3), None), at(1, 3));
        assert_eq!(newest(None, at(2, 3)), at(2, 3));
        assert_eq!(newest(at(1, 3), at(2, 4)), at(2, 4));
        assert_eq!(newest(at(1, 4), at(2, 3)), at(1, 4));
        assert_eq!(newest(at(1, 4), at(2, 4)), at(1, 4), "what a replica here knows is not older");
    }
}
