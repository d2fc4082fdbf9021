//! The program: what it prints first and last, and its exit codes.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dlog-sim")).args(arguments).output().expect("the simulator starts")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_passing_seed_says_what_was_drawn_and_how_to_see_it_again() {
    let output = sim(&["--seed", "7"]);
    assert_eq!(output.status.code(), Some(0));
    let lines = lines(&output);
    assert!(lines[0].starts_with("seed=7 "), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("PASSED seed=7 ")), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("reproduce: make sim SEED=7"));
}

#[test]
fn a_failing_seed_has_an_exit_code_of_its_kind() {
    let output = sim(&["--seed", "1", "--shape", "power-loss", "--broken", "votes-forgotten"]);
    assert_eq!(output.status.code(), Some(12), "a promise is broken");
    let last = lines(&output).pop().unwrap_or_default();
    assert_eq!(last, "reproduce: cargo run -p dlog-sim -- --seed 1 --shape power-loss --broken votes-forgotten");
}

#[test]
fn several_seeds_are_counted() {
    let output = sim(&["--seed", "3", "--count", "2"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output).last().map(String::as_str), Some("2 of 2 seeds passed"));
}

#[test]
fn nonsense_is_refused() {
    for arguments in [&["--sed", "1"][..], &["--seed"], &["--seed", "x"], &["--shape", "x"], &["--broken", "x"]] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
