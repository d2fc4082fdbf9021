//! The raw disk: write and fdatasync of one file, nothing else, in each of the three ways that a file can have its blocks.

use crate::Result;
use crate::figure::median;
use crate::place::Place;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How the file has its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A fresh file that grows with each write.
    Growing,
    /// Blocks given by fallocate, never written.
    Allocated,
    /// Every block written before.
    Overwritten,
}

/// All of them.
pub const LAYOUTS: [Layout; 3] = [Layout::Growing, Layout::Allocated, Layout::Overwritten];

/// Bytes of one write while a file is filled.
const FILL_BYTES: usize = 1 << 20;

impl Layout {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Growing => "growing",
            Layout::Allocated => "allocated",
            Layout::Overwritten => "overwritten",
        }
    }
}

/// What some writes took.
#[derive(Clone, Debug)]
pub struct RawSample {
    /// Each write with its sync, in microseconds.
    pub each: Vec<f64>,
    /// Bytes of one write.
    pub write_bytes: usize,
}

impl RawSample {
    /// The middle of the writes, in microseconds.
    pub fn p50(&self) -> f64 {
        median(&self.each)
    }

    /// Bytes a second over all of them.
    pub fn bytes_per_second(&self) -> f64 {
        (self.write_bytes * self.each.len()) as f64 / (self.each.iter().sum::<f64>() / 1e6)
    }
}

/// Microseconds.
pub fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// Writes `count` times `write_bytes` bytes, one behind the other, each followed by fdatasync. Making the file ready is not
/// measured.
///
/// # Errors
/// The system's.
pub fn measure(place: &Place, layout: Layout, write_bytes: usize, count: usize) -> Result<RawSample> {
    let path = place.path("raw");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    make_ready(&file, layout, (write_bytes * count) as u64)?;
    place.settle()?;
    let mut bytes = vec![0u8; write_bytes];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let mut each = Vec::with_capacity(count);
    for number in 0..count {
        let began = Instant::now();
        file.write_all_at(&bytes, (number * write_bytes) as u64)?;
        file.sync_data()?;
        each.push(micros(began.elapsed()));
    }
    std::fs::remove_file(&path)?;
    Ok(RawSample { each, write_bytes })
}

fn make_ready(file: &File, layout: Layout, bytes: u64) -> Result<()> {
    match layout {
        Layout::Growing => {}
        Layout::Allocated => rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?,
        Layout::Overwritten => {
            let zeros = vec![0u8; FILL_BYTES];
            for at in (0..bytes).step_by(FILL_BYTES) {
                file.write_all_at(&zeros[..FILL_BYTES.min((bytes - at) as usize)], at)?;
            }
        }
    }
    Ok(file.sync_all()?)
}

/// The samples of several rounds, for each layout.
#[derive(Clone, Debug, Default)]
pub struct RawRounds {
    rounds: Vec<[Option<RawSample>; 3]>,
}

impl RawRounds {
    /// One more round: every one of `layouts` once, another one first each time.
    ///
    /// # Errors
    /// The system's.
    pub fn run(&mut self, place: &Place, layouts: &[Layout], write_bytes: usize, count: usize) -> Result<()> {
        let mut round = [None, None, None];
        for turn in 0..layouts.len() {
            let layout = layouts[(turn + self.rounds.len()) % layouts.len()];
            round[layout as usize] = Some(measure(place, layout, write_bytes, count)?);
        }
        self.rounds.push(round);
        Ok(())
    }

    /// The layout with the best median of `cost` over the rounds, and its cost in each of them.
    ///
    /// # Panics
    /// Before the first round.
    pub fn fastest(&self, cost: impl Fn(&RawSample) -> f64) -> (Layout, Vec<f64>) {
        let costs = LAYOUTS.into_iter().filter_map(|layout| {
            let each: Vec<f64> = self.of(layout).map(&cost).collect();
            (!each.is_empty()).then_some((layout, each))
        });
        costs.min_by(|one, two| median(&one.1).total_cmp(&median(&two.1))).expect("a round was run")
    }

    /// The samples of one layout.
    pub fn of(&self, layout: Layout) -> impl Iterator<Item = &RawSample> {
        self.rounds.iter().filter_map(move |round| round[layout as usize].as_ref())
    }

    /// What a reader needs beside a ratio: every layout's p50 and rate.
    pub fn text(&self) -> String {
        let one = |layout: Layout| {
            let each: Vec<&RawSample> = self.of(layout).collect();
            let p50 = median(&each.iter().map(|sample| sample.p50()).collect::<Vec<_>>());
            let rate = median(&each.iter().map(|sample| sample.bytes_per_second()).collect::<Vec<_>>());
            format!("{} {p50:.0} µs, {:.1} MB/s", layout.name(), rate / 1e6)
        };
        let measured = LAYOUTS.into_iter().filter(|layout| self.of(*layout).next().is_some());
        measured.map(one).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_has_the_best_median() {
        let sample = |each: f64| Some(RawSample { each: vec![each], write_bytes: 1 });
        let rounds = RawRounds {
            rounds: vec![
                [sample(3.0), sample(1.0), sample(2.0)],
                [sample(3.0), sample(9.0), sample(2.0)],
                [sample(3.0), sample(9.0), None],
            ],
        };
        assert_eq!(rounds.fastest(RawSample::p50), (Layout::Overwritten, vec![2.0, 2.0]));
    }
}
