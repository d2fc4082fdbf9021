//! `Scale`: how much is measured.

use dlog_core::limits::KIB;
use dlog_core::limits::MIB;
use dlog_storage::{JournalOptions, LogOptions, StoreOptions};

/// Sizes of the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// On the page.
    pub name: &'static str,
    /// Writes of a small raw sample, and groups of dlog beside it.
    pub small_writes: usize,
    /// Bytes of a large raw sample.
    pub raw_bytes: usize,
    /// Checkpoint periods of one sample of dlog.
    pub periods: usize,
    /// Logs where many are meant.
    pub many_logs: usize,
    /// Logs where very many are meant.
    pub idle_logs: usize,
    /// Bytes that are read in sequence.
    pub read_bytes: u64,
    /// Bytes of the large log.
    pub large_bytes: u64,
    /// Bytes of the small one that it is compared with.
    pub small_bytes: u64,
    /// Bytes behind the checkpoint where a crash is opened.
    pub tail_bytes: u64,
    /// Seeks of one round.
    pub seeks: u64,
    /// Whether journal and segments are as small as they may be.
    tiny: bool,
}

const MIB_U64: u64 = MIB as u64;

/// The usual form: some minutes.
pub const USUAL: Scale = Scale {
    name: "the usual form",
    small_writes: 500,
    raw_bytes: 64 * MIB,
    periods: 2,
    many_logs: 1000,
    idle_logs: 10_000,
    read_bytes: 256 * MIB_U64,
    large_bytes: 1024 * MIB_U64,
    small_bytes: 100 * MIB_U64,
    tail_bytes: 16 * MIB_U64,
    seeks: 100,
    tiny: false,
};

/// Logs of 10 GiB.
pub const LONG: Scale = Scale { name: "the long form", large_bytes: 10 * 1024 * MIB_U64, ..USUAL };

/// Shows that it works.
pub const TINY: Scale = Scale {
    name: "the tiny form, whose figures mean nothing",
    small_writes: 5,
    raw_bytes: 2 * MIB,
    periods: 1,
    many_logs: 20,
    idle_logs: 50,
    read_bytes: 2 * MIB_U64,
    large_bytes: 8 * MIB_U64,
    small_bytes: 2 * MIB_U64,
    tail_bytes: MIB_U64,
    seeks: 5,
    tiny: true,
};

impl Scale {
    /// How the stores are laid out: as nodes have them.
    pub fn options(&self) -> StoreOptions {
        if !self.tiny {
            return StoreOptions::default();
        }
        let file_bytes = 4 * MIB_U64;
        let journal =
            JournalOptions { first_file_bytes: file_bytes, file_bytes, files_max: 4, reserve_bytes: 64 << 10 };
        let log = LogOptions { segment_bytes: MIB_U64, ..LogOptions::default() };
        StoreOptions { journal, log, ..StoreOptions::default() }
    }

    /// Writes of a raw sample of so many bytes each.
    pub fn raw_writes(&self, write_bytes: usize) -> usize {
        // Small ones are bounded by time, not by bytes.
        (self.raw_bytes / write_bytes).clamp(1, if write_bytes <= 4 * KIB { self.small_writes } else { usize::MAX })
    }
}
