//! What is known of a shard's disk: said by its disk thread and its consensus thread, read by health, metrics and `/readyz`.

use dlog_core::{DiskState, MonotonicTime, Space, SpaceLevel};
use dlog_storage::{Stall, StallBounds, StallWatch};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The codes of [`DiskHealth::trouble`].
pub const TROUBLES: [&str; 2] = ["disk_full", "disk_stuck"];

/// What others see.
#[derive(Debug, Default)]
pub struct DiskHealth {
    /// Even: the disk thread rests. Odd: the number of the operation in flight.
    operation: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    state: DiskState,
    /// How long the operation that made it stuck has been in flight.
    stuck_for: Duration,
}

impl DiskHealth {
    /// The disk thread begins another operation. Only that thread calls this and [`DiskHealth::rest`].
    pub fn begin(&self) {
        let before = self.operation.load(Ordering::Relaxed);
        self.operation.store((before | 1) + 2, Ordering::Relaxed);
    }

    /// The disk thread waits for work.
    pub fn rest(&self) {
        let before = self.operation.load(Ordering::Relaxed);
        self.operation.store((before | 1) + 1, Ordering::Relaxed);
    }

    /// The operation in flight.
    pub fn operation(&self) -> Option<u64> {
        let operation = self.operation.load(Ordering::Relaxed);
        (operation % 2 == 1).then_some(operation)
    }

    /// What replicas were told last.
    pub fn state(&self) -> DiskState {
        self.seen.lock().expect("no holder panics").state
    }

    /// What is wrong, and what helps; `None`: nothing.
    pub fn trouble(&self) -> Option<Trouble> {
        let Seen { state, stuck_for } = *self.seen.lock().expect("no holder panics");
        if state.stuck {
            return Some(Trouble {
                code: "disk_stuck",
                detail: format!(
                    "its disk doesn't answer: a write has waited for {} s, and nothing is led there until it does",
                    stuck_for.as_secs()
                ),
                next: "look at the kernel's log and the disk's health on that machine; if it doesn't come back, replace the disk or the node",
            });
        }
        let refused = match state.space.level {
            SpaceLevel::Ample => return None,
            SpaceLevel::Full => "it takes no records from producers",
            SpaceLevel::Exhausted => "it takes no records, from leaders neither",
        };
        Some(Trouble {
            code: "disk_full",
            detail: format!("its disk is full: {}; {refused}", state.space),
            next: "free some space on that disk, shorten retention or delete topics; writes then go on by themselves",
        })
    }

    fn set(&self, state: DiskState, stuck_for: Duration) {
        *self.seen.lock().expect("no holder panics") = Seen { state, stuck_for };
    }
}

/// What is wrong with a disk, in the form of health's reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A stable word.
    pub code: &'static str,
    /// What is wrong.
    pub detail: String,
    /// What helps.
    pub next: &'static str,
}

/// The consensus thread's eye on the disk: it ticks whatever the disk does.
pub struct DiskWatch {
    health: std::sync::Arc<DiskHealth>,
    stall: StallWatch,
    told: DiskState,
}

impl DiskWatch {
    /// Of a disk that is well.
    pub fn new(health: std::sync::Arc<DiskHealth>, bounds: StallBounds) -> DiskWatch {
        DiskWatch { health, stall: StallWatch::new(bounds), told: DiskState::default() }
    }

    /// The disk thread found this room: what replicas are to be told.
    pub fn room(&mut self, space: Space) -> DiskState {
        self.told.space = space;
        self.health.set(self.told, Duration::ZERO);
        self.told
    }

    /// With every tick: what replicas are to be told, if that changed. Ends the process if the disk won't answer.
    pub fn look(&mut self, now: MonotonicTime) -> Option<DiskState> {
        let busy = match self.stall.look(now, self.health.operation()) {
            Stall::Well => None,
            Stall::Stuck(busy) => Some(busy),
            Stall::Hopeless(busy) => crate::give_up(&format!(
                "the disk of the data directory hasn't answered a write for {} s; look at the kernel's log and the disk's health",
                busy.as_secs()
            )),
        };
        let before = std::mem::replace(&mut self.told.stuck, busy.is_some());
        if busy.is_some() || before {
            self.health.set(self.told, busy.unwrap_or_default());
        }
        match (before, self.told.stuck) {
            (false, true) => tracing::error!("the disk doesn't answer: what is led here is handed over"),
            (true, false) => tracing::warn!("the disk answers again"),
            _ => return None,
        }
        Some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const BOUNDS: StallBounds =
        StallBounds { stuck_after: Duration::from_secs(2), hopeless_after: Duration::from_secs(3600) };

    #[test]
    fn an_operation_is_in_flight_until_the_next_or_the_rest() {
        let health = DiskHealth::default();
        assert_eq!(health.operation(), None);
        health.begin();
        let first = health.operation().expect("in flight");
        health.begin();
        assert_ne!(health.operation(), Some(first));
        assert!(health.operation().is_some());
        health.rest();
        assert_eq!(health.operation(), None);
    }

    #[test]
    fn a_stuck_disk_is_told_once_and_shown_until_it_answers() {
        let health = Arc::new(DiskHealth::default());
        let mut watch = DiskWatch::new(Arc::clone(&health), BOUNDS);
        health.begin();
        let looks = |watch: &mut DiskWatch, seconds: std::ops::Range<u64>| -> Vec<DiskState> {
            seconds.filter_map(|second| watch.look(MonotonicTime(second * 1_000_000_000))).collect()
        };
        let told = looks(&mut watch, 0..10);
        assert_eq!(told.iter().map(|state| state.stuck).collect::<Vec<_>>(), [true]);
        let trouble = health.trouble().expect("a trouble");
        assert!(trouble.code == "disk_stuck" && trouble.detail.contains("9 s"), "{trouble:?}");
        health.rest();
        let told = looks(&mut watch, 10..30);
        assert_eq!(told.iter().map(|state| state.stuck).collect::<Vec<_>>(), [false]);
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn a_full_disk_is_shown_with_its_figures() {
        let health = Arc::new(DiskHealth::default());
        let mut watch = DiskWatch::new(Arc::clone(&health), BOUNDS);
        let space = Space { level: SpaceLevel::Full, free_bytes: 96 << 20, reserve_bytes: 512 << 20 };
        assert_eq!(watch.room(space).space, space);
        let trouble = health.trouble().expect("a trouble");
        assert!(trouble.code == "disk_full" && trouble.detail.contains("96 MiB are free, 512 MiB"), "{trouble:?}");
        assert!(watch.look(MonotonicTime(1)).is_none(), "it isn't stuck");
        assert!(health.state().space.is_full());
        watch.room(Space { level: SpaceLevel::Ample, ..space });
        assert_eq!(health.trouble(), None);
    }
}
