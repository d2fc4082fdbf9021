//! The trace: every event as a line, hashed. Two runs of one seed have the same hash, or something drew from elsewhere.

use dlog_core::LogId;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Odd, with as many ones as zeros.
const FINGERPRINT_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(FNV_OFFSET)
    }
}

impl Fnv {
    /// Takes in bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    /// The hash of these bytes alone.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut hash = Fnv::default();
        hash.add(bytes);
        hash.0
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

/// A fingerprint of bytes, eight at a time: much faster than [`Fnv`] on batches.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(FINGERPRINT_FACTOR);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(FNV_OFFSET ^ bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

/// What of a run is kept as text: its last lines, and of those that are about one log only those of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Focus {
    /// The log; `None`: all of them.
    pub log: Option<LogId>,
    /// Lines, at most.
    pub lines: usize,
}

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Fnv,
    lines: u64,
    shown: bool,
    focus: Option<Focus>,
    kept: VecDeque<String>,
}

impl Trace {
    /// A trace that also goes to standard error if `shown`, and keeps what is in `focus`.
    pub fn new(shown: bool, focus: Option<Focus>) -> Trace {
        Trace { shown, focus, ..Trace::default() }
    }

    /// Adds a line, at `now` nanoseconds, about one log or about none.
    pub fn note(&mut self, now: u64, log: Option<LogId>, line: fmt::Arguments<'_>) {
        self.lines += 1;
        self.hash.add(&now.to_le_bytes());
        // Writing into a hash can't fail.
        let _ = self.hash.write_fmt(line);
        if self.shown {
            eprintln!("{}", shown(now, line));
        }
        let Some(focus) = self.focus else { return };
        if log.is_none() || focus.log.is_none() || focus.log == log {
            if self.kept.len() == focus.lines {
                self.kept.pop_front();
            }
            self.kept.push_back(shown(now, line));
        }
    }

    /// The hash of all lines.
    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    /// How many there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The lines that were in focus.
    pub fn take_kept(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept).into()
    }
}

fn shown(now: u64, line: fmt::Arguments<'_>) -> String {
    format!("{:>12.6} {line}", now as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_differ_where_bytes_do() {
        let bytes = [7; 33];
        let mut seen: Vec<u64> = (0..33).map(|length| fingerprint(&bytes[..length])).collect();
        for at in 0..33 {
            let mut other = bytes;
            other[at] = 8;
            seen.push(fingerprint(&other));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 66);
    }

    #[test]
    fn the_last_lines_in_focus_are_kept() {
        let mut trace = Trace::new(false, Some(Focus { log: Some(LogId(2)), lines: 2 }));
        for (log, line) in [(None, "a"), (Some(LogId(1)), "b"), (Some(LogId(2)), "c"), (None, "d")] {
            trace.note(1_000_000_000, log, format_args!("{line}"));
        }
        assert_eq!(trace.lines(), 4);
        assert_eq!(trace.take_kept(), ["    1.000000 c", "    1.000000 d"]);
    }
}
