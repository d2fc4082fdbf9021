//! One membership: as of an entry of a log it is the same on every replica, and who is deleted has left it.

use dlog_consensus::Membership;
use dlog_core::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// The memberships of one log, as its replicas have applied them.
#[derive(Debug, Default)]
pub struct Members {
    seen: BTreeMap<LogIndex, Membership>,
}

impl Members {
    /// A replica's membership as of the entry at `index`.
    ///
    /// # Errors
    /// If another replica had another one as of the same entry.
    pub fn seen(&mut self, index: LogIndex, membership: &Membership) -> Result<(), String> {
        match self.seen.get(&index) {
            Some(known) if known == membership => Ok(()),
            Some(known) => Err(format!("the members as of {index} are {membership:?}, and were {known:?}")),
            None => {
                self.seen.insert(index, membership.clone());
                Ok(())
            }
        }
    }

    /// Whether a replica is no member any more.
    ///
    /// # Errors
    /// If the newest membership that anybody has applied still names it.
    pub fn has_left(&self, replica: ReplicaId) -> Result<(), String> {
        match self.seen.last_key_value() {
            Some((_, newest)) if !newest.contains(replica) => Ok(()),
            newest => Err(format!("as far as is known it belongs to its log: {newest:?}")),
        }
    }

    /// How often the members changed.
    pub fn changes(&self) -> u64 {
        self.seen.len().saturating_sub(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;

    #[test]
    fn an_entry_has_one_membership_and_the_newest_decides_who_left() {
        let replica = |node| ReplicaId::new(NodeId(node), 1);
        let mut members = Members::default();
        members.has_left(replica(1)).expect_err("nothing is known");
        members.seen(LogIndex(0), &Membership::of_voters([replica(1), replica(2)])).expect("first");
        members.seen(LogIndex(5), &Membership::of_voters([replica(2)])).expect("changed");
        members.seen(LogIndex(0), &Membership::of_voters([replica(1), replica(2)])).expect("a late one");
        members.seen(LogIndex(5), &Membership::of_voters([replica(1)])).expect_err("another one");
        members.has_left(replica(1)).expect("it is no voter as of 5");
        members.has_left(replica(2)).expect_err("it stays");
        assert_eq!(members.changes(), 1);
    }
}
