//! Goes through every cut point of write sequences: the power goes there, each subset of what was not synced is lost, and the next
//! start is compared with what was committed.
//!
//! By default some cut points of each sequence are taken, evenly spread, and of what a power loss may leave: all, nothing, each
//! subset while these are few, else each file and each name alone, and a few seeds. `DLOG_TEST_FULL=1` takes every cut point, and
//! more subsets and seeds at each.

#[path = "recovery_walk_faults_tests.rs"]
mod faults;
#[path = "recovery_walk_scripts_tests.rs"]
mod scripts;
#[cfg(feature = "mutants")]
#[path = "recovery_walk_mutants_tests.rs"]
mod wrong;

use crate::shard_model::Model;
use crate::shard_store::{GroupNumber, ShardStore};
use crate::sim_disk::{LoseUnsynced, SimDisk, SimDiskOptions, Unsynced};
use dlog_core::write::RestoredReplica;
use scripts::{IDENTITY, Player, Step, open};
use std::collections::BTreeSet;

/// How much of all that could be walked is walked.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Cut points of a sequence.
    cuts: u64,
    /// While there are no more things unsynced than this, every subset of them.
    exhaustive: usize,
    /// Seeds at each cut point.
    seeds: u64,
    /// At every so many cut points the start after it is cut short too, ...
    recoveries: u64,
    /// ... at so many places.
    recovery_cuts: u64,
    /// Single faults are tried behind so many steps of a sequence, ...
    stops: u64,
    /// ... so many flipped bits of each file among them, beside those in headers and groups.
    flips: u64,
}

impl Extent {
    const SHORT: Extent =
        Extent { cuts: 60, exhaustive: 4, seeds: 2, recoveries: 12, recovery_cuts: 10, stops: 4, flips: 6 };
    const FULL: Extent = Extent {
        cuts: u64::MAX,
        exhaustive: 7,
        seeds: 8,
        recoveries: 4,
        recovery_cuts: u64::MAX,
        stops: u64::MAX,
        flips: 64,
    };

    fn get() -> Extent {
        if std::env::var_os("DLOG_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0") {
            Extent::FULL
        } else {
            Extent::SHORT
        }
    }
}

/// What a power loss leaves of what was not synced.
#[derive(Clone, Debug)]
enum Left {
    /// Exactly this.
    Kept(Vec<Unsynced>),
    /// Each sector and name on its own, lengths between old and new.
    Seed(u64),
    /// All of it, still not synced: only the process died.
    Cache,
}

impl Left {
    fn apply(&self, disk: &SimDisk) -> SimDisk {
        let left = disk.fork(if let Left::Seed(seed) = self { *seed } else { 0 });
        match self {
            Left::Kept(kept) => left.crash_keeping(kept),
            Left::Seed(_) => {
                left.set_lose_unsynced(LoseUnsynced::Random);
                left.crash();
            }
            Left::Cache => {
                left.set_lose_unsynced(LoseUnsynced::Nothing);
                left.crash();
            }
        }
        left
    }
}

/// What belongs together: a file's sectors and length, or one change of names.
fn unit(of: &Unsynced) -> String {
    match of {
        Unsynced::Sector { file, .. } | Unsynced::Length { file } => file.clone(),
        Unsynced::Names { number, .. } => format!("names {number}"),
    }
}

/// All that is tried at a cut point.
fn lefts(disk: &SimDisk, extent: Extent) -> Vec<Left> {
    let unsynced = disk.unsynced();
    let mut lefts = vec![Left::Kept(Vec::new()), Left::Kept(unsynced.clone()), Left::Cache];
    let units: Vec<String> = unsynced.iter().map(unit).collect::<BTreeSet<_>>().into_iter().collect();
    let of_units = |chosen: &dyn Fn(usize) -> bool| {
        let is_in = |one: &&Unsynced| units.iter().position(|known| *known == unit(one)).is_some_and(chosen);
        Left::Kept(unsynced.iter().filter(is_in).cloned().collect())
    };
    if unsynced.len() <= extent.exhaustive {
        for subset in 1..(1usize << unsynced.len()).saturating_sub(1) {
            let chosen = unsynced.iter().enumerate().filter(|(at, _)| subset & (1 << at) != 0);
            lefts.push(Left::Kept(chosen.map(|(_, one)| one.clone()).collect()));
        }
        return lefts;
    }
    if units.len() <= extent.exhaustive {
        lefts.extend((1..(1usize << units.len()) - 1).map(|subset| of_units(&|at| subset & (1 << at) != 0)));
    } else {
        lefts.extend((0..units.len()).flat_map(|one| [of_units(&|at| at == one), of_units(&|at| at != one)]));
    }
    lefts.extend((0..extent.seeds).map(Left::Seed));
    lefts
}

/// What a start may find.
#[derive(Clone)]
struct Owed {
    /// What was committed, or that with the group that was in flight.
    models: Vec<Model>,
    told: GroupNumber,
}

impl Owed {
    fn by(player: &Player) -> Owed {
        let models = std::iter::once(&player.model).chain(&player.in_flight).cloned().collect();
        Owed { models, told: player.told }
    }

    /// A start on this disk, compared; what is owed from then on.
    fn start(&self, disk: &SimDisk) -> Result<Owed, String> {
        let (store, restored) = open(disk, IDENTITY).map_err(|error| format!("refused: {error}"))?;
        if store.last_group() < self.told {
            return Err(format!("recovered {:?}, and {:?} was told", store.last_group(), self.told));
        }
        if let Some((replica, error)) = store.damage().first() {
            return Err(format!("{replica} is said to be damaged: {error}"));
        }
        let whys = self.models.iter().map(|model| (model, model.differs(&store, &restored, &|_| false)));
        let whys: Vec<(&Model, String)> = whys.collect();
        let Some((model, _)) = whys.iter().find(|(_, why)| why.is_empty()) else {
            let whys: Vec<String> = whys.into_iter().map(|(_, why)| why).collect();
            return Err(whys.join("; with what was in flight: "));
        };
        let mut model = (*model).clone();
        tables_are_right(&restored)?;
        tidy_is_kept(disk, &store)?;
        for replica in &restored {
            let known = model.replicas.get_mut(&replica.replica).expect("compared");
            known.recorded = replica.commit;
        }
        Ok(Owed { models: vec![model], told: store.last_group() })
    }

    /// A start; and since what it gave back is durable, the same after a power loss with nothing synced since.
    fn start_twice(&self, disk: &SimDisk) -> Result<(), String> {
        let owed = self.start(disk)?;
        disk.set_lose_unsynced(LoseUnsynced::All);
        disk.crash();
        owed.start(disk).map(drop).map_err(|why| format!("after another power loss: {why}"))
    }
}

fn tables_are_right(restored: &[RestoredReplica]) -> Result<(), String> {
    for replica in restored {
        if let Some((index, table)) = &replica.producers
            && *table != scripts::table(index.0)
        {
            return Err(format!("{} has another table as of {index}", replica.replica));
        }
    }
    Ok(())
}

/// Nothing half made is left where it would stay for good.
fn tidy_is_kept(disk: &SimDisk, store: &ShardStore<SimDisk>) -> Result<(), String> {
    let half_made: Vec<String> =
        disk.tree().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".journal.tmp")).collect();
    if !half_made.is_empty() {
        return Err(format!("left over: {half_made:?}"));
    }
    let stats = store.stats();
    let files = scripts::options().journal.files_max;
    if stats.journal_files > files + 1 {
        return Err(format!("{} journal files, and {files} are allowed", stats.journal_files));
    }
    Ok(())
}

/// Where a walk found something wrong.
#[derive(Debug)]
struct Found {
    /// Cut points, failed syncs or stops until then, ...
    cuts: u64,
    /// ... and disks looked at.
    disks: u64,
    what: String,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default)]
struct Walked {
    cuts: u64,
    disks: u64,
}

fn disk() -> SimDisk {
    SimDisk::new(SimDiskOptions::default())
}

/// So many of the numbers from 1 to `last`, evenly spread, the last among them.
fn spread(last: u64, count: u64) -> impl Iterator<Item = u64> {
    let count = count.min(last);
    (1..=count).map(move |at| (u128::from(at) * u128::from(last) / u128::from(count)) as u64)
}

/// One sequence.
struct Walk<'a> {
    name: &'a str,
    steps: &'a [Step],
    extent: Extent,
    walked: Walked,
}

impl Walk<'_> {
    fn found(&self, at: &str, left: &dyn std::fmt::Debug, player: &Player, what: String) -> Found {
        let step = match self.steps.get(player.done) {
            Some(step) => format!("{step:?}"),
            None => "the end".to_string(),
        };
        let step = step.chars().take(300).collect::<String>();
        let (name, done) = (self.name, player.done);
        let what = format!("{name}: {at}, in step {done} ({step}), left {left:?}: {what}");
        Found { cuts: self.walked.cuts, disks: self.walked.disks, what }
    }

    /// How many calls change something, and how many syncs of files there are.
    fn whole(&self) -> Result<(u64, u64), Found> {
        let mut player = Player::new(disk());
        let played = player.play(self.steps);
        played.map_err(|error| self.found("played whole", &"all", &player, error.to_string()))?;
        let stats = player.disk.stats();
        Ok((stats.changes, stats.syncs))
    }

    /// The power goes at each cut point.
    fn power(&mut self) -> Result<(), Found> {
        let (changes, _) = self.whole()?;
        for (number, cut) in spread(changes, self.extent.cuts).enumerate() {
            let mut player = Player::new(disk());
            player.disk.cut_power_after(cut);
            let done = player.play(self.steps).is_ok();
            if done && cut < changes {
                return Err(self.found("not cut", &cut, &player, "an error was swallowed".to_string()));
            }
            self.walked.cuts += 1;
            let owed = Owed::by(&player);
            let lefts = lefts(&player.disk, self.extent);
            for left in &lefts {
                self.walked.disks += 1;
                let started = owed.start_twice(&left.apply(&player.disk));
                started.map_err(|what| self.found(&format!("cut after {cut} calls"), left, &player, what))?;
            }
            if (number as u64).is_multiple_of(self.extent.recoveries) {
                for left in [&lefts[0], &lefts[1], &lefts[2]].into_iter().chain(lefts.last()) {
                    self.recovery(&player, cut, left)?;
                }
            }
        }
        Ok(())
    }

    /// The start after it is cut short at each of its cut points too.
    fn recovery(&mut self, player: &Player, cut: u64, left: &Left) -> Result<(), Found> {
        let owed = Owed::by(player);
        let whole = left.apply(&player.disk);
        let opened = open(&whole, IDENTITY).map(drop);
        opened.map_err(|error| self.found(&format!("cut after {cut} calls"), left, player, error.to_string()))?;
        for second in spread(whole.stats().changes, self.extent.recovery_cuts) {
            let first = left.apply(&player.disk);
            first.cut_power_after(second);
            drop(open(&first, IDENTITY));
            let unsynced = first.unsynced();
            for then in [Left::Kept(Vec::new()), Left::Kept(unsynced), Left::Cache, Left::Seed(second)] {
                self.walked.disks += 1;
                owed.start_twice(&then.apply(&first)).map_err(|what| {
                    let at = format!("cut after {cut} calls, the next start after {second}");
                    self.found(&at, &(left, then), player, what)
                })?;
            }
        }
        Ok(())
    }

    /// Each sync of a file fails, the process ends, the next start reads what only the cache has, and then the power goes.
    fn syncs(&mut self) -> Result<(), Found> {
        let (_, syncs) = self.whole()?;
        for sync in spread(syncs, self.extent.cuts) {
            let mut player = Player::new(disk());
            player.disk.fail_sync_after(sync - 1);
            let failed = player.play(self.steps).is_err();
            if !failed {
                return Err(self.found("a failed sync", &sync, &player, "it was swallowed".to_string()));
            }
            self.walked.cuts += 1;
            let owed = Owed::by(&player);
            for left in [Left::Cache, Left::Kept(Vec::new()), Left::Kept(player.disk.unsynced())] {
                self.walked.disks += 1;
                let started = owed.start_twice(&left.apply(&player.disk));
                started.map_err(|what| self.found(&format!("sync {sync} failed"), &left, &player, what))?;
            }
        }
        Ok(())
    }

    fn all(&mut self) -> Result<(), Found> {
        self.power()?;
        self.syncs()
    }
}

fn walk(name: &str, steps: &[Step]) {
    let mut walk = Walk { name, steps, extent: Extent::get(), walked: Walked::default() };
    let done = walk.all();
    println!("{name}: {:?}", walk.walked);
    if let Err(found) = done {
        panic!("cut point {}, disk {}: {}", found.cuts, found.disks, found.what);
    }
}

#[test]
fn appends() {
    walk("appends", &scripts::appends());
}

#[test]
fn rolls() {
    walk("rolls", &scripts::rolls());
}

#[test]
fn cuts() {
    walk("cuts", &scripts::cuts());
}

#[test]
fn resets() {
    walk("resets", &scripts::resets());
}

#[test]
fn retention() {
    walk("retention", &scripts::retention());
}

#[test]
fn creations() {
    walk("creations", &scripts::creations());
}

#[test]
fn compaction() {
    walk("compaction", &scripts::compaction());
}

#[test]
fn recycling() {
    walk("recycling", &scripts::recycling());
}

#[test]
fn stops() {
    walk("stops", &scripts::stops());
}
