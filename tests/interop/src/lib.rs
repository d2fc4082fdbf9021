//! Golden batches made by kafka-python, and what it says is in them.
//!
//! `golden/<set>.<codec>.batch` holds one batch, `golden/<set>.txt` the words that it was made from, one a line:
//!
//! ```text
//! producer <id> <epoch> <base sequence>       -1 -1 -1 without one
//! transactional <0 or 1>
//! append-time <milliseconds>                  only where the leader sets the time stamps
//! record <milliseconds> <key> <value>         bytes: x and hexadecimal digits; none: -
//! header <name> <value>                       of the record above
//! ```

use bytes::Bytes;
use dlog_core::{Codec, Header, ProducerId, ProducerSequence, Record, TimestampMs};
use std::path::{Path, PathBuf};

/// The ways in which each set was compressed, as they stand in the files' names, with their codec.
pub const COMPRESSIONS: [(&str, Codec); 6] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy-xerial", Codec::Snappy),
    ("snappy-raw", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];

/// Records, and what a batch says beside them.
#[derive(Clone, Debug)]
pub struct BatchSet {
    /// Its name.
    pub name: String,
    /// The producer, if it is idempotent.
    pub producer: Option<ProducerSequence>,
    /// Whether the batch is part of a transaction.
    pub transactional: bool,
    /// The leader's time stamp for all records, if it sets one.
    pub append_time: Option<TimestampMs>,
    /// The records as the producer gave them.
    pub records: Vec<Record>,
}

impl BatchSet {
    /// All sets, by name.
    ///
    /// # Panics
    /// If the folder can't be read, or a file in it says what the format doesn't have.
    pub fn all() -> Vec<BatchSet> {
        let entries = std::fs::read_dir(golden()).unwrap_or_else(|e| panic!("can't list {}: {e}", golden().display()));
        let paths =
            entries.map(|entry| entry.unwrap_or_else(|e| panic!("can't list {}: {e}", golden().display())).path());
        let mut sets: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
        sets.sort();
        sets.iter().map(|path| BatchSet::read(path)).collect()
    }

    fn read(path: &Path) -> BatchSet {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("can't read {}: {e}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut set = BatchSet { name, producer: None, transactional: false, append_time: None, records: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            set.take(&words).unwrap_or_else(|| panic!("{}:{}: {line:?} is no such line", path.display(), number + 1));
        }
        set
    }

    /// Takes one line; `None` if it is none.
    fn take(&mut self, words: &[&str]) -> Option<()> {
        match *words {
            ["producer", id, epoch, sequence] => {
                let producer = ProducerSequence {
                    id: ProducerId(id.parse().ok()?),
                    epoch: epoch.parse().ok()?,
                    base_sequence: sequence.parse().ok()?,
                };
                self.producer = (producer.id.0 >= 0).then_some(producer);
            }
            ["transactional", flag] => self.transactional = flag == "1",
            ["append-time", time] => self.append_time = Some(TimestampMs(time.parse().ok()?)),
            ["record", time, key, value] => self.records.push(Record {
                timestamp: TimestampMs(time.parse().ok()?),
                key: field(key)?,
                value: field(value)?,
                headers: Vec::new(),
            }),
            ["header", name, value] => {
                let key = String::from_utf8(field(name)??.to_vec()).ok()?;
                self.records.last_mut()?.headers.push(Header { key, value: field(value)? });
            }
            _ => return None,
        }
        Some(())
    }

    /// The records as a reader is to see them.
    pub fn expected(&self) -> Vec<Record> {
        let timestamp = |record: &Record| self.append_time.unwrap_or(record.timestamp);
        self.records.iter().map(|record| Record { timestamp: timestamp(record), ..record.clone() }).collect()
    }

    /// The batch that kafka-python made of it.
    ///
    /// # Panics
    /// If there is none.
    pub fn batch(&self, compression: &str) -> Bytes {
        let path = golden().join(format!("{}.{compression}.batch", self.name));
        std::fs::read(&path).unwrap_or_else(|e| panic!("can't read {}: {e}", path.display())).into()
    }
}

/// The folder of golden files.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Bytes, or their absence; `None` if the word is neither.
fn field(word: &str) -> Option<Option<Bytes>> {
    if word == "-" {
        return Some(None);
    }
    let digits = word.strip_prefix('x')?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    (digits.len() % 2 == 0).then_some(bytes.map(Bytes::from))
}
