//! `dlog-sim`: plays seeds of the simulator, and says with its exit code how that went.

use dlog_sim::many::{Seeds, cores};
use dlog_sim::run::timeline;
use dlog_sim::{Broken, Options, Report, Shape, run};
use std::process::ExitCode;

const USAGE: &str = "\
usage: dlog-sim --seed N [--count N] [--shape mixed|power-loss] [--broken NAME] [--threads N] [--trace]

Plays a simulated cluster: production replicas and storage over simulated disks and network.
  --seed N       what is drawn (default 1)
  --count N      so many seeds, from --seed up (default 1)
  --shape NAME   everything (mixed), or all nodes losing power again and again (power-loss); default: by the seed
  --broken NAME  do it wrong on purpose: no-sync, sync-later, votes-forgotten, uncommitted-read,
                 retry-without-sequence, snapshot-without-producers, snapshot-state-too-old
  --threads N    seeds at once (default: one for each core)
  --trace        show every event of a single seed
exit codes: 0 passed, 2 wrong usage, 10 crash, 11 not live, 12 a promise broken";

/// Of many failing seeds so many are told in full.
const TIMELINES_MAX: usize = 3;

const NS_PER_HOUR: f64 = 3.6e12;

/// Wrong usage.
const USAGE_CODE: u8 = 2;

struct Arguments {
    seeds: Seeds,
    trace: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) if arguments.seeds.count == 1 => one(&arguments),
        Ok(Some(arguments)) => many(&arguments.seeds),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            ExitCode::from(USAGE_CODE)
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let seeds = Seeds { first: 1, count: 1, shape: None, broken: Broken::No, threads: cores() };
    let mut parsed = Arguments { seeds, trace: false };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--trace" => {
                parsed.trace = true;
                continue;
            }
            "--seed" | "--count" | "--shape" | "--broken" | "--threads" => {}
            other => return Err(format!("unknown argument {other}")),
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not {value}"));
        match name.as_str() {
            "--seed" => parsed.seeds.first = number()?,
            "--count" => parsed.seeds.count = number()?.max(1),
            "--threads" => parsed.seeds.threads = number()?.clamp(1, 256) as usize,
            "--shape" => parsed.seeds.shape = Some(Shape::by_name(&value).ok_or(format!("unknown shape {value}"))?),
            _ => parsed.seeds.broken = Broken::by_name(&value).ok_or(format!("unknown broken variant {value}"))?,
        }
    }
    Ok(Some(parsed))
}

/// What must be typed to see the same again.
fn again(seeds: &Seeds, seed: u64) -> String {
    match (seeds.shape, seeds.broken) {
        (None, Broken::No) => format!("reproduce: make sim SEED={seed}"),
        (shape, broken) => {
            let shape = shape.map_or(String::new(), |shape| format!(" --shape {}", shape.name()));
            let broken = if broken == Broken::No { String::new() } else { format!(" --broken {broken}") };
            format!("reproduce: cargo run -p dlog-sim -- --seed {seed}{shape}{broken}")
        }
    }
}

fn code(report: &Report) -> ExitCode {
    report.failure.as_ref().map_or(ExitCode::SUCCESS, |failure| ExitCode::from(failure.kind.exit_code()))
}

fn show_timeline(options: &Options, report: &Report) {
    let Some(failure) = &report.failure else { return };
    let about = failure.log.map_or(String::new(), |log| format!(", of log {log} and of all"));
    println!("what happened last{about}:");
    timeline(options, failure).iter().for_each(|line| println!("{line}"));
}

fn one(arguments: &Arguments) -> ExitCode {
    let seed = arguments.seeds.first;
    let mut options = arguments.seeds.options(seed);
    options.trace = arguments.trace;
    println!("{options}");
    let report = run(&options);
    if !arguments.trace {
        show_timeline(&options, &report);
    }
    println!("{report}\n{}", again(&arguments.seeds, seed));
    code(&report)
}

fn many(seeds: &Seeds) -> ExitCode {
    println!("seeds {} to {}, on {} threads", seeds.first, seeds.first + seeds.count - 1, seeds.threads);
    let mut failed: Vec<Report> = Vec::new();
    let (mut passed, mut events, mut virtual_ns) = (0u64, 0, 0);
    seeds.run(|report| {
        events += report.events;
        virtual_ns += report.virtual_ns;
        if report.failure.is_some() {
            let options = seeds.options(report.seed);
            println!("{options}");
            if failed.len() < TIMELINES_MAX {
                show_timeline(&options, &report);
            }
            println!("{report}\n{}", again(seeds, report.seed));
            failed.push(report);
        } else {
            passed += 1;
            if passed.is_multiple_of(100) {
                println!("{passed} seeds passed");
            }
        }
        true
    });
    println!("{events} events in {:.1} hours of the clusters' time", virtual_ns as f64 / NS_PER_HOUR);
    println!("{passed} of {} seeds passed", seeds.count);
    failed.sort_by_key(|report| report.seed);
    let Some(first) = failed.first() else { return ExitCode::SUCCESS };
    let all: Vec<String> = failed.iter().map(|report| report.seed.to_string()).collect();
    println!("failed: {}\n{}", all.join(" "), again(seeds, first.seed));
    code(first)
}
