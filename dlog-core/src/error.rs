//! What a client can be told: one closed list of codes, and the details that go with them.
//!
//! The same error travels from wherever it arises to the caller's screen: an [`ErrorDetail`] says what failed, where
//! ([`Stage`]), and whether it may have been applied all the same ([`Outcome`]). Numbers are on the wire: never reused.

use crate::NodeId;
use crate::limits::ERROR_MESSAGE_BYTES_MAX;
use std::fmt;

/// Makes a closed enum with a fixed number and a snake_case name for each variant, from one table.
macro_rules! numbered {
    ($(#[$doc:meta])* $enum:ident($int:ty) { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $name:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($int)]
        pub enum $enum { $($(#[$variant_doc])* $variant = $number,)+ }

        impl $enum {
            /// Every one of them, in the order of their numbers.
            pub const ALL: &'static [$enum] = &[$($enum::$variant,)+];

            /// The number on the wire.
            pub const fn number(self) -> $int {
                self as $int
            }

            /// The one with this number, if there is one.
            pub const fn from_number(number: $int) -> Option<$enum> {
                match number { $($number => Some($enum::$variant),)+ _ => None }
            }

            /// The name that people and programs see; it never changes.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)+ }
            }

            /// The one with this name, if there is one.
            pub fn from_name(name: &str) -> Option<$enum> {
                match name { $($name => Some($enum::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

numbered! {
    /// What went wrong.
    ErrorCode(u16) {
        /// A bug, or something nobody foresaw.
        Internal = 1, "internal";
        /// This replica doesn't lead; the hint may say who does.
        NotLeader = 2, "not_leader";
        /// Nobody leads just now: an election is running, or a quorum is missing.
        NoLeader = 3, "no_leader";
        /// No topic has this name.
        UnknownTopic = 4, "unknown_topic";
        /// The topic has no partition with this number.
        UnknownPartition = 5, "unknown_partition";
        /// A topic with this name is there already.
        TopicExists = 6, "topic_exists";
        /// The name can't be a topic's.
        InvalidTopicName = 7, "invalid_topic_name";
        /// Something in the request is out of its range.
        InvalidArgument = 8, "invalid_argument";
        /// The batch's bytes are not a valid batch: damaged on the way, or made wrongly.
        InvalidBatch = 9, "invalid_batch";
        /// The batch is larger than the topic or dlog allows.
        BatchTooLarge = 10, "batch_too_large";
        /// The offset is before the log start, or after the end of the log.
        OffsetOutOfRange = 11, "offset_out_of_range";
        /// This replica hasn't reached that point yet.
        NotYetAvailable = 12, "not_yet_available";
        /// A bound on queued bytes was hit.
        Overloaded = 13, "overloaded";
        /// The producer's batch doesn't follow its last one.
        OutOfOrderSequence = 14, "out_of_order_sequence";
        /// A newer instance of this producer has taken over.
        InvalidProducerEpoch = 15, "invalid_producer_epoch";
        /// The partition remembers nothing of this producer, and its batch isn't a first one.
        UnknownProducerId = 16, "unknown_producer_id";
        /// The request's deadline passed.
        Timeout = 17, "timeout";
        /// The node or a part of it can't be reached or can't serve.
        Unavailable = 18, "unavailable";
        /// The node is going down in order.
        ShuttingDown = 19, "shutting_down";
        /// The node's disk is full up to its reserve.
        DiskFull = 20, "disk_full";
        /// Stored bytes don't match their checksum; they are not served.
        CorruptData = 21, "corrupt_data";
        /// It would endanger data or a quorum.
        UnsafeRefused = 22, "unsafe_refused";
        /// The other side belongs to another cluster.
        WrongCluster = 23, "wrong_cluster";
        /// This version can't do it.
        Unsupported = 24, "unsupported";
        /// Too few replicas are in sync for what was asked.
        NotInSync = 25, "not_in_sync";
        /// A cluster of one beyond loopback takes no records unless it was asked for.
        SingleNotAllowed = 26, "single_not_allowed";
        /// No node has this name or number.
        UnknownNode = 27, "unknown_node";
    }
}

numbered! {
    /// Where it went wrong, in the order of a request's way.
    Stage(u8) {
        /// In the client, before anything was sent.
        Client = 1, "client";
        /// On the connection between two processes.
        Connection = 2, "connection";
        /// In the service that took the request.
        Service = 3, "service";
        /// At the checks and bounds before the log.
        Admission = 4, "admission";
        /// While replicas were to agree.
        Replication = 5, "replication";
        /// At the disk.
        Storage = 6, "storage";
        /// At the state machine, after agreement.
        Apply = 7, "apply";
        /// While a node starts or finds its cluster.
        Bootstrap = 8, "bootstrap";
    }
}

numbered! {
    /// Whether a failed request may have taken effect.
    Outcome(u8) {
        /// Definitely not applied: sending it again can't double it.
        Rejected = 1, "rejected";
        /// It may have been applied, or may still be.
        Unknown = 2, "unknown";
    }
}

impl ErrorCode {
    /// Whether the same request may succeed later or elsewhere, unchanged. Where the outcome is [`Outcome::Unknown`], a retry
    /// may double what isn't idempotent.
    pub const fn is_retryable(self) -> bool {
        match self {
            ErrorCode::NotLeader
            | ErrorCode::NoLeader
            | ErrorCode::NotYetAvailable
            | ErrorCode::Overloaded
            | ErrorCode::Timeout
            | ErrorCode::Unavailable
            | ErrorCode::ShuttingDown
            | ErrorCode::DiskFull
            | ErrorCode::NotInSync => true,
            ErrorCode::Internal
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition
            | ErrorCode::TopicExists
            | ErrorCode::InvalidTopicName
            | ErrorCode::InvalidArgument
            | ErrorCode::InvalidBatch
            | ErrorCode::BatchTooLarge
            | ErrorCode::OffsetOutOfRange
            | ErrorCode::OutOfOrderSequence
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::UnknownProducerId
            | ErrorCode::CorruptData
            | ErrorCode::UnsafeRefused
            | ErrorCode::WrongCluster
            | ErrorCode::Unsupported
            | ErrorCode::SingleNotAllowed
            | ErrorCode::UnknownNode => false,
        }
    }
}

/// An error with all that a client needs to act on it.
///
/// Invariant: `message` is at most [`ERROR_MESSAGE_BYTES_MAX`] bytes if made by [`ErrorDetail::new`]; it says what the
/// reader can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDetail {
    /// What went wrong.
    pub code: ErrorCode,
    /// Where.
    pub stage: Stage,
    /// Whether it may have been applied.
    pub outcome: Outcome,
    /// One sentence for people.
    pub message: String,
    /// Who leads, as far as known.
    pub leader: Option<NodeId>,
    /// Where clients reach the leader, as far as known.
    pub leader_address: Option<String>,
    /// When it makes sense to try again, in milliseconds from the receipt.
    pub retry_after_ms: Option<u32>,
    /// The name of the node that says so.
    pub node: Option<String>,
}

impl ErrorDetail {
    /// An error without hints; a message that is too long is cut.
    pub fn new(code: ErrorCode, stage: Stage, outcome: Outcome, message: impl Into<String>) -> ErrorDetail {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
        ErrorDetail {
            code,
            stage,
            outcome,
            message,
            leader: None,
            leader_address: None,
            retry_after_ms: None,
            node: None,
        }
    }

    /// An error of a request that was definitely not applied.
    pub fn rejected(code: ErrorCode, stage: Stage, message: impl Into<String>) -> ErrorDetail {
        ErrorDetail::new(code, stage, Outcome::Rejected, message)
    }

    /// An error of a request that may have been applied.
    pub fn unknown(code: ErrorCode, stage: Stage, message: impl Into<String>) -> ErrorDetail {
        ErrorDetail::new(code, stage, Outcome::Unknown, message)
    }

    /// With a hint who leads and where.
    #[must_use]
    pub fn with_leader(mut self, leader: Option<NodeId>, address: Option<String>) -> ErrorDetail {
        self.leader = leader;
        self.leader_address = address;
        self
    }

    /// With a hint when to try again, in milliseconds.
    #[must_use]
    pub fn with_retry_after_ms(mut self, milliseconds: u32) -> ErrorDetail {
        self.retry_after_ms = Some(milliseconds);
        self
    }

    /// With the name of the node that says so.
    #[must_use]
    pub fn with_node(mut self, node: impl Into<String>) -> ErrorDetail {
        self.node = Some(node.into());
        self
    }

    /// Whether the same request may succeed later or elsewhere; see [`ErrorCode::is_retryable`].
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} at {}", self.message, self.code, self.stage)?;
        if let Some(node) = &self.node {
            write!(f, " of node {node}")?;
        }
        match self.outcome {
            Outcome::Rejected => f.write_str(", not applied")?,
            Outcome::Unknown => f.write_str(", may have been applied")?,
        }
        match (&self.leader, &self.leader_address) {
            (Some(leader), Some(address)) => write!(f, "; the leader is node {leader} at {address}")?,
            (Some(leader), None) => write!(f, "; the leader is node {leader}")?,
            (None, Some(address)) => write!(f, "; the leader is at {address}")?,
            (None, None) => {}
        }
        f.write_str(")")
    }
}

impl std::error::Error for ErrorDetail {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Version 1's numbers and names: clients of every version must read them.
    #[test]
    fn golden_numbers() {
        let listed: Vec<String> = ErrorCode::ALL.iter().map(|c| format!("{}={}", c.number(), c.name())).collect();
        assert_eq!(
            listed.join(" "),
            "1=internal 2=not_leader 3=no_leader 4=unknown_topic 5=unknown_partition 6=topic_exists 7=invalid_topic_name \
             8=invalid_argument 9=invalid_batch 10=batch_too_large 11=offset_out_of_range 12=not_yet_available 13=overloaded \
             14=out_of_order_sequence 15=invalid_producer_epoch 16=unknown_producer_id 17=timeout 18=unavailable \
             19=shutting_down 20=disk_full 21=corrupt_data 22=unsafe_refused 23=wrong_cluster 24=unsupported 25=not_in_sync \
             26=single_not_allowed 27=unknown_node"
        );
        let stages: Vec<String> = Stage::ALL.iter().map(|s| format!("{}={}", s.number(), s.name())).collect();
        assert_eq!(
            stages.join(" "),
            "1=client 2=connection 3=service 4=admission 5=replication 6=storage 7=apply 8=bootstrap"
        );
        let outcomes: Vec<String> = Outcome::ALL.iter().map(|o| format!("{}={}", o.number(), o.name())).collect();
        assert_eq!(outcomes.join(" "), "1=rejected 2=unknown");
    }

    #[test]
    fn numbers_and_names_lead_back() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
            assert_eq!(ErrorCode::from_name(code.name()), Some(code));
        }
        for &stage in Stage::ALL {
            assert_eq!(Stage::from_number(stage.number()), Some(stage));
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
        assert_eq!(ErrorCode::from_number(0), None, "0 is protobuf's \"not set\"");
        assert_eq!(ErrorCode::from_number(u16::MAX), None);
        let names: BTreeSet<&str> = ErrorCode::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn display_says_what_where_and_whether() {
        let error = ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, "no quorum answered")
            .with_leader(Some(NodeId(2)), Some("b:9".into()))
            .with_node("a");
        assert_eq!(
            error.to_string(),
            "no quorum answered (timeout at replication of node a, may have been applied; the leader is node 2 at b:9)"
        );
        let error =
            ErrorDetail::rejected(ErrorCode::UnknownTopic, Stage::Service, "topic x is unknown; create it first");
        assert_eq!(error.to_string(), "topic x is unknown; create it first (unknown_topic at service, not applied)");
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = ErrorDetail::rejected(ErrorCode::Internal, Stage::Client, "ä".repeat(ERROR_MESSAGE_BYTES_MAX));
        assert_eq!(error.message.len(), ERROR_MESSAGE_BYTES_MAX);
        let error = ErrorDetail::rejected(ErrorCode::Internal, Stage::Client, format!("x{}", "ä".repeat(2000)));
        assert_eq!(error.message.len(), ERROR_MESSAGE_BYTES_MAX - 1);
    }
}
