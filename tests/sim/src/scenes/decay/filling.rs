//! A store that has worked for a while, and what it acknowledged.

use crate::clients::batches;
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, NodeId, ReplicaId, ShardId, Term, batch};
use dlog_storage::journal::GroupWeight;
use dlog_storage::{
    ClusterId, JournalOptions, LogOptions, LoseUnsynced, ShardIdentity, ShardStore, SimDisk, StorageError, StoreOptions,
};
use std::collections::BTreeMap;

/// Whose it is.
pub(crate) const SHARD: ShardIdentity = ShardIdentity { cluster: ClusterId([0xd2; 16]), shard: ShardId(0) };
/// Logs, of each one replica.
const LOGS: u32 = 2;
/// Groups that are committed at most: enough for several journal files.
const GROUPS_MAX: u64 = 120;
/// The most bytes of a record.
const VALUE_BYTES_MAX: usize = 3_000;
/// Every so many groups, about, a checkpoint is made.
const CHECKPOINT_EVERY: u64 = 25;
/// And so many after one is wanted.
const CHECKPOINT_SOON: u64 = 16;
/// The most that a group weighs, generously.
const GROUP_MAX: GroupWeight = GroupWeight { bytes: 32 << 10, frames: 1, writes: 1 };
/// The time of the first batch.
const FIRST_TIME: i64 = 1_000_000;

/// What was acknowledged of a replica.
pub(crate) struct OfReplica {
    pub(crate) log: LogId,
    /// From index 1 on.
    pub(crate) frames: Vec<Frame>,
    /// Of each frame, the time of its records.
    pub(crate) times: Vec<i64>,
    /// The producer tables that checkpoints were given.
    pub(crate) tables: BTreeMap<LogIndex, Bytes>,
}

impl OfReplica {
    /// The frame with this index.
    pub(crate) fn frame(&self, index: LogIndex) -> Option<&Frame> {
        self.frames.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
    }
}

/// What was acknowledged.
pub(crate) struct Acked {
    pub(crate) replicas: BTreeMap<ReplicaId, OfReplica>,
    /// Whether the last group must be proved: the store rested, and what it wrote since is there.
    pub(crate) rested: bool,
}

/// The store's options: small files.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        journal: JournalOptions {
            first_file_bytes: 128 << 10,
            file_bytes: 128 << 10,
            files_max: 6,
            reserve_bytes: 16 << 10,
        },
        log: LogOptions { segment_bytes: 16 << 10, index_interval_bytes: 1024 },
        tail_cache_bytes: 0,
        ..StoreOptions::default()
    }
}

/// A store that commits, makes checkpoints, mostly rests long enough for a seal, and dies or stops.
///
/// # Errors
/// The store's.
pub(crate) fn fill(disk: &SimDisk, random: &mut fastrand::Rng) -> Result<Acked, StorageError> {
    let (mut store, _) = ShardStore::open(disk.clone(), "", SHARD, options())?;
    let mut replicas = BTreeMap::new();
    let mut ops = BTreeMap::new();
    for log in 1..=LOGS {
        let of =
            OfReplica { log: LogId(u64::from(log)), frames: Vec::new(), times: Vec::new(), tables: BTreeMap::new() };
        replicas.insert(ReplicaId::new(NodeId(1), log), of);
        let create = Create { intent: LogIndex(1), membership: Bytes::new(), start: LogPoint::default() };
        ops.insert(ReplicaId::new(NodeId(1), log), vec![WriteOp::Create(create)]);
    }
    for number in 0..random.u64(1..=GROUPS_MAX) {
        let mut writes = Vec::new();
        for (replica, of) in &mut replicas {
            // The first group makes them all.
            if number > 0 && random.bool() {
                continue;
            }
            let mut ops = ops.remove(replica).unwrap_or_default();
            ops.push(WriteOp::HardState { term: Term(1), vote: None });
            ops.push(WriteOp::Append(vec![next_frame(of, number, random)]));
            let commit = LogIndex(of.frames.len() as u64).previous();
            writes.push(ReplicaWrite { replica: *replica, log: of.log, commit, ops });
        }
        store.commit(writes)?;
        store.write_out()?;
        store.prepare(64 << 10)?;
        let chance = match store.wants_checkpoint() {
            _ if !store.has_room(GROUP_MAX) => 1,
            true => CHECKPOINT_SOON,
            false => CHECKPOINT_EVERY,
        };
        if random.u64(0..chance) == 0 {
            store.checkpoint(tables(&mut replicas, random))?;
        }
    }
    let rested = random.u8(0..8) > 0;
    if rested {
        store.seal()?;
    }
    let closed = random.u8(0..4) == 0;
    if closed {
        store.close(tables(&mut replicas, random))?;
    } else {
        drop(store);
    }
    let lose = [LoseUnsynced::Nothing, LoseUnsynced::Nothing, LoseUnsynced::Random, LoseUnsynced::All];
    let lose = lose[random.usize(0..lose.len())];
    disk.set_lose_unsynced(lose);
    disk.crash();
    Ok(Acked { replicas, rested: (rested || closed) && lose == LoseUnsynced::Nothing })
}

/// The next frame of a replica.
fn next_frame(of: &mut OfReplica, number: u64, random: &mut fastrand::Rng) -> Frame {
    let (index, offset, crc) = of
        .frames
        .last()
        .map_or((LogIndex(1), Default::default(), 0), |last| (last.index.next(), last.next_offset(), last.crc));
    let made = batches::make(random, of.log.0 as usize, number, None, VALUE_BYTES_MAX);
    let payload = batch::stamp(&made.bytes, offset, Term(1), None);
    let frame = Frame::new(of.log, FrameKind::Records, Term(1), index, offset, made.records, crc, payload);
    of.frames.push(frame.clone());
    of.times.push(FIRST_TIME + number as i64);
    frame
}

/// What is said to be the producers' table of each replica, or of none.
fn tables(
    replicas: &mut BTreeMap<ReplicaId, OfReplica>,
    random: &mut fastrand::Rng,
) -> Vec<(ReplicaId, LogIndex, Bytes)> {
    if random.u8(0..4) == 0 {
        return Vec::new();
    }
    let table = |(replica, of): (&ReplicaId, &mut OfReplica)| {
        let index = LogIndex(of.frames.len() as u64);
        let table = Bytes::from(format!("producers of {replica} as of {index}").repeat(random.usize(1..=40)));
        let known = of.tables.entry(index).or_insert(table).clone();
        (*replica, index, known)
    };
    replicas.iter_mut().map(table).collect()
}
