//! The state store's form of the catalogue: stable keys, protobuf values, and the list of changes that a command makes.
//!
//! | key | value |
//! |---|---|
//! | `cluster` | [`ClusterValue`]: the bootstrap set's hash |
//! | `metadata` | [`MetadataValue`]: who should vote in group 0 |
//! | `ids` | [`IdsValue`]: the next id of each kind |
//! | `node/` + node id, u32 BE | [`NodeValue`] |
//! | `topic/` + topic id, u64 BE | [`TopicValue`] |
//! | `partition/` + topic id, u64 BE + partition, u32 BE | [`PartitionValue`] |
//! | `deleted/` + first log id, u64 BE | [`DeletedValue`]: a run of log ids whose topics are deleted |
//! | `request/` + group 0 index, u64 BE | [`RequestValue`]: a recent command and its outcome |
//!
//! Keys sort as their numbers do. Tags and prefixes are in every state store: never reused.

use crate::outcome::OutcomeValue;
use crate::settings::TopicSettings;
use dlog_core::{LogId, LogIndex, NodeId, PartitionIndex, TopicId};
use prost::Message;

/// One key of the state store that a command changed: the new value, or `None` if the key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The key.
    pub key: Vec<u8>,
    /// Its new value.
    pub value: Option<Vec<u8>>,
}

/// Which entity a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Cluster,
    Metadata,
    Ids,
    Node(NodeId),
    Topic(TopicId),
    Partition(TopicId, PartitionIndex),
    Deleted(LogId),
    Request(LogIndex),
}

const NODE: &[u8] = b"node/";
const TOPIC: &[u8] = b"topic/";
const PARTITION: &[u8] = b"partition/";
const DELETED: &[u8] = b"deleted/";
const REQUEST: &[u8] = b"request/";

impl Key {
    /// The key's bytes.
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Key::Cluster => b"cluster".to_vec(),
            Key::Metadata => b"metadata".to_vec(),
            Key::Ids => b"ids".to_vec(),
            Key::Node(node) => [NODE, &node.0.to_be_bytes()].concat(),
            Key::Topic(topic) => [TOPIC, &topic.0.to_be_bytes()].concat(),
            Key::Partition(topic, index) => [PARTITION, &topic.0.to_be_bytes(), &index.0.to_be_bytes()].concat(),
            Key::Deleted(log) => [DELETED, &log.0.to_be_bytes()].concat(),
            Key::Request(index) => [REQUEST, &index.0.to_be_bytes()].concat(),
        }
    }

    /// The key of these bytes; `None` if they aren't the catalogue's.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Key> {
        let u32_of = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
        let u64_of = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        if bytes == b"cluster" {
            return Some(Key::Cluster);
        }
        if bytes == b"metadata" {
            return Some(Key::Metadata);
        }
        if bytes == b"ids" {
            return Some(Key::Ids);
        }
        if let Some(rest) = bytes.strip_prefix(NODE) {
            return Some(Key::Node(NodeId(u32_of(rest)?)));
        }
        if let Some(rest) = bytes.strip_prefix(TOPIC) {
            return Some(Key::Topic(TopicId(u64_of(rest)?)));
        }
        if let Some(rest) = bytes.strip_prefix(PARTITION) {
            let (topic, index) = rest.split_at_checked(8)?;
            return Some(Key::Partition(TopicId(u64_of(topic)?), PartitionIndex(u32_of(index)?)));
        }
        if let Some(rest) = bytes.strip_prefix(DELETED) {
            return Some(Key::Deleted(LogId(u64_of(rest)?)));
        }
        let rest = bytes.strip_prefix(REQUEST)?;
        Some(Key::Request(LogIndex(u64_of(rest)?)))
    }
}

/// The changes of one command. The last word on a key counts.
#[derive(Default)]
pub(crate) struct Changes(Vec<StateChange>);

impl Changes {
    pub(crate) fn put(&mut self, key: Key, value: &impl Message) {
        self.0.push(StateChange { key: key.encode(), value: Some(value.encode_to_vec()) });
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.0.push(StateChange { key: key.encode(), value: None });
    }

    /// The changes in key order, one for each key.
    pub(crate) fn finish(mut self) -> Vec<StateChange> {
        // Stable, so of several changes of one key the last stands last; reversed, it is the one that dedup keeps.
        self.0.reverse();
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        self.0.dedup_by(|later, first| later.key == first.key);
        self.0
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClusterValue {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) cluster: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetadataValue {
    /// Nodes.
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) intended: Vec<u32>,
    #[prost(uint64, tag = "2")]
    pub(crate) intent: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) confirmed_intent: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) confirmed_membership: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IdsValue {
    #[prost(uint64, tag = "1")]
    pub(crate) next_topic: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) next_log: u64,
    #[prost(int64, tag = "3")]
    pub(crate) next_producer: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeValue {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) rack: String,
    #[prost(string, tag = "3")]
    pub(crate) client_address: String,
    #[prost(string, tag = "4")]
    pub(crate) peer_address: String,
    #[prost(string, tag = "5")]
    pub(crate) version: String,
    #[prost(uint32, tag = "6")]
    pub(crate) shards: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) boot: u64,
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) directory: Vec<u8>,
    #[prost(uint32, tag = "9")]
    pub(crate) next_replica: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicValue {
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(uint32, tag = "3")]
    pub(crate) partitions: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) replicas: u32,
    #[prost(message, optional, tag = "5")]
    pub(crate) settings: Option<TopicSettings>,
    #[prost(int64, tag = "6")]
    pub(crate) requested_at_ms: i64,
    #[prost(uint64, tag = "7")]
    pub(crate) created_at: u64,
    /// Its partitions' logs are this and the following ids.
    #[prost(uint64, tag = "8")]
    pub(crate) first_log: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartitionValue {
    #[prost(uint64, tag = "1")]
    pub(crate) log: u64,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) creation: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) intended: Vec<u64>,
    #[prost(uint64, tag = "4")]
    pub(crate) intent: u64,
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) confirmed: Vec<u64>,
    #[prost(uint64, tag = "6")]
    pub(crate) confirmed_intent: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) preferred: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) confirmed_membership: u64,
    #[prost(uint64, repeated, tag = "9")]
    pub(crate) holders: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeletedValue {
    /// The log id after the run's last.
    #[prost(uint64, tag = "1")]
    pub(crate) end: u64,
    /// The greatest group 0 index at which one of them was deleted.
    #[prost(uint64, tag = "2")]
    pub(crate) deleted_at: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestValue {
    #[prost(fixed64, tag = "1")]
    pub(crate) id_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) id_low: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) outcome: Option<OutcomeValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The keys of version 1: a change here makes every state store unreadable.
    #[test]
    fn golden_keys() {
        assert_eq!(Key::Cluster.encode(), b"cluster");
        assert_eq!(Key::Metadata.encode(), b"metadata");
        assert_eq!(Key::Ids.encode(), b"ids");
        assert_eq!(Key::Node(NodeId(0x0102)).encode(), b"node/\0\0\x01\x02");
        assert_eq!(Key::Topic(TopicId(3)).encode(), b"topic/\0\0\0\0\0\0\0\x03");
        let partition = Key::Partition(TopicId(3), PartitionIndex(4));
        assert_eq!(partition.encode(), b"partition/\0\0\0\0\0\0\0\x03\0\0\0\x04");
        assert_eq!(Key::Deleted(LogId(5)).encode(), b"deleted/\0\0\0\0\0\0\0\x05");
        assert_eq!(Key::Request(LogIndex(6)).encode(), b"request/\0\0\0\0\0\0\0\x06");
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let mut changes = Changes::default();
        changes.put(Key::Ids, &IdsValue { next_topic: 1, ..IdsValue::default() });
        changes.delete(Key::Cluster);
        changes.put(Key::Ids, &IdsValue { next_topic: 2, ..IdsValue::default() });
        let changes = changes.finish();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0], StateChange { key: b"cluster".to_vec(), value: None });
        assert_eq!(changes[1].value, Some(vec![0x08, 0x02]));
    }

    proptest! {
        #[test]
        fn keys_round_trip(kind in 0..8, id in any::<u64>(), index in any::<u32>()) {
            let key = match kind {
                0 => Key::Cluster,
                1 => Key::Ids,
                2 => Key::Node(NodeId(index)),
                3 => Key::Topic(TopicId(id)),
                4 => Key::Partition(TopicId(id), PartitionIndex(index)),
                5 => Key::Deleted(LogId(id)),
                6 => Key::Metadata,
                _ => Key::Request(LogIndex(id)),
            };
            prop_assert_eq!(Key::decode(&key.encode()), Some(key));
        }

        #[test]
        fn any_bytes_are_a_key_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(key) = Key::decode(&bytes) {
                prop_assert_eq!(key.encode(), bytes);
            }
        }
    }
}
