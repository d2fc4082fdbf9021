//! `Claim`: what a node says of itself when it connects, and whether it is believed.
//!
//! Until peers are authenticated a node is believed on a trusted network, but never against what is known: another cluster,
//! another directory than the one that the cluster was formed with, an earlier start of the same directory, or a new start that
//! has less than the node had told is refused. A start not seen before is durable here before anything that its node says is
//! believed, so that no restart forgets it.

use crate::boot_table::{BootTable, BootVerdict, Lost};
use crate::disk::Disk;
use crate::earlier_boots::EarlierBoots;
use crate::error::StorageError;
use crate::identity::{Boot, ClusterId, DirectoryId, Identity};
use crate::shard_store::GroupNumber;
use dlog_core::mutants::{self, Mutant};
use dlog_core::{NodeId, ShardId};
use std::collections::BTreeMap;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Its start.
    pub boot: Boot,
    /// The starts before it. Empty if it doesn't say (an older version of dlog): then its line isn't checked.
    pub earlier: EarlierBoots,
    /// The last journal group that this start recovered of each of its shards, as [`ShardStore::last_group`] says right after
    /// opening: the same in all that it says in one boot. Empty if it doesn't say (an older version of dlog): then what it
    /// recovered isn't checked.
    ///
    /// [`ShardStore::last_group`]: crate::ShardStore::last_group
    pub recovered: BTreeMap<ShardId, GroupNumber>,
}

impl Claim {
    /// What the node of this directory says in its latest start, having recovered this.
    pub fn of(identity: &Identity, recovered: BTreeMap<ShardId, GroupNumber>) -> Claim {
        Claim {
            cluster: identity.cluster,
            node: identity.node,
            name: identity.name.clone(),
            directory: identity.directory,
            boot: identity.boot,
            earlier: identity.earlier.clone(),
            recovered,
        }
    }
}

/// Why a node isn't believed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClaimRefused {
    /// It belongs elsewhere.
    #[error("node {0} belongs to another cluster; start it with a --data-dir and peers of its own cluster")]
    Cluster(String),
    /// It says that it is the one that it speaks to.
    #[error(
        "node {theirs} says it is this node ({ours}): is its address in --initial-cluster this node's own, or its directory a copy?"
    )]
    Myself {
        /// Its name.
        theirs: String,
        /// The name of the node that refuses.
        ours: String,
    },
    /// A member of the bootstrap set, with another name or directory.
    #[error(
        "node {0} doesn't have the directory that this cluster was formed with: a wiped or restored node is another node"
    )]
    Directory(String),
    /// An earlier start than one that was seen.
    #[error(
        "node {node} comes with boot {number}, but boot {seen} was seen: an old copy of its directory was put back"
    )]
    OldCopy {
        /// Its number.
        node: NodeId,
        /// The boot's number.
        number: u64,
        /// The highest one seen.
        seen: u64,
    },
    /// The number of a start seen, with another random value.
    #[error(
        "node {0} comes with another start of a boot that was seen: a second copy of its directory runs, or an old one was put back"
    )]
    Twin(NodeId),
    /// A later start than one seen, that doesn't come from it, or that comes from one that was refused.
    #[error(
        "node {node} comes with boot {number}, which doesn't come from the start of it that is known here: an old copy of its \
         directory was put back and started; replace the node as a new one"
    )]
    OtherLine {
        /// Its number.
        node: NodeId,
        /// The boot's number.
        number: u64,
    },
    /// A new start, which has less than an earlier one had told.
    #[error(
        "node {node} comes back with shard {shard} up to group {}, but had told that group {} is synced: it lost what it had \
         synced. A copy of its directory was put back, or its disk lost writes; replace the node as a new one",
        recovered.0,
        told.0
    )]
    BelowTold {
        /// Its number.
        node: NodeId,
        /// The first shard where it is so.
        shard: ShardId,
        /// The last group that it recovered.
        recovered: GroupNumber,
        /// The highest that it had told.
        told: GroupNumber,
    },
    /// Its start is new and could not be noted. After a failed sync the process must end.
    #[error("the start of node {node} can't be noted: {error}")]
    NotNoted {
        /// Its number.
        node: NodeId,
        /// The disk's answer.
        error: StorageError,
    },
}

impl ClaimRefused {
    /// Whether what is refused is this start of the node, for good: its directory has forgotten what the node had said.
    pub fn is_of_start(&self) -> bool {
        matches!(self, ClaimRefused::OldCopy { .. }) || self.bars()
    }

    /// Whether what is refused is surely another line of the directory's starts: nothing that comes from it is believed any more. An
    /// earlier start than the one seen may be of the same line: its hello may just be late.
    fn bars(&self) -> bool {
        matches!(self, ClaimRefused::Twin(_) | ClaimRefused::OtherLine { .. } | ClaimRefused::BelowTold { .. })
    }
}

impl BootTable {
    /// Judges a claim for the node whose identity is `own`, and changes nothing. `true`: the boot is new, and must be noted
    /// durably before anything that the claimant says is believed. A new boot must come from the one that was seen, and have
    /// recovered what was told before. Of a
    /// boot that was admitted only the boot counts: its hellos may come late, and say what was recovered, not what was told
    /// since.
    ///
    /// # Errors
    /// [`ClaimRefused`] says what doesn't match, and what helps.
    pub fn check(&self, own: &Identity, claim: &Claim) -> Result<bool, ClaimRefused> {
        let Claim { cluster, node, name, directory, boot, earlier, recovered } = claim;
        if *cluster != own.cluster {
            return Err(ClaimRefused::Cluster(name.clone()));
        }
        if *node == own.node {
            return Err(ClaimRefused::Myself { theirs: name.clone(), ours: own.name.clone() });
        }
        let member = (node.0 as usize).checked_sub(1).and_then(|at| own.bootstrap.get(at));
        if member.is_some_and(|member| member.name != *name || member.directory != *directory) {
            return Err(ClaimRefused::Directory(name.clone()));
        }
        match self.judge(*node, *boot) {
            BootVerdict::Same => Ok(false),
            BootVerdict::Older | BootVerdict::Twin if mutants::is(Mutant::StaleBootAccepted) => Ok(false),
            BootVerdict::Older => {
                let seen = self.seen(*node).unwrap_or_default().number;
                Err(ClaimRefused::OldCopy { node: *node, number: boot.number, seen })
            }
            BootVerdict::Twin => Err(ClaimRefused::Twin(*node)),
            BootVerdict::Newer if self.is_other_line(*node, *boot, earlier) => {
                Err(ClaimRefused::OtherLine { node: *node, number: boot.number })
            }
            BootVerdict::Newer if mutants::is(Mutant::BelowToldAccepted) => Ok(true),
            BootVerdict::Newer => match self.lost(*node, recovered) {
                None => Ok(true),
                Some(Lost { shard, recovered, told }) => {
                    Err(ClaimRefused::BelowTold { node: *node, shard, recovered, told })
                }
            },
        }
    }

    /// Takes note of what was judged of a claim by [`BootTable::check`]: of a boot that is new, or of a start from which nothing is
    /// believed any more. `true`: that must be durable before the verdict is told.
    pub fn remember(&mut self, claim: &Claim, verdict: &Result<bool, ClaimRefused>) -> bool {
        match verdict {
            Ok(new) => *new && self.note(claim.node, claim.boot, &claim.recovered),
            Err(refused) => refused.bars() && self.bar(claim.node, claim.boot),
        }
    }

    /// As [`BootTable::check`], for the node whose directory is `root` of `disk`; gives the claimant's number back. A boot that
    /// is new is noted durably, with what it recovered and all that was told; where that fails, nothing is noted.
    ///
    /// # Errors
    /// As [`BootTable::check`], and [`ClaimRefused::NotNoted`].
    pub fn admit<D: Disk>(
        &mut self,
        disk: &D,
        root: &str,
        own: &Identity,
        claim: &Claim,
    ) -> Result<NodeId, ClaimRefused> {
        let verdict = self.check(own, claim);
        if !matches!(verdict, Ok(false)) {
            let mut next = self.clone();
            if next.remember(claim, &verdict) {
                next.save(disk, root).map_err(|error| ClaimRefused::NotNoted { node: claim.node, error })?;
                *self = next;
            }
        }
        verdict.map(|_| claim.node)
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
