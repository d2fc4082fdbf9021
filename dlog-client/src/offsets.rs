//! Where partitions begin and end: asked of each partition's leader, or of one chosen replica.

use crate::backoff::random_seed;
use crate::client::{Client, Retry};
use crate::connection::Connection;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::metadata::{NodeInfo, Topic};
use crate::retry::{Next, Tries};
use dlog_core::{ErrorCode, ErrorDetail, Outcome, PartitionIndex, Stage, TimestampMs, TopicId};
use dlog_protocol::{TopicRef, services, status, v1};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The longest wait for one leader's answer before asking again who leads.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The longest wait for a replica that must first ask its leader and catch up; there is no other to go to.
const ATTEMPT_CONFIRMED: Duration = Duration::from_secs(6);
/// What the caller reads of a timeout here.
const WHAT: &str = "reading the offsets";

/// What else to tell of each partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetsQuery {
    /// The first record whose time stamp is at or after this.
    pub at: Option<TimestampMs>,
    /// Where the last so many records begin.
    pub last_records: Option<u64>,
}

/// Whose marks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// The leader's, after a read index: everything acked before the question lies below them.
    Leaders,
    /// What a replica knows itself.
    Local,
    /// A replica's, once it has asked its leader and has everything: the same promise as the leader's.
    Confirmed,
}

/// One question to one node.
struct Question {
    topic: TopicId,
    partitions: Vec<PartitionIndex>,
    marks: Marks,
    query: OffsetsQuery,
    within: Duration,
}

/// What one node answered, and what it was asked for.
type Answered = (Vec<PartitionIndex>, Result<Vec<v1::PartitionOffsets>, Error>);

impl Client {
    /// The offsets of these partitions as their leaders tell them after a read index, in order of partition. All leaders are
    /// asked side by side, so that one that is dead costs the others nothing.
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
        let mut tries = Tries::new(Retry::Always, random_seed());
        let mut before = None;
        loop {
            let (by_leader, mut last) = match self.by_leader(topic, &missing, stale_since, deadline).await {
                Ok(found) => found,
                // The time was up while it asked who leads: why it had to ask says more.
                Err(error) if error.is_retryable() && before.is_some() => {
                    return Err(Error::timeout(Outcome::Rejected, WHAT, before));
                }
                Err(error) => return Err(error),
            };
            let mut asked = JoinSet::new();
            for (node, partitions) in by_leader {
                let within = deadline.remaining(ATTEMPT);
                let question = Question { topic: topic.id, partitions, marks: Marks::Leaders, query, within };
                asked.spawn(self.clone().asked(node, question));
            }
            let mut hinted = false;
            while let Some(answered) = asked.join_next().await {
                // Only a runtime that ends takes a task away; then nobody waits for this either.
                let Ok((group, answers)) = answered else { continue };
                for (partition, result) in by_partition(group, answers) {
                    match result {
                        Ok(offsets) => {
                            missing.remove(&partition);
                            found.insert(partition, offsets);
                        }
                        Err(error) => {
                            hinted |= self.take_hint(&topic.name, partition, &error);
                            last = Some(tries.judge(error).map_err(Error::of_read)?);
                        }
                    }
                }
            }
            if missing.is_empty() {
                return Ok(found.into_values().collect());
            }
            let silent = || Error::rejected(ErrorCode::Unavailable, "no leader answered");
            let failed_at = Instant::now();
            let last = last.unwrap_or_else(silent);
            before = Some(last.clone());
            let next = tries.pause(last, hinted, WHAT, deadline).await;
            stale_since = (next.map_err(Error::of_read)? == Next::Ask).then_some(failed_at);
        }
    }

    /// What one replica says of these partitions, [`Marks::Local`] or [`Marks::Confirmed`].
    ///
    /// # Errors
    /// The first that can't be retried, or `timeout`.
    pub(crate) async fn replica_offsets(
        &self,
        node: &NodeInfo,
        marks: Marks,
        topic: &Topic,
        partitions: &[PartitionIndex],
        query: OffsetsQuery,
        deadline: Deadline,
    ) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let mut tries = Tries::new(Retry::Always, random_seed());
        let bound = if marks == Marks::Confirmed { ATTEMPT_CONFIRMED } else { ATTEMPT };
        loop {
            let (partitions, within) = (partitions.to_vec(), deadline.remaining(bound));
            let question = Question { topic: topic.id, partitions, marks, query, within };
            let (group, answers) = self.clone().asked(node.clone(), question).await;
            let mut found = Vec::with_capacity(group.len());
            let mut last = None;
            for (_, result) in by_partition(group, answers) {
                match result {
                    Ok(offsets) => found.push(offsets),
                    Err(error) => last = Some(tries.judge(error).map_err(Error::of_read)?),
                }
            }
            let Some(error) = last else { return Ok(found) };
            tries.pause(error, false, WHAT, deadline).await.map_err(Error::of_read)?;
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
                Err(error) => return Err(error.of_read()),
            }
        }
        Ok((groups.into_values().collect(), no_leader))
    }

    async fn asked(self, node: NodeInfo, question: Question) -> Answered {
        let answers = self.ask_offsets(&node, &question).await;
        (question.partitions, answers)
    }

    async fn ask_offsets(&self, node: &NodeInfo, question: &Question) -> Result<Vec<v1::PartitionOffsets>, Error> {
        let Question { topic, partitions, marks, query, within } = question;
        let request = v1::ListOffsetsRequest {
            topic: Some((&TopicRef::Id(*topic)).into()),
            partitions: partitions.iter().map(|partition| partition.0).collect(),
            local: *marks != Marks::Leaders,
            at_timestamp_ms: query.at.map(|at| at.0),
            last_records: query.last_records,
            linearizable: *marks == Marks::Confirmed,
        };
        let request = self.timed_request(request, *within);
        let call = |connection: Connection| async move {
            services::log_client(connection.channel).list_offsets(request).await
        };
        let answers = self.call(&node.address, *within, call).await?.partitions;
        let complete = answers.len() == partitions.len()
            && answers.iter().all(|answer| partitions.contains(&PartitionIndex(answer.partition)));
        if !complete {
            let message = format!("node {} answered for other partitions than were asked for", node.name);
            return Err(Error::new(ErrorDetail::rejected(ErrorCode::Internal, Stage::Service, message)));
        }
        Ok(answers)
    }
}

/// The result for each partition of a question: its own, or that of the whole call.
fn by_partition(
    group: Vec<PartitionIndex>,
    answers: Result<Vec<v1::PartitionOffsets>, Error>,
) -> Vec<(PartitionIndex, Result<v1::PartitionOffsets, Error>)> {
    match answers {
        Err(error) => group.into_iter().map(|partition| (partition, Err(error.clone()))).collect(),
        Ok(answers) => {
            let of_one = |mut answer: v1::PartitionOffsets| {
                let partition = PartitionIndex(answer.partition);
                match answer.error.take() {
                    None => (partition, Ok(answer)),
                    Some(error) => (partition, Err(Error::new(status::from_message(error)))),
                }
            };
            answers.into_iter().map(of_one).collect()
        }
    }
}
