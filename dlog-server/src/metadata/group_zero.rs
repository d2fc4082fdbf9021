//! The way to change the catalogue from any node: a command goes to group 0's leader (here, or forwarded over the peer
//! listener), and the caller gets its outcome once *this* node has applied it too, so that it can read what it wrote.

use super::apply_thread::AppliedWatch;
use crate::peer::pool::PeerPool;
use crate::replicas::Replicas;
use crate::shard::inbox::ShardMessage;
use bytes::Bytes;
use dlog_consensus::Reply;
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome, Stage};
use dlog_core::{LogId, LogIndex, NodeId};
use dlog_replication::{Catalogue, Command, CommandOutcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Pause before asking again where group 0's leader is.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The door to group 0. Clones share it.
#[derive(Clone)]
pub struct GroupZero {
    node: NodeId,
    replicas: Arc<Replicas>,
    peers: Arc<PeerPool>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    applied: AppliedWatch,
}

impl GroupZero {
    /// A door for `node`.
    pub fn new(
        node: NodeId,
        replicas: Arc<Replicas>,
        peers: Arc<PeerPool>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        applied: AppliedWatch,
    ) -> GroupZero {
        GroupZero { node, replicas, peers, catalogue, applied }
    }

    /// Has `command` applied exactly once (its request id sees to that) and returns its outcome. Retries, at whoever leads,
    /// until `timeout` has passed.
    ///
    /// # Errors
    /// `timeout` with outcome unknown if the command may yet be applied, `no_leader` rejected if it never left this node.
    pub async fn execute(&self, command: &Command, timeout: Duration) -> Result<CommandOutcome, ErrorDetail> {
        let bytes = command.encode();
        let deadline = Instant::now() + timeout;
        let mut may_be_applied = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(gave_up(may_be_applied, timeout));
            }
            let attempt = tokio::time::timeout(left, self.attempt(bytes.clone(), left)).await;
            match attempt {
                Ok(Ok((index, outcome))) => {
                    self.wait_applied(index, deadline).await.map_err(|()| gave_up(true, timeout))?;
                    return Ok(outcome);
                }
                Ok(Err(error)) if error.is_retryable() => {
                    may_be_applied |= error.outcome == Outcome::Unknown;
                    tokio::time::sleep(RETRY_PAUSE.min(left)).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => may_be_applied = true,
            }
        }
    }

    /// One try, here if group 0 is led here. Returns the index of the command's entry and its outcome.
    async fn attempt(&self, command: Bytes, left: Duration) -> Result<(LogIndex, CommandOutcome), ErrorDetail> {
        let Some(handle) = self.replicas.get(LogId::GROUP_ZERO) else {
            return Err(no_leader("this node has no replica of the metadata group yet"));
        };
        match handle.progress().leader.map(dlog_core::ReplicaId::node) {
            None => Err(no_leader("the metadata group has no leader that this node knows of")),
            Some(leader) if leader == self.node => self.execute_here(command).await,
            Some(leader) => self.peers.forward(leader, command, left).await,
        }
    }

    /// Proposes an encoded command to the replica here, which must lead, and waits until it is applied here.
    ///
    /// # Errors
    /// What the replica answers; `not_leader` if it doesn't lead; `invalid_argument` if the bytes are no command.
    pub async fn execute_here(&self, command: Bytes) -> Result<(LogIndex, CommandOutcome), ErrorDetail> {
        let id = Command::decode(&command)
            .map_err(|rejection| ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, rejection.message))?
            .id;
        let Some(handle) = self.replicas.get(LogId::GROUP_ZERO) else {
            return Err(no_leader("this node has no replica of the metadata group yet"));
        };
        let (reply, answer) = oneshot::channel();
        handle.inbox.send(ShardMessage::Command { replica: handle.replica, command, reply });
        let stopped = || {
            let text = "the node stopped before it could say whether the command was applied";
            ErrorDetail::unknown(ErrorCode::ShuttingDown, Stage::Service, text)
        };
        let index = match answer.await.map_err(|_| stopped())?? {
            Reply::Command { index } => index,
            other => {
                let text = format!("the metadata group answered a command with {other:?}");
                return Err(ErrorDetail::unknown(ErrorCode::Internal, Stage::Service, text));
            }
        };
        self.applied.clone().wait_for(|a| *a >= index).await.map_err(|_| stopped())?;
        let outcome = self.catalogue.borrow().outcome(id).cloned().ok_or_else(|| {
            let text = "the command was applied, but its outcome is no longer known; look at the topic or node itself";
            ErrorDetail::unknown(ErrorCode::Internal, Stage::Service, text)
        })?;
        Ok((index, outcome))
    }

    async fn wait_applied(&self, index: LogIndex, deadline: Instant) -> Result<(), ()> {
        let mut applied = self.applied.clone();
        let wait = applied.wait_for(|a| *a >= index);
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(()),
        }
    }
}

fn no_leader(message: &str) -> ErrorDetail {
    ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Service, format!("{message}; is a majority of its nodes up?"))
        .with_retry_after_ms(50)
}

fn gave_up(may_be_applied: bool, timeout: Duration) -> ErrorDetail {
    let text =
        format!("the metadata group did not answer within {timeout:?}; `dlog cluster health` says what is wrong");
    if may_be_applied {
        ErrorDetail::unknown(ErrorCode::Timeout, Stage::Service, text)
    } else {
        ErrorDetail::rejected(ErrorCode::Timeout, Stage::Service, text)
    }
}
