//! The one queue of what will happen: by time, and among equals by the order in which it was said.

use std::collections::BTreeMap;

/// A microsecond of virtual time, in nanoseconds.
pub const MICROSECOND: u64 = 1_000;
/// A millisecond of virtual time, in nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;

/// Events to come.
///
/// Invariant: no event stands before `now`.
#[derive(Debug)]
pub struct Schedule<E> {
    now: u64,
    next: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Default for Schedule<E> {
    fn default() -> Schedule<E> {
        Schedule { now: 0, next: 0, events: BTreeMap::new() }
    }
}

impl<E> Schedule<E> {
    /// The time of the last event taken, in nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lets `event` happen `delay` nanoseconds from now.
    pub fn after(&mut self, delay: u64, event: E) {
        self.events.insert((self.now + delay, self.next), event);
        self.next += 1;
    }

    /// The next event; time goes on to it.
    pub fn take(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_said() {
        let mut schedule = Schedule::default();
        schedule.after(5, "late");
        schedule.after(2, "one");
        schedule.after(2, "two");
        assert_eq!(schedule.take(), Some("one"));
        assert_eq!(schedule.now(), 2);
        schedule.after(0, "three");
        assert_eq!([schedule.take(), schedule.take(), schedule.take()], [Some("two"), Some("three"), Some("late")]);
        assert_eq!((schedule.now(), schedule.take()), (5, None));
    }
}
