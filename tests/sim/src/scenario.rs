//! Scenarios: named situations, played command by command, with all that the nodes said to it.
//!
//! A script (`scenarios/*.txt`; its README has the format) is a title, a paragraph, and commands, each followed by what it
//! printed when somebody last read it and found it right. [`play`] runs the commands on a [`stage::Stage`] (production
//! replicas, storage and recovery over simulated disks, stepped by nothing but commands) and gives the script back with what
//! they print now. A difference is a failure, and so is a `check` that doesn't hold, whatever the script expects.

pub mod checks;
pub mod commands;
pub mod difference;
pub mod disks;
pub mod execute;
pub mod members;
pub mod node;
pub mod requests;
pub mod script;
pub mod shows;
pub mod stage;
pub mod starts;
pub mod wire;
pub mod words;

use script::Script;
use stage::Stage;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of a script.
#[derive(Clone, Debug)]
pub struct Played {
    /// The script with what its commands print now.
    pub text: String,
    /// Checks that don't hold, and commands that could not be carried out.
    pub failures: Vec<String>,
    /// Commands that have no expected output yet.
    pub unchecked: Vec<String>,
}

/// Plays a script.
///
/// # Errors
/// What of its form is wrong.
pub fn play(text: &str) -> Result<Played, String> {
    let mut script = Script::parse(text)?;
    let mut stage = Stage::default();
    let (mut failures, mut unchecked) = (Vec::new(), Vec::new());
    for step in &mut script.steps {
        if step.output.is_empty() {
            unchecked.push(step.command.clone());
        }
        let (result, ended) = run(&mut stage, &step.command);
        step.output = stage.take_lines();
        let broken = stage.take_broken().into_iter().chain(result.err());
        for what in broken {
            failures.push(format!("`{}`: {what}", step.command));
            step.output.push(format!("FAILED: {what}"));
        }
        if step.output.is_empty() {
            step.output.push("nothing".to_owned());
        }
        if ended {
            break;
        }
    }
    if script.steps.last().is_none_or(|step| !step.command.starts_with("check ")) {
        failures.push("the last command is not a `check`: nothing says what must have come of it".to_owned());
    }
    Ok(Played { text: script.render(), failures, unchecked })
}

/// Runs one command. A panic of what it runs is a failure like others, but nothing can follow it: `true` says so.
fn run(stage: &mut Stage, command: &str) -> (Result<(), String>, bool) {
    match catch_unwind(AssertUnwindSafe(|| commands::run(stage, command))) {
        Ok(result) => (result, false),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it says nothing");
            (Err(format!("a panic: {text}")), true)
        }
    }
}
