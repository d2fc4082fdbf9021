//! `Machine`: the limits of the hardware, without which no figure means anything.

use crate::figure::median;
use crate::raw::{LAYOUTS, RawRounds};
use crate::{Bench, Result};
use dlog_core::limits::{KIB, MIB};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Sizes of the raw writes that are told for their own sake.
const WRITES: &[(usize, &str)] = &[(KIB, "1 KiB"), (64 * KIB, "64 KiB"), (MIB, "1 MiB")];
/// Passes over one buffer when a rate of memory is measured.
const PASSES: usize = 64;
/// Where `/proc/self/stat` has the scheduling policy, counted from behind the name.
const POLICY_FIELD: usize = 38;
/// Of those, the median is taken of so many.
const TRIES: usize = 5;

/// What the machine can do.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Name of the file system.
    pub file_system: String,
    /// The kernel's version.
    pub kernel: String,
    /// What else the machine did, and with what right this process ran.
    pub company: String,
    /// CRC32C of a buffer in the cache, bytes a second.
    pub crc_rate: f64,
    /// Reads of 1 MiB from the page cache into one buffer, bytes a second.
    pub page_cache_rate: f64,
    /// Raw writes with fdatasync: size in words, and what was found.
    pub raw: Vec<(&'static str, String)>,
}

/// Measures it.
///
/// # Errors
/// The system's.
pub fn measure(bench: &Bench) -> Result<Machine> {
    let mut raw = Vec::new();
    for (bytes, name) in WRITES {
        let mut rounds = RawRounds::default();
        for _ in 0..TRIES {
            rounds.run(&bench.place, &LAYOUTS, *bytes, bench.scale.raw_writes(*bytes))?;
        }
        raw.push((*name, rounds.text()));
    }
    Ok(Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        file_system: bench.place.file_system.clone(),
        kernel: read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default().to_string(),
        company: company(&read("/proc/loadavg"), &read("/proc/self/stat")),
        crc_rate: crc_rate(),
        page_cache_rate: page_cache_rate(bench)?,
        raw,
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The load average, and whether this process stands before everybody else.
fn company(load: &str, stat: &str) -> String {
    let load = load.split(' ').next().unwrap_or("unknown");
    // The name in brackets may hold anything; policy is field 41 of all, and 0 the usual one.
    let policy = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(POLICY_FIELD));
    match policy {
        Some("1" | "2") => format!("load {load} of other processes; this one ran before them, at real-time priority"),
        _ => format!("load {load} at the start"),
    }
}

fn crc_rate() -> f64 {
    let mut buffer = vec![0u8; MIB];
    fastrand::Rng::with_seed(2).fill(&mut buffer);
    let try_once = |_| {
        let began = Instant::now();
        let crc = (0..PASSES).fold(0, |crc, _| crc32c::crc32c_append(crc, std::hint::black_box(&buffer)));
        std::hint::black_box(crc);
        (PASSES * MIB) as f64 / began.elapsed().as_secs_f64()
    };
    median(&(0..TRIES).map(try_once).collect::<Vec<_>>())
}

fn page_cache_rate(bench: &Bench) -> Result<f64> {
    let path = bench.place.path("cached");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let mut buffer = vec![1u8; MIB];
    for number in 0..PASSES {
        file.write_all_at(&buffer, (number * MIB) as u64)?;
    }
    let mut rates = Vec::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        for number in 0..PASSES {
            file.read_exact_at(&mut buffer, (number * MIB) as u64)?;
        }
        rates.push((PASSES * MIB) as f64 / began.elapsed().as_secs_f64());
    }
    std::fs::remove_file(&path)?;
    Ok(median(&rates))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, file_system, kernel, company, crc_rate, page_cache_rate, raw } = self;
        writeln!(f, "| limit | of this machine |\n|---|---|")?;
        writeln!(f, "| cores | {cores} |\n| file system | {file_system}, Linux {kernel} |")?;
        writeln!(f, "| other work | {company} |")?;
        writeln!(f, "| CRC32C of 1 MiB in the cache, one core | {:.1} GB/s |", crc_rate / 1e9)?;
        writeln!(f, "| pread of 1 MiB from the page cache, one core | {:.1} GB/s |", page_cache_rate / 1e9)?;
        for (size, found) in raw {
            writeln!(f, "| raw write of {size} + fdatasync, p50 and rate | {found} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduling_policy_is_read() {
        let stat = |policy: u8| format!("7 (a ) b) S {}0 {policy} 0 0", "1 ".repeat(POLICY_FIELD - 2));
        assert_eq!(company("1.5 1 1 1/2 3\n", &stat(0)), "load 1.5 at the start");
        assert!(company("1.5 1", &stat(1)).contains("real-time"));
        assert_eq!(company("", ""), "load  at the start");
    }
}
