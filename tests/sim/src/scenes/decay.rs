//! One store whose synced bytes decay: a byte of its journal or of a checkpoint is another one after a stop. The next start must have
//! all that was acknowledged, or refuse; and with one bad checkpoint it must go on with the other.

use crate::clients::batches;
use crate::report::Failure;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, NodeId, ReplicaId, ShardId, Term, batch};
use dlog_storage::{
    ClusterId, Disk, DiskFile, JournalOptions, LogOptions, LoseUnsynced, ShardIdentity, ShardStore, SimDisk,
    StorageError, StoreOptions,
};

const SHARD: ShardIdentity = ShardIdentity { cluster: ClusterId([0xd2; 16]), shard: ShardId(0) };
const LOG: LogId = LogId(1);
/// Groups that are committed at most: enough for several journal files.
const GROUPS_MAX: u64 = 120;
/// The most bytes of a record.
const VALUE_BYTES_MAX: usize = 3_000;
/// Every so many groups, about, a checkpoint is made.
const CHECKPOINT_EVERY: u64 = 25;
/// And so many after one is wanted.
const CHECKPOINT_SOON: u64 = 16;
/// The most bytes of a group, generously.
const GROUP_BYTES_MAX: u64 = 32 << 10;

fn replica() -> ReplicaId {
    ReplicaId::new(NodeId(1), 1)
}

fn options() -> StoreOptions {
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

fn gave_up(error: StorageError) -> Failure {
    Failure::crash(format!("the store, on a healthy disk: {error}"))
}

/// Plays it.
///
/// # Errors
/// What broke.
pub fn play(random: &mut fastrand::Rng) -> Result<(), Failure> {
    let disk = SimDisk::with_seed(random.u64(..));
    let frames = fill(&disk, random).map_err(gave_up)?;
    let in_checkpoint = random.bool();
    let place = spoil(&disk, random, in_checkpoint);
    let checkpoints = disk.tree().iter().filter(|(name, _)| name.contains("/checkpoint-")).count();
    let opened = ShardStore::open(disk, "", SHARD, options());
    let (store, restored) = match opened {
        Ok(opened) => opened,
        Err(_) if !in_checkpoint || checkpoints < 2 => return Ok(()),
        Err(error) => {
            return Err(Failure::correctness(format!(
                "{place} is bad, the other checkpoint is good: can't start: {error}"
            )));
        }
    };
    let last = restored.first().map_or(LogIndex::ZERO, |replica| replica.last.index);
    if last.0 < frames.len() as u64 {
        let text = format!("{place} is bad: frames up to {} were acknowledged, and only {last} is there", frames.len());
        return Err(Failure::correctness(text));
    }
    let reader = store.reader(replica()).ok_or_else(|| Failure::correctness("no reader"))?;
    let mut at = LogIndex::ZERO;
    while at < last {
        let read = reader.read_frames(at.next(), last.next(), 64 << 10);
        let read =
            read.map_err(|error| Failure::correctness(format!("{place} is bad: frames can't be read: {error}")))?;
        for frame in &read {
            if frames.get(frame.index.0 as usize - 1) != Some(frame) {
                return Err(Failure::correctness(format!("{place} is bad: frame {} is another one", frame.index)));
            }
            at = frame.index;
        }
    }
    Ok(())
}

/// A store that commits, makes checkpoints, rests long enough for a seal, and dies. What it acknowledged.
fn fill(disk: &SimDisk, random: &mut fastrand::Rng) -> Result<Vec<Frame>, StorageError> {
    let (mut store, _) = ShardStore::open(disk.clone(), "", SHARD, options())?;
    let create = Create { intent: LogIndex(1), membership: bytes::Bytes::new(), start: LogPoint::default() };
    let mut ops = vec![WriteOp::Create(create)];
    let mut frames: Vec<Frame> = Vec::new();
    for number in 0..random.u64(1..=GROUPS_MAX) {
        let (index, offset, crc) = frames
            .last()
            .map_or((LogIndex(1), Default::default(), 0), |last| (last.index.next(), last.next_offset(), last.crc));
        let made = batches::make(random, 0, number, None, VALUE_BYTES_MAX);
        let payload = batch::stamp(&made.bytes, offset, Term(1), None);
        let frame = Frame::new(LOG, FrameKind::Records, Term(1), index, offset, made.records, crc, payload);
        frames.push(frame.clone());
        ops.push(WriteOp::HardState { term: Term(1), vote: None });
        ops.push(WriteOp::Append(vec![frame]));
        let commit = index.previous();
        store.commit(vec![ReplicaWrite { replica: replica(), log: LOG, commit, ops: std::mem::take(&mut ops) }])?;
        store.write_out()?;
        store.prepare(64 << 10)?;
        let chance = match store.wants_checkpoint() {
            _ if !store.journal_has_room(GROUP_BYTES_MAX, 1) => 1,
            true => CHECKPOINT_SOON,
            false => CHECKPOINT_EVERY,
        };
        if random.u64(0..chance) == 0 {
            store.checkpoint(Vec::new())?;
        }
    }
    store.seal()?;
    drop(store);
    disk.set_lose_unsynced(LoseUnsynced::Nothing);
    disk.crash();
    Ok(frames)
}

/// Changes a byte of a checkpoint, or one that was written in the newest file of the journal. Says where.
fn spoil(disk: &SimDisk, random: &mut fastrand::Rng, in_checkpoint: bool) -> String {
    let names = disk.tree().into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
    let wanted = |name: &str| match in_checkpoint {
        true => name.contains("/checkpoint-"),
        false => name.contains("/journal/") && !name.ends_with(".tmp"),
    };
    let files: Vec<(String, u64)> = names.filter(|(name, _)| wanted(name)).collect();
    let (name, length) = &files[random.usize(0..files.len())];
    let file = disk.open(name).expect("it was just listed");
    let mut bytes = vec![0; *length as usize];
    file.read_at(&mut bytes, 0).expect("a healthy disk");
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let at = written[random.usize(0..written.len())] as u64;
    disk.flip(name, at, 1 << random.u8(0..8));
    format!("byte {at} of {name}")
}
