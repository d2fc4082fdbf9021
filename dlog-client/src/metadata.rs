//! What a client knows of its cluster: nodes, topics, leaders. Of two answers about a partition's leader the one with the
//! higher term counts, so that a node that lags can't lead the client back.

use crate::error::Error;
use dlog_core::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName};
use dlog_protocol::{ClusterId, v1};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeInfo {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) address: String,
    /// Empty: none.
    pub(crate) rack: String,
}

/// A topic.
///
/// Invariant: `partitions[i]` is partition `i`; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) partitions: Vec<Route>,
    pub(crate) max_batch_bytes: usize,
    /// When the answer that says so was asked for.
    pub(crate) asked_at: Instant,
}

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) replicas: Vec<NodeId>,
}

/// Everything learned so far.
///
/// Invariant: `cluster_id` never changes once it is known.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) nodes: BTreeMap<NodeId, NodeInfo>,
    pub(crate) topics: BTreeMap<TopicName, Arc<Topic>>,
}

impl Topic {
    pub(crate) fn route(&self, partition: PartitionIndex) -> Result<&Route, Error> {
        self.partitions.get(partition.0 as usize).ok_or_else(|| {
            let (name, count) = (&self.name, self.partitions.len());
            Error::rejected(ErrorCode::UnknownPartition, format!("topic {name} has {count} partitions, no {partition}"))
        })
    }

    fn read(message: &v1::TopicMetadata, asked_at: Instant) -> Result<Topic, Error> {
        let invalid = |what: &str| {
            Error::rejected(ErrorCode::Internal, format!("the metadata of topic {:?} is wrong: {what}", message.name))
        };
        let gapless = message.partitions.iter().enumerate().all(|(at, entry)| entry.partition as usize == at);
        if !gapless || message.partitions.is_empty() {
            return Err(invalid("its partitions are not numbered from 0"));
        }
        let routes = message.partitions.iter().map(|entry| Route {
            leader: entry.leader.map(NodeId),
            term: entry.term,
            replicas: entry.replicas.iter().copied().map(NodeId).collect(),
        });
        Ok(Topic {
            id: TopicId(message.id),
            name: TopicName::new(&message.name).map_err(|error| invalid(&error.to_string()))?,
            partitions: routes.collect(),
            max_batch_bytes: message.max_batch_bytes as usize,
            asked_at,
        })
    }
}

impl View {
    /// Takes in an answer that was asked for at `asked_at`.
    ///
    /// # Errors
    /// `wrong_cluster` if it comes from another cluster: nothing of it is taken in.
    pub(crate) fn learn(&mut self, answer: &v1::MetadataResponse, asked_at: Instant) -> Result<(), Error> {
        let cluster_id = ClusterId::from_bytes(&answer.cluster_id)?;
        if let Some(known) = self.cluster_id.filter(|known| *known != cluster_id) {
            let message = format!("a node answered for cluster {cluster_id}, this client works with {known}");
            return Err(Error::rejected(ErrorCode::WrongCluster, message));
        }
        self.cluster_id = Some(cluster_id);
        for node in &answer.nodes {
            let id = NodeId(node.id);
            let (name, rack) = (node.name.clone(), node.rack.clone());
            let info = NodeInfo { id, name, address: node.client_address.clone(), rack };
            self.nodes.insert(id, info);
        }
        for topic in &answer.topics {
            let mut topic = Topic::read(topic, asked_at)?;
            if let Some(known) = self.topics.get(&topic.name).filter(|known| known.id == topic.id) {
                for (new, old) in topic.partitions.iter_mut().zip(&known.partitions) {
                    if old.term > new.term || (new.leader.is_none() && old.term == new.term) {
                        (new.leader, new.term) = (old.leader, old.term);
                    }
                }
            }
            self.topics.insert(topic.name.clone(), Arc::new(topic));
        }
        Ok(())
    }

    /// A node said that `leader` leads this partition now. An answer with a higher term will correct it.
    pub(crate) fn hint(&mut self, topic: &TopicName, partition: PartitionIndex, leader: NodeId) {
        let Some(topic) = self.topics.get_mut(topic) else { return };
        if let Some(route) = Arc::make_mut(topic).partitions.get_mut(partition.0 as usize) {
            route.leader = Some(leader);
        }
    }

    /// The topic is gone, or another has its name.
    pub(crate) fn forget_topic(&mut self, topic: &TopicName) {
        self.topics.remove(topic);
    }

    pub(crate) fn node_by_name(&self, name: &str) -> Option<NodeInfo> {
        self.nodes.values().find(|node| node.name == name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(leader: Option<u32>, term: u64, id: u64) -> v1::MetadataResponse {
        let partition = v1::PartitionMetadata { partition: 0, leader, term, replicas: vec![1, 2] };
        v1::MetadataResponse {
            cluster_id: vec![7; 16].into(),
            topics: vec![v1::TopicMetadata { name: "t".into(), id, partitions: vec![partition], max_batch_bytes: 1 }],
            ..v1::MetadataResponse::default()
        }
    }

    fn leader(view: &View) -> Option<u32> {
        let topic = view.topics.get("t").expect("known");
        topic.route(PartitionIndex(0)).expect("there").leader.map(|node| node.0)
    }

    #[tokio::test]
    async fn a_lagging_answer_does_not_lead_back() {
        let mut view = View::default();
        let now = Instant::now();
        view.learn(&answer(Some(1), 5, 1), now).expect("first");
        view.learn(&answer(Some(2), 4, 1), now).expect("older");
        assert_eq!(leader(&view), Some(1));
        view.learn(&answer(None, 5, 1), now).expect("knows less");
        assert_eq!(leader(&view), Some(1));
        view.learn(&answer(Some(2), 6, 1), now).expect("newer");
        assert_eq!(leader(&view), Some(2));
        view.hint(&TopicName::new("t").expect("valid"), PartitionIndex(0), NodeId(1));
        assert_eq!(leader(&view), Some(1));
        view.learn(&answer(Some(2), 1, 9), now).expect("another topic of the same name");
        assert_eq!(leader(&view), Some(2));
    }

    #[tokio::test]
    async fn another_cluster_is_refused() {
        let mut view = View::default();
        view.learn(&answer(Some(1), 5, 1), Instant::now()).expect("first");
        let other = v1::MetadataResponse { cluster_id: vec![8; 16].into(), ..answer(Some(9), 9, 1) };
        assert_eq!(view.learn(&other, Instant::now()).expect_err("refused").code(), ErrorCode::WrongCluster);
        assert_eq!(leader(&view), Some(1));
    }

    #[tokio::test]
    async fn partitions_with_gaps_are_refused() {
        let mut wrong = answer(Some(1), 5, 1);
        wrong.topics[0].partitions[0].partition = 1;
        assert!(View::default().learn(&wrong, Instant::now()).is_err());
    }
}
