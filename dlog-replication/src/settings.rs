//! The settings of a topic: their names, ranges and defaults in one table, their parsing, and their protobuf form.
//!
//! A setting whose effect isn't built is refused when it is parsed, never accepted and inert.

use dlog_core::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use prost::Message;
use std::fmt;
use std::ops::RangeInclusive;

const SEGMENT_BYTES: &str = "segment.bytes";
const MAX_BATCH_BYTES: &str = "max.batch.bytes";
const TIMESTAMP_TYPE: &str = "timestamp.type";
/// Known names without an effect so far, each with what holds instead.
const NOT_YET: [(&str, &str); 2] = [
    ("retention.bytes", "every record is kept until its topic is deleted"),
    ("retention.ms", "every record is kept until its topic is deleted"),
];

/// What a record's time stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// When its producer made it.
    Create,
    /// When the leader appended it.
    Append,
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampType::Create => "create",
            TimestampType::Append => "append",
        })
    }
}

/// The settings of a topic that were set; what wasn't has its default. 0, which is in no range, stands for "not set".
///
/// Invariants, checked by [`validate`](Self::validate) because commands come as bytes: every value is 0 or in its range.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TopicSettings {
    #[prost(uint64, tag = "1")]
    segment_bytes: u64,
    #[prost(uint64, tag = "2")]
    max_batch_bytes: u64,
    /// 1 create, 2 append.
    #[prost(uint32, tag = "3")]
    timestamp_type: u32,
}

/// Why a setting isn't taken. Each names the key, and the range where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no `=`.
    #[error("{text:?} is not a setting: write it as key=value")]
    Form {
        /// What was given.
        text: String,
    },
    /// No setting has this name.
    #[error("there is no topic setting {key:?}; known are segment.bytes, max.batch.bytes and timestamp.type")]
    Unknown {
        /// The name.
        key: String,
    },
    /// The effect isn't built.
    #[error("the topic setting {key} is not yet supported: {instead}; leave it out")]
    NotYetSupported {
        /// The name.
        key: &'static str,
        /// What holds instead.
        instead: &'static str,
    },
    /// The value isn't in the range.
    #[error("{key} is {value:?}; allowed is {allowed}")]
    Value {
        /// The name.
        key: &'static str,
        /// What was given.
        value: String,
        /// The range in words.
        allowed: &'static str,
    },
    /// The same name twice.
    #[error("{key} is given twice")]
    Twice {
        /// The name.
        key: &'static str,
    },
}

const SEGMENT_RANGE: RangeInclusive<u64> = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
const BATCH_RANGE: RangeInclusive<u64> = BATCH_BYTES_MIN as u64..=BATCH_BYTES_MAX as u64;
// The words below name these ends.
const _: () = assert!(SEGMENT_BYTES_MIN == 64 << 10 && SEGMENT_BYTES_MAX == 1 << 30);
const _: () = assert!(BATCH_BYTES_MIN == 1 << 10 && BATCH_BYTES_MAX == 8 << 20);
const SEGMENT_BYTES_ALLOWED: &str = "a size from 64KiB to 1GiB";
const MAX_BATCH_BYTES_ALLOWED: &str = "a size from 1KiB to 8MiB";
const TIMESTAMP_TYPE_ALLOWED: &str = "create or append";

impl TopicSettings {
    /// Reads `key=value` pairs as they stand on the command line.
    ///
    /// # Errors
    /// [`SettingError`] for the first that isn't taken.
    pub fn parse<I, S>(pairs: I) -> Result<TopicSettings, SettingError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut settings = TopicSettings::default();
        for pair in pairs {
            let text = pair.as_ref();
            let (key, value) = text.split_once('=').ok_or_else(|| SettingError::Form { text: text.to_owned() })?;
            settings.set(key.trim(), value.trim())?;
        }
        Ok(settings)
    }

    /// Sets one that isn't set yet.
    ///
    /// # Errors
    /// [`SettingError`] if the key isn't known, isn't supported or is set, or the value isn't in its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let error = |key, allowed| SettingError::Value { key, value: value.to_owned(), allowed };
        match key {
            SEGMENT_BYTES => {
                let bytes = parse_size(value).filter(|bytes| SEGMENT_RANGE.contains(bytes));
                let bytes = bytes.ok_or_else(|| error(SEGMENT_BYTES, SEGMENT_BYTES_ALLOWED))?;
                set_once(&mut self.segment_bytes, bytes, SEGMENT_BYTES)
            }
            MAX_BATCH_BYTES => {
                let bytes = parse_size(value).filter(|bytes| BATCH_RANGE.contains(bytes));
                let bytes = bytes.ok_or_else(|| error(MAX_BATCH_BYTES, MAX_BATCH_BYTES_ALLOWED))?;
                set_once(&mut self.max_batch_bytes, bytes, MAX_BATCH_BYTES)
            }
            TIMESTAMP_TYPE => {
                let number = match value {
                    "create" => 1,
                    "append" => 2,
                    _ => return Err(error(TIMESTAMP_TYPE, TIMESTAMP_TYPE_ALLOWED)),
                };
                set_once(&mut self.timestamp_type, number, TIMESTAMP_TYPE)
            }
            _ => match NOT_YET.iter().find(|(name, _)| *name == key) {
                Some((key, instead)) => Err(SettingError::NotYetSupported { key, instead }),
                None => Err(SettingError::Unknown { key: key.to_owned() }),
            },
        }
    }

    /// Checks the ranges again: a command's bytes may hold anything.
    ///
    /// # Errors
    /// [`SettingError::Value`] for the first out of its range.
    pub fn validate(&self) -> Result<(), SettingError> {
        let error = |key, value: u64, allowed| Err(SettingError::Value { key, value: value.to_string(), allowed });
        match self {
            TopicSettings { segment_bytes: bytes @ 1.., .. } if !SEGMENT_RANGE.contains(bytes) => {
                error(SEGMENT_BYTES, *bytes, SEGMENT_BYTES_ALLOWED)
            }
            TopicSettings { max_batch_bytes: bytes @ 1.., .. } if !BATCH_RANGE.contains(bytes) => {
                error(MAX_BATCH_BYTES, *bytes, MAX_BATCH_BYTES_ALLOWED)
            }
            TopicSettings { timestamp_type: number @ 3.., .. } => {
                error(TIMESTAMP_TYPE, u64::from(*number), TIMESTAMP_TYPE_ALLOWED)
            }
            _ => Ok(()),
        }
    }

    /// These settings with those that `changes` sets put over them.
    #[must_use]
    pub fn merged(&self, changes: &TopicSettings) -> TopicSettings {
        TopicSettings {
            segment_bytes: or(changes.segment_bytes, self.segment_bytes),
            max_batch_bytes: or(changes.max_batch_bytes, self.max_batch_bytes),
            timestamp_type: or(changes.timestamp_type, self.timestamp_type),
        }
    }

    /// Is nothing set?
    pub fn is_empty(&self) -> bool {
        *self == TopicSettings::default()
    }

    /// At how many bytes a segment ends.
    pub fn segment_bytes(&self) -> u64 {
        or(self.segment_bytes, SEGMENT_BYTES_DEFAULT)
    }

    /// The largest batch that is taken, in bytes as sent.
    pub fn max_batch_bytes(&self) -> u64 {
        or(self.max_batch_bytes, BATCH_BYTES_DEFAULT as u64)
    }

    /// What time stamps say.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.timestamp_type {
            2 => TimestampType::Append,
            _ => TimestampType::Create,
        }
    }

    /// Every setting that has an effect, with the value that holds, by key.
    pub fn effective(&self) -> [(&'static str, String); 3] {
        [
            (MAX_BATCH_BYTES, self.max_batch_bytes().to_string()),
            (SEGMENT_BYTES, self.segment_bytes().to_string()),
            (TIMESTAMP_TYPE, self.timestamp_type().to_string()),
        ]
    }
}

/// The value, or `other` if it isn't set.
fn or<T: Default + PartialEq>(value: T, other: T) -> T {
    if value == T::default() { other } else { value }
}

fn set_once<T: Default + PartialEq>(place: &mut T, value: T, key: &'static str) -> Result<(), SettingError> {
    if *place != T::default() {
        return Err(SettingError::Twice { key });
    }
    *place = value;
    Ok(())
}

/// Bytes from `4096`, `64KiB`, `1 MiB`, `1GB`…; `None` if it isn't a size or exceeds 64 bits.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn defaults_hold_where_nothing_is_set() {
        let settings = TopicSettings::default();
        assert!(settings.is_empty());
        assert_eq!(settings.segment_bytes(), 64 << 20);
        assert_eq!(settings.max_batch_bytes(), 1 << 20);
        assert_eq!(settings.timestamp_type(), TimestampType::Create);
        assert_eq!(settings.effective()[2], ("timestamp.type", "create".to_owned()));
    }

    #[test]
    fn pairs_are_read_with_their_units() {
        let settings = TopicSettings::parse(["segment.bytes=1 GiB", "max.batch.bytes=2048", "timestamp.type=append"]);
        let settings = settings.expect("all in range");
        assert_eq!(settings.segment_bytes(), 1 << 30);
        assert_eq!(settings.max_batch_bytes(), 2048);
        assert_eq!(settings.timestamp_type(), TimestampType::Append);
        assert!(settings.validate().is_ok());
    }

    #[test]
    fn an_error_names_key_and_range() {
        let said = |pair: &str| TopicSettings::parse([pair]).expect_err("refused").to_string();
        assert_eq!(said("segment.bytes=1"), "segment.bytes is \"1\"; allowed is a size from 64KiB to 1GiB");
        assert_eq!(said("segment.bytes=2GiB"), "segment.bytes is \"2GiB\"; allowed is a size from 64KiB to 1GiB");
        assert_eq!(said("max.batch.bytes=-1"), "max.batch.bytes is \"-1\"; allowed is a size from 1KiB to 8MiB");
        assert_eq!(said("max.batch.bytes="), "max.batch.bytes is \"\"; allowed is a size from 1KiB to 8MiB");
        assert_eq!(said("timestamp.type=now"), "timestamp.type is \"now\"; allowed is create or append");
        assert!(said("segment_bytes=1").contains("no topic setting \"segment_bytes\""));
        assert!(said("segment.bytes").contains("key=value"));
        let twice = TopicSettings::parse(["segment.bytes=1MiB", "segment.bytes=1MiB"]).expect_err("refused");
        assert_eq!(twice, SettingError::Twice { key: "segment.bytes" });
    }

    #[test]
    fn retention_is_not_yet_supported() {
        for pair in ["retention.ms=1000", "retention.bytes=-1"] {
            let error = TopicSettings::parse([pair]).expect_err("refused");
            assert!(matches!(error, SettingError::NotYetSupported { .. }));
            assert!(error.to_string().contains("not yet supported"));
        }
    }

    #[test]
    fn golden_bytes() {
        let settings = TopicSettings::parse(["segment.bytes=65536", "max.batch.bytes=1024", "timestamp.type=append"]);
        assert_eq!(settings.expect("valid").encode_to_vec(), [0x08, 0x80, 0x80, 0x04, 0x10, 0x80, 0x08, 0x18, 0x02]);
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer_or_an_error(text in "\\PC{0,40}") {
            let _ = TopicSettings::parse([text]);
        }

        /// What parses also passes the check of decoded bytes, and the value shown parses to the same.
        #[test]
        fn what_parses_is_valid(segment in 1u64..(2 << 30), batch in 1u64..(16 << 20)) {
            let pairs = [format!("segment.bytes={segment}"), format!("max.batch.bytes={batch}")];
            let raw = TopicSettings { segment_bytes: segment, max_batch_bytes: batch, timestamp_type: 0 };
            match TopicSettings::parse(&pairs) {
                Ok(settings) => {
                    prop_assert_eq!(&settings, &raw);
                    prop_assert!(settings.validate().is_ok());
                    let shown = settings.effective().map(|(key, value)| format!("{key}={value}"));
                    prop_assert_eq!(TopicSettings::parse(shown).expect("shown").effective(), settings.effective());
                }
                Err(_) => prop_assert!(raw.validate().is_err()),
            }
        }
    }
}
