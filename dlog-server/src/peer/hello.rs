//! Who is at the other end of a peer stream. Until TLS comes, a node is believed on a trusted network, but never against
//! what is known: another cluster, another directory, or an earlier boot of the same node is refused.

use dlog_core::NodeId;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_protocol::v1;
use dlog_storage::{Boot, BootTable, BootVerdict, Identity, OsDisk, StorageError};
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
        if hello.cluster_id[..] != self.identity.cluster.0[..] {
            return Err(refuse(format!(
                "node {} belongs to another cluster; start it with a --data-dir and peers of its own cluster",
                hello.name
            )));
        }
        let node = NodeId(hello.node_id);
        if node == self.identity.node {
            return Err(refuse(format!(
                "node {} says it is this node ({}): is its address in --initial-cluster this node's own, or its directory a \
                 copy?",
                hello.name, self.identity.name
            )));
        }
        let member = (node.0 as usize).checked_sub(1).and_then(|at| self.identity.bootstrap.get(at));
        if let Some(member) = member
            && (member.name != hello.name || member.directory.0[..] != hello.directory_id[..])
        {
            return Err(refuse(format!(
                "node {} doesn't have the directory that this cluster was formed with: a wiped or restored node is another \
                 node",
                hello.name
            )));
        }
        self.note_boot(node, Boot { number: hello.boot_number, random: hello.boot_value }).map_err(refuse)?;
        Ok(node)
    }

    fn note_boot(&self, node: NodeId, boot: Boot) -> Result<(), String> {
        let mut boots = self.boots.lock().expect("no holder panics");
        match boots.judge(node, boot) {
            BootVerdict::Same => Ok(()),
            BootVerdict::Older => Err(format!(
                "node {node} comes with boot {}, but boot {} was seen: an old copy of its directory was put back",
                boot.number,
                boots.seen(node).unwrap_or_default().number
            )),
            BootVerdict::Twin => Err(format!("node {node} runs twice: a second copy of its directory was started")),
            BootVerdict::Newer => {
                boots.note(node, boot);
                match boots.save(&self.disk, "") {
                    Ok(()) => Ok(()),
                    Err(StorageError::SyncFailed { path, source }) => {
                        crate::fatal(&format!("sync of {path}: {source}"))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}
