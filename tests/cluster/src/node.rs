//! [`Node`]: one `dlog serve` process.

use crate::process::Process;
use crate::{ports, verb, wait};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// A start takes well under a second; recovery of a long journal, on a loaded machine, more.
const READY_BOUND: Duration = Duration::from_secs(120);
/// A graceful stop hands leaderships over and finishes what is in flight.
const STOP_BOUND: Duration = Duration::from_secs(60);

/// How a node is started.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The port for clients.
    pub client: u16,
    /// The port for other nodes.
    pub peer: u16,
    /// The port for HTTP.
    pub ops: u16,
    /// `--initial-cluster`, if it has one.
    pub initial_cluster: Option<String>,
    /// More flags.
    pub flags: Vec<String>,
}

impl NodeOptions {
    /// A node with free ports and a data directory below `dir`.
    pub fn new(dir: &Path, name: &str) -> NodeOptions {
        NodeOptions {
            name: name.to_string(),
            data_dir: dir.join(name),
            client: ports::free(),
            peer: ports::free(),
            ops: ports::free(),
            initial_cluster: None,
            flags: Vec::new(),
        }
    }

    /// The arguments of `dlog`.
    pub fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = vec!["serve".into(), "--name".into(), self.name.clone()];
        args.extend(["--data-dir".into(), self.data_dir.display().to_string()]);
        for (flag, port) in [("--listen", self.client), ("--peer-listen", self.peer), ("--ops-listen", self.ops)] {
            args.extend([flag.to_string(), format!("127.0.0.1:{port}")]);
        }
        if let Some(list) = &self.initial_cluster {
            args.extend(["--initial-cluster".to_string(), list.clone()]);
        }
        args.extend(self.flags.iter().cloned());
        args
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }
}

/// A node that runs, or ran.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    stderr: PathBuf,
    process: Option<Process>,
    paused: bool,
}

impl Node {
    /// A node that doesn't run yet; its standard error goes to a file beside its data directory.
    pub fn new(options: NodeOptions) -> Node {
        let mut stderr = options.data_dir.clone().into_os_string();
        stderr.push(".stderr");
        Node { options, stderr: stderr.into(), process: None, paused: false }
    }

    /// How it is started.
    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Starts the process, and doesn't wait.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name());
        let mut command = verb::command("");
        command.args(self.options.args()).env("RUST_BACKTRACE", "1");
        self.process = Some(Process::start(&mut command, &self.stderr));
        self.paused = false;
    }

    /// The running process.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        let name = &self.options.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} doesn't run"))
    }

    /// Whether the process was started and not ended by this test.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Waits for the line `ready`.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let name = self.name().to_string();
        let process = self.process();
        wait::until_ok(&format!("{name} says `ready`"), READY_BOUND, || {
            let said = process.stderr();
            if said.lines().any(|line| line == "ready") {
                return Ok(());
            }
            if let Some(status) = process.ended() {
                panic!("{name} ended ({status}) instead of saying `ready`; it said:\n{said}");
            }
            Err(format!("it said:\n{said}"))
        });
    }

    /// `kill -9`.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM; returns the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> i32 {
        self.process().signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits until the process has ended by itself; returns the exit code.
    #[track_caller]
    pub fn wait_end(&mut self) -> i32 {
        let status = self.wait_status();
        status.code().unwrap_or_else(|| panic!("{} ended by {status}; it said:\n{}", self.name(), self.stderr()))
    }

    /// Waits until the process has ended by itself, or by a signal of its own.
    #[track_caller]
    pub fn wait_status(&mut self) -> ExitStatus {
        let name = self.name().to_string();
        let process = self.process();
        let status = wait::until_ok(&format!("{name} ends"), STOP_BOUND, || {
            process.ended().ok_or_else(|| format!("it said:\n{}", process.stderr()))
        });
        self.process = None;
        status
    }

    /// `kill -STOP`.
    #[track_caller]
    pub fn pause(&mut self) {
        self.process().signal(Signal::STOP);
        self.paused = true;
    }

    /// `kill -CONT`.
    #[track_caller]
    pub fn resume(&mut self) {
        self.process().signal(Signal::CONT);
        self.paused = false;
    }

    /// Standard error of all its starts.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Whether it is stopped by SIGSTOP.
    pub fn is_paused(&self) -> bool {
        self.paused
    }
}
