//! Single faults on top of a stop: one file has other bytes, another length, is gone, or is another one. The next start has all that
//! was committed, or tells what is damaged; it never has less, and never gives out what was not written.
//!
//! The store has rested before it stops: its seal proves the last group, which else couldn't be told from a torn one. What no
//! start can notice is left out: see [`is_hidden`].

use super::scripts::{self, IDENTITY, OTHER, Player, Step, open};
use super::{Extent, Found, disk, spread};
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::journal::file::read_whole;
use crate::shard_model::Model;
use crate::shard_store::GroupNumber;
use crate::sim_disk::{LoseUnsynced, SimDisk};

const SHARD: &str = "data/shard-3";

/// One thing that is wrong with one file.
#[derive(Clone, Debug)]
enum How {
    Flipped(u64, u8),
    Cut(u64),
    Grown(u64),
    Gone,
    /// It is another cluster's.
    Foreign,
    /// It is this other one of the same shard.
    Swapped(String),
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Journal,
    Checkpoint,
    Segment,
    /// A start can do without it, if the log begins at 1.
    Producers,
    /// A start can always do without it.
    Cache,
}

fn kind(path: &str) -> Kind {
    match path.rsplit(['/', '.']).next() {
        Some("journal") => Kind::Journal,
        Some("segment") => Kind::Segment,
        Some("producers") => Kind::Producers,
        Some("checkpoint-a" | "checkpoint-b") => Kind::Checkpoint,
        _ => Kind::Cache,
    }
}

/// A stopped store, all of it durable.
struct Stopped {
    disk: SimDisk,
    /// Another cluster's that did the same.
    other: SimDisk,
    model: Model,
    told: GroupNumber,
    /// The file that is written to.
    newest: String,
    /// How many there are.
    checkpoints: usize,
}

impl Stopped {
    fn after(steps: &[Step]) -> Stopped {
        let play = |identity| {
            let mut player = Player { identity, ..Player::new(disk()) };
            let rest = [steps, &[Step::Seal]].concat();
            player.play(&rest).expect("a healthy disk");
            let stopped = player.disk.fork(0);
            stopped.crash_keeping(&stopped.unsynced());
            (stopped, player)
        };
        let ((disk, player), (other, _)) = (play(IDENTITY), play(OTHER));
        let journal =
            |(path, bytes): (String, Option<u64>)| bytes.filter(|_| kind(&path) == Kind::Journal).map(|_| path);
        let holds_group = |path: &String| {
            let context = crate::journal::group::GroupContext {
                cluster: IDENTITY.cluster,
                shard: IDENTITY.shard,
                generation: crate::journal::file::generation_of(path.rsplit('/').next().expect("a name"))
                    .expect("ours"),
            };
            let bytes = read_whole(&disk, path).expect("read");
            let mut blocks = (0..bytes.len() as u64).step_by(4096);
            blocks.any(|at| crate::journal::group::GroupCopy::at_head(context, &bytes, at).is_some())
        };
        let newest = disk.tree().into_iter().filter_map(journal).rfind(holds_group).unwrap_or_default();
        let checkpoints = disk.tree().iter().filter(|(path, _)| kind(path) == Kind::Checkpoint).count();
        Stopped { disk, other, model: player.model, told: player.told, newest, checkpoints }
    }

    fn files(&self) -> Vec<(String, u64)> {
        let files = self.disk.tree().into_iter().filter_map(|(path, bytes)| Some((path, bytes?)));
        files.filter(|(path, _)| path.starts_with(SHARD) && !path.contains("/aside/")).collect()
    }

    fn faults(&self, path: &str, bytes: u64, flips: u64) -> Vec<How> {
        let mut hows = vec![How::Gone, How::Grown(700), How::Foreign];
        hows.extend([0, bytes / 2, bytes.saturating_sub(1)].map(How::Cut));
        hows.extend(spread(bytes, flips).map(|at| How::Flipped(at - 1, 1 << (at % 8))));
        // Where headers stand.
        hows.extend([4, 8, 30, 60, 70].into_iter().filter(|at| *at < bytes).map(|at| How::Flipped(at, 1)));
        if kind(path) == Kind::Journal {
            let blocks = (4096..bytes).step_by(4096);
            hows.extend(blocks.flat_map(|block| [20, 300, 500, 700].map(|at| How::Flipped(block + at, 2))));
        }
        let like = |(other, _): &(String, u64)| other != path && kind(other) == kind(path);
        hows.extend(self.files().into_iter().filter(like).map(|(other, _)| How::Swapped(other)));
        hows
    }

    /// The disk with the fault; `None` if that changes nothing.
    fn with(&self, path: &str, how: &How) -> Option<SimDisk> {
        let disk = self.disk.fork(0);
        let before = read_whole(&disk, path).expect("read").to_vec();
        let after = match how {
            How::Flipped(at, mask) => {
                let mut bytes = before.clone();
                bytes[*at as usize] ^= mask;
                bytes
            }
            How::Cut(bytes) => before[..*bytes as usize].to_vec(),
            How::Grown(bytes) => [&before[..], &vec![0x5a; *bytes as usize]].concat(),
            How::Gone => {
                disk.remove(path).expect("removed");
                Vec::new()
            }
            How::Foreign => read_whole(&self.other, path).ok()?.to_vec(),
            How::Swapped(other) => read_whole(&disk, other).expect("read").to_vec(),
        };
        if !matches!(how, How::Gone) {
            let file = disk.open(path).expect("opened");
            file.set_len(0).expect("cut");
            file.write_at(&[&after], 0).expect("written");
        }
        disk.crash_keeping(&disk.unsynced());
        (before != after || matches!(how, How::Gone)).then_some(disk)
    }

    /// A start with the fault; whether it was told.
    fn judge(&self, path: &str, disk: &SimDisk) -> Result<bool, String> {
        let before = disk.tree();
        let is_told = |error: &StorageError| {
            let named = matches!(error, StorageError::Corrupt { .. } | StorageError::NeedsOperator { .. });
            named && error.to_string().contains(path)
        };
        let (store, restored) = match open(disk, IDENTITY) {
            Ok(opened) => opened,
            Err(error) => {
                let told = matches!(error, StorageError::Corrupt { .. } | StorageError::NeedsOperator { .. });
                return match kind(path) {
                    Kind::Cache | Kind::Producers => Err(format!("refused for a file that isn't needed: {error}")),
                    _ if !told => Err(format!("refused, but not told as damage: {error}")),
                    Kind::Checkpoint if self.checkpoints == 2 => {
                        Err(format!("refused for one of two checkpoints: {error}"))
                    }
                    // A cut whose place can't be found is met when other things were done: nothing is lost by them.
                    kind if kind != Kind::Segment && disk.tree() != before => {
                        Err(format!("a refused start changed something: {error}"))
                    }
                    _ => Ok(true),
                };
            }
        };
        let damage = store.damage();
        if let Some((_, error)) = damage.iter().find(|(_, error)| !is_told(error)) {
            return Err(format!("another file is said to be damaged: {error}"));
        }
        if kind(path) == Kind::Cache && !damage.is_empty() {
            return Err(format!("damage for a file that isn't needed: {damage:?}"));
        }
        if store.last_group() < self.told {
            return Err(format!("recovered {:?}, and {:?} was told", store.last_group(), self.told));
        }
        let mut model = self.model.clone();
        for (replica, _) in damage.iter().filter(|_| kind(path) == Kind::Producers) {
            let replica = model.replicas.get_mut(replica).expect("it is there");
            // How far retention went can't be told without its table.
            (replica.producers, replica.state_synced) = (None, replica.last().index);
        }
        // A table that is lost is made again from the log, if that begins at 1.
        for replica in model.replicas.values_mut().filter(|replica| replica.start.index.0 == 0) {
            replica.producers = None;
        }
        let why = model.differs(&store, &restored, &|error| is_told(error) && kind(path) == Kind::Segment);
        if why.is_empty() { Ok(!damage.is_empty()) } else { Err(why) }
    }
}

/// What a start can't notice. A journal file is known by its name, and by the groups in it and behind it: if the newest one is
/// gone as a whole before a checkpoint names it, nothing says that there was one.
fn is_hidden(stopped: &Stopped, path: &str, how: &How) -> bool {
    let whole = matches!(how, How::Gone | How::Swapped(_));
    let named = |slot| {
        let state = crate::checkpoint::read_slot(&stopped.disk, SHARD, slot, (IDENTITY.cluster, IDENTITY.shard));
        match state.expect("read") {
            crate::checkpoint::SlotState::Good(checkpoint) => {
                Some((checkpoint.sequence, checkpoint.position.generation))
            }
            _ => None,
        }
    };
    let newest = [crate::checkpoint::Slot::A, crate::checkpoint::Slot::B].into_iter().filter_map(named).max();
    let is_named = newest.is_some_and(|(_, generation)| path.ends_with(&crate::journal::file::file_name(generation)));
    whole && kind(path) == Kind::Journal && path == stopped.newest && !is_named
}

/// All faults after some of the steps; how many were tried, and how many told.
pub(super) fn faults(name: &str, steps: &[Step], extent: Extent) -> Result<(u64, u64), Found> {
    let (mut tried, mut told) = (0, 0);
    for (stop, done) in spread(steps.len() as u64, extent.stops).enumerate() {
        let stopped = Stopped::after(&steps[..done as usize]);
        for (path, bytes) in stopped.files() {
            for how in stopped.faults(&path, bytes, extent.flips) {
                if is_hidden(&stopped, &path, &how) {
                    continue;
                }
                let Some(disk) = stopped.with(&path, &how) else { continue };
                tried += 1;
                let judged = stopped.judge(&path, &disk).and_then(|first| {
                    disk.set_lose_unsynced(LoseUnsynced::All);
                    disk.crash();
                    let again = stopped.judge(&path, &disk);
                    again.map(|second| first || second).map_err(|what| format!("at the next start: {what}"))
                });
                let what = |what| Found {
                    cuts: stop as u64 + 1,
                    disks: tried,
                    what: format!("{name}, after {done} steps, {path} {how:?}: {what}"),
                };
                told += u64::from(judged.map_err(what)?);
            }
        }
    }
    Ok((tried, told))
}

fn check(name: &str, steps: &[Step]) {
    match faults(name, steps, Extent::get()) {
        Ok((tried, told)) => {
            println!("{name}: {tried} faults, {told} told at a start");
            assert!(tried > 100 && told > 10 && told < tried, "{tried} faults, {told} told");
        }
        Err(found) => panic!("fault {}: {}", found.disks, found.what),
    }
}

#[test]
fn on_appends_and_cuts() {
    check("appends", &scripts::appends());
    check("cuts", &scripts::cuts());
}

#[test]
fn on_rolls_and_recycling() {
    check("rolls", &scripts::rolls());
    check("recycling", &scripts::recycling());
}

#[test]
fn on_resets_and_retention() {
    check("resets", &scripts::resets());
    check("retention", &scripts::retention());
}

#[test]
fn on_creations_and_stops() {
    check("creations", &scripts::creations());
    check("stops", &scripts::stops());
}
