//! `dlog serve`: one node, until SIGTERM or Ctrl-C.

use super::exit::Exit;
use crate::config::ServeArgs;
use crate::node::Node;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a node to its end.
///
/// # Errors
/// What keeps it from starting.
pub fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    init_tracing("info");
    let config = args
        .into_config()
        .map_err(|error| super::exit::ExitError { exit: Exit::Usage, message: format!("{error:#}") })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("dlog-io")
        .build()
        .context("can't start the runtime")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?;
        let name = config.name.clone();
        let starting = Node::start(config);
        let node = tokio::select! {
            node = starting => node.with_context(|| format!("node {name} can't start"))?,
            _ = terminate.recv() => return Ok(Exit::Done),
            _ = interrupt.recv() => return Ok(Exit::Done),
        };
        tokio::select! {
            ready = node.ready() => if ready { crate::node::notify::ready() },
            _ = terminate.recv() => return node.stop().await.map(|()| Exit::Done),
            _ = interrupt.recv() => return node.stop().await.map(|()| Exit::Done),
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        node.stop().await.map(|()| Exit::Done)
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Traces go to standard error; `RUST_LOG` chooses what.
pub fn init_tracing(default: &str) {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second cluster in one process finds it set already.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).try_init();
}
