//! The journal of a shard: one file that is written to, older ones that a checkpoint still needs, the next one made ready
//! before it is used, and files to be used again.

use super::file::{FIRST_GROUP_AT, Filling, JournalFile, encode_header, file_name};
use super::format::{GROUP_ALIGN, GroupKind};
use super::group::{GroupBuilder, GroupContext, GroupPlace};
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use dlog_core::ShardId;
use dlog_core::limits::{JOURNAL_FILE_BYTES, JOURNAL_FILES_MAX, JOURNAL_FIRST_FILE_BYTES, JOURNAL_RESERVE_BYTES};
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::ReplicaWrite;

/// A place in the journal behind a group: from where the next one is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPosition {
    /// Of the file.
    pub generation: u64,
    /// In the file: behind the last group.
    pub position: u64,
    /// Of the last group; 0 before the first.
    pub number: u64,
    /// CRC of the last group; 0 before the first.
    pub crc: u32,
}

/// How the journal lays out its files.
///
/// Invariants: lengths are multiples of [`GROUP_ALIGN`] and hold a few groups; at least three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of the first file, filled while the shard is made.
    pub first_file_bytes: u64,
    /// Bytes of every other file.
    pub file_bytes: u64,
    /// How many files there are at most (K).
    pub files_max: usize,
    /// Bytes that only groups without frames may use when the journal is full, so that votes go on.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        JournalOptions {
            first_file_bytes: JOURNAL_FIRST_FILE_BYTES,
            file_bytes: JOURNAL_FILE_BYTES,
            files_max: JOURNAL_FILES_MAX,
            reserve_bytes: JOURNAL_RESERVE_BYTES,
        }
    }
}

/// A file that is not written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleFile {
    /// In its name.
    pub generation: u64,
    /// Its length.
    pub bytes: u64,
}

enum Next<F> {
    None,
    Filling(Filling<F>),
    Ready(JournalFile<F>),
}

/// The files of one shard's journal, and where the next group goes.
///
/// Invariants ([`Journal::assert_invariants`]): `position` is aligned and leaves the last block of the current file for a
/// seal; generations rise from `old` to `current` to `next`; there are at most `files_max` files, but for the fresh one of
/// a recovery.
pub struct Journal<D: Disk> {
    disk: D,
    dir: String,
    cluster: ClusterId,
    shard: ShardId,
    options: JournalOptions,
    current: JournalFile<D::File>,
    position: u64,
    last_number: u64,
    last_crc: u32,
    sealed: bool,
    old: Vec<IdleFile>,
    spare: Vec<IdleFile>,
    next: Next<D::File>,
    builder: GroupBuilder,
}

/// What a journal is opened with: the files that recovery found.
pub struct JournalStart {
    /// Files that a checkpoint still needs, from old to new.
    pub old: Vec<IdleFile>,
    /// Files that nothing needs.
    pub spare: Vec<IdleFile>,
    /// Greater than every generation ever used.
    pub generation: u64,
    /// The last valid group: numbering goes on from it.
    pub last_number: u64,
    /// Its CRC.
    pub last_crc: u32,
    /// Whether there was no journal before.
    pub first: bool,
}

impl<D: Disk> Journal<D> {
    /// Makes a fresh file, durable when this returns, and goes on with it.
    ///
    /// # Errors
    /// The disk's.
    pub fn start(
        disk: D,
        dir: &str,
        cluster: ClusterId,
        shard: ShardId,
        options: JournalOptions,
        start: JournalStart,
    ) -> Result<Journal<D>, StorageError> {
        let maker = Maker { disk: &disk, dir, cluster, shard };
        let mut spare = start.spare;
        let current = match spare.iter().position(|file| file.bytes == options.file_bytes) {
            Some(at) => {
                let file = spare.remove(at);
                maker.recycle(file, start.generation)?
            }
            None => {
                let bytes = if start.first { options.first_file_bytes } else { options.file_bytes };
                let mut filling = maker.begin(start.generation, bytes)?;
                while !filling.fill(u64::MAX)? {}
                maker.finish(filling)?
            }
        };
        let journal = Journal {
            dir: dir.to_string(),
            cluster,
            shard,
            options,
            current,
            position: FIRST_GROUP_AT,
            last_number: start.last_number,
            last_crc: start.last_crc,
            sealed: true,
            old: start.old,
            spare,
            next: Next::None,
            builder: GroupBuilder::default(),
            disk,
        };
        journal.assert_invariants();
        Ok(journal)
    }

    fn assert_invariants(&self) {
        assert!(self.position.is_multiple_of(GROUP_ALIGN) && self.position >= FIRST_GROUP_AT, "groups are aligned");
        assert!(self.position + GROUP_ALIGN <= self.current.bytes, "the last block is kept for a seal");
        let next = match &self.next {
            Next::None => None,
            Next::Filling(filling) => Some(filling.target.generation),
            Next::Ready(file) => Some(file.generation),
        };
        let generations: Vec<u64> =
            self.old.iter().map(|file| file.generation).chain([self.current.generation]).chain(next).collect();
        assert!(generations.is_sorted_by(|one, two| one < two), "generations rise");
    }

    /// How it lays out its files.
    pub fn options(&self) -> &JournalOptions {
        &self.options
    }

    /// Where the next group will be read from.
    pub fn position(&self) -> JournalPosition {
        JournalPosition {
            generation: self.current.generation,
            position: self.position,
            number: self.last_number,
            crc: self.last_crc,
        }
    }

    /// Files, spare ones and the one being made included.
    pub fn files(&self) -> usize {
        self.old.len() + 1 + self.spare.len() + usize::from(!matches!(self.next, Next::None))
    }

    /// Files that hold groups which a checkpoint still needs, the current one included.
    pub fn used_files(&self) -> usize {
        self.old.len() + 1
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let idle: u64 = self.old.iter().chain(&self.spare).map(|file| file.bytes).sum();
        let next = match &self.next {
            Next::None => 0,
            Next::Filling(filling) => filling.target.bytes,
            Next::Ready(file) => file.bytes,
        };
        idle + next + self.current.bytes
    }

    /// Whether a group with frames of so many bytes would be taken: with the reserve left behind it.
    pub fn has_room(&self, bytes: u64) -> bool {
        let further = match self.next {
            Next::Ready(_) | Next::Filling(_) => true,
            Next::None => !self.spare.is_empty() || self.old.len() + 1 < self.options.files_max,
        };
        bytes + self.options.reserve_bytes <= self.room_in_current() || (further && self.fits(bytes))
    }

    /// Whether an empty file takes a group with frames of so many bytes. A larger one would wait for ever.
    pub fn fits(&self, bytes: u64) -> bool {
        bytes + self.options.reserve_bytes + GROUP_ALIGN + FIRST_GROUP_AT <= self.options.file_bytes
    }

    /// Does a slice of the work of making the next file ready: at most about `budget` bytes are written. True when there
    /// is nothing to do, or no file may be made now.
    ///
    /// # Errors
    /// The disk's, [`StorageError::Full`] among them: nothing is lost, call again.
    pub fn prepare(&mut self, budget: u64) -> Result<bool, StorageError> {
        let maker = Maker { disk: &self.disk, dir: &self.dir, cluster: self.cluster, shard: self.shard };
        match &mut self.next {
            Next::Ready(_) => return Ok(true),
            Next::Filling(filling) => {
                if !filling.fill(budget)? {
                    return Ok(false);
                }
                let Next::Filling(filling) = std::mem::replace(&mut self.next, Next::None) else {
                    unreachable!("just seen")
                };
                self.next = Next::Ready(maker.finish(filling)?);
            }
            Next::None => {
                let generation = self.current.generation + 1;
                if let Some(file) = self.spare.pop() {
                    self.next = Next::Ready(maker.recycle(file, generation)?);
                } else if self.old.len() + 1 < self.options.files_max {
                    self.next = Next::Filling(maker.begin(generation, self.options.file_bytes)?);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes one group and syncs it: durable when this returns. `commits` holds the commit index of each write's record.
    ///
    /// # Errors
    /// [`StorageError::JournalFull`], or the disk's while a file is made ready: nothing was written. Every other error
    /// leaves the group in doubt: the caller must not go on ([`GroupOutcome::InDoubt`]).
    pub fn append(&mut self, writes: &[ReplicaWrite], commits: &[dlog_core::LogIndex]) -> Result<u64, GroupFailure> {
        self.builder.clear();
        let mut has_frames = false;
        for (write, commit) in writes.iter().zip(commits) {
            self.builder.push(write, *commit);
            has_frames |= super::group::frames(std::slice::from_ref(write)).next().is_some();
        }
        let bytes = self.builder.bytes();
        let reserve = if has_frames { self.options.reserve_bytes } else { 0 };
        self.make_room(bytes, reserve).map_err(GroupFailure::NotWritten)?;
        let place = GroupPlace { position: self.position, number: self.last_number + 1, previous_crc: self.last_crc };
        let crc = self.builder.finish(self.context(), place, GroupKind::Group);
        let written = self.current.file.write_at(&self.builder.parts(writes), self.position);
        written.map_err(|error| GroupFailure::InDoubt(StorageError::io("write", &self.current.path, error)))?;
        let unsynced = mutants::is(Mutant::GroupUnsynced) || (mutants::is(Mutant::MustSyncIgnored) && !has_frames);
        let synced = if unsynced { Ok(()) } else { self.current.file.sync_data() };
        synced.map_err(|error| GroupFailure::InDoubt(StorageError::sync(&self.current.path, error)))?;
        self.position += bytes;
        self.last_number = place.number;
        self.last_crc = crc;
        self.sealed = false;
        self.assert_invariants();
        Ok(place.number)
    }

    /// Writes the proof that the last group's sync returned, unsynced; the next group overwrites it.
    ///
    /// # Errors
    /// The disk's; nothing depends on a seal, but the disk is in a bad state.
    pub fn seal(&mut self) -> Result<(), StorageError> {
        if self.sealed || mutants::is(Mutant::NoSeal) {
            return Ok(());
        }
        self.builder.clear();
        let place = GroupPlace { position: self.position, number: self.last_number, previous_crc: self.last_crc };
        self.builder.finish(self.context(), place, GroupKind::Seal);
        let written = self.current.file.write_at(&self.builder.parts(&[]), self.position);
        written.map_err(|error| StorageError::io("write", &self.current.path, error))?;
        self.sealed = true;
        Ok(())
    }

    /// Frees the files before `generation`: no checkpoint needs them.
    ///
    /// # Errors
    /// The disk's; the call may be repeated.
    pub fn recycle_before(&mut self, generation: u64) -> Result<(), StorageError> {
        let mut removed = false;
        while let Some(file) = self.old.first().copied().filter(|file| file.generation < generation) {
            if file.bytes == self.options.file_bytes && self.files() <= self.options.files_max {
                self.spare.push(file);
            } else {
                let path = format!("{}/{}", self.dir, file_name(file.generation));
                self.disk.remove(&path).map_err(|error| StorageError::io("remove", &path, error))?;
                removed = true;
            }
            self.old.remove(0);
        }
        if removed {
            self.disk.sync_dir(&self.dir).map_err(|error| StorageError::sync(&self.dir, error))?;
        }
        Ok(())
    }

    fn context(&self) -> GroupContext {
        GroupContext { cluster: self.cluster, shard: self.shard, generation: self.current.generation }
    }

    fn room_in_current(&self) -> u64 {
        self.current.bytes - GROUP_ALIGN - self.position
    }

    /// Finds a place for a group, so that behind it `reserve` bytes are left here or the next file is ready: groups without
    /// frames (votes) then go on whatever happens to the disk. Makes the next file ready if nobody did.
    fn make_room(&mut self, bytes: u64, reserve: u64) -> Result<(), StorageError> {
        if bytes + reserve <= self.room_in_current() {
            return Ok(());
        }
        while !self.prepare(u64::MAX)? {}
        if !matches!(self.next, Next::Ready(_)) {
            return Err(StorageError::JournalFull { needed: bytes });
        }
        if bytes <= self.room_in_current() {
            return Ok(());
        }
        if bytes + reserve + GROUP_ALIGN + FIRST_GROUP_AT > self.options.file_bytes {
            let detail = format!("a group of {bytes} bytes fits no journal file: make it smaller");
            return Err(StorageError::Invalid { detail });
        }
        let Next::Ready(next) = std::mem::replace(&mut self.next, Next::None) else { unreachable!("just seen") };
        let done = std::mem::replace(&mut self.current, next);
        self.old.push(IdleFile { generation: done.generation, bytes: done.bytes });
        self.position = FIRST_GROUP_AT;
        if mutants::is(Mutant::RecycledBeforeCheckpoint) {
            self.recycle_before(self.current.generation)?;
        }
        Ok(())
    }
}

/// How writing a group failed.
#[derive(Debug)]
pub enum GroupFailure {
    /// Nothing of it was written: the call may be repeated.
    NotWritten(StorageError),
    /// It may be durable or not, and no later group may be written: the process must end.
    InDoubt(StorageError),
}

/// Makes files ready.
struct Maker<'a, D> {
    disk: &'a D,
    dir: &'a str,
    cluster: ClusterId,
    shard: ShardId,
}

impl<D: Disk> Maker<'_, D> {
    fn path(&self, generation: u64) -> String {
        format!("{}/{}", self.dir, file_name(generation))
    }

    fn begin(&self, generation: u64, bytes: u64) -> Result<Filling<D::File>, StorageError> {
        let path = format!("{}.tmp", self.path(generation));
        match self.disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("remove", &path, error)),
        }
        let file = self.disk.create(&path).map_err(|error| StorageError::io("create", &path, error))?;
        Ok(Filling::new(JournalFile { generation, bytes, path, file }))
    }

    /// Names a filled file, durably: bytes first, then the name.
    fn finish(&self, filling: Filling<D::File>) -> Result<JournalFile<D::File>, StorageError> {
        let mut ready = filling.target;
        self.write_header(&ready)?;
        ready.file.sync_data().map_err(|error| StorageError::sync(&ready.path, error))?;
        let path = self.path(ready.generation);
        self.disk.rename(&ready.path, &path).map_err(|error| StorageError::io("rename", &ready.path, error))?;
        self.disk.sync_dir(self.dir).map_err(|error| StorageError::sync(self.dir, error))?;
        ready.path = path;
        Ok(ready)
    }

    /// Gives a file that nothing needs another generation: its old groups are of no meaning from then on.
    fn recycle(&self, old: IdleFile, generation: u64) -> Result<JournalFile<D::File>, StorageError> {
        let (from, path) = (self.path(old.generation), self.path(generation));
        self.disk.rename(&from, &path).map_err(|error| StorageError::io("rename", &from, error))?;
        self.disk.sync_dir(self.dir).map_err(|error| StorageError::sync(self.dir, error))?;
        let file = self.disk.open(&path).map_err(|error| StorageError::io("open", &path, error))?;
        let ready = JournalFile { generation, bytes: old.bytes, path, file };
        self.write_header(&ready)?;
        // A start knows by it, until the first group stands there, that the file is the one that a checkpoint names.
        ready.file.sync_data().map_err(|error| StorageError::sync(&ready.path, error))?;
        Ok(ready)
    }

    fn write_header(&self, file: &JournalFile<D::File>) -> Result<(), StorageError> {
        let header = encode_header(self.cluster, self.shard, file.generation, file.bytes);
        file.file.write_at(&[&header], 0).map_err(|error| StorageError::io("write", &file.path, error))
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
