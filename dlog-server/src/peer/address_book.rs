//! Where every node answers its peers: first from `--initial-cluster`, then from the catalogue, which wins.

use dlog_core::NodeId;
use std::collections::BTreeMap;
use std::sync::RwLock;

/// Node id to `HOST:PORT`.
#[derive(Default)]
pub struct AddressBook {
    by_node: RwLock<BTreeMap<NodeId, String>>,
}

impl AddressBook {
    /// Where `node` answers, if known.
    pub fn get(&self, node: NodeId) -> Option<String> {
        self.by_node.read().expect("no holder panics").get(&node).cloned()
    }

    /// Notes an address. An empty one is ignored.
    pub fn set(&self, node: NodeId, address: &str) {
        if !address.is_empty() {
            self.by_node.write().expect("no holder panics").insert(node, address.to_string());
        }
    }

    /// Every node with a known address.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.by_node.read().expect("no holder panics").keys().copied().collect()
    }
}
