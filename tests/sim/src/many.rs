//! Many seeds, on as many threads as are wanted. Each run is alone in its world: threads only share the next seed.

use crate::options::{Options, Shape};
use crate::report::Report;
use crate::{Broken, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Threads that this machine runs at once.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Which seeds, and how.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// `None`: each seed's own, mixed but for every fourth.
    pub shape: Option<Shape>,
    /// What is done wrong on purpose.
    pub broken: Broken,
    /// On how many threads.
    pub threads: usize,
}

impl Seeds {
    /// What one of them draws.
    pub fn options(&self, seed: u64) -> Options {
        let usual = if seed % 4 == 3 { Shape::PowerLoss } else { Shape::Mixed };
        Options { broken: self.broken, ..Options::draw(seed, self.shape.unwrap_or(usual)) }
    }

    /// Runs them all; `each` sees every report as it comes, and says whether to go on.
    pub fn run(&self, each: impl FnMut(Report) -> bool + Send) {
        let next = AtomicU64::new(0);
        let each = Mutex::new(each);
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.count {
                            return;
                        }
                        let report = run(&self.options(self.first + number));
                        let mut each = each.lock().expect("no holder panics");
                        if !each(report) {
                            next.store(self.count, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }
}
