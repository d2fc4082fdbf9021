//! All that a simulated disk holds: files, names, and the changes of names that were not synced.

use super::{Inode, LoseUnsynced, SimDiskOptions, SimDiskStats};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

/// One change of names: all of it happens or none.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) changes: Vec<(String, Option<Node>)>,
}

pub(super) struct State {
    pub(super) options: SimDiskOptions,
    pub(super) random: fastrand::Rng,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) names: BTreeMap<String, Node>,
    pub(super) durable_names: BTreeMap<String, Node>,
    pub(super) pending: Vec<NameChange>,
    pub(super) epoch: u64,
    pub(super) stats: SimDiskStats,
    /// Changing calls that still work before the power goes.
    pub(super) power_left: Option<u64>,
    pub(super) failing_syncs: u32,
    /// So many syncs of files until one fails.
    pub(super) failing_after: Option<u64>,
    /// The next sync of a file whose name begins so fails.
    pub(super) failing_below: Option<String>,
    pub(super) failing_writes: Option<(u32, ErrorKind)>,
    pub(super) failing_reads: u32,
}

pub(super) fn power_is_out() -> io::Error {
    io::Error::other("the simulated power is out")
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl State {
    pub(super) fn new(options: SimDiskOptions) -> State {
        State {
            options,
            random: fastrand::Rng::with_seed(options.seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            epoch: 0,
            stats: SimDiskStats::default(),
            power_left: None,
            failing_syncs: 0,
            failing_after: None,
            failing_below: None,
            failing_writes: None,
            failing_reads: 0,
        }
    }

    /// Counts a changing call. The first call without power is half done by the caller, hence the two answers.
    pub(super) fn spend_power(&mut self) -> io::Result<bool> {
        self.stats.changes += 1;
        match &mut self.power_left {
            None => Ok(true),
            Some(0) => Err(power_is_out()),
            Some(left) => {
                *left -= 1;
                Ok(*left > 0)
            }
        }
    }

    /// Counts a sync towards the one that is to fail.
    pub(super) fn fails_now(&mut self) -> bool {
        let fails = self.failing_after == Some(0);
        self.failing_after = self.failing_after.and_then(|left| left.checked_sub(1));
        fails
    }

    pub(super) fn fails_below(&self, inode: u64) -> bool {
        let is_it = |name: &String, node: &Node| {
            *node == Node::File(inode) && self.failing_below.iter().any(|below| name.starts_with(below))
        };
        self.failing_below.is_some() && self.names.iter().any(|(name, node)| is_it(name, node))
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_left == Some(0) { Err(power_is_out()) } else { Ok(()) }
    }

    pub(super) fn node(&self, path: &str) -> Option<Node> {
        if path.is_empty() { Some(Node::Dir) } else { self.names.get(path).copied() }
    }

    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        match self.node(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// For tests that know their files.
    pub(super) fn file_named(&mut self, path: &str) -> &mut Inode {
        let Ok(inode) = self.file(path) else { panic!("no file {path}") };
        self.inodes.get_mut(&inode).expect("a name has its inode")
    }

    pub(super) fn dir(&self, path: &str) -> io::Result<()> {
        match self.node(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn below(&self, path: &str) -> Vec<(String, Node)> {
        let prefix = format!("{path}/");
        let below = self.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        below.map(|(name, node)| (name.clone(), *node)).collect()
    }

    pub(super) fn change(&mut self, changes: Vec<(String, Option<Node>)>) -> io::Result<()> {
        let powered = self.spend_power()?;
        let mut gone = false;
        for (path, node) in &changes {
            gone |= self.names.contains_key(path);
            apply(&mut self.names, path, *node);
            if let Some(Node::File(inode)) = node
                && let Some(inode) = self.inodes.get_mut(inode)
            {
                inode.named = true;
            }
        }
        self.pending.push(NameChange { changes });
        // A look at every name is needed only where one was taken away.
        if gone {
            self.refresh_named();
        }
        if powered { Ok(()) } else { Err(power_is_out()) }
    }

    /// Frees what no name, durable or not, and no handle needs.
    pub(super) fn refresh_named(&mut self) {
        let mut named: BTreeSet<u64> = BTreeSet::new();
        let pending = self.pending.iter().flat_map(|change| change.changes.iter()).filter_map(|(_, node)| *node);
        for node in self.names.values().chain(self.durable_names.values()).copied().chain(pending) {
            if let Node::File(inode) = node {
                named.insert(inode);
            }
        }
        self.inodes.retain(|number, inode| {
            inode.named = named.contains(number);
            inode.named || inode.handles > 0
        });
    }

    /// Moves the chosen changes, and every earlier one to the same names, to the durable names.
    pub(super) fn settle(&mut self, mut chosen: impl FnMut(&NameChange) -> bool) {
        let mut paths: BTreeSet<String> = BTreeSet::new();
        let mut keep = Vec::new();
        let mut settled = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if chosen(&change) || change.changes.iter().any(|(path, _)| paths.contains(path)) {
                paths.extend(change.changes.iter().map(|(path, _)| path.clone()));
                settled.push(change);
            } else {
                keep.push(change);
            }
        }
        let mut gone = false;
        for (path, node) in settled.iter().rev().flat_map(|change| change.changes.iter()) {
            gone |= self.durable_names.contains_key(path);
            apply(&mut self.durable_names, path, *node);
        }
        keep.reverse();
        self.pending = keep;
        // What no power loss brings back takes no room any more.
        if gone {
            self.refresh_named();
        }
    }

    /// What every crash does: handles die, injected faults are gone.
    pub(super) fn lose_process(&mut self) {
        self.epoch += 1;
        self.power_left = None;
        (self.failing_below, self.failing_after) = (None, None);
        (self.failing_syncs, self.failing_writes, self.failing_reads) = (0, None, 0);
        self.inodes.values_mut().for_each(|inode| inode.handles = 0);
    }

    /// The durable names are all that is left.
    pub(super) fn lose_names(&mut self) {
        self.pending.clear();
        self.names = self.durable_names.clone();
        let orphans: Vec<String> = self.names.keys().filter(|path| !self.has_folders(path)).cloned().collect();
        for path in orphans {
            self.names.remove(&path);
        }
        self.durable_names = self.names.clone();
    }

    pub(super) fn crash(&mut self) {
        self.lose_process();
        if self.options.lose_unsynced == LoseUnsynced::Nothing {
            return self.refresh_named();
        }
        let mut random = self.random.fork();
        match self.options.lose_unsynced {
            LoseUnsynced::All | LoseUnsynced::Nothing => {}
            LoseUnsynced::Random => self.settle(|_| random.bool()),
        }
        self.lose_names();
        let lose = self.options.lose_unsynced;
        for inode in self.inodes.values_mut() {
            inode.crash(lose == LoseUnsynced::All, &mut random);
        }
        self.refresh_named();
    }

    pub(super) fn has_folders(&self, path: &str) -> bool {
        let above = parent(path);
        above.is_empty() || (self.names.get(above) == Some(&Node::Dir) && self.has_folders(above))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.bytes.len() as u64).sum()
    }
}

fn apply(names: &mut BTreeMap<String, Node>, path: &str, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path.to_owned(), node),
        None => names.remove(path),
    };
}
