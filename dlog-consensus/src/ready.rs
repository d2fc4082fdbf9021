//! The driver of `raft::RawNode`: the only place that touches `Ready`, `LightReady` and `advance_*`.
//!
//! After every call into the crate its `Ready` is drained at once, so between two inputs the [`LogView`](crate::log_view::LogView)
//! is the crate's log. A `Ready` becomes at most one write. What may leave before that write is durable:
//!
//! * a leader's messages, if no hard state is still waiting for the disk: then its current term and vote are durable, and no
//!   later life of this replica can lead the same term again with other entries;
//! * a follower's answer to a heartbeat, on the same condition: it promises nothing about the log, and a follower with a busy disk
//!   must not look dead;
//! * a follower's question where the log ends, and how much of a state it has, likewise;
//! * nothing else: a follower's and a candidate's messages wait for every write made before them.
//!
//! The crate is told of durable writes in their order (`on_persist_ready`); it counts a leader's own entries only then.
//!
//! A snapshot resets the log in one write. Until that is durable, frames from before may still be reported as durable or written
//! out, so the reset counts as a cut of everything behind its place; and the state that came with it waits as well.

mod configuring;

use crate::election::ElectionTimer;
use crate::error::LoadError;
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::message::{MessageKind, PeerMessage, kind_of};
use crate::options::ReplicaOptions;
use crate::output::{FetchId, Output, WriteId};
use crate::raft_storage::RaftStorage;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use dlog_core::batch::BatchHeader;
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, WriteOp};
use dlog_core::{DiskState, Frame, FrameKind, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, SpaceLevel, Term};
use raft::{Raft, RawNode, Ready, SnapshotStatus, StateRole};
use raft_proto::eraftpb::{Entry, HardState};
use std::collections::{BTreeMap, VecDeque};

/// Messages that wait for one write at most; more are dropped, as the network may do. Bounds what a stuck disk costs.
const HELD_MESSAGES_MAX: usize = 1024;

/// A write that isn't durable yet.
struct Outstanding {
    id: WriteId,
    /// The last `Ready` that is durable with it.
    ready: u64,
    hard_state: bool,
    frames: bool,
    membership: bool,
    /// Frames from here on were cut by it.
    cut: Option<LogIndex>,
    /// The log was reset to this snapshot by it.
    snapshot: Option<Box<Snapshot>>,
    since: MonotonicTime,
    messages: Vec<PeerMessage>,
}

/// What a drain found, for the replica to act on.
#[derive(Default)]
pub(crate) struct Drained {
    /// Entries that are committed and durable here, in order.
    pub(crate) committed: Vec<Frame>,
    /// The membership that they made, if they changed it, and the entry that did so last.
    pub(crate) membership: Option<(LogIndex, Membership)>,
    /// Reads that were confirmed: context and index.
    pub(crate) reads: Vec<(Bytes, LogIndex)>,
    /// Snapshots to be sent, still without what they hold.
    pub(crate) snapshots: Vec<PeerMessage>,
}

/// The raft crate's node with its writes and messages.
///
/// Invariants: write ids rise; `outstanding` holds every write with operations that isn't durable, in order.
pub(crate) struct Driver {
    raw: RawNode<RaftStorage>,
    election: ElectionTimer,
    replica: ReplicaId,
    log: LogId,
    /// The crate's, in dlog's words.
    membership: Membership,
    /// C of the last snapshot: entries up to it change no membership.
    as_of: LogIndex,
    /// Term and vote as last written.
    hard_state: (u64, u64),
    last_write: u64,
    noted_commit: u64,
    outstanding: VecDeque<Outstanding>,
    /// How many of those hold a hard state, and a cut: behind a slow disk the queue is long, and every step asks.
    hard_states: usize,
    cuts: usize,
    /// The last `Ready` that is durable; the crate may not have been told of it yet.
    durable: u64,
    /// The snapshot of the message that is being stepped.
    offered: Option<Box<Snapshot>>,
    /// A snapshot whose write is durable, for the crate and the replica to be told of.
    installed: Option<Box<Snapshot>>,
    /// What the node's disk allows.
    pub(crate) disk: DiskState,
    /// How much room the disks of a leader's peers have, as they said in this term.
    pub(crate) peer_space: BTreeMap<ReplicaId, SpaceLevel>,
}

impl Driver {
    /// Starts the crate on a restored log. Whatever could panic it was checked by the loader.
    pub(crate) fn load(
        restored: &RestoredReplica,
        membership: &Membership,
        view: LogView,
        options: &ReplicaOptions,
        (commit, as_of): (LogIndex, LogIndex),
        seed: u64,
    ) -> Result<Driver, LoadError> {
        let (replica, log) = (restored.replica, restored.log);
        let vote = restored.vote.map_or(0, |vote| vote.0);
        let state = HardState { term: restored.term.0, vote, commit: commit.0, ..HardState::default() };
        let config = options.raft_config(log, replica, commit.0)?;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let storage = RaftStorage::new(view, state, membership.clone());
        let mut raw = RawNode::new(&config, storage, &logger)
            .map_err(|error| LoadError::Options { replica, reason: error.to_string() })?;
        let mut election = ElectionTimer::new(seed, options.election_ticks);
        election.settle(&mut raw.raft);
        let hard_state = (raw.raft.term, raw.raft.vote);
        // What storage gave may lie below the commit index that others told: it is noted with the next tick.
        let noted_commit = restored.commit.0;
        Ok(Driver {
            raw,
            election,
            replica,
            log,
            membership: membership.clone(),
            as_of,
            hard_state,
            last_write: 0,
            noted_commit,
            outstanding: VecDeque::new(),
            hard_states: 0,
            cuts: 0,
            durable: 0,
            offered: None,
            installed: None,
            disk: DiskState::default(),
            peer_space: BTreeMap::new(),
        })
    }

    pub(crate) fn raft(&self) -> &Raft<RaftStorage> {
        &self.raw.raft
    }

    pub(crate) fn storage(&self) -> &RaftStorage {
        self.raw.store()
    }

    pub(crate) fn storage_mut(&mut self) -> &mut RaftStorage {
        self.raw.mut_store()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether it asks for votes, or whether it would get them.
    pub(crate) fn is_candidate(&self) -> bool {
        matches!(self.raw.raft.state, StateRole::Candidate | StateRole::PreCandidate)
    }

    pub(crate) fn commit(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    pub(crate) fn persisted(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.persisted)
    }

    /// Whether a write of this replica waits for the disk.
    pub(crate) fn is_writing(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// Whether frames wait for the disk.
    pub(crate) fn is_writing_frames(&self) -> bool {
        self.outstanding.iter().any(|write| write.frames)
    }

    /// Whether the log was reset to a snapshot whose write isn't durable.
    pub(crate) fn is_installing(&self) -> bool {
        self.installed.is_some() || self.outstanding.iter().any(|write| write.snapshot.is_some())
    }

    /// C of the newest snapshot whose install the replica wasn't told of.
    pub(crate) fn installing_as_of(&self) -> Option<LogIndex> {
        let written = self.outstanding.iter().filter_map(|write| write.snapshot.as_ref());
        written.chain(&self.installed).map(|snapshot| snapshot.as_of).max()
    }

    /// Since when the oldest write waits.
    pub(crate) fn writing_since(&self) -> Option<MonotonicTime> {
        self.outstanding.front().map(|write| write.since)
    }

    /// From now on elections begin so many times later.
    pub(crate) fn put_off_elections(&mut self, times: u32) {
        self.election.put_off(times);
    }

    /// Calls the crate. Its `Ready` must be drained before the next input.
    pub(crate) fn call<R>(&mut self, call: impl FnOnce(&mut RawNode<RaftStorage>) -> R) -> R {
        let result = call(&mut self.raw);
        self.election.settle(&mut self.raw.raft);
        result
    }

    /// Sends every peer what its window has room for. The crate sends one message for a proposal, however large that is, and the
    /// rest only with the peer's next answer.
    pub(crate) fn fill_windows(&mut self) {
        let last = self.raw.raft.raft_log.last_index();
        let peers: Vec<u64> = self.raw.raft.prs().iter().map(|(id, _)| *id).collect();
        for peer in peers.into_iter().filter(|peer| *peer != self.replica.0) {
            while let Some(next) = self.next_for(peer, last) {
                self.raw.raft.send_append(peer);
                if self.next_for(peer, last) == Some(next) {
                    // Its entries must be read first.
                    break;
                }
            }
        }
    }

    /// The next index to send to a peer that waits for nothing.
    fn next_for(&self, peer: u64, last: u64) -> Option<u64> {
        let progress = self.raw.raft.prs().get(peer).filter(|progress| !progress.is_paused());
        progress.map(|progress| progress.next_idx).filter(|next| *next <= last)
    }

    /// Feeds read frames to the peers that waited for them.
    pub(crate) fn entries_read(&mut self, fetch: FetchId, frames: Vec<Frame>) -> bool {
        let Some(contexts) = self.storage_mut().begin_fetched(fetch, frames) else { return false };
        for context in contexts {
            self.call(|raw| raw.on_entries_fetched(context));
        }
        self.storage_mut().end_fetched();
        true
    }

    /// Storage keeps nothing up to and with `start` any more.
    pub(crate) fn clip(&mut self, start: LogPoint) {
        self.storage_mut().clip(start);
    }

    /// What the next message stepped, a snapshot, holds.
    pub(crate) fn offer(&mut self, snapshot: Snapshot) {
        self.offered = Some(Box::new(snapshot));
    }

    /// The snapshot whose write has become durable, once.
    pub(crate) fn take_installed(&mut self) -> Option<Box<Snapshot>> {
        // Behind a cut the crate doesn't know of it yet.
        if self.cuts == 0 { self.installed.take() } else { None }
    }

    /// A snapshot arrived, or will not.
    pub(crate) fn report_snapshot(&mut self, peer: ReplicaId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.call(|raw| raw.report_snapshot(peer.0, status));
    }

    /// The log start that was agreed on. May be said again: it never goes back.
    pub(crate) fn write_log_start(&mut self, now: MonotonicTime, offset: Offset, out: &mut Vec<Output>) {
        self.write(now, 0, vec![WriteOp::LogStart(offset)], None, out);
    }

    /// The log as a start went on with it: behind the snapshot that the state came with. In the term that its place is of, at least.
    pub(crate) fn write_restart(&mut self, now: MonotonicTime, snapshot: &Snapshot, out: &mut Vec<Output>) {
        let (term, vote) = self.hard_state;
        let mut ops = vec![WriteOp::HardState { term: Term(term), vote: (vote != 0).then_some(ReplicaId(vote)) }];
        ops.extend(snapshot.ops(self.log));
        self.write(now, 0, ops, None, out);
    }

    /// The first write of a new replica. Nothing it says may leave before that is durable.
    pub(crate) fn write_create(&mut self, now: MonotonicTime, create: Create, out: &mut Vec<Output>) {
        self.write(now, 0, vec![WriteOp::Create(create)], None, out);
        if let Some(write) = self.outstanding.back_mut() {
            write.hard_state = true;
            self.hard_states += 1;
        }
    }

    /// The last write of a replica that leaves this node.
    pub(crate) fn write_delete(&mut self, ended: LogIndex, out: &mut Vec<Output>) {
        let (id, write) = self.next_write(vec![WriteOp::Delete { ended }]);
        out.push(Output::Write { id, write });
    }

    /// Notes a commit index that no write has carried yet. No sync is owed for it.
    pub(crate) fn note_commit(&mut self, out: &mut Vec<Output>) {
        if self.raw.raft.raft_log.committed > self.noted_commit {
            let (id, write) = self.next_write(Vec::new());
            out.push(Output::Write { id, write });
        }
    }

    /// Writes up to `write` are durable. `false`: that write was never made.
    pub(crate) fn on_persisted(&mut self, write: WriteId, out: &mut Vec<Output>) -> bool {
        if write.0 > self.last_write {
            return false;
        }
        let mut released = Vec::new();
        while self.outstanding.front().is_some_and(|oldest| oldest.id <= write) {
            if let Some(done) = self.outstanding.pop_front() {
                self.durable = self.durable.max(done.ready);
                self.hard_states -= usize::from(done.hard_state);
                self.cuts -= usize::from(done.cut.is_some());
                released.extend(done.messages);
                self.installed = done.snapshot.or(self.installed.take());
            }
        }
        // The crate takes a durable entry for the one it has now if index and term are the same. Behind a cut that isn't durable
        // it may be another one that was appended, cut, and appended again meanwhile: then the crate is told with the cut.
        if self.cuts == 0 {
            let durable = self.durable;
            self.call(|raw| raw.on_persist_ready(durable));
            if let Some(applied) = self.installed.as_ref().map(|snapshot| snapshot.point.index.0) {
                self.call(|raw| raw.advance_apply_to(applied));
            }
        }
        out.extend(released.into_iter().map(|message| Output::Send { message }));
        true
    }

    /// Frames up to `index` stand in segments. What was told before a cut is durable may speak of frames that the cut took.
    pub(crate) fn on_written_out(&mut self, index: LogIndex) {
        let cut = match self.cuts {
            0 => None,
            _ => self.outstanding.iter().filter_map(|write| write.cut).min(),
        };
        let index = cut.map_or(index, |from| index.min(from.previous()));
        self.storage_mut().view.set_written(index);
    }

    /// Takes everything that the crate has ready and turns it into outputs.
    pub(crate) fn drain(&mut self, now: MonotonicTime, out: &mut Vec<Output>) -> Drained {
        let mut drained = Drained::default();
        while self.raw.has_ready() {
            self.drain_one(now, &mut drained, out);
        }
        if self.is_leader() {
            self.ask_for_entries(out);
        } else {
            self.storage_mut().drop_fetches();
        }
        self.offered = None;
        drained
    }

    fn drain_one(&mut self, now: MonotonicTime, drained: &mut Drained, out: &mut Vec<Output>) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        let mut ops = Vec::new();
        let snapshot = self.reset(&ready, &mut ops);
        self.append(ready.take_entries(), &mut ops);
        let hard_state = ready.hs().map_or(self.hard_state, |state| (state.term, state.vote));
        if hard_state != self.hard_state {
            self.hard_state = hard_state;
            let (term, vote) = hard_state;
            ops.push(WriteOp::HardState { term: Term(term), vote: (vote != 0).then_some(ReplicaId(vote)) });
        }
        let leads = self.raw.raft.state == StateRole::Leader;
        let messages = if leads { ready.take_messages() } else { ready.take_persisted_messages() };
        let committed = ready.take_committed_entries();
        drained
            .reads
            .extend(ready.take_read_states().into_iter().map(|r| (Bytes::from(r.request_ctx), LogIndex(r.index))));
        // The frames stand in the view by now: the crate looks there as soon as it is told that it needn't keep them.
        self.raw.advance_append_async(ready);
        if !ops.is_empty() {
            self.write(now, number, ops, snapshot, out);
            if mutants::is(Mutant::OwnCopyBeforeSync) && leads {
                self.call(|raw| raw.on_persist_ready(number));
            }
        } else if let Some(newest) = self.outstanding.back_mut() {
            newest.ready = number;
        } else {
            self.call(|raw| raw.on_persist_ready(number));
        }
        let of_raft = |message| PeerMessage::from_raft(self.log, message);
        let messages: Vec<PeerMessage> = messages.into_iter().filter_map(of_raft).collect();
        let is_snapshot = |message: &PeerMessage| message.kind == MessageKind::Snapshot;
        let (snapshots, messages) = messages.into_iter().partition(is_snapshot);
        drained.snapshots.extend::<Vec<_>>(snapshots);
        self.send(leads, messages, out);
        self.apply(&committed, drained);
    }

    /// The log as a snapshot has it: empty, behind its place.
    fn reset(&mut self, ready: &Ready, ops: &mut Vec<WriteOp>) -> Option<Box<Snapshot>> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let snapshot = self.offered.take().expect("the crate holds a snapshot only between its step and its drain");
        assert_eq!(ready.snapshot().get_metadata().index, snapshot.point.index.0, "the snapshot that was stepped");
        let log = self.log;
        let storage = self.storage_mut();
        storage.view.reset(snapshot.point);
        storage.drop_fetches();
        self.membership.clone_from(&snapshot.membership);
        self.as_of = snapshot.as_of;
        ops.extend(snapshot.ops(log));
        Some(snapshot)
    }

    fn apply(&mut self, committed: &[Entry], drained: &mut Drained) {
        let Some(last) = committed.last() else { return };
        let view = &self.raw.store().view;
        let frames = committed.iter().map(|entry| view.frame(LogIndex(entry.index)));
        drained.committed.extend(frames.map(|frame| frame.expect("unapplied frames are pinned").clone()));
        let last = last.index;
        drained.membership = self.apply_changes(committed).or(drained.membership.take());
        self.call(|raw| raw.advance_apply_to(last));
        self.storage_mut().view.set_applied(LogIndex(last));
    }

    /// Frames for new entries, and a cut where they replace others.
    fn append(&mut self, entries: Vec<Entry>, ops: &mut Vec<WriteOp>) {
        let Some(first) = entries.first().map(|entry| LogIndex(entry.index)) else { return };
        let log = self.log;
        let storage = self.storage_mut();
        if first <= storage.view.last().index {
            storage.view.cut(first);
            storage.drop_fetches();
            let too_far = u64::from(mutants::is(Mutant::CutTooFar));
            ops.push(WriteOp::Cut { from: LogIndex(first.0 - too_far) });
        }
        let mut frames = Vec::with_capacity(entries.len());
        for entry in entries {
            let frame = frame_after(log, storage.view.last(), entry);
            storage.view.push(frame.clone());
            frames.push(frame);
        }
        ops.push(WriteOp::Append(frames));
    }

    fn next_write(&mut self, ops: Vec<WriteOp>) -> (WriteId, ReplicaWrite) {
        self.last_write += 1;
        self.noted_commit = self.raw.raft.raft_log.committed;
        let commit = LogIndex(if mutants::is(Mutant::CommitNotCarried) { 0 } else { self.noted_commit });
        (WriteId(self.last_write), ReplicaWrite { replica: self.replica, log: self.log, commit, ops })
    }

    fn write(
        &mut self,
        now: MonotonicTime,
        ready: u64,
        ops: Vec<WriteOp>,
        snapshot: Option<Box<Snapshot>>,
        out: &mut Vec<Output>,
    ) {
        let hard_state = ops.iter().any(|op| matches!(op, WriteOp::HardState { .. }));
        let cut = ops.iter().find_map(|op| match op {
            WriteOp::Cut { from } => Some(*from),
            WriteOp::Reset(at) => Some(at.index.next()),
            _ => None,
        });
        let frames = ops.iter().any(|op| matches!(op, WriteOp::Append(_) | WriteOp::Reset(_)));
        let membership = ops.iter().any(|op| matches!(op, WriteOp::Configuration { .. }));
        let (id, write) = self.next_write(ops);
        self.hard_states += usize::from(hard_state);
        self.cuts += usize::from(cut.is_some());
        self.outstanding.push_back(Outstanding {
            id,
            ready,
            hard_state,
            frames,
            membership,
            cut,
            snapshot,
            since: now,
            messages: Vec::new(),
        });
        out.push(Output::Write { id, write });
    }

    /// Sends what may leave at once, and holds the rest back until everything written so far is durable.
    pub(crate) fn send(&mut self, leads: bool, messages: Vec<PeerMessage>, out: &mut Vec<Output>) {
        let term_is_durable = self.hard_states == 0;
        for mut message in messages {
            let kind = message.kind;
            match kind {
                MessageKind::HeartbeatResponse => message.set_space(self.disk.space.level),
                MessageKind::Append if !self.has_use_for(&mut message) => continue,
                _ => {}
            }
            let promises_nothing =
                matches!(kind, MessageKind::HeartbeatResponse | MessageKind::ReadIndex | MessageKind::SnapshotResponse);
            let at_once = term_is_durable && (leads || promises_nothing) || leaves_early(kind, leads);
            match self.outstanding.back_mut() {
                Some(newest) if !at_once => {
                    if newest.messages.len() < HELD_MESSAGES_MAX {
                        newest.messages.push(message);
                    }
                }
                _ => out.push(Output::Send { message }),
            }
        }
    }

    fn is_exhausted(&self, peer: ReplicaId) -> bool {
        self.peer_space.get(&peer) == Some(&SpaceLevel::Exhausted)
    }

    /// A peer whose disk is exhausted is sent no records: it would refuse them, ten times a second. To the crate they are lost on
    /// the way.
    fn has_use_for(&self, message: &mut PeerMessage) -> bool {
        if !self.is_exhausted(message.to) {
            return true;
        }
        let records = message.entries.iter().position(|entry| entry.kind == FrameKind::Records);
        message.entries.truncate(records.unwrap_or(message.entries.len()));
        records != Some(0)
    }

    fn ask_for_entries(&mut self, out: &mut Vec<Output>) {
        if !self.storage().has_new_fetches() {
            return;
        }
        let progress = self.raw.raft.prs().iter().filter(|(id, _)| !self.is_exhausted(ReplicaId(**id)));
        let mut waiting: Vec<_> = progress.map(|(id, peer)| (ReplicaId(*id), LogIndex(peer.next_idx))).collect();
        waiting.sort_unstable();
        for fetch in self.storage_mut().take_fetch_requests(&waiting) {
            let (from, to, max_bytes, peer) = (fetch.from, fetch.to, fetch.max_bytes, fetch.peer);
            out.push(Output::ReadEntries { fetch: fetch.id, from, to, max_bytes, peer });
        }
    }
}

/// What mutants send before it is durable.
fn leaves_early(kind: MessageKind, leads: bool) -> bool {
    match kind {
        MessageKind::AppendResponse => mutants::is(Mutant::AnswerBeforeSync),
        MessageKind::RequestVoteResponse => mutants::is(Mutant::VoteBeforeSync),
        _ => leads && mutants::is(Mutant::LeadsBeforeTerm),
    }
}

/// The frame of an entry behind `last`. Made of nothing but the entry and the log before it: every replica makes the same.
pub(crate) fn frame_after(log: LogId, last: LogPoint, entry: Entry) -> Frame {
    let kind = kind_of(&entry);
    let count = match kind {
        FrameKind::Records => {
            BatchHeader::decode(&entry.data).expect("batches are checked before they are stepped").record_count
        }
        _ => 0,
    };
    let (term, index) = (Term(entry.term), LogIndex(entry.index));
    Frame::new(log, kind, term, index, last.next_offset, count, last.crc, entry.data)
}
