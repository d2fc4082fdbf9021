//! [`Process`]: a child whose standard error is kept in a file, and that ends with its owner.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running child. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stderr: PathBuf,
    /// Where this start's part of the file begins: restarts append.
    stderr_from: usize,
}

impl Process {
    /// Starts the command with standard error appended to a file, and nothing on the other two unless set before.
    #[track_caller]
    pub fn start(command: &mut Command, stderr: &Path) -> Process {
        let dir = stderr.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).unwrap_or_else(|e| panic!("can't make {}: {e}", dir.display()));
        let file = OpenOptions::new().create(true).append(true).open(stderr);
        let file = file.unwrap_or_else(|e| panic!("can't open {}: {e}", stderr.display()));
        let stderr_from = usize::try_from(file.metadata().map_or(0, |m| m.len())).expect("a small file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
        Process { child, stderr: stderr.to_path_buf(), stderr_from }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process, by its id.
    pub fn signal(&self, signal: Signal) {
        // Gone already is what some callers wish for, and others see when they wait.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Standard error since this start.
    pub fn stderr(&self) -> String {
        let all = fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.stderr_from..).unwrap_or_default()).into_owned()
    }

    /// The status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|e| panic!("can't wait for a child: {e}"))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, what: &str, bound: Duration) -> ExitStatus {
        wait::until(&format!("{what} ends"), bound, || self.ended())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
