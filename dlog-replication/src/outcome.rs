//! What became of a command: the value that its maker gets, and its protobuf form in the table of recent commands.

use crate::command::CommandBody;
use dlog_core::error::ErrorCode;
use dlog_core::{LogIndex, NodeId, ProducerId, ReplicaId, TopicId};
use prost::Message;

/// Bounds a rejection's message in the table of recent commands.
pub const MESSAGE_BYTES_MAX: usize = 512;

/// What became of a command. The same on every node; a retry gets the first one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The bootstrap set is in the catalogue.
    ClusterFounded,
    /// The node is registered.
    NodeRegistered {
        /// The node.
        node: NodeId,
    },
    /// The topic exists.
    TopicCreated {
        /// The topic.
        topic: TopicId,
        /// How many partitions it has (not what was asked for if it existed).
        partitions: u32,
        /// False: it existed, and the command said that this is fine.
        created: bool,
    },
    /// The topic is gone.
    TopicDeleted {
        /// The topic that it was.
        topic: TopicId,
    },
    /// The settings hold.
    TopicAltered {
        /// The topic.
        topic: TopicId,
    },
    /// The ids `first` to `first + count - 1` belong to the caller.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// The replica is the one that should lead.
    LeaderPreferred {
        /// The replica.
        replica: ReplicaId,
    },
    /// The set is the one that is intended.
    ReplicasIntended {
        /// The intent's version: the group 0 index that made it.
        intent: LogIndex,
    },
    /// The intended set is confirmed.
    ReplicasConfirmed {
        /// The intent's version.
        intent: LogIndex,
    },
    /// Nothing was changed.
    Rejected(Rejection),
}

/// Why a command changed nothing, in words for whoever sent it.
///
/// Invariant: `message` is at most [`MESSAGE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The kind of reason.
    pub code: RejectionCode,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The kinds of reasons. The numbers are in the state store: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RejectionCode {
    /// The bytes are no command.
    Malformed = 1,
    /// A kind of command that this version doesn't know.
    UnknownCommand = 2,
    /// The index was applied before.
    AlreadyApplied = 3,
    /// A node id, name, address or shard count is out of its range.
    InvalidNode = 10,
    /// The name, the id or the directory belongs to another node.
    NodeConflict = 11,
    /// An earlier boot of the node sent it.
    StaleBoot = 12,
    /// The cluster was founded with another set.
    ClusterConflict = 13,
    /// The name can't be a topic's.
    InvalidTopicName = 20,
    /// A topic of this name exists.
    TopicExists = 21,
    /// No topic has this name (or it isn't the one meant).
    UnknownTopic = 22,
    /// The number of partitions or replicas is out of its range.
    InvalidArgument = 23,
    /// Fewer nodes than replicas.
    NotEnoughNodes = 24,
    /// A setting is out of its range.
    InvalidSetting = 25,
    /// It speaks of an intent that is no longer the newest.
    StaleIntent = 26,
    /// The catalogue holds as many as it may.
    LimitReached = 30,
}

impl RejectionCode {
    /// The code with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<RejectionCode> {
        Some(match number {
            1 => RejectionCode::Malformed,
            2 => RejectionCode::UnknownCommand,
            3 => RejectionCode::AlreadyApplied,
            10 => RejectionCode::InvalidNode,
            11 => RejectionCode::NodeConflict,
            12 => RejectionCode::StaleBoot,
            13 => RejectionCode::ClusterConflict,
            20 => RejectionCode::InvalidTopicName,
            21 => RejectionCode::TopicExists,
            22 => RejectionCode::UnknownTopic,
            23 => RejectionCode::InvalidArgument,
            24 => RejectionCode::NotEnoughNodes,
            25 => RejectionCode::InvalidSetting,
            26 => RejectionCode::StaleIntent,
            30 => RejectionCode::LimitReached,
            _ => return None,
        })
    }
}

impl RejectionCode {
    /// What a client is told for it. The mapping may change, the numbers here may not.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            RejectionCode::Malformed
            | RejectionCode::InvalidNode
            | RejectionCode::InvalidArgument
            | RejectionCode::InvalidSetting
            | RejectionCode::NotEnoughNodes
            | RejectionCode::StaleIntent
            | RejectionCode::LimitReached => ErrorCode::InvalidArgument,
            RejectionCode::UnknownCommand => ErrorCode::Unsupported,
            RejectionCode::AlreadyApplied => ErrorCode::Internal,
            RejectionCode::NodeConflict | RejectionCode::StaleBoot => ErrorCode::UnsafeRefused,
            RejectionCode::ClusterConflict => ErrorCode::WrongCluster,
            RejectionCode::InvalidTopicName => ErrorCode::InvalidTopicName,
            RejectionCode::TopicExists => ErrorCode::TopicExists,
            RejectionCode::UnknownTopic => ErrorCode::UnknownTopic,
        }
    }
}

impl Rejection {
    /// A rejection; a message beyond the bound is cut at a character's edge.
    pub fn new(code: RejectionCode, message: impl Into<String>) -> Rejection {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Rejection { code, message }
    }
}

/// A name from a command as it may stand in a message: cut and escaped, since nothing has checked it yet.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    let cut = &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)];
    let dots = if cut.len() < name.len() { "…" } else { "" };
    format!("\"{}{dots}\"", cut.escape_debug())
}

/// The protobuf form: one flat message, the fields that a kind doesn't use are 0.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutcomeValue {
    /// 1 founded, 2 registered, 3 created, 4 deleted, 5 altered, 6 producer ids, 7 rejected, 8 leader preferred, 9 replicas intended,
    /// 10 replicas confirmed.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// The node, topic, first producer id, replica or intent.
    #[prost(uint64, tag = "2")]
    id: u64,
    /// Partitions, or the count of producer ids.
    #[prost(uint32, tag = "3")]
    count: u32,
    #[prost(bool, tag = "4")]
    created: bool,
    /// The number of a [`RejectionCode`].
    #[prost(uint32, tag = "5")]
    code: u32,
    #[prost(string, tag = "6")]
    message: String,
}

impl CommandOutcome {
    /// The bytes of this outcome (for a node that passes it on to the one where the command was made).
    pub fn encode(&self) -> Vec<u8> {
        OutcomeValue::from(self).encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) made; `None` if the bytes are no outcome.
    pub fn decode(bytes: &[u8]) -> Option<CommandOutcome> {
        OutcomeValue::decode(bytes).ok()?.into_outcome()
    }

    /// Can this be what became of such a command? Not if its id was taken by one of another kind.
    pub const fn answers(&self, body: &CommandBody) -> bool {
        matches!(
            (self, body),
            (CommandOutcome::Rejected(_), _)
                | (CommandOutcome::ClusterFounded, CommandBody::FoundCluster(_))
                | (CommandOutcome::NodeRegistered { .. }, CommandBody::RegisterNode(_))
                | (CommandOutcome::TopicCreated { .. }, CommandBody::CreateTopic(_))
                | (CommandOutcome::TopicDeleted { .. }, CommandBody::DeleteTopic(_))
                | (CommandOutcome::TopicAltered { .. }, CommandBody::AlterTopic(_))
                | (CommandOutcome::ProducerIds { .. }, CommandBody::AllocateProducerIds(_))
                | (CommandOutcome::LeaderPreferred { .. }, CommandBody::PreferLeader(_))
                | (CommandOutcome::ReplicasIntended { .. }, CommandBody::SetReplicas(_))
                | (CommandOutcome::ReplicasIntended { .. }, CommandBody::SetMetadataVoters(_))
                | (CommandOutcome::ReplicasConfirmed { .. }, CommandBody::ConfirmReplicas(_))
        )
    }

    /// The outcome as a result.
    ///
    /// # Errors
    /// The rejection, if it is one.
    pub fn into_result(self) -> Result<CommandOutcome, Rejection> {
        match self {
            CommandOutcome::Rejected(rejection) => Err(rejection),
            done => Ok(done),
        }
    }
}

impl From<&CommandOutcome> for OutcomeValue {
    fn from(outcome: &CommandOutcome) -> OutcomeValue {
        let empty = OutcomeValue::default();
        match outcome {
            CommandOutcome::ClusterFounded => OutcomeValue { kind: 1, ..empty },
            CommandOutcome::NodeRegistered { node } => OutcomeValue { kind: 2, id: u64::from(node.0), ..empty },
            CommandOutcome::TopicCreated { topic, partitions, created } => {
                OutcomeValue { kind: 3, id: topic.0, count: *partitions, created: *created, ..empty }
            }
            CommandOutcome::TopicDeleted { topic } => OutcomeValue { kind: 4, id: topic.0, ..empty },
            CommandOutcome::TopicAltered { topic } => OutcomeValue { kind: 5, id: topic.0, ..empty },
            CommandOutcome::ProducerIds { first, count } => {
                OutcomeValue { kind: 6, id: first.0 as u64, count: *count, ..empty }
            }
            CommandOutcome::LeaderPreferred { replica } => OutcomeValue { kind: 8, id: replica.0, ..empty },
            CommandOutcome::ReplicasIntended { intent } => OutcomeValue { kind: 9, id: intent.0, ..empty },
            CommandOutcome::ReplicasConfirmed { intent } => OutcomeValue { kind: 10, id: intent.0, ..empty },
            CommandOutcome::Rejected(rejection) => {
                OutcomeValue { kind: 7, code: rejection.code as u32, message: rejection.message.clone(), ..empty }
            }
        }
    }
}

impl OutcomeValue {
    pub(crate) fn into_outcome(self) -> Option<CommandOutcome> {
        Some(match self.kind {
            1 => CommandOutcome::ClusterFounded,
            2 => CommandOutcome::NodeRegistered { node: NodeId(u32::try_from(self.id).ok()?) },
            3 => {
                CommandOutcome::TopicCreated { topic: TopicId(self.id), partitions: self.count, created: self.created }
            }
            4 => CommandOutcome::TopicDeleted { topic: TopicId(self.id) },
            5 => CommandOutcome::TopicAltered { topic: TopicId(self.id) },
            6 => CommandOutcome::ProducerIds { first: ProducerId(i64::try_from(self.id).ok()?), count: self.count },
            7 => CommandOutcome::Rejected(Rejection::new(RejectionCode::from_number(self.code)?, self.message)),
            8 => CommandOutcome::LeaderPreferred { replica: ReplicaId(self.id) },
            9 => CommandOutcome::ReplicasIntended { intent: LogIndex(self.id) },
            10 => CommandOutcome::ReplicasConfirmed { intent: LogIndex(self.id) },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_its_bytes() {
        let outcomes = [
            CommandOutcome::ClusterFounded,
            CommandOutcome::NodeRegistered { node: NodeId(3) },
            CommandOutcome::TopicCreated { topic: TopicId(9), partitions: 4, created: true },
            CommandOutcome::TopicDeleted { topic: TopicId(9) },
            CommandOutcome::TopicAltered { topic: TopicId(9) },
            CommandOutcome::ProducerIds { first: ProducerId(1000), count: 100 },
            CommandOutcome::LeaderPreferred { replica: ReplicaId::new(NodeId(3), 7) },
            CommandOutcome::ReplicasIntended { intent: LogIndex(12) },
            CommandOutcome::ReplicasConfirmed { intent: LogIndex(13) },
            CommandOutcome::Rejected(Rejection::new(RejectionCode::TopicExists, "topic \"a\" exists")),
        ];
        for outcome in outcomes {
            assert_eq!(CommandOutcome::decode(&outcome.encode()), Some(outcome));
        }
        assert_eq!(CommandOutcome::decode(&[]), None, "no kind");
        assert_eq!(CommandOutcome::decode(&[8, 99]), None, "a kind of a later version");
    }

    #[test]
    fn an_outcome_answers_its_own_kind() {
        let create = CommandBody::CreateTopic(crate::command::CreateTopic::default());
        let made = CommandOutcome::TopicCreated { topic: TopicId(9), partitions: 4, created: true };
        assert!(made.answers(&create));
        assert!(!CommandOutcome::TopicDeleted { topic: TopicId(9) }.answers(&create));
        assert!(CommandOutcome::Rejected(Rejection::new(RejectionCode::TopicExists, "")).answers(&create));
    }

    #[test]
    fn every_code_has_its_number() {
        let known = (0..100).filter_map(|n| RejectionCode::from_number(n).map(|code| (n, code)));
        let numbers: Vec<u32> = known.inspect(|(n, code)| assert_eq!(*n, *code as u32)).map(|(n, _)| n).collect();
        assert_eq!(numbers, [1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 26, 30]);
    }

    #[test]
    fn names_are_cut_and_escaped() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        let long = "é".repeat(1000);
        assert!(shown(&long).len() < 100);
        assert_eq!(Rejection::new(RejectionCode::Malformed, long).message.len(), MESSAGE_BYTES_MAX);
    }
}
