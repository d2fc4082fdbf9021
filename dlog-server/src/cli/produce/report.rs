//! What became of the records: told at any end, also an error or Ctrl-C.

use crate::cli::units;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts while records are sent.
///
/// Invariant: every record that was read counts once, as acked, unknown or rejected, once nothing is in flight.
#[derive(Debug, Default)]
pub struct Tally {
    acked: u64,
    unknown: u64,
    rejected: u64,
    bytes: u64,
    /// First and last acked offset of each partition.
    offsets: BTreeMap<u32, (u64, u64)>,
}

impl Tally {
    /// A record of `bytes` (key and value) is acked.
    pub fn acked(&mut self, partition: u32, offset: u64, bytes: u64) {
        self.acked += 1;
        self.bytes += bytes;
        let (first, last) = self.offsets.entry(partition).or_insert((offset, offset));
        *first = offset.min(*first);
        *last = offset.max(*last);
    }

    /// A record may be in the log or not.
    pub fn unknown(&mut self) {
        self.unknown += 1;
    }

    /// A record is definitely not in the log.
    pub fn rejected(&mut self) {
        self.rejected += 1;
    }

    /// How many may be in the log or not.
    pub fn unknown_count(&self) -> u64 {
        self.unknown
    }

    /// How many are definitely not in the log.
    pub fn rejected_count(&self) -> u64 {
        self.rejected
    }

    /// The report at the end.
    pub fn report(&self, took: Duration) -> Report {
        let partition = |(partition, (first, last)): (&u32, &(u64, u64))| PartitionReport {
            partition: *partition,
            first_offset: *first,
            last_offset: *last,
        };
        Report {
            records: self.acked,
            unknown: self.unknown,
            rejected: self.rejected,
            bytes: self.bytes,
            seconds: took.as_secs_f64(),
            partitions: self.offsets.iter().map(partition).collect(),
        }
    }
}

/// The report; its fields are the keys of the JSON.
#[derive(Debug, Serialize, PartialEq)]
pub struct Report {
    records: u64,
    unknown: u64,
    rejected: u64,
    bytes: u64,
    seconds: f64,
    partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize, PartialEq)]
struct PartitionReport {
    partition: u32,
    first_offset: u64,
    last_offset: u64,
}

impl Report {
    /// For people, without a newline at the end.
    pub fn text(&self) -> String {
        let rate = if self.seconds > 0.0 { self.records as f64 / self.seconds } else { 0.0 };
        let mut text = format!(
            "{} records acked ({}) in {:.3} s, {rate:.0} records/s; {} unknown, {} rejected",
            self.records,
            units::show_bytes(self.bytes),
            self.seconds,
            self.unknown,
            self.rejected
        );
        for p in &self.partitions {
            text.push_str(&format!("\n  partition {}: offsets {} to {}", p.partition, p.first_offset, p.last_offset));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.acked(2, 7, 10);
        tally.acked(0, 5, 10);
        tally.acked(2, 6, 1);
        tally.unknown();
        tally.rejected();
        tally
    }

    #[test]
    fn the_keys_are_the_contract() {
        let json = serde_json::to_string(&tally().report(Duration::from_millis(500))).expect("JSON");
        assert_eq!(
            json,
            "{\"records\":3,\"unknown\":1,\"rejected\":1,\"bytes\":21,\"seconds\":0.5,\"partitions\":[\
             {\"partition\":0,\"first_offset\":5,\"last_offset\":5},{\"partition\":2,\"first_offset\":6,\"last_offset\":7}]}"
        );
    }

    #[test]
    fn the_text_says_the_same() {
        assert_eq!(
            tally().report(Duration::from_millis(500)).text(),
            "3 records acked (21 B) in 0.500 s, 6 records/s; 1 unknown, 1 rejected\n\
             \u{20} partition 0: offsets 5 to 5\n\u{20} partition 2: offsets 6 to 7"
        );
        assert!(
            Tally::default().report(Duration::ZERO).text().starts_with("0 records acked (0 B) in 0.000 s, 0 records/s")
        );
    }
}
