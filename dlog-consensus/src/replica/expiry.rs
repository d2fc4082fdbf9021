//! Producers that are silent for long are forgotten, on all replicas at the same entry.
//!
//! Every replica notes from time to time how far it has applied. When such a note is older than the expiry, a producer whose last
//! batch lies at or below it has been silent for at least that long, by this replica's own monotonic clock. The leader names such
//! producers in an entry, each with its last batch: one that appended meanwhile stays. A start begins without notes, so it may
//! only delay an expiry.

use super::Replica;
use crate::output::Output;
use crate::payload::{EXPIRED_PRODUCERS_MAX, encode_expiry};
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime};
use std::collections::VecDeque;
use std::time::Duration;

/// Notes for each expiry: producers are forgotten at most one part of so many later.
const NOTES: u32 = 16;

/// When this replica had applied how much, and the expiry under way.
#[derive(Debug)]
pub(crate) struct Expiry {
    after: Duration,
    /// Rising in both; the first one is the newest that is old enough, if any is.
    notes: VecDeque<(MonotonicTime, LogIndex)>,
    /// The last expiry entry that this replica proposed: not again before it is applied or lost.
    proposed: LogIndex,
}

impl Expiry {
    pub(crate) fn new(after: Duration) -> Expiry {
        Expiry { after, notes: VecDeque::new(), proposed: LogIndex::ZERO }
    }

    fn note(&mut self, now: MonotonicTime, applied: LogIndex) {
        let due = |(last, _): &(MonotonicTime, LogIndex)| now.since(*last) >= self.after / NOTES;
        if self.notes.back().is_none_or(due) {
            self.notes.push_back((now, applied));
        }
        while self.notes.get(1).is_some_and(|(noted, _)| now.since(*noted) >= self.after) {
            self.notes.pop_front();
        }
    }

    /// Whoever appended nothing behind this entry has been silent for the whole time.
    fn silent_since(&self, now: MonotonicTime) -> Option<LogIndex> {
        let (noted, applied) = self.notes.front()?;
        (now.since(*noted) >= self.after).then_some(*applied)
    }
}

impl Replica {
    /// Notes how far this replica is; a leader proposes to forget who has been silent for too long.
    pub(super) fn expire_producers(&mut self, now: MonotonicTime, out: &mut Vec<Output>) {
        if self.log == LogId::GROUP_ZERO {
            return;
        }
        let applied = self.driver.storage().view.applied();
        self.expiry.note(now, applied.max(self.as_of));
        let Some(through) = self.expiry.silent_since(now) else { return };
        let last = self.driver.storage().view.last().index;
        let under_way = self.expiry.proposed > applied && self.expiry.proposed <= last;
        if under_way || self.check_leading().is_err() || !self.driver.raft().apply_to_current_term() {
            return;
        }
        let expired = self.producers.silent(through, EXPIRED_PRODUCERS_MAX);
        // Without room the next tick tries again.
        if !expired.is_empty()
            && self.propose_entry(now, FrameKind::ProducerExpiry, encode_expiry(&expired), None, out).is_ok()
        {
            self.expiry.proposed = last.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn notes_are_few_and_never_too_young() {
        let mut expiry = Expiry::new(Duration::from_secs(160));
        assert_eq!(expiry.silent_since(at(1000)), None, "nothing is known yet");
        for second in 0..1000 {
            // One entry a second.
            expiry.note(at(second), LogIndex(second));
            assert!(expiry.notes.len() <= NOTES as usize + 2, "{}", expiry.notes.len());
            match expiry.silent_since(at(second)) {
                None => assert!(second < 160),
                Some(through) => assert!((160..=170).contains(&(second - through.0)), "{second} {through}"),
            }
        }
    }
}
