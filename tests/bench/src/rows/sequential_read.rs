//! Reading a log in sequence from the page cache, every checksum verified.

use crate::figure::{Bar, Figure, Unit, median};
use crate::shard::Shard;
use crate::{Bench, Result};
use dlog_core::limits::{KIB, MIB};
use dlog_storage::{LogReader, OsDisk, StoreOptions};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes of one read on both sides: what the reader takes at most.
const BUFFER_BYTES: usize = MIB;

/// Small batches and usual ones.
pub fn run(bench: &Bench) -> Result<Vec<Figure>> {
    [(KIB, "1 KiB"), (16 * KIB, "16 KiB"), (MIB, "1 MiB")]
        .into_iter()
        .map(|(bytes, of)| batches(bench, bytes, of))
        .collect()
}

fn batches(bench: &Bench, batch_bytes: usize, of: &str) -> Result<Figure> {
    // Without a tail cache every read is one of the file.
    let options = StoreOptions { tail_cache_bytes: 0, ..bench.scale.options() };
    let mut shard = Shard::new(bench.place.fresh_disk("read")?, options, 1, batch_bytes)?;
    shard.fill(bench.scale.read_bytes, false)?;
    let reader = shard.store.reader(shard.logs[0].replica).ok_or("the log is written out")?;
    let files: Vec<PathBuf> = bench
        .place
        .files("read")?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    read_log(&reader)?;
    let (mut own, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        raw.push(read_raw(&files)?);
        own.push(read_log(&reader)?);
    }
    bench.place.remove("read")?;
    let values = own.iter().zip(&raw).map(|(own, raw)| own / raw).collect();
    Ok(Figure {
        what: format!(
            "Sequential read from the page cache, checksums verified, batches of {of}: against pread + CRC32C alone"
        ),
        bar: Bar::AtLeast(0.6),
        unit: Unit::Percent,
        values,
        beside: format!(
            "dlog {:.2} GB/s, pread + CRC32C {:.2} GB/s, both in reads of 1 MiB",
            median(&own) / 1e9,
            median(&raw) / 1e9
        ),
    })
}

/// Bytes of batches a second.
fn read_log(reader: &LogReader<OsDisk>) -> Result<f64> {
    let (mut next, end) = (reader.log_start(), reader.log_end());
    let (mut bytes, began) = (0, Instant::now());
    while next < end {
        let read = reader.read_batches(next, end, BUFFER_BYTES)?;
        bytes += std::hint::black_box(&read.batches).iter().map(bytes::Bytes::len).sum::<usize>();
        next = read.next;
    }
    Ok(bytes as f64 / began.elapsed().as_secs_f64())
}

/// Bytes of files a second.
fn read_raw(files: &[PathBuf]) -> Result<f64> {
    let mut buffer = vec![0u8; BUFFER_BYTES];
    let (mut bytes, began) = (0, Instant::now());
    for path in files {
        let file = File::open(path)?;
        let mut at = 0;
        loop {
            let count = file.read_at(&mut buffer, at)?;
            if count == 0 {
                break;
            }
            std::hint::black_box(crc32c::crc32c(&buffer[..count]));
            at += count as u64;
        }
        bytes += at;
    }
    Ok(bytes as f64 / began.elapsed().as_secs_f64())
}
