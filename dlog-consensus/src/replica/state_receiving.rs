//! Group 0's snapshots on a follower: parts become a state, the state store takes it, and only then the log is reset.
//!
//! The order, and what a start finds after a crash:
//!
//! | crash after | state store | log | the start |
//! |---|---|---|---|
//! | some parts | old | old | as ever; the parts are sent again |
//! | the state store took the state, synced, with its origin | as of the place P | old | if the log hasn't P, it is reset to the origin |
//! | the reset is durable | as of P | begins behind P | as ever |
//!
//! The other way round there would be a log that begins behind P and a state from before it: the commands in between would be lost.
//! A state store that is ahead of the log does no harm: P is committed, and commands up to it are skipped when they come. So
//! nothing has to be undone if leadership changes in between and the reset never comes.

use super::Replica;
use crate::message::{MessageKind, PeerMessage};
use crate::output::Output;
use crate::snapshot::Snapshot;
use crate::state_image::Assembly;
use dlog_core::{LogId, LogIndex, Term};
use raft::StateRole;

/// Parts that nothing followed for so many election timeouts are thrown away: their sender is gone. Longer than it waits itself.
const SILENT_ELECTIONS: u64 = 8;

/// A snapshot that arrives in parts, or is being installed.
pub(crate) struct Incoming {
    /// The last part's, without its bytes: what the crate is told once the state is installed.
    message: PeerMessage,
    head: Snapshot,
    assembly: Assembly,
    bytes: usize,
    installing: bool,
    /// The tick of the last part.
    heard: u64,
}

impl Incoming {
    /// Bytes that are here; all of them while they are being installed.
    fn have(&self) -> usize {
        if self.installing { self.bytes } else { self.assembly.have() }
    }
}

impl Replica {
    /// Whether the log would be reset to it: then its state has to be here first.
    pub(super) fn needs_state(&self, snapshot: &Snapshot) -> bool {
        let point = snapshot.point;
        let view = &self.driver.storage().view;
        self.log == LogId::GROUP_ZERO
            && point.index > self.driver.commit()
            && view.term(point.index) != Some(point.term)
    }

    /// Takes a part and says how much is here. One of another term is left alone: heartbeats bring the term, and the part comes again.
    pub(super) fn take_state_part(&mut self, message: PeerMessage, mut snapshot: Snapshot, out: &mut Vec<Output>) {
        let follows = self.driver.raft().state == StateRole::Follower && message.term == self.term();
        let Some(part) = snapshot.state.take().filter(|_| follows && self.stopping.is_none()) else { return };
        let message = PeerMessage { snapshot: Some(snapshot.encode()), ..message };
        let heard = self.ticks;
        match &mut self.incoming {
            Some(known) if known.head.point == snapshot.point && known.assembly.is_of(&part) => {
                known.heard = heard;
                // The newest sender's: the term may have changed meanwhile.
                (known.message, known.head) = (message, snapshot);
            }
            // The state store takes one at a time.
            Some(known) if known.installing => return,
            other => {
                let (assembly, bytes) = (Assembly::of(&part), part.total);
                *other = Some(Incoming { message, head: snapshot, assembly, bytes, installing: false, heard });
            }
        }
        let Some(incoming) = &mut self.incoming else { return };
        if !incoming.installing {
            incoming.assembly.take(&part);
            if incoming.assembly.is_whole() {
                incoming.installing = true;
                let (index, origin) = (incoming.head.point.index, incoming.head.to_origin());
                match incoming.assembly.finish() {
                    Some(state) => out.push(Output::InstallState { index, state, origin }),
                    None => {
                        tracing::warn!(
                            index = index.0,
                            "the metadata group's state was damaged on its way; it is sent again"
                        );
                        self.refuse_state(out);
                        return;
                    }
                }
            }
        }
        self.answer_part(false, out);
    }

    fn refuse_state(&mut self, out: &mut Vec<Output>) {
        self.answer_part(true, out);
        self.incoming = None;
    }

    fn answer_part(&mut self, reject: bool, out: &mut Vec<Output>) {
        let Some(incoming) = &self.incoming else { return };
        let answer = PeerMessage {
            log: self.log,
            from: self.replica,
            to: incoming.message.from,
            kind: MessageKind::SnapshotResponse,
            term: self.term(),
            log_term: Term::ZERO,
            index: incoming.head.point.index,
            commit: LogIndex::ZERO,
            commit_term: Term::ZERO,
            entries: Vec::new(),
            reject,
            reject_hint: LogIndex(incoming.have() as u64),
            context: bytes::Bytes::new(),
            priority: 0,
            snapshot: None,
        };
        self.driver.send(false, vec![answer], out);
    }

    /// The state store is as of the snapshot's place or later, whatever happens to the log now.
    pub(super) fn on_state_installed(&mut self, index: LogIndex, result: Result<(), String>, out: &mut Vec<Output>) {
        let asked = self.incoming.as_ref().is_some_and(|known| known.installing && known.head.point.index == index);
        if !asked {
            self.halt(format!("a state as of {index} was installed that nobody asked for"), out);
            return;
        }
        if let Err(reason) = result {
            tracing::error!(index = index.0, reason, "the metadata group's state can't be installed; it is sent again");
            self.refuse_state(out);
            return;
        }
        let Some(Incoming { message, head, .. }) = self.incoming.take() else { return };
        if index > self.state_applied {
            self.state_applied = index;
            self.states.replace(head.point);
            self.untold.retain(|frame| frame.index > index);
        }
        // As if the message came now: meanwhile the log may have got there by itself, or the sender may lead no more.
        match self.check_place(&head) {
            Ok(()) => self.step_message(message, Some(head)),
            Err(refusal) => out.push(Output::Refused { from: message.from, refusal }),
        }
    }

    pub(super) fn expire_incoming(&mut self) {
        let silent = SILENT_ELECTIONS * u64::from(self.options.election_ticks);
        let gone = |incoming: &Incoming| !incoming.installing && incoming.heard + silent <= self.ticks;
        if self.incoming.as_ref().is_some_and(gone) {
            self.incoming = None;
        }
    }
}
