//! What the cluster tests stand on: real `dlog` processes on loopback ports and a real disk, signals sent to them, and
//! checkers of what comes out.
//!
//! Rules of the tests: they wait for conditions with generous bounds and never sleep for an outcome; everything they start
//! ends with them; their short form is the default, `DLOG_TEST_FULL=1` asks for the long one (`make full`). Everything here
//! panics with a text that says what was awaited and what was seen instead.
//!
//! - [`Turn`]: one test with a cluster at a time, and its folder on a real disk.
//! - [`Cluster`], [`Node`]: nodes as processes.
//! - [`Verb`], [`Ran`]: one command line, run to its end.
//! - [`Producing`], [`Ack`]: a `dlog produce` in the background, fed at a pace.
//! - [`Input`], [`Row`]: events that go in and rows that come out, and the checker between them.
//! - [`history`], [`realtime`]: what must hold of everything that producers were told and readers saw.
//! - [`Scrape`]: what a node tells of itself at `/metrics`.
//! - [`trace`]: the system calls of a node, by strace.

pub mod acks;
pub mod binary;
pub mod cluster;
pub mod flights;
pub mod history;
pub mod node;
pub mod ports;
pub mod process;
pub mod producing;
pub mod random;
pub mod realtime;
pub mod scrape;
pub mod trace;
pub mod turn;
pub mod usage;
pub mod verb;
pub mod wait;

pub use acks::Ack;
pub use cluster::Cluster;
pub use flights::{Input, Row};
pub use node::{Node, NodeOptions};
pub use producing::Producing;
pub use random::Random;
pub use scrape::Scrape;
pub use turn::Turn;
pub use verb::{Ran, Verb};

/// Whether the long form of the tests is asked for.
pub fn full() -> bool {
    std::env::var_os("DLOG_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// One of two values: the short form's and the long form's.
pub fn short_or_full<T>(short: T, long: T) -> T {
    if full() { long } else { short }
}

/// Says loudly that a test proves nothing on this machine, and why.
pub fn skip(test: &str, why: &str) {
    eprintln!("\n*** SKIPPED {test}: {why} ***\n");
}
