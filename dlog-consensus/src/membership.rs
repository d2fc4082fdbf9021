//! Who votes on a log and who only follows: dlog's own form of raft's configuration, and its encoding.
//!
//! The encoding is protobuf with uint64 lists `voters = 1`, `learners = 2`, `voters_outgoing = 3`, `learners_next = 4`, each in
//! rising order, and a uint64 `intent = 5`: journal, checkpoint and snapshots hold these bytes and don't look into them.

use bytes::Bytes;
use dlog_core::{LogIndex, ReplicaId, limits};
use dlog_replication::bootstrap::GroupZero;
use prost::Message as _;
use raft_proto::eraftpb::ConfState;
use std::collections::BTreeSet;

/// Members of one list: voters as the limit says, learners up to one for each node (group 0).
const MEMBERS_MAX: usize = limits::NODES_MAX;

/// The members of one log.
///
/// Invariants (checked by [`Membership::validate`]): at least one voter; no replica is both voter and learner; no id is 0;
/// `learners_next` are voters on their way out; without `voters_outgoing` there are no `learners_next`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Membership {
    /// Those whose majority decides.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who get everything and decide nothing.
    pub learners: BTreeSet<ReplicaId>,
    /// While a change is under way: the voters before it, whose majority is needed too.
    pub voters_outgoing: BTreeSet<ReplicaId>,
    /// Outgoing voters that become learners when the change is done.
    pub learners_next: BTreeSet<ReplicaId>,
    /// The newest intent that a change of the log was made for; 0 for none. An older one is not followed any more.
    pub intent: LogIndex,
}

/// What a member is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It votes, and goes on to vote when a change under way is done.
    Voter,
    /// It gets everything and decides nothing.
    Learner,
    /// It votes until the change under way is done.
    Outgoing,
}

/// Why bytes or lists are not a membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Not the encoding.
    #[error("not an encoded membership: {0}")]
    Encoding(String),
    /// A rule is broken.
    #[error("not a valid membership: {0}")]
    Invalid(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct MembershipProto {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    learners_next: Vec<u64>,
    #[prost(uint64, tag = "5")]
    intent: u64,
}

impl Membership {
    /// A membership of these voters and no one else.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Membership {
        Membership { voters: voters.into_iter().collect(), ..Membership::default() }
    }

    /// The members that a partition is created with, for the intent that made it.
    pub fn of_creation(voters: impl IntoIterator<Item = ReplicaId>, intent: LogIndex) -> Membership {
        Membership { intent, ..Membership::of_voters(voters) }
    }

    /// Group 0's first members: they follow from the bootstrap set alone.
    pub fn of_group_zero(members: GroupZero) -> Membership {
        Membership { learners: members.learners.into_iter().collect(), ..Membership::of_voters(members.voters) }
    }

    /// Checks the rules above.
    ///
    /// # Errors
    /// [`MembershipError::Invalid`] names the rule.
    pub fn validate(&self) -> Result<(), MembershipError> {
        let lists = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        let rules = [
            (!self.voters.is_empty(), "no voter"),
            (self.voters.is_disjoint(&self.learners), "a voter is a learner too"),
            (self.voters_outgoing.is_disjoint(&self.learners), "an outgoing voter is a learner too"),
            (self.learners_next.is_subset(&self.voters_outgoing), "a next learner is no outgoing voter"),
            (self.voters.is_disjoint(&self.learners_next), "a next learner stays a voter"),
            (lists.iter().all(|list| list.iter().all(|id| id.node().0 != 0)), "a replica id without a node"),
            (lists.iter().all(|list| list.len() <= MEMBERS_MAX), "too many members"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(MembershipError::Invalid(broken)),
            None => Ok(()),
        }
    }

    /// Whether this replica has a vote, before or after a change under way.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.contains(&replica) || self.voters_outgoing.contains(&replica)
    }

    /// Whether a change of voters is under way: then a majority of those before it is needed too.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether this replica belongs to the log.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.is_voter(replica) || self.learners.contains(&replica)
    }

    /// Every replica with a vote once, in rising order: while a change is under way, those before and after it.
    pub fn voting(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.voters.union(&self.voters_outgoing).copied()
    }

    /// What this member is; `None` for others.
    pub fn standing_of(&self, replica: ReplicaId) -> Option<Standing> {
        if self.voters.contains(&replica) {
            Some(Standing::Voter)
        } else if self.voters_outgoing.contains(&replica) {
            Some(Standing::Outgoing)
        } else {
            self.learners.contains(&replica).then_some(Standing::Learner)
        }
    }

    /// Every member once, in rising order.
    pub fn members(&self) -> BTreeSet<ReplicaId> {
        let all = self.voters.iter().chain(&self.learners).chain(&self.voters_outgoing);
        all.copied().collect()
    }

    /// The bytes that storage keeps.
    pub fn encode(&self) -> Bytes {
        let ids = |list: &BTreeSet<ReplicaId>| list.iter().map(|id| id.0).collect();
        let proto = MembershipProto {
            voters: ids(&self.voters),
            learners: ids(&self.learners),
            voters_outgoing: ids(&self.voters_outgoing),
            learners_next: ids(&self.learners_next),
            intent: self.intent.0,
        };
        Bytes::from(proto.encode_to_vec())
    }

    /// Reads what [`Membership::encode`] wrote.
    ///
    /// # Errors
    /// [`MembershipError`]; never a membership that breaks a rule.
    pub fn decode(bytes: &[u8]) -> Result<Membership, MembershipError> {
        let proto = MembershipProto::decode(bytes).map_err(|error| MembershipError::Encoding(error.to_string()))?;
        let set = |list: Vec<u64>| list.into_iter().map(ReplicaId).collect();
        let membership = Membership {
            voters: set(proto.voters),
            learners: set(proto.learners),
            voters_outgoing: set(proto.voters_outgoing),
            learners_next: set(proto.learners_next),
            intent: LogIndex(proto.intent),
        };
        membership.validate()?;
        Ok(membership)
    }

    pub(crate) fn to_conf_state(&self) -> ConfState {
        let ids = |list: &BTreeSet<ReplicaId>| list.iter().map(|id| id.0).collect::<Vec<u64>>();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_learners(ids(&self.learners));
        state.set_voters_outgoing(ids(&self.voters_outgoing));
        state.set_learners_next(ids(&self.learners_next));
        // Leaving a joint configuration is proposed by a leader that stays a voter, never by the crate.
        state.auto_leave = false;
        state
    }
}

/// The bytes of a membership, for a replica's create record.
pub fn encode_membership(membership: &Membership) -> Bytes {
    membership.encode()
}

/// Reads the bytes of a membership.
///
/// # Errors
/// [`MembershipError`] says what is wrong with them.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, MembershipError> {
    Membership::decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;
    use proptest::prelude::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), 1)
    }

    #[test]
    fn golden_bytes() {
        let mut membership = Membership::of_voters([ReplicaId::new(NodeId(1), 0)]);
        membership.learners.insert(ReplicaId::new(NodeId(2), 1));
        let hex: String = membership.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0a058080808010120581 80808020".replace(' ', ""));
    }

    #[test]
    fn rules_are_checked() {
        assert_eq!(Membership::default().validate(), Err(MembershipError::Invalid("no voter")));
        let mut both = Membership::of_voters([replica(1)]);
        both.learners.insert(replica(1));
        assert!(both.validate().is_err());
        assert!(Membership::decode(&both.encode()).is_err());
        assert!(Membership::of_voters([ReplicaId(7)]).validate().is_err(), "no node in the upper half");
    }

    proptest! {
        #[test]
        fn round_trip(voters in proptest::collection::btree_set(1u32..50, 1..9), learners in proptest::collection::btree_set(51u32..90, 0..9)) {
            let mut membership = Membership::of_voters(voters.into_iter().map(replica));
            membership.learners = learners.into_iter().map(replica).collect();
            prop_assert_eq!(Membership::decode(&membership.encode()).expect("own bytes"), membership);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(membership) = Membership::decode(&bytes) {
                prop_assert!(membership.validate().is_ok());
            }
        }
    }
}
