//! [`SimDisk`]: a disk in memory that can lose power, and does with every unsynced byte and name what a real one may do.
//!
//! Fault model: after a crash each 512-byte sector that was not synced is old or new, the length of a file lies between
//! old and new, and each change of names that was not synced happened or not (a rename happens whole or not at all, and a
//! change happens only together with earlier ones to the same name). After a sync that failed, what it should have
//! written is readable until the crash and then gone, whatever later syncs say, unless it was written again.
//!
//! All is drawn from one seed: the same calls give the same bytes.

use crate::disk::{Disk, DiskFile};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

mod inode;
mod state;
mod unsynced;

use inode::Inode;
use state::{Node, State, parent, power_is_out};
pub use unsynced::Unsynced;

/// What power loss leaves old or new, as a whole.
pub const SECTOR_BYTES: usize = 512;

/// What a crash does with what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoseUnsynced {
    /// All of it is lost.
    All,
    /// Each sector and each change of names on its own, by the seed.
    Random,
    /// Nothing is lost yet, as when a process dies and the machine goes on: what was not synced still isn't.
    Nothing,
}

/// How a [`SimDisk`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct SimDiskOptions {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// What a crash does with what was not synced.
    pub lose_unsynced: LoseUnsynced,
    /// How many bytes fit.
    pub capacity_bytes: u64,
    /// Syncs say "done" and do nothing: shows that a test notices a missing sync.
    pub ignore_sync: bool,
}

impl Default for SimDiskOptions {
    fn default() -> SimDiskOptions {
        let lose_unsynced = LoseUnsynced::Random;
        SimDiskOptions { seed: 0, lose_unsynced, capacity_bytes: 1 << 40, ignore_sync: false }
    }
}

/// How often the disk was called since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimDiskStats {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls of `read_at`.
    pub reads: u64,
    /// Bytes that they asked for.
    pub read_bytes: u64,
    /// Calls of `sync_data`.
    pub syncs: u64,
    /// Calls of `sync_dir`.
    pub dir_syncs: u64,
    /// Calls that change something, names and syncs included: what [`SimDisk::cut_power_after`] counts.
    pub changes: u64,
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`]. After a crash every call on it fails.
pub struct SimFile {
    shared: Arc<Mutex<State>>,
    inode: u64,
    epoch: u64,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(options: SimDiskOptions) -> SimDisk {
        SimDisk { shared: Arc::new(Mutex::new(State::new(options))) }
    }

    /// An empty disk with this seed, everything else as usual.
    pub fn with_seed(seed: u64) -> SimDisk {
        SimDisk::new(SimDiskOptions { seed, ..SimDiskOptions::default() })
    }

    /// Power loss and return: what was not synced is old or new, open handles are dead, injected faults are gone.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Lets this many changing calls through; the one after is half done, and from then on every call fails until
    /// [`SimDisk::crash`].
    pub fn cut_power_after(&self, calls: u64) {
        self.lock().power_left = Some(calls);
    }

    /// The next syncs of files fail, and what they should have written will be lost.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().failing_syncs = count;
    }

    /// Lets this many syncs of files through; the one after fails, as with [`SimDisk::fail_syncs`].
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().failing_after = Some(syncs);
    }

    /// The next sync of a file below this folder fails, as with [`SimDisk::fail_syncs`].
    pub fn fail_sync_below(&self, folder: &str) {
        self.lock().failing_below = Some(format!("{folder}/"));
    }

    /// The next writes fail with this kind of error after writing a part of the bytes.
    pub fn fail_writes(&self, count: u32, kind: ErrorKind) {
        self.lock().failing_writes = Some((count, kind));
    }

    /// The next reads fail (EIO).
    pub fn fail_reads(&self, count: u32) {
        self.lock().failing_reads = count;
    }

    /// Changes what fits; less than what is used means full.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().options.capacity_bytes = bytes;
    }

    /// How many bytes its files have.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Changes what a crash does with what was not synced.
    pub fn set_lose_unsynced(&self, lose: LoseUnsynced) {
        self.lock().options.lose_unsynced = lose;
    }

    /// Flips the bits of `mask` in one durable byte, as decay does.
    ///
    /// # Panics
    /// If there is no such file or byte: the test that asks for it is wrong.
    pub fn flip(&self, path: &str, position: u64, mask: u8) {
        self.lock().file_named(path).bytes[position as usize] ^= mask;
    }

    /// Puts bytes into a file, on the disk itself and in the cache, as a write that went astray does: no call of the process
    /// did it, and no crash takes it back. The file's length stays.
    ///
    /// # Panics
    /// If there is no such file or the bytes end behind it: the test that asks for it is wrong.
    pub fn overwrite(&self, path: &str, position: u64, bytes: &[u8]) {
        self.lock().file_named(path).overwrite(position, bytes);
    }

    /// Whether a crash leaves this range of a file as it reads now.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn is_synced(&self, path: &str, position: u64, bytes: u64) -> bool {
        self.lock().file_named(path).is_synced(position, position + bytes)
    }

    /// Another disk with all that can be read of this one now, synced or not, as a copy made at one moment holds it.
    pub fn copy(&self, seed: u64) -> SimDisk {
        let state = self.lock();
        let options = SimDiskOptions { seed, ..state.options };
        let inodes = state.inodes.iter().map(|(number, inode)| (*number, inode.copy()));
        let copied = State {
            inodes: inodes.collect(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.names.clone(),
            ..State::new(options)
        };
        SimDisk { shared: Arc::new(Mutex::new(copied)) }
    }

    /// How often the disk was called.
    pub fn stats(&self) -> SimDiskStats {
        self.lock().stats
    }

    /// Every file and folder, sorted, files with their length: for comparing two runs.
    pub fn tree(&self) -> Vec<(String, Option<u64>)> {
        let state = self.lock();
        let size = |node: &Node| match node {
            Node::Dir => None,
            Node::File(inode) => Some(state.inodes[inode].bytes.len() as u64),
        };
        state.names.iter().map(|(name, node)| (name.clone(), size(node))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }

    fn handle(&self, state: &mut State, inode: u64) -> SimFile {
        state.inodes.get_mut(&inode).expect("a name has its inode").handles += 1;
        SimFile { shared: Arc::clone(&self.shared), inode, epoch: state.epoch }
    }
}

/// A panic elsewhere while the lock was held changes nothing about the bytes.
fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &str) -> io::Result<SimFile> {
        let mut state = self.lock();
        state.check_power()?;
        let inode = state.file(path)?;
        Ok(self.handle(&mut state, inode))
    }

    fn create(&self, path: &str) -> io::Result<SimFile> {
        let mut state = self.lock();
        state.check_power()?;
        state.dir(parent(path))?;
        if state.node(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change(vec![(path.to_owned(), Some(Node::File(inode)))])?;
        Ok(self.handle(&mut state, inode))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for folder in ends.map(|end| &path[..end]) {
            match state.node(folder) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => state.change(vec![(folder.to_owned(), Some(Node::Dir))])?,
            }
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.check_power()?;
        state.dir(path)?;
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = state.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        Ok(below.map(|(name, _)| &name[prefix.len()..]).filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        let node = state.node(from).ok_or(ErrorKind::NotFound)?;
        state.dir(parent(to))?;
        if from == to {
            return Ok(());
        }
        let mut changes = vec![(from.to_owned(), None), (to.to_owned(), Some(node))];
        if node == Node::Dir {
            if !state.below(to).is_empty() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            for (path, node) in state.below(from) {
                let moved = format!("{to}{}", &path[from.len()..]);
                changes.push((path, None));
                changes.push((moved, Some(node)));
            }
        }
        state.change(changes)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        state.file(path)?;
        state.change(vec![(path.to_owned(), None)])
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check_power()?;
        state.dir(path)?;
        if !state.below(path).is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(vec![(path.to_owned(), None)])
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.dir(path)?;
        state.stats.dir_syncs += 1;
        if !state.spend_power()? {
            return Err(power_is_out());
        }
        if !state.options.ignore_sync {
            state.settle(|change| change.changes.iter().any(|(name, _)| parent(name) == path));
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.options.capacity_bytes.saturating_sub(state.used_bytes()))
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.shared);
        state.check_power()?;
        if state.epoch != self.epoch {
            return Err(power_is_out());
        }
        Ok(state)
    }
}

fn inode(state: &mut State, number: u64) -> &mut Inode {
    state.inodes.get_mut(&number).expect("a handle keeps its inode")
}

/// The error of a write that comes now, if one was asked for.
fn injected_write_error(state: &mut State) -> Option<ErrorKind> {
    let (count, kind) = state.failing_writes?;
    state.failing_writes = (count > 1).then_some((count - 1, kind));
    (count > 0).then_some(kind)
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.stats.reads += 1;
        state.stats.read_bytes += into.len() as u64;
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(io::Error::other("a simulated read error"));
        }
        let bytes = &inode(&mut state, self.inode).bytes;
        let start = (position as usize).min(bytes.len());
        let count = into.len().min(bytes.len() - start);
        into[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
        state.stats.writes += 1;
        state.stats.written_bytes += total;
        let powered = state.spend_power()?;
        let have = inode(&mut state, self.inode).bytes.len() as u64;
        let grown = (position + total).saturating_sub(have);
        let mut error = injected_write_error(&mut state);
        if grown > 0 && error.is_none() && state.used_bytes() + grown > state.options.capacity_bytes {
            error = Some(ErrorKind::StorageFull);
        }
        let mut allowed =
            if error.is_some() { state.random.u64(0..=total).min(total - grown.min(total)) } else { total };
        let inode = inode(&mut state, self.inode);
        let mut at = position;
        for part in parts {
            let part = &part[..part.len().min(allowed as usize)];
            inode.write(part, at);
            at += part.len() as u64;
            allowed -= part.len() as u64;
        }
        match error {
            Some(kind) => Err(kind.into()),
            None if !powered => Err(power_is_out()),
            None => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.stats.syncs += 1;
        if !state.spend_power()? {
            return Err(power_is_out());
        }
        if state.failing_syncs > 0 || state.fails_below(self.inode) || state.fails_now() {
            state.failing_syncs = state.failing_syncs.saturating_sub(1);
            state.failing_below = None;
            let inode = inode(&mut state, self.inode);
            let given_up = std::mem::take(&mut inode.unsynced);
            inode.lost.extend(given_up);
            return Err(io::Error::other("a simulated sync error"));
        }
        if !state.options.ignore_sync {
            inode(&mut state, self.inode).sync();
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let powered = state.spend_power()?;
        let have = inode(&mut state, self.inode).bytes.len() as u64;
        if bytes > have && state.used_bytes() + (bytes - have) > state.options.capacity_bytes {
            return Err(ErrorKind::StorageFull.into());
        }
        inode(&mut state, self.inode).set_len(bytes);
        if powered { Ok(()) } else { Err(power_is_out()) }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        Ok(inode(&mut state, self.inode).bytes.len() as u64)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        if state.epoch != self.epoch {
            return;
        }
        let Some(inode) = state.inodes.get_mut(&self.inode) else { return };
        inode.handles -= 1;
        if inode.handles == 0 && !inode.named {
            state.inodes.remove(&self.inode);
        }
    }
}

#[cfg(test)]
#[path = "sim_disk_tests.rs"]
mod tests;
