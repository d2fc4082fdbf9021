//! The system calls of a node, by strace: attach, collect, parse.
//!
//! What is asked of a trace is an order between processes, so the clock is the machine's (`-ttt`), and of each call the
//! moment of its beginning and of its return are known.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long strace has to let go of a process by itself.
const LET_GO: Duration = Duration::from_secs(5);

/// What could make a record durable or tell of it.
const CALLS: &str = "trace=fdatasync,fsync,sync_file_range,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg";
/// Bytes of each buffer that are kept: a small journal group, a small message.
const BUFFER_BYTES: &str = "16384";

/// One system call that returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Seconds since the epoch at its beginning.
    pub begin: f64,
    /// Seconds since the epoch at its return.
    pub end: f64,
    /// Its name.
    pub name: String,
    /// What its descriptor is: a path, or a socket's addresses.
    pub target: String,
    /// Its arguments, as strace prints them: bytes in hex.
    pub args: String,
    /// What it returned; negative on an error.
    pub result: i64,
}

/// A strace that is attached to a process.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    out: PathBuf,
}

impl Tracer {
    /// Attaches to all threads of a process.
    ///
    /// # Errors
    /// Says why that isn't possible here: no strace, or tracing is not permitted.
    pub fn attach(pid: u32, out: &Path) -> Result<Tracer, String> {
        Tracer::start(pid, out, &["-e", CALLS])
    }

    /// Attaches to all threads of a process and does something to each fdatasync of these files: `error=EIO` and the like, in
    /// strace's words.
    ///
    /// # Errors
    /// As [`Tracer::attach`].
    pub fn inject(pid: u32, out: &Path, files: &[PathBuf], fault: &str) -> Result<Tracer, String> {
        let mut args =
            vec!["-e".to_string(), "trace=fdatasync".into(), "-e".into(), format!("inject=fdatasync:{fault}")];
        args.extend(files.iter().flat_map(|file| ["-P".to_string(), file.display().to_string()]));
        Tracer::start(pid, out, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn start(pid: u32, out: &Path, what: &[&str]) -> Result<Tracer, String> {
        let said = out.with_extension("said");
        let err = File::create(&said).map_err(|e| format!("can't make {}: {e}", said.display()))?;
        let mut command = Command::new("strace");
        command.args(["-f", "-ttt", "-T", "-yy", "-xx", "-s", BUFFER_BYTES, "-e", "signal=none"]).args(what);
        command.arg("-o").arg(out).arg("-p").arg(pid.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err).spawn();
        let child = child.map_err(|e| format!("strace can't be run: {e}"))?;
        let mut tracer = Tracer { child, out: out.to_path_buf() };
        let attached = wait::until("strace attaches, or says why not", Duration::from_secs(30), || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            if text.contains("attached") {
                return Some(Ok(()));
            }
            let ended = tracer.child.try_wait().ok().flatten().is_some();
            ended.then(|| Err(format!("strace can't attach: {}", text.trim())))
        });
        attached.map(|()| tracer)
    }

    /// Detaches, and parses what was seen.
    pub fn finish(mut self) -> Vec<Call> {
        self.detach();
        let text = fs::read_to_string(&self.out).unwrap_or_else(|e| panic!("can't read {}: {e}", self.out.display()));
        parse(&text)
    }

    fn detach(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        // It may wait for a thread that it delays itself, of a process that has ended: killed, it lets go of all.
        let deadline = Instant::now() + LET_GO;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Parses `strace -f -ttt -T -yy -xx`; calls that it saw no return of are left out.
pub fn parse(text: &str) -> Vec<Call> {
    let mut begun: Vec<(String, f64, String)> = Vec::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let mut parts = line.trim_start().splitn(2, ' ');
        let (Some(thread), Some(rest)) = (parts.next(), parts.next()) else { continue };
        let mut parts = rest.trim_start().splitn(2, ' ');
        let (Some(time), Some(call)) = (parts.next().and_then(|t| t.parse::<f64>().ok()), parts.next()) else {
            continue;
        };
        if let Some(beginning) = call.strip_suffix(" <unfinished ...>") {
            begun.push((thread.to_string(), time, beginning.to_string()));
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let Some(at) = begun.iter().position(|(t, _, _)| t == thread) else { continue };
            let (_, begin, beginning) = begun.swap_remove(at);
            let tail = rest.split_once(" resumed>").map_or("", |(_, tail)| tail);
            calls.extend(parse_call(begin, Some(time), &format!("{beginning}{tail}")));
        } else {
            calls.extend(parse_call(time, None, call));
        }
    }
    calls.sort_by(|a, b| a.end.total_cmp(&b.end));
    calls
}

/// Parses `name(fd<target>, args) = result <seconds>`.
fn parse_call(begin: f64, end: Option<f64>, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (args, outcome) = rest.rsplit_once(" = ")?;
    let took: f64 = outcome.rsplit_once('<').and_then(|(_, t)| t.trim_end_matches('>').parse().ok()).unwrap_or(0.0);
    let result = outcome.split_ascii_whitespace().next()?.parse().ok()?;
    let target = args.split_once('<').map_or("", |(_, rest)| target_of(rest));
    Some(Call {
        begin,
        end: end.unwrap_or(begin + took),
        name: name.trim().to_string(),
        target: unhex(target),
        args: args.to_string(),
        result,
    })
}

/// The text up to the `>` that closes it; a socket's arrow `->` closes nothing.
fn target_of(text: &str) -> &str {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        if c == '>' && previous != '-' {
            return &text[..at];
        }
        previous = c;
    }
    text
}

/// Text in which `-xx` wrote some bytes in hex: paths are, addresses of sockets are not.
fn unhex(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(first) = rest.first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|digits| std::str::from_utf8(digits.get(..2)?).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = &rest[1..];
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Bytes as `-xx` prints them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_whole_and_in_halves() {
        let text = concat!(
            "101 1700000000.100000 pwrite64(9<\\x2f\\x64\\x2fjournal/1.journal>, \"\\x61\\x62\", 2, 4096) = 2 <0.000050>\n",
            "101 1700000000.200000 fdatasync(9</d/journal/1.journal> <unfinished ...>\n",
            "102 1700000000.250000 sendto(12<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, \"\\x10\", 1, MSG_NOSIGNAL, NULL, 0) = 1 <0.00001>\n",
            "101 1700000000.300000 <... fdatasync resumed>) = 0 <0.100000>\n",
            "103 1700000000.400000 fdatasync(9</d/journal/1.journal>) = -1 EIO (Input/output error) <0.1>\n",
            "101 1700000000.500000 +++ exited with 0 +++\n",
        );
        let calls = parse(text);
        assert_eq!(
            calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["pwrite64", "sendto", "fdatasync", "fdatasync"]
        );
        assert_eq!(calls[0].target, "/d/journal/1.journal");
        assert!((calls[0].end - 1_700_000_000.100_05).abs() < 1e-6 && calls[0].args.contains(&hex(b"ab")));
        assert_eq!(calls[1].target, "TCP:[127.0.0.1:7411->127.0.0.1:5000]");
        assert_eq!((calls[2].begin, calls[2].end, calls[2].result), (1_700_000_000.2, 1_700_000_000.3, 0));
        assert_eq!(calls[3].result, -1);
    }
}
