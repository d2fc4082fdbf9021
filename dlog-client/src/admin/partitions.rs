//! Partitions as the cluster has them now.

use super::{Admin, topic_name};
use crate::backoff::{Backoff, random_seed};
use crate::client::Retry;
use crate::connection::Connection;
use crate::error::Error;
use dlog_core::ErrorCode;
use dlog_protocol::{TopicRef, services, v1};
use std::time::Duration;
use tokio::time::Instant;

impl Admin {
    /// All partitions with their state, by topic: of the topic named, or of all (dlog's own left out).
    ///
    /// # Errors
    /// `unknown_topic`, `timeout`.
    pub async fn list_partitions(&self, topic: Option<&str>) -> Result<Vec<v1::TopicDescription>, Error> {
        let topic = topic.map(topic_name).transpose()?;
        let client = &self.client;
        let deadline = client.deadline();
        let mut backoff = Backoff::new(random_seed());
        let selector = topic.as_ref().map(|name| (&TopicRef::Name(name.clone())).into());
        let request = v1::ListPartitionsRequest { topic: selector };
        let call = |connection: Connection, within: Duration| {
            let request = client.timed_request(request.clone(), within);
            async move { services::admin_client(connection.channel).list_partitions(request).await }
        };
        loop {
            match client.any_node("listing the partitions", deadline, Retry::Always, call).await {
                Ok(answer) => return Ok(answer.topics),
                Err(error) if error.code() == ErrorCode::UnknownTopic && !deadline.has_passed() => {
                    let Some(name) = &topic else { return Err(error.of_read()) };
                    // The node may lag behind whoever made the topic: only the metadata group says that there is none.
                    client.refresh(name, false, Instant::now(), deadline).await?;
                    deadline.sleep(backoff.step(None)).await;
                }
                Err(error) => return Err(error.of_read()),
            }
        }
    }
}
