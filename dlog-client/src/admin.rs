//! [`Admin`]: topics, offsets, health and nodes.

use crate::backoff::{Backoff, random_seed};
use crate::client::{Client, LONGEST_CALL, Retry};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::offsets::OffsetsQuery;
use dlog_core::{ErrorCode, PartitionIndex, ProducerId, TopicId, TopicName};
use dlog_protocol::{TopicRef, services, v1};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Everything but records. Each call is bounded by the client's timeout, retries included.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// A topic to make.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; 0: one.
    pub partitions: u32,
    /// How many replicas each; 0: three, or as many as there are nodes.
    pub replicas: u32,
    /// Settings that differ from the defaults.
    pub config: BTreeMap<String, String>,
    /// Leave a topic of this name as it is.
    pub if_not_exists: bool,
    /// Plan only.
    pub dry_run: bool,
}

/// Makes a method body: one unary call to any node, by its client's and its method's name.
macro_rules! ask {
    ($admin:expr, $what:expr, $retry:expr, $service:ident.$method:ident($message:expr)) => {{
        let client = &$admin.client;
        let message = $message;
        client
            .any_node($what, client.deadline(), $retry, |connection: Connection, within: Duration| {
                let request: ::tonic::Request<_> = client.timed_request(message.clone(), within);
                async move { services::$service(connection.channel).$method(request).await }
            })
            .await
    }};
}

mod changes;
mod partitions;

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// Makes a topic, once however often that has to be asked.
    ///
    /// # Errors
    /// `topic_exists`, `invalid_topic_name`, `invalid_argument`; `timeout`, with outcome unknown if no node said whether it was
    /// made.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<v1::CreateTopicResponse, Error> {
        let request = v1::CreateTopicRequest {
            name: topic.name,
            partitions: topic.partitions,
            replicas: topic.replicas,
            config: topic.config,
            if_not_exists: topic.if_not_exists,
            dry_run: topic.dry_run,
            request_id: Some(changes::request_id()),
        };
        ask!(self, "making the topic", Retry::Always, admin_client.create_topic(request))
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// `timeout`.
    pub async fn list_topics(&self) -> Result<Vec<v1::TopicSummary>, Error> {
        let answer = ask!(
            self,
            "listing the topics",
            Retry::Always,
            admin_client.list_topics(v1::ListTopicsRequest { internal: false })
        );
        Ok(answer.map_err(Error::of_read)?.topics)
    }

    /// One topic with the state of its partitions.
    ///
    /// # Errors
    /// `unknown_topic`, `timeout`.
    pub async fn describe_topic(&self, name: &str) -> Result<v1::TopicDescription, Error> {
        let name = topic_name(name)?;
        let deadline = self.client.deadline();
        let mut backoff = Backoff::new(random_seed());
        let request = v1::DescribeTopicRequest { topic: Some((&TopicRef::Name(name.clone())).into()) };
        loop {
            let answer =
                ask!(self, "describing the topic", Retry::Always, admin_client.describe_topic(request.clone()));
            match answer {
                Ok(answer) => {
                    let missing = || Error::rejected(ErrorCode::Internal, "the node answered without the topic");
                    return answer.topic.ok_or_else(missing);
                }
                Err(error) if error.code() == ErrorCode::UnknownTopic && !deadline.has_passed() => {
                    // The node may lag behind whoever made the topic: only the metadata group says that there is none.
                    self.client.refresh(&name, false, Instant::now(), deadline).await?;
                    deadline.sleep(backoff.step(None)).await;
                }
                Err(error) => return Err(error.of_read()),
            }
        }
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// `unknown_topic`, `timeout`.
    pub async fn partition_count(&self, name: &str) -> Result<u32, Error> {
        let topic = self.client.topic(&topic_name(name)?, false, self.client.deadline()).await?;
        Ok(topic.partitions.len() as u32)
    }

    /// Log start and high watermark of each partition (all if `partitions` is empty), as the leaders tell them after a read
    /// index: everything acked before is below the high watermark.
    ///
    /// # Errors
    /// `unknown_topic`, `unknown_partition`, or `timeout` if a partition has no leader.
    pub async fn offsets(
        &self,
        name: &str,
        partitions: &[u32],
        query: OffsetsQuery,
    ) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let deadline = self.client.deadline();
        let topic = self.client.topic(&topic_name(name)?, false, deadline).await?;
        let partitions = match partitions {
            [] => (0..topic.partitions.len() as u32).map(PartitionIndex).collect(),
            some => some.iter().copied().map(PartitionIndex).collect::<Vec<_>>(),
        };
        self.client.leader_offsets(&topic, &partitions, query, deadline).await
    }

    /// A block of producer ids: the first, and how many.
    ///
    /// # Errors
    /// `timeout`.
    pub async fn allocate_producer_ids(&self, count: u32) -> Result<(ProducerId, u32), Error> {
        self.allocate_within(count, self.client.deadline()).await
    }

    pub(crate) async fn allocate_within(&self, count: u32, deadline: Deadline) -> Result<(ProducerId, u32), Error> {
        let request = v1::AllocateProducerIdRequest { count };
        let client = &self.client;
        let call = |connection: Connection, within: Duration| {
            let request = client.timed_request(request, within);
            async move { services::admin_client(connection.channel).allocate_producer_id(request).await }
        };
        let answer = client.any_node("taking a producer id", deadline, Retry::Always, call).await?;
        if answer.first_producer_id < 0 || answer.count == 0 {
            return Err(Error::rejected(ErrorCode::Internal, "the node gave no producer id"));
        }
        Ok((ProducerId(answer.first_producer_id), answer.count))
    }

    /// Nodes, and these topics (all with `all_topics`), as any node knows them.
    ///
    /// # Errors
    /// `timeout`.
    pub async fn metadata(&self, topics: &[&str], all_topics: bool) -> Result<v1::MetadataResponse, Error> {
        let topics = topics.iter().map(|name| Ok((&TopicRef::Name(topic_name(name)?)).into()));
        let topics = topics.collect::<Result<_, Error>>()?;
        let request = v1::MetadataRequest { topics, all_topics, ..v1::MetadataRequest::default() };
        self.client.metadata(request, self.client.deadline()).await
    }

    /// Whether anything is wrong, as any node sees it.
    ///
    /// # Errors
    /// `timeout` if no node answers.
    pub async fn health(&self) -> Result<v1::HealthResponse, Error> {
        let answer = ask!(self, "asking for health", Retry::Always, cluster_client.health(v1::HealthRequest {}));
        answer.map_err(Error::of_read)
    }

    /// The cluster on one screen.
    ///
    /// # Errors
    /// `timeout` if no node answers.
    pub async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let answer = ask!(self, "asking for the status", Retry::Always, cluster_client.status(v1::StatusRequest {}));
        answer.map_err(Error::of_read)
    }

    /// All nodes.
    ///
    /// # Errors
    /// `timeout` if no node answers.
    pub async fn nodes(&self) -> Result<Vec<v1::NodeStatus>, Error> {
        let answer = ask!(self, "listing the nodes", Retry::Always, cluster_client.list_nodes(v1::ListNodesRequest {}));
        Ok(answer.map_err(Error::of_read)?.nodes)
    }

    /// The figures of one node, asked of itself.
    ///
    /// # Errors
    /// `unknown_node`, or that it doesn't answer.
    pub async fn node_stats(&self, name: &str) -> Result<v1::NodeStatsResponse, Error> {
        let client = &self.client;
        let deadline = client.deadline();
        let node = client.node(name, deadline).await?;
        let within = deadline.remaining(LONGEST_CALL);
        let request = client.timed_request(v1::NodeStatsRequest {}, within);
        let call = |connection: Connection| async move {
            services::cluster_client(connection.channel).node_stats(request).await
        };
        client.call(&node.address, within, call).await.map_err(Error::of_read)
    }

    /// The id of a topic.
    ///
    /// # Errors
    /// `unknown_topic`, `timeout`.
    pub async fn topic_id(&self, name: &str) -> Result<TopicId, Error> {
        Ok(self.client.topic(&topic_name(name)?, false, self.client.deadline()).await?.id)
    }
}

/// Checks a topic's name before anything is sent.
pub(crate) fn topic_name(name: &str) -> Result<TopicName, Error> {
    TopicName::new(name).map_err(|error| Error::rejected(ErrorCode::InvalidTopicName, error.to_string()))
}
