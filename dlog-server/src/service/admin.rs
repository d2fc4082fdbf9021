//! The service `dlog.v1.Admin`: topics, and ids for producers. Every change is a command of group 0, from any node.

mod alter;
mod create;
mod describe;
mod transfer;

pub use create::create_missing;

use super::errors::{invalid_argument, to_status};
use super::{lookup, report};
use crate::context::NodeContext;
use crate::metadata::registration::command;
use crate::service::view::ClusterView;
use dlog_core::ProducerId;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::limits::PRODUCER_ID_BLOCK;
use dlog_protocol::TopicRef;
use dlog_protocol::v1::admin_server::Admin;
use dlog_protocol::v1::{self, NodeReportRequest, TopicSummary};
use dlog_replication::command::{AllocateProducerIds, DeleteTopic};
use dlog_replication::{Catalogue, Command, CommandBody, CommandId, CommandOutcome, Rejection};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest wait for group 0, whatever the caller's own deadline.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The service. Clones share the node.
#[derive(Clone)]
pub struct AdminService {
    context: Arc<NodeContext>,
}

/// A command's refusal as the client's error: nothing was changed.
fn rejection(rejection: &Rejection) -> ErrorDetail {
    ErrorDetail::rejected(rejection.code.error_code(), Stage::Apply, rejection.message.clone())
}

/// The answer of the catalogue that fits no question of ours.
fn unexpected(outcome: &CommandOutcome) -> ErrorDetail {
    let text = format!("the catalogue answered with {outcome:?}; do all nodes run the same version?");
    ErrorDetail::unknown(ErrorCode::Internal, Stage::Apply, text)
}

/// What a command would do: it is applied to a copy of the catalogue, so a plan is refused for just what the command would be.
fn dry_run(catalogue: &Catalogue, body: CommandBody) -> (CommandOutcome, Catalogue) {
    let mut copy = catalogue.clone();
    let outcome = copy.apply(catalogue.applied().next(), &command(body).encode()).outcome;
    (outcome, copy)
}

impl AdminService {
    /// A service of this node.
    pub fn new(context: Arc<NodeContext>) -> AdminService {
        AdminService { context }
    }

    async fn delete(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse, ErrorDetail> {
        let wanted = TopicRef::try_from(request.topic)?;
        let catalogue = self.context.catalogue();
        let known = lookup::topic(&catalogue, &wanted);
        let delete = match (&wanted, &known) {
            // By name this node needn't know the topic: whoever leads group 0 does.
            (TopicRef::Name(name), _) => DeleteTopic { name: name.to_string(), ..DeleteTopic::default() },
            (TopicRef::Id(id), Ok(info)) => {
                DeleteTopic { name: info.name.to_string(), topic: id.0, ..DeleteTopic::default() }
            }
            (TopicRef::Id(_), Err(error)) => return Err(error.clone()),
        };
        let name = delete.name.clone();
        let id = request_id(request.request_id.as_deref())?;
        let outcome = match request.dry_run {
            true => dry_run(&catalogue, CommandBody::DeleteTopic(delete)).0,
            false => execute(&self.context, id, CommandBody::DeleteTopic(delete)).await?,
        };
        match outcome {
            CommandOutcome::TopicDeleted { topic } => {
                let partitions = known.ok().filter(|info| info.topic == topic).map_or(0, |info| info.partitions);
                Ok(v1::DeleteTopicResponse { topic_id: topic.0, name, partitions })
            }
            CommandOutcome::Rejected(why) => Err(rejection(&why)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(&self, request: v1::ListTopicsRequest) -> v1::ListTopicsResponse {
        let reports = report::gather(&self.context, &NodeReportRequest::default()).await;
        let catalogue = self.context.catalogue();
        let view = ClusterView::new(reports, &catalogue);
        let shown = catalogue.topics().filter(|info| request.internal || !info.name.is_reserved());
        let mut topics: Vec<TopicSummary> = shown
            .map(|info| TopicSummary {
                name: info.name.to_string(),
                id: info.topic.0,
                partitions: info.partitions,
                replicas: info.replicas,
                bytes: catalogue
                    .partitions_of(info.topic)
                    .filter_map(|partition| view.best(partition.log))
                    .map(|replica| replica.bytes)
                    .sum(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        v1::ListTopicsResponse { topics }
    }

    async fn allocate(
        &self,
        request: v1::AllocateProducerIdRequest,
    ) -> Result<v1::AllocateProducerIdResponse, ErrorDetail> {
        let count = request.count.max(1);
        let (first, count) = self.context.producer_ids.take(count, || take_block(&self.context)).await?;
        Ok(v1::AllocateProducerIdResponse { first_producer_id: first.0, count })
    }
}

/// Takes a block of producer ids from the catalogue.
async fn take_block(context: &NodeContext) -> Result<(ProducerId, u32), ErrorDetail> {
    let allocate = CommandBody::AllocateProducerIds(AllocateProducerIds { count: PRODUCER_ID_BLOCK });
    match execute(context, None, allocate).await? {
        CommandOutcome::ProducerIds { first, count } => Ok((first, count)),
        CommandOutcome::Rejected(why) => Err(rejection(&why)),
        other => Err(unexpected(&other)),
    }
}

/// The command id that a request gives.
///
/// # Errors
/// `invalid_argument` for another number of bytes than 16, and for 0.
fn request_id(given: Option<&[u8]>) -> Result<Option<CommandId>, ErrorDetail> {
    let Some(bytes) = given else { return Ok(None) };
    let id = <[u8; 16]>::try_from(bytes).map(u128::from_be_bytes).ok().filter(|id| *id != 0);
    let refused = || invalid_argument("request_id must be 16 bytes, drawn at random and not all 0");
    id.map(|id| Some(CommandId(id))).ok_or_else(refused)
}

/// Has a command applied, once for each id; without an id it gets one of its own.
async fn execute(
    context: &NodeContext,
    id: Option<CommandId>,
    body: CommandBody,
) -> Result<CommandOutcome, ErrorDetail> {
    let command = id.map_or_else(|| command(body.clone()), |id| Command::new(id, body.clone()));
    let outcome = context.group_zero.execute(&command, COMMAND_TIMEOUT).await?;
    match outcome.answers(&body) {
        true => Ok(outcome),
        false => Err(invalid_argument("the request id belongs to an earlier request of another kind; draw a new one")),
    }
}

/// Waits until every command that was acknowledged anywhere before the call is in this node's catalogue. It is a command
/// that changes nothing: it takes its place behind the others, and its outcome comes once it is applied here.
///
/// # Errors
/// As [`crate::metadata::group_zero::GroupZero::execute`].
pub(super) async fn barrier(context: &NodeContext, timeout: Duration) -> Result<(), ErrorDetail> {
    // No topic has an empty name, so this is always refused.
    let nothing = command(CommandBody::DeleteTopic(DeleteTopic::default()));
    match context.group_zero.execute(&nothing, timeout).await? {
        CommandOutcome::Rejected(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let created = create::create(&self.context, request.into_inner()).await;
        created.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let deleted = self.delete(request.into_inner()).await;
        deleted.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        let described = describe::describe(&self.context, request.into_inner().topic).await;
        described.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn alter_topic(
        &self,
        request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        let altered = alter::alter(&self.context, request.into_inner()).await;
        altered.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn list_partitions(
        &self,
        request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        let listed = describe::list_partitions(&self.context, request.into_inner().topic).await;
        listed.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let begun = transfer::transfer(&self.context, request.into_inner()).await;
        begun.map(Response::new).map_err(|error| to_status(&self.context, error))
    }

    async fn allocate_producer_id(
        &self,
        request: Request<v1::AllocateProducerIdRequest>,
    ) -> Result<Response<v1::AllocateProducerIdResponse>, Status> {
        let allocated = self.allocate(request.into_inner()).await;
        allocated.map(Response::new).map_err(|error| to_status(&self.context, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::lookup::tests::catalogue;

    #[test]
    fn a_dry_run_leaves_the_catalogue_alone() {
        let before = catalogue();
        let delete = |name: &str| CommandBody::DeleteTopic(DeleteTopic { name: name.into(), ..DeleteTopic::default() });
        let (outcome, after) = dry_run(&before, delete("a"));
        assert!(matches!(outcome, CommandOutcome::TopicDeleted { .. }), "{outcome:?}");
        assert!(after.topic_by_name("a").is_none() && before.topic_by_name("a").is_some());
        let (outcome, _) = dry_run(&before, delete("b"));
        let CommandOutcome::Rejected(why) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection(&why).code, ErrorCode::UnknownTopic);
    }

    #[test]
    fn a_request_id_is_16_bytes() {
        assert_eq!(request_id(None), Ok(None));
        let id = [[0; 8], 7u64.to_be_bytes()].concat();
        assert_eq!(request_id(Some(&id)), Ok(Some(CommandId(7))));
        for wrong in [&[][..], &[1; 15], &[1; 17], &[0; 16]] {
            assert_eq!(request_id(Some(wrong)).expect_err("refused").code, ErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn the_barrier_changes_nothing() {
        let before = catalogue();
        let (outcome, after) = dry_run(&before, CommandBody::DeleteTopic(DeleteTopic::default()));
        assert!(matches!(outcome, CommandOutcome::Rejected(_)), "{outcome:?}");
        assert!(after.topics().eq(before.topics()) && after.partitions().eq(before.partitions()));
    }
}
