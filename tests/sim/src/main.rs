//! `dlog-sim`: plays seeds of the simulator, and says with its exit code how that went.

use dlog_sim::many::{Seeds, cores};
use dlog_sim::run::timeline;
use dlog_sim::{Broken, Options, Report, Shape, gate, run};
use std::process::ExitCode;

const USAGE: &str = "\
usage: dlog-sim --seed N [--count N] [--shape NAME] [--broken NAME] [--threads N] [--trace]
       dlog-sim mutants [--short] [--seed N] [--broken NAME] [--threads N] [--trace]

Plays a simulated cluster: production replicas and storage over simulated disks and network.
  --seed N       what is drawn (default 1)
  --count N      so many seeds, from --seed up (default 1)
  --shape NAME   everything (mixed), all nodes losing power again and again (power-loss), leaders cut off (splits),
                 disks that fail (bad-disks), disks wiped, put back or decayed (lost-disks), ends asked for all the
                 time (asked), replicas moved (moves); default: by the seed
  --broken NAME  do it wrong on purpose: no-sync, sync-later, votes-forgotten, uncommitted-read, retry-without-sequence,
                 and in a build with `--features mutants` every mutant that the gate names
  mutants        the mutation gate: each way to do it wrong must be found; --short: those that few seeds find;
                 --trace: with what was seen
  --threads N    seeds at once (default: one for each core)
  --trace        show every event of a single seed
exit codes: 0 passed, 2 wrong usage, 10 crash, 11 not live, 12 a promise broken; of the gate 0 or 1";

/// Of many failing seeds so many are told in full.
const TIMELINES_MAX: usize = 3;

const NS_PER_HOUR: f64 = 3.6e12;

/// Wrong usage.
const USAGE_CODE: u8 = 2;

struct Arguments {
    seeds: Seeds,
    trace: bool,
    /// The mutation gate is asked for.
    gate: bool,
    /// And only what few seeds find.
    short: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) if arguments.gate => gate(&arguments),
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
    let mut parsed = Arguments { seeds, trace: false, gate: false, short: false };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--trace" | "--short" | "mutants" => {
                parsed.trace |= name == "--trace";
                parsed.short |= name == "--short";
                parsed.gate |= name == "mutants";
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

/// Runs the mutation gate: all that is found in time, and the seeds pass where nothing is wrong?
fn gate(arguments: &Arguments) -> ExitCode {
    let Arguments { seeds, short, .. } = arguments;
    let (only, threads) = (seeds.broken, seeds.threads);
    if cfg!(not(feature = "mutants")) {
        println!("built without the mutants of production code: use make mutants");
    }
    println!("{:<27} {:<14}{:>4}    {:<4} found by", "wrong", "runs", "seed", "max");
    let mut verdicts = Vec::new();
    let wanted =
        gate::trials(*short, seeds.first).into_iter().filter(|trial| only == Broken::No || trial.broken == only);
    for trial in wanted {
        let verdict = trial.judge(threads);
        println!("{verdict}");
        if let Some((_, failure)) = verdict.found.as_ref().filter(|_| arguments.trace) {
            println!("    {failure}");
        }
        verdicts.push(verdict);
    }
    let right = gate::play_right(&verdicts, threads);
    right.iter().for_each(|right| println!("{right}"));
    let found = verdicts.iter().filter(|verdict| verdict.found.is_some()).count();
    println!("{found} of {} found", verdicts.len());
    let passed = found == verdicts.len() && right.iter().all(|right| right.failed.is_none());
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
