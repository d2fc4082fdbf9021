//! The write sequences that the walk goes through, each a list of calls of a store; and who plays them.

use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::JournalOptions;
use crate::log_state::LogOptions;
use crate::shard_model::Model;
use crate::shard_store::{GroupNumber, GroupZeroOptions, ShardIdentity, ShardStore, StoreOptions};
use crate::sim_disk::SimDisk;
use crate::testing::FrameMaker;
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, RestoredReplica, WriteOp};
use dlog_core::{LogId, LogIndex, NodeId, Offset, ReplicaId, ShardId, Term};
use std::collections::BTreeMap;

pub(super) const IDENTITY: ShardIdentity = ShardIdentity { cluster: ClusterId([7; 16]), shard: ShardId(3) };
/// Another cluster's, for foreign files.
pub(super) const OTHER: ShardIdentity = ShardIdentity { cluster: ClusterId([8; 16]), shard: ShardId(3) };

/// The smallest files in which everything still happens.
pub(super) fn options() -> StoreOptions {
    StoreOptions {
        journal: JournalOptions {
            first_file_bytes: 24 << 10,
            file_bytes: 32 << 10,
            files_max: 4,
            reserve_bytes: 4 << 10,
        },
        log: LogOptions { segment_bytes: 1024, index_interval_bytes: 256 },
        tail_cache_bytes: 0,
        group_zero: GroupZeroOptions { segment_bytes: 1024, kept_entries: 2, kept_bytes: 4096 },
    }
}

/// One call of a store.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Commit(Vec<ReplicaWrite>),
    WriteOut,
    Seal,
    Prepare(u64),
    Checkpoint(Vec<(ReplicaId, LogIndex, Bytes)>),
    Begin(Vec<(ReplicaId, LogIndex, Bytes)>),
    Slice(usize),
    EndSegment(ReplicaId),
    StateSynced(LogIndex),
    /// A clean stop, and a start.
    Close,
    /// The process dies, the machine goes on, and a start.
    Die,
}

/// Plays steps, and knows what is owed.
pub(super) struct Player {
    pub(super) disk: SimDisk,
    pub(super) identity: ShardIdentity,
    /// What was committed.
    pub(super) model: Model,
    /// The same with the group that was on its way.
    pub(super) in_flight: Option<Model>,
    /// No start may recover less.
    pub(super) told: GroupNumber,
    /// Steps done, the start not counted.
    pub(super) done: usize,
}

pub(super) fn open(
    disk: &SimDisk,
    identity: ShardIdentity,
) -> Result<(ShardStore<SimDisk>, Vec<RestoredReplica>), StorageError> {
    ShardStore::open(disk.clone(), "data", identity, options())
}

impl Player {
    pub(super) fn new(disk: SimDisk) -> Player {
        let model = Model::default();
        Player { disk, identity: IDENTITY, model, in_flight: None, told: GroupNumber(0), done: 0 }
    }

    /// Up to the first error: the power went, or a sync failed.
    pub(super) fn play(&mut self, steps: &[Step]) -> Result<(), StorageError> {
        let (mut store, _) = open(&self.disk, self.identity)?;
        for step in steps {
            store = self.step(store, step)?;
            self.done += 1;
        }
        Ok(())
    }

    fn step(&mut self, mut store: ShardStore<SimDisk>, step: &Step) -> Result<ShardStore<SimDisk>, StorageError> {
        match step {
            Step::Commit(writes) => {
                let mut model = self.model.clone();
                model.apply(writes);
                self.in_flight = Some(model.clone());
                self.told = self.told.max(store.commit(writes.clone())?);
                (self.model, self.in_flight) = (model, None);
            }
            Step::WriteOut => drop(store.write_out()?),
            Step::Seal => store.seal()?,
            Step::Prepare(bytes) => drop(store.prepare(*bytes)?),
            Step::Checkpoint(tables) => store.checkpoint(self.noted(tables))?,
            Step::Begin(tables) => store.begin_checkpoint(self.noted(tables))?,
            Step::Slice(steps) => drop(store.checkpoint_slice(*steps)?),
            Step::EndSegment(replica) => store.end_segment(*replica)?,
            Step::StateSynced(index) => {
                for replica in self.model.replicas.values_mut() {
                    replica.state_synced = *index;
                }
                store.note_state_synced(*index);
            }
            Step::Close => {
                store.close(Vec::new())?;
                store = open(&self.disk, self.identity)?.0;
            }
            Step::Die => {
                drop(store);
                store = open(&self.disk, self.identity)?.0;
            }
        }
        Ok(store)
    }

    /// From here on a start may find these.
    fn noted(&mut self, tables: &[(ReplicaId, LogIndex, Bytes)]) -> Vec<(ReplicaId, LogIndex, Bytes)> {
        for (replica, index, _) in tables {
            let replica = self.model.replicas.get_mut(replica).expect("a script knows what is there");
            replica.producers_max = replica.producers_max.max(Some(*index));
        }
        tables.to_vec()
    }
}

pub(super) fn id(number: u32) -> ReplicaId {
    ReplicaId::new(NodeId(1), number)
}

pub(super) fn table(index: u64) -> Bytes {
    Bytes::from(format!("as of {index}"))
}

/// Where a replica's log is.
struct Place {
    log: LogId,
    maker: FrameMaker,
    /// What stands behind each frame, by index.
    points: BTreeMap<u64, LogPoint>,
}

/// Makes a sequence.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    places: BTreeMap<u32, Place>,
}

impl Script {
    fn create(&mut self, replica: u32, log: u64) -> WriteOp {
        let (start, log) = (LogPoint::default(), LogId(log));
        self.places.insert(replica, Place { log, maker: FrameMaker::of(log, start), points: BTreeMap::new() });
        WriteOp::Create(Create { intent: LogIndex(1), membership: Bytes::from_static(b"first"), start })
    }

    fn append(&mut self, replica: u32, frames: usize, bytes: usize) -> WriteOp {
        let Place { maker, points, .. } = self.places.get_mut(&replica).expect("created");
        let mut made = Vec::new();
        for _ in 0..frames {
            made.push(maker.filled(bytes));
            points.insert(maker.at.index.0, maker.at);
        }
        WriteOp::Append(made)
    }

    /// What comes behind it is of the next term.
    fn cut(&mut self, replica: u32, from: u64) -> WriteOp {
        let Place { maker, points, .. } = self.places.get_mut(&replica).expect("created");
        (maker.at, maker.term) = (points[&(from - 1)], Term(maker.term.0 + 1));
        WriteOp::Cut { from: LogIndex(from) }
    }

    fn reset(&mut self, replica: u32, to: u64) -> WriteOp {
        let at = LogPoint { index: LogIndex(to), term: Term(1), next_offset: Offset(to), crc: 77 };
        let Place { maker, points, .. } = self.places.get_mut(&replica).expect("created");
        maker.at = at;
        points.insert(to, at);
        WriteOp::Reset(at)
    }

    /// One group.
    fn commit(&mut self, writes: Vec<(u32, u64, Vec<WriteOp>)>) -> &mut Script {
        let write = |(replica, commit, ops): (u32, u64, Vec<WriteOp>)| {
            let log = self.places[&replica].log;
            ReplicaWrite { replica: id(replica), log, commit: LogIndex(commit), ops }
        };
        let writes = writes.into_iter().map(write).collect();
        self.then([Step::Commit(writes)])
    }

    /// One group with some frames of one replica, and the write-out.
    fn frames(&mut self, replica: u32, frames: usize, bytes: usize, commit: u64) -> &mut Script {
        let append = self.append(replica, frames, bytes);
        self.commit(vec![(replica, commit, vec![append])]).then([Step::WriteOut])
    }

    fn then(&mut self, steps: impl IntoIterator<Item = Step>) -> &mut Script {
        self.steps.extend(steps);
        self
    }

    fn made(&mut self, replicas: &[u32]) -> &mut Script {
        let writes = replicas.iter().map(|replica| (*replica, 0, vec![self.create(*replica, u64::from(*replica))]));
        let writes = writes.collect();
        self.commit(writes)
    }
}

fn vote(term: u64, replica: u64) -> WriteOp {
    WriteOp::HardState { term: Term(term), vote: Some(ReplicaId(replica)) }
}

fn configuration(index: u64) -> WriteOp {
    WriteOp::Configuration { index: LogIndex(index), membership: Bytes::from(format!("members as of {index}")) }
}

fn producers(index: u64) -> WriteOp {
    WriteOp::Producers { index: LogIndex(index), table: table(index) }
}

fn checkpoint(tables: &[(u32, u64)]) -> Step {
    Step::Checkpoint(tables.iter().map(|(replica, index)| (id(*replica), LogIndex(*index), table(*index))).collect())
}

/// Appends of several replicas in one group, votes, configurations, commits that are only noted, seals.
pub(super) fn appends() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1, 2, 3]);
    for round in 1..=3u64 {
        let ops = [1, 2, 3].map(|replica| vec![s.append(replica, replica as usize, 150)]);
        let [mut one, two, three] = ops;
        one.insert(0, vote(round, round));
        s.commit(vec![(1, round - 1, one), (2, 2 * round - 1, two), (3, 0, three)]);
        s.commit(vec![(2, 2 * round, Vec::new())]);
        s.commit(vec![(3, round, vec![configuration(round)])]);
        s.then([Step::WriteOut, Step::Seal]);
        if round == 2 {
            s.then([checkpoint(&[(1, 1), (3, 2)])]);
        }
    }
    s.steps
}

/// Segments and journal files fill up, and checkpoints are made in slices between the groups.
pub(super) fn rolls() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1, 2]);
    for round in 1..=9 {
        let writes = vec![(1, round - 1, vec![s.append(1, 1, 400)]), (2, round - 1, vec![s.append(2, 2, 300)])];
        s.commit(writes).then([Step::WriteOut, Step::Prepare(8 << 10)]);
        match round {
            3 | 7 => {
                s.then([Step::Begin(Vec::new())]);
            }
            4 | 5 | 8 => {
                s.then([Step::Slice(2)]);
            }
            6 | 9 => {
                s.then([Step::Slice(100), Step::Seal]);
            }
            _ => {}
        }
    }
    s.steps
}

/// Conflicting ends are cut off: within a segment, over several, below a checkpoint, with and without frames behind them.
pub(super) fn cuts() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1]);
    s.frames(1, 9, 300, 1);
    s.then([checkpoint(&[])]);
    let ops = vec![s.cut(1, 7), s.append(1, 3, 310)];
    s.commit(vec![(1, 1, ops)]).then([Step::WriteOut]);
    s.frames(1, 1, 100, 2);
    let ops = vec![s.cut(1, 4)];
    s.commit(vec![(1, 2, ops)]);
    let ops = vec![vote(4, 2), s.append(1, 2, 320)];
    s.commit(vec![(1, 2, ops)]).then([Step::WriteOut, checkpoint(&[])]);
    let ops = vec![s.cut(1, 5), s.append(1, 4, 200), s.cut(1, 7), s.append(1, 1, 50)];
    s.commit(vec![(1, 2, ops)]).then([Step::WriteOut, Step::Seal]);
    s.steps
}

/// Snapshots without records, with and without producers, configuration and a log start.
pub(super) fn resets() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1, 2]);
    s.frames(1, 6, 300, 4).frames(2, 3, 300, 2);
    s.then([checkpoint(&[(1, 4), (2, 2)])]);
    let ops = vec![s.reset(1, 20), WriteOp::LogStart(Offset(21)), configuration(20), producers(22)];
    s.commit(vec![(1, 20, ops)]).then([Step::WriteOut]);
    s.frames(1, 3, 300, 21);
    let ops = vec![s.reset(2, 9), s.append(2, 2, 200)];
    s.commit(vec![(2, 9, ops)]).then([checkpoint(&[(1, 23)])]);
    let ops = vec![s.reset(1, 40), producers(40), s.append(1, 1, 100)];
    s.commit(vec![(1, 40, ops)]);
    s.then([Step::WriteOut, Step::Seal]);
    s.steps
}

/// Log starts move, an active segment is ended, and files go with the checkpoints.
pub(super) fn retention() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1]);
    for round in 0..4u64 {
        s.frames(1, 3, 300, 3 * round);
    }
    s.then([checkpoint(&[(1, 6)])]);
    s.commit(vec![(1, 12, vec![WriteOp::LogStart(Offset(7))])]).then([Step::WriteOut, checkpoint(&[(1, 12)])]);
    s.then([checkpoint(&[])]);
    s.commit(vec![(1, 12, vec![WriteOp::LogStart(Offset(12))])]);
    s.then([Step::WriteOut, Step::EndSegment(id(1)), checkpoint(&[])]);
    s.frames(1, 2, 300, 13);
    s.then([checkpoint(&[(1, 13)]), checkpoint(&[])]);
    s.steps
}

/// Replicas are made and deleted, and a log comes back under another replica id.
pub(super) fn creations() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1, 2]);
    s.frames(1, 4, 300, 2);
    s.then([checkpoint(&[(1, 2)])]);
    s.frames(2, 2, 300, 0);
    s.commit(vec![(1, 2, vec![WriteOp::Delete { ended: LogIndex(9) }])]).then([Step::WriteOut]);
    let ops = vec![s.create(4, 1), s.append(4, 3, 310)];
    s.commit(vec![(4, 0, ops)]).then([Step::WriteOut, checkpoint(&[])]);
    let ops = vec![s.create(5, 5), s.append(5, 1, 100), WriteOp::Delete { ended: LogIndex(11) }];
    s.commit(vec![(5, 0, ops)]);
    s.commit(vec![(4, 1, vec![WriteOp::Delete { ended: LogIndex(10) }])]);
    let ops = vec![s.create(6, 1), s.append(6, 1, 320)];
    s.commit(vec![(6, 0, ops)]).then([Step::WriteOut, checkpoint(&[]), Step::Seal]);
    s.steps
}

/// Group 0's log is shortened by what its state has synced.
pub(super) fn compaction() -> Vec<Step> {
    let mut s = Script::default();
    let create = s.create(1, 0);
    s.commit(vec![(1, 0, vec![create])]);
    for round in 0..4u64 {
        s.frames(1, 3, 300, 3 * round);
    }
    s.then([checkpoint(&[]), Step::StateSynced(LogIndex(8)), checkpoint(&[])]);
    s.frames(1, 3, 300, 14);
    s.then([Step::StateSynced(LogIndex(14)), checkpoint(&[]), checkpoint(&[]), Step::Seal]);
    s.steps
}

/// Files of the journal are used again and again.
pub(super) fn recycling() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1]);
    for round in 1..=24u64 {
        s.frames(1, 1, if round % 5 == 0 { 5000 } else { 60 }, round - 1);
        match round % 6 {
            1 => {
                s.then([Step::Prepare(u64::MAX), Step::Prepare(u64::MAX), Step::Seal]);
            }
            4 => {
                s.then([checkpoint(&[(1, round - 1)])]);
            }
            _ => {}
        }
    }
    s.steps
}

/// Clean stops, deaths of the process alone, and starts.
pub(super) fn stops() -> Vec<Step> {
    let mut s = Script::default();
    s.made(&[1, 2]);
    s.frames(1, 3, 300, 1).then([Step::Close]);
    s.frames(2, 3, 300, 1).then([Step::Die]);
    let ops = vec![s.cut(1, 3), s.append(1, 2, 250)];
    s.commit(vec![(1, 1, ops), (2, 2, vec![vote(2, 2)])]).then([Step::Die, Step::Die]);
    s.frames(1, 2, 300, 3).then([Step::Seal, Step::Close, Step::Close]);
    s.frames(2, 1, 300, 3);
    s.steps
}
