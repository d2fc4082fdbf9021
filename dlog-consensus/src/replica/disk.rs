//! What a replica does while its node's disk, or that of others, has no room or doesn't answer.
//!
//! Without room no records are taken: not from producers, and once the reserve is half used up not from a leader either. All else
//! goes on: votes, heartbeats, moves of the log start, configurations, commands; there is room for them in the reserve. A
//! follower tells its leader with every answer to a heartbeat. The leader then sends it no records that it would refuse, refuses
//! producers before a majority can take no more (else what they sent stands in the way of the moves of the log start that would
//! make room), and hands over to a voter with room if its own disk is full.
//!
//! A stuck disk can neither vote nor lead: its replica neither campaigns nor lets itself be told to, and a leader hands over.

use super::Replica;
use crate::error::Refusal;
use crate::message::{MessageKind, PeerMessage, WireEntry};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{DiskState, FrameKind, LogId, ReplicaId, SpaceLevel};
use dlog_replication::quorum::majority;
use std::collections::BTreeSet;

/// When a producer that was refused for want of room may try again: room is made in seconds at best.
const RETRY_FULL_MS: u32 = 500;

impl Replica {
    pub(crate) fn set_disk(&mut self, disk: DiskState) {
        self.driver.disk = disk;
    }

    /// What a follower says of its disk with an answer to a heartbeat.
    pub(super) fn note_space(&mut self, message: &mut PeerMessage) {
        if message.kind != MessageKind::HeartbeatResponse {
            return;
        }
        let level = message.take_space();
        if self.driver.is_leader() && message.term == self.term() {
            self.driver.peer_space.insert(message.from, level);
        }
    }

    /// Of entries for an exhausted disk, those that aren't records and stand before the first that is; what is here already
    /// costs nothing.
    pub(super) fn trim(&self, message: &mut PeerMessage) -> Result<(), Refusal> {
        let exhausted = self.driver.disk.space.level == SpaceLevel::Exhausted;
        if !exhausted || message.kind != MessageKind::Append {
            return Ok(());
        }
        let view = &self.driver.storage().view;
        let is_new = |entry: &WireEntry| view.term(entry.index) != Some(entry.term);
        match message.entries.iter().position(|entry| entry.kind == FrameKind::Records && is_new(entry)) {
            None => Ok(()),
            Some(0) => Err(Refusal::DiskFull),
            Some(first) => {
                message.entries.truncate(first);
                Ok(())
            }
        }
    }

    /// Whether records may be appended.
    pub(super) fn check_space(&self) -> Result<(), ErrorDetail> {
        let space = self.driver.disk.space;
        let text = if space.is_full() {
            format!(
                "the leader's disk is full: {space}; free some space there, shorten retention or delete a topic, then writes go on by themselves"
            )
        } else if self.lacks_room() {
            let full: Vec<String> = self.full_voters().map(|voter| voter.node().to_string()).collect();
            format!(
                "the disks of a majority of the partition's replicas are full (nodes {}); free some space there, shorten retention or delete a topic, then writes go on by themselves",
                full.join(", ")
            )
        } else {
            return Ok(());
        };
        Err(ErrorDetail::rejected(ErrorCode::DiskFull, Stage::Storage, text).with_retry_after_ms(RETRY_FULL_MS))
    }

    pub(super) fn has_room(&self, voter: ReplicaId) -> bool {
        if voter == self.replica {
            return !self.driver.disk.space.is_full();
        }
        self.driver.peer_space.get(&voter).is_none_or(|level| *level == SpaceLevel::Ample)
    }

    fn full_voters(&self) -> impl Iterator<Item = ReplicaId> {
        self.membership.voting().filter(|voter| !self.has_room(*voter))
    }

    /// Too few voters could take more records.
    fn lacks_room(&self) -> bool {
        let few = |voters: &BTreeSet<ReplicaId>| {
            voters.iter().filter(|voter| self.has_room(**voter)).count() < majority(voters.len())
        };
        let membership = &self.membership;
        few(&membership.voters) || (!membership.voters_outgoing.is_empty() && few(&membership.voters_outgoing))
    }

    /// Whether records could be led there: a voter that said it has no room can't.
    pub(super) fn may_lead_records(&self, voter: ReplicaId) -> bool {
        self.log == LogId::GROUP_ZERO || self.has_room(voter)
    }

    /// To whom a leader without room hands over: a voter in sync that has said it has room. Group 0 goes on: its commands are let
    /// in.
    pub(super) fn roomier(&self) -> Option<ReplicaId> {
        if !self.driver.disk.space.is_full() || self.log == LogId::GROUP_ZERO {
            return None;
        }
        let fits = |voter: &ReplicaId| {
            let ample = self.driver.peer_space.get(voter) == Some(&SpaceLevel::Ample);
            ample && self.is_ready_to_lead(*voter) && self.peers.in_sync(*voter, self.matched(*voter))
        };
        let others = self.membership.voters.iter().copied().filter(|voter| *voter != self.replica);
        others.filter(fits).max_by_key(|voter| (self.matched(*voter), std::cmp::Reverse(*voter)))
    }
}
