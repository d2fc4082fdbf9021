//! What a node says it has written must be there after the next start: terms that it answered in, and votes that it gave.

use dlog_consensus::{MessageKind, PeerMessage};
use dlog_core::write::RestoredReplica;
use dlog_core::{ReplicaId, Term};
use std::collections::BTreeMap;

/// The newest promise of each replica.
#[derive(Debug, Default)]
pub struct Promises {
    terms: BTreeMap<ReplicaId, Term>,
    votes: BTreeMap<ReplicaId, (Term, ReplicaId)>,
}

impl Promises {
    /// A replica sends this.
    ///
    /// # Errors
    /// If it gives a second vote in one term.
    pub fn sent(&mut self, message: &PeerMessage) -> Result<(), String> {
        let durable_term = matches!(
            message.kind,
            MessageKind::Append
                | MessageKind::AppendResponse
                | MessageKind::Heartbeat
                | MessageKind::HeartbeatResponse
                | MessageKind::RequestVote
        );
        let vote = match message.kind {
            MessageKind::RequestVoteResponse if !message.reject => Some(message.to),
            MessageKind::RequestVote => Some(message.from),
            _ => None,
        };
        if durable_term || vote.is_some() {
            let term = self.terms.entry(message.from).or_default();
            *term = (*term).max(message.term);
        }
        if let Some(candidate) = vote {
            let now = (message.term, candidate);
            let before = self.votes.insert(message.from, now);
            if before.is_some_and(|(term, whom)| term == now.0 && whom != candidate) {
                return Err(format!("replica {} voted for {before:?} and for {now:?}", message.from));
            }
        }
        Ok(())
    }

    /// A replica is back.
    ///
    /// # Errors
    /// If its disk forgot a term or a vote that it told others of.
    pub fn restored(&self, restored: &RestoredReplica) -> Result<(), String> {
        let replica = restored.replica;
        let term = self.terms.get(&replica).copied().unwrap_or_default();
        if restored.term < term {
            return Err(format!(
                "replica {replica} answered in term {term}, but came back with term {}",
                restored.term
            ));
        }
        match self.votes.get(&replica) {
            Some((term, candidate)) if *term == restored.term && restored.vote != Some(*candidate) => {
                let vote = restored.vote;
                Err(format!("replica {replica} voted for {candidate} in term {term}, but came back with vote {vote:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A replica that was never durable starts anew.
    ///
    /// # Errors
    /// If it had made a promise.
    pub fn created(&self, replica: ReplicaId) -> Result<(), String> {
        match self.terms.get(&replica) {
            Some(term) => Err(format!("replica {replica} answered in term {term}, but its disk knows nothing of it")),
            None => Ok(()),
        }
    }
}
