//! The commands of the catalogue: what group 0 replicates, as hand-derived protobuf messages.
//!
//! | tag | field |
//! |---|---|
//! | 1, 2 | the command's id, upper and lower half, fixed64 |
//! | 10 | [`FoundCluster`] |
//! | 11 | [`RegisterNode`] |
//! | 12 | [`CreateTopic`] |
//! | 13 | [`DeleteTopic`] |
//! | 14 | [`AlterTopic`] |
//! | 15 | [`AllocateProducerIds`] |
//! | 16 | [`PreferLeader`] |
//! | 17 | [`SetReplicas`] |
//! | 18 | [`ConfirmReplicas`] |
//! | 19 | [`SetMetadataVoters`] |
//!
//! Tags are in every group 0 log: never reused. A new kind takes the next tag and is proposed only once every node of the
//! cluster runs a version that knows it, because a node that doesn't know it rejects it.

use crate::outcome::{Rejection, RejectionCode};
use crate::settings::TopicSettings;
use bytes::Bytes;
use dlog_core::limits::COMMAND_BYTES_MAX;
use prost::Message;
use std::fmt;

/// Names one command, so that a retry is applied once. Drawn at random by whoever makes the command; kept by its retries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u128);

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command:{:032x}", self.0)
    }
}

/// One change of the catalogue.
///
/// Invariant: `id` is not 0 (0 is what a message without an id decodes to).
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The same for every retry.
    pub id: CommandId,
    /// What to change.
    pub body: CommandBody,
}

/// What a command changes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum CommandBody {
    /// The first command of a cluster.
    #[prost(message, tag = "10")]
    FoundCluster(FoundCluster),
    /// A node started, or changed its addresses.
    #[prost(message, tag = "11")]
    RegisterNode(RegisterNode),
    /// Makes a topic.
    #[prost(message, tag = "12")]
    CreateTopic(CreateTopic),
    /// Deletes a topic.
    #[prost(message, tag = "13")]
    DeleteTopic(DeleteTopic),
    /// Changes settings of a topic.
    #[prost(message, tag = "14")]
    AlterTopic(AlterTopic),
    /// Takes a block of producer ids.
    #[prost(message, tag = "15")]
    AllocateProducerIds(AllocateProducerIds),
    /// Chooses the node that should lead a partition.
    #[prost(message, tag = "16")]
    PreferLeader(PreferLeader),
    /// Says who should hold a partition.
    #[prost(message, tag = "17")]
    SetReplicas(SetReplicas),
    /// A leader says that its log's members are those that were asked for.
    #[prost(message, tag = "18")]
    ConfirmReplicas(ConfirmReplicas),
    /// Says who should vote in group 0.
    #[prost(message, tag = "19")]
    SetMetadataVoters(SetMetadataVoters),
}

/// Enters the bootstrap set, so that the catalogue knows every node of the cluster before each has registered (and
/// "as many replicas as there are nodes" means the cluster, not the nodes that were quick).
#[derive(Clone, PartialEq, prost::Message)]
pub struct FoundCluster {
    /// The cluster id, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    /// Every node of the bootstrap set.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<FoundingMember>,
}

/// One node of the bootstrap set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FoundingMember {
    /// Its node id, from 1.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its directory id, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub directory: Vec<u8>,
}

/// What a node says of itself, once each start and when something changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterNode {
    /// Its node id, from 1.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// Its name; never changes.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its rack; empty if it has none.
    #[prost(string, tag = "3")]
    pub rack: String,
    /// `HOST:PORT` for clients.
    #[prost(string, tag = "4")]
    pub client_address: String,
    /// `HOST:PORT` for other nodes.
    #[prost(string, tag = "5")]
    pub peer_address: String,
    /// The version of its software.
    #[prost(string, tag = "6")]
    pub version: String,
    /// Its number of shards, from 1.
    #[prost(uint32, tag = "7")]
    pub shards: u32,
    /// Its boot number, from 1. A command of an earlier boot is refused.
    #[prost(uint64, tag = "8")]
    pub boot: u64,
    /// Its directory id, 16 bytes; empty if the caller doesn't say. Another one than the known one is refused.
    #[prost(bytes = "vec", tag = "9")]
    pub directory: Vec<u8>,
}

/// Makes a topic with all its partitions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateTopic {
    /// The name, see `dlog_core::topic_name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many partitions, from 1; 0 means 1.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
    /// Replicas of each partition; 0 means 3, or as many as there are nodes.
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    /// Settings that differ from the defaults.
    #[prost(message, optional, tag = "4")]
    pub settings: Option<TopicSettings>,
    /// A topic of this name that exists is not an error.
    #[prost(bool, tag = "5")]
    pub if_not_exists: bool,
    /// When the request was made, in milliseconds since the epoch. For display only.
    #[prost(int64, tag = "6")]
    pub requested_at_ms: i64,
    /// Empty or [`NAMESPACE_DEFAULT`](crate::catalogue::NAMESPACE_DEFAULT): the only one there is.
    #[prost(string, tag = "7")]
    pub namespace: String,
}

/// Deletes a topic with all its records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteTopic {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// If not 0, the topic of that name must be this one: a late retry can't delete its successor.
    #[prost(uint64, tag = "2")]
    pub topic: u64,
    /// As in [`CreateTopic`].
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// Changes settings of a topic; those that aren't named stay.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlterTopic {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The settings that get a value.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<TopicSettings>,
    /// As in [`CreateTopic`].
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Names of settings that get their defaults again.
    #[prost(string, repeated, tag = "4")]
    pub defaults: Vec<String>,
    /// As in [`DeleteTopic`].
    #[prost(uint64, tag = "5")]
    pub topic: u64,
}

/// Takes a block of producer ids that nobody else gets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AllocateProducerIds {
    /// How many, 1 to [`PRODUCER_IDS_MAX`](crate::catalogue::PRODUCER_IDS_MAX).
    #[prost(uint32, tag = "1")]
    pub count: u32,
}

/// Chooses which of a partition's replicas should lead it from now on, while it is fit to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PreferLeader {
    /// The topic's id.
    #[prost(uint64, tag = "1")]
    pub topic: u64,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The node whose replica it is.
    #[prost(uint32, tag = "3")]
    pub node: u32,
}

/// Says which nodes should hold a partition from now on; a new intent. Nodes that hold it keep their replicas, the others get
/// new ones. An older set as a new intent takes a change back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetReplicas {
    /// The topic's id.
    #[prost(uint64, tag = "1")]
    pub topic: u64,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The nodes, each once; the first should lead if who should now doesn't stay.
    #[prost(uint32, repeated, tag = "3")]
    pub nodes: Vec<u32>,
    /// If not 0, the intent that the caller has seen must still be the newest.
    #[prost(uint64, tag = "4")]
    pub intent: u64,
}

/// The leader of a log says that its members are those of the newest intent, and that no change is under way.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfirmReplicas {
    /// The log; 0 is group 0's own.
    #[prost(uint64, tag = "1")]
    pub log: u64,
    /// The intent that it has reached. Another one than the newest is refused.
    #[prost(uint64, tag = "2")]
    pub intent: u64,
    /// The index of its membership, in the log's own indexes. A lower one than was confirmed before is refused.
    #[prost(uint64, tag = "3")]
    pub membership: u64,
    /// The replicas that vote.
    #[prost(uint64, repeated, tag = "4")]
    pub voters: Vec<u64>,
}

/// Says which nodes should vote in group 0 from now on; all others follow as learners.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetMetadataVoters {
    /// The nodes, each once.
    #[prost(uint32, repeated, tag = "1")]
    pub nodes: Vec<u32>,
    /// If not 0, the intent that the caller has seen must still be the newest.
    #[prost(uint64, tag = "2")]
    pub intent: u64,
}

/// The outermost message.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(fixed64, tag = "1")]
    id_high: u64,
    #[prost(fixed64, tag = "2")]
    id_low: u64,
    #[prost(oneof = "CommandBody", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    body: Option<CommandBody>,
}

impl Command {
    /// A command with its id.
    pub fn new(id: CommandId, body: CommandBody) -> Command {
        Command { id, body }
    }

    /// The bytes that group 0 replicates.
    pub fn encode(&self) -> Bytes {
        let (id_high, id_low) = ((self.id.0 >> 64) as u64, self.id.0 as u64);
        Bytes::from(Envelope { id_high, id_low, body: Some(self.body.clone()) }.encode_to_vec())
    }

    /// Reads what [`encode`](Self::encode) made. Only the form is checked here; the content is checked when it is applied.
    ///
    /// # Errors
    /// [`RejectionCode::Malformed`] if the bytes are too many, aren't such a message or carry no id;
    /// [`RejectionCode::UnknownCommand`] if they hold a kind of command that this version doesn't know.
    pub fn decode(bytes: &[u8]) -> Result<Command, Rejection> {
        if bytes.len() > COMMAND_BYTES_MAX {
            let message = format!("a command of {} bytes exceeds the limit of {COMMAND_BYTES_MAX} bytes", bytes.len());
            return Err(Rejection::new(RejectionCode::Malformed, message));
        }
        let envelope = Envelope::decode(bytes)
            .map_err(|error| Rejection::new(RejectionCode::Malformed, format!("the command can't be read: {error}")))?;
        let id = CommandId((u128::from(envelope.id_high) << 64) | u128::from(envelope.id_low));
        if id.0 == 0 {
            return Err(Rejection::new(RejectionCode::Malformed, "the command carries no id; draw one at random"));
        }
        let Some(body) = envelope.body else {
            let message = "the command is of a kind that this version doesn't know; run the same version on every node";
            return Err(Rejection::new(RejectionCode::UnknownCommand, message));
        };
        Ok(Command { id, body })
    }
}

#[cfg(test)]
mod tests;
