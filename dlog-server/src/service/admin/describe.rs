//! Topics and partitions with all that is known of them: the catalogue's intent, and what the leaders report.

use crate::context::NodeContext;
use crate::service::view::ClusterView;
use crate::service::{lookup, report};
use dlog_core::ReplicaId;
use dlog_core::error::ErrorDetail;
use dlog_protocol::TopicRef;
use dlog_protocol::v1::{
    DescribeTopicResponse, ListPartitionsResponse, NodeReportRequest, PartitionDescription, TopicDescription,
    TopicSelector,
};
use dlog_replication::Catalogue;
use dlog_replication::catalogue::{PartitionInfo, TopicInfo};
use std::sync::Arc;

/// Describes a topic.
///
/// # Errors
/// If it isn't known.
pub async fn describe(
    context: &Arc<NodeContext>,
    selector: Option<TopicSelector>,
) -> Result<DescribeTopicResponse, ErrorDetail> {
    let wanted = TopicRef::try_from(selector)?;
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, &wanted)?;
    let logs = catalogue.partitions_of(topic.topic).map(|partition| partition.log.0).collect();
    let request = NodeReportRequest { logs, ..NodeReportRequest::default() };
    let view = ClusterView::new(report::gather(context, &request).await, &catalogue);
    Ok(DescribeTopicResponse { topic: Some(description(&catalogue, topic, &view)) })
}

/// The partitions of one topic, or of all but dlog's own.
///
/// # Errors
/// If the topic isn't known.
pub async fn list_partitions(
    context: &Arc<NodeContext>,
    selector: Option<TopicSelector>,
) -> Result<ListPartitionsResponse, ErrorDetail> {
    if selector.is_some() {
        let described = describe(context, selector).await?;
        return Ok(ListPartitionsResponse { topics: described.topic.into_iter().collect() });
    }
    let reports = report::gather(context, &NodeReportRequest::default()).await;
    let catalogue = context.catalogue();
    let view = ClusterView::new(reports, &catalogue);
    let mut topics: Vec<&TopicInfo> = catalogue.topics().filter(|info| !info.name.is_reserved()).collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ListPartitionsResponse { topics: topics.into_iter().map(|t| description(&catalogue, t, &view)).collect() })
}

fn description(catalogue: &Catalogue, topic: &TopicInfo, view: &ClusterView) -> TopicDescription {
    TopicDescription {
        name: topic.name.to_string(),
        id: topic.topic.0,
        config: topic.settings.effective().into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
        partitions: catalogue.partitions_of(topic.topic).map(|p| partition(catalogue, p, view)).collect(),
    }
}

fn partition(catalogue: &Catalogue, info: &PartitionInfo, view: &ClusterView) -> PartitionDescription {
    let name = |replica: ReplicaId| catalogue.node_name(replica.node());
    let leader = view.leader(info.log);
    let best = view.best(info.log);
    PartitionDescription {
        partition: info.index.0,
        leader: leader.map(|replica| name(ReplicaId(replica.replica))),
        replicas: info.intended.iter().map(|replica| name(*replica)).collect(),
        in_sync: leader.map_or(Vec::new(), |l| l.in_sync.iter().map(|replica| name(ReplicaId(*replica))).collect()),
        log_start: best.map_or(0, |replica| replica.log_start),
        high_watermark: best.map_or(0, |replica| replica.high_watermark),
        term: leader.map_or_else(|| view.term(info.log), |replica| replica.term),
        bytes: best.map_or(0, |replica| replica.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_core::NodeId;
    use dlog_protocol::v1::{NodeReportResponse, ReplicaReport};
    use std::collections::BTreeMap;

    #[test]
    fn leaders_speak_for_their_partition() {
        let catalogue = catalogue();
        let topic = catalogue.topic_by_name("a").expect("made");
        let info = catalogue.partitions_of(topic.topic).next().expect("two partitions");
        let mut nodes: BTreeMap<NodeId, Option<NodeReportResponse>> = BTreeMap::new();
        for (replica, high_watermark) in info.intended.iter().zip([40, 41, 42]) {
            let report = ReplicaReport {
                log: info.log.0,
                replica: replica.0,
                term: 6,
                leader: Some(info.preferred.0),
                high_watermark,
                voters: info.intended.iter().map(|r| r.0).collect(),
                in_sync: vec![info.preferred.0],
                bytes: 7,
                ..ReplicaReport::default()
            };
            let report = NodeReportResponse { replicas: vec![report], ..NodeReportResponse::default() };
            nodes.insert(replica.node(), Some(report));
        }
        let leader = catalogue.node_name(info.preferred.node());
        let led = info.intended.iter().position(|r| *r == info.preferred).expect("a replica") as u64 + 40;
        let view = ClusterView::new(nodes.clone(), &catalogue);
        let described = description(&catalogue, topic, &view);
        assert_eq!(described.config["timestamp.type"], "create");
        let first = &described.partitions[0];
        assert_eq!((first.leader.as_deref(), &first.in_sync), (Some(leader.as_str()), &vec![leader.clone()]));
        assert_eq!((first.high_watermark, first.term, first.bytes), (led, 6, 7));
        assert_eq!(first.replicas.len(), 3);
        assert_eq!(described.partitions[1].leader, None, "nobody reports it");

        nodes.insert(info.preferred.node(), None);
        let first = partition(&catalogue, info, &ClusterView::new(nodes, &catalogue));
        assert_eq!((first.leader, first.in_sync.len(), first.term), (None, 0, 6), "the leader doesn't answer");
        assert!(first.high_watermark >= 41, "the best that a replica knows");
    }
}
