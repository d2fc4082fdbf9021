//! `dlog bench disk`: what this machine's disk can do, so that every other figure has a limit beside it.
//!
//! Three kinds of file, because they differ by a factor of two and more: one that *grows* with each write, one whose blocks
//! were *allocated* before, and one that is *overwritten* in place (what the journal does).

use crate::cli::exit::Exit;
use crate::cli::{Output, out, runtime, table};
use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::fs::FallocateFlags;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Flags of `dlog bench disk`.
#[derive(clap::Args, Debug)]
pub struct DiskArgs {
    /// A folder on the disk to measure; its files are removed again
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How long each of the six measurements runs
    #[arg(long, default_value = "2s", value_parser = crate::cli::units::duration)]
    duration: Duration,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Growing,
    Allocated,
    Overwritten,
}

/// Size of the files: wraps around in the last two kinds.
const FILE_BYTES: u64 = 64 << 20;
/// A small durable write, as a lone record makes.
const SMALL: usize = 4 << 10;
/// A large one, as a full group makes.
const LARGE: usize = 1 << 20;

struct Measured {
    kind: Kind,
    p50_us: u64,
    p99_us: u64,
    mb_per_s: f64,
}

/// Measures and prints.
///
/// # Errors
/// If the folder can't be written.
pub fn run(args: DiskArgs) -> anyhow::Result<Exit> {
    runtime::run_here(true, move |stop| measure_all(&args, stop))
}

fn measure_all(args: &DiskArgs, stop: &AtomicBool) -> anyhow::Result<Exit> {
    let dir = args.dir.join(format!(".dlog-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("can't make a folder in {}", args.dir.display()))?;
    let result = [Kind::Growing, Kind::Allocated, Kind::Overwritten]
        .into_iter()
        .map(|kind| measure(&dir, kind, args.duration, stop))
        .collect::<anyhow::Result<Vec<_>>>();
    let _ = std::fs::remove_dir_all(&dir);
    if stop.load(Ordering::Relaxed) {
        return Ok(Exit::Interrupted);
    }
    let result = result?;
    if args.output.is_json() {
        let files: serde_json::Map<String, serde_json::Value> = result
            .iter()
            .map(|m| {
                let figures = json!({
                    "fdatasync_p50_ms": m.p50_us as f64 / 1e3,
                    "fdatasync_p99_ms": m.p99_us as f64 / 1e3,
                    "bytes_per_s": (m.mb_per_s * 1e6).round(),
                });
                (format!("{:?}", m.kind).to_lowercase(), figures)
            })
            .collect();
        out::json(&files)?;
    } else {
        let rows: Vec<Vec<String>> = result
            .iter()
            .map(|m| {
                let ms = |us: u64| format!("{:.3}", us as f64 / 1e3);
                vec![format!("{:?}", m.kind).to_lowercase(), ms(m.p50_us), ms(m.p99_us), format!("{:.0}", m.mb_per_s)]
            })
            .collect();
        table::print(&["FILE", "4KIB+FDATASYNC_P50_MS", "P99_MS", "1MIB_MB_PER_S"], &rows)?;
    }
    Ok(Exit::Done)
}

fn measure(dir: &Path, kind: Kind, duration: Duration, stop: &AtomicBool) -> anyhow::Result<Measured> {
    let goes_on = |began: Instant| began.elapsed() < duration && !stop.load(Ordering::Relaxed);
    let mut latencies: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let small = open(dir, "small", kind)?;
    let mut at = 0;
    let began = Instant::now();
    while goes_on(began) {
        let write = Instant::now();
        write_sync(&small, &[7u8; SMALL], &mut at, kind)?;
        latencies.saturating_record(u64::try_from(write.elapsed().as_micros())?.max(1));
    }
    let large = open(dir, "large", kind)?;
    let block = vec![7u8; LARGE];
    let (mut at, mut bytes) = (0, 0u64);
    let began = Instant::now();
    while goes_on(began) {
        write_sync(&large, &block, &mut at, kind)?;
        bytes += LARGE as u64;
    }
    let mb_per_s = bytes as f64 / 1e6 / began.elapsed().as_secs_f64();
    for name in ["small", "large"] {
        std::fs::remove_file(dir.join(name))?;
    }
    let (p50_us, p99_us) = (latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99));
    Ok(Measured { kind, p50_us, p99_us, mb_per_s })
}

fn open(dir: &Path, name: &str, kind: Kind) -> anyhow::Result<File> {
    let path = dir.join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    match kind {
        Kind::Growing => {}
        Kind::Allocated => rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)
            .with_context(|| format!("can't allocate {}", path.display()))?,
        Kind::Overwritten => {
            let zeros = vec![0u8; LARGE];
            for at in (0..FILE_BYTES).step_by(LARGE) {
                file.write_all_at(&zeros, at)?;
            }
        }
    }
    file.sync_all()?;
    Ok(file)
}

fn write_sync(file: &File, block: &[u8], at: &mut u64, kind: Kind) -> std::io::Result<()> {
    if kind != Kind::Growing && *at + block.len() as u64 > FILE_BYTES {
        *at = 0;
    }
    file.write_all_at(block, *at)?;
    *at += block.len() as u64;
    file.sync_data()
}
