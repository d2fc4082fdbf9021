//! `Shard`: a store and the round that dlog-server's disk thread runs on it, with the time of each part.

use crate::Result;
use crate::frames::LogFrames;
use dlog_core::ShardId;
use dlog_core::write::ReplicaWrite;
use dlog_storage::journal::GroupWeight;
use dlog_storage::{ClusterId, Disk, ShardIdentity, ShardStore, StoreOptions};
use std::time::{Duration, Instant};

/// As the disk thread's own constants of these names.
const CHECKPOINT_STEPS: usize = 2;
/// As above.
const PREPARE_BYTES: u64 = 256 << 10;
/// Checkpoints after which every journal file of the steady state was made: what follows is recycling.
const WARM_CHECKPOINTS: usize = 3;

/// Whose shard is measured.
pub const IDENTITY: ShardIdentity = ShardIdentity { cluster: ClusterId([3; 16]), shard: ShardId(0) };

/// What the parts of some rounds took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Until the group was durable: what an ack waits for.
    pub commit: Duration,
    /// Frames into segments.
    pub write_out: Duration,
    /// The next journal file.
    pub prepare: Duration,
    /// Checkpoints.
    pub checkpoint: Duration,
}

impl Spent {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.commit + self.after_ack()
    }

    /// What the next group waits for beside its own sync.
    pub fn after_ack(&self) -> Duration {
        self.write_out + self.prepare + self.checkpoint
    }

    /// Where the time went.
    pub fn text(&self) -> String {
        let total = self.total().as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |part: Duration| format!("{:.0} %", 100.0 * part.as_secs_f64() / total);
        let (commit, write_out) = (share(self.commit), share(self.write_out));
        let (prepare, checkpoint) = (share(self.prepare), share(self.checkpoint));
        format!("of dlog's time {commit} commit, {write_out} write-out, {prepare} next file, {checkpoint} checkpoint")
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.commit += other.commit;
        self.write_out += other.write_out;
        self.prepare += other.prepare;
        self.checkpoint += other.checkpoint;
    }
}

/// One round: one group.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Its parts.
    pub spent: Spent,
    /// A checkpoint was finished in it.
    pub finished_checkpoint: bool,
}

/// A store with some logs, driven as the disk thread does. A round is what stands between two looks at the queue.
pub struct Shard<D: Disk> {
    /// The store.
    pub store: ShardStore<D>,
    /// Its logs.
    pub logs: Vec<LogFrames>,
    /// No checkpoint is begun, whoever wants one.
    pub hold_checkpoints: bool,
    next_log: usize,
}

impl<D: Disk> Shard<D> {
    /// A new store on an empty disk, with so many logs of batches of so many bytes.
    ///
    /// # Errors
    /// The store's.
    pub fn new(disk: D, options: StoreOptions, logs: usize, batch_bytes: usize) -> Result<Shard<D>> {
        let (store, _) = ShardStore::open(disk, "", IDENTITY, options)?;
        let mut shard = Shard::over(store, LogFrames::of_logs(logs, batch_bytes));
        let creates: Vec<ReplicaWrite> = shard.logs.iter().map(LogFrames::create).collect();
        for some in creates.chunks(1000) {
            shard.round(some.to_vec())?;
        }
        Ok(shard)
    }

    /// A store that has these logs already.
    pub fn over(store: ShardStore<D>, logs: Vec<LogFrames>) -> Shard<D> {
        Shard { store, logs, hold_checkpoints: false, next_log: 0 }
    }

    /// The next group: `count` frames, dealt to the logs in turn.
    pub fn deal(&mut self, count: usize) -> Vec<ReplicaWrite> {
        let logs = self.logs.len();
        if logs == 1 {
            return vec![self.logs[0].append(count)];
        }
        let writes = (0..count).map(|number| self.logs[(self.next_log + number) % logs].append(1)).collect();
        self.next_log = (self.next_log + count) % logs;
        writes
    }

    /// Payload bytes of `count` frames.
    pub fn payload_bytes(&self, count: usize) -> u64 {
        (count * self.logs[0].batch_bytes()) as u64
    }

    /// One round with one group. Where the journal has no room, the checkpoint that makes some is part of it.
    ///
    /// # Errors
    /// The store's.
    pub fn round(&mut self, mut writes: Vec<ReplicaWrite>) -> Result<Round> {
        let weights = writes.iter().map(GroupWeight::of);
        let weight = weights.fold(GroupWeight::default(), GroupWeight::plus);
        let mut round = Round { spent: Spent::default(), finished_checkpoint: false };
        while !self.store.has_room(weight) {
            self.checkpoint_part(&mut round, true)?;
        }
        let began = Instant::now();
        self.store.commit_from(&mut writes)?;
        round.spent.commit = began.elapsed();
        let began = Instant::now();
        self.store.write_out()?;
        round.spent.write_out = began.elapsed();
        let began = Instant::now();
        self.store.prepare(PREPARE_BYTES.max(weight.bytes as u64))?;
        round.spent.prepare = began.elapsed();
        self.checkpoint_part(&mut round, false)?;
        Ok(round)
    }

    /// Goes on with a checkpoint, or begins one if one is due or `urgent`.
    fn checkpoint_part(&mut self, round: &mut Round, urgent: bool) -> Result<()> {
        let began = Instant::now();
        if self.store.is_checkpointing() {
            round.finished_checkpoint |= self.store.checkpoint_slice(CHECKPOINT_STEPS)?;
        } else if urgent || (!self.hold_checkpoints && self.store.wants_checkpoint()) {
            self.store.begin_checkpoint(self.logs.iter().map(LogFrames::producers).collect())?;
        }
        round.spent.checkpoint += began.elapsed();
        Ok(())
    }

    /// Rounds of `count` frames until so many checkpoints were finished, begun when one had just been: whole periods, so that
    /// every part of the work is in them as often as in the long run.
    ///
    /// # Errors
    /// The store's.
    pub fn periods(&mut self, checkpoints: usize, count: usize) -> Result<Period> {
        let mut period = Period::default();
        let mut finished = 0;
        while finished < checkpoints {
            let writes = self.deal(count);
            let round = self.round(writes)?;
            period.spent += round.spent;
            period.frames += count as u64;
            period.bytes += self.payload_bytes(count);
            finished += usize::from(round.finished_checkpoint);
        }
        Ok(period)
    }

    /// Periods until the journal's files are used again instead of made.
    ///
    /// # Errors
    /// The store's.
    pub fn warm(&mut self, count: usize) -> Result<()> {
        self.periods(WARM_CHECKPOINTS, count).map(drop)
    }

    /// Writes `bytes` of batches in large groups, and a checkpoint behind them.
    ///
    /// # Errors
    /// The store's.
    pub fn fill(&mut self, bytes: u64, timed: bool) -> Result<()> {
        let per_log = (FILL_GROUP_BYTES / self.logs[0].batch_bytes()).max(1);
        let mut written = 0;
        let mut log = 0;
        while written < bytes {
            let frames = &mut self.logs[log];
            let write = if timed { frames.append_timed(per_log) } else { frames.append(per_log) };
            self.round(vec![write])?;
            written += self.payload_bytes(per_log);
            log = (log + 1) % self.logs.len();
        }
        self.store.checkpoint(Vec::new())?;
        Ok(())
    }
}

/// Bytes of one group while a log is filled.
const FILL_GROUP_BYTES: usize = 1 << 20;

/// What was done in some rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Period {
    /// What it took.
    pub spent: Spent,
    /// Frames made durable.
    pub frames: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl Period {
    /// Bytes of batches a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.spent.total().as_secs_f64()
    }

    /// Frames a second.
    pub fn frames_per_second(&self) -> f64 {
        self.frames as f64 / self.spent.total().as_secs_f64()
    }
}
