//! `dlog dev`: starts, the three commands that it prints work as printed, Ctrl-C ends it with 0 and removes its data.

use dlog_cluster_tests::process::Process;
use dlog_cluster_tests::{Turn, binary, ports, verb, wait};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Runs a line as a user would, with `dlog` on the path.
fn shell(line: &str) -> (bool, String) {
    let mut path = std::ffi::OsString::from(binary::dlog().parent().expect("a folder"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let out =
        Command::new("timeout").args(["60", "sh", "-c", line]).env("PATH", path).env_remove("DLOG_SERVER").output();
    let out = out.unwrap_or_else(|e| panic!("can't run a shell: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.success(), said)
}

#[test]
fn prints_commands_that_work_and_cleans_up() {
    let turn = Turn::take("dev");
    let scratch = turn.dir().join("tmp");
    std::fs::create_dir(&scratch).expect("a folder");
    // Node i listens on base + 10(i-1) + 1 to 3.
    let base = ports::free_run(31, |_| (0..3).flat_map(|i| [10 * i + 1, 10 * i + 2, 10 * i + 3]).collect());
    let mut command = verb::command("");
    command.args(["dev", "--port-base", &base.to_string()]).env("TMPDIR", &scratch);
    let mut dev = Process::start(&mut command, &turn.dir().join("dev.stderr"));
    wait::until_ok("dlog dev says `ready`", Duration::from_secs(120), || {
        let said = dev.stderr();
        assert!(dev.ended().is_none(), "dlog dev ended; it said:\n{said}");
        if said.lines().any(|line| line == "ready") { Ok(()) } else { Err(said) }
    });
    assert!(entries(&scratch) > 0, "its data lies in the temporary folder");

    let said = dev.stderr();
    for node in 0..3 {
        let address = format!("127.0.0.1:{}", base + 10 * node + 1);
        assert!(said.contains(&address), "it prints {address}:\n{said}");
    }
    let commands: Vec<&str> =
        said.lines().map(str::trim).filter(|l| l.starts_with("dlog ") || l.contains("| dlog ")).collect();
    assert_eq!(commands.len(), 3, "it prints three commands to try:\n{said}");
    let mut out = String::new();
    for line in &commands {
        let (good, said) = shell(line);
        assert!(good, "`{line}` failed: {said}");
        out.push_str(&said);
    }
    assert!(out.contains("hello"), "what went in comes out: {out}");

    dev.signal(Signal::INT);
    let status = dev.wait("dlog dev", Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "Ctrl-C stops it cleanly; it said:\n{}", dev.stderr());
    assert_eq!(entries(&scratch), 0, "its data is removed at the end");
    assert!(!dev.stderr().contains("panicked at"), "{}", dev.stderr());
}
