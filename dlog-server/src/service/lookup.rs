//! From what a request names to what the catalogue and this node have.

use super::errors::not_leader;
use crate::context::NodeContext;
use crate::replicas::{ReplicaHandle, ReplicaProgress};
use dlog_consensus::Role;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{LogId, PartitionIndex};
use dlog_protocol::TopicRef;
use dlog_replication::Catalogue;
use dlog_replication::catalogue::{PartitionInfo, TopicInfo};
use std::sync::Arc;

/// The topic that a request names.
///
/// # Errors
/// `unknown_topic`; `not_leader` (retryable) for an id that is newer than everything this node's catalogue has.
pub fn topic<'a>(catalogue: &'a Catalogue, topic: &TopicRef) -> Result<&'a TopicInfo, ErrorDetail> {
    let unknown = |text: String| ErrorDetail::rejected(ErrorCode::UnknownTopic, Stage::Service, text);
    match topic {
        TopicRef::Name(name) => catalogue
            .topic_by_name(name.as_str())
            .ok_or_else(|| unknown(format!("there is no topic {name}; `dlog topic create {name}` makes it"))),
        TopicRef::Id(id) => match catalogue.topic(*id) {
            Some(info) => Ok(info),
            // Ids rise, so a greater one is of the future: this node lags.
            None if catalogue.topics().last().is_none_or(|last| last.topic < *id) => Err(ErrorDetail::rejected(
                ErrorCode::NotLeader,
                Stage::Service,
                format!("this node doesn't know the topic with id {id} (yet); ask for its metadata again"),
            )),
            None => Err(unknown(format!("there is no topic with id {id}; it was deleted"))),
        },
    }
}

/// A partition of a topic.
///
/// # Errors
/// `unknown_partition` with the topic's number of partitions.
pub fn partition<'a>(
    catalogue: &'a Catalogue,
    topic: &TopicInfo,
    number: PartitionIndex,
) -> Result<&'a PartitionInfo, ErrorDetail> {
    catalogue.partition(topic.topic, number).ok_or_else(|| {
        let text =
            format!("topic {} has {} partitions (from 0), not a partition {number}", topic.name, topic.partitions);
        ErrorDetail::rejected(ErrorCode::UnknownPartition, Stage::Service, text)
    })
}

/// The replica of `log` here, if it leads.
///
/// # Errors
/// `not_leader` or `no_leader`, both retryable.
pub fn leading_replica(
    context: &NodeContext,
    log: LogId,
) -> Result<(Arc<ReplicaHandle>, ReplicaProgress), ErrorDetail> {
    let handle = context.replica(log)?;
    let progress = handle.progress();
    match progress.role {
        Role::Leader => Ok((handle, progress)),
        _ => Err(not_leader(context.node_id(), &progress)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dlog_core::{LogIndex, TopicId};
    use dlog_replication::command::{CreateTopic, DeleteTopic, RegisterNode};
    use dlog_replication::{Command, CommandBody, CommandId};

    fn apply(catalogue: &mut Catalogue, body: CommandBody) {
        let index = LogIndex(catalogue.applied().0 + 1);
        let command = Command::new(CommandId(u128::from(index.0)), body);
        let applied = catalogue.apply(index, &command.encode());
        assert!(!matches!(applied.outcome, dlog_replication::CommandOutcome::Rejected(_)), "{:?}", applied.outcome);
    }

    /// Three nodes `n1` to `n3`, topic `gone` (id 1) that was deleted, topic `a` (id 2) with two partitions of three replicas.
    pub(crate) fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::new();
        for node in 1..=3u32 {
            let register = RegisterNode {
                node,
                name: format!("n{node}"),
                client_address: format!("127.0.0.1:{}", 7000 + node),
                peer_address: format!("127.0.0.1:{}", 8000 + node),
                version: "0".into(),
                shards: 1,
                boot: 1,
                ..RegisterNode::default()
            };
            apply(&mut catalogue, CommandBody::RegisterNode(register));
        }
        let create = |name: &str, partitions| CreateTopic { name: name.into(), partitions, ..CreateTopic::default() };
        apply(&mut catalogue, CommandBody::CreateTopic(create("gone", 1)));
        apply(&mut catalogue, CommandBody::CreateTopic(create("a", 2)));
        let delete = DeleteTopic { name: "gone".into(), ..DeleteTopic::default() };
        apply(&mut catalogue, CommandBody::DeleteTopic(delete));
        catalogue
    }

    #[test]
    fn topics_are_found_by_name_and_id() {
        let catalogue = catalogue();
        let find = |by: TopicRef| topic(&catalogue, &by).map(|t| t.name.to_string());
        let name = |name: &str| TopicRef::Name(name.parse().expect("valid"));
        assert_eq!(find(name("a")).as_deref(), Ok("a"));
        assert_eq!(find(TopicRef::Id(TopicId(2))).as_deref(), Ok("a"));
        assert_eq!(find(name("b")).expect_err("never made").code, ErrorCode::UnknownTopic);
        assert_eq!(find(TopicRef::Id(TopicId(1))).expect_err("deleted").code, ErrorCode::UnknownTopic);
        let newer = find(TopicRef::Id(TopicId(3))).expect_err("not known here");
        assert!(newer.is_retryable(), "this node may lag: {newer}");
    }

    #[test]
    fn partitions_are_counted_from_zero() {
        let catalogue = catalogue();
        let a = catalogue.topic_by_name("a").expect("made");
        assert!(partition(&catalogue, a, PartitionIndex(1)).is_ok());
        let error = partition(&catalogue, a, PartitionIndex(2)).expect_err("two only");
        assert_eq!(error.code, ErrorCode::UnknownPartition);
        assert!(error.message.contains("2 partitions"), "{}", error.message);
    }
}
