//! Changes of membership as the raft crate applies them: each at its place among the committed entries, before the crate is told
//! that they are applied.

use super::Driver;
use crate::configuration::ChangeEntry;
use crate::membership::Membership;
use crate::output::Output;
use bytes::Bytes;
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::WriteOp;
use dlog_core::{LogIndex, MonotonicTime};
use raft_proto::eraftpb::{Entry, EntryType};

/// No leader, in the raft crate's words.
const NOBODY: u64 = 0;

impl Driver {
    /// The membership that the crate counts with. While a snapshot is being installed, that of the snapshot.
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether an entry of configuration may stand in the log and isn't applied: until then the crate makes nothing of another.
    pub(crate) fn is_configuring(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Whether a membership waits for the disk.
    pub(crate) fn is_writing_membership(&self) -> bool {
        self.outstanding.iter().any(|write| write.membership)
    }

    /// The membership as of the entry at `index`.
    pub(crate) fn write_membership(
        &mut self,
        now: MonotonicTime,
        index: LogIndex,
        membership: Bytes,
        out: &mut Vec<Output>,
    ) {
        self.write(now, 0, vec![WriteOp::Configuration { index, membership }], None, out);
    }

    /// Applies the changes of membership among committed entries; gives what they made, and the last one's index.
    pub(super) fn apply_changes(&mut self, committed: &[Entry]) -> Option<(LogIndex, Membership)> {
        let mut changed = None;
        for entry in committed.iter().filter(|entry| entry.get_entry_type() == EntryType::EntryConfChangeV2) {
            let index = LogIndex(entry.index);
            let is_new = index > self.as_of || mutants::is(Mutant::ChangesBelowState);
            if is_new && self.apply_change(index, &entry.data) {
                changed = Some(index);
            }
        }
        changed.map(|index| (index, self.membership.clone()))
    }

    /// `false`: it doesn't fit, and changes nothing. So it is on every replica.
    fn apply_change(&mut self, index: LogIndex, payload: &[u8]) -> bool {
        let change = ChangeEntry::decode(payload).expect("checked before it was appended");
        let after = match change.applied_to(&self.membership) {
            Ok(after) => after,
            Err(reason) => {
                tracing::warn!(log = self.log.0, replica = self.replica.0, %index, reason, "a change of membership is void");
                return false;
            }
        };
        let (raft, replica) = (change.change.to_raft(), self.replica);
        self.call(|raw| {
            raw.apply_conf_change(&raft).expect("what fits the membership fits the crate's");
            // The crate would go on to lead, drop every proposal, and panic at the next sync.
            if raw.raft.state == raft::StateRole::Leader && !after.is_voter(replica) {
                let term = raw.raft.term;
                raw.raft.become_follower(term, NOBODY);
            }
        });
        self.membership = after;
        true
    }
}
