//! Where partitions begin and end: asked of each partition's leader, or of one chosen replica.

use crate::backoff::Backoff;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use dlog_core::{ErrorCode, ErrorDetail, Outcome, PartitionIndex, TimestampMs};
use dlog_protocol::{TopicRef, services, status, v1};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait for one leader's answer before asking again who leads.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What else to tell of each partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetsQuery {
    /// The first record whose time stamp is at or after this.
    pub at: Option<TimestampMs>,
    /// Where the last so many records begin.
    pub last_records: Option<u64>,
}

impl Client {
    /// The offsets of these partitions as their leaders tell them after a read index, in order of partition.
    ///
    /// # Errors
    /// The first that can't be retried, or `timeout`: then at least one partition has no answer.
    pub(crate) async fn leader_offsets(
        &self,
        topic: &Topic,
        partitions: &[PartitionIndex],
        query: OffsetsQuery,
        deadline: Deadline,
    ) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let mut missing: BTreeSet<PartitionIndex> = partitions.iter().copied().collect();
        let mut found = BTreeMap::new();
        let mut stale_since = None;
        let mut backoff = Backoff::new();
        loop {
            let mut last = None;
            let (by_leader, no_leader) = self.by_leader(topic, &missing, stale_since, deadline).await?;
            last = no_leader.or(last);
            for (node, group) in by_leader {
                match self.offsets_at(&node, topic, &group, false, query, deadline.remaining(ATTEMPT)).await {
                    Ok(answers) => {
                        let failed = answers.into_iter().filter_map(|answer| {
                            let partition = PartitionIndex(answer.partition);
                            match answer.error.clone() {
                                None => {
                                    missing.remove(&partition);
                                    found.insert(partition, answer);
                                    None
                                }
                                Some(error) => Some((partition, Error::new(status::from_message(error)))),
                            }
                        });
                        for (partition, error) in failed.collect::<Vec<_>>() {
                            last = Some(self.note(topic, partition, error)?);
                        }
                    }
                    Err(error) => {
                        for partition in group {
                            last = Some(self.note(topic, partition, error.clone())?);
                        }
                    }
                }
            }
            if missing.is_empty() {
                return Ok(found.into_values().collect());
            }
            if deadline.has_passed() {
                return Err(Error::timeout(Outcome::Rejected, "reading the offsets", last));
            }
            let hinted = last.as_ref().is_some_and(|error| error.leader().is_some());
            stale_since = if hinted { None } else { Some(Instant::now()) };
            deadline.sleep(backoff.step(None)).await;
        }
    }

    /// What one replica knows itself of these partitions.
    pub(crate) async fn local_offsets(
        &self,
        node: &NodeInfo,
        topic: &Topic,
        partitions: &[PartitionIndex],
        query: OffsetsQuery,
        deadline: Deadline,
    ) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let mut backoff = Backoff::new();
        loop {
            let answers = self.offsets_at(node, topic, partitions, true, query, deadline.remaining(ATTEMPT)).await;
            let error = match answers {
                Ok(answers) => match answers.iter().find_map(|answer| answer.error.clone()) {
                    None => return Ok(answers),
                    Some(error) => Error::new(status::from_message(error)),
                },
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(error.of_read());
            }
            if deadline.has_passed() {
                return Err(Error::timeout(Outcome::Rejected, "reading the offsets", Some(error)));
            }
            deadline.sleep(backoff.step(None)).await;
        }
    }

    /// Groups partitions by the node that leads them; those without a leader give the error.
    async fn by_leader(
        &self,
        topic: &Topic,
        partitions: &BTreeSet<PartitionIndex>,
        stale_since: Option<Instant>,
        deadline: Deadline,
    ) -> Result<(Vec<(NodeInfo, Vec<PartitionIndex>)>, Option<Error>), Error> {
        let mut groups: BTreeMap<_, (NodeInfo, Vec<PartitionIndex>)> = BTreeMap::new();
        let mut no_leader = None;
        for &partition in partitions {
            match self.leader(&topic.name, topic.id, partition, stale_since, deadline).await {
                Ok(node) => groups.entry(node.id).or_insert_with(|| (node, Vec::new())).1.push(partition),
                Err(error) if error.code() == ErrorCode::NoLeader => no_leader = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok((groups.into_values().collect(), no_leader))
    }

    /// Takes an error of one partition: follows its hint, and passes it back if another try may succeed.
    fn note(&self, topic: &Topic, partition: PartitionIndex, error: Error) -> Result<Error, Error> {
        self.take_hint(&topic.name, partition, &error);
        if error.is_retryable() { Ok(error) } else { Err(error.of_read()) }
    }

    async fn offsets_at(
        &self,
        node: &NodeInfo,
        topic: &Topic,
        partitions: &[PartitionIndex],
        local: bool,
        query: OffsetsQuery,
        within: Duration,
    ) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let request = v1::ListOffsetsRequest {
            topic: Some((&TopicRef::Id(topic.id)).into()),
            partitions: partitions.iter().map(|partition| partition.0).collect(),
            local,
            at_timestamp_ms: query.at.map(|at| at.0),
            last_records: query.last_records,
            linearizable: false,
        };
        let request = self.timed_request(request, within);
        let call = |connection: crate::connection::Connection| async move {
            services::log_client(connection.channel).list_offsets(request).await
        };
        let answers = self.call(&node.address, within, call).await?.partitions;
        let complete = answers.len() == partitions.len()
            && answers.iter().all(|answer| partitions.contains(&PartitionIndex(answer.partition)));
        if !complete {
            let message = format!("node {} answered for other partitions than were asked for", node.name);
            return Err(Error::new(ErrorDetail::rejected(ErrorCode::Internal, dlog_core::Stage::Service, message)));
        }
        Ok(answers)
    }
}
