//! The trace: every event as a line, hashed. Two runs of one seed have the same hash, or something drew from elsewhere.

use std::fmt::{self, Write as _};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

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

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Fnv,
    lines: u64,
    shown: bool,
}

impl Trace {
    /// A trace that also goes to standard error if `shown`.
    pub fn new(shown: bool) -> Trace {
        Trace { shown, ..Trace::default() }
    }

    /// Adds a line, at `now` nanoseconds.
    pub fn note(&mut self, now: u64, line: fmt::Arguments<'_>) {
        self.lines += 1;
        // Writing into a hash can't fail.
        let _ = writeln!(self.hash, "{now} {line}");
        if self.shown {
            eprintln!("{:>12.6} {line}", now as f64 / 1e9);
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
}
