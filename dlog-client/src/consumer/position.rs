//! [`Position`]: how far a partition is read, and what of a replica's answer is taken.
//!
//! Pure: the simulator's readers use it, too.

use bytes::Bytes;
use dlog_core::batch::{BatchLimits, OffsetRecord, decode_records, validate};
use dlog_core::{Offset, TimestampMs};

/// What is still to be read of one partition.
///
/// Invariant: everything before `next` (and at or after the start) was taken, in order, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub next: Offset,
    /// Where to end (exclusive); `None` never.
    pub until: Option<Offset>,
    /// End before the first record that is so late; it was not there yet at the start.
    pub until_time: Option<TimestampMs>,
}

impl Position {
    /// Whether nothing is left to read.
    pub fn is_at_end(&self) -> bool {
        self.until.is_some_and(|until| self.next >= until)
    }

    /// Checks an answer's batches and moves on behind them; their records from the next offset to the end are added to
    /// `records`. On an error everything before it was taken.
    ///
    /// # Errors
    /// What is damaged, or doesn't go on where the last answer ended.
    pub fn take(&mut self, batches: &[Bytes], records: &mut Vec<OffsetRecord>) -> Result<(), String> {
        for batch in batches {
            let fresh = self.decode(batch)?;
            for found in fresh.records {
                if self.until_time.is_some_and(|at| found.record.timestamp >= at) {
                    self.until = Some(found.offset);
                }
                if self.until.is_some_and(|until| found.offset >= until) {
                    self.next = found.offset;
                    return Ok(());
                }
                records.push(found);
            }
            self.next = fresh.end;
        }
        Ok(())
    }

    /// One whole, checked batch: its records from the next offset on. The error says what is damaged.
    fn decode(&self, batch: &Bytes) -> Result<Fresh, String> {
        let header = validate(batch, BatchLimits::HARD).map_err(|error| error.to_string())?;
        let (first, end) = (header.base_offset, header.next_offset());
        if first > self.next || end <= self.next {
            return Err(format!("a batch has offsets {first} to {end}, exclusive"));
        }
        let mut records = Vec::new();
        // A coordinator's marker has no record for anyone.
        if !header.is_control() {
            let mut decoded = decode_records(batch).map_err(|error| error.to_string())?;
            decoded.skip_to(self.next).map_err(|error| error.to_string())?;
            records = decoded.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        }
        Ok(Fresh { records, end })
    }
}

/// What a batch has that wasn't read yet.
struct Fresh {
    records: Vec<OffsetRecord>,
    end: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::batch::stamp;
    use dlog_core::{BatchBuilder, Codec, Record, Term};

    /// Batches of three records from offset 0 on, the time of each its offset.
    fn batches(count: u64) -> Vec<Bytes> {
        let batch = |number: u64| {
            let mut builder = BatchBuilder::new(Codec::None);
            for at in number * 3..number * 3 + 3 {
                builder.push(&Record::new(TimestampMs(at as i64), "value")).expect("fits");
            }
            stamp(&builder.build().expect("a batch"), Offset(number * 3), Term(1), None)
        };
        (0..count).map(batch).collect()
    }

    fn taken(position: &mut Position, batches: &[Bytes]) -> Result<Vec<u64>, String> {
        let mut records = Vec::new();
        position.take(batches, &mut records)?;
        Ok(records.iter().map(|found| found.offset.0).collect())
    }

    #[test]
    fn what_was_taken_is_not_taken_again_and_nothing_is_left_out() {
        let all = batches(3);
        let mut position = Position { next: Offset(1), ..Position::default() };
        assert_eq!(taken(&mut position, &all[..1]), Ok(vec![1, 2]), "it begins in the middle of a batch");
        taken(&mut position, &all[..1]).expect_err("nothing of it is new");
        taken(&mut position, &all[2..]).expect_err("one is missing before it");
        assert_eq!(taken(&mut position, &all[1..]), Ok((3..9).collect()));
        assert!(position.next == Offset(9) && !position.is_at_end());
    }

    #[test]
    fn it_ends_at_an_offset_or_before_a_time() {
        let until = Position { until: Some(Offset(4)), ..Position::default() };
        let until_time = Position { until_time: Some(TimestampMs(4)), ..Position::default() };
        for mut position in [until, until_time] {
            assert_eq!(taken(&mut position, &batches(3)), Ok((0..4).collect()));
            assert!(position.is_at_end() && position.next == Offset(4));
        }
    }

    #[test]
    fn what_is_before_the_damage_is_taken() {
        let mut all = batches(2);
        let mut damaged = all[1].to_vec();
        *damaged.last_mut().expect("bytes") ^= 1;
        all[1] = damaged.into();
        let (mut position, mut records) = (Position::default(), Vec::new());
        position.take(&all, &mut records).expect_err("damaged");
        assert_eq!((position.next, records.len()), (Offset(3), 3));
    }
}
