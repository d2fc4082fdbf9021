//! Handing leadership of a partition to a node that an operator names.
//!
//! The choice goes into the catalogue, as the partition's preferred replica: so it outlives whoever leads now, any node can
//! take the request, and there is one rule for who should lead (see [`crate::metadata::leadership`]). The leader's node hands
//! over as soon as it learns of the choice.

use super::{dry_run, execute, invalid_argument, rejection, request_id, unexpected};
use crate::context::NodeContext;
use crate::service::view::ClusterView;
use crate::service::{lookup, report};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{PartitionIndex, ReplicaId};
use dlog_protocol::TopicRef;
use dlog_protocol::v1::{NodeReportRequest, TransferLeadershipRequest, TransferLeadershipResponse};
use dlog_replication::catalogue::PartitionInfo;
use dlog_replication::command::PreferLeader;
use dlog_replication::{Catalogue, CommandBody, CommandOutcome};
use std::sync::Arc;

/// Has leadership handed over, or says what would be done.
///
/// # Errors
/// What the request names isn't there, the node holds no replica or is not in sync, nobody leads; those of group 0.
pub async fn transfer(
    context: &Arc<NodeContext>,
    request: TransferLeadershipRequest,
) -> Result<TransferLeadershipResponse, ErrorDetail> {
    let id = request_id(request.request_id.as_deref())?;
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, &TopicRef::try_from(request.topic)?)?;
    let info = lookup::partition(&catalogue, topic, PartitionIndex(request.partition))?;
    let place = format!("{}/{}", topic.name, info.index);
    let target = target(&catalogue, info, &place, &request.to)?;
    let asked = NodeReportRequest { logs: vec![info.log.0], ..NodeReportRequest::default() };
    let view = ClusterView::new(report::gather(context, &asked).await, &catalogue);
    let from = check_in_sync(&catalogue, info, &view, &place, target)?;
    check_versions(&catalogue)?;
    let prefer = PreferLeader { topic: topic.topic.0, partition: info.index.0, node: target.node().0 };
    let body = CommandBody::PreferLeader(prefer);
    let outcome = match request.dry_run {
        true => dry_run(&catalogue, body).0,
        false => execute(context, id, body).await?,
    };
    match outcome {
        CommandOutcome::LeaderPreferred { .. } => {
            Ok(TransferLeadershipResponse { from: catalogue.node_name(from.node()), to: request.to })
        }
        CommandOutcome::Rejected(why) => Err(rejection(&why)),
        other => Err(unexpected(&other)),
    }
}

/// The partition's replica on the node of this name.
fn target(catalogue: &Catalogue, info: &PartitionInfo, place: &str, name: &str) -> Result<ReplicaId, ErrorDetail> {
    let names = |mut names: Vec<String>| {
        names.sort_unstable();
        names.join(", ")
    };
    let Some(node) = catalogue.node_by_name(name) else {
        let known = names(catalogue.nodes().map(|node| node.name.clone()).collect());
        let text = format!("there is no node {name:?}; the nodes are {known}");
        return Err(ErrorDetail::rejected(ErrorCode::UnknownNode, Stage::Service, text));
    };
    info.replica_on(node.node).ok_or_else(|| {
        let holders = names(info.intended.iter().map(|replica| catalogue.node_name(replica.node())).collect());
        invalid_argument(format!("node {name} holds no replica of {place}; its replicas are on {holders}"))
    })
}

/// Who leads, if the target could take over at once.
fn check_in_sync(
    catalogue: &Catalogue,
    info: &PartitionInfo,
    view: &ClusterView,
    place: &str,
    target: ReplicaId,
) -> Result<ReplicaId, ErrorDetail> {
    let Some(leader) = view.leader(info.log) else {
        let text = format!("nobody leads {place} just now, so there is nobody to hand over");
        return Err(ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Service, text).with_retry_after_ms(200));
    };
    if !leader.in_sync.contains(&target.0) {
        let in_sync: Vec<String> =
            leader.in_sync.iter().map(|replica| catalogue.node_name(ReplicaId(*replica).node())).collect();
        let text = format!(
            "the replica of {place} on node {} is not in sync: leadership there would stop writes until it has caught up; \
             in sync are {}",
            catalogue.node_name(target.node()),
            in_sync.join(", ")
        );
        return Err(ErrorDetail::rejected(ErrorCode::UnsafeRefused, Stage::Service, text));
    }
    let troubles = view.node(target.node()).map_or(&[][..], |report| report.troubles.as_slice());
    if let Some(trouble) =
        troubles.iter().find(|trouble| crate::shard::disk_health::TROUBLES.contains(&trouble.code.as_str()))
    {
        let node = catalogue.node_name(target.node());
        let text = format!("node {node} would not lead {place}: {}; {}", trouble.detail, trouble.next);
        return Err(ErrorDetail::rejected(ErrorCode::UnsafeRefused, Stage::Service, text));
    }
    Ok(ReplicaId(leader.replica))
}

/// A node of a version that doesn't know the command would keep another catalogue than the others.
fn check_versions(catalogue: &Catalogue) -> Result<(), ErrorDetail> {
    let own = env!("CARGO_PKG_VERSION");
    match catalogue.nodes().find(|node| !node.version.is_empty() && node.version != own) {
        None => Ok(()),
        Some(other) => {
            let text = format!(
                "node {} runs version {}, this one {own}: finish the upgrade first, then every node understands this",
                other.name, other.version
            );
            Err(ErrorDetail::rejected(ErrorCode::Unsupported, Stage::Service, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;
    use dlog_core::NodeId;
    use dlog_protocol::v1::{NodeReportResponse, ReplicaReport};
    use std::collections::BTreeMap;

    fn partition(catalogue: &Catalogue) -> PartitionInfo {
        let topic = catalogue.topic_by_name("a").expect("made").topic;
        catalogue.partition(topic, PartitionIndex(0)).expect("made").clone()
    }

    #[test]
    fn the_target_must_hold_a_replica() {
        let catalogue = catalogue();
        let mut info = partition(&catalogue);
        assert_eq!(target(&catalogue, &info, "a/0", "n2").expect("a replica").node(), NodeId(2));
        let error = target(&catalogue, &info, "a/0", "n9").expect_err("no such node");
        assert_eq!(error.code, ErrorCode::UnknownNode);
        assert!(error.message.contains("n1, n2, n3"), "{error}");
        info.intended.retain(|replica| replica.node() != NodeId(2));
        let error = target(&catalogue, &info, "a/0", "n2").expect_err("no replica");
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("n1, n3"), "{error}");
    }

    #[test]
    fn the_target_must_be_in_sync() {
        let catalogue = catalogue();
        // Only settled once every node has its real version: those of this catalogue have another.
        assert_eq!(check_versions(&catalogue).expect_err("another version").code, ErrorCode::Unsupported);
        let info = partition(&catalogue);
        let on = |node| info.replica_on(NodeId(node)).expect("a replica");
        let view = |in_sync: &[ReplicaId]| {
            let report = ReplicaReport {
                log: info.log.0,
                replica: on(1).0,
                term: 3,
                leader: Some(on(1).0),
                in_sync: in_sync.iter().map(|replica| replica.0).collect(),
                ..ReplicaReport::default()
            };
            let report = NodeReportResponse { replicas: vec![report], ..NodeReportResponse::default() };
            ClusterView::new(BTreeMap::from([(NodeId(1), Some(report))]), &catalogue)
        };
        let check = |view: ClusterView| check_in_sync(&catalogue, &info, &view, "a/0", on(2));
        assert_eq!(check(view(&[on(1), on(2)])), Ok(on(1)));
        let error = check(view(&[on(1), on(3)])).expect_err("not in sync");
        assert_eq!(error.code, ErrorCode::UnsafeRefused);
        assert!(error.message.contains("n1, n3"), "{error}");
        assert_eq!(check(ClusterView::default()).expect_err("nobody leads").code, ErrorCode::NoLeader);
    }
}
