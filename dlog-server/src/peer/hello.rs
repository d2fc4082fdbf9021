//! Who is at the other end of a peer stream. Until TLS comes, a node is believed on a trusted network, but never against
//! what is known: another cluster, another directory, or an earlier boot of the same node is refused.

use dlog_core::NodeId;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_protocol::v1;
use dlog_storage::{
    Boot, BootTable, Claim, ClaimRefused, ClusterId, DirectoryId, EarlierBoots, Identity, OsDisk, StorageError,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Checks hellos, and remembers the boots that were seen.
pub struct HelloCheck {
    identity: Identity,
    peer_address: String,
    boots: Mutex<BootTable>,
    disk: OsDisk,
}

impl HelloCheck {
    /// For this node, with the boots seen in earlier lives; `disk` is the data directory.
    pub fn new(identity: Identity, peer_address: String, boots: BootTable, disk: OsDisk) -> HelloCheck {
        HelloCheck { identity, peer_address, boots: Mutex::new(boots), disk }
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
        }
    }

    /// Checks the other side's hello and, for a boot not seen before, makes the memory of it durable before anything the
    /// peer says is believed.
    ///
    /// # Errors
    /// What doesn't match, and which command helps.
    pub fn check(&self, hello: Option<&v1::Hello>) -> Result<NodeId, ErrorDetail> {
        let refuse = |text: String| ErrorDetail::rejected(ErrorCode::WrongCluster, Stage::Connection, text);
        let Some(hello) = hello else {
            return Err(refuse("the stream doesn't begin with a hello".to_string()));
        };
        let claim = claim_of(hello).map_err(refuse)?;
        let mut boots = self.boots.lock().expect("no holder panics");
        boots.admit(&self.disk, "", &self.identity, &claim).map_err(|refused| match refused {
            ClaimRefused::NotNoted { error: StorageError::SyncFailed { path, source }, .. } => {
                crate::fatal(&format!("sync of {path}: {source}"))
            }
            refused => refuse(refused.to_string()),
        })
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
        recovered: BTreeMap::new(),
    })
}
