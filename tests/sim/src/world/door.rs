//! Who is believed: each start of a node begins a boot, and whoever gets a message judges the start that it comes from, as the
//! server's peer streams judge hellos.

use super::World;
use super::starts::{CLUSTER, SHARD};
use crate::node::{Lost, directory_of, id_of, name_of, number_of};
use crate::report::Failure;
use crate::schedule::MILLISECOND;
use dlog_consensus::PeerMessage;
use dlog_core::NodeId;
use dlog_replication::bootstrap::{BootstrapSet, Member};
use dlog_storage::{
    BootTable, BootstrapMember, Claim, ClaimRefused, DirectoryId, GroupNumber, Identity, ShardStore, SimDisk,
    StorageError, StoreOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How often what was told is saved, at most.
const SAVE_EVERY: u64 = 300 * MILLISECOND;

/// A directory that was wiped is that of this many nodes later: of none that there is.
const WIPED: usize = 0x80;

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
    /// When it last saved what it was told, in nanoseconds.
    saved_at: u64,
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
        identity.begin_boot(random);
        identity.save(disk, "")?;
        let boots = BootTable::load(disk, "")?;
        let claim = Rc::new(Claim::of(&identity, BTreeMap::new()));
        Ok(Door { identity, boots, claim, admitted: BTreeSet::new(), saved_at: 0 })
    }

    /// The journal is recovered up to this group: what it says is complete.
    pub fn recovered(&mut self, group: GroupNumber) {
        self.claim = Rc::new(Claim::of(&self.identity, BTreeMap::from([(SHARD.shard, group)])));
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

/// What the next start of a copied directory would say; `None` if it can't be started.
pub fn next_claim(copy: &SimDisk, options: StoreOptions, random: u64) -> Option<Claim> {
    let mut identity = Identity::load(copy, "").ok()??;
    identity.begin_boot(random);
    let (store, _) = ShardStore::open(copy.copy(random), "", SHARD, options).ok()?;
    Some(Claim::of(&identity, BTreeMap::from([(SHARD.shard, store.last_group())])))
}

/// Whether the node of this directory would refuse a claim by what its disk knows.
pub fn would_refuse(disk: &SimDisk, claim: &Claim) -> bool {
    let (Ok(Some(own)), Ok(boots)) = (Identity::load(disk, ""), BootTable::load(disk, "")) else { return false };
    boots.check(&own, claim).is_err()
}

impl World {
    /// A new start of a node's directory.
    pub(crate) fn open_door(&mut self, node: usize) -> Result<Door, StorageError> {
        // A directory that was wiped is another one.
        let wiped = self.nodes[node].lost == Some(Lost::Wiped);
        let directory = DirectoryId(directory_of(if wiped { WIPED + node } else { node }));
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
        let admitted = (!sender_lives || self.believes(from, &claim)?) && self.believes(to, &letter.claim)?;
        if admitted {
            self.hear(to, letter)?;
        }
        Ok(admitted)
    }

    /// A node hears how far the sender's journal is synced. It saves that from time to time.
    fn hear(&mut self, node: usize, letter: &Letter) -> Result<(), Failure> {
        let now = self.schedule.now();
        let one = &mut self.nodes[node];
        let Some(process) = &mut one.process else { return Ok(()) };
        let door = &mut process.door;
        let rises = door.boots.told(letter.claim.node, letter.claim.boot, SHARD.shard, letter.synced);
        if !rises || now < door.saved_at + SAVE_EVERY {
            return Ok(());
        }
        door.saved_at = now;
        match door.boots.save(&one.disk, "") {
            Ok(()) => Ok(()),
            Err(error) => self.not_saved(node, &error),
        }
    }

    /// The table could not be written: it is tried again, unless a sync failed or the power is out.
    fn not_saved(&mut self, node: usize, error: &StorageError) -> Result<(), Failure> {
        let fatal = matches!(error, StorageError::SyncFailed { .. }) || self.nodes[node].power_armed.is_some();
        if fatal || !self.is_disk_bad(node) { self.on_store_error(node, error) } else { Ok(()) }
    }

    /// Whether a node believes a start; one that it hasn't seen is noted on its disk.
    fn believes(&mut self, node: usize, claim: &Rc<Claim>) -> Result<bool, Failure> {
        let one = &mut self.nodes[node];
        let Some(process) = &mut one.process else { return Ok(false) };
        match process.door.admit(&one.disk, claim) {
            Ok(()) => Ok(true),
            Err(ClaimRefused::NotNoted { error, .. }) => self.not_saved(node, &error).map(|()| false),
            Err(refused) => {
                self.note(format_args!("node {node} refuses a start of node {}: {refused}", number_of(claim.node)));
                self.counts.refused_starts += 1;
                let other = number_of(claim.node);
                let runs = |one: &crate::node::Process| one.door.claim.boot == claim.boot;
                let newest = self.nodes[other].process.as_ref().is_some_and(runs);
                if newest && !self.is_lost(other) && !self.is_lost(node) {
                    return Err(Failure::correctness(format!("node {node} refuses node {other}: {refused}")));
                }
                Ok(false)
            }
        }
    }
}
