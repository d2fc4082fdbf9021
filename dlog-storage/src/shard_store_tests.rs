//! The store against a model: random operations, crashes at random calls, reopened and compared.

use super::*;
use crate::shard_model::{Model, ModelReplica};
use crate::sim_disk::{LoseUnsynced, SimDisk, SimDiskOptions};
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, RestoredReplica};
use dlog_core::{Frame, FrameKind, LogId, NodeId, Term};
use proptest::prelude::*;

pub(super) const IDENTITY: ShardIdentity = ShardIdentity { cluster: ClusterId([7; 16]), shard: ShardId(3) };

/// Small files, so that few operations meet every case.
pub(super) fn options() -> StoreOptions {
    StoreOptions {
        journal: JournalOptions {
            first_file_bytes: 48 << 10,
            file_bytes: 64 << 10,
            files_max: 4,
            reserve_bytes: 8 << 10,
        },
        log: LogOptions { segment_bytes: 4096, index_interval_bytes: 512 },
        tail_cache_bytes: 16 << 10,
        ..StoreOptions::default()
    }
}

pub(super) fn open(disk: &SimDisk) -> (ShardStore<SimDisk>, Vec<RestoredReplica>) {
    ShardStore::open(disk.clone(), "data", IDENTITY, options()).expect("opens")
}

/// After a power loss at call number `cut`, starts on the same disk with both checkpoints, then less one, then less the other too: no
/// start finds damage, and each has, behind its local start, the frames of the one replica there. `check` gets what was restored.
pub(super) fn starts_after_cut(disk: &SimDisk, cut: u64, frames: &[Frame], check: impl Fn(&RestoredReplica)) {
    disk.set_lose_unsynced([LoseUnsynced::All, LoseUnsynced::Random, LoseUnsynced::Nothing][cut as usize % 3]);
    disk.crash();
    for lost in [None, Some("a"), Some("b")] {
        // The same disk again, less one checkpoint: a start then goes back to the other.
        if let Some(slot) = lost {
            disk.flip(&format!("data/shard-3/checkpoint-{slot}"), 70, 1);
        }
        let (store, restored) = open(disk);
        assert_eq!(store.damage().len(), 0, "cut after {cut} calls, lost {lost:?}: {:?}", store.damage());
        check(&restored[0]);
        let reader = store.reader(restored[0].replica).expect("there");
        let last = LogIndex(frames.len() as u64);
        let mut next = restored[0].local_start.index.next();
        while next <= last {
            let read = reader.read_frames(next, last.next(), usize::MAX).expect("readable");
            assert_eq!(read[0], frames[next.0 as usize - 1]);
            next = read.last().expect("one at least").index.next();
        }
    }
}

pub(super) fn id(number: u32) -> ReplicaId {
    ReplicaId::new(NodeId(1), number)
}

pub(super) fn frame(log: LogId, at: LogPoint, term: u64, payload: Vec<u8>) -> Frame {
    let (index, next) = (at.index.next(), at.next_offset);
    Frame::new(log, FrameKind::Command, Term(term), index, next, 0, at.crc, Bytes::from(payload))
}

pub(super) fn after(frame: &Frame) -> LogPoint {
    LogPoint { index: frame.index, term: frame.term, next_offset: frame.next_offset(), crc: frame.crc }
}

pub(super) fn write(replica: ReplicaId, commit: u64, ops: Vec<WriteOp>) -> ReplicaWrite {
    ReplicaWrite { replica, log: LogId(u64::from(replica.number())), commit: LogIndex(commit), ops }
}

pub(super) fn create_op(start: LogPoint) -> WriteOp {
    WriteOp::Create(Create { intent: LogIndex(1), membership: Bytes::from_static(b"first"), start })
}

/// Draws operations that a correct consensus machine might ask for.
struct Driver {
    random: fastrand::Rng,
    disk: SimDisk,
    durable: Model,
    /// The model if the group that was in flight at the crash made it.
    in_flight: Option<Model>,
    /// The last group that a commit or a start gave back: no later start may recover less, peers refuse one that does.
    told: GroupNumber,
    next_id: u32,
}

impl Driver {
    fn new(seed: u64, ignore_sync: bool) -> Driver {
        let disk = SimDisk::new(SimDiskOptions { seed, ignore_sync, ..SimDiskOptions::default() });
        let random = fastrand::Rng::with_seed(seed);
        Driver { random, disk, durable: Model::default(), in_flight: None, told: GroupNumber(0), next_id: 1 }
    }

    fn point(&mut self, index: u64) -> LogPoint {
        let random = &mut self.random;
        LogPoint {
            index: LogIndex(index),
            term: Term(1),
            next_offset: Offset(random.u64(0..1000)),
            crc: random.u32(..),
        }
    }

    /// A few writes, each valid behind those before; gives the model after them.
    fn writes(&mut self) -> (Vec<ReplicaWrite>, Model) {
        let mut model = self.durable.clone();
        let mut writes = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            let write = self.one_write(&model);
            model.apply(std::slice::from_ref(&write));
            writes.push(write);
        }
        let mut model = self.durable.clone();
        model.apply(&writes);
        (writes, model)
    }

    fn one_write(&mut self, model: &Model) -> ReplicaWrite {
        if model.replicas.is_empty() || (model.replicas.len() < 4 && self.random.u8(0..10) == 0) {
            let start = if self.random.u8(0..4) == 0 { self.point(40) } else { LogPoint::default() };
            self.next_id += 1;
            return write(id(self.next_id), 0, vec![create_op(start)]);
        }
        let known: Vec<ReplicaId> = model.replicas.keys().copied().collect();
        let id = known[self.random.usize(..known.len())];
        let mut replica = model.replicas[&id].clone();
        let mut ops = Vec::new();
        for _ in 0..self.random.usize(0..3) {
            let op = self.op(id, &replica);
            let snapshot = match &op {
                WriteOp::Reset(at) if self.random.bool() => {
                    let index = LogIndex(at.index.0 + self.random.u64(0..30)).max(replica.labels_max);
                    let table = Bytes::from(index.0.to_le_bytes().to_vec());
                    Some(WriteOp::Producers { index, table })
                }
                _ => None,
            };
            let mut scratch = Model { replicas: [(id, replica)].into(), marks: BTreeSet::new() };
            for op in [Some(op), snapshot].into_iter().flatten() {
                scratch.apply_op(id, &op);
                ops.push(op);
            }
            match scratch.replicas.remove(&id) {
                Some(after) => replica = after,
                None => return write(id, 0, ops),
            }
        }
        let commit = self.random.u64(replica.told.0..=replica.last().index.0.max(replica.told.0));
        write(id, commit, ops)
    }

    fn op(&mut self, id: ReplicaId, replica: &ModelReplica) -> WriteOp {
        let log = LogId(u64::from(id.number()));
        let last = replica.last();
        match self.random.u8(0..100) {
            0..50 => {
                let mut at = last;
                let term = replica.term.0.max(at.term.0).max(1);
                let frames = (0..self.random.usize(1..5)).map(|_| {
                    let bytes = (0..self.random.usize(0..700)).map(|_| self.random.u8(..)).collect();
                    let frame = frame(log, at, term, bytes);
                    at = after(&frame);
                    frame
                });
                WriteOp::Append(frames.collect())
            }
            50..65 => WriteOp::HardState {
                term: Term(replica.term.0 + 1),
                vote: self.random.bool().then(|| ReplicaId(self.random.u64(1..4))),
            },
            65..75 => {
                WriteOp::Configuration { index: last.index, membership: Bytes::from(vec![self.random.u8(..); 5]) }
            }
            75..90 => {
                let floor = replica.told.max(replica.retired).0 + 1;
                let from = LogIndex(self.random.u64(floor..=floor.max(last.index.0 + 1)));
                WriteOp::Cut { from }
            }
            90..94 => WriteOp::LogStart(Offset(replica.log_start.0 + self.random.u64(0..3))),
            94..98 => {
                let index = last.index.0.max(replica.told.0) + self.random.u64(0..20);
                WriteOp::Reset(self.point(index))
            }
            _ => WriteOp::Delete { ended: LogIndex(9) },
        }
    }

    /// One call of the store. An error means that the power went.
    fn step(&mut self, store: &mut ShardStore<SimDisk>) -> Result<(), StorageError> {
        match self.random.u8(0..100) {
            0..55 => {
                let (writes, model) = self.writes();
                self.in_flight = Some(model.clone());
                let mut result = store.commit(writes.clone());
                if let Err(StorageError::JournalFull { .. }) = result {
                    self.in_flight = None;
                    store.checkpoint(Vec::new())?;
                    store.checkpoint(Vec::new())?;
                    self.in_flight = Some(model.clone());
                    result = store.commit(writes);
                }
                self.told = self.told.max(result?);
                self.durable = model;
                self.in_flight = None;
            }
            55..75 => drop(store.write_out()?),
            75..82 => store.seal()?,
            82..88 => drop(store.prepare(16 << 10)?),
            88..94 if store.is_checkpointing() => drop(store.checkpoint_slice(self.random.usize(1..4))?),
            88..94 => store.begin_checkpoint(self.tables())?,
            _ => store.checkpoint(self.tables())?,
        }
        for (id, start) in store.take_local_starts() {
            let replica = self.durable.replicas.get_mut(&id).expect("it is there");
            assert!(start.index > replica.retired, "told once");
            replica.retired = start.index;
        }
        Ok(())
    }

    /// Tables of some replicas, as of what is committed.
    fn tables(&mut self) -> Vec<(ReplicaId, LogIndex, Bytes)> {
        let mut tables = Vec::new();
        for (id, replica) in &mut self.durable.replicas {
            if self.random.bool() {
                let index = replica.recorded;
                replica.producers_max = replica.producers_max.max(Some(index));
                replica.labels_max = replica.labels_max.max(index);
                tables.push((*id, index, Bytes::from(index.0.to_le_bytes().to_vec())));
            }
        }
        tables
    }

    /// Reopens and compares. What was in flight happened or not, as a whole.
    fn check(&mut self) -> Result<ShardStore<SimDisk>, String> {
        let opened = ShardStore::open(self.disk.clone(), "data", IDENTITY, options());
        let (store, restored) = opened.map_err(|error| format!("refused: {error}"))?;
        if store.last_group() < self.told {
            return Err(format!("recovered {:?}, but {:?} was told", store.last_group(), self.told));
        }
        self.told = store.last_group();
        let why = self.durable.differs(&store, &restored, &|_| false);
        if !why.is_empty() {
            let Some(maybe) = self.in_flight.take() else { return Err(why) };
            let or = maybe.differs(&store, &restored, &|_| false);
            if !or.is_empty() {
                return Err(format!("neither the model without ({why}) nor with ({or}) what was in flight"));
            }
            self.durable = maybe;
        }
        self.in_flight = None;
        if !store.damage().is_empty() {
            return Err(format!("damage {:?}", store.damage()));
        }
        // What was read back is the new floor.
        for replica in &restored {
            let model = self.durable.replicas.get_mut(&replica.replica).expect("compared");
            (model.told, model.recorded) = (replica.commit, replica.commit);
            (model.start, model.retired) = (replica.local_start, replica.local_start.index);
            model.frames.retain(|frame| frame.index > replica.local_start.index);
            if let Some((index, table)) = &replica.producers {
                assert_eq!(table[..], index.0.to_le_bytes());
            }
        }
        Ok(store)
    }

    fn kill(&mut self, lose: LoseUnsynced) {
        self.disk.set_lose_unsynced(lose);
        self.disk.crash();
    }

    fn run(&mut self, rounds: usize) -> Result<(), String> {
        let mut store = self.check()?;
        for _ in 0..rounds {
            match self.random.u8(0..10) {
                0 => {
                    let closed = store.close(Vec::new());
                    closed.map_err(|error| format!("close: {error}"))?;
                }
                1 => {
                    drop(store);
                    self.kill(LoseUnsynced::Nothing);
                }
                2 => {
                    // The process ends at a failed sync, and the next one reads what only the cache still has.
                    for _ in 0..self.random.usize(0..10) {
                        self.step(&mut store).map_err(|error| error.to_string())?;
                    }
                    self.disk.fail_syncs(1);
                    while self.step(&mut store).is_ok() {}
                    drop(store);
                    self.kill(LoseUnsynced::Nothing);
                    if self.random.bool() {
                        drop(self.check()?);
                        self.kill(LoseUnsynced::All);
                    }
                }
                _ => {
                    self.disk.cut_power_after(self.random.u64(1..120));
                    while self.step(&mut store).is_ok() {}
                    drop(store);
                    let lose = [LoseUnsynced::All, LoseUnsynced::Random, LoseUnsynced::Nothing];
                    let lose = lose[self.random.usize(..3)];
                    self.kill(lose);
                    if self.random.bool() {
                        self.disk.cut_power_after(self.random.u64(1..60));
                        drop(ShardStore::open(self.disk.clone(), "data", IDENTITY, options()));
                        self.disk.crash();
                    }
                }
            }
            store = self.check()?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was committed is there, whatever was in flight is there as a whole or not at all.
    #[test]
    fn crashes_lose_nothing_that_was_committed(seed in any::<u64>()) {
        if let Err(why) = Driver::new(seed, false).run(12) {
            prop_assert!(false, "seed {seed}: {why}");
        }
    }
}

/// The test above can see a missing sync.
#[test]
fn a_disk_that_ignores_syncs_is_caught() {
    let caught = (0..20).filter(|seed| {
        let run = std::panic::catch_unwind(|| Driver::new(*seed, true).run(12));
        !matches!(run, Ok(Ok(())))
    });
    assert!(caught.count() >= 18, "without syncs data is lost, and the model sees it");
}
