//! From what storage restored to a running replica, in two phases: the loader says which frames it must see, the shell reads them.
//!
//! Needed are the frames above the producer table's index (to replay table and log start to the commit index), those above the
//! state store's applied index (group 0: they go to its apply thread), and those above the commit index (they stay pinned). The
//! crate starts with applied = commit, so it never asks for what the replay has consumed. Changes of membership are replayed
//! from the stored membership's index; a table is only given out when the memberships before it are durable, so what is needed
//! for the table is enough.
//!
//! After a snapshot, table and membership are as of an entry C that the log here may not have reached. Then everything that it
//! has is committed: it came from leaders that had C, which was committed before the snapshot was made.
//!
//! Group 0's state store may be ahead of its log: a snapshot was being installed, and the power went between the state and the log's
//! reset. Then the log is reset here, to the origin that is kept with the state (`replica/state_receiving.rs`).

use crate::configuration::ChangeEntry;
use crate::error::LoadError;
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::options::ReplicaOptions;
use crate::payload;
use crate::producers::ProducerTable;
use crate::replica::{Parts, Replica};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use dlog_core::batch::BatchHeader;
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::{LogPoint, RestoredReplica};
use dlog_core::{Frame, FrameKind, LogId, LogIndex};
use std::ops::Range;

/// A replica on its way up.
#[derive(Debug)]
pub struct ReplicaLoader {
    restored: RestoredReplica,
    membership: Membership,
    /// The entry that made it, or C of the snapshot that brought it.
    membership_index: LogIndex,
    table: ProducerTable,
    /// The entry that the given table is as of.
    table_index: LogIndex,
    commit: LogIndex,
    as_of: LogIndex,
    state_applied: LogIndex,
    first: LogIndex,
    next: LogIndex,
    before: Option<LogPoint>,
    view: LogView,
    commands: Vec<Frame>,
    state_place: LogPoint,
    restart: Option<Box<Snapshot>>,
}

/// What a start finds in the state store of group 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFound {
    /// The last index applied, synced.
    pub applied: LogIndex,
    /// What [`crate::Output::InstallState`] gave to be kept, the last time.
    pub origin: Option<Bytes>,
}

impl ReplicaLoader {
    /// A log without a state store. `state_applied`: of group 0, if its state never came with a snapshot.
    ///
    /// # Errors
    /// As [`ReplicaLoader::with_state`].
    pub fn new(
        restored: RestoredReplica,
        state_applied: LogIndex,
        options: &ReplicaOptions,
    ) -> Result<ReplicaLoader, LoadError> {
        ReplicaLoader::with_state(restored, StateFound { applied: state_applied, origin: None }, options)
    }

    /// `state`: of the log's state store (group 0).
    ///
    /// # Errors
    /// [`LoadError`] if what storage gave contradicts itself: the raft crate would panic on it.
    pub fn with_state(
        mut restored: RestoredReplica,
        state: StateFound,
        options: &ReplicaOptions,
    ) -> Result<ReplicaLoader, LoadError> {
        let (replica, state_applied) = (restored.replica, state.applied);
        let restart = match state.origin {
            Some(origin) if restored.log == LogId::GROUP_ZERO => restart(&mut restored, state_applied, &origin)?,
            _ => None,
        };
        let membership = Membership::decode(&restored.membership)
            .map_err(|error| LoadError::Membership { replica, reason: error.to_string() })?;
        let start = restored.local_start.index;
        let (table_index, table) = producers(&restored, options)?;
        let last = restored.last.index;
        // Table, membership and state store hold nothing that wasn't committed: they may know more than the journal's last commit
        // index.
        let known = table_index.max(restored.membership_index).min(last);
        let commit = restored.commit.max(state_applied).max(known).max(start);
        // Only a snapshot names what isn't here yet, and it names the same for both.
        let ahead = table_index.max(restored.membership_index) > last;
        let halved = ahead && table_index != restored.membership_index;
        let forgotten = restored.log == LogId::GROUP_ZERO && state_applied < start;
        if halved
            || forgotten
            || last < start
            || commit > last
            || table_index < start
            || restored.term < restored.last.term
        {
            let (first, applied) = (start, state_applied);
            return Err(LoadError::Indexes { replica, first, last, commit, applied });
        }
        check_term_starts(&restored)?;
        let membership_index = restored.membership_index;
        // No state is ahead of a change that isn't durable (`Replica::tell_commands`); a start doesn't rely on it.
        let replayed = match restored.log == LogId::GROUP_ZERO {
            true => state_applied.min(membership_index.max(start)),
            false => table_index,
        };
        let first = replayed.min(commit).next();
        let as_of = if ahead { table_index } else { LogIndex::ZERO };
        let view = LogView::new(&restored, commit);
        let place = |at: LogPoint| (at.index == state_applied).then_some(at);
        // Elsewhere the first frame behind it tells.
        let state_place = place(restored.last).or(place(restored.local_start)).unwrap_or_default();
        Ok(ReplicaLoader {
            restored,
            membership,
            membership_index,
            table,
            table_index,
            commit,
            as_of,
            state_applied,
            first,
            next: first,
            before: None,
            view,
            commands: Vec::new(),
            state_place,
            restart,
        })
    }

    /// The replica.
    pub fn replica(&self) -> dlog_core::ReplicaId {
        self.restored.replica
    }

    /// Its log.
    pub fn log(&self) -> LogId {
        self.restored.log
    }

    /// The frames that must be given to [`ReplicaLoader::replay`], in order; empty if none.
    pub fn wanted(&self) -> Range<LogIndex> {
        self.first..self.restored.last.index.next()
    }

    /// The next wanted frame.
    ///
    /// # Errors
    /// [`LoadError::Frame`] if it isn't the next one, or can't be applied.
    pub fn replay(&mut self, frame: Frame) -> Result<(), LoadError> {
        let (replica, expected, found) = (self.restored.replica, self.next, frame.index);
        let wrong = |reason: &str| LoadError::Frame { replica, expected, found, reason: reason.to_owned() };
        if found != expected || found > self.restored.last.index {
            return Err(wrong("it is another one"));
        }
        if self.before.is_some_and(|at| at.crc != frame.previous_crc || at.next_offset != frame.base_offset) {
            return Err(wrong("it doesn't follow the frame before it"));
        }
        if self.view.term(found) != Some(frame.term) {
            return Err(wrong("its term is another one"));
        }
        let (index, term, next_offset, crc) = (frame.index, frame.term, frame.next_offset(), frame.crc);
        let point = LogPoint { index, term, next_offset, crc };
        if found == self.restored.last.index && point != self.restored.last {
            return Err(wrong("it isn't the last frame that storage told of"));
        }
        if found.previous() == self.state_applied {
            let (index, next_offset, crc) = (self.state_applied, frame.base_offset, frame.previous_crc);
            self.state_place = LogPoint { index, term: self.view.term(index).unwrap_or_default(), next_offset, crc };
        }
        if found > self.table_index && found <= self.commit {
            self.apply(&frame).map_err(|reason| wrong(&reason))?;
        }
        match frame.kind {
            FrameKind::Records | FrameKind::NoOp | FrameKind::LogStart | FrameKind::ProducerExpiry => {}
            FrameKind::Configuration if found > self.changed_up_to() && found <= self.commit => {
                self.apply_change(&frame).map_err(|reason| wrong(&reason))?;
            }
            FrameKind::Configuration => {
                drop(ChangeEntry::decode(&frame.payload).map_err(|error| wrong(&error.to_string()))?)
            }
            FrameKind::Command if found > self.state_applied && found <= self.commit => {
                self.commands.push(frame.clone())
            }
            FrameKind::Command => {}
        }
        if found > self.commit {
            self.view.pin_restored(frame);
        }
        self.before = Some(point);
        self.next = found.next();
        Ok(())
    }

    /// Changes up to here are in the membership.
    fn changed_up_to(&self) -> LogIndex {
        if mutants::is(Mutant::ChangesBelowState) { LogIndex::ZERO } else { self.membership_index }
    }

    /// A committed frame that the table doesn't know yet.
    fn apply(&mut self, frame: &Frame) -> Result<(), String> {
        match frame.kind {
            FrameKind::Records if mutants::is(Mutant::ProducersNotRebuilt) => {}
            FrameKind::Records => {
                let header = BatchHeader::decode(&frame.payload).map_err(|error| error.to_string())?;
                self.table.apply(&header, frame.index);
            }
            FrameKind::LogStart => {
                let to = payload::decode_log_start(&frame.payload).map_err(|error| error.to_string())?;
                self.table.move_log_start(to);
            }
            FrameKind::ProducerExpiry => {
                let expired = payload::decode_expiry(&frame.payload).map_err(|error| error.to_string())?;
                self.table.expire(&expired);
            }
            FrameKind::NoOp | FrameKind::Command | FrameKind::Configuration => {}
        }
        Ok(())
    }

    /// A committed change of membership that the stored one doesn't know yet. One that doesn't fit is void, as it was when the
    /// entry was first applied.
    fn apply_change(&mut self, frame: &Frame) -> Result<(), String> {
        let change = ChangeEntry::decode(&frame.payload).map_err(|error| error.to_string())?;
        if let Ok(after) = change.applied_to(&self.membership) {
            (self.membership, self.membership_index) = (after, frame.index);
        }
        Ok(())
    }

    /// The running replica. `seed` must differ between two starts of a node. Commands that group 0's state store hasn't applied
    /// are said with its first step.
    ///
    /// # Errors
    /// [`LoadError::Incomplete`] if frames are missing, [`LoadError::Options`] for options that don't fit together.
    pub fn finish(mut self, options: ReplicaOptions, seed: u64) -> Result<Replica, LoadError> {
        if self.next <= self.restored.last.index {
            return Err(LoadError::Incomplete { replica: self.restored.replica, missing: self.next });
        }
        self.table.set_max(options.producers_max);
        let parts = Parts {
            restored: self.restored,
            membership: self.membership,
            membership_index: self.membership_index,
            view: self.view,
            table: self.table,
            commit: self.commit,
            as_of: self.as_of,
            state_applied: self.state_applied,
            commands: self.commands,
            state_place: self.state_place,
            restart: self.restart,
        };
        Replica::assemble(parts, options, seed)
    }
}

/// The producers of a log, and the entry that they are as of. Group 0 has none.
fn producers(restored: &RestoredReplica, options: &ReplicaOptions) -> Result<(LogIndex, ProducerTable), LoadError> {
    let (replica, start) = (restored.replica, restored.local_start.index);
    let none = ProducerTable::new(options.producers_max);
    if restored.log == LogId::GROUP_ZERO {
        // What a snapshot said of the membership is ahead of the log as it would be with producers.
        let ahead = Some(restored.membership_index).filter(|index| *index > restored.last.index);
        return Ok((ahead.unwrap_or(start), none));
    }
    match &restored.producers {
        Some((index, bytes)) => {
            let table = ProducerTable::decode(bytes, options.producers_max)
                .map_err(|error| LoadError::Producers { replica, reason: error.to_string() })?;
            Ok((*index, table))
        }
        None if start > LogIndex::ZERO => {
            let reason = format!("there is none, but the log begins behind {start}");
            Err(LoadError::Producers { replica, reason })
        }
        None => Ok((start, none)),
    }
}

/// Resets the log to the origin of its state, if it hasn't come as far: then nothing that it holds is both committed and missing
/// from the state. Gives what must be made durable.
fn restart(
    restored: &mut RestoredReplica,
    state_applied: LogIndex,
    origin: &Bytes,
) -> Result<Option<Box<Snapshot>>, LoadError> {
    let replica = restored.replica;
    let mut origin =
        Snapshot::from_origin(origin).map_err(|error| LoadError::Origin { replica, reason: error.to_string() })?;
    let point = origin.point;
    if state_applied < point.index {
        let reason = format!("it is as of {}, the state only as of {state_applied}", point.index);
        return Err(LoadError::Origin { replica, reason });
    }
    let is_behind = restored.local_start.index < point.index;
    if !is_behind || LogView::new(restored, restored.local_start.index).term(point.index) == Some(point.term) {
        return Ok(None);
    }
    if restored.membership_index > origin.as_of {
        // A later snapshot's, whose log began before this state.
        origin.as_of = restored.membership_index;
        origin.membership = Membership::decode(&restored.membership)
            .map_err(|error| LoadError::Membership { replica, reason: error.to_string() })?;
    }
    if restored.term < point.term {
        (restored.term, restored.vote) = (point.term, None);
    }
    (restored.local_start, restored.last, restored.commit) = (point, point, point.index);
    restored.term_starts = Vec::new();
    restored.log_start = restored.log_start.max(origin.log_start);
    (restored.membership_index, restored.membership) = (origin.as_of, origin.membership.encode());
    tracing::info!(
        replica = replica.0,
        index = point.index.0,
        "the log goes on from the snapshot that its state came with"
    );
    Ok(Some(Box::new(origin)))
}

fn check_term_starts(restored: &RestoredReplica) -> Result<(), LoadError> {
    let error = LoadError::TermStarts { replica: restored.replica };
    let (start, last) = (restored.local_start, restored.last);
    let mut before = (start.index, start.term);
    for (number, next) in restored.term_starts.iter().enumerate() {
        // A log that begins in the middle of a term may name that term again.
        let rises = next.term > before.1 || (number == 0 && next.term == before.1);
        if !rises || next.index <= before.0 || next.index > last.index {
            return Err(error);
        }
        before = (next.index, next.term);
    }
    let first = restored.term_starts.first().map(|first| first.index);
    let covers = last.index == start.index || start.term.0 > 0 || first == Some(start.index.next());
    if covers && before.1 == last.term { Ok(()) } else { Err(error) }
}
