//! `dlog-storage-bench`: the storage engine against the raw disk, both in one run, a row for each bar that it must reach.

mod arguments;
mod counted;
mod figure;
mod frames;
mod machine;
mod page;
mod place;
mod raw;
mod rows;
mod scale;
mod shard;

use arguments::{Arguments, USAGE};
use cap::Cap;
use place::Place;
use scale::Scale;
use std::alloc::System;
use std::process::ExitCode;

/// Counts what is allocated; no limit.
#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

/// Whatever goes wrong ends the run with a text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Wrong usage.
const USAGE_CODE: u8 = 2;

/// What every row is given.
struct Bench {
    place: Place,
    scale: Scale,
    /// How often each row pairs dlog with the raw disk.
    rounds: usize,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1), std::env::var("DLOG_BENCH_DIR").ok()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}\nrows:\n{}", rows::list());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}\nrows:\n{}", rows::list());
            return ExitCode::from(USAGE_CODE);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the measurement ended early: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let place = Place::new(&arguments.folder()?)?;
    let bench = Bench { place, scale: arguments.scale, rounds: arguments.rounds };
    let machine = machine::measure(&bench)?;
    eprintln!("{machine}");
    let mut figures = Vec::new();
    for row in rows::ROWS.iter().filter(|row| arguments.wants(row.name)) {
        eprintln!("{} ...", row.name);
        let began = std::time::Instant::now();
        for figure in (row.run)(&bench)? {
            eprintln!("  {figure}");
            figures.push(figure);
        }
        eprintln!("  ({:.0} s)", began.elapsed().as_secs_f64());
    }
    let page = page::page(&machine, &figures, bench.scale.name, bench.rounds);
    match &arguments.out {
        Some(path) => std::fs::write(path, page)?,
        None => print!("{page}"),
    }
    Ok(())
}
