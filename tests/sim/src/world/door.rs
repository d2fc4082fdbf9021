//! Who is believed: each start of a node begins a boot, and whoever gets a message judges the start that it comes from, as the
//! server's peer streams judge hellos.

use super::World;
use super::starts::CLUSTER;
use crate::node::{Lost, id_of, number_of};
use crate::report::Failure;
use dlog_consensus::PeerMessage;
use dlog_core::NodeId;
use dlog_replication::bootstrap::{BootstrapSet, Member};
use dlog_storage::{
    Boot, BootTable, BootstrapMember, Claim, ClaimRefused, DirectoryId, GroupNumber, Identity, SimDisk, StorageError,
};
use std::collections::BTreeSet;
use std::rc::Rc;

/// A message with what its sender's stream said first.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What is said.
    pub message: PeerMessage,
    /// By which start of which directory.
    pub claim: Rc<Claim>,
    /// The last group that its journal had synced.
    pub synced: GroupNumber,
}

/// What a process says of itself, and whom it believes.
#[derive(Debug)]
pub struct Door {
    identity: Identity,
    boots: BootTable,
    /// What it says.
    pub claim: Rc<Claim>,
    /// The starts that this process has admitted: their streams stay open.
    admitted: BTreeSet<(NodeId, u64, u64)>,
}

impl Door {
    /// A new start of the directory on `disk`, which is made where there is none yet. Its boot is durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        disk: &SimDisk,
        node: usize,
        directory: DirectoryId,
        set: &BootstrapSet,
        random: u64,
    ) -> Result<Door, StorageError> {
        let mut identity = match Identity::load(disk, "")? {
            Some(identity) => identity,
            None => {
                let member =
                    |member: Member| BootstrapMember { name: member.name, directory: DirectoryId(member.directory) };
                let mut identity = Identity::new(&name_of(node), 1, directory);
                (identity.cluster, identity.node) = (CLUSTER, id_of(node));
                identity.bootstrap = set.members().map(member).collect();
                identity
            }
        };
        let boot = identity.begin_boot(random);
        identity.save(disk, "")?;
        let boots = BootTable::load(disk, "")?;
        let claim = Rc::new(claim_of(&identity, boot));
        Ok(Door { identity, boots, claim, admitted: BTreeSet::new() })
    }

    /// Judges a start.
    fn admit(&mut self, disk: &SimDisk, claim: &Claim) -> Result<(), ClaimRefused> {
        let start = (claim.node, claim.boot.number, claim.boot.random);
        if self.admitted.contains(&start) {
            return Ok(());
        }
        self.boots.admit(disk, "", &self.identity, claim)?;
        self.admitted.insert(start);
        Ok(())
    }
}

/// A node's name, counted from 0 here.
pub fn name_of(node: usize) -> String {
    format!("n{}", node + 1)
}

fn claim_of(identity: &Identity, boot: Boot) -> Claim {
    Claim {
        cluster: identity.cluster,
        node: identity.node,
        name: identity.name.clone(),
        directory: identity.directory,
        boot,
    }
}

/// Whether the node of this directory would refuse the next start of that one, whatever happens to it before.
pub fn would_refuse(disk: &SimDisk, other: &SimDisk, random: u64) -> bool {
    let (Ok(Some(own)), Ok(boots)) = (Identity::load(disk, ""), BootTable::load(disk, "")) else { return false };
    let Ok(Some(mut identity)) = Identity::load(other, "") else { return false };
    let boot = identity.begin_boot(random);
    // A table of its own on a disk of its own: nothing is noted.
    boots.clone().admit(&SimDisk::with_seed(0), "", &own, &claim_of(&identity, boot)).is_err()
}

impl World {
    /// A new start of a node's directory.
    pub(crate) fn open_door(&mut self, node: usize) -> Result<Door, StorageError> {
        // A directory that was wiped is another one.
        let wiped = self.nodes[node].lost == Some(Lost::Wiped);
        let directory = DirectoryId([node as u8 + if wiped { 0x81 } else { 1 }; 16]);
        let (set, random) = (self.bootstrap_set(), self.random.u64(..));
        Door::open(&self.nodes[node].disk, node, directory, &set, random)
    }

    /// Whether a letter's sender and its receiver believe each other, as both ends of a stream ask before anything is said.
    pub(crate) fn is_admitted(&mut self, letter: &Letter) -> Result<bool, Failure> {
        let to = number_of(letter.message.to.node());
        let Some(claim) = self.nodes[to].process.as_ref().map(|process| Rc::clone(&process.door.claim)) else {
            return Ok(false);
        };
        let from = number_of(letter.claim.node);
        let sender_lives =
            self.nodes[from].process.as_ref().is_some_and(|process| process.door.claim.boot == letter.claim.boot);
        Ok((!sender_lives || self.believes(from, &claim)?) && self.believes(to, &letter.claim)?)
    }

    /// Whether a node believes a start; one that it hasn't seen is noted on its disk.
    fn believes(&mut self, node: usize, claim: &Rc<Claim>) -> Result<bool, Failure> {
        let one = &mut self.nodes[node];
        let Some(process) = &mut one.process else { return Ok(false) };
        match process.door.admit(&one.disk, claim) {
            Ok(()) => Ok(true),
            Err(ClaimRefused::NotNoted { error, .. }) => {
                self.on_store_error(node, &error)?;
                Ok(false)
            }
            Err(refused) => {
                self.note(format_args!("node {node} refuses a start of node {}: {refused}", number_of(claim.node)));
                self.counts.refused_starts += 1;
                let other = number_of(claim.node);
                let runs = |one: &crate::node::Process| one.door.claim.boot == claim.boot;
                let newest = self.nodes[other].process.as_ref().is_some_and(runs);
                if newest && self.nodes[other].lost.is_none() && self.nodes[node].lost.is_none() {
                    return Err(Failure::correctness(format!("node {node} refuses node {other}: {refused}")));
                }
                Ok(false)
            }
        }
    }
}
