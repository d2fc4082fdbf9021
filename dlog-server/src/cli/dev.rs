//! `dlog dev`: a whole cluster in one process on loopback, for trying things out.

use super::exit::{Exit, ExitError};
use crate::config::NodeConfig;
use crate::node::Node;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// Flags of `dlog dev`.
#[derive(clap::Args, Debug)]
pub struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Keep the data here; without it, it is removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Node i listens on port-base+10(i-1)+1 for clients, +2 for peers, +3 for HTTP
    #[arg(long, default_value_t = 7410, value_parser = clap::value_parser!(u16).range(1024..=65400))]
    port_base: u16,
}

impl DevArgs {
    fn address(&self, node: u16, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port_base + 10 * (node - 1) + port))
    }

    fn configs(&self, data_dir: &Path) -> Vec<NodeConfig> {
        let initial_cluster: BTreeMap<String, String> =
            (1..=self.nodes).map(|i| (format!("n{i}"), self.address(i, 2).to_string())).collect();
        let node = |i: u16| NodeConfig {
            name: format!("n{i}"),
            data_dir: data_dir.join(format!("n{i}")),
            listen: self.address(i, 1),
            advertise: self.address(i, 1).to_string(),
            peer_listen: self.address(i, 2),
            peer_advertise: self.address(i, 2).to_string(),
            ops_listen: Some(self.address(i, 3)),
            initial_cluster: initial_cluster.clone(),
            rack: String::new(),
            cluster_name: "dev".to_string(),
            shards: 1,
            auto_create_topics: true,
            insecure: false,
            single: true,
            disk_reserve: None,
            disk_stall: crate::config::DISK_STALL,
        };
        (1..=self.nodes).map(node).collect()
    }
}

/// Runs the cluster until Ctrl-C or SIGTERM.
///
/// # Errors
/// What keeps a node from starting.
pub fn run(args: DevArgs) -> anyhow::Result<Exit> {
    // All nodes are here: that one hears another a moment late while they start is no news.
    super::serve::init_tracing("warn,dlog_server::peer=error");
    let last_port = u32::from(args.port_base) + 10 * u32::from(args.nodes - 1) + 3;
    if last_port > u32::from(u16::MAX) {
        return Err(ExitError::usage("--port-base is too high for so many nodes: ports end at 65535"));
    }
    let (data_dir, scratch) = match &args.data_dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("dlog-dev-{}", std::process::id())), true),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("dlog-io")
        .build()
        .context("can't start the runtime")?;
    let result = runtime.block_on(run_cluster(&args, &data_dir));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if scratch && let Err(error) = std::fs::remove_dir_all(&data_dir) {
        eprintln!("can't remove {}: {error}", data_dir.display());
    }
    result
}

async fn run_cluster(args: &DevArgs, data_dir: &Path) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?;
    let work = async {
        let mut starting = tokio::task::JoinSet::new();
        for config in args.configs(data_dir) {
            starting.spawn(async move {
                let name = config.name.clone();
                Node::start(config).await.with_context(|| format!("node {name} can't start")).map_err(other_ports)
            });
        }
        let mut nodes = Vec::new();
        while let Some(joined) = starting.join_next().await {
            nodes.push(joined.context("a node's start was cut short")??);
        }
        for node in &nodes {
            node.ready().await;
        }
        anyhow::Ok(nodes)
    };
    let nodes = tokio::select! {
        nodes = work => nodes?,
        _ = interrupt.recv() => return Ok(Exit::Interrupted),
        _ = terminate.recv() => return Ok(Exit::Done),
    };
    print_welcome(args, data_dir);
    crate::node::notify::ready();
    let exit = tokio::select! {
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Done,
    };
    let mut stopping = tokio::task::JoinSet::new();
    for node in nodes {
        stopping.spawn(node.stop_with_cluster());
    }
    while let Some(joined) = stopping.join_next().await {
        joined.context("a node's stop was cut short")??;
    }
    // Stopping is what Ctrl-C is for here: it went well.
    Ok(if exit == Exit::Interrupted { Exit::Done } else { exit })
}

/// The flags of the listeners are not to be had here: says which one is.
fn other_ports(error: anyhow::Error) -> anyhow::Error {
    let taken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    match error.chain().any(taken) {
        true => error.context("a port is taken; `dlog dev --port-base 17410` uses others"),
        false => error,
    }
}

fn print_welcome(args: &DevArgs, data_dir: &Path) {
    eprintln!("A cluster of {} in this process; its data is in {}.", args.nodes, data_dir.display());
    for i in 1..=args.nodes {
        let [client, peer, ops] = [1, 2, 3].map(|port| args.address(i, port));
        eprintln!("  n{i}  clients {client}  peers {peer}  http {ops}");
    }
    let server = args.address(1, 1);
    let flag = if server.port() == 7411 { String::new() } else { format!(" -s {server}") };
    eprintln!("Try, in another terminal:");
    eprintln!("  echo hello | dlog produce{flag} greetings");
    eprintln!("  dlog consume{flag} greetings");
    eprintln!("  dlog cluster status{flag}");
    eprintln!("Ctrl-C stops it{}.", if args.data_dir.is_some() { "" } else { " and removes its data" });
}
