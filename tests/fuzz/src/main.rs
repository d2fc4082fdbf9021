//! The verbs: a long run, the corpus made anew, and one input checked.
//!
//! ```text
//! dlog-fuzz run [TARGET…]      random inputs, round by round, until DLOG_FUZZ_SECONDS are over (60); a failing one is kept in the corpus
//! dlog-fuzz corpus             writes the seeds of every target's corpus
//! dlog-fuzz check TARGET FILE  checks one input, also with its checksums mended: for a fuzzer that runs programs, and for debugging
//! ```
//!
//! `DLOG_FUZZ_SEED` (1) is where a run begins: each round takes the next seed.

use dlog_fuzz::{TARGETS, Target, bound, corpus, random, replay, targets};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", ref names @ ..] => run(names),
        ["corpus"] => make_corpus(),
        ["check", name, file] => check(name, file),
        _ => Err("usage: dlog-fuzz run [TARGET…] | corpus | check TARGET FILE".to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn named(name: &str) -> Result<&'static Target, String> {
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets::named(name).ok_or_else(|| format!("there is no target {name}; there are: {}", known.join(", ")))
}

fn number(variable: &str, otherwise: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Err(_) => Ok(otherwise),
        Ok(text) => text.parse().map_err(|_| format!("{variable}={text} is no number")),
    }
}

fn run(names: &[&str]) -> Result<(), String> {
    let chosen: Vec<&Target> = if names.is_empty() {
        TARGETS.iter().collect()
    } else {
        names.iter().map(|n| named(n)).collect::<Result<_, _>>()?
    };
    let (mut seed, seconds) = (number("DLOG_FUZZ_SEED", 1)?, number("DLOG_FUZZ_SECONDS", 60)?);
    let begin = Instant::now();
    let _turn = bound::turn();
    loop {
        let mut failed = Vec::new();
        for target in &chosen {
            let members = corpus::load(target).map_err(|error| format!("{}: {error}", target.name))?;
            if let Err(failure) = replay(target, &members) {
                failed.push(failure.to_string());
                continue;
            }
            match random(target, &members, seed, target.runs) {
                Ok(report) => println!("seed {seed} {}: {} inputs, {} taken", target.name, report.inputs, report.taken),
                Err(failure) => {
                    let kept = corpus::keep(target, &failure.input).map_err(|error| error.to_string())?;
                    failed.push(format!("seed {seed}, kept as {}\n{failure}", kept.display()));
                }
            }
        }
        // The other targets of the round have had their turn.
        if !failed.is_empty() {
            return Err(failed.join("\n"));
        }
        seed += 1;
        if begin.elapsed() >= Duration::from_secs(seconds) {
            return Ok(());
        }
    }
}

fn make_corpus() -> Result<(), String> {
    for target in TARGETS {
        let count = corpus::make(target).map_err(|error| format!("{}: {error}", target.name))?;
        println!("{}: {count} seeds", target.name);
    }
    Ok(())
}

fn check(name: &str, file: &str) -> Result<(), String> {
    let target = named(name)?;
    let input = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    // Not caught: a fuzzer wants to see the process die.
    let taken = bound::check(target, &input);
    println!("taken: {taken}, mended: {}", bound::check(target, &target.mend.mended(input)));
    Ok(())
}
