//! [`Verb`]: one command line, run to its end, and [`Ran`]: what came of it.

use crate::binary;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any verb's own deadline, so that a hang is told as one.
const BOUND: Duration = Duration::from_secs(120);

/// A command line of `dlog` that is to run.
#[derive(Debug)]
pub struct Verb {
    command: Command,
    stdin: Vec<u8>,
    bound: Duration,
}

/// How a verb ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

/// A `dlog` command with nothing of the caller's environment that would change what it does.
pub fn command(servers: &str) -> Command {
    let mut command = Command::new(binary::dlog());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DLOG_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    if !servers.is_empty() {
        command.env("DLOG_SERVER", servers);
    }
    command
}

impl Verb {
    /// `dlog` with these arguments, that asks these servers (comma-separated; none: the default).
    pub fn new<S: AsRef<OsStr>>(servers: &str, args: impl IntoIterator<Item = S>) -> Verb {
        let mut command = command(servers);
        command.args(args);
        Verb { command, stdin: Vec::new(), bound: BOUND }
    }

    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Verb {
        self.stdin = bytes.into();
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Verb {
        self.command.args(args);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Verb {
        self.command.env(name, value);
        self
    }

    /// Another bound than two minutes.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Verb {
        self.bound = bound;
        self
    }

    /// Runs it to its end; past the bound it is killed and the test fails.
    #[track_caller]
    pub fn run(mut self) -> Ran {
        let line = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let start = Instant::now();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("can't run dlog {line}: {e}"));
        let mut input = child.stdin.take().expect("piped");
        let bytes = std::mem::take(&mut self.stdin);
        let writer = thread::spawn(move || {
            // A verb may end without having read everything.
            let _ = input.write_all(&bytes);
        });
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        let status = loop {
            if let Some(status) = child.try_wait().unwrap_or_else(|e| panic!("can't wait for dlog {line}: {e}")) {
                break status;
            }
            if start.elapsed() > self.bound {
                let _ = child.kill();
                let _ = child.wait();
                let said = stderr.join().unwrap_or_default();
                panic!("dlog {line} did not end within {:?}; it said:\n{}", self.bound, String::from_utf8_lossy(&said));
            }
            thread::sleep(Duration::from_millis(3));
        };
        let took = start.elapsed();
        let _ = writer.join();
        let stdout = stdout.join().expect("the reader doesn't panic");
        let stderr = stderr.join().expect("the reader doesn't panic");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let ran = Ran { line, code: status.code(), stdout, stderr, took };
        assert!(!ran.stderr.contains("panicked at"), "a panic in {ran}");
        ran
    }

    /// Runs it and asks for exit code 0.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.run().expect_code(0)
    }
}

/// Reads everything on a thread of its own.
fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Ran {
    /// Asks for this exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Asks for one of these exit codes.
    #[track_caller]
    pub fn expect_codes(self, codes: &[i32]) -> Ran {
        assert!(self.code.is_some_and(|code| codes.contains(&code)), "expected one of exit codes {codes:?}: {self}");
        self
    }

    /// Asks that standard error says each of these, whatever the case of its letters.
    #[track_caller]
    pub fn expect_says(self, parts: &[&str]) -> Ran {
        let said = self.stderr.to_lowercase();
        for part in parts {
            assert!(said.contains(&part.to_lowercase()), "expected {part:?} on standard error: {self}");
        }
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|e| panic!("not UTF-8 ({e}): {self}"))
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("not one JSON document ({e}): {self}"))
    }

    /// Standard output as one JSON document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no JSON ({e}): {self}"));
        self.text().lines().map(parse).collect()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let out = String::from_utf8_lossy(&self.stdout);
        let out: String = out.chars().take(2_000).collect();
        write!(
            f,
            "dlog {} ended with {:?} after {:?}\n--- standard output (its beginning) ---\n{out}\n--- standard error ---\n{}",
            self.line, self.code, self.took, self.stderr
        )
    }
}
