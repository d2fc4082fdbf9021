//! The one queue of what will happen: by time, and among equals by the order in which it was said.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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
    taken: u64,
    events: BinaryHeap<Due<E>>,
}

/// An event with its place. The greatest is the one that comes first.
#[derive(Debug)]
struct Due<E> {
    place: (u64, u64),
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Due<E>) -> bool {
        self.place == other.place
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Due<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Due<E>) -> Ordering {
        other.place.cmp(&self.place)
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Schedule<E> {
        Schedule { now: 0, next: 0, taken: 0, events: BinaryHeap::new() }
    }
}

impl<E> Schedule<E> {
    /// The time of the last event taken, in nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many events were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Lets `event` happen `delay` nanoseconds from now.
    pub fn after(&mut self, delay: u64, event: E) {
        self.events.push(Due { place: (self.now + delay, self.next), event });
        self.next += 1;
    }

    /// The next event; time goes on to it.
    pub fn take(&mut self) -> Option<E> {
        let Due { place, event } = self.events.pop()?;
        self.now = place.0;
        self.taken += 1;
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
