//! `Repair`: gets the frames that a replica's disk has lost from the log's other replicas, a part at a time.
//!
//! Any member may have them, whatever it is in its term. What it gives is made into frames here, each chained to the one before,
//! so that other frames than those that stood here can't pass: the last one's CRC must be the one that the fault names.
//!
//! A frame that *every* other member says it doesn't have is lost: that is told, and asked again from time to time, for a member
//! may come back with a better disk. Silence says nothing.

use crate::error::Refusal;
use crate::message::WireEntry;
use crate::ready::frame_after;
use crate::replica::guard::check_entry;
use dlog_core::{Fault, Frame, LogId, LogIndex, MendPlace, Mended, Offset, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// Ticks until a question counts as lost, and somebody else is asked: longer than a read of the disk and the way take.
const ANSWER_TICKS: u64 = 40;
/// Ticks before those are asked again who have said no, or after the own disk had no room.
const AGAIN_TICKS: u64 = 200;

/// A question to another replica: give me what stands behind `after`, up to `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) to: ReplicaId,
    pub(crate) after: LogIndex,
    pub(crate) through: LogIndex,
}

/// Frames for storage to put where they were.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) fault: Fault,
    pub(crate) place: MendPlace,
    pub(crate) frames: Vec<Frame>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    Ask(Question),
    Write(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way before this tick.
    Waits(u64),
    Asked {
        peer: ReplicaId,
        until: u64,
    },
    /// The last frames came from this one; without frames nobody was asked.
    Writes(Option<ReplicaId>),
}

/// One fault on its way to being mended.
#[derive(Clone, Debug)]
struct Mending {
    fault: Fault,
    place: MendPlace,
    state: State,
    /// Who doesn't have what comes next.
    no: BTreeSet<ReplicaId>,
    lost: bool,
    /// Members are asked in turn.
    turn: usize,
}

/// What is damaged, and told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultStatus {
    /// The first frame that can't be read.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// The last one's CRC: another replica's entry with that index may be another one, where this one was never committed.
    pub crc: u32,
    /// No other replica has them either.
    pub lost: bool,
}

/// The faults of one replica.
///
/// Invariant: faults don't overlap; at most one is asked for or written at a time.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    /// By segment and position.
    faults: BTreeMap<(LogIndex, u64, u64), Mending>,
    ticks: u64,
    mended: u64,
}

impl Repair {
    /// Takes in what was found. What is known already goes on as it is.
    pub(crate) fn add(&mut self, found: &[Fault]) {
        for fault in found {
            let overlaps = |known: &Mending| {
                let same_file = (known.fault.segment, known.fault.generation) == (fault.segment, fault.generation);
                same_file && known.fault.position < fault.end && fault.position < known.fault.end
            };
            if !self.faults.values().any(overlaps) {
                let key = (fault.segment, fault.generation, fault.position);
                let (state, no) = (State::Waits(0), BTreeSet::new());
                let turn = self.faults.len();
                self.faults.insert(key, Mending { fault: *fault, place: fault.start(), state, no, lost: false, turn });
            }
        }
    }

    /// What lies wholly below the log start is nobody's business any more: others may have dropped it, and readers don't get it.
    pub(crate) fn forget_below(&mut self, log_start: Offset) {
        let is_below = |fault: &Fault| fault.before.next_offset < log_start && fault.next_offset <= log_start;
        self.faults.retain(|_, one| !is_below(&one.fault) || matches!(one.state, State::Writes(_)));
    }

    /// Whether anything is damaged.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether something is damaged that others may still have.
    pub(crate) fn is_mending(&self) -> bool {
        self.faults.values().any(|one| !one.lost)
    }

    /// What is damaged, in order.
    pub(crate) fn statuses(&self) -> Vec<FaultStatus> {
        let status = |one: &Mending| FaultStatus {
            first: one.place.point.index.next(),
            last: one.fault.last,
            crc: one.fault.crc,
            lost: one.lost,
        };
        self.faults.values().map(status).collect()
    }

    /// How many faults were mended.
    pub(crate) fn mended(&self) -> u64 {
        self.mended
    }

    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        let ticks = self.ticks;
        for one in self.faults.values_mut() {
            if matches!(one.state, State::Asked { until, .. } if until <= ticks) {
                one.state = State::Waits(ticks);
            }
        }
    }

    /// What to do now; `members` are the log's replicas, the own one among them or not.
    pub(crate) fn next(&mut self, own: ReplicaId, members: &[ReplicaId]) -> Option<Next> {
        let mut due = Vec::new();
        for (key, one) in &self.faults {
            // One at a time.
            let State::Waits(from) = one.state else { return None };
            if from <= self.ticks {
                due.push((from, *key));
            }
        }
        // Who waits longest goes first: what only a silent member could mend must not keep the others waiting.
        due.sort_unstable();
        for (_, key) in due {
            let one = self.faults.get_mut(&key).expect("just seen");
            if one.fault.before.index == one.fault.last {
                one.state = State::Writes(None);
                let part = Part { fault: one.fault, place: one.place, frames: Vec::new() };
                return Some(Next::Write(part));
            }
            let others = members.iter().copied().filter(|member| *member != own);
            let asked: Vec<ReplicaId> = others.filter(|member| !one.no.contains(member)).collect();
            if asked.is_empty() {
                one.lost = true;
                one.no.clear();
                one.state = State::Waits(self.ticks + AGAIN_TICKS);
                continue;
            }
            one.turn += 1;
            let peer = asked[one.turn % asked.len()];
            one.state = State::Asked { peer, until: self.ticks + ANSWER_TICKS };
            return Some(Next::Ask(Question { to: peer, after: one.place.point.index, through: one.fault.last }));
        }
        None
    }

    /// An answer to the question what stands behind `after`. `None` as entries: that replica doesn't have it.
    ///
    /// # Errors
    /// [`Refusal`] if nobody asked, or the entries can't stand there.
    pub(crate) fn answered(
        &mut self,
        log: LogId,
        from: ReplicaId,
        after: LogIndex,
        entries: Option<Vec<WireEntry>>,
    ) -> Result<Option<Part>, Refusal> {
        let asked = |one: &&mut Mending| {
            matches!(one.state, State::Asked { peer, .. } if peer == from) && one.place.point.index == after
        };
        let one = self.faults.values_mut().find(asked).ok_or(Refusal::Unasked)?;
        let Some(entries) = entries.filter(|entries| !entries.is_empty()) else {
            one.no.insert(from);
            one.state = State::Waits(0);
            return Ok(None);
        };
        match frames_of(log, one, entries) {
            Ok(frames) => {
                one.state = State::Writes(Some(from));
                Ok(Some(Part { fault: one.fault, place: one.place, frames }))
            }
            Err(refusal) => {
                one.no.insert(from);
                one.state = State::Waits(0);
                Err(refusal)
            }
        }
    }

    /// What storage made of frames; an error is for want of room, say, and they are asked for again.
    pub(crate) fn wrote(&mut self, fault: &Fault, result: Result<Mended, String>) {
        let key = (fault.segment, fault.generation, fault.position);
        let again = self.ticks + AGAIN_TICKS;
        let Some(one) = self.faults.get_mut(&key) else { return };
        let State::Writes(from) = one.state else { return };
        one.state = State::Waits(0);
        match result {
            Ok(Mended::Part(place)) => {
                one.place = place;
                one.no.clear();
                one.lost = false;
            }
            Ok(Mended::Whole) => {
                self.mended += 1;
                self.faults.remove(&key);
            }
            Ok(Mended::Gone) => drop(self.faults.remove(&key)),
            Ok(Mended::Other) => {
                one.place = one.fault.start();
                match from {
                    Some(from) => drop(one.no.insert(from)),
                    None => one.state = State::Waits(again),
                }
            }
            Err(_) => one.state = State::Waits(again),
        }
    }
}

/// The frames of entries that stand behind a fault's place; those behind the fault are left out.
fn frames_of(log: LogId, one: &Mending, entries: Vec<WireEntry>) -> Result<Vec<Frame>, Refusal> {
    let mut at = one.place.point;
    let mut frames = Vec::with_capacity(entries.len());
    for entry in entries.into_iter().take_while(|entry| entry.index <= one.fault.last) {
        if entry.index != at.index.next() {
            return Err(Refusal::Sequence(entry.index));
        }
        check_entry(log, &entry, at.next_offset)?;
        let frame = frame_after(log, at, entry.into_raft());
        at = frame.point();
        frames.push(frame);
    }
    Ok(frames)
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
