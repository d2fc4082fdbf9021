//! Who is at the other end of a peer stream. Until TLS comes, a node is believed on a trusted network, but never against
//! what is known: another cluster, another directory, an earlier boot of the same node, or one that has less than it had told is
//! refused.

use super::synced::SyncedGroups;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{NodeId, ShardId, limits};
use dlog_protocol::v1;
use dlog_storage::{
    Boot, BootTable, Claim, ClaimRefused, ClusterId, DirectoryId, EarlierBoots, GroupNumber, Identity, OsDisk,
    StorageError,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How often what peers told is made durable, if it changed. It bounds what is forgotten when this process dies: a copy of a
/// peer's directory that is at most so much older than what the peer had synced is then not noticed here. What a peer's start
/// recovered is durable from its first hello on.
const SAVE_TOLD_EVERY: Duration = Duration::from_secs(5);

/// Checks hellos, and remembers the boots that were seen and what was told.
///
/// Invariant: `boots` is never held over I/O, since every bundle of every stream may ask for it; who saves holds `saving`, so
/// that no older table is written over a newer one.
pub struct HelloCheck {
    identity: Identity,
    peer_address: String,
    synced: Arc<SyncedGroups>,
    boots: Mutex<BootTable>,
    /// Something was told that isn't durable.
    unsaved: AtomicBool,
    saving: Mutex<()>,
    disk: OsDisk,
    refused: watch::Sender<Option<String>>,
}

/// Who was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The node.
    pub node: NodeId,
    /// Its start.
    pub boot: Boot,
}

/// Why a hello is refused.
#[derive(Debug)]
pub struct Refused {
    /// What is told.
    pub error: Box<ErrorDetail>,
    /// The start of the other node that is refused for good.
    pub start: Option<v1::RefusedStart>,
}

impl HelloCheck {
    /// For this node, with what was seen in earlier lives; `disk` is the data directory.
    pub fn new(
        identity: Identity,
        peer_address: String,
        boots: BootTable,
        disk: OsDisk,
        synced: Arc<SyncedGroups>,
    ) -> HelloCheck {
        let (boots, saving) = (Mutex::new(boots), Mutex::default());
        let (unsaved, refused) = (AtomicBool::new(false), watch::Sender::new(None));
        HelloCheck { identity, peer_address, synced, boots, unsaved, saving, disk, refused }
    }

    /// This node's own hello.
    pub fn own(&self, priority: v1::StreamPriority) -> v1::Hello {
        v1::Hello {
            cluster_id: self.identity.cluster.0.to_vec().into(),
            node_id: self.identity.node.0,
            name: self.identity.name.clone(),
            boot_number: self.identity.boot.number,
            boot_value: self.identity.boot.random,
            version: env!("CARGO_PKG_VERSION").to_string(),
            priority: priority.into(),
            directory_id: self.identity.directory.0.to_vec().into(),
            peer_address: self.peer_address.clone(),
            earlier_boots: self.identity.earlier.values().to_vec(),
            recovered: self.synced.recovered(),
        }
    }

    /// How far this node's own shards are synced.
    pub fn synced(&self) -> &SyncedGroups {
        &self.synced
    }

    /// Checks the other side's hello and, for a boot not seen before, makes the memory of it durable before anything the
    /// peer says is believed.
    ///
    /// # Errors
    /// What doesn't match, and which command helps.
    pub fn check(&self, hello: Option<&v1::Hello>) -> Result<Admitted, Refused> {
        let refuse = |text: String, start| {
            let error = ErrorDetail::rejected(ErrorCode::WrongCluster, Stage::Connection, text);
            Refused { error: Box::new(error), start }
        };
        let Some(hello) = hello else {
            return Err(refuse("the stream doesn't begin with a hello".to_string(), None));
        };
        let claim = claim_of(hello).map_err(|text| refuse(text, None))?;
        self.admit(&claim).map_err(|refused| {
            let start = v1::RefusedStart {
                node_id: hello.node_id,
                boot_number: hello.boot_number,
                boot_value: hello.boot_value,
            };
            refuse(refused.to_string(), refused.is_of_start().then_some(start))
        })?;
        Ok(Admitted { node: claim.node, boot: claim.boot })
    }

    fn admit(&self, claim: &Claim) -> Result<(), ClaimRefused> {
        let boots = || self.boots.lock().expect("no holder panics");
        if matches!(boots().check(&self.identity, claim), Ok(false)) {
            return Ok(());
        }
        let saving = self.saving.lock().expect("no holder panics");
        // The node's other stream may have been faster.
        let table = boots();
        let verdict = table.check(&self.identity, claim);
        let mut next = table.clone();
        drop(table);
        if !next.remember(claim, &verdict) {
            return verdict.map(|_| ());
        }
        self.save(&next).map_err(|error| ClaimRefused::NotNoted { node: claim.node, error })?;
        // What its earlier boot told may have come in meanwhile: then the file says too much, until it is saved again.
        let mut table = boots();
        self.unsaved.store(true, Ordering::Release);
        let verdict = table.check(&self.identity, claim);
        table.remember(claim, &verdict);
        drop(saving);
        verdict.map(|_| ())
    }

    /// Takes note of what an admitted peer says to be synced there. Numbers of shards that no node has are nothing.
    pub fn told(&self, peer: Admitted, synced: &[v1::SyncedGroup]) {
        if synced.is_empty() {
            return;
        }
        let mut boots = self.boots.lock().expect("no holder panics");
        let mut changed = false;
        for (shard, group) in groups_of(synced) {
            changed |= boots.told(peer.node, peer.boot, shard, group);
        }
        if changed {
            self.unsaved.store(true, Ordering::Release);
        }
    }

    /// Makes what was told durable, if it isn't. Blocks.
    pub fn save_told(&self) {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return;
        }
        let _saving = self.saving.lock().expect("no holder panics");
        let table = self.boots.lock().expect("no holder panics").clone();
        if let Err(error) = self.save(&table) {
            self.unsaved.store(true, Ordering::Release);
            tracing::warn!(%error, "what the peers told can't be saved; it is tried again");
        }
    }

    /// After a failed sync the process must end.
    fn save(&self, table: &BootTable) -> Result<(), StorageError> {
        match table.save(&self.disk, "") {
            Err(StorageError::SyncFailed { path, source }) => crate::fatal(&format!("sync of {path}: {source}")),
            saved => saved,
        }
    }

    /// Makes what peers tell durable now and then, for ever.
    pub async fn keep_told(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SAVE_TOLD_EVERY).await;
            let check = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || check.save_told()).await;
        }
    }

    /// A peer refuses a start for good. If it is this one, the node must end: what it has forgotten may have been acked.
    pub fn note_refused(&self, peer: NodeId, start: &v1::RefusedStart, text: &str) {
        let Identity { node, boot, .. } = &self.identity;
        if (start.node_id, start.boot_number, start.boot_value) != (node.0, boot.number, boot.random) {
            tracing::warn!(%peer, ?start, "a peer refuses a start that isn't this one");
            return;
        }
        self.refused.send_replace(Some(format!("node {peer} refuses this start of the data directory: {text}")));
    }

    /// Resolves once a peer has refused this start for good, with its words.
    pub async fn refused(&self) -> String {
        let mut seen = self.refused.subscribe();
        let refused = seen.wait_for(Option::is_some).await;
        refused.ok().and_then(|text| text.clone()).unwrap_or_default()
    }
}

/// What a hello says, if its ids have their lengths.
fn claim_of(hello: &v1::Hello) -> Result<Claim, String> {
    let id = |bytes: &[u8], what: &str| -> Result<[u8; 16], String> {
        bytes.try_into().map_err(|_| format!("node {} says a {what} id that doesn't have 16 bytes", hello.name))
    };
    Ok(Claim {
        cluster: ClusterId(id(&hello.cluster_id, "cluster")?),
        node: NodeId(hello.node_id),
        name: hello.name.clone(),
        directory: DirectoryId(id(&hello.directory_id, "directory")?),
        boot: Boot { number: hello.boot_number, random: hello.boot_value },
        earlier: EarlierBoots::new(hello.earlier_boots.clone()),
        recovered: groups_of(&hello.recovered).collect::<BTreeMap<_, _>>(),
    })
}

/// The groups of shards that a node may have.
fn groups_of(synced: &[v1::SyncedGroup]) -> impl Iterator<Item = (ShardId, GroupNumber)> {
    let shard = |number: u32| u16::try_from(number).ok().filter(|number| *number < limits::SHARDS_MAX);
    synced.iter().filter_map(move |said| Some((ShardId(shard(said.shard)?), GroupNumber(said.group))))
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
