//! The mutation gate: every way to do it wrong must be found within a stated number of seeds, and the build that does nothing wrong
//! must pass the same seeds.

mod bounds;
mod finders;
mod scripts;

use crate::Broken;
use crate::many::Seeds;
use crate::options::Shape;
use crate::report::Failure;
use crate::run::guarded;
use crate::scenes::Scene;
use bounds::bound;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What finds it within so many seeds is part of the short form.
pub const SHORT_SEEDS: u64 = 80;

/// Which runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of the simulated cluster, with this shape.
    Cluster(Shape),
    /// Of a small world.
    Scene(Scene),
    /// Of a scenario, which draws nothing: one seed is all seeds.
    Scenario(&'static str),
}

impl Place {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Cluster(shape) => shape.name(),
            Place::Scene(scene) => scene.name(),
            Place::Scenario(name) => name,
        }
    }

    /// The first seed that fails. The same on any number of threads: those before it are played to their end.
    fn first_failure(self, broken: Broken, seeds: Range<u64>, threads: usize) -> Option<(u64, Failure)> {
        let shape = match self {
            Place::Cluster(shape) => shape,
            Place::Scene(scene) => {
                let fails = |seed| Some((seed, guarded(broken, || scene.play(seed)).err()?));
                return seeds.into_iter().find_map(fails);
            }
            Place::Scenario(name) => {
                return Some((seeds.start, guarded(broken, || scripts::play(name)).err()?));
            }
        };
        let (first, count) = (seeds.start, seeds.end - seeds.start);
        let seeds = Seeds { first, count, shape: Some(shape), broken, threads };
        let mut first: Option<(u64, Failure)> = None;
        seeds.run(|report| {
            if let Some(failure) = report.failure
                && first.as_ref().is_none_or(|(seed, _)| report.seed < *seed)
            {
                first = Some((report.seed, failure));
            }
            first.is_none()
        });
        first
    }
}

/// What is done wrong, and where it must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What is wrong.
    pub broken: Broken,
    /// In these runs.
    pub place: Place,
    /// By this many seeds.
    pub within: u64,
    /// From this one up.
    pub first: u64,
}

/// How a trial ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The trial.
    pub trial: Trial,
    /// The first seed that fails, if any does.
    pub found: Option<(u64, Failure)>,
}

/// What the build without anything wrong did on the seeds of one shape.
#[derive(Clone, Debug)]
pub struct Right {
    /// Which runs.
    pub place: Place,
    /// Its seeds.
    pub seeds: Range<u64>,
    /// The first that fails.
    pub failed: Option<(u64, Failure)>,
}

/// Every trial, or those that few seeds decide.
pub fn trials(short: bool, first: u64) -> Vec<Trial> {
    let trial = |broken| bound(broken).map(|(place, within)| Trial { broken, place, within, first });
    let all = Broken::all().into_iter().filter_map(trial);
    all.filter(|trial| !short || trial.within <= SHORT_SEEDS).collect()
}

impl Trial {
    fn seeds(&self) -> Range<u64> {
        self.first..self.first + self.within
    }

    /// Plays seeds until one fails.
    pub fn judge(self, threads: usize) -> Verdict {
        Verdict { trial: self, found: self.place.first_failure(self.broken, self.seeds(), threads) }
    }
}

/// Plays the seeds that found something, and those that should have, without anything wrong.
pub fn play_right(verdicts: &[Verdict], threads: usize) -> Vec<Right> {
    let mut most: BTreeMap<&str, (Place, Range<u64>)> = BTreeMap::new();
    for Verdict { trial, found } in verdicts {
        let end = found.as_ref().map_or(trial.seeds().end, |(seed, _)| seed + 1);
        let known = most.entry(trial.place.name()).or_insert((trial.place, trial.first..end));
        known.1.end = known.1.end.max(end);
    }
    let right = |(place, seeds): (Place, Range<u64>)| {
        let failed = place.first_failure(Broken::No, seeds.clone(), threads);
        Right { place, seeds, failed }
    };
    most.into_values().map(right).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trial { broken, place, within, first } = self.trial;
        write!(f, "{:<27} {:<14}", broken.name(), place.name())?;
        match &self.found {
            Some((seed, failure)) => write!(f, "{:>4} of {within:<4} {}", seed + 1 - first, finders::finder(failure)),
            None => write!(f, "NOT FOUND by {within} seeds: {}", broken.wrong()),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<27} {:<14}", "nothing wrong", self.place.name())?;
        match &self.failed {
            Some((seed, failure)) => write!(f, "FAILED with seed {seed}: {failure}"),
            None => write!(f, "{:>4} seeds pass", self.seeds.end - self.seeds.start),
        }
    }
}
