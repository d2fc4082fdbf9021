//! Group 0's snapshots on the leader: its state is asked of the apply thread, and goes to a peer in parts.
//!
//! A snapshot's place is the last command of the state, not the local start: the peer goes on from there, so the log may be
//! shortened meanwhile by as much as is always kept behind the state. One part is in flight to a peer; its answer says how much is
//! there, and asks for the next. A part without an answer is sent again; what is complete is asked about until the peer has
//! installed it. Peers that need one at the same time share the image.

use super::Replica;
use crate::message::PeerMessage;
use crate::output::Output;
use crate::snapshot::Snapshot;
use crate::state_image::StateImage;
use dlog_core::limits::STATE_BYTES_MAX;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, LogIndex, ReplicaId};
use std::collections::{BTreeMap, VecDeque};

/// A part without an answer is sent again after so many heartbeats: longer than a round trip and the write of one MiB take.
const RESEND_HEARTBEATS: u64 = 4;

/// A state that is at hand.
struct Taken {
    point: LogPoint,
    image: StateImage,
    /// The tick at which it is let go, unless it is on its way to someone.
    until: u64,
}

/// A snapshot on its way to one peer.
struct Outgoing {
    /// As the crate made it.
    message: PeerMessage,
    /// What every part begins with.
    head: Snapshot,
    image: StateImage,
    /// Bytes that the peer has, as it last told.
    have: usize,
    resend_at: u64,
}

/// What a leader of group 0 has to send.
///
/// Invariants: `handed` rises; its first place is the last command known to be applied, or one before it.
pub(crate) struct StateSending {
    /// Where the commands stand that the apply thread was given.
    handed: VecDeque<LogPoint>,
    asked: bool,
    taken: Option<Taken>,
    under_way: BTreeMap<ReplicaId, Outgoing>,
}

impl StateSending {
    /// The apply thread has applied the command at `applied`.
    pub(crate) fn new(applied: LogPoint) -> StateSending {
        let handed = VecDeque::from([applied]);
        StateSending { handed, asked: false, taken: None, under_way: BTreeMap::new() }
    }

    /// Commands go to the apply thread. Behind a state that was installed it may have some already.
    pub(crate) fn hand_over(&mut self, commands: &[Frame], applied: LogIndex) {
        let place = |frame: &Frame| {
            let (index, term, next_offset, crc) = (frame.index, frame.term, frame.next_offset(), frame.crc);
            LogPoint { index, term, next_offset, crc }
        };
        self.handed.extend(commands.iter().filter(|frame| frame.index > applied).map(place));
    }

    /// The state was replaced by one as of `point`.
    pub(crate) fn replace(&mut self, point: LogPoint) {
        self.handed.retain(|known| known.index > point.index);
        self.handed.push_front(point);
    }

    /// Nothing is on its way to this peer any more.
    pub(crate) fn end(&mut self, peer: ReplicaId) {
        self.under_way.remove(&peer);
    }
}

impl Replica {
    pub(super) fn on_applied(&mut self, index: LogIndex) {
        self.state_applied = self.state_applied.max(index);
        let handed = &mut self.states.handed;
        while handed.get(1).is_some_and(|second| second.index <= self.state_applied) {
            handed.pop_front();
        }
    }

    /// The crate wanted to send a snapshot, and no state was at hand.
    pub(super) fn ask_for_state(&mut self, out: &mut Vec<Output>) {
        let wanted = self.driver.storage().take_state_wanted() && self.driver.is_leader();
        if wanted && !std::mem::replace(&mut self.states.asked, true) {
            out.push(Output::TakeState);
        }
    }

    pub(super) fn on_state_taken(&mut self, index: LogIndex, image: StateImage) {
        self.states.asked = false;
        if image.len() > STATE_BYTES_MAX {
            tracing::error!(
                bytes = image.len(),
                max = STATE_BYTES_MAX,
                "the metadata group's state is too large for a snapshot; delete topics, or nodes that were away stay behind"
            );
            return;
        }
        let point = self.states.handed.iter().find(|point| point.index == index).copied();
        // Behind a state that was installed the log may have to catch up first. The crate asks again with the next heartbeat.
        let Some(point) = point.filter(|point| point.index <= self.driver.storage().view.applied()) else { return };
        if self.driver.is_leader() {
            self.states.taken = Some(Taken { point, image, until: self.answer_by() });
            self.driver.storage_mut().set_state_place(Some(point));
        }
    }

    /// The crate sends the peers of these a snapshot as of the state that is at hand.
    pub(super) fn send_states(&mut self, messages: Vec<PeerMessage>, out: &mut Vec<Output>) {
        // Leadership may have ended with the very entries that were just applied.
        let Some(taken) = self.states.taken.as_ref().filter(|_| self.driver.is_leader()) else { return };
        let head = Snapshot {
            point: taken.point,
            as_of: self.driver.storage().view.applied().max(self.as_of),
            log_start: self.log_start,
            membership: self.membership.clone(),
            table: self.producers.table().clone(),
            state: None,
        };
        let image = taken.image.clone();
        for message in messages {
            let peer = message.to;
            let (head, image) = (head.clone(), image.clone());
            self.count_sent();
            self.await_answer(peer, head.point.index);
            self.states.under_way.insert(peer, Outgoing { message, head, image, have: 0, resend_at: 0 });
            self.send_part(peer, out);
        }
    }

    fn send_part(&mut self, peer: ReplicaId, out: &mut Vec<Output>) {
        let resend_at = self.ticks + RESEND_HEARTBEATS * u64::from(self.options.heartbeat_ticks);
        let Some(outgoing) = self.states.under_way.get_mut(&peer) else { return };
        outgoing.resend_at = resend_at;
        let part = Snapshot { state: Some(outgoing.image.part(outgoing.have)), ..outgoing.head.clone() };
        let message = PeerMessage { snapshot: Some(part.encode()), ..outgoing.message.clone() };
        self.driver.send(self.driver.is_leader(), vec![message], out);
    }

    /// A peer told how much it has.
    pub(super) fn on_snapshot_response(&mut self, message: &PeerMessage, out: &mut Vec<Output>) {
        let (peer, index) = (message.from, message.index);
        if !self.driver.is_leader() || message.term != self.term() {
            return;
        }
        let Some(outgoing) = self.states.under_way.get_mut(&peer).filter(|sent| sent.head.point.index == index) else {
            return;
        };
        self.peers.hear(peer);
        if message.reject {
            self.give_up_snapshot(peer);
            return;
        }
        let have = usize::try_from(message.reject_hint.0).unwrap_or(usize::MAX);
        if have > outgoing.image.len() {
            return;
        }
        let moved = std::mem::replace(&mut outgoing.have, have) != have;
        self.await_answer(peer, index);
        if moved && self.states.under_way.get(&peer).is_some_and(|sent| sent.have < sent.image.len()) {
            self.send_part(peer, out);
        }
    }

    /// Sends again what has no answer, and lets go of what nobody needs.
    pub(super) fn tick_states(&mut self, out: &mut Vec<Output>) {
        let late = self.states.under_way.iter().filter(|(_, sent)| sent.resend_at <= self.ticks);
        let late: Vec<ReplicaId> = late.map(|(peer, _)| *peer).collect();
        for peer in late {
            self.send_part(peer, out);
        }
        let unused = self.states.under_way.is_empty();
        if unused && self.states.taken.as_ref().is_some_and(|taken| taken.until <= self.ticks) {
            self.let_go_of_state();
        }
        self.expire_incoming();
    }

    /// Leadership is lost.
    pub(super) fn forget_states(&mut self) {
        self.states.under_way.clear();
        if self.states.taken.is_some() {
            self.let_go_of_state();
        }
    }

    fn let_go_of_state(&mut self) {
        self.states.taken = None;
        self.driver.storage_mut().set_state_place(None);
    }
}
