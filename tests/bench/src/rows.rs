//! The rows: one file for each thing that the engine must reach.

mod checkpoint_acks;
mod device_bytes;
mod idle_memory;
mod many_logs;
mod one_frame;
mod open;
mod seek;
mod sequential_read;
mod syncs;
mod throughput;

use crate::figure::Figure;
use crate::{Bench, Result};

/// A row, which may have several figures.
pub struct Row {
    /// On the command line.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// Measures it.
    pub run: fn(&Bench) -> Result<Vec<Figure>>,
}

/// All of them, in the order of the page.
pub const ROWS: &[Row] = &[
    Row { name: "one-frame", what: "acks of one log, 1 KiB at a time", run: one_frame::run },
    Row { name: "groups", what: "one log, groups of 64 KiB", run: throughput::groups },
    Row { name: "large-frames", what: "one log, frames of 1 MiB", run: throughput::large_frames },
    Row { name: "many-logs", what: "1,000 logs against one", run: many_logs::run },
    Row { name: "syncs", what: "syncs before an ack, 1,000 logs at once", run: syncs::run },
    Row { name: "read", what: "reading in sequence from the page cache", run: sequential_read::run },
    Row { name: "seek", what: "reads that a seek takes", run: seek::run },
    Row { name: "open", what: "opening after a crash, much data against little", run: open::run },
    Row { name: "memory", what: "memory of 10,000 idle logs", run: idle_memory::run },
    Row { name: "device", what: "bytes that the device writes for each byte appended", run: device_bytes::run },
    Row { name: "checkpoint", what: "acks while a checkpoint runs", run: checkpoint_acks::run },
];

/// Names and meanings, a line each.
pub fn list() -> String {
    ROWS.iter().map(|row| format!("  {:<13} {}", row.name, row.what)).collect::<Vec<_>>().join("\n")
}
