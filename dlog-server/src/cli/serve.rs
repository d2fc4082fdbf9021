//! `dlog serve`: one node, until SIGTERM or Ctrl-C.

use super::exit::{Exit, ExitError};
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
            why = node.refused() => return end_refused(node, &why).await,
            _ = terminate.recv() => return node.stop().await.map(|()| Exit::Done),
            _ = interrupt.recv() => return node.stop().await.map(|()| Exit::Done),
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            why = node.refused() => return end_refused(node, &why).await,
        }
        node.stop().await.map(|()| Exit::Done)
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Ends a node that a peer refused for good: what it doesn't know any more it may have acked or voted. Nothing is handed over.
///
/// # Errors
/// Always: why it ended, with what to do.
async fn end_refused(node: Node, why: &str) -> anyhow::Result<Exit> {
    tracing::error!(why, "refused for good");
    if let Err(error) = node.stop_with_cluster().await {
        tracing::warn!(%error, "the stop went badly");
    }
    Err(ExitError::needs_operator(format!(
        "{why}. This process ends so that nothing acked is lost; don't start this directory again. If the directory is still \
         there as the node left it, put that back; else replace the node as a new one"
    )))
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
