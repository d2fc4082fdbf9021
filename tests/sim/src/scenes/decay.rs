//! One store whose synced bytes decay: some bytes of one of its files are others after a stop. The next start must have all that
//! was acknowledged, or say what is damaged; and where it can do without the bytes, it must.

mod filling;

use crate::decay::{Decayed, Kind, Reach, decay};
use crate::report::Failure;
use dlog_core::write::RestoredReplica;
use dlog_core::{LogIndex, Offset, TimestampMs};
use dlog_storage::inspect::{self, LogPlace};
use dlog_storage::{LogReader, LoseUnsynced, ShardStore, SimDisk, StorageError};
pub(crate) use filling::SHARD;
pub(crate) use filling::{Acked, fill};
use filling::{OfReplica, options};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Offsets and times that are looked up.
const LOOKUPS: usize = 8;
/// Starts after the damage: what the first one mends or makes worse, the second one meets.
const STARTS: usize = 2;

fn gave_up(error: StorageError) -> Failure {
    Failure::crash(format!("the store, on a healthy disk: {error}"))
}

/// Plays it.
///
/// # Errors
/// What broke.
pub fn play(random: &mut fastrand::Rng) -> Result<(), Failure> {
    let disk = SimDisk::with_seed(random.u64(..));
    let acked = fill(&disk, random).map_err(gave_up)?;
    let reach = if acked.rested && random.u8(0..4) > 0 { Reach::Rested } else { Reach::Proved };
    let checkpoints = disk.tree().iter().filter(|(name, _)| name.contains("/checkpoint-")).count();
    let Some(decayed) = decay(&disk, SHARD, reach, random) else { return Ok(()) };
    let judge = Judge { disk, acked, decayed, checkpoints };
    let inspected = judge.inspect();
    let told = (0..STARTS).try_for_each(|_| judge.start(random));
    inspected.and(told).map_err(|what| Failure::correctness(format!("what is bad: {}; {what}", judge.decayed)))
}

struct Judge {
    disk: SimDisk,
    acked: Acked,
    decayed: Decayed,
    checkpoints: usize,
}

impl Judge {
    /// `dlog inspect` shows every frame that was acknowledged, or damage, and no other frame.
    fn inspect(&self) -> Result<(), String> {
        for (replica, of) in &self.acked.replicas {
            let place = LogPlace { root: String::new(), shard: SHARD.shard, log: of.log, replica: *replica };
            let (mut good, mut other) = (0, None);
            let report = inspect::log(&self.disk, &place, SHARD.cluster, &mut |at| match of.frame(at.frame.index) {
                Some(frame) if frame == at.frame => good += 1,
                _ => other = Some(at.frame.index),
            });
            if let Some(index) = other {
                return Err(format!("inspected, frame {index} of {replica} is another one"));
            }
            match report {
                Ok(report) if report.damage.is_empty() && good < of.frames.len() => {
                    return Err(format!(
                        "inspected, {replica} has {good} of {} frames, and no damage",
                        of.frames.len()
                    ));
                }
                Ok(_) => {}
                Err(error) => self.may_refuse(&error)?,
            }
        }
        Ok(())
    }

    /// A start that refuses must have a reason, and no other file would have helped.
    fn may_refuse(&self, error: &StorageError) -> Result<(), String> {
        let told = matches!(error, StorageError::Corrupt { .. } | StorageError::NeedsOperator { .. });
        let may = match self.decayed.kind {
            Kind::Journal | Kind::Segment => true,
            Kind::Checkpoint => self.checkpoints < 2,
            Kind::Index | Kind::Producers | Kind::Other => false,
        };
        if told && may { Ok(()) } else { Err(format!("can't start: {error}")) }
    }

    fn start(&self, random: &mut fastrand::Rng) -> Result<(), String> {
        let (store, restored) = match ShardStore::open(self.disk.clone(), "", SHARD, options()) {
            Ok(opened) => opened,
            Err(error) => return self.may_refuse(&error),
        };
        if let Some((replica, error)) = store.damage().into_iter().find(|_| self.decayed.kind != Kind::Segment) {
            return Err(format!("{replica} is said to be damaged: {error}"));
        }
        for (replica, of) in &self.acked.replicas {
            let found = restored.iter().find(|found| found.replica == *replica);
            self.compare(found.ok_or_else(|| format!("{replica} is gone"))?, of)?;
            let reader = store.reader(*replica).ok_or_else(|| format!("{replica} has no reader"))?;
            self.read(&reader, of)?;
            for _ in 0..LOOKUPS {
                self.look_up(&reader, of, random)?;
            }
        }
        drop(store);
        self.disk.set_lose_unsynced(LoseUnsynced::Random);
        self.disk.crash();
        Ok(())
    }

    /// What a start gives back of a replica.
    fn compare(&self, found: &RestoredReplica, of: &OfReplica) -> Result<(), String> {
        let frames = of.frames.len() as u64;
        if found.last.index.0 < frames {
            return Err(format!("frames up to {frames} were acknowledged, and only {} is there", found.last.index));
        }
        let stored = |(index, table): &(LogIndex, _)| of.tables.get(index) == Some(table);
        match &found.producers {
            Some(table) if !stored(table) => Err(format!("the producers as of {} are others", table.0)),
            _ => Ok(()),
        }
    }

    /// Every frame is as it was acknowledged, or can't be read where a segment is damaged.
    fn read(&self, reader: &LogReader<SimDisk>, of: &OfReplica) -> Result<(), String> {
        let mut at = LogIndex::ZERO;
        while at.0 < of.frames.len() as u64 {
            let read = match reader.read_frames(at.next(), reader.last().index.next(), READ_BYTES) {
                Ok(read) => read,
                Err(error) => return self.may_be_unreadable(&error),
            };
            for frame in &read {
                if of.frame(frame.index) != Some(frame) {
                    return Err(format!("frame {} is another one", frame.index));
                }
            }
            at = read.last().ok_or_else(|| format!("no frame is behind {at}"))?.index;
        }
        Ok(())
    }

    fn may_be_unreadable(&self, error: &StorageError) -> Result<(), String> {
        let named = matches!(error, StorageError::Corrupt { path, .. } if *path == self.decayed.path);
        if named && self.decayed.kind == Kind::Segment { Ok(()) } else { Err(format!("frames can't be read: {error}")) }
    }

    /// A record is found by its offset, and by its time, whatever became of the index.
    fn look_up(&self, reader: &LogReader<SimDisk>, of: &OfReplica, random: &mut fastrand::Rng) -> Result<(), String> {
        let frame = &of.frames[random.usize(0..of.frames.len())];
        let wanted = Offset(frame.base_offset.0 + random.u64(0..u64::from(frame.record_count)));
        match reader.read_batches(wanted, reader.log_end(), 1) {
            Ok(read) if read.batches.first() != Some(&frame.payload) => {
                return Err(format!("offset {wanted} gives another batch"));
            }
            Ok(_) => {}
            Err(error) => self.may_be_unreadable(&error)?,
        }
        let time = of.times[frame.index.0 as usize - 1];
        let first = of.times.iter().position(|at| *at >= time).map(|at| of.frames[at].base_offset);
        match reader.offset_for_time(TimestampMs(time), reader.log_end()) {
            Ok(found) if found != first => Err(format!("time {time} gives {found:?}, and it is {first:?}")),
            Ok(_) => Ok(()),
            Err(error) => self.may_be_unreadable(&error),
        }
    }
}
