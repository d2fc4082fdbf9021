//! What a start makes of a shard's files. Every state of the disk is one row here, each with a test of the same name in
//! `recovery_tests.rs`:
//!
//! | # | state | decision |
//! |---|---|---|
//! | 1 | no checkpoint, no journal group, no log | fresh: an empty shard is made (also when an earlier making was interrupted) |
//! | 2 | no checkpoint, but groups or logs | refused: never taken for empty |
//! | 3 | both checkpoints bad, or the only one | refused |
//! | 4 | one checkpoint bad, the other good | replay from the good one; the first new checkpoint replaces the bad one |
//! | 5 | both good | replay from the newer; the first new checkpoint replaces the newer |
//! | 6 | the journal file that the checkpoint names is missing | corrupt, refused |
//! | 7 | no group behind the last valid one | clean end |
//! | 8 | a group is bad, nothing proves that it was synced | torn: dropped, it was never acknowledged |
//! | 9 | a group is bad, a later group by number stands behind it, in its file or a later one | corrupt, refused |
//! | 10 | a group is bad, a seal of it stands behind it | corrupt, refused |
//! | 11 | a group is bad, it holds a frame that is committed by an earlier record | corrupt, refused |
//! | 12 | one copy of a group's table is bad, the other and all payloads good | valid |
//! | 13 | a torn group, then a file whose first group goes on with the chain | valid: an earlier start dropped the torn one |
//! | 14 | the folder of a replica that neither checkpoint nor journal names | set aside, never deleted |
//! | 15 | the files of a replica that the journal deletes | removed, gone or not |
//! | 16 | a segment that the checkpoint names is missing or short, and no later cut or reset explains it | told as damage of that replica, below the log start too: retention removes a file only once no checkpoint names it |
//! | 17 | frames behind the checkpoint | written again into segments, whatever stands there |
//! | 18 | files of the journal that no checkpoint needs | used again |
//! | 19 | a segment from before the local start, which the checkpoint doesn't name | left, then removed once both checkpoints are new |
//! | 20 | a producer file that the newest name for one (journal, then checkpoint) means | given with its label, also above the last frame |
//! | 21 | that file is missing or damaged | the one before that a checkpoint names, if not from before the local start; none, if the log begins at 1; else told as damage of that replica |
//! | 22 | a producer file that nothing names | never read: its snapshot's install isn't durable |
//! | 23 | a journal file has another length than its header says, or the one that the checkpoint names has neither its header nor a group of its own | corrupt, refused: a file has its length, and the named one its header, before it is used |
//! | 24 | a checkpoint, journal file, group or segment is of another format version, whole | refused, nothing changed: the error says to use the dlog that wrote it (an ended segment: when it is read) |
//! | 25 | a journal file of another cluster or shard | refused, nothing changed: never used again |
//! | 26 | files beside ours: in the shard's folder, the journal's, a replica's | left alone; among the logs they are set aside as row 14 |
//! | 27 | a segment that goes on is longer than the checkpoint says | no part of the log: written over, and what is left cut off |
//! | 28 | damage below the checkpoint that a start doesn't read: a frame, the end or the header of an ended segment | told when it is read, never served, never dropped: a start reads no data |
//! | 29 | an index or the note of a clean stop is missing or damaged | made anew; taken for none |
//! | 30 | the making or recycling of a journal file was interrupted | begun anew; what an unneeded file of another length has is removed |
//!
//! Crashes in the middle of a roll (rows 14, 17), a cut or reset (16, 17, 19), a create or delete (14, 15) leave nothing else.
//! `recovery_walk_tests.rs` goes through every cut point of all these, with each loss of what was not synced and single faults on top.
//!
//! What no start can notice: the last group, if nothing proves it (row 8), and a newest journal file that is gone as a whole before
//! a checkpoint begins there. Peers refuse a node that recovered less than it had told ([`BootTable`](crate::BootTable)).
//!
//! Order: the last group is written again, and all are synced, before anything is removed because of them. Nothing of what
//! was found counts as persisted before all frames behind the checkpoint are written again and synced, a fresh journal file
//! is made, and a checkpoint is written that begins there.

mod files;
mod net;
mod replay;

use crate::aside;
use crate::checkpoint::{Checkpoint, Slot, SlotState, read_slot};
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::file::{FIRST_GROUP_AT, file_name, generation_of, read_whole};
use crate::journal::{GroupAt, Journal, JournalOptions, JournalPosition, JournalScan, JournalStart, scan_journal};
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::ReplicaWrite;
use dlog_core::{LogIndex, ReplicaId, ShardId};
use net::Nets;
use replay::replay;
pub(crate) use replay::{LogMaker, Replayed};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// Where a shard's files stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardPaths {
    /// The shard's folder.
    pub dir: String,
    /// Of the journal.
    pub journal: String,
    /// Of all logs.
    pub logs: String,
}

impl ShardPaths {
    /// The folder `shard-<n>` below `root` (empty: the disk's own root).
    pub fn new(root: &str, shard: ShardId) -> ShardPaths {
        let dir = if root.is_empty() { format!("shard-{shard}") } else { format!("{root}/shard-{shard}") };
        ShardPaths::of_dir(&dir)
    }

    fn of_dir(dir: &str) -> ShardPaths {
        ShardPaths { dir: dir.to_string(), journal: format!("{dir}/journal"), logs: format!("{dir}/logs") }
    }

    /// The folder of one log.
    pub fn log(&self, log: dlog_core::LogId) -> String {
        format!("{}/{}", self.logs, log.0)
    }

    /// The folder of one replica.
    pub fn replica(&self, log: dlog_core::LogId, replica: ReplicaId) -> String {
        format!("{}/{}/{}", self.logs, log.0, replica.0)
    }
}

/// What of the two checkpoints matters from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Sequence and journal generation of the good checkpoint in each slot.
    pub a: Option<(u64, u64)>,
    /// As `a`.
    pub b: Option<(u64, u64)>,
}

impl Slots {
    /// What is known of a slot.
    pub fn get(&self, slot: Slot) -> Option<(u64, u64)> {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// Notes a new checkpoint.
    pub fn set(&mut self, slot: Slot, sequence: u64, generation: u64) {
        match slot {
            Slot::A => self.a = Some((sequence, generation)),
            Slot::B => self.b = Some((sequence, generation)),
        }
    }

    /// The slot with the newest good checkpoint.
    pub fn newest(&self) -> Slot {
        if self.a.map(|(sequence, _)| sequence) >= self.b.map(|(sequence, _)| sequence) { Slot::A } else { Slot::B }
    }

    /// Where the next checkpoint goes: over a bad or missing one, else over the older, but for the first after a start,
    /// which replaces the newer: what a start read may never have reached the disk, the older one surely did.
    pub fn target(&self, first: bool) -> Slot {
        match (self.a, self.b) {
            (None, _) => Slot::A,
            (_, None) => Slot::B,
            _ if first => self.newest(),
            _ => self.newest().other(),
        }
    }

    /// Journal files before this generation are needed by no checkpoint.
    pub fn needed_from(&self) -> u64 {
        let generations = [self.a, self.b].into_iter().flatten().map(|(_, generation)| generation);
        let needed = if mutants::is(Mutant::RecycledTooSoon) { generations.max() } else { generations.min() };
        needed.unwrap_or(0)
    }
}

/// A shard's files as found, nothing changed yet.
struct Found {
    checkpoint: Checkpoint,
    /// Labels of the producer files that the other checkpoint names.
    other_producers: BTreeMap<ReplicaId, LogIndex>,
    slots: Slots,
    /// Generations in the journal's folder, rising.
    files: Vec<u64>,
}

enum Look {
    Fresh { leftovers: Vec<u64> },
    Used(Box<Found>),
}

/// A shard that is ready to go on.
pub(crate) struct Recovered<D: Disk> {
    pub journal: Journal<D>,
    pub slots: Slots,
    pub checkpoint: Checkpoint,
    /// Labels of the producer files that the other checkpoint names.
    pub other_producers: BTreeMap<ReplicaId, LogIndex>,
    pub replayed: Replayed<D>,
    pub fresh: bool,
    pub torn: bool,
}

/// What [`inspect_shard`] saw.
#[derive(Clone, Debug)]
pub struct ShardPicture {
    /// The newest good checkpoint; `None` of a shard that was never used.
    pub checkpoint: Option<Checkpoint>,
    /// All writes behind it, in order.
    pub writes: Vec<ReplicaWrite>,
    /// A torn group stands at the end (no damage: it was never acknowledged).
    pub torn: bool,
    /// What is damaged in checkpoints and journal.
    pub damage: Vec<StorageError>,
}

/// Reads a shard's checkpoints and journal without writing anything. Of a node that runs, the picture may be torn: ask again.
///
/// # Errors
/// The disk's, and [`StorageError::NeedsOperator`] where a start would refuse for the same reason.
pub fn inspect_shard<D: Disk>(
    disk: &D,
    shard_dir: &str,
    identity: (ClusterId, ShardId),
) -> Result<ShardPicture, StorageError> {
    let paths = ShardPaths::of_dir(shard_dir);
    let mut damage = Vec::new();
    for slot in [Slot::A, Slot::B] {
        if let SlotState::Bad(why) = read_slot(disk, &paths.dir, slot, identity)? {
            damage.push(StorageError::corrupt(&format!("{shard_dir}/{}", slot.name()), 0, why));
        }
    }
    let found = match look(disk, &paths, identity)? {
        Look::Fresh { .. } => return Ok(ShardPicture { checkpoint: None, writes: Vec::new(), torn: false, damage }),
        Look::Used(found) => *found,
    };
    let mut writes = Vec::new();
    let scan = scan(disk, &paths, identity, &found, &mut |_, group| writes.extend_from_slice(group));
    let torn = match scan {
        Ok(scan) => scan.torn,
        Err(error @ StorageError::Corrupt { .. }) => {
            damage.push(error);
            false
        }
        Err(error) => return Err(error),
    };
    Ok(ShardPicture { checkpoint: Some(found.checkpoint), writes, torn, damage })
}

/// Rows 1 to 5 and 24.
fn look<D: Disk>(disk: &D, paths: &ShardPaths, identity: (ClusterId, ShardId)) -> Result<Look, StorageError> {
    let a = read_slot(disk, &paths.dir, Slot::A, identity)?;
    let b = read_slot(disk, &paths.dir, Slot::B, identity)?;
    let files: Vec<u64> = list(disk, &paths.journal)?.iter().filter_map(|name| generation_of(name)).collect();
    let known = |state: &SlotState| match state {
        SlotState::Good(checkpoint) => Some((checkpoint.sequence, checkpoint.position.generation)),
        _ => None,
    };
    for (slot, state) in [(Slot::A, &a), (Slot::B, &b)] {
        if let SlotState::Unknown(why) = state {
            let detail = format!("{why} to this dlog; nothing was changed: use the dlog that wrote it");
            return Err(StorageError::NeedsOperator { path: format!("{}/{}", paths.dir, slot.name()), detail });
        }
    }
    let slots = Slots { a: known(&a), b: known(&b) };
    let newest = slots.newest();
    match (a, b) {
        (SlotState::Missing, SlotState::Missing) => {
            refuse_used(disk, paths, &files)?;
            Ok(Look::Fresh { leftovers: files })
        }
        (SlotState::Good(a), SlotState::Good(b)) => {
            let (checkpoint, other) = if newest == Slot::A { (*a, *b) } else { (*b, *a) };
            let labels = other.replicas.iter().filter_map(|replica| Some((replica.replica, replica.producers?)));
            Ok(Look::Used(Box::new(Found { checkpoint, other_producers: labels.collect(), slots, files })))
        }
        (SlotState::Good(good), other) | (other, SlotState::Good(good)) => {
            if let SlotState::Bad(why) = other {
                tracing::warn!(dir = %paths.dir, %why, "one checkpoint is damaged, the other is used");
            }
            let other_producers = BTreeMap::new();
            Ok(Look::Used(Box::new(Found { checkpoint: *good, other_producers, slots, files })))
        }
        (a, b) => {
            let why = [a, b].into_iter().filter_map(|state| match state {
                SlotState::Bad(why) => Some(why),
                _ => None,
            });
            let why: Vec<String> = why.collect();
            let detail = format!(
                "no checkpoint can be read ({}): this directory is not empty and is not started as if it were; restore \
                 it, or replace this node by a new one",
                why.join("; ")
            );
            Err(StorageError::NeedsOperator { path: paths.dir.clone(), detail })
        }
    }
}

/// Without a checkpoint nothing can ever have been acknowledged, so anything but zeros is a sign of lost checkpoints.
fn refuse_used<D: Disk>(disk: &D, paths: &ShardPaths, files: &[u64]) -> Result<(), StorageError> {
    let mut used = !list(disk, &paths.logs)?.is_empty();
    for generation in files {
        let bytes = read_whole(disk, &format!("{}/{}", paths.journal, file_name(*generation)))?;
        used |= bytes.iter().skip(FIRST_GROUP_AT as usize).any(|byte| *byte != 0);
    }
    if used {
        let detail = "there is data but no checkpoint: it is not taken for empty; restore the files checkpoint-a and \
                      checkpoint-b, or replace this node by a new one";
        return Err(StorageError::NeedsOperator { path: paths.dir.clone(), detail: detail.to_string() });
    }
    Ok(())
}

/// Rows 6 to 13, 23 and 24.
fn scan<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    identity: (ClusterId, ShardId),
    found: &Found,
    visit: &mut dyn FnMut(GroupAt, &[ReplicaWrite]),
) -> Result<JournalScan, StorageError> {
    files::refuse_foreign(disk, paths, identity, &found.files)?;
    let start = found.checkpoint.position;
    let files: Vec<u64> = found.files.iter().copied().filter(|file| *file >= start.generation).collect();
    let commits: BTreeMap<ReplicaId, LogIndex> =
        found.checkpoint.replicas.iter().map(|replica| (replica.replica, replica.commit)).collect();
    scan_journal(disk, &paths.journal, identity, start, &files, commits, visit)
}

/// Brings a shard's files into a state to go on from; see the table above. The caller writes the checkpoint.
///
/// # Errors
/// [`StorageError::NeedsOperator`] and [`StorageError::Corrupt`] refuse the start with nothing lost; else the disk's.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    identity: (ClusterId, ShardId),
    options: JournalOptions,
    make: &LogMaker,
) -> Result<Recovered<D>, StorageError> {
    for dir in [&paths.journal, &paths.logs] {
        disk.create_dir(dir).map_err(|error| StorageError::io("create", dir, error))?;
    }
    sync_up(disk, &paths.dir)?;
    let found = match look(disk, paths, identity)? {
        Look::Fresh { leftovers } => return create(disk, paths, identity, options, &leftovers),
        Look::Used(found) => *found,
    };
    let mut nets = Nets::new(&found.checkpoint);
    let scan = scan(disk, paths, identity, &found, &mut |_, writes| nets.take(writes))?;
    if scan.torn {
        tracing::info!(dir = %paths.dir, group = scan.end.number + 1, "a torn group was dropped, it was never acknowledged");
    }
    // What was read may only stand in the system's cache, after a crash of the process alone. If that crash was a sync that
    // failed, no later sync would write its group: it is written again before anything is removed because of it.
    if let Some(last) = scan.groups.last() {
        write_again(disk, paths, last)?;
    }
    for file in found.files.iter().filter(|file| **file <= scan.end.generation) {
        sync_file(disk, &format!("{}/{}", paths.journal, file_name(*file)))?;
    }
    files::set_unknown_aside(disk, paths, &found.checkpoint, &nets)?;
    let replayed = replay(disk, paths, identity, &found.checkpoint, &scan, &nets, make)?;
    let needed = found.slots.needed_from();
    let generation = found.files.last().map_or(scan.end.generation, |last| *last) + 1;
    let is_needed = |file: u64| needed <= file && file <= scan.end.generation;
    let (old, spare) = files::sort(disk, paths, &found.files, is_needed, options.file_bytes)?;
    let (last_number, last_crc) = (scan.end.number, scan.end.crc);
    let start = JournalStart { old, spare, generation, last_number, last_crc, first: false };
    let journal = Journal::start(disk.clone(), &paths.journal, identity.0, identity.1, options, start)?;
    let Found { checkpoint, other_producers, slots, .. } = found;
    Ok(Recovered { journal, slots, checkpoint, other_producers, replayed, fresh: false, torn: scan.torn })
}

fn create<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    (cluster, shard): (ClusterId, ShardId),
    options: JournalOptions,
    leftovers: &[u64],
) -> Result<Recovered<D>, StorageError> {
    for file in leftovers {
        aside::remove_if_there(disk, &format!("{}/{}", paths.journal, file_name(*file)))?;
    }
    let start =
        JournalStart { old: Vec::new(), spare: Vec::new(), generation: 1, last_number: 0, last_crc: 0, first: true };
    let journal = Journal::start(disk.clone(), &paths.journal, cluster, shard, options, start)?;
    let position = JournalPosition { generation: 1, position: FIRST_GROUP_AT, number: 0, crc: 0 };
    let checkpoint = Checkpoint { sequence: 0, position, replicas: Vec::new(), marks: BTreeMap::new() };
    let slots = Slots { a: None, b: None };
    let (other_producers, replayed) = (BTreeMap::new(), Replayed::default());
    Ok(Recovered { journal, slots, checkpoint, other_producers, replayed, fresh: true, torn: false })
}

/// Only the last group can be of a failed sync: the process ended there.
fn write_again<D: Disk>(disk: &D, paths: &ShardPaths, group: &GroupAt) -> Result<(), StorageError> {
    let path = format!("{}/{}", paths.journal, file_name(group.generation));
    let file = disk.open(&path).map_err(|error| StorageError::io("open", &path, error))?;
    let mut bytes = vec![0; group.bytes as usize];
    let read = file.read_at(&mut bytes, group.position).map_err(|error| StorageError::io("read", &path, error))?;
    if read < bytes.len() {
        return Err(StorageError::corrupt(&path, group.position, "a group changed while it was read"));
    }
    file.write_at(&[&bytes], group.position).map_err(|error| StorageError::io("write", &path, error))
}

fn sync_file<D: Disk>(disk: &D, path: &str) -> Result<(), StorageError> {
    let file = disk.open(path).map_err(|error| StorageError::io("open", path, error))?;
    file.sync_data().map_err(|error| StorageError::sync(path, error))
}

/// Makes the names on the way to a folder durable, and those in it.
fn sync_up<D: Disk>(disk: &D, dir: &str) -> Result<(), StorageError> {
    let mut dir = dir;
    loop {
        disk.sync_dir(dir).map_err(|error| StorageError::sync(dir, error))?;
        if dir.is_empty() {
            return Ok(());
        }
        dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

/// The names in a folder; none if it is missing.
fn list<D: Disk>(disk: &D, dir: &str) -> Result<Vec<String>, StorageError> {
    match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|error| StorageError::io("list", dir, error)),
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "recovery_walk_tests.rs"]
mod walk_tests;
