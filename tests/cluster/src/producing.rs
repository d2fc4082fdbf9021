//! [`Producing`]: a `dlog produce` in the background, fed at a pace, whose acks are collected as they arrive.

use crate::acks::Ack;
use crate::{Cluster, Input, verb, wait};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often lines are handed over: short against an election, long against a timer's tick.
const FEED_EVERY: Duration = Duration::from_millis(5);

/// A produce that runs. Killed when it is dropped.
#[derive(Debug)]
pub struct Producing {
    child: Child,
    allowed: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
    total: usize,
}

/// What standard output said so far.
#[derive(Debug, Default)]
struct Seen {
    acks: Vec<Ack>,
    report: Option<Value>,
    strange: Vec<String>,
}

/// How a produce ended.
#[derive(Debug, Clone)]
pub struct Produced {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its acks, in order of arrival.
    pub acks: Vec<Ack>,
    /// Its report.
    pub report: Option<Value>,
    /// Standard error.
    pub stderr: String,
}

impl Producing {
    /// Produces the events of an input by tail number and time, so many lines a second, all of them.
    #[track_caller]
    pub fn flights(cluster: &Cluster, topic: &str, input: &Input, rate: usize, flags: &[&str]) -> Producing {
        let lines = input.events.iter().map(|event| event.line.clone()).collect();
        let mut args = vec!["--key-json", "/tailnum", "--timestamp-json", "/time"];
        args.extend(flags);
        Producing::lines(cluster, topic, lines, rate, &args)
    }

    /// Produces these lines, so many a second, all of them.
    #[track_caller]
    pub fn lines(cluster: &Cluster, topic: &str, lines: Vec<String>, rate: usize, flags: &[&str]) -> Producing {
        let total = lines.len();
        let mut command = verb::command(&cluster.servers());
        command.args(["produce", topic, "-", "-v", "-o", "json"]).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("can't run {command:?}: {e}"));
        let allowed = Arc::new(AtomicUsize::new(total));
        let input = child.stdin.take().expect("piped");
        let gate = Arc::clone(&allowed);
        thread::spawn(move || feed(input, &lines, rate, &gate));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let out = child.stdout.take().expect("piped");
        let into = Arc::clone(&seen);
        let stdout = Some(thread::spawn(move || collect(BufReader::new(out), &into)));
        let mut err = child.stderr.take().expect("piped");
        let stderr = Some(thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = err.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }));
        Producing { child, allowed, seen, stdout, stderr, total }
    }

    /// Hands over no more than the first so many lines, for now.
    pub fn allow(&self, lines: usize) {
        self.allowed.store(lines.min(self.total), Ordering::Relaxed);
    }

    /// How many records were acked so far.
    pub fn acked(&self) -> usize {
        self.seen.lock().expect("no holder panics").acks.len()
    }

    /// The acks so far, in order of arrival.
    pub fn acks(&self) -> Vec<Ack> {
        self.seen.lock().expect("no holder panics").acks.clone()
    }

    /// Waits until so many records were acked.
    #[track_caller]
    pub fn wait_acked(&mut self, count: usize) {
        wait::until_ok(&format!("{count} records are acked"), wait::LONG, || {
            let acked = self.acked();
            if acked >= count {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = self.stderr.take().map(|t| t.join().unwrap_or_default());
                panic!("the produce ended ({status}) after {acked} acks, {count} were awaited; it said: {said:?}");
            }
            Err(format!("{acked} are"))
        });
    }

    /// Waits until so many more records were acked than now.
    #[track_caller]
    pub fn wait_more(&mut self, count: usize) {
        let target = (self.acked() + count).min(self.total);
        self.wait_acked(target);
    }

    /// Hands over the rest, and waits for the end.
    #[track_caller]
    pub fn finish(mut self, bound: Duration) -> Produced {
        self.allow(self.total);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap_or_else(|e| panic!("can't wait for a produce: {e}")) {
                break status;
            }
            assert!(
                start.elapsed() < bound,
                "the produce did not end within {bound:?}; {} records acked",
                self.acked()
            );
            thread::sleep(FEED_EVERY);
        };
        self.stdout.take().expect("joined once").join().expect("the reader doesn't panic");
        let stderr = self.stderr.take().expect("joined once").join().expect("the reader doesn't panic");
        assert!(!stderr.contains("panicked at"), "the produce panicked:\n{stderr}");
        let seen = std::mem::take(&mut *self.seen.lock().expect("no holder panics"));
        assert!(seen.strange.is_empty(), "lines of `produce -v` that are no ack: {:?}", seen.strange);
        Produced { code: status.code(), acks: seen.acks, report: seen.report, stderr }
    }
}

impl Produced {
    /// Asks that it ended with 0, with every record acked, none rejected and none unknown.
    #[track_caller]
    pub fn assert_all_acked(&self, records: usize) {
        assert_eq!(self.code, Some(0), "the produce failed; it said:\n{}", self.stderr);
        assert_eq!(self.acks.len(), records, "acks for {records} records; it said:\n{}", self.stderr);
        let report = self.report.as_ref().unwrap_or_else(|| panic!("no report; it said:\n{}", self.stderr));
        assert_eq!(report["records"].as_u64(), Some(records as u64), "{report}");
        assert_eq!(report["unknown"].as_u64(), Some(0), "{report}");
        assert_eq!(report["rejected"].as_u64(), Some(0), "{report}");
    }
}

impl Drop for Producing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The feeder then ends by itself: it stops waiting, and its pipe is closed.
        self.allow(self.total);
    }
}

/// Writes the lines at the pace, never more than allowed, then ends the input.
fn feed(mut input: ChildStdin, lines: &[String], rate: usize, allowed: &AtomicUsize) {
    let mut start = Instant::now();
    let (mut sent, mut base) = (0, 0);
    while sent < lines.len() {
        let limit = allowed.load(Ordering::Relaxed);
        if sent >= limit {
            // What was held back is not made up for in one burst.
            (start, base) = (Instant::now(), sent);
        }
        let due = base + usize::try_from(start.elapsed().as_millis()).unwrap_or(usize::MAX).saturating_mul(rate) / 1000;
        let until = due.min(limit).min(lines.len());
        if sent < until {
            let mut chunk = lines[sent..until].join("\n");
            chunk.push('\n');
            if input.write_all(chunk.as_bytes()).is_err() {
                return;
            }
            sent = until;
        }
        thread::sleep(FEED_EVERY);
    }
}

/// Reads acks and the report as they come.
fn collect(out: impl BufRead, seen: &Mutex<Seen>) {
    for line in out.lines().map_while(Result::ok) {
        let mut seen = seen.lock().expect("no holder panics");
        if let Some(ack) = Ack::parse(Instant::now(), &line) {
            seen.acks.push(ack);
        } else if let Ok(report) = serde_json::from_str(&line) {
            seen.report = Some(report);
        } else {
            seen.strange.push(line);
        }
    }
}
