//! `Requests`: what clients asked for and were told, and what may never be told.

use bytes::Bytes;
use dlog_consensus::Appended;
use dlog_core::batch::BATCH_HEADER_BYTES;
use dlog_core::error::ErrorDetail;
use dlog_core::{BatchBuilder, Codec, Offset, ProducerId, Record, TimestampMs};
use std::collections::BTreeMap;

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Append this value.
    Append(String),
    /// Where does the log end?
    End(String),
    /// Move the log start.
    LogStart,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Asked::Append(value) => f.write_str(value),
            Asked::End(read) => f.write_str(read),
            Asked::LogStart => f.write_str("the log start"),
        }
    }
}

/// What came of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Acked at this offset.
    pub acked: Option<Offset>,
    /// By these nodes.
    pub by: Vec<u32>,
    /// Refused with these codes.
    pub refused: Vec<String>,
}

/// A read of the log's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndRead {
    /// No answer may be below it.
    known: Offset,
    /// The answer.
    pub end: Option<Offset>,
    /// Refused with this code.
    pub refused: Option<String>,
}

/// All requests.
#[derive(Debug, Default)]
pub struct Requests {
    /// The name of a value by its batch's records, which no stamp of a leader changes.
    names: BTreeMap<Vec<u8>, String>,
    values: BTreeMap<String, Told>,
    reads: BTreeMap<String, EndRead>,
}

impl Requests {
    /// A batch of one record that holds this value.
    pub fn batch(&mut self, value: &str, producer: Option<(ProducerId, i32)>) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        if let Some((id, sequence)) = producer {
            builder = builder.producer(id, 0, sequence);
        }
        let bytes = Bytes::copy_from_slice(value.as_bytes());
        let record = Record { timestamp: TimestampMs(1_000), key: None, value: Some(bytes), headers: Vec::new() };
        builder.push(&record).expect("a value is small");
        let batch = builder.build().expect("a value is small");
        self.names.insert(batch[BATCH_HEADER_BYTES..].to_vec(), value.to_owned());
        self.values.entry(value.to_owned()).or_default();
        batch
    }

    /// The value that a batch holds.
    pub fn name(&self, batch: &[u8]) -> &str {
        let records = batch.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        self.names.get(records).map_or("an unknown batch", String::as_str)
    }

    /// A read begins: what was acked or told before it is known.
    pub fn begin_read(&mut self, read: &str) {
        let acked = self.values.values().filter_map(|told| told.acked).map(|at| Offset(at.0 + 1));
        let told = self.reads.values().filter_map(|read| read.end);
        let known = acked.chain(told).max().unwrap_or_default();
        self.reads.insert(read.to_owned(), EndRead { known, ..EndRead::default() });
    }

    /// A value is acked.
    ///
    /// # Errors
    /// If it was acked elsewhere before, or something else was acked there.
    pub fn acked(&mut self, value: &str, appended: Appended, node: u32) -> Result<(), String> {
        let at = appended.base_offset;
        let other = self.values.iter().find(|(name, told)| told.acked == Some(at) && *name != value);
        if let Some((other, _)) = other {
            return Err(format!("{value} is acked at {at}, and so was {other}"));
        }
        let told = self.values.entry(value.to_owned()).or_default();
        told.by.push(node);
        match told.acked.replace(at).filter(|before| *before != at) {
            Some(before) => Err(format!("{value} is acked at {at}, and was before at {before}")),
            None => Ok(()),
        }
    }

    /// A read is answered.
    ///
    /// # Errors
    /// If it is stale.
    pub fn ended(&mut self, read: &str, end: Offset) -> Result<(), String> {
        let state = self.reads.get_mut(read).ok_or("nobody asked")?;
        state.end = Some(end);
        let known = state.known;
        if end >= known { Ok(()) } else { Err(format!("{read} is told {end}, but {known} was known before it began")) }
    }

    /// A request is refused.
    pub fn refused(&mut self, asked: &Asked, error: &ErrorDetail) {
        let code = error.code.name().to_owned();
        match asked {
            Asked::Append(value) => self.values.entry(value.clone()).or_default().refused.push(code),
            Asked::End(read) => {
                if let Some(read) = self.reads.get_mut(read) {
                    read.refused = Some(code);
                }
            }
            Asked::LogStart => {}
        }
    }

    /// What came of a value, if it was ever sent.
    pub fn value(&self, value: &str) -> Option<&Told> {
        self.values.get(value)
    }

    /// What came of a read, if it was ever asked.
    pub fn read(&self, read: &str) -> Option<&EndRead> {
        self.reads.get(read)
    }

    /// All values that were acked, by offset.
    pub fn all_acked(&self) -> BTreeMap<Offset, &str> {
        self.values.iter().filter_map(|(value, told)| Some((told.acked?, value.as_str()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Appended {
        Appended { base_offset: Offset(offset), last_offset: Offset(offset), duplicate: false }
    }

    #[test]
    fn what_may_never_be_told_is_found() {
        let mut requests = Requests::default();
        let batch = requests.batch("a", None);
        requests.batch("b", None);
        assert_eq!(requests.name(&batch), "a");
        assert_eq!(requests.acked("a", at(4), 1), Ok(()));
        assert_eq!(requests.acked("a", at(4), 2), Ok(()));
        requests.acked("a", at(5), 2).expect_err("acked twice, elsewhere");
        requests.acked("b", at(5), 2).expect_err("two values at one offset");
        requests.begin_read("r");
        requests.ended("r", Offset(4)).expect_err("a stale read");
        requests.begin_read("r");
        assert_eq!(requests.ended("r", Offset(6)), Ok(()));
    }
}
