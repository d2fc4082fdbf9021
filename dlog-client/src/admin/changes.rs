//! Changes of what exists: a topic's settings and its end, and who should lead a partition. Each carries an id of its own, so
//! that it is made once however often it has to be sent.

use super::{Admin, topic_name};
use crate::backoff::random_seed;
use crate::client::Retry;
use crate::connection::Connection;
use crate::error::Error;
use bytes::Bytes;
use dlog_core::TopicId;
use dlog_protocol::{TopicRef, services, v1};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

impl Admin {
    /// Deletes a topic: the one that has this name now, whatever happens to the name meanwhile.
    ///
    /// # Errors
    /// `unknown_topic`, `timeout`.
    pub async fn delete_topic(&self, name: &str, dry_run: bool) -> Result<v1::DeleteTopicResponse, Error> {
        let topic = Some(selector(self.topic_now(name).await?));
        let request = v1::DeleteTopicRequest { topic, dry_run, request_id: Some(request_id()) };
        let answer = ask!(self, "deleting the topic", Retry::Always, admin_client.delete_topic(request));
        self.client.view().forget_topic(&topic_name(name)?);
        answer
    }

    /// Changes settings of a topic: the one that has this name now. Those that `config` doesn't name stay; an empty value, or
    /// `default`, sets the default again. Returns every setting as it holds then.
    ///
    /// # Errors
    /// `unknown_topic`, `invalid_argument` for a setting that is unknown or out of its range; `timeout`.
    pub async fn alter_topic(
        &self,
        name: &str,
        config: BTreeMap<String, String>,
        dry_run: bool,
    ) -> Result<BTreeMap<String, String>, Error> {
        let topic = selector(self.topic_now(name).await?);
        let request_id = Some(request_id());
        let config = config.into_iter().collect();
        let request = v1::AlterTopicRequest { topic: Some(topic), config, dry_run, request_id };
        let answer = ask!(self, "altering the topic", Retry::Always, admin_client.alter_topic(request))?;
        Ok(answer.config.into_iter().collect())
    }

    /// Chooses the node that should lead a partition from now on, and has whoever leads it hand over. Returns when that is
    /// decided, with the node that led till then; who leads tells [`Admin::list_partitions`].
    ///
    /// # Errors
    /// `unknown_topic`, `unknown_partition`, `unknown_node`, `invalid_argument` if that node holds no replica,
    /// `unsafe_refused` if its replica is not in sync, `no_leader`; `timeout`.
    pub async fn transfer_leadership(
        &self,
        topic: &str,
        partition: u32,
        to: &str,
        dry_run: bool,
    ) -> Result<v1::TransferLeadershipResponse, Error> {
        let topic = Some(selector(self.topic_now(topic).await?));
        let request_id = Some(request_id());
        let request = v1::TransferLeadershipRequest { topic, partition, to: to.to_owned(), dry_run, request_id };
        ask!(self, "handing leadership over", Retry::Always, admin_client.transfer_leadership(request))
    }

    /// The id of the topic that has this name now, as the cluster and not only this client's memory has it.
    async fn topic_now(&self, name: &str) -> Result<TopicId, Error> {
        let name = topic_name(name)?;
        Ok(self.client.refresh(&name, false, Instant::now(), self.client.deadline()).await?.id)
    }
}

fn selector(topic: TopicId) -> v1::TopicSelector {
    (&TopicRef::Id(topic)).into()
}

/// 16 random bytes, never all 0.
pub(super) fn request_id() -> Bytes {
    let id = fastrand::Rng::with_seed(random_seed()).u128(1..);
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ() {
        let ids: std::collections::BTreeSet<Bytes> = (0..100).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 16));
    }
}
