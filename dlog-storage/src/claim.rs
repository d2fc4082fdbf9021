//! `Claim`: what a node says of itself when it connects, and whether it is believed.
//!
//! Until peers are authenticated a node is believed on a trusted network, but never against what is known: another cluster,
//! another directory than the one that the cluster was formed with, or an earlier start of the same directory is refused. A
//! start not seen before is durable here before anything that its node says is believed, so that no restart forgets it.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::{Boot, BootTable, BootVerdict, ClusterId, DirectoryId, Identity};
use dlog_core::NodeId;
use dlog_core::mutants::{self, Mutant};

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
    /// Its start is new and could not be noted. After a failed sync the process must end.
    #[error("the start of node {node} can't be noted: {error}")]
    NotNoted {
        /// Its number.
        node: NodeId,
        /// The disk's answer.
        error: StorageError,
    },
}

impl BootTable {
    /// Judges a claim for the node whose identity is `own` and whose directory is `root` of `disk`; gives the claimant's number
    /// back. A boot that is new is noted durably first; where that fails, nothing is noted.
    ///
    /// # Errors
    /// [`ClaimRefused`] says what doesn't match, and what helps.
    pub fn admit<D: Disk>(
        &mut self,
        disk: &D,
        root: &str,
        own: &Identity,
        claim: &Claim,
    ) -> Result<NodeId, ClaimRefused> {
        let Claim { cluster, node, name, directory, boot } = claim;
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
            BootVerdict::Same => Ok(*node),
            BootVerdict::Older | BootVerdict::Twin if mutants::is(Mutant::StaleBootAccepted) => Ok(*node),
            BootVerdict::Older => {
                let seen = self.seen(*node).unwrap_or_default().number;
                Err(ClaimRefused::OldCopy { node: *node, number: boot.number, seen })
            }
            BootVerdict::Twin => Err(ClaimRefused::Twin(*node)),
            BootVerdict::Newer => {
                let mut next = self.clone();
                next.note(*node, *boot);
                next.save(disk, root).map_err(|error| ClaimRefused::NotNoted { node: *node, error })?;
                *self = next;
                Ok(*node)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::BootstrapMember;
    use crate::sim_disk::SimDisk;
    use std::io::ErrorKind;

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn directory(number: u8) -> DirectoryId {
        DirectoryId([number; 16])
    }

    fn own() -> Identity {
        let mut own = Identity::new("a", 1, directory(1));
        (own.cluster, own.node) = (CLUSTER, NodeId(1));
        let member = |name: &str, number| BootstrapMember { name: name.to_string(), directory: directory(number) };
        own.bootstrap = vec![member("a", 1), member("b", 2)];
        own
    }

    fn claim(number: u64, random: u64) -> Claim {
        let boot = Boot { number, random };
        Claim { cluster: CLUSTER, node: NodeId(2), name: "b".to_string(), directory: directory(2), boot }
    }

    #[test]
    fn a_new_boot_is_durable_before_it_is_believed() {
        let disk = SimDisk::with_seed(1);
        let mut boots = BootTable::default();
        assert_eq!(boots.admit(&disk, "", &own(), &claim(3, 9)).expect("a first boot"), NodeId(2));
        disk.crash();
        let mut boots = BootTable::load(&disk, "").expect("a table");
        boots.admit(&disk, "", &own(), &claim(3, 9)).expect("the same boot");
        let older = boots.admit(&disk, "", &own(), &claim(2, 9)).expect_err("an older one");
        assert!(matches!(older, ClaimRefused::OldCopy { number: 2, seen: 3, .. }), "{older}");
        let twin = boots.admit(&disk, "", &own(), &claim(3, 8)).expect_err("a second one");
        assert!(matches!(twin, ClaimRefused::Twin(NodeId(2))), "{twin}");
    }

    #[test]
    fn a_boot_that_could_not_be_noted_is_not_believed_the_next_time_either() {
        let disk = SimDisk::with_seed(1);
        let mut boots = BootTable::default();
        disk.fail_writes(2, ErrorKind::StorageFull);
        for _ in 0..2 {
            let refused = boots.admit(&disk, "", &own(), &claim(3, 9)).expect_err("the disk is full");
            assert!(matches!(refused, ClaimRefused::NotNoted { .. }), "{refused}");
            assert_eq!(boots.seen(NodeId(2)), None);
        }
        boots.admit(&disk, "", &own(), &claim(3, 9)).expect("there is room again");
        assert_eq!(BootTable::load(&disk, "").expect("a table").seen(NodeId(2)).map(|boot| boot.number), Some(3));
    }

    #[test]
    fn what_is_known_is_not_overruled() {
        let disk = SimDisk::with_seed(1);
        let mut boots = BootTable::default();
        let mut refused = |change: &dyn Fn(&mut Claim)| {
            let mut claim = claim(1, 1);
            change(&mut claim);
            boots.admit(&disk, "", &own(), &claim).expect_err("it contradicts what is known")
        };
        assert!(matches!(refused(&|claim| claim.cluster = ClusterId([8; 16])), ClaimRefused::Cluster(_)));
        assert!(matches!(refused(&|claim| claim.node = NodeId(1)), ClaimRefused::Myself { .. }));
        assert!(matches!(refused(&|claim| claim.directory = directory(3)), ClaimRefused::Directory(_)));
        assert!(matches!(refused(&|claim| claim.name = "c".to_string()), ClaimRefused::Directory(_)));
        // One that joined later stands in no bootstrap set.
        let joined = Claim { node: NodeId(9), name: "j".to_string(), directory: directory(9), ..claim(1, 1) };
        boots.admit(&disk, "", &own(), &joined).expect("it joined later");
    }
}
