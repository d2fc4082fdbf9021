//! The server of dlog: threads, sockets and services around the pure crates; and the command line.
//!
//! A node ([`node`]) is made of shards ([`shard`]: a consensus, a disk and a read thread over one journal), the metadata side
//! ([`metadata`]: group 0's apply thread, the way to change the catalogue, the local reconciler), the peer side ([`peer`])
//! and the services that clients call ([`service`]). Several nodes can live in one process: there are no globals.

pub mod bootstrap;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod metadata;
pub mod metrics;
pub mod node;
pub mod ops;
pub mod peer;
pub mod random;
pub mod replicas;
pub mod scrub;
pub mod service;
pub mod shard;

/// Says why and ends the process at once: for failures after which nothing this process believes can be trusted (an
/// fdatasync that failed, a broken invariant). What was acked is on a majority's disks and is found again at the next start.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "fatal");
    eprintln!("fatal: {reason}");
    eprintln!("This process ends at once so that nothing wrong is acked; restart it once the cause is gone.");
    std::process::abort();
}

/// Says why and ends the process with exit code 1: for a cause outside of it that leaves it of no use. Where the end itself
/// hangs, as it may on a disk that doesn't answer, it is aborted.
pub fn give_up(reason: &str) -> ! {
    tracing::error!(reason, "giving up");
    eprintln!("fatal: {reason}");
    std::thread::spawn(|| std::process::exit(1));
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::process::abort();
}
