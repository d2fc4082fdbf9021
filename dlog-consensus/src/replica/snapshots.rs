//! Snapshots: sending them to peers whose next entries are no longer kept here, and installing one that came.
//!
//! The raft crate sends a peer nothing else while a snapshot is on its way, until it is told how that went; so each is followed
//! until the peer has answered, the connection broke, or it took too long. Then the crate asks for another if one is needed.

use super::Replica;
use crate::error::Refusal;
use crate::message::{MessageKind, PeerMessage};
use crate::output::Output;
use crate::producers::ProducerTable;
use crate::snapshot::Snapshot;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{LogId, LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// After so many election timeouts without an answer a snapshot counts as lost. Longer than a large table takes to be sent and
/// synced; one that was only late does no harm.
const ANSWER_ELECTIONS: u64 = 4;

/// A snapshot on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    index: LogIndex,
    /// The tick at which it counts as lost.
    until: u64,
}

/// The snapshots that a leader has sent.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    under_way: BTreeMap<ReplicaId, Sent>,
    sent: u64,
    failed: u64,
}

impl Sending {
    /// Leadership is lost: the crate has forgotten them too.
    pub(crate) fn clear(&mut self) {
        self.under_way.clear();
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }
}

impl Replica {
    /// Puts the state as of now into the snapshots that the crate wants sent.
    pub(super) fn send_snapshots(&mut self, mut messages: Vec<PeerMessage>, out: &mut Vec<Output>) {
        // Who was removed by what was just applied is no member of it, and could not install it.
        messages.retain(|message| self.membership.contains(message.to));
        if messages.is_empty() {
            return;
        }
        if self.log == LogId::GROUP_ZERO {
            self.send_states(messages, out);
            return;
        }
        let view = &self.driver.storage().view;
        let mut snapshot = Snapshot {
            point: view.local_start(),
            as_of: view.applied().max(self.as_of),
            log_start: self.log_start,
            membership: self.membership.clone(),
            table: self.producers.table().clone(),
            state: None,
        };
        match () {
            () if mutants::is(Mutant::SnapshotWithoutProducers) => snapshot.table = ProducerTable::new(1),
            () if mutants::is(Mutant::SnapshotOfPlace) => snapshot.as_of = snapshot.point.index,
            () if mutants::is(Mutant::StateOfApplied) => snapshot.as_of = view.applied(),
            () => {}
        }
        let wire = snapshot.encode();
        for message in &mut messages {
            message.snapshot = Some(wire.clone());
            self.count_sent();
            self.await_answer(message.to, wire.index);
        }
        self.driver.send(self.driver.is_leader(), messages, out);
    }

    /// A snapshot is on its way to `peer`, or has got on: from now on the time runs.
    pub(super) fn await_answer(&mut self, peer: ReplicaId, index: LogIndex) {
        let until = self.answer_by();
        self.sending.under_way.insert(peer, Sent { index, until });
    }

    pub(super) fn count_sent(&mut self) {
        self.sending.sent += 1;
    }

    /// The tick at which what is sent now counts as lost.
    pub(super) fn answer_by(&self) -> u64 {
        self.ticks + ANSWER_ELECTIONS * u64::from(self.options.election_ticks)
    }

    /// A peer that has acked a snapshot's place, or more, has it.
    pub(super) fn note_snapshot_answer(&mut self, message: &PeerMessage) {
        let is_answer = message.kind == MessageKind::AppendResponse && !message.reject && message.term == self.term();
        let Some(sent) = self.sending.under_way.get(&message.from).filter(|_| is_answer) else { return };
        if message.index >= sent.index {
            self.sending.under_way.remove(&message.from);
            self.states.end(message.from);
            self.driver.report_snapshot(message.from, true);
        }
    }

    /// The connection to a peer broke: what was on its way there is lost.
    pub(super) fn give_up_snapshot(&mut self, peer: ReplicaId) {
        if self.sending.under_way.remove(&peer).is_some() {
            self.sending.failed += 1;
            self.states.end(peer);
            self.driver.report_snapshot(peer, false);
        }
    }

    /// Gives up what was not answered in time.
    pub(super) fn expire_snapshots(&mut self) {
        let ticks = self.ticks;
        let late = self.sending.under_way.iter().filter(|(_, sent)| sent.until <= ticks);
        let late: Vec<ReplicaId> = late.map(|(peer, _)| *peer).collect();
        for peer in late {
            self.give_up_snapshot(peer);
        }
    }

    /// Checks a snapshot before the crate sees it. `None` for any other message.
    pub(super) fn check_snapshot(&self, message: &PeerMessage) -> Result<Option<Snapshot>, Refusal> {
        let Some(wire) = &message.snapshot else { return Ok(None) };
        let snapshot =
            Snapshot::decode(wire, self.options.producers_max).map_err(|error| Refusal::Snapshot(error.to_string()))?;
        if snapshot.state.is_some() != (self.log == LogId::GROUP_ZERO) {
            return Err(Refusal::Snapshot("only the metadata group's comes with a state, and always".to_owned()));
        }
        self.check_place(&snapshot)?;
        Ok(Some(snapshot))
    }

    /// Whether the log here may be reset to it, or has it already.
    pub(super) fn check_place(&self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let (index, next_offset) = (snapshot.point.index, snapshot.point.next_offset);
        // The crate would drop it, and say that it had taken everything that is committed here.
        if !snapshot.membership.contains(self.replica) {
            return Err(Refusal::Snapshot("this replica is none of its members".to_owned()));
        }
        let commit = self.driver.commit();
        if index > commit && next_offset < self.progress.high_watermark {
            return Err(Refusal::Snapshot("its offsets go back".to_owned()));
        }
        // A leader may be behind the one before in what it has applied. With its table the batches in between would be forgotten;
        // the next snapshot is sent when this one is given up, and by then it has applied more.
        let known = self.driver.installing_as_of().map_or(self.as_of, |as_of| as_of.max(self.as_of));
        if index > commit && snapshot.as_of < known {
            let text = format!("it is as of {}, and what is known here as of {known}", snapshot.as_of);
            return Err(Refusal::Snapshot(text));
        }
        // The crate would take it for news.
        if index == commit && self.driver.storage().view.term(index) != Some(snapshot.point.term) {
            return Err(Refusal::Committed(index));
        }
        Ok(())
    }

    /// The state that came with a snapshot counts from the moment that it is durable.
    pub(super) fn install_snapshot(&mut self, out: &mut Vec<Output>) {
        let Some(snapshot) = self.driver.take_installed() else { return };
        tracing::info!(
            log = self.log.0,
            replica = self.replica.0,
            index = snapshot.point.index.0,
            as_of = snapshot.as_of.0,
            "a snapshot is installed; the records behind it follow"
        );
        self.installed_snapshots += 1;
        debug_assert!(snapshot.as_of >= self.as_of, "checked when it came");
        self.as_of = snapshot.as_of;
        self.membership_index = snapshot.as_of;
        self.membership = snapshot.membership;
        self.changes.wake();
        self.log_start = self.log_start.max(snapshot.log_start);
        self.producers.install(snapshot.table);
        self.tell_producers(out);
    }
}
