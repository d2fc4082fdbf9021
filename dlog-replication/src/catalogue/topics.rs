//! Topics and their partitions: who should hold which log.

pub(crate) mod intents;

use super::ids::Ids;
use super::nodes::Nodes;
use super::state::{Changes, Key, PartitionValue, TopicValue};
use crate::command::{AlterTopic, CreateTopic, DeleteTopic, PreferLeader};
use crate::outcome::{CommandOutcome, Rejection, RejectionCode, shown};
use crate::settings::{SettingChanges, SettingError, TopicSettings};
use dlog_core::limits::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX, REPLICAS_PER_PARTITION_MAX};
use dlog_core::topic_name::TopicName;
use dlog_core::{LogId, LogIndex, NodeId, PartitionIndex, ReplicaId, TimestampMs, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The one namespace there is.
pub const NAMESPACE_DEFAULT: &str = "default";
/// Replicas of a partition where the command doesn't say, if there are as many nodes.
pub const REPLICAS_DEFAULT: u32 = 3;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id.
    pub topic: TopicId,
    /// Its namespace: [`NAMESPACE_DEFAULT`].
    pub namespace: String,
    /// Its name, unique in the namespace.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas each partition should have.
    pub replicas: u32,
    /// What was set.
    pub settings: TopicSettings,
    /// When it was asked for. For display only.
    pub requested_at: TimestampMs,
    /// The group 0 index that made it: the intent of its first replicas.
    pub created_at: LogIndex,
    /// The log of partition 0; the others follow in order.
    pub first_log: LogId,
}

/// One partition. The first replica of a set was chosen to lead it.
///
/// Invariants: the sets have no node twice; `preferred` is in `intended`; `holders` holds `intended` and `confirmed`, and
/// nothing else once the newest intent is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its topic.
    pub topic: TopicId,
    /// Its number there.
    pub index: PartitionIndex,
    /// Its log.
    pub log: LogId,
    /// The voters that the partition began with; kept for ever, since a new replica of a log that still begins at index 1
    /// starts from them.
    pub creation: Vec<ReplicaId>,
    /// The replicas that it should have.
    pub intended: Vec<ReplicaId>,
    /// The group 0 index that made `intended`.
    pub intent: LogIndex,
    /// The replicas that its leader last confirmed.
    pub confirmed: Vec<ReplicaId>,
    /// The intent for which they were confirmed.
    pub confirmed_intent: LogIndex,
    /// The index of the membership that was confirmed, in the partition's own log; 0 for that of creation.
    pub confirmed_membership: LogIndex,
    /// Every replica that may stand somewhere: the intended ones, the confirmed ones, and those of intents that were given up
    /// since the last confirmation. In rising order. What isn't here is deleted, and never named again.
    pub holders: Vec<ReplicaId>,
    /// The replica that should lead it while it is fit to.
    pub preferred: ReplicaId,
}

impl PartitionInfo {
    /// The replicas that must stand: the intended ones, and those of the last confirmed set, whose majority decides until the
    /// next one is confirmed. In rising order.
    pub fn needed(&self) -> BTreeSet<ReplicaId> {
        self.intended.iter().chain(&self.confirmed).copied().collect()
    }

    /// The intended replica on `node`.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.intended.iter().copied().find(|replica| replica.node() == node)
    }
}

/// A `CreateTopic` that was found possible.
pub(crate) struct CreatePlan {
    name: TopicName,
    pub(crate) partitions: u32,
    pub(crate) replicas: u32,
    settings: TopicSettings,
    requested_at: TimestampMs,
}

/// All topics and partitions, and what is looked up in them.
///
/// Invariants: see [`check`](Self::check). `by_name`, `by_log` and `by_node` follow from the other two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics {
    topics: BTreeMap<TopicId, TopicInfo>,
    partitions: BTreeMap<(TopicId, PartitionIndex), PartitionInfo>,
    by_name: BTreeMap<TopicName, TopicId>,
    by_log: BTreeMap<LogId, (TopicId, PartitionIndex)>,
    by_node: BTreeMap<NodeId, BTreeMap<ReplicaId, (TopicId, PartitionIndex)>>,
}

/// Is the command possible? `None`: the topic exists, and the command says that this is fine.
pub(crate) fn check_create(
    create: &CreateTopic,
    topics: &Topics,
    nodes: &Nodes,
) -> Result<Option<CreatePlan>, Rejection> {
    let reject = |code, message: String| Err(Rejection::new(code, message));
    check_namespace(&create.namespace)?;
    let name = match TopicName::new(&create.name) {
        Ok(name) => name,
        Err(error) => return reject(RejectionCode::InvalidTopicName, error.to_string()),
    };
    if name.is_reserved() {
        return reject(RejectionCode::InvalidTopicName, format!("the name {name} is dlog's own: it begins with __"));
    }
    if topics.by_name.contains_key(&name) {
        return match create.if_not_exists {
            true => Ok(None),
            false => reject(RejectionCode::TopicExists, format!("the topic {name} exists already")),
        };
    }
    let partitions = create.partitions.max(1);
    if partitions > PARTITIONS_PER_TOPIC_MAX {
        let message = format!("{partitions} partitions are too many; allowed are 1 to {PARTITIONS_PER_TOPIC_MAX}");
        return reject(RejectionCode::InvalidArgument, message);
    }
    if topics.partitions.len() as u64 + u64::from(partitions) > u64::from(PARTITIONS_MAX) {
        let message = format!("the cluster would have more than {PARTITIONS_MAX} partitions; delete topics first");
        return reject(RejectionCode::LimitReached, message);
    }
    let node_count = nodes.iter().len() as u32;
    let replicas = match create.replicas {
        0 => node_count.clamp(1, REPLICAS_DEFAULT),
        replicas if replicas > REPLICAS_PER_PARTITION_MAX => {
            let message = format!("{replicas} replicas are too many; allowed are 1 to {REPLICAS_PER_PARTITION_MAX}");
            return reject(RejectionCode::InvalidArgument, message);
        }
        replicas => replicas,
    };
    let settings = create.settings.clone().unwrap_or_default();
    check_settings(&settings)?;
    let requested_at = TimestampMs(create.requested_at_ms);
    Ok(Some(CreatePlan { name, partitions, replicas, settings, requested_at }))
}

impl Topics {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &TopicInfo> {
        self.topics.values()
    }

    pub(crate) fn get(&self, topic: TopicId) -> Option<&TopicInfo> {
        self.topics.get(&topic)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&TopicInfo> {
        self.by_name.get(name).and_then(|topic| self.topics.get(topic))
    }

    pub(crate) fn partition(&self, topic: TopicId, index: PartitionIndex) -> Option<&PartitionInfo> {
        self.partitions.get(&(topic, index))
    }

    pub(crate) fn partition_of_log(&self, log: LogId) -> Option<&PartitionInfo> {
        self.by_log.get(&log).and_then(|place| self.partitions.get(place))
    }

    pub(crate) fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = &PartitionInfo> {
        self.partitions.range((topic, PartitionIndex(0))..=(topic, PartitionIndex(u32::MAX))).map(|(_, info)| info)
    }

    pub(crate) fn partitions(&self) -> impl ExactSizeIterator<Item = &PartitionInfo> {
        self.partitions.values()
    }

    pub(crate) fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (ReplicaId, &PartitionInfo)> {
        let places = self.by_node.get(&node).into_iter().flatten();
        places.filter_map(|(&replica, place)| Some((replica, self.partitions.get(place)?)))
    }

    pub(crate) fn first_log_in(&self, logs: Range<LogId>) -> Option<LogId> {
        self.by_log.range(logs).next().map(|(&log, _)| log)
    }

    /// What the maker of a `CreateTopic` with `if_not_exists` is told of a topic that exists.
    pub(crate) fn existing(&self, create: &CreateTopic) -> CommandOutcome {
        let known = self.by_name(&create.name).map(|info| (info.topic, info.partitions));
        let (topic, partitions) = known.unwrap_or_default();
        CommandOutcome::TopicCreated { topic, partitions, created: false }
    }

    /// Makes a topic from a plan, its ids and the replicas of each partition, leaders first.
    pub(crate) fn create(
        &mut self,
        index: LogIndex,
        topic: TopicId,
        first_log: LogId,
        plan: CreatePlan,
        replicas: Vec<Vec<ReplicaId>>,
        changes: &mut Changes,
    ) {
        let info = TopicInfo {
            topic,
            namespace: NAMESPACE_DEFAULT.to_owned(),
            name: plan.name,
            partitions: plan.partitions,
            replicas: plan.replicas,
            settings: plan.settings,
            requested_at: plan.requested_at,
            created_at: index,
            first_log,
        };
        put_topic(&info, changes);
        self.by_name.insert(info.name.clone(), topic);
        self.topics.insert(topic, info);
        for (number, set) in (0u32..).zip(replicas) {
            let mut holders = set.clone();
            holders.sort_unstable();
            let partition = PartitionInfo {
                topic,
                index: PartitionIndex(number),
                log: LogId(first_log.0 + u64::from(number)),
                preferred: set[0],
                creation: set.clone(),
                confirmed: set.clone(),
                intended: set,
                intent: index,
                confirmed_intent: index,
                confirmed_membership: LogIndex::ZERO,
                holders,
            };
            put_partition(&partition, changes);
            self.index_partition(&partition);
            self.partitions.insert((topic, partition.index), partition);
        }
    }

    pub(crate) fn check_delete(&self, delete: &DeleteTopic) -> Result<TopicId, Rejection> {
        self.find(&delete.namespace, &delete.name, delete.topic).map(|info| info.topic)
    }

    /// Forgets a topic that is known, and returns its logs.
    pub(crate) fn delete(&mut self, topic: TopicId, changes: &mut Changes) -> Range<LogId> {
        let info = self.topics.remove(&topic).expect("check_delete found it");
        self.by_name.remove(&info.name);
        changes.delete(Key::Topic(topic));
        for number in 0..info.partitions {
            let place = (topic, PartitionIndex(number));
            let Some(partition) = self.partitions.remove(&place) else { continue };
            changes.delete(Key::Partition(topic, place.1));
            self.unindex_partition(&partition);
        }
        info.first_log..LogId(info.first_log.0 + u64::from(info.partitions))
    }

    pub(crate) fn alter(&mut self, alter: &AlterTopic, changes: &mut Changes) -> Result<CommandOutcome, Rejection> {
        let info = self.find(&alter.namespace, &alter.name, alter.topic)?;
        let topic = info.topic;
        let settings = alter.settings.clone().unwrap_or_default();
        check_settings(&settings)?;
        let wanted = SettingChanges { settings, defaults: alter.defaults.clone() };
        if wanted.is_empty() {
            let message = "no setting to change was given; write --config key=value";
            return Err(Rejection::new(RejectionCode::InvalidArgument, message));
        }
        let altered = info.settings.altered(&wanted).map_err(refuse_setting)?;
        if let Some(info) = self.topics.get_mut(&topic) {
            info.settings = altered;
            put_topic(info, changes);
        }
        Ok(CommandOutcome::TopicAltered { topic })
    }

    /// Chooses who should lead a partition; that it is so already is fine.
    pub(crate) fn prefer(&mut self, prefer: &PreferLeader, changes: &mut Changes) -> Result<CommandOutcome, Rejection> {
        let (topic, index, node) = (TopicId(prefer.topic), PartitionIndex(prefer.partition), NodeId(prefer.node));
        let Some(partition) = self.partitions.get_mut(&(topic, index)) else {
            let message = format!("there is no partition {index} of a topic with id {topic}; was it deleted?");
            return Err(Rejection::new(RejectionCode::UnknownTopic, message));
        };
        let Some(replica) = partition.replica_on(node) else {
            let message = format!("node {node} holds no replica of the partition; see `dlog partition list`");
            return Err(Rejection::new(RejectionCode::InvalidArgument, message));
        };
        if partition.preferred != replica {
            partition.preferred = replica;
            put_partition(partition, changes);
        }
        Ok(CommandOutcome::LeaderPreferred { replica })
    }

    /// The topic of this name; `topic`, if not 0, must be its id.
    fn find(&self, namespace: &str, name: &str, topic: u64) -> Result<&TopicInfo, Rejection> {
        check_namespace(namespace)?;
        let info = self.by_name(name).ok_or_else(|| {
            let message = format!("there is no topic {}; see `dlog topic list`", shown(name));
            Rejection::new(RejectionCode::UnknownTopic, message)
        })?;
        if topic != 0 && topic != info.topic.0 {
            let message = format!("the topic {} is another one now: it was deleted and made again", info.name);
            return Err(Rejection::new(RejectionCode::UnknownTopic, message));
        }
        Ok(info)
    }

    pub(crate) fn load_topic(&mut self, topic: TopicId, value: TopicValue) -> Result<(), String> {
        let settings = value.settings.unwrap_or_default();
        settings.validate().map_err(|error| error.to_string())?;
        let info = TopicInfo {
            topic,
            namespace: value.namespace,
            name: TopicName::new(&value.name).map_err(|error| error.to_string())?,
            partitions: value.partitions,
            replicas: value.replicas,
            settings,
            requested_at: TimestampMs(value.requested_at_ms),
            created_at: LogIndex(value.created_at),
            first_log: LogId(value.first_log),
        };
        self.topics.insert(topic, info);
        Ok(())
    }

    pub(crate) fn load_partition(
        &mut self,
        topic: TopicId,
        index: PartitionIndex,
        value: PartitionValue,
    ) -> Result<(), String> {
        let replicas = |ids: Vec<u64>| -> Vec<ReplicaId> { ids.into_iter().map(ReplicaId).collect() };
        let mut holders = replicas(value.holders);
        if holders.is_empty() {
            holders = replicas(value.intended.clone());
            holders.sort_unstable();
        }
        let info = PartitionInfo {
            topic,
            index,
            log: LogId(value.log),
            creation: replicas(value.creation),
            intended: replicas(value.intended),
            intent: LogIndex(value.intent),
            confirmed: replicas(value.confirmed),
            confirmed_intent: LogIndex(value.confirmed_intent),
            confirmed_membership: LogIndex(value.confirmed_membership),
            holders,
            preferred: ReplicaId(value.preferred),
        };
        self.partitions.insert((topic, index), info);
        Ok(())
    }

    /// Computes, after loading, what follows from topics and partitions.
    pub(crate) fn index(&mut self) {
        self.by_name = self.topics.values().map(|info| (info.name.clone(), info.topic)).collect();
        let partitions = std::mem::take(&mut self.partitions);
        partitions.values().for_each(|partition| self.index_partition(partition));
        self.partitions = partitions;
    }

    fn index_partition(&mut self, partition: &PartitionInfo) {
        let place = (partition.topic, partition.index);
        self.by_log.insert(partition.log, place);
        for replica in partition.needed() {
            self.by_node.entry(replica.node()).or_default().insert(replica, place);
        }
    }

    fn unindex_partition(&mut self, partition: &PartitionInfo) {
        self.by_log.remove(&partition.log);
        for replica in &partition.needed() {
            let Some(on_node) = self.by_node.get_mut(&replica.node()) else { continue };
            on_node.remove(replica);
            if on_node.is_empty() {
                self.by_node.remove(&replica.node());
            }
        }
    }

    pub(crate) fn save_all(&self, changes: &mut Changes) {
        self.topics.values().for_each(|info| put_topic(info, changes));
        self.partitions.values().for_each(|info| put_partition(info, changes));
    }

    pub(crate) fn check(&self, nodes: &Nodes, ids: &Ids, applied: LogIndex) -> Result<(), String> {
        let mut partitions = 0u64;
        for info in self.topics.values() {
            partitions += u64::from(info.partitions);
            if info.topic >= ids.next_topic() || info.created_at > applied || info.partitions == 0 {
                return Err(format!("topic {} is not possible", info.topic));
            }
            let count = self.partitions_of(info.topic).count() as u64;
            if count != u64::from(info.partitions) {
                return Err(format!("topic {} has {count} of {} partitions", info.topic, info.partitions));
            }
        }
        if partitions != self.partitions.len() as u64 || partitions != self.by_log.len() as u64 {
            return Err("a partition has no topic, or two have one log".to_owned());
        }
        if self.by_name.len() != self.topics.len() {
            return Err("two topics have one name".to_owned());
        }
        let mut replicas = 0;
        for partition in self.partitions.values() {
            replicas += partition.needed().len();
            self.check_partition(partition, nodes, ids, applied)
                .map_err(|reason| format!("partition {}/{}: {reason}", partition.topic, partition.index))?;
        }
        match self.by_node.values().map(BTreeMap::len).sum::<usize>() == replicas {
            true => Ok(()),
            false => Err("two partitions have one replica".to_owned()),
        }
    }

    fn check_partition(
        &self,
        partition: &PartitionInfo,
        nodes: &Nodes,
        ids: &Ids,
        applied: LogIndex,
    ) -> Result<(), &'static str> {
        let first_log = self.get(partition.topic).map(|info| info.first_log).ok_or("it has no topic")?;
        let log = first_log.0.checked_add(u64::from(partition.index.0));
        if log != Some(partition.log.0) || partition.log >= ids.next_log() || partition.log == LogId::GROUP_ZERO {
            return Err("its log is not possible");
        }
        for set in [&partition.creation, &partition.intended, &partition.confirmed, &partition.holders] {
            let distinct: BTreeSet<NodeId> = set.iter().map(|replica| replica.node()).collect();
            if set.is_empty() || distinct.len() != set.len() {
                return Err("a replica set is empty or has a node twice");
            }
            let given = |replica: &ReplicaId| {
                nodes.get(replica.node()).is_some_and(|info| replica.number() < info.next_replica())
            };
            if !set.iter().all(given) {
                return Err("a replica was never given");
            }
        }
        let mut named = partition.intended.iter().chain(&partition.confirmed);
        if !named.all(|replica| partition.holders.contains(replica)) {
            return Err("a replica that is intended or confirmed may not stand anywhere");
        }
        if partition.is_confirmed() && partition.holders.len() != partition.intended.len() {
            return Err("a replica that is out of use may still stand");
        }
        if !partition.intended.contains(&partition.preferred) {
            return Err("its preferred leader is none of its replicas");
        }
        match partition.intent > applied || partition.confirmed_intent > partition.intent {
            true => Err("its intent is of the future"),
            false => Ok(()),
        }
    }
}

fn check_namespace(namespace: &str) -> Result<(), Rejection> {
    match namespace {
        "" | NAMESPACE_DEFAULT => Ok(()),
        other => {
            let message = format!("there is no namespace {}; the only one is {NAMESPACE_DEFAULT}", shown(other));
            Err(Rejection::new(RejectionCode::InvalidArgument, message))
        }
    }
}

fn check_settings(settings: &TopicSettings) -> Result<(), Rejection> {
    settings.validate().map_err(refuse_setting)
}

fn refuse_setting(error: SettingError) -> Rejection {
    Rejection::new(RejectionCode::InvalidSetting, error.to_string())
}

fn put_topic(info: &TopicInfo, changes: &mut Changes) {
    let value = TopicValue {
        namespace: info.namespace.clone(),
        name: info.name.as_str().to_owned(),
        partitions: info.partitions,
        replicas: info.replicas,
        settings: Some(info.settings.clone()).filter(|settings| *settings != TopicSettings::default()),
        requested_at_ms: info.requested_at.0,
        created_at: info.created_at.0,
        first_log: info.first_log.0,
    };
    changes.put(Key::Topic(info.topic), &value);
}

fn put_partition(info: &PartitionInfo, changes: &mut Changes) {
    let numbers = |replicas: &[ReplicaId]| replicas.iter().map(|replica| replica.0).collect();
    let value = PartitionValue {
        log: info.log.0,
        creation: numbers(&info.creation),
        intended: numbers(&info.intended),
        intent: info.intent.0,
        confirmed: numbers(&info.confirmed),
        confirmed_intent: info.confirmed_intent.0,
        confirmed_membership: info.confirmed_membership.0,
        // Those of a confirmed set follow from it.
        holders: if info.is_confirmed() { Vec::new() } else { numbers(&info.holders) },
        preferred: info.preferred.0,
    };
    changes.put(Key::Partition(info.topic, info.index), &value);
}
