//! Every scenario does what its script says, line for line. `DLOG_SCENARIO_UPDATE=1` writes down what they do now.

use dlog_sim::scenario::difference::difference;
use dlog_sim::scenario::{Played, play};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scripts() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("the scenarios' folder").map(|entry| entry.expect("a file").path());
    let mut scripts: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    scripts.sort();
    scripts
}

/// What is wrong with a script; it is rewritten if so wanted.
fn look_at(path: &Path, update: bool) -> Result<(), String> {
    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let Played { text: now, failures, unchecked } = play(&text).map_err(|error| format!("{name}: {error}"))?;
    if update && now != text {
        fs::write(path, &now).map_err(|error| format!("{name}: {error}"))?;
    }
    let mut wrong = failures;
    if !update && !unchecked.is_empty() {
        wrong.push(format!("nobody has looked at what these print: {unchecked:?}"));
    }
    if !update && now != text {
        let changed = difference(&text, &now);
        wrong.push(format!(
            "it prints something else (-: expected, +: now):\n{changed}If that is right: DLOG_SCENARIO_UPDATE=1 cargo test \
             -p dlog-sim --test scenarios"
        ));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{name}: {}", wrong.join("\n"))) }
}

#[test]
fn every_scenario_does_what_its_script_says() {
    let update = std::env::var_os("DLOG_SCENARIO_UPDATE").is_some_and(|value| value == "1");
    let scripts = scripts();
    assert!(!scripts.is_empty(), "there is no scenario");
    let wrong: Vec<String> = scripts.iter().filter_map(|path| look_at(path, update).err()).collect();
    assert!(wrong.is_empty(), "{} of {} scenarios:\n\n{}", wrong.len(), scripts.len(), wrong.join("\n\n"));
}

#[test]
fn a_script_prints_the_same_twice() {
    for path in scripts() {
        let text = fs::read_to_string(&path).expect("a script");
        let [first, second] = [(), ()].map(|()| play(&text).expect("a script").text);
        assert_eq!(first, second, "{}", path.display());
    }
}

#[test]
fn the_readme_lists_every_scenario() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("the scenarios' README");
    for path in scripts() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(readme.contains(&format!("`{name}`")), "README.md doesn't list {name}");
    }
}

#[test]
fn a_script_that_expects_something_else_is_told_so() {
    let script = "Title\n\nAbout.\n\n> cluster voters 1\nsomething else\n> check no leader\nok\n";
    let played = play(script).expect("a script");
    assert_ne!(played.text, script);
    assert_eq!((played.failures.len(), played.unchecked.len()), (0, 0));
    assert!(difference(script, &played.text).contains("- something else"), "{}", played.text);
}

#[test]
fn a_check_that_does_not_hold_fails_whatever_is_expected() {
    let script = "Title\n\nAbout.\n\n> cluster voters 1\n> check leader 1\nFAILED: 1 follows nobody, term 0\n";
    let played = play(script).expect("a script");
    assert_eq!(played.failures, ["`check leader 1`: 1 follows nobody, term 0"]);
    assert_eq!(played.unchecked, ["cluster voters 1"]);
}

#[test]
fn a_script_without_a_check_at_its_end_fails() {
    let played = play("Title\n\nAbout.\n\n> cluster voters 1\n").expect("a script");
    assert!(played.failures[0].contains("not a `check`"), "{:?}", played.failures);
}
