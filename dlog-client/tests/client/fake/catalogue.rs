//! What the fake knows of its cluster: the services `dlog.v1.Cluster` and `dlog.v1.Admin`.

use super::{Node, TOPIC, TOPIC_ID};
use bytes::Bytes;
use dlog_core::ErrorCode;
use dlog_protocol::status;
use dlog_protocol::v1::{self, admin_server::Admin, cluster_server::Cluster};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Cluster for Node {
    async fn metadata(&self, request: Request<v1::MetadataRequest>) -> Result<Response<v1::MetadataResponse>, Status> {
        use v1::topic_selector::By;
        let mut state = self.fake.state();
        let request = request.into_inner();
        state.topics_asked += u32::from(!request.topics.is_empty());
        let nodes = state.addresses.iter().map(|(id, address)| v1::Node {
            id: *id,
            name: format!("n{id}"),
            client_address: address.clone(),
            rack: state.racks.get(id).cloned().unwrap_or_default(),
            ..v1::Node::default()
        });
        let partition = |index: usize| v1::PartitionMetadata {
            partition: index as u32,
            leader: state.claimed_leader.or(state.leader),
            term: state.term,
            replicas: state.replicas.clone().unwrap_or_else(|| state.addresses.keys().copied().collect()),
        };
        let topic = v1::TopicMetadata {
            name: TOPIC.into(),
            id: TOPIC_ID,
            partitions: (0..state.logs.len()).map(partition).collect(),
            max_batch_bytes: 1 << 20,
        };
        let ours = |selector: &v1::TopicSelector| selector.by == Some(By::Name(TOPIC.into()));
        let (known, unknown): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(ours);
        Ok(Response::new(v1::MetadataResponse {
            cluster_id: Bytes::copy_from_slice(&state.cluster_id),
            answered_by: self.id,
            nodes: nodes.collect(),
            topics: known.iter().map(|_| topic.clone()).collect(),
            unknown_topics: unknown,
            ..v1::MetadataResponse::default()
        }))
    }

    async fn health(&self, _request: Request<v1::HealthRequest>) -> Result<Response<v1::HealthResponse>, Status> {
        Ok(Response::new(v1::HealthResponse { healthy: true, ..v1::HealthResponse::default() }))
    }

    async fn status(&self, _request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn node_stats(
        &self,
        _request: Request<v1::NodeStatsRequest>,
    ) -> Result<Response<v1::NodeStatsResponse>, Status> {
        let name = format!("n{}", self.id);
        Ok(Response::new(v1::NodeStatsResponse { node_id: self.id, name, ..v1::NodeStatsResponse::default() }))
    }
}

#[tonic::async_trait]
impl Admin for Node {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let mut state = self.fake.state();
        state.changes.extend(request.into_inner().request_id);
        if !state.create_answers.is_empty() {
            state.create_answers.remove(0)?;
        }
        Ok(Response::new(v1::CreateTopicResponse { topic_id: 9, created: true, placements: Vec::new() }))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let mut state = self.fake.state();
        let id = request.into_inner().request_id.expect("the client names each change");
        let repeated = state.changes.contains(&id);
        state.changes.push(id);
        if !state.create_answers.is_empty() {
            state.create_answers.remove(0)?;
        }
        drop(state);
        if repeated {
            // What the first one did is told again.
            return Ok(Response::new(v1::DeleteTopicResponse { name: TOPIC.to_owned(), ..Default::default() }));
        }
        Err(status::to_status(&self.fake.error(ErrorCode::UnknownTopic, false)))
    }

    async fn list_topics(
        &self,
        _request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn describe_topic(
        &self,
        _request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn alter_topic(
        &self,
        _request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_partitions(
        &self,
        _request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn transfer_leadership(
        &self,
        _request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn allocate_producer_id(
        &self,
        _request: Request<v1::AllocateProducerIdRequest>,
    ) -> Result<Response<v1::AllocateProducerIdResponse>, Status> {
        let mut state = self.fake.state();
        state.next_producer_id += 1;
        let answer = v1::AllocateProducerIdResponse { first_producer_id: state.next_producer_id, count: 1 };
        Ok(Response::new(answer))
    }
}
