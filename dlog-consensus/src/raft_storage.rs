//! The raft crate's `Storage` over a [`LogView`]: no I/O, ever.
//!
//! Entries below the pinned ones are only asked for by appends to a peer that lags; those are answered "not now", noted as a
//! fetch, and asked for again once the frames were read. In any other context such entries are pinned by the view's invariant.

use crate::log_view::LogView;
use crate::membership::Membership;
use crate::message::entry_of_frame;
use crate::output::FetchId;
use dlog_core::write::LogPoint;
use dlog_core::{Frame, LogIndex, ReplicaId, Term};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use raft_proto::eraftpb::{Entry, HardState, Snapshot};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// What an entry costs on the wire beside its payload, about.
const ENTRY_OVERHEAD_BYTES: u64 = 32;

/// A read of frames for lagging peers.
struct Fetch {
    id: Option<FetchId>,
    to: LogIndex,
    max_bytes: u64,
    peers: BTreeSet<ReplicaId>,
    /// The crate's continuations, told apart by how they print: their fields are private.
    contexts: Vec<(String, GetEntriesContext)>,
}

/// A read that is to be asked for.
pub(crate) struct FetchRequest {
    pub(crate) id: FetchId,
    pub(crate) from: LogIndex,
    pub(crate) to: LogIndex,
    pub(crate) max_bytes: u64,
    pub(crate) peer: ReplicaId,
}

/// Storage of one replica, owned by the raft crate.
pub(crate) struct RaftStorage {
    pub(crate) view: LogView,
    initial: (HardState, Membership),
    fetches: RefCell<BTreeMap<LogIndex, Fetch>>,
    fetched: Vec<Frame>,
    fetch_count: u64,
    /// Just of a log whose snapshots carry a state (group 0).
    state: Option<StatePlace>,
}

/// Where a snapshot with a state may begin.
#[derive(Default)]
struct StatePlace {
    /// The place of a state that is at hand.
    at_hand: Option<LogPoint>,
    /// A snapshot was wanted, and there was no state for it.
    wanted: Cell<bool>,
}

impl RaftStorage {
    pub(crate) fn new(view: LogView, hard_state: HardState, membership: Membership) -> RaftStorage {
        RaftStorage {
            view,
            initial: (hard_state, membership),
            fetches: RefCell::default(),
            fetched: Vec::new(),
            fetch_count: 0,
            state: None,
        }
    }

    /// From now on a snapshot needs a state; it is at hand as of `place`, or not.
    pub(crate) fn set_state_place(&mut self, place: Option<LogPoint>) {
        self.state = Some(StatePlace { at_hand: place, ..StatePlace::default() });
    }

    /// Whether a snapshot was wanted for want of a state since the last call.
    pub(crate) fn take_state_wanted(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.wanted.take())
    }

    /// Where a snapshot would go on, if one can be made now.
    fn snapshot_place(&self) -> Option<LogPoint> {
        let start = self.view.local_start();
        let Some(state) = &self.state else { return (start.index > LogIndex::ZERO).then_some(start) };
        // What follows it must still be here.
        let place = state.at_hand.filter(|place| place.index >= start.index);
        state.wanted.set(place.is_none());
        place
    }

    /// Whether a fetch was noted that isn't asked for yet.
    pub(crate) fn has_new_fetches(&self) -> bool {
        self.fetches.borrow().values().any(|fetch| fetch.id.is_none())
    }

    /// Gives numbers to the fetches noted since the last call. `waiting` is each peer with the index it needs next; a fetch that
    /// nobody waits for any more, or whose peer waits for another one, is dropped.
    pub(crate) fn take_fetch_requests(&mut self, waiting: &[(ReplicaId, LogIndex)]) -> Vec<FetchRequest> {
        let fetches = self.fetches.get_mut();
        if fetches.values().all(|fetch| fetch.id.is_some()) {
            return Vec::new();
        }
        let mut busy: BTreeSet<ReplicaId> = BTreeSet::new();
        for fetch in fetches.values().filter(|fetch| fetch.id.is_some()) {
            busy.extend(&fetch.peers);
        }
        let mut requests = Vec::new();
        fetches.retain(|from, fetch| {
            let wants = waiting.iter().filter(|(_, next)| next == from).map(|(peer, _)| *peer);
            if fetch.id.is_some() {
                fetch.peers.extend(wants);
                return true;
            }
            let peers: BTreeSet<ReplicaId> = wants.filter(|peer| !busy.contains(peer)).collect();
            let Some(peer) = peers.first().copied() else { return false };
            self.fetch_count += 1;
            let id = FetchId(self.fetch_count);
            busy.extend(&peers);
            fetch.peers = peers;
            fetch.id = Some(id);
            requests.push(FetchRequest { id, from: *from, to: fetch.to, max_bytes: fetch.max_bytes, peer });
            true
        });
        requests
    }

    /// Takes the continuations of an answered fetch, and serves `frames` until [`RaftStorage::end_fetched`]. `None`: nobody waits
    /// for it any more, or the frames are not this log's.
    pub(crate) fn begin_fetched(&mut self, id: FetchId, frames: Vec<Frame>) -> Option<Vec<GetEntriesContext>> {
        let fetches = self.fetches.get_mut();
        let from = fetches.iter().find(|(_, fetch)| fetch.id == Some(id)).map(|(from, _)| *from)?;
        let fetch = fetches.remove(&from)?;
        let mut expected = from;
        for frame in &frames {
            if frame.index != expected || self.view.term(frame.index) != Some(frame.term) {
                return None;
            }
            expected = expected.next();
        }
        self.fetched = frames;
        Some(fetch.contexts.into_iter().map(|(_, context)| context).collect())
    }

    pub(crate) fn end_fetched(&mut self) {
        self.fetched = Vec::new();
    }

    /// Forgets every fetch: answers to them are stale.
    pub(crate) fn drop_fetches(&mut self) {
        self.fetches.get_mut().clear();
    }

    pub(crate) fn forget_fetch(&mut self, id: FetchId) {
        self.fetches.get_mut().retain(|_, fetch| fetch.id != Some(id));
    }

    /// Storage keeps nothing up to and with `start` any more. What is being read from there is not waited for: whoever needs it
    /// gets a snapshot.
    pub(crate) fn clip(&mut self, start: LogPoint) {
        self.view.clip(start);
        let first = self.view.local_start().index.next();
        self.fetches.get_mut().retain(|from, _| *from >= first);
    }

    fn note_fetch(&self, low: u64, high: u64, max_bytes: u64, context: GetEntriesContext) {
        let to = LogIndex(high).min(self.view.pinned_start());
        let mut fetches = self.fetches.borrow_mut();
        let fetch = fetches.entry(LogIndex(low)).or_insert_with(|| Fetch {
            id: None,
            to,
            max_bytes,
            peers: BTreeSet::new(),
            contexts: Vec::new(),
        });
        let text = format!("{context:?}");
        if fetch.contexts.iter().all(|(known, _)| *known != text) {
            fetch.contexts.push((text, context));
        }
    }
}

/// As many entries as fit, but one at least.
fn take_entries<'a>(frames: impl Iterator<Item = &'a Frame>, max_bytes: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    for frame in frames {
        bytes += frame.payload.len() as u64 + ENTRY_OVERHEAD_BYTES;
        if !entries.is_empty() && bytes > max_bytes {
            break;
        }
        entries.push(entry_of_frame(frame));
    }
    entries
}

impl Storage for RaftStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.initial.0.clone(), self.initial.1.to_conf_state()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        if low <= self.view.local_start().index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let pinned_start = self.view.pinned_start().0;
        if low >= pinned_start {
            let frames = (low..high).map_while(|index| self.view.frame(LogIndex(index)));
            return Ok(take_entries(frames, max_bytes));
        }
        if let Some(skip) = self.fetched.first().and_then(|first| low.checked_sub(first.index.0)) {
            let frames = self.fetched.iter().skip(skip as usize).take_while(|frame| frame.index.0 < high);
            let entries = take_entries(frames, max_bytes);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        assert!(context.can_async(), "entries {low}..{high} are needed at once, but pinned only from {pinned_start}");
        self.note_fetch(low, high, max_bytes, context);
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.view.local_start().index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.view.term(LogIndex(index)) {
            Some(Term(term)) => Ok(term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.view.local_start().index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.view.last().index.0)
    }

    /// Only the place: what goes with it is put in where the message leaves (`replica/snapshots.rs`).
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let Some(place) = self.snapshot_place().filter(|place| place.index.0 >= request_index) else {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (place.index.0, place.term.0);
        Ok(snapshot)
    }
}
