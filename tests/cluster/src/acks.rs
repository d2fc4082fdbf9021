//! [`Ack`]: a line of `produce -v`, and what a list of them says.

use crate::Row;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// One record was acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// When this process read the line.
    pub at: Instant,
    /// The record's partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
    /// The input's line, from 1.
    pub line: usize,
}

impl Ack {
    /// Reads `partition offset line-number`.
    pub fn parse(at: Instant, text: &str) -> Option<Ack> {
        let mut parts = text.split_ascii_whitespace();
        let partition = parts.next()?.parse().ok()?;
        let offset = parts.next()?.parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Ack { at, partition, offset, line })
    }
}

/// Asks that every ack holds: no place and no line was acked twice, and the row at its place has the value of its line.
#[track_caller]
pub fn assert_kept(acks: &[Ack], rows: &[Row], value_of_line: impl Fn(usize) -> String) {
    let found: HashMap<(u32, u64), &Row> = rows.iter().map(|row| ((row.partition, row.offset), row)).collect();
    let mut places = BTreeSet::new();
    let mut lines = BTreeSet::new();
    for ack in acks {
        assert!(places.insert((ack.partition, ack.offset)), "two records were acked at the place of {ack:?}");
        assert!(lines.insert(ack.line), "line {} was acked twice", ack.line);
        let row = found.get(&(ack.partition, ack.offset));
        let row = row.unwrap_or_else(|| panic!("an acked record is lost: {ack:?}; there are {} rows", rows.len()));
        assert_eq!(row.value, value_of_line(ack.line), "another record stands where {ack:?} was acked");
    }
}

/// How long each of these partitions got no ack after `from`: from then, or from the last ack that was still under way, to
/// the next. `under_way` bounds how long after `from` such acks may come.
pub fn gaps(acks: &[Ack], from: Instant, under_way: Duration, partitions: &[u32]) -> Vec<Duration> {
    let mut times: BTreeMap<u32, Vec<Instant>> = BTreeMap::new();
    for ack in acks.iter().filter(|ack| partitions.contains(&ack.partition) && ack.at > from) {
        times.entry(ack.partition).or_default().push(ack.at);
    }
    let longest = |times: Vec<Instant>| {
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in times {
            longest = longest.max(at - last);
            last = at;
            if at > from + under_way {
                break;
            }
        }
        longest
    };
    times.into_values().map(longest).collect()
}

/// The median and the greatest of some durations.
pub fn median_and_worst(mut durations: Vec<Duration>) -> Option<(Duration, Duration)> {
    durations.sort_unstable();
    Some((*durations.get(durations.len() / 2)?, *durations.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(at: Instant, partition: u32, offset: u64, line: usize) -> Ack {
        Ack { at, partition, offset, line }
    }

    #[test]
    fn gaps_begin_after_what_was_under_way() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let acks = [
            ack(ms(1), 0, 0, 1),
            ack(ms(20), 0, 1, 2),
            ack(ms(900), 0, 2, 3),
            ack(ms(30), 1, 0, 4),
            ack(ms(5000), 0, 3, 5),
        ];
        assert_eq!(gaps(&acks, ms(10), Duration::from_millis(500), &[0]), [Duration::from_millis(880)]);
        assert_eq!(median_and_worst(vec![]), None);
    }

    #[test]
    fn a_line_is_read() {
        let now = Instant::now();
        assert_eq!(Ack::parse(now, "3 17 9"), Some(ack(now, 3, 17, 9)));
        assert_eq!(Ack::parse(now, "3 17"), None);
        assert_eq!(Ack::parse(now, "{\"records\": 1}"), None);
    }

    #[test]
    #[should_panic(expected = "an acked record is lost")]
    fn a_lost_record_is_found() {
        assert_kept(&[ack(Instant::now(), 0, 0, 1)], &[], |_| String::new());
    }
}
