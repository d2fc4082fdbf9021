//! Changes of a log's membership, as entries say them: what may stand in one, its bytes, and what it makes of a membership.
//!
//! The bytes are those of raft's `ConfChangeV2` (protobuf: transition = 1, changes = 2 of {kind = 1, replica = 2}), so that the
//! raft crate can read what its own leader proposes, and beside them the intent (4), which the crate skips. What comes from a
//! peer is read here alone, and only in the one form that [`ChangeEntry::encode`] writes: the crate's own parser never sees bytes
//! from a socket.
//!
//! One change is one safe step. The voters change only by a joint state, which is entered and left by an entry each; learners
//! come and go one at a time. A change that doesn't fit the membership it meets changes nothing, on every replica alike: the same
//! entries meet the same membership everywhere.
//!
//! Each entry names the intent that its leader followed, and the membership keeps the newest: a leader that only knows an older
//! one leaves the log as it is. Else it could take the log away from where another leader has said that it is, and the replicas
//! that it takes it to might be deleted on that word.

use crate::membership::Membership;
use crate::message::NUMBER_MAX;
use bytes::Bytes;
use dlog_core::{LogIndex, ReplicaId, limits};
use prost::Message as _;
use raft_proto::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use std::collections::BTreeSet;

/// Voters of one log; bounds the work of counting a majority.
pub(crate) const VOTERS_MAX: usize = limits::REPLICAS_PER_PARTITION_MAX as usize;
/// Replicas that one joint change names: all voters go, and as many come.
const TURNS_MAX: usize = 2 * VOTERS_MAX;

/// No replica: the raft crate passes over a change of it.
const NOBODY: ReplicaId = ReplicaId(0);

/// `ConfChangeTransition` on the wire: none, or a joint state that is left by an entry of its own.
const SIMPLE: i32 = 0;
const JOINT: i32 = 2;

/// What becomes of one replica in a joint change. The numbers are those of `ConfChangeType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// A learner becomes a voter.
    Voter = 0,
    /// A voter leaves.
    Gone = 1,
    /// A voter becomes a learner.
    Learner = 2,
}

/// One safe step of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One learner more, that is no member yet.
    AddLearner(ReplicaId),
    /// One learner less.
    RemoveLearner(ReplicaId),
    /// Into a joint state: the voters after it, beside those before it. In rising order of the replicas, each once.
    Enter(Vec<(ReplicaId, Turn)>),
    /// Out of the joint state.
    Leave,
    /// Nothing but the intent: the log is where it wants it already.
    Note,
}

/// A change as an entry says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangeEntry {
    pub(crate) change: Change,
    /// The intent that is followed; 0 if none is known.
    pub(crate) intent: LogIndex,
}

/// Why bytes are no change of a membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("{0}")]
    Encoding(String),
    #[error("{0}")]
    Invalid(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChangeProto {
    #[prost(int32, tag = "1")]
    transition: i32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<TurnProto>,
    #[prost(uint64, tag = "4")]
    intent: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TurnProto {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    replica: u64,
}

impl Turn {
    fn from_number(number: i32) -> Option<Turn> {
        [Turn::Voter, Turn::Gone, Turn::Learner].into_iter().find(|turn| *turn as i32 == number)
    }

    const fn to_raft(self) -> ConfChangeType {
        match self {
            Turn::Voter => ConfChangeType::AddNode,
            Turn::Gone => ConfChangeType::RemoveNode,
            Turn::Learner => ConfChangeType::AddLearnerNode,
        }
    }
}

impl Change {
    /// The step into the joint state between the voters now and `voters`. Whoever leaves the voters becomes a learner, so that it
    /// hears that its vote has ended before it is removed.
    pub(crate) fn entering(membership: &Membership, voters: &BTreeSet<ReplicaId>) -> Change {
        let come = voters.difference(&membership.voters).map(|replica| (*replica, Turn::Voter));
        let go = membership.voters.difference(voters).map(|replica| (*replica, Turn::Learner));
        let mut turns: Vec<(ReplicaId, Turn)> = come.chain(go).collect();
        turns.sort_unstable();
        Change::Enter(turns)
    }

    fn transition(&self) -> i32 {
        if matches!(self, Change::Enter(_)) { JOINT } else { SIMPLE }
    }

    fn turns(&self) -> Vec<(ReplicaId, Turn)> {
        match self {
            Change::AddLearner(replica) => vec![(*replica, Turn::Learner)],
            Change::RemoveLearner(replica) => vec![(*replica, Turn::Gone)],
            Change::Enter(turns) => turns.clone(),
            Change::Leave => Vec::new(),
            Change::Note => vec![(NOBODY, Turn::Learner)],
        }
    }

    /// The change for the raft crate, which needs no intent.
    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let single = |(replica, turn): (ReplicaId, Turn)| {
            let mut single = ConfChangeSingle { node_id: replica.0, ..ConfChangeSingle::default() };
            single.set_change_type(turn.to_raft());
            single
        };
        let mut change = ConfChangeV2::default();
        if self.transition() == JOINT {
            change.set_transition(ConfChangeTransition::Explicit);
        }
        change.set_changes(self.turns().into_iter().map(single).collect::<Vec<_>>().into());
        change
    }

    /// What it makes of a membership.
    ///
    /// # Errors
    /// The sentence says why it doesn't fit: then it changes nothing.
    pub(crate) fn applied_to(&self, before: &Membership) -> Result<Membership, &'static str> {
        let mut after = before.clone();
        match self {
            Change::Leave if !before.is_joint() => return Err("there is no joint state to leave"),
            Change::Leave => {
                after.learners.append(&mut after.learners_next);
                after.voters_outgoing.clear();
            }
            _ if before.is_joint() => return Err("the joint state must be left first"),
            Change::Note => {}
            Change::AddLearner(replica) if before.contains(*replica) => return Err("it is a member already"),
            Change::AddLearner(replica) => drop(after.learners.insert(*replica)),
            Change::RemoveLearner(replica) if !after.learners.remove(replica) => return Err("it is no learner"),
            Change::RemoveLearner(_) => {}
            Change::Enter(turns) => {
                after.voters_outgoing.clone_from(&before.voters);
                for (replica, turn) in turns {
                    take_turn(&mut after, *replica, *turn)?;
                }
            }
        }
        if after.voters.len() > VOTERS_MAX {
            return Err("too many voters");
        }
        after.validate().map_err(|_| "what it makes is no valid membership")?;
        Ok(after)
    }
}

impl ChangeEntry {
    /// The payload. That of [`Change::Leave`] without an intent is empty.
    pub(crate) fn encode(&self) -> Bytes {
        let turn = |(replica, turn): (ReplicaId, Turn)| TurnProto { kind: turn as i32, replica: replica.0 };
        let changes = self.change.turns().into_iter().map(turn).collect();
        let proto = ChangeProto { transition: self.change.transition(), changes, intent: self.intent.0 };
        Bytes::from(proto.encode_to_vec())
    }

    /// Reads what [`ChangeEntry::encode`] wrote, and nothing else that means the same.
    pub(crate) fn decode(bytes: &[u8]) -> Result<ChangeEntry, ChangeError> {
        let proto = ChangeProto::decode(bytes).map_err(|error| ChangeError::Encoding(error.to_string()))?;
        if proto.changes.len() > TURNS_MAX || proto.intent > NUMBER_MAX {
            return Err(ChangeError::Invalid("it names too many replicas, or an intent that can't be"));
        }
        let mut turns = Vec::with_capacity(proto.changes.len());
        for change in &proto.changes {
            let turn = Turn::from_number(change.kind).ok_or(ChangeError::Invalid("a replica's turn is not known"))?;
            turns.push((ReplicaId(change.replica), turn));
        }
        let change = match (proto.transition, &turns[..]) {
            (SIMPLE, []) => Change::Leave,
            (SIMPLE, [(NOBODY, Turn::Learner)]) => Change::Note,
            (SIMPLE, [(replica, Turn::Learner)]) => Change::AddLearner(*replica),
            (SIMPLE, [(replica, Turn::Gone)]) => Change::RemoveLearner(*replica),
            (JOINT, [_, ..]) => Change::Enter(turns),
            _ => return Err(ChangeError::Invalid("voters change only through a joint state")),
        };
        let turns = if change == Change::Note { Vec::new() } else { change.turns() };
        if turns.iter().any(|(replica, _)| replica.node().0 == 0) {
            return Err(ChangeError::Invalid("a replica id without a node"));
        }
        if turns.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(ChangeError::Invalid("its replicas are not in order"));
        }
        let entry = ChangeEntry { change, intent: LogIndex(proto.intent) };
        if entry.encode() != bytes {
            return Err(ChangeError::Invalid("it is written in another form"));
        }
        Ok(entry)
    }

    /// What it makes of a membership.
    ///
    /// # Errors
    /// The sentence says why it doesn't fit: then it changes nothing.
    pub(crate) fn applied_to(&self, before: &Membership) -> Result<Membership, &'static str> {
        let mut after = self.change.applied_to(before)?;
        after.intent = after.intent.max(self.intent);
        Ok(after)
    }
}

/// One replica's part of a joint change.
fn take_turn(after: &mut Membership, replica: ReplicaId, turn: Turn) -> Result<(), &'static str> {
    let fits = match turn {
        Turn::Voter => after.learners.remove(&replica) && after.voters.insert(replica),
        Turn::Gone => after.voters.remove(&replica),
        Turn::Learner => after.voters.remove(&replica) && after.learners_next.insert(replica),
    };
    if fits { Ok(()) } else { Err("only a learner can become a voter, and only a voter can leave the voters") }
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
