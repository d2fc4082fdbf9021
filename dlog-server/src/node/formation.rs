//! From a data directory to a node of a cluster: the identity is loaded or drawn, the cluster formed if it isn't, and this
//! start numbered. The peer listener answers from the first moment, since other nodes wait for it.

use crate::bootstrap::{self, BootstrapState};
use crate::cli::exit::ExitError;
use crate::config::NodeConfig;
use crate::peer::incoming::{Formed, PeerService};
use crate::random::random_seed;
use crate::service::listener;
use crate::service::listener::door::DoorStats;
use anyhow::bail;
use dlog_core::NodeId;
use dlog_storage::{ClusterId, DirectoryId, Disk, Identity, OsDisk};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A node between its directory and its cluster.
pub struct Formation {
    identity: Identity,
    state: Arc<BootstrapState>,
    formed: Arc<OnceLock<Formed>>,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Formation {
    /// Loads or draws the identity and lets the peer listener answer.
    ///
    /// # Errors
    /// A directory of another node or cluster, a damaged one, or one that is not empty but has no identity.
    pub fn begin(
        config: &NodeConfig,
        disk: &OsDisk,
        peer_listener: TcpListener,
        stats: Arc<DoorStats>,
        shutdown: watch::Receiver<bool>,
    ) -> anyhow::Result<Formation> {
        let identity = match Identity::load(disk, "")? {
            Some(identity) => {
                check_known(config, &identity)?;
                identity
            }
            None => draw(config, disk)?,
        };
        let state = Arc::new(BootstrapState::new(&identity, &config.initial_cluster));
        let formed = Arc::new(OnceLock::new());
        let service = PeerService::new(Arc::clone(&state), Arc::clone(&formed));
        let server = tokio::spawn(listener::serve_peers(peer_listener, service, stats, super::until(shutdown)));
        Ok(Formation { identity, state, formed, server })
    }

    /// Forms the cluster if this directory belongs to none, numbers this start, and makes both durable.
    ///
    /// # Errors
    /// Those of [`bootstrap::form`], and the disk's.
    pub async fn finish(
        mut self,
        config: &NodeConfig,
        disk: &OsDisk,
    ) -> anyhow::Result<(Identity, JoinHandle<anyhow::Result<()>>, Arc<OnceLock<Formed>>)> {
        if self.identity.cluster == ClusterId::default() {
            bootstrap::form(&self.state, &mut self.identity).await?;
            tracing::info!(cluster = %self.identity.cluster, node = %self.identity.node, "the cluster is formed");
        }
        self.identity.begin_boot(random_seed());
        self.identity.save(disk, "")?;
        self.state.set_formed(&self.identity);
        tracing::info!(name = config.name, node = %self.identity.node, boot = self.identity.boot.number, "starting");
        Ok((self.identity, self.server, self.formed))
    }
}

fn check_known(config: &NodeConfig, identity: &Identity) -> anyhow::Result<()> {
    let dir = config.data_dir.display();
    if identity.name != config.name {
        return Err(ExitError::needs_operator(format!(
            "the data directory {dir} belongs to node {}, not {}: start it with --name {} or use another --data-dir",
            identity.name, config.name, identity.name
        )));
    }
    let formed = identity.cluster != ClusterId::default();
    let listed = |name: &String| config.initial_cluster.contains_key(name);
    let same_names = identity.bootstrap.len() == config.initial_cluster.len()
        && identity.bootstrap.iter().all(|member| listed(&member.name));
    if formed && !config.initial_cluster.is_empty() && !same_names {
        let names: Vec<&str> = identity.bootstrap.iter().map(|m| m.name.as_str()).collect();
        return Err(ExitError::needs_operator(format!(
            "the data directory {dir} belongs to a cluster formed by {}, which isn't the one in --initial-cluster: use the \
             directory of that cluster, or an empty one",
            names.join(", ")
        )));
    }
    Ok(())
}

fn draw(config: &NodeConfig, disk: &OsDisk) -> anyhow::Result<Identity> {
    let entries = disk.list("")?;
    let foreign: Vec<&str> =
        entries.iter().map(String::as_str).filter(|name| !matches!(*name, "lock" | "lost+found")).collect();
    if !foreign.is_empty() {
        bail!(ExitError::needs_operator(format!(
            "the data directory {} isn't empty ({}) but has no identity file: it is no directory of dlog, or a part of one. \
             Use an empty directory, or put the missing file back",
            config.data_dir.display(),
            foreign.join(", ")
        )));
    }
    let (high, low) = (random_seed().to_le_bytes(), random_seed().to_le_bytes());
    let mut directory = [0; 16];
    directory[..8].copy_from_slice(&high);
    directory[8..].copy_from_slice(&low);
    let identity = Identity::new(&config.name, config.shards, DirectoryId(directory));
    // Synced before anyone is told of it: an id that a crash took back would be counted twice.
    identity.save(disk, "")?;
    Ok(identity)
}

/// Peer addresses known before the catalogue says anything: those of `--initial-cluster`.
pub fn known_addresses(config: &NodeConfig, identity: &Identity) -> Vec<(NodeId, String)> {
    let numbered = (1u32..).zip(&identity.bootstrap);
    numbered
        .filter_map(|(number, member)| Some((NodeId(number), config.initial_cluster.get(&member.name)?.clone())))
        .collect()
}
