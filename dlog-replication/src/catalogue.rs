//! The catalogue: what the cluster knows of itself. The state machine of group 0.
//!
//! Every node applies the same commands in the same order and holds the same catalogue. Applying is *total* (any bytes get
//! an outcome, none a panic) and *deterministic*. It changes the catalogue in memory and names the changed keys, which the
//! state store writes together with the applied index; loading those keys gives the same catalogue again.

mod deleted;
mod ids;
mod nodes;
mod requests;
mod state;
mod topics;
mod voters;

pub use ids::PRODUCER_IDS_MAX;
pub use nodes::{DIRECTORY_ID_BYTES, NodeInfo};
pub use requests::REQUESTS_MAX;
pub use state::StateChange;
pub use topics::{NAMESPACE_DEFAULT, PartitionInfo, REPLICAS_DEFAULT, TopicInfo};
pub use voters::MetadataVoters;

use crate::bootstrap;
use crate::command::{Command, CommandBody, CommandId, FoundCluster};
use crate::outcome::{CommandOutcome, Rejection, RejectionCode};
use crate::placement::{self, PlacementError};
use deleted::DeletedLogs;
use dlog_core::{Frame, FrameKind, LogId, LogIndex, NodeId, PartitionIndex, ReplicaId, TopicId};
use ids::Ids;
use nodes::Nodes;
use prost::Message;
use requests::Requests;
use state::{Changes, ClusterValue, Key};
use topics::Topics;

/// What applying one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What its maker is told.
    pub outcome: CommandOutcome,
    /// The changed keys in order, each once; to be written in one batch with the applied index.
    pub changes: Vec<StateChange>,
}

/// A key of the state store with its new value; `None`: the key is gone.
pub type KeyChange = (Vec<u8>, Option<Vec<u8>>);

/// What the cluster knows of itself as of one index of group 0.
///
/// Invariants, checked by [`assert_invariants`](Self::assert_invariants) and, when it is loaded, as errors: every partition
/// has its topic and every topic all its partitions; the replicas of a partition are on distinct known nodes; no id was
/// given twice, and all are below the next ones; names of nodes and topics are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    applied: LogIndex,
    cluster: Option<[u8; 16]>,
    metadata: MetadataVoters,
    nodes: Nodes,
    topics: Topics,
    deleted: DeletedLogs,
    ids: Ids,
    requests: Requests,
}

/// Why stored entries are no catalogue: the state store is damaged or of a later version. The node must not start with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A key that this version doesn't know.
    #[error("the state store holds the key {key}, which this version doesn't know; start the version that wrote it")]
    Key {
        /// The key, escaped.
        key: String,
    },
    /// A value that can't be read.
    #[error("the value of {key} in the state store can't be read ({reason}); rebuild this node from its peers")]
    Value {
        /// The key, escaped.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Entries that contradict each other.
    #[error("the state store contradicts itself: {reason}; rebuild this node from its peers")]
    Inconsistent {
        /// What is wrong.
        reason: String,
    },
}

impl Catalogue {
    /// The catalogue before the first command.
    pub fn new() -> Catalogue {
        Catalogue::default()
    }

    /// The catalogue as of `applied`, from every entry of the state store (or of a snapshot), in any order.
    ///
    /// # Errors
    /// [`LoadError`] if an entry can't be read or the entries contradict each other.
    pub fn load<I, K, V>(applied: LogIndex, entries: I) -> Result<Catalogue, LoadError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut catalogue = Catalogue { applied, ..Catalogue::default() };
        for (key, value) in entries {
            let (key, value) = (key.as_ref(), value.as_ref());
            let shown = || key.escape_ascii().to_string();
            let parsed = Key::decode(key).ok_or_else(|| LoadError::Key { key: shown() })?;
            catalogue.load_entry(parsed, value).map_err(|reason| LoadError::Value { key: shown(), reason })?;
        }
        catalogue.topics.index();
        catalogue.check().map_err(|reason| LoadError::Inconsistent { reason })?;
        Ok(catalogue)
    }

    fn load_entry(&mut self, key: Key, value: &[u8]) -> Result<(), String> {
        match key {
            Key::Cluster => {
                let value: ClusterValue = decode(value)?;
                self.cluster = Some(value.cluster.try_into().map_err(|_| "a cluster id has 16 bytes".to_owned())?);
                Ok(())
            }
            Key::Metadata => {
                self.metadata.load(decode(value)?);
                Ok(())
            }
            Key::Ids => self.ids.load(decode(value)?),
            Key::Node(node) => self.nodes.load(node, decode(value)?),
            Key::Topic(topic) => self.topics.load_topic(topic, decode(value)?),
            Key::Partition(topic, index) => self.topics.load_partition(topic, index, decode(value)?),
            Key::Deleted(first) => self.deleted.load(first, decode(value)?),
            Key::Request(index) => self.requests.load(index, decode(value)?),
        }
    }

    /// Every entry: what a state store that took all changes holds, in key order. The content of a snapshot.
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut changes = Changes::default();
        if let Some(cluster) = self.cluster {
            changes.put(Key::Cluster, &ClusterValue { cluster: cluster.to_vec() });
        }
        self.metadata.save(&mut changes);
        self.ids.save(&mut changes);
        self.nodes.save_all(&mut changes);
        self.topics.save_all(&mut changes);
        self.deleted.save_all(&mut changes);
        self.requests.save_all(&mut changes);
        changes.finish().into_iter().filter_map(|change| Some((change.key, change.value?))).collect()
    }

    /// Applies the commands among committed frames of group 0 that stand above `before`. Gives what the state store has to write with
    /// the index of the last frame; `None` if all of it was applied before.
    pub fn apply_frames(&mut self, before: LogIndex, frames: &[Frame]) -> Option<(LogIndex, Vec<KeyChange>)> {
        let last = frames.last().map(|frame| frame.index).filter(|last| *last > before)?;
        let mut changes = Vec::new();
        for frame in frames.iter().filter(|frame| frame.index > before && frame.kind == FrameKind::Command) {
            let applied = self.apply(frame.index, &frame.payload);
            changes.extend(applied.changes.into_iter().map(|change| (change.key, change.value)));
        }
        Some((last, changes))
    }

    /// Applies the command at `index`. A command that can't be read or isn't allowed changes nothing but the applied index
    /// (and, if it has an id, the table of recent commands, so that its retry is told the same). An index at or below
    /// the applied one is answered with [`RejectionCode::AlreadyApplied`] and changes nothing.
    pub fn apply(&mut self, index: LogIndex, command: &[u8]) -> Applied {
        if index <= self.applied {
            let message = format!("index {index} was applied before: the catalogue is at {}", self.applied);
            return rejected(Rejection::new(RejectionCode::AlreadyApplied, message));
        }
        self.applied = index;
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(rejection) => return rejected(rejection),
        };
        if let Some(outcome) = self.requests.outcome(command.id) {
            return Applied { outcome: outcome.clone(), changes: Vec::new() };
        }
        let mut changes = Changes::default();
        let outcome = match self.execute(index, &command.body, &mut changes) {
            Ok(outcome) => outcome,
            Err(rejection) => CommandOutcome::Rejected(rejection),
        };
        self.requests.insert(index, command.id, outcome.clone(), &mut changes);
        Applied { outcome, changes: changes.finish() }
    }

    /// What became of a recent command; `None` if it was never applied, or more than [`REQUESTS_MAX`] others came since.
    pub fn outcome(&self, id: CommandId) -> Option<&CommandOutcome> {
        self.requests.outcome(id)
    }

    /// Notes that the entry at `index` was no command (a no-op or a configuration): nothing but the applied index moves.
    /// An index at or below the applied one is left alone.
    pub fn skip(&mut self, index: LogIndex) {
        self.applied = self.applied.max(index);
    }

    /// Each arm checks everything before it changes anything, so that a rejection leaves no half of a command.
    fn execute(
        &mut self,
        index: LogIndex,
        body: &CommandBody,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        match body {
            CommandBody::FoundCluster(found) => self.found(index, found, changes),
            CommandBody::RegisterNode(register) => self.nodes.register(register, self.cluster.is_some(), changes),
            CommandBody::CreateTopic(create) => {
                let Some(plan) = topics::check_create(create, &self.topics, &self.nodes)? else {
                    return Ok(self.topics.existing(create));
                };
                self.ids.check_topic(plan.partitions)?;
                let sets = placement::place(self, plan.partitions, plan.replicas).map_err(refuse_placement)?;
                self.nodes.check_replicas(&sets)?;
                let (topic, first_log) = self.ids.take_topic(plan.partitions, changes);
                let replicas = self.nodes.take_replicas(&sets, changes);
                self.topics.create(index, topic, first_log, plan, replicas, changes);
                Ok(CommandOutcome::TopicCreated { topic, partitions: sets.len() as u32, created: true })
            }
            CommandBody::DeleteTopic(delete) => {
                let topic = self.topics.check_delete(delete)?;
                let logs = self.topics.delete(topic, changes);
                self.deleted.insert(logs, index, changes);
                Ok(CommandOutcome::TopicDeleted { topic })
            }
            CommandBody::AlterTopic(alter) => self.topics.alter(alter, changes),
            CommandBody::AllocateProducerIds(allocate) => self.ids.allocate_producers(allocate, changes),
            CommandBody::PreferLeader(prefer) => self.topics.prefer(prefer, changes),
            CommandBody::SetReplicas(set) => {
                let Some(plan) = self.topics.check_set_replicas(set, &self.nodes)? else {
                    return Ok(self.topics.intended_already(set));
                };
                let sets = [plan.fresh.clone()];
                self.nodes.check_replicas(&sets)?;
                let fresh = self.nodes.take_replicas(&sets, changes).concat();
                Ok(self.topics.set_replicas(index, &plan, &fresh, changes))
            }
            CommandBody::ConfirmReplicas(confirm) if confirm.log == LogId::GROUP_ZERO.0 => {
                self.metadata.confirm(confirm, changes)
            }
            CommandBody::ConfirmReplicas(confirm) => self.topics.confirm_replicas(confirm, changes),
            CommandBody::SetMetadataVoters(set) => self.metadata.set(index, set, &self.nodes, changes),
        }
    }

    fn found(
        &mut self,
        index: LogIndex,
        found: &FoundCluster,
        changes: &mut Changes,
    ) -> Result<CommandOutcome, Rejection> {
        let Ok(cluster) = <[u8; 16]>::try_from(found.cluster.as_slice()) else {
            return Err(Rejection::new(RejectionCode::Malformed, "a cluster id has 16 bytes"));
        };
        match self.cluster {
            Some(known) if known == cluster => return Ok(CommandOutcome::ClusterFounded),
            Some(_) => {
                let message =
                    "the cluster was founded with another bootstrap set; this node belongs to another cluster";
                return Err(Rejection::new(RejectionCode::ClusterConflict, message));
            }
            None => {}
        }
        self.nodes.found(&found.members, changes)?;
        let nodes: Vec<NodeId> = self.nodes.iter().map(|info| info.node).collect();
        let voters = nodes.iter().copied().take(bootstrap::voter_count(nodes.len())).collect();
        self.metadata.found(index, voters, changes);
        self.cluster = Some(cluster);
        changes.put(Key::Cluster, &ClusterValue { cluster: cluster.to_vec() });
        Ok(CommandOutcome::ClusterFounded)
    }

    /// The index of the last entry that was applied or skipped.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The cluster id, once the bootstrap set was entered.
    pub fn cluster(&self) -> Option<[u8; 16]> {
        self.cluster
    }

    /// Who should vote in group 0.
    pub fn metadata_voters(&self) -> &MetadataVoters {
        &self.metadata
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.nodes.iter()
    }

    /// The node with this id.
    pub fn node(&self, node: NodeId) -> Option<&NodeInfo> {
        self.nodes.get(node)
    }

    /// The node with this name.
    pub fn node_by_name(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.by_name(name)
    }

    /// The node's name, or its number if it isn't known: for messages.
    pub fn node_name(&self, node: NodeId) -> String {
        self.node(node).map_or_else(|| format!("node {node}"), |info| info.name.clone())
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &TopicInfo> {
        self.topics.iter()
    }

    /// The topic with this id.
    pub fn topic(&self, topic: TopicId) -> Option<&TopicInfo> {
        self.topics.get(topic)
    }

    /// The topic with this name in the default namespace.
    pub fn topic_by_name(&self, name: &str) -> Option<&TopicInfo> {
        self.topics.by_name(name)
    }

    /// One partition.
    pub fn partition(&self, topic: TopicId, index: PartitionIndex) -> Option<&PartitionInfo> {
        self.topics.partition(topic, index)
    }

    /// The partition whose log this is.
    pub fn partition_of_log(&self, log: LogId) -> Option<&PartitionInfo> {
        self.topics.partition_of_log(log)
    }

    /// All partitions of a topic, in order; none if the topic isn't known.
    pub fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = &PartitionInfo> {
        self.topics.partitions_of(topic)
    }

    /// All partitions, by topic id and number.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = &PartitionInfo> {
        self.topics.partitions()
    }

    /// The replicas that must stand on a node, with their partitions: the intended ones, and those of sets that no new one has
    /// been confirmed for.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (ReplicaId, &PartitionInfo)> {
        self.topics.replicas_on(node)
    }

    /// The greatest group 0 index at which a topic was deleted in the run of log ids that `log` belongs to; `None` if
    /// this catalogue doesn't know that `log`'s topic was deleted.
    pub fn deleted_at(&self, log: LogId) -> Option<LogIndex> {
        self.deleted.deleted_at(log)
    }

    /// Was the topic of `log` deleted?
    pub fn was_deleted(&self, log: LogId) -> bool {
        self.deleted_at(log).is_some()
    }

    /// Panics unless the invariants hold.
    pub fn assert_invariants(&self) {
        if let Err(reason) = self.check() {
            panic!("the catalogue is inconsistent: {reason}");
        }
    }

    fn check(&self) -> Result<(), String> {
        self.nodes.check()?;
        self.metadata.check(&self.nodes, self.applied)?;
        self.topics.check(&self.nodes, &self.ids, self.applied)?;
        self.deleted.check(&self.topics, &self.ids, self.applied)?;
        self.requests.check(self.applied)
    }
}

fn rejected(rejection: Rejection) -> Applied {
    Applied { outcome: CommandOutcome::Rejected(rejection), changes: Vec::new() }
}

fn refuse_placement(error: PlacementError) -> Rejection {
    let code = match error {
        PlacementError::NotEnoughNodes { .. } => RejectionCode::NotEnoughNodes,
        PlacementError::NoReplicas => RejectionCode::InvalidArgument,
    };
    Rejection::new(code, error.to_string())
}

fn decode<M: Message + Default>(value: &[u8]) -> Result<M, String> {
    M::decode(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
