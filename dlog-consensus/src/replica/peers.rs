//! What a leader knows of its peers beside raft's progress: when each was last heard, and which are in sync.

use dlog_core::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// A leader's notes of one term, in ticks of its own clock.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    election_ticks: u64,
    heartbeat_ticks: u64,
    now: u64,
    led_since: u64,
    heard: BTreeMap<ReplicaId, u64>,
    /// The commit index at the last heartbeat, and at the one before.
    commit_marks: [LogIndex; 2],
}

impl Peers {
    pub(crate) fn new(election_ticks: u32, heartbeat_ticks: u32) -> Peers {
        Peers { election_ticks: election_ticks.into(), heartbeat_ticks: heartbeat_ticks.into(), ..Peers::default() }
    }

    /// A new term, or a new role in it.
    pub(crate) fn reset(&mut self) {
        self.heard.clear();
        self.led_since = self.now;
        self.commit_marks = [LogIndex::ZERO; 2];
    }

    pub(crate) fn tick(&mut self, commit: LogIndex) {
        self.now += 1;
        if self.now.is_multiple_of(self.heartbeat_ticks) {
            self.commit_marks = [commit, self.commit_marks[0]];
        }
    }

    pub(crate) fn hear(&mut self, peer: ReplicaId) {
        self.heard.insert(peer, self.now);
    }

    pub(crate) fn silent_ticks(&self, peer: ReplicaId) -> Option<u64> {
        self.heard.get(&peer).map(|tick| self.now - tick)
    }

    /// Durable up to the commit index of one heartbeat ago.
    pub(crate) fn keeps_up(&self, matched: LogIndex) -> bool {
        matched >= self.commit_marks[1]
    }

    /// Heard within one election timeout, and durable up to the commit index of one heartbeat ago.
    pub(crate) fn in_sync(&self, peer: ReplicaId, matched: LogIndex) -> bool {
        self.silent_ticks(peer).is_some_and(|ticks| ticks <= self.election_ticks) && self.keeps_up(matched)
    }

    /// Whether `acks=all` waits for this peer: it is in sync, or the leader is too new to know.
    pub(crate) fn is_awaited(&self, peer: ReplicaId, matched: LogIndex) -> bool {
        let unknown_yet = !self.heard.contains_key(&peer) && self.now - self.led_since <= self.election_ticks;
        unknown_yet || self.in_sync(peer, matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;

    #[test]
    fn a_peer_is_in_sync_while_it_is_heard_and_keeps_up() {
        let peer = ReplicaId::new(NodeId(2), 1);
        let mut peers = Peers::new(10, 2);
        assert!(!peers.in_sync(peer, LogIndex(0)));
        assert!(peers.is_awaited(peer, LogIndex(0)), "a new leader doesn't know yet");
        peers.hear(peer);
        assert!(peers.in_sync(peer, LogIndex(0)));
        for _ in 0..4 {
            peers.tick(LogIndex(9));
        }
        assert!(!peers.in_sync(peer, LogIndex(8)), "one heartbeat ago 9 was committed");
        assert!(peers.in_sync(peer, LogIndex(9)));
        for _ in 0..7 {
            peers.tick(LogIndex(9));
        }
        assert!(!peers.in_sync(peer, LogIndex(9)) && !peers.is_awaited(peer, LogIndex(9)), "silent for too long");
    }
}
