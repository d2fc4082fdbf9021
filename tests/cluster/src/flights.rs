//! Events that go in ([`Input`]), rows that come out ([`Row`]), and the checker between them.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `--format` whose output [`parse_rows`] reads.
pub const ROW_FORMAT: &str = "%p %o %T %v\\n";
/// Problems that one check lists; more are counted only.
const LISTED: usize = 10;

/// One event of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The line, without its newline.
    pub line: String,
    /// The text under `/tailnum`; `None` if it is null.
    pub key: Option<String>,
    /// The time under `/time`, in milliseconds since the epoch.
    pub time_ms: i64,
}

/// The events of a file, in order.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The events.
    pub events: Vec<Event>,
}

/// One record that was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its time stamp.
    pub time_ms: i64,
    /// Its value.
    pub value: String,
}

impl Input {
    /// The sample that lies in the project: 20,000 events.
    pub fn sample() -> Input {
        Input::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/flights-20k.jsonl.gz"))
    }

    /// The sample, or in the long form all events of the file that `DLOG_FLIGHTS` names.
    pub fn chosen() -> Input {
        if !crate::full() {
            return Input::sample();
        }
        match std::env::var_os("DLOG_FLIGHTS").map(PathBuf::from) {
            Some(path) => Input::read(&path),
            None => {
                crate::skip(
                    "the whole file",
                    "DLOG_FLIGHTS is not set (scripts/make-flights.py makes it): the sample stands in",
                );
                Input::sample()
            }
        }
    }

    /// Reads a gzipped file of events, one a line.
    pub fn read(path: &Path) -> Input {
        assert!(path.is_file(), "there is no input at {}", path.display());
        let out = Command::new("gzip").arg("-dc").arg(path).output();
        let out = out.unwrap_or_else(|e| panic!("can't run gzip: {e}"));
        assert!(out.status.success(), "gzip can't read {}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap_or_else(|e| panic!("{} is not UTF-8: {e}", path.display()));
        Input { events: text.lines().map(Event::parse).collect() }
    }

    /// Only the events that have a key.
    #[must_use]
    pub fn keyed(mut self) -> Input {
        self.events.retain(|event| event.key.is_some());
        self
    }

    /// Only the first so many events.
    #[must_use]
    pub fn first(mut self, count: usize) -> Input {
        self.events.truncate(count);
        self
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The file's bytes again.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.events.iter().map(|e| e.line.len() + 1).sum());
        for event in &self.events {
            bytes.extend_from_slice(event.line.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// What is wrong with these rows as the whole topic; empty if they are exactly the input: every event once, each
    /// partition gapless from offset 0 and in the input's order (so each key's events too), each key in one partition, each
    /// time stamp the event's.
    pub fn problems(&self, rows: &[Row]) -> Vec<String> {
        let mut problems = Problems::default();
        let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
        for (place, event) in self.events.iter().enumerate() {
            places.entry(&event.line).or_default().push_back(place);
        }
        let mut ends: BTreeMap<u32, (u64, usize)> = BTreeMap::new();
        let mut homes: HashMap<&str, u32> = HashMap::new();
        for row in rows {
            let at = format!("partition {} offset {}", row.partition, row.offset);
            let (next, last_place) = ends.entry(row.partition).or_insert((0, 0));
            if row.offset != *next {
                problems.add(format!("{at} follows offset {}", next.wrapping_sub(1)));
            }
            *next = row.offset + 1;
            let Some(place) = places.get_mut(row.value.as_str()).and_then(VecDeque::pop_front) else {
                problems.add(format!("{at} holds what was not sent, or once more than sent: {}", row.value));
                continue;
            };
            if place < *last_place {
                problems.add(format!("{at} holds line {} after line {last_place}", place + 1));
            }
            *last_place = place + 1;
            let event = &self.events[place];
            if event.time_ms != row.time_ms {
                problems.add(format!("{at} has time stamp {}, its event {}", row.time_ms, event.time_ms));
            }
            if let Some(key) = &event.key
                && *homes.entry(key).or_insert(row.partition) != row.partition
            {
                problems.add(format!("{at} holds key {key}, which partition {} holds too", homes[key.as_str()]));
            }
        }
        let mut missing: Vec<usize> = places.into_values().flatten().collect();
        missing.sort_unstable();
        for place in missing {
            problems.add(format!("line {} is missing: {}", place + 1, self.events[place].line));
        }
        problems.list()
    }

    /// Asks that these rows are exactly the input.
    #[track_caller]
    pub fn assert_exact(&self, what: &str, rows: &[Row]) {
        let problems = self.problems(rows);
        assert!(problems.is_empty(), "{what}: {} rows for {} events:\n{}", rows.len(), self.len(), problems.join("\n"));
    }

    /// What each partition must hold, given where each key lives. Events without a key have no place and are an error.
    pub fn by_partition(&self, homes: &BTreeMap<String, u32>) -> BTreeMap<u32, Vec<usize>> {
        let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, event) in self.events.iter().enumerate() {
            let key = event.key.as_ref().expect("every event of this input has a key");
            let home = homes.get(key).unwrap_or_else(|| panic!("nobody knows the partition of {key}"));
            parts.entry(*home).or_default().push(place);
        }
        parts
    }

    /// Where each key lives, as these rows show.
    pub fn homes(&self, rows: &[Row]) -> BTreeMap<String, u32> {
        let keys: HashMap<&str, &String> =
            self.events.iter().filter_map(|e| Some((e.line.as_str(), e.key.as_ref()?))).collect();
        rows.iter().filter_map(|row| Some(((*keys.get(row.value.as_str())?).clone(), row.partition))).collect()
    }
}

impl Event {
    fn parse(line: &str) -> Event {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no JSON: {e}"));
        let time = value["time"].as_str().unwrap_or_else(|| panic!("{line:?} has no time"));
        Event {
            line: line.to_string(),
            key: value["tailnum"].as_str().map(str::to_string),
            time_ms: parse_time_ms(time).unwrap_or_else(|| panic!("{time:?} is no time")),
        }
    }
}

/// A list that doesn't grow without end.
#[derive(Default)]
struct Problems {
    listed: Vec<String>,
    more: usize,
}

impl Problems {
    fn add(&mut self, problem: String) {
        if self.listed.len() < LISTED {
            self.listed.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn list(mut self) -> Vec<String> {
        if self.more > 0 {
            self.listed.push(format!("… and {} more", self.more));
        }
        self.listed
    }
}

/// Reads what [`ROW_FORMAT`] prints.
#[track_caller]
pub fn parse_rows(out: &[u8]) -> Vec<Row> {
    let text = std::str::from_utf8(out).unwrap_or_else(|e| panic!("rows are not UTF-8: {e}"));
    let parse = |line: &str| {
        let mut parts = line.splitn(4, ' ');
        let (partition, offset, time) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Row {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
            time_ms: time.parse().ok()?,
            value: parts.next()?.to_string(),
        })
    };
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{line:?} is no row of {ROW_FORMAT:?}"))).collect()
}

/// Rows by partition, in order.
pub fn by_partition(rows: &[Row]) -> BTreeMap<u32, Vec<&Row>> {
    let mut parts: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| parts.entry(row.partition).or_default().push(row));
    parts
}

/// The partitions that have rows.
pub fn partitions_of(rows: &[Row]) -> BTreeSet<u32> {
    rows.iter().map(|row| row.partition).collect()
}

/// Milliseconds since the epoch of `2013-01-01T05:15:00-05:00`, the only form that the input has.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let sign = match text.get(19..20)? {
        "-" => -1,
        "+" => 1,
        _ => return None,
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    let zone = sign * (number(20, 22)? * 60 + number(23, 25)?) * 60;
    Some((days_from_epoch(year, month, day) * 86_400 + seconds - zone) * 1000)
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that a leap day comes last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Input {
        let events = [("a", Some("k")), ("b", Some("l")), ("c", None), ("d", Some("k")), ("b", Some("l"))];
        let event = |(i, (line, key)): (usize, &(&str, Option<&str>))| Event {
            line: (*line).to_string(),
            key: key.map(str::to_string),
            time_ms: if *line == "b" { 7 } else { i64::try_from(i).expect("small") },
        };
        Input { events: events.iter().enumerate().map(event).collect() }
    }

    fn rows(text: &str) -> Vec<Row> {
        parse_rows(text.as_bytes())
    }

    #[test]
    fn exact_rows_have_no_problem() {
        let good = rows("0 0 0 a\n1 0 7 b\n0 1 2 c\n1 1 7 b\n0 2 3 d\n");
        assert_eq!(input().problems(&good), [""; 0]);
        assert_eq!(input().homes(&good)["l"], 1);
    }

    #[test]
    fn each_kind_of_problem_is_found() {
        for (bad, says) in [
            ("0 0 0 a\n1 0 7 b\n0 1 2 c\n1 1 7 b\n", "line 4 is missing"),
            ("0 0 0 a\n1 0 7 b\n0 1 2 c\n1 1 7 b\n0 2 3 d\n0 3 3 d\n", "once more than sent"),
            ("0 0 3 d\n1 0 7 b\n0 1 0 a\n1 1 7 b\n0 2 2 c\n", "holds line 1 after line 4"),
            ("0 0 0 a\n1 0 7 b\n0 1 2 c\n1 1 7 b\n1 2 3 d\n", "which partition 0 holds too"),
            ("0 0 0 a\n1 0 7 b\n0 1 2 c\n1 2 7 b\n0 2 3 d\n", "follows offset 0"),
            ("0 0 1 a\n1 0 7 b\n0 1 2 c\n1 1 7 b\n0 2 3 d\n", "time stamp 1"),
        ] {
            let problems = input().problems(&rows(bad));
            assert!(problems.iter().any(|p| p.contains(says)), "{says}: {problems:?}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time_ms("1970-01-01T00:00:00+00:00"), Some(0));
        assert_eq!(parse_time_ms("2013-01-01T05:15:00-05:00"), Some(1_357_035_300_000));
        assert_eq!(parse_time_ms("2012-02-29T23:59:59+01:00"), Some(1_330_556_399_000));
        assert_eq!(parse_time_ms("yesterday"), None);
    }

    #[test]
    fn the_sample_is_what_it_says() {
        let sample = Input::sample();
        assert_eq!(sample.len(), 20_000);
        assert_eq!(sample.bytes().len(), 3_455_840);
        assert_eq!(sample.events.iter().filter(|e| e.key.is_none()).count(), 71);
    }
}
