//! What happens to a node's disk: syncs, checkpoints, power losses, decay, copies.

use super::node::{CLUSTER, directory, name};
use super::stage::{Sort, Stage};
use super::words;
use dlog_consensus::{Input, WriteId};
use dlog_core::{ReplicaId, ShardId};
use dlog_storage::{Disk, DiskFile, Identity, LoseUnsynced, SimDisk, SimDiskOptions, inspect};
use std::collections::BTreeMap;
use std::io;

impl Stage {
    /// One journal group of all that a node has said: durable, told, and in segments.
    pub(super) fn sync(&mut self, node: u32) -> Result<(), String> {
        let Some(writes) = self.commit(node)? else { return Ok(()) };
        let last: BTreeMap<ReplicaId, WriteId> = writes.into_iter().collect();
        for (replica, write) in last {
            // A replica that was deleted with it is gone.
            if self.has(node, replica) {
                self.step(replica, Input::Persisted { write })?;
            }
        }
        let Some(process) = self.node(node)?.process.as_mut() else { return Ok(()) };
        let written = process.store.write_out().map_err(|error| error.to_string())?;
        for out in written.into_iter().filter(|out| out.replica.node().0 == node) {
            if self.has(node, out.replica) {
                self.step(out.replica, Input::WrittenOut { index: out.index, next_offset: out.next_offset })?;
            }
        }
        Ok(())
    }

    fn has(&self, node: u32, replica: ReplicaId) -> bool {
        self.nodes[&node].process.as_ref().is_some_and(|process| process.host.contains(replica))
    }

    /// Makes what a node has said durable, and tells nobody. `None`: the power went in the middle of it.
    pub(super) fn commit(&mut self, node: u32) -> Result<Option<Vec<(ReplicaId, WriteId)>>, String> {
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let (mut ids, mut writes) = (Vec::new(), Vec::new());
        let before = process.store.last_group();
        for (id, write) in process.writes.drain(..) {
            ids.push((write.replica, id));
            writes.push(write);
        }
        match process.store.commit(writes) {
            Ok(group) if group > before => self.say(Sort::Disk, format!("{node} syncs group {}", group.0)),
            Ok(_) => {}
            Err(error) => {
                self.say(Sort::Event, format!("{node} dies in the middle of a group: {error}"));
                self.die(node, LoseUnsynced::Random)?;
                return Ok(None);
            }
        }
        Ok(Some(ids))
    }

    /// Ends a node's process.
    pub(super) fn die(&mut self, node: u32, lose: LoseUnsynced) -> Result<(), String> {
        let one = self.node(node)?;
        let process = one.process.take();
        one.disk.set_lose_unsynced(lose);
        one.disk.crash();
        one.paused = false;
        if let Some(process) = process {
            let unsynced = process.writes.iter().filter(|(_, write)| !write.ops.is_empty()).count();
            let text = if unsynced > 0 { format!(" with {unsynced} unsynced writes") } else { String::new() };
            self.say(Sort::Event, format!("{node} is down{text}"));
        }
        Ok(())
    }

    /// A checkpoint, with what it drops below the log start.
    pub(super) fn checkpoint(&mut self, node: u32) -> Result<(), String> {
        self.must_be_awake(node)?;
        // What was said before must be durable before the tables that include it.
        self.sync(node)?;
        let Some(process) = self.node(node)?.process.as_mut() else { return Ok(()) };
        let tables = process.host.producer_tables();
        process.store.checkpoint(tables).map_err(|error| error.to_string())?;
        let starts = process.store.take_local_starts();
        self.say(Sort::Disk, format!("{node} makes a checkpoint"));
        for (replica, start) in starts {
            let who = words::replica(replica);
            let text =
                format!("{who} keeps its log after {} @{}", words::place(start.term, start.index), start.next_offset.0);
            self.say(Sort::Disk, text);
            self.step(replica, Input::LocalStart { start })?;
        }
        Ok(())
    }

    /// The proof that the last sync had returned.
    pub(super) fn seal(&mut self, node: u32) -> Result<(), String> {
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        process.store.seal().map_err(|error| error.to_string())
    }

    /// Decay: both headers of a node's last journal group lose a bit.
    pub(super) fn decay(&mut self, node: u32) -> Result<(), String> {
        let one = self.node(node)?;
        if one.process.is_some() {
            return Err(format!("{node} is up: its disk is looked at while it is down"));
        }
        let folder = "shard-0/journal";
        let mut last: Option<(u64, String, u64, u64)> = None;
        for file in one.disk.list(folder).map_err(|error| error.to_string())? {
            let path = format!("{folder}/{file}");
            let visit = &mut |at: dlog_storage::journal::GroupAt, _: &[_]| {
                if last.as_ref().is_none_or(|(number, ..)| *number < at.number) {
                    last = Some((at.number, path.clone(), at.position, at.bytes));
                }
            };
            let read = inspect::journal(&one.disk, &path, ShardId(0), Some(CLUSTER), visit);
            // The next file is made ready without a header.
            read.map_err(|error| error.to_string())?;
        }
        let (number, path, position, bytes) = last.ok_or("its journal holds no group")?;
        one.disk.flip(&path, position + 20, 1);
        one.disk.flip(&path, position + bytes - 44, 1);
        self.say(Sort::Event, format!("{node}: a bit of each header of group {number} flips"));
        Ok(())
    }

    /// Keeps a copy of a node's directory, as a backup would.
    pub(super) fn copy(&mut self, node: u32) -> Result<(), String> {
        let one = self.node(node)?;
        one.copy = Some(copy_of(&one.disk, u64::from(node) + 1_000).map_err(|error| error.to_string())?);
        let boot = one.identity.boot.number;
        self.say(Sort::Event, format!("{node}'s directory is copied, as of boot {boot}"));
        Ok(())
    }

    /// Puts the copy in the directory's place.
    pub(super) fn restore(&mut self, node: u32) -> Result<(), String> {
        let one = self.down(node)?;
        let copy = one.copy.as_ref().ok_or("there is no copy")?;
        one.disk = copy_of(copy, u64::from(node) + 2_000).map_err(|error| error.to_string())?;
        // What the copy doesn't know is what its peers must notice.
        one.told.clear();
        self.say(Sort::Event, format!("{node}'s directory is replaced by its copy"));
        Ok(())
    }

    /// An empty disk in a node's place, set up anew under its old name and number.
    pub(super) fn wipe(&mut self, node: u32) -> Result<(), String> {
        let one = self.down(node)?;
        one.disk = SimDisk::new(SimDiskOptions { seed: u64::from(node) + 3_000, ..SimDiskOptions::default() });
        let identity = Identity::new(&name(node), 1, directory(node, 1));
        let Identity { cluster, node: number, bootstrap, .. } = one.identity.clone();
        one.identity = Identity { cluster, node: number, bootstrap, ..identity };
        one.identity.save(&one.disk, "").map_err(|error| error.to_string())?;
        one.told.clear();
        self.say(Sort::Event, format!("{node}'s directory is wiped, and set up again under its old name and number"));
        Ok(())
    }

    fn down(&mut self, node: u32) -> Result<&mut super::node::Node, String> {
        let one = self.node(node)?;
        if one.process.is_some() { Err(format!("{node} is up")) } else { Ok(one) }
    }
}

/// A disk with the same files, all of them durable.
fn copy_of(disk: &SimDisk, seed: u64) -> io::Result<SimDisk> {
    let copy = SimDisk::new(SimDiskOptions { seed, ..SimDiskOptions::default() });
    let tree = disk.tree();
    for (path, _) in tree.iter().filter(|(path, length)| length.is_none() && !path.is_empty()) {
        copy.create_dir(path)?;
    }
    for (path, length) in tree.iter().filter_map(|(path, length)| Some((path, (*length)?))) {
        let mut bytes = vec![0; length as usize];
        disk.open(path)?.read_at(&mut bytes, 0)?;
        let file = copy.create(path)?;
        file.write_at(&[&bytes], 0)?;
        file.sync_data()?;
    }
    for (path, _) in tree.iter().filter(|(_, length)| length.is_none()) {
        copy.sync_dir(path)?;
    }
    copy.sync_dir("")?;
    Ok(copy)
}
