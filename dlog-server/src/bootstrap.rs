//! Forming a cluster: every listed node tells every other its name and directory id, until all have heard all. Only then is
//! the set synced, whose hash is the cluster's id; from then on nobody waits for anybody to start.

use crate::cli::exit::{Exit, ExitError};
use crate::peer::outgoing::chain;
use crate::peer::pool::endpoint;
use anyhow::{Context, bail};
use dlog_core::NodeId;
use dlog_protocol::v1::peer_client::PeerClient;
use dlog_protocol::v1::{self, BootstrapRequest, BootstrapResponse};
use dlog_replication::bootstrap::BootstrapSet;
use dlog_storage::{BootstrapMember, ClusterId, DirectoryId, Identity};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pause between rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// One answer must come within this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the node says whom it waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What this node answers to others that form a cluster, before and after it is formed.
pub struct BootstrapState {
    name: String,
    directory: DirectoryId,
    list: BTreeMap<String, String>,
    list_hash: [u8; 32],
    formed: Mutex<Option<v1::BootstrapSet>>,
}

impl BootstrapState {
    /// For this node's directory and its `--initial-cluster`.
    pub fn new(identity: &Identity, list: &BTreeMap<String, String>) -> BootstrapState {
        let mut hasher = Sha256::new();
        for (name, address) in list {
            hasher.update(format!("{name}={address}\n"));
        }
        let formed = (identity.cluster != ClusterId::default()).then(|| to_wire(identity));
        BootstrapState {
            name: identity.name.clone(),
            directory: identity.directory,
            list: list.clone(),
            list_hash: hasher.finalize().into(),
            formed: Mutex::new(formed),
        }
    }

    /// The answer to another node's call.
    pub fn answer(&self, _request: &BootstrapRequest) -> BootstrapResponse {
        BootstrapResponse {
            name: self.name.clone(),
            directory_id: self.directory.0.to_vec().into(),
            list_hash: self.list_hash.to_vec().into(),
            known_set: self.formed.lock().expect("no holder panics").clone(),
        }
    }

    /// Notes the set once it is synced.
    pub fn set_formed(&self, identity: &Identity) {
        *self.formed.lock().expect("no holder panics") = Some(to_wire(identity));
    }
}

fn to_wire(identity: &Identity) -> v1::BootstrapSet {
    let members = (1u32..).zip(&identity.bootstrap).map(|(node_id, member)| v1::BootstrapMember {
        name: member.name.clone(),
        directory_id: member.directory.0.to_vec().into(),
        node_id,
    });
    v1::BootstrapSet { cluster_id: identity.cluster.0.to_vec().into(), members: members.collect() }
}

/// Asks all listed nodes until the set is known, and puts it into `identity`. The caller saves it.
///
/// # Errors
/// Two lists, two nodes with one name, or a set without this directory: told with what to do.
pub async fn form(state: &Arc<BootstrapState>, identity: &mut Identity) -> anyhow::Result<()> {
    let mut heard: BTreeMap<String, DirectoryId> = BTreeMap::from([(state.name.clone(), state.directory)]);
    let mut told = Instant::now();
    loop {
        let mut silent = Vec::new();
        for (name, address) in state.list.iter().filter(|(name, _)| **name != state.name) {
            match ask(state, address).await {
                Ok(answer) => match judge(state, name, address, &answer)? {
                    Verdict::Member(directory) => {
                        heard.insert(name.clone(), directory);
                    }
                    Verdict::Formed(members) => return adopt(identity, members),
                },
                Err(error) => {
                    tracing::debug!(%name, %address, error, "no bootstrap answer yet");
                    silent.push(format!("{name} ({address})"));
                }
            }
        }
        // A full round of answers, not answers gathered over time: a node that was wiped meanwhile must not be in the set.
        if silent.is_empty() && heard.len() == state.list.len().max(1) {
            return adopt(identity, heard.into_iter().collect());
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("waiting for {} to form the cluster", silent.join(", "));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

enum Verdict {
    Member(DirectoryId),
    Formed(Vec<(String, DirectoryId)>),
}

async fn ask(state: &BootstrapState, address: &str) -> Result<BootstrapResponse, String> {
    let call = async {
        let channel = endpoint(address)?.connect().await.map_err(|e| chain(&e))?;
        let request = BootstrapRequest {
            name: state.name.clone(),
            directory_id: state.directory.0.to_vec().into(),
            list_hash: state.list_hash.to_vec().into(),
            known_set: None,
        };
        let answer = PeerClient::new(channel).bootstrap(request).await.map_err(|s| s.message().to_string())?;
        Ok(answer.into_inner())
    };
    tokio::time::timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(|_| Err("no answer in time".to_string()))
}

fn judge(state: &BootstrapState, name: &str, address: &str, answer: &BootstrapResponse) -> anyhow::Result<Verdict> {
    if answer.name != name {
        bail!(
            "the node at {address} calls itself {}, not {name}: give each node the name that --initial-cluster gives its address",
            answer.name
        );
    }
    let directory = directory(&answer.directory_id).with_context(|| format!("node {name} at {address}"))?;
    if let Some(set) = &answer.known_set {
        let members = set
            .members
            .iter()
            .map(|m| Ok((m.name.clone(), self::directory(&m.directory_id)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if members.contains(&(state.name.clone(), state.directory)) {
            return Ok(Verdict::Formed(members));
        }
        let message = if members.iter().any(|(member, _)| *member == state.name) {
            format!(
                "the cluster that {name} belongs to was formed with another data directory of {}: this one is wiped or new. \
                 Put the old directory back; replacing a node comes with a later version",
                state.name
            )
        } else {
            format!(
                "{name} belongs to a cluster that was formed without this node; start with empty directories on every node"
            )
        };
        return Err(ExitError { exit: Exit::NeedsOperator, message }.into());
    }
    if answer.list_hash[..] != state.list_hash[..] {
        bail!("{name} at {address} was started with another --initial-cluster; give every node the same list");
    }
    if directory == state.directory {
        bail!(
            "{name} at {address} has this node's own directory id: one directory is a copy of the other; empty one of them"
        );
    }
    Ok(Verdict::Member(directory))
}

fn directory(bytes: &[u8]) -> anyhow::Result<DirectoryId> {
    Ok(DirectoryId(bytes.try_into().context("a directory id has 16 bytes")?))
}

fn adopt(identity: &mut Identity, members: Vec<(String, DirectoryId)>) -> anyhow::Result<()> {
    let set = BootstrapSet::new(members.into_iter().map(|(name, directory)| (name, directory.0)))?;
    identity.cluster = ClusterId(set.cluster_id());
    identity.node = set.node_of(&identity.name).unwrap_or(NodeId(0));
    identity.bootstrap =
        set.members().map(|m| BootstrapMember { name: m.name, directory: DirectoryId(m.directory) }).collect();
    anyhow::ensure!(identity.node != NodeId(0), "the set doesn't name this node ({})", identity.name);
    Ok(())
}

/// The set of a formed cluster again, for group 0's first members.
///
/// # Errors
/// If the identity's set is no valid one: the directory is damaged.
pub fn set_of(identity: &Identity) -> anyhow::Result<BootstrapSet> {
    let members = identity.bootstrap.iter().map(|m| (m.name.clone(), m.directory.0));
    Ok(BootstrapSet::new(members)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, directory: u8, list: &[(&str, &str)]) -> BootstrapState {
        let identity = Identity::new(name, 1, DirectoryId([directory; 16]));
        let list = list.iter().map(|(n, a)| (n.to_string(), a.to_string())).collect();
        BootstrapState::new(&identity, &list)
    }

    const LIST: &[(&str, &str)] = &[("a", "h:1"), ("b", "h:2")];

    #[test]
    fn answers_are_judged() {
        let a = state("a", 1, LIST);
        let judge_b = |b: &BootstrapState| judge(&a, "b", "h:2", &b.answer(&BootstrapRequest::default()));
        assert!(matches!(judge_b(&state("b", 2, LIST)), Ok(Verdict::Member(DirectoryId([2, ..])))));
        let refused = |b: &BootstrapState, says: &str| {
            let error = format!("{:#}", judge_b(b).err().expect("refused"));
            assert!(error.contains(says), "{error}");
        };
        refused(&state("x", 2, LIST), "calls itself x");
        refused(&state("b", 2, &LIST[..1]), "another --initial-cluster");
        refused(&state("b", 1, LIST), "own directory id");
    }

    #[test]
    fn a_formed_set_lets_its_own_members_pass_and_no_other() {
        let a = state("a", 1, LIST);
        let b = state("b", 2, LIST);
        let formed = |directory_of_a: u8| {
            let mut identity = Identity::new("b", 1, DirectoryId([2; 16]));
            let members =
                vec![("a".to_string(), DirectoryId([directory_of_a; 16])), ("b".to_string(), DirectoryId([2; 16]))];
            adopt(&mut identity, members).expect("a good set");
            b.set_formed(&identity);
            judge(&a, "b", "h:2", &b.answer(&BootstrapRequest::default()))
        };
        assert!(matches!(formed(1), Ok(Verdict::Formed(members)) if members.len() == 2));
        let error = formed(9).err().expect("a wiped directory");
        assert_eq!(Exit::of_error(&error), Exit::NeedsOperator);
    }
}
