//! What was acked is there, where the ack said, once, and in the producer's order.
//!
//! The real-time rule: a batch's offset is above every offset that was acked when the batch was first sent.

use dlog_core::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What holds of the order of a producer's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Any,
    /// None stands behind one with a higher number. Those that were given up, or acked by a leader alone, may be missing.
    Rising,
    /// They stand in order and without a gap.
    Gapless,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug)]
pub struct SentBatch {
    /// Who sent it.
    pub producer: usize,
    /// Its place in the producer's order, from 0.
    pub number: u64,
    /// Records in it.
    pub records: u32,
    /// What must hold of the order of the producer's batches.
    pub order: Order,
    /// Whether an ack means that it is never lost.
    pub covered: bool,
    /// The offset after all that was acked when it was first sent.
    pub known: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Fate {
    batch: SentBatch,
    acked: Option<Offset>,
    stands: Option<Offset>,
    /// Every attempt to send it was answered with "surely not appended", and there will be no other.
    rejected: bool,
}

/// The batches of one partition, by the fingerprint of their records.
#[derive(Debug, Default)]
pub struct Acks {
    batches: BTreeMap<u64, Fate>,
    acked_end: Offset,
    acked_batches: u64,
    /// For each producer in order: the number that is due.
    due: BTreeMap<usize, u64>,
    /// Dropped before anyone looked.
    passed: Vec<Range<Offset>>,
    /// The producers in order of which something may have been passed over.
    leapt: BTreeSet<usize>,
}

impl Acks {
    /// A batch is sent for the first time.
    pub fn sent(&mut self, key: u64, batch: SentBatch) {
        let before = self.batches.insert(key, Fate { batch, acked: None, stands: None, rejected: false });
        assert!(before.is_none(), "every batch of the workload is different");
    }

    /// The offset after everything that was acked for good.
    pub fn acked_end(&self) -> Offset {
        self.acked_end
    }

    /// Batches acked for good.
    pub fn acked_batches(&self) -> u64 {
        self.acked_batches
    }

    /// A producer was told that its batch stands here.
    ///
    /// # Errors
    /// If that contradicts the log, an earlier ack, or the real-time rule.
    pub fn acked(&mut self, key: u64, base: Offset, last: Offset) -> Result<(), String> {
        let fate = self.batches.get_mut(&key).ok_or("an ack for a batch that was never sent")?;
        let batch = fate.batch;
        if last != base.plus(u64::from(batch.records) - 1) {
            return Err(format!("{batch:?} was acked from {base} to {last}"));
        }
        if !batch.covered {
            return Ok(());
        }
        if base < batch.known {
            return Err(format!("{batch:?} was acked at {base}, below what was acked before it was sent"));
        }
        match (fate.acked, fate.stands) {
            (Some(before), _) if before != base => Err(format!("{batch:?} was acked at {before}, then at {base}")),
            (_, Some(stands)) if stands != base => Err(format!("{batch:?} stands at {stands}, was acked at {base}")),
            (before, _) => {
                fate.acked = Some(base);
                self.acked_end = self.acked_end.max(last.plus(1));
                self.acked_batches += u64::from(before.is_none());
                Ok(())
            }
        }
    }

    /// Its producer was told each time that a batch is surely not appended, and gave up.
    ///
    /// # Errors
    /// If it stands all the same.
    pub fn rejected(&mut self, key: u64) -> Result<(), String> {
        let fate = self.batches.get_mut(&key).ok_or("a batch that was never sent is rejected")?;
        fate.rejected = true;
        match fate.stands {
            Some(stands) => Err(format!("{:?} was rejected, and stands at {stands}", fate.batch)),
            None => Ok(()),
        }
    }

    /// A batch is committed here.
    ///
    /// # Errors
    /// If nobody sent it, it stands elsewhere too, was acked elsewhere, or is out of its producer's order.
    pub fn committed(&mut self, key: u64, base: Offset, records: u32) -> Result<(), String> {
        let passed = self.is_passed(base);
        let fate = self.batches.get_mut(&key).ok_or_else(|| format!("nobody sent the batch at offset {base}"))?;
        let batch = fate.batch;
        if records != batch.records {
            return Err(format!("{batch:?} stands at {base} with {records} records"));
        }
        if fate.rejected {
            return Err(format!("{batch:?} was rejected, and stands at {base}"));
        }
        if let Some(stands) = fate.stands {
            return Err(format!("{batch:?} stands twice, at {stands} and at {base}"));
        }
        if let Some(acked) = fate.acked.filter(|acked| *acked != base) {
            return Err(format!("{batch:?} was acked at {acked} but stands at {base}"));
        }
        fate.stands = Some(base);
        if batch.order == Order::Rising && !passed {
            let due = self.due.entry(batch.producer).or_default();
            if batch.number < *due {
                return Err(format!("{batch:?} stands at {base}, behind number {} of its producer", *due - 1));
            }
            *due = batch.number + 1;
        }
        if batch.order == Order::Gapless && !passed {
            let due = self.due.entry(batch.producer).or_default();
            let leapt = self.leapt.remove(&batch.producer) && batch.number > *due;
            if leapt {
                *due = batch.number;
            }
            if batch.number != *due {
                return Err(format!("{batch:?} stands at {base} where number {due} of its producer is due"));
            }
            *due += 1;
        }
        Ok(())
    }

    /// These offsets were dropped before anyone looked: what was acked there stood there.
    pub fn pass_over(&mut self, offsets: Range<Offset>) {
        self.passed.push(offsets);
        self.leapt.extend(self.batches.values().map(|fate| fate.batch.producer));
    }

    fn is_passed(&self, offset: Offset) -> bool {
        self.passed.iter().any(|passed| passed.contains(&offset))
    }

    /// Everything that was acked for good must stand.
    ///
    /// # Errors
    /// Names the first batch that is lost.
    pub fn finish(&self) -> Result<(), String> {
        let is_lost = |acked: Offset| !self.is_passed(acked);
        let lost = self.batches.values().find(|fate| fate.stands.is_none() && fate.acked.is_some_and(is_lost));
        match lost {
            Some(fate) => Err(format!("{:?} was acked at {:?} and is lost", fate.batch, fate.acked)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, known: u64) -> SentBatch {
        let known = Offset(known);
        SentBatch { producer: 1, number, records: 2, order: Order::Gapless, covered: true, known }
    }

    fn acks() -> Acks {
        let mut acks = Acks::default();
        acks.sent(10, batch(0, 0));
        acks.sent(11, batch(1, 0));
        acks
    }

    #[test]
    fn a_good_run_passes() {
        let mut acks = acks();
        acks.committed(10, Offset(0), 2).expect("first");
        acks.acked(10, Offset(0), Offset(1)).expect("acked");
        acks.acked(10, Offset(0), Offset(1)).expect("acked again");
        acks.acked(11, Offset(2), Offset(3)).expect("acked before it was seen");
        acks.committed(11, Offset(2), 2).expect("second");
        assert_eq!((acks.acked_end(), acks.acked_batches()), (Offset(4), 2));
        acks.finish().expect("nothing lost");
    }

    #[test]
    fn loss_doubles_and_disorder_are_found() {
        let mut lost = acks();
        lost.acked(10, Offset(0), Offset(1)).expect("acked");
        lost.finish().expect_err("lost");

        let mut twice = acks();
        twice.committed(10, Offset(0), 2).expect("once");
        twice.committed(10, Offset(2), 2).expect_err("twice");

        acks().committed(11, Offset(0), 2).expect_err("the second before the first");
        acks().committed(12, Offset(0), 2).expect_err("never sent");

        let mut moved = acks();
        moved.acked(10, Offset(4), Offset(5)).expect("acked");
        moved.committed(10, Offset(0), 2).expect_err("acked elsewhere");
    }

    #[test]
    fn gaps_are_no_disorder_where_they_may_be() {
        let mut acks = Acks::default();
        for number in 0..3 {
            acks.sent(number, SentBatch { order: Order::Rising, ..batch(number, 0) });
        }
        acks.committed(1, Offset(0), 2).expect("the one before was given up");
        acks.committed(0, Offset(2), 2).expect_err("it comes back");
        acks.committed(2, Offset(2), 2).expect("the next");
    }

    #[test]
    fn what_was_dropped_unseen_may_be_seen_later() {
        let mut acks = Acks::default();
        for number in 0..3 {
            acks.sent(number, SentBatch { order: Order::Rising, ..batch(number, 0) });
        }
        acks.pass_over(Offset(0)..Offset(2));
        acks.committed(1, Offset(2), 2).expect("behind what nobody saw");
        acks.committed(0, Offset(0), 2).expect("another replica still has it");
        acks.committed(2, Offset(4), 2).expect("the next");
    }

    #[test]
    fn what_was_rejected_must_not_stand() {
        let mut early = acks();
        early.committed(10, Offset(0), 2).expect("committed");
        early.rejected(10).expect_err("it stands already");
        let mut late = acks();
        late.rejected(10).expect("it doesn't stand");
        late.committed(10, Offset(0), 2).expect_err("it stands after all");
    }

    #[test]
    fn what_was_dropped_unseen_counts_as_standing() {
        let mut acks = acks();
        acks.acked(10, Offset(0), Offset(1)).expect("acked");
        acks.pass_over(Offset(0)..Offset(2));
        acks.committed(11, Offset(2), 2).expect("the first may be among what nobody saw");
        acks.finish().expect("nothing is lost");
    }

    #[test]
    fn an_ack_below_what_was_known_breaks_real_time() {
        let mut acks = Acks::default();
        acks.sent(1, batch(0, 7));
        acks.acked(1, Offset(6), Offset(7)).expect_err("below");
        acks.acked(1, Offset(7), Offset(8)).expect("at");
    }
}
