//! Errors on their way out: completed with what this node knows (its name, the leader's address), in the form of the call.

use crate::context::NodeContext;
use crate::replicas::ReplicaProgress;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{NodeId, ReplicaId};
use dlog_protocol::{status, v1};
use dlog_storage::StorageError;
use tonic::Status;

/// How long a client should wait before it asks again while a leader is being elected: two heartbeats.
const ELECTION_RETRY_MS: u32 = 200;

/// The error of a call that fails as a whole.
pub fn to_status(context: &NodeContext, error: ErrorDetail) -> Status {
    context.metrics.error(error.code);
    status::to_status(&context.complete_error(error))
}

/// The error of one part of an answer.
pub fn to_wire(context: &NodeContext, error: ErrorDetail) -> v1::ErrorDetail {
    context.metrics.error(error.code);
    status::to_message(&context.complete_error(error))
}

/// A request that is wrong in itself: sending it again won't help.
pub fn invalid_argument(message: impl Into<String>) -> ErrorDetail {
    ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, message)
}

/// The answer of a node that goes down: the same request is welcome at another one.
pub fn shutting_down() -> ErrorDetail {
    ErrorDetail::rejected(ErrorCode::ShuttingDown, Stage::Service, "the node is going down; go on at another one")
}

/// The answer of a replica that doesn't lead: who does, as far as it knows. `own` is this node, which can't be the hint.
pub fn not_leader(own: NodeId, progress: &ReplicaProgress) -> ErrorDetail {
    match progress.leader.map(ReplicaId::node).filter(|leader| *leader != own) {
        Some(leader) => {
            let text = format!("this replica doesn't lead the partition; node {leader} does");
            ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Service, text).with_leader(Some(leader), None)
        }
        None => {
            let text = "nobody is known to lead the partition just now; ask again in a moment";
            ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Service, text).with_retry_after_ms(ELECTION_RETRY_MS)
        }
    }
}

/// What a reader of the log is told when storage can't give it.
pub fn from_storage(error: &StorageError) -> ErrorDetail {
    let code = match error {
        StorageError::Corrupt { .. } => ErrorCode::CorruptData,
        StorageError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StorageError::Io { .. } | StorageError::Poisoned { .. } | StorageError::Full { .. } => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    };
    ErrorDetail::rejected(code, Stage::Storage, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_consensus::Role;
    use dlog_core::{LogIndex, Offset, Term};

    fn progress(leader: Option<ReplicaId>) -> ReplicaProgress {
        ReplicaProgress {
            high_watermark: Offset::ZERO,
            commit: LogIndex::ZERO,
            read_bound: Offset::ZERO,
            log_end: Offset::ZERO,
            log_start: Offset::ZERO,
            term: Term(3),
            role: Role::Follower,
            leader,
        }
    }

    #[test]
    fn a_hint_never_points_back_here() {
        let here = NodeId(1);
        let error = not_leader(here, &progress(Some(ReplicaId::new(NodeId(2), 9))));
        assert_eq!((error.code, error.leader), (ErrorCode::NotLeader, Some(NodeId(2))));
        for leader in [None, Some(ReplicaId::new(here, 9))] {
            let error = not_leader(here, &progress(leader));
            assert_eq!((error.code, error.leader), (ErrorCode::NoLeader, None));
            assert!(error.is_retryable() && error.retry_after_ms.is_some());
        }
    }

    #[test]
    fn damage_is_told_as_damage() {
        let error = from_storage(&StorageError::corrupt("logs/1/2/3.segment", 77, "bad checksum"));
        assert_eq!(error.code, ErrorCode::CorruptData);
        assert!(error.message.contains("3.segment") && error.message.contains("77"), "{}", error.message);
        let range = StorageError::OutOfRange { log_start: Offset(5), end: Offset(9) };
        assert_eq!(from_storage(&range).code, ErrorCode::OffsetOutOfRange);
    }
}
