//! The settings of a topic: their names, ranges and defaults in one table, their parsing, and their protobuf form.
//!
//! | name | value | default |
//! |---|---|---|
//! | `max.batch.bytes` | a size from 1KiB to 8MiB | 1 MiB |
//! | `retention.bytes` | a size from 1KiB to 1PiB, or unlimited | unlimited |
//! | `retention.ms` | a time from 1ms to 36500d, or unlimited | unlimited |
//! | `segment.bytes` | a size from 64KiB to 1GiB | 64 MiB |
//! | `timestamp.type` | create or append | create |
//!
//! Sizes and times take units; without one they are bytes and milliseconds. `-1` is another word for unlimited. A name that
//! isn't here is refused, never accepted and inert.

use dlog_core::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use prost::Message;
use std::fmt;

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
    #[prost(uint64, tag = "3")]
    timestamp_type: u64,
    /// [`UNLIMITED`]: set to unlimited.
    #[prost(uint64, tag = "4")]
    retention_bytes: u64,
    /// As `retention_bytes`.
    #[prost(uint64, tag = "5")]
    retention_ms: u64,
}

/// What an alteration does: some settings get values, others their defaults again. The others stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingChanges {
    /// The new values.
    pub settings: TopicSettings,
    /// The names of those that get their defaults again; none of them is in `settings`.
    pub defaults: Vec<String>,
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
    #[error(
        "there is no topic setting {key:?}; known are retention.bytes, retention.ms, segment.bytes, max.batch.bytes and \
         timestamp.type"
    )]
    Unknown {
        /// The name.
        key: String,
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

/// A retention that was set to "keep everything", as a number.
const UNLIMITED: u64 = u64::MAX;
const RETENTION_BYTES_MIN: u64 = 1 << 10;
const RETENTION_BYTES_MAX: u64 = 1 << 50;
const RETENTION_MS_MAX: u64 = 36_500 * 86_400_000;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    MaxBatchBytes,
    RetentionBytes,
    RetentionMs,
    SegmentBytes,
    TimestampType,
}

/// By name.
const KEYS: [Key; 5] =
    [Key::MaxBatchBytes, Key::RetentionBytes, Key::RetentionMs, Key::SegmentBytes, Key::TimestampType];

// The words below name these ends.
const _: () = assert!(SEGMENT_BYTES_MIN == 64 << 10 && SEGMENT_BYTES_MAX == 1 << 30);
const _: () = assert!(BATCH_BYTES_MIN == 1 << 10 && BATCH_BYTES_MAX == 8 << 20);

impl Key {
    fn of_name(name: &str) -> Result<Key, SettingError> {
        let known = KEYS.into_iter().find(|key| key.name() == name);
        known.ok_or_else(|| SettingError::Unknown { key: name.to_owned() })
    }

    const fn name(self) -> &'static str {
        match self {
            Key::MaxBatchBytes => "max.batch.bytes",
            Key::RetentionBytes => "retention.bytes",
            Key::RetentionMs => "retention.ms",
            Key::SegmentBytes => "segment.bytes",
            Key::TimestampType => "timestamp.type",
        }
    }

    /// The range in words.
    const fn allowed(self) -> &'static str {
        match self {
            Key::MaxBatchBytes => "a size from 1KiB to 8MiB",
            Key::RetentionBytes => "a size from 1KiB to 1PiB, or unlimited",
            Key::RetentionMs => "a time from 1ms to 36500d (a bare number is milliseconds), or unlimited",
            Key::SegmentBytes => "a size from 64KiB to 1GiB",
            Key::TimestampType => "create or append",
        }
    }

    fn is_in_range(self, value: u64) -> bool {
        match self {
            Key::MaxBatchBytes => (BATCH_BYTES_MIN as u64..=BATCH_BYTES_MAX as u64).contains(&value),
            Key::RetentionBytes => (RETENTION_BYTES_MIN..=RETENTION_BYTES_MAX).contains(&value) || value == UNLIMITED,
            Key::RetentionMs => (1..=RETENTION_MS_MAX).contains(&value) || value == UNLIMITED,
            Key::SegmentBytes => (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&value),
            Key::TimestampType => (1..=2).contains(&value),
        }
    }

    /// A value as it was written.
    fn parse(self, text: &str) -> Result<u64, SettingError> {
        let number = match (self, text) {
            (Key::TimestampType, "create") => Some(1),
            (Key::TimestampType, "append") => Some(2),
            (Key::TimestampType, _) => None,
            (Key::RetentionBytes | Key::RetentionMs, "unlimited" | "-1") => Some(UNLIMITED),
            // The number that stands for unlimited isn't a size.
            (Key::RetentionMs, _) => parse_milliseconds(text).filter(|ms| *ms != UNLIMITED),
            _ => parse_size(text).filter(|bytes| *bytes != UNLIMITED),
        };
        let error = || SettingError::Value { key: self.name(), value: text.to_owned(), allowed: self.allowed() };
        number.filter(|value| self.is_in_range(*value)).ok_or_else(error)
    }
}

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
    /// [`SettingError`] if the key isn't known or is set, or the value isn't in its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let key = Key::of_name(key)?;
        let value = key.parse(value)?;
        if self.get(key) != 0 {
            return Err(SettingError::Twice { key: key.name() });
        }
        *self.slot(key) = value;
        Ok(())
    }

    /// Checks the ranges again: a command's bytes may hold anything.
    ///
    /// # Errors
    /// [`SettingError::Value`] for the first out of its range.
    pub fn validate(&self) -> Result<(), SettingError> {
        for key in KEYS {
            let value = self.get(key);
            if value != 0 && !key.is_in_range(value) {
                return Err(SettingError::Value { key: key.name(), value: value.to_string(), allowed: key.allowed() });
            }
        }
        Ok(())
    }

    /// These settings as an alteration leaves them.
    ///
    /// # Errors
    /// [`SettingError::Unknown`] for a name that isn't known, [`SettingError::Twice`] for one that gets a value too.
    pub fn altered(&self, changes: &SettingChanges) -> Result<TopicSettings, SettingError> {
        let mut altered = self.clone();
        for name in &changes.defaults {
            let key = Key::of_name(name)?;
            if changes.settings.get(key) != 0 {
                return Err(SettingError::Twice { key: key.name() });
            }
            *altered.slot(key) = 0;
        }
        for key in KEYS {
            *altered.slot(key) = or(changes.settings.get(key), altered.get(key));
        }
        Ok(altered)
    }

    fn get(&self, key: Key) -> u64 {
        match key {
            Key::MaxBatchBytes => self.max_batch_bytes,
            Key::RetentionBytes => self.retention_bytes,
            Key::RetentionMs => self.retention_ms,
            Key::SegmentBytes => self.segment_bytes,
            Key::TimestampType => self.timestamp_type,
        }
    }

    fn slot(&mut self, key: Key) -> &mut u64 {
        match key {
            Key::MaxBatchBytes => &mut self.max_batch_bytes,
            Key::RetentionBytes => &mut self.retention_bytes,
            Key::RetentionMs => &mut self.retention_ms,
            Key::SegmentBytes => &mut self.segment_bytes,
            Key::TimestampType => &mut self.timestamp_type,
        }
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

    /// Of each partition so many bytes of segments are kept, the oldest go first; `None`: all.
    pub fn retention_bytes(&self) -> Option<u64> {
        limited(self.retention_bytes)
    }

    /// A segment goes when its newest record is older than so many milliseconds; `None`: never.
    pub fn retention_ms(&self) -> Option<u64> {
        limited(self.retention_ms)
    }

    /// Every setting with the value that holds, by key.
    pub fn effective(&self) -> [(&'static str, String); 5] {
        let retention = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        KEYS.map(|key| {
            let value = match key {
                Key::MaxBatchBytes => self.max_batch_bytes().to_string(),
                Key::RetentionBytes => retention(self.retention_bytes()),
                Key::RetentionMs => retention(self.retention_ms()),
                Key::SegmentBytes => self.segment_bytes().to_string(),
                Key::TimestampType => self.timestamp_type().to_string(),
            };
            (key.name(), value)
        })
    }
}

impl SettingChanges {
    /// Adds one: a value, or with nothing or `default` in its place the default again.
    ///
    /// # Errors
    /// [`SettingError`] if the key isn't known or was given before, or the value isn't in its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let known = Key::of_name(key)?;
        if self.defaults.iter().any(|name| name == known.name()) {
            return Err(SettingError::Twice { key: known.name() });
        }
        if !matches!(value, "" | "default") {
            return self.settings.set(key, value);
        }
        if self.settings.get(known) != 0 {
            return Err(SettingError::Twice { key: known.name() });
        }
        self.defaults.push(known.name().to_owned());
        Ok(())
    }

    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        *self == SettingChanges::default()
    }
}

/// The value, or `other` if it isn't set.
fn or(value: u64, other: u64) -> u64 {
    if value == 0 { other } else { value }
}

/// A retention as a limit, if it is one.
fn limited(value: u64) -> Option<u64> {
    (!matches!(value, 0 | UNLIMITED)).then_some(value)
}

/// A number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Bytes from `4096`, `64KiB`, `1 MiB`, `1GB`…; `None` if it isn't a size or exceeds 64 bits.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Milliseconds from `604800000`, `250ms`, `90s`, `30m`, `168h`, `7d`; `None` if it isn't a time or exceeds 64 bits.
fn parse_milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
