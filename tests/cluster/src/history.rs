//! What producers were told and what readers saw of one topic, and the checker of it: every rule that a log must keep,
//! whatever happens to its nodes.
//!
//! Each record's value is unique (its writer and the writer's counter), so a record that is read tells which write made it.
//! The rules are those by which Jepsen's tests judge logs, and one more: an acked offset is greater than every offset of its
//! partition that was known anywhere when the write was sent.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// Who wrote it.
    pub writer: u32,
    /// The writer's count, from 0; it rises in the order in which the writer sent.
    pub counter: u32,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}-{}", self.writer, self.counter)
    }
}

impl Value {
    /// The value as a record's text.
    pub fn text(self) -> String {
        format!("{self:?}")
    }

    /// Reads what [`text`](Self::text) made; anything behind a space is padding.
    pub fn parse(bytes: &[u8]) -> Option<Value> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (writer, counter) = text.split(' ').next()?.strip_prefix('w')?.split_once('-')?;
        Some(Value { writer: writer.parse().ok()?, counter: counter.parse().ok()? })
    }
}

/// What a writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It stands at this offset.
    Acked(u64),
    /// It is not in the log and never will be.
    Rejected,
    /// Nobody knows.
    Unknown,
}

/// One record on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// What it holds.
    pub value: Value,
    /// Where it went.
    pub partition: u32,
    /// The greatest offset of the partition that anybody had been told of when it was sent.
    pub known: Option<u64>,
    /// What became of it.
    pub told: Told,
}

/// What one reader got of one partition, in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The reader, for messages.
    pub reader: String,
    /// The partition.
    pub partition: u32,
    /// The records.
    pub records: Vec<(u64, Value)>,
}

/// All that is known of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Every write, each writer's in the order of its counter.
    pub writes: Vec<Write>,
    /// Every reading.
    pub readings: Vec<Reading>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// One offset was seen with two values.
    InconsistentOffset { partition: u32, offset: u64, values: [Value; 2] },
    /// One value stands at two offsets.
    Duplicate { partition: u32, value: Value, offsets: [u64; 2] },
    /// Acked, and passed over by everyone who read beyond it.
    LostWrite { partition: u32, value: Value, offset: u64 },
    /// Acked, and never seen; nobody read so far.
    Unseen { partition: u32, value: Value, offset: u64 },
    /// A write that was said not to be applied was read.
    RejectedButRead { partition: u32, value: Value, offset: u64 },
    /// Nobody wrote this (there).
    Phantom { partition: u32, value: Value, offset: u64 },
    /// A writer's later record stands before its earlier one.
    NonMonotonicSend { partition: u32, earlier: (Value, u64), later: (Value, u64) },
    /// A reader went back, or got an offset again.
    NonMonotonicPoll { reader: String, partition: u32, before: u64, then: u64 },
    /// A reader went on over offsets that hold records.
    PollSkip { reader: String, partition: u32, before: u64, then: u64 },
    /// An acked offset was known to be taken before the write was sent.
    OffsetFromThePast { partition: u32, value: Value, offset: u64, known: u64 },
}

/// What the checker looked at and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Broken promises, in order; none if all is well.
    pub anomalies: Vec<Anomaly>,
    /// Writes acked, rejected and unknown.
    pub told: [usize; 3],
    /// Of the unknown ones: how many were read.
    pub unknown_read: usize,
    /// Records read, all readers together.
    pub read: usize,
}

/// Where values stand, one partition at a time.
type Places = HashMap<u32, BTreeMap<u64, Value>>;

/// Checks everything.
pub fn check(history: &History) -> Verdict {
    let mut anomalies = Vec::new();
    let by_value: HashMap<Value, &Write> = history.writes.iter().map(|write| (write.value, write)).collect();
    let seen = places(history, &by_value, &mut anomalies);
    let mut places = seen.clone();
    add_acks(&history.writes, &mut places, &mut anomalies);
    check_duplicates(&places, &mut anomalies);
    check_order(&places, &mut anomalies);
    check_acks(&history.writes, &seen, &mut anomalies);
    history.readings.iter().for_each(|reading| check_reading(reading, &mut anomalies));
    anomalies.sort();
    anomalies.dedup();
    let count = |kind: fn(&Told) -> bool| history.writes.iter().filter(|write| kind(&write.told)).count();
    let read_values: std::collections::HashSet<Value> = seen.values().flat_map(|p| p.values().copied()).collect();
    let unknown = |write: &&Write| write.told == Told::Unknown && read_values.contains(&write.value);
    Verdict {
        anomalies,
        told: [
            count(|told| matches!(told, Told::Acked(_))),
            count(|told| *told == Told::Rejected),
            count(|told| *told == Told::Unknown),
        ],
        unknown_read: history.writes.iter().filter(unknown).count(),
        read: history.readings.iter().map(|reading| reading.records.len()).sum(),
    }
}

/// What all readers together saw, each record held against its write.
fn places(history: &History, by_value: &HashMap<Value, &Write>, anomalies: &mut Vec<Anomaly>) -> Places {
    let mut places = Places::new();
    for reading in &history.readings {
        let partition = reading.partition;
        let place = places.entry(partition).or_default();
        for &(offset, value) in &reading.records {
            match by_value.get(&value) {
                Some(write) if write.partition == partition && write.told == Told::Rejected => {
                    anomalies.push(Anomaly::RejectedButRead { partition, value, offset });
                }
                Some(write) if write.partition == partition => {}
                _ => anomalies.push(Anomaly::Phantom { partition, value, offset }),
            }
            put(place, partition, offset, value, anomalies);
        }
    }
    places
}

fn put(place: &mut BTreeMap<u64, Value>, partition: u32, offset: u64, value: Value, anomalies: &mut Vec<Anomaly>) {
    let known = *place.entry(offset).or_insert(value);
    if known != value {
        let values = [known.min(value), known.max(value)];
        anomalies.push(Anomaly::InconsistentOffset { partition, offset, values });
    }
}

fn add_acks(writes: &[Write], places: &mut Places, anomalies: &mut Vec<Anomaly>) {
    for write in writes {
        if let Told::Acked(offset) = write.told {
            let place = places.entry(write.partition).or_default();
            put(place, write.partition, offset, write.value, anomalies);
        }
    }
}

fn check_duplicates(places: &Places, anomalies: &mut Vec<Anomaly>) {
    for (&partition, place) in places {
        let mut first: HashMap<Value, u64> = HashMap::with_capacity(place.len());
        for (&offset, &value) in place {
            if let Some(&before) = first.get(&value) {
                anomalies.push(Anomaly::Duplicate { partition, value, offsets: [before, offset] });
            }
            first.entry(value).or_insert(offset);
        }
    }
}

/// In each partition each writer's counters rise with the offsets.
fn check_order(places: &Places, anomalies: &mut Vec<Anomaly>) {
    for (&partition, place) in places {
        let mut last: HashMap<u32, (Value, u64)> = HashMap::new();
        for (&offset, &value) in place {
            match last.get(&value.writer) {
                // The same value again is a duplicate, told elsewhere.
                Some(&(before, at)) if before.counter > value.counter => {
                    let (earlier, later) = ((value, offset), (before, at));
                    anomalies.push(Anomaly::NonMonotonicSend { partition, earlier, later });
                }
                _ => {
                    last.insert(value.writer, (value, offset));
                }
            }
        }
    }
}

fn check_acks(writes: &[Write], seen: &Places, anomalies: &mut Vec<Anomaly>) {
    for write in writes {
        let Told::Acked(offset) = write.told else { continue };
        let (partition, value) = (write.partition, write.value);
        if let Some(known) = write.known.filter(|known| *known >= offset) {
            anomalies.push(Anomaly::OffsetFromThePast { partition, value, offset, known });
        }
        let place = seen.get(&partition);
        if place.is_some_and(|place| place.contains_key(&offset)) {
            continue;
        }
        let passed = place.and_then(|place| place.last_key_value()).is_some_and(|(last, _)| *last > offset);
        anomalies.push(match passed {
            true => Anomaly::LostWrite { partition, value, offset },
            false => Anomaly::Unseen { partition, value, offset },
        });
    }
}

fn check_reading(reading: &Reading, anomalies: &mut Vec<Anomaly>) {
    let (reader, partition) = (&reading.reader, reading.partition);
    for pair in reading.records.windows(2) {
        let (before, then) = (pair[0].0, pair[1].0);
        if then <= before {
            anomalies.push(Anomaly::NonMonotonicPoll { reader: reader.clone(), partition, before, then });
        } else if then > before + 1 {
            anomalies.push(Anomaly::PollSkip { reader: reader.clone(), partition, before, then });
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
