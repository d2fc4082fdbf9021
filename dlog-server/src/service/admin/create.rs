//! Making topics: on request, or on first use where the node was started to (`dlog dev`).

use super::{dry_run, execute, invalid_argument, rejection, request_id, unexpected};
use crate::clock::wall_clock;
use crate::context::NodeContext;
use crate::service::report;
use crate::service::view::ClusterView;
use dlog_core::error::ErrorDetail;
use dlog_core::{TopicId, TopicName};
use dlog_protocol::v1::{CreateTopicRequest, CreateTopicResponse, NodeReportRequest, Placement};
use dlog_replication::catalogue::PartitionInfo;
use dlog_replication::command::CreateTopic;
use dlog_replication::{Catalogue, CommandBody, CommandOutcome, TopicSettings};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer waits for the new partitions' first leaders and followers: a client that goes on at once then finds
/// them. The topic is there either way.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two looks.
const LEADERS_LOOK: Duration = Duration::from_millis(25);

/// Makes a topic, or says what would be made.
///
/// # Errors
/// The catalogue's refusal; `timeout` and the like of group 0.
pub async fn create(
    context: &Arc<NodeContext>,
    request: CreateTopicRequest,
) -> Result<CreateTopicResponse, ErrorDetail> {
    let id = request_id(request.request_id.as_deref())?;
    let mut settings = TopicSettings::default();
    for (key, value) in &request.config {
        settings.set(key, value).map_err(|error| invalid_argument(error.to_string()))?;
    }
    let create = CreateTopic {
        name: request.name,
        partitions: request.partitions,
        replicas: request.replicas,
        settings: Some(settings),
        if_not_exists: request.if_not_exists,
        requested_at_ms: wall_clock().0,
        namespace: String::new(),
    };
    if request.dry_run {
        let (outcome, plan) = dry_run(&context.catalogue(), CommandBody::CreateTopic(create));
        let (topic, created) = made(outcome)?;
        // An existing topic's id is true; that of a plan is not given to anyone yet.
        let topic_id = if created { 0 } else { topic.0 };
        return Ok(CreateTopicResponse { topic_id, created: false, placements: placements(&plan, topic) });
    }
    let (topic, created) = made(execute(context, id, CommandBody::CreateTopic(create)).await?)?;
    if created {
        wait_for_leaders(context, topic).await;
    }
    Ok(CreateTopicResponse { topic_id: topic.0, created, placements: placements(&context.catalogue(), topic) })
}

fn made(outcome: CommandOutcome) -> Result<(TopicId, bool), ErrorDetail> {
    match outcome {
        CommandOutcome::TopicCreated { topic, created, .. } => Ok((topic, created)),
        CommandOutcome::Rejected(why) => Err(rejection(&why)),
        other => Err(unexpected(&other)),
    }
}

/// The nodes of each partition by name, the one that is to lead first.
fn placements(catalogue: &Catalogue, topic: TopicId) -> Vec<Placement> {
    let placement = |partition: &PartitionInfo| {
        let mut replicas = partition.intended.clone();
        // Stable: the others keep their order.
        replicas.sort_by_key(|replica| *replica != partition.preferred);
        Placement {
            partition: partition.index.0,
            nodes: replicas.iter().map(|replica| catalogue.node_name(replica.node())).collect(),
        }
    };
    catalogue.partitions_of(topic).map(placement).collect()
}

/// Returns once every partition of a topic is led and in sync as far as its nodes answer, or when that takes too long.
async fn wait_for_leaders(context: &Arc<NodeContext>, topic: TopicId) {
    let deadline = Instant::now() + LEADERS_TIMEOUT;
    loop {
        let catalogue = context.catalogue();
        let logs = catalogue.partitions_of(topic).map(|partition| partition.log.0).collect();
        let request = NodeReportRequest { logs, ..NodeReportRequest::default() };
        let view = ClusterView::new(report::gather(context, &request).await, &catalogue);
        let settled = catalogue.partitions_of(topic).all(|partition| is_settled(partition, &view));
        if settled || Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep(LEADERS_LOOK).await;
    }
}

/// Is a new partition led, with every replica in sync whose node answers?
fn is_settled(partition: &PartitionInfo, view: &ClusterView) -> bool {
    let up = partition.intended.iter().filter(|replica| view.node(replica.node()).is_some()).count();
    view.leader(partition.log).is_some_and(|leader| leader.in_sync.len() >= up)
}

/// Makes a topic that a producer is about to use, with the defaults. One that exists is left alone.
///
/// # Errors
/// As [`create`].
pub async fn create_missing(context: &Arc<NodeContext>, name: &TopicName) -> Result<(), ErrorDetail> {
    let request = CreateTopicRequest { name: name.to_string(), if_not_exists: true, ..CreateTopicRequest::default() };
    create(context, request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_core::error::ErrorCode;
    use dlog_protocol::v1::{NodeReportResponse, ReplicaReport};
    use std::collections::BTreeMap;

    #[test]
    fn a_plan_names_the_nodes_leaders_first() {
        let before = catalogue();
        let create = CreateTopic { name: "new".into(), partitions: 3, replicas: 2, ..CreateTopic::default() };
        let (outcome, plan) = dry_run(&before, CommandBody::CreateTopic(create));
        let (topic, created) = made(outcome).expect("possible");
        assert!(created);
        let placements = placements(&plan, topic);
        assert_eq!(placements.iter().map(|p| p.partition).collect::<Vec<_>>(), [0, 1, 2]);
        for placement in &placements {
            let partition = plan.partition(topic, dlog_core::PartitionIndex(placement.partition)).expect("planned");
            assert_eq!(placement.nodes.len(), 2);
            assert_eq!(placement.nodes[0], plan.node_name(partition.preferred.node()));
        }
    }

    #[test]
    fn a_partition_is_settled_without_nodes_that_are_down() {
        let catalogue = catalogue();
        let topic = catalogue.topic_by_name("a").expect("made").topic;
        let partition = catalogue.partitions_of(topic).next().expect("two");
        let settled = |in_sync: usize, down: usize| {
            let mut nodes = BTreeMap::new();
            for (number, replica) in partition.intended.iter().enumerate() {
                let report = ReplicaReport {
                    log: partition.log.0,
                    replica: replica.0,
                    term: 1,
                    leader: Some(partition.intended[0].0),
                    voters: partition.intended.iter().map(|r| r.0).collect(),
                    in_sync: partition.intended.iter().take(in_sync).map(|r| r.0).collect(),
                    ..ReplicaReport::default()
                };
                let report = NodeReportResponse { replicas: vec![report], ..NodeReportResponse::default() };
                nodes.insert(replica.node(), (number < 3 - down).then_some(report));
            }
            is_settled(partition, &ClusterView::new(nodes, &catalogue))
        };
        assert!(settled(3, 0) && settled(2, 1));
        assert!(!settled(2, 0) && !settled(0, 0));
        assert!(!settled(3, 3), "nobody leads");
    }

    #[test]
    fn what_the_catalogue_refuses_is_the_clients_error() {
        let catalogue = catalogue();
        let code = |create: CreateTopic| {
            made(dry_run(&catalogue, CommandBody::CreateTopic(create)).0).expect_err("refused").code
        };
        let named = |name: &str| CreateTopic { name: name.into(), ..CreateTopic::default() };
        assert_eq!(code(named("a")), ErrorCode::TopicExists);
        assert_eq!(code(named("..")), ErrorCode::InvalidTopicName);
        assert_eq!(code(CreateTopic { replicas: 4, ..named("b") }), ErrorCode::InvalidArgument);
        let again = CreateTopic { if_not_exists: true, ..named("a") };
        assert_eq!(made(dry_run(&catalogue, CommandBody::CreateTopic(again)).0), Ok((TopicId(2), false)));
    }
}
