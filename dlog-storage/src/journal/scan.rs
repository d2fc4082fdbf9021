//! Reads a journal back: which groups are valid, where it ends, and whether that end is torn or corrupt.
//!
//! Fault model: a 512-byte sector is old or new. A group is written only after its predecessor's sync returned, and a seal
//! only after its group's. So behind a bad group, the following proves that it was synced once, hence corrupt:
//! a later group by number, in its file or a later one; a seal of it or of a later one; a frame in it at or below a
//! commit index that an earlier group or the checkpoint holds. Without any of these it is torn: its sync never returned.

use super::file::{FIRST_GROUP_AT, HeaderRead, file_name, read_header, read_whole};
use super::format::{GROUP_ALIGN, GroupKind};
use super::group::{GroupContext, GroupCopy, damaged_payload, frames};
use super::set::JournalPosition;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::ClusterId;
use bytes::Bytes;
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::ReplicaWrite;
use dlog_core::{LogIndex, ReplicaId, ShardId};
use std::collections::BTreeMap;

/// Where one valid group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAt {
    /// Of its file.
    pub generation: u64,
    /// In the file.
    pub position: u64,
    /// Its size.
    pub bytes: u64,
    /// Its number.
    pub number: u64,
}

/// A journal as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalScan {
    /// The valid groups behind the checkpoint, in order.
    pub groups: Vec<GroupAt>,
    /// Behind the last valid group.
    pub end: JournalPosition,
    /// A torn group was found behind the end (for the log; it was never acknowledged).
    pub torn: bool,
}

/// What is looked for next, and what is known so far.
struct Scanner<'a, D> {
    disk: &'a D,
    dir: &'a str,
    cluster: ClusterId,
    shard: ShardId,
    scan: JournalScan,
    commits: BTreeMap<ReplicaId, LogIndex>,
    visit: &'a mut dyn FnMut(GroupAt, &[ReplicaWrite]),
}

/// Why a file's chain ends at `position`.
struct ChainEnd {
    position: u64,
    /// The group that should stand there, if a copy of its table is good.
    bad: Option<GroupCopy>,
    /// The first frame whose payload is damaged.
    damage: Option<String>,
}

/// Reads the journal in `dir` from `start` on. `files` are the generations there from `start`'s on, rising; `commits` what
/// the checkpoint holds. `visit` sees each valid group in order.
///
/// # Errors
/// [`StorageError::Corrupt`] names file and position of a group that was synced and can't be read; nothing was changed.
pub fn scan_journal<D: Disk>(
    disk: &D,
    dir: &str,
    (cluster, shard): (ClusterId, ShardId),
    start: JournalPosition,
    files: &[u64],
    commits: BTreeMap<ReplicaId, LogIndex>,
    visit: &mut dyn FnMut(GroupAt, &[ReplicaWrite]),
) -> Result<JournalScan, StorageError> {
    let scan = JournalScan { groups: Vec::new(), end: start, torn: false };
    let mut scanner = Scanner { disk, dir, cluster, shard, scan, commits, visit };
    scanner.run(files)?;
    Ok(scanner.scan)
}

impl<D: Disk> Scanner<'_, D> {
    /// Follows the chain from file to file. Where it stops in one file, it may go on only at the front of a later one; all
    /// stops that turn out to be the last are looked at again with nothing valid behind them.
    fn run(&mut self, files: &[u64]) -> Result<(), StorageError> {
        if files.first() != Some(&self.scan.end.generation) {
            let path = self.path(self.scan.end.generation);
            return Err(StorageError::corrupt(&path, 0, "the file is missing though the checkpoint needs it"));
        }
        let mut stops: Vec<(u64, ChainEnd)> = Vec::new();
        for generation in files.iter().copied() {
            let bytes = read_whole(self.disk, &self.path(generation))?;
            self.refuse_partial(generation, &bytes)?;
            let first = generation == self.scan.end.generation && self.scan.groups.is_empty();
            let from = if first { self.scan.end.position } else { FIRST_GROUP_AT };
            let before = self.scan.end.number;
            let stop = self.follow(generation, &bytes, from)?;
            if self.scan.end.number > before {
                stops.clear();
            } else if !first {
                self.refuse_proof(generation, &bytes, FIRST_GROUP_AT, &stops)?;
            }
            self.refuse_proof_behind(generation, &bytes, &stop)?;
            stops.push((generation, stop));
        }
        for (generation, stop) in &stops {
            if !mutants::is(Mutant::BadGroupDropped) {
                self.refuse_committed(*generation, stop)?;
            }
            self.scan.torn |= stop.bad.is_some();
        }
        Ok(())
    }

    /// A file has its whole length before it has its name. Of the one that the checkpoint names more is known: it was used, or made
    /// ready, so its header or some group says that it is that file.
    fn refuse_partial(&self, generation: u64, bytes: &Bytes) -> Result<(), StorageError> {
        let path = self.path(generation);
        let have = bytes.len() as u64;
        let header = match read_header(bytes) {
            HeaderRead::Good(header) if header.bytes != have => {
                let what = format!("the file has {have} bytes, its header says {}: {ADVICE}", header.bytes);
                return Err(StorageError::corrupt(&path, have.min(header.bytes), what));
            }
            HeaderRead::Good(header) => Some(header),
            HeaderRead::OtherVersion(_) | HeaderRead::Bad => None,
        };
        let named = generation == self.scan.end.generation && self.scan.groups.is_empty();
        let is_it = header.is_some_and(|header| header.generation == generation)
            || blocks(FIRST_GROUP_AT, bytes)
                .any(|at| self.copies_in(generation, bytes, at).iter().any(Option::is_some));
        if have < FIRST_GROUP_AT + GROUP_ALIGN || (named && !is_it && !mutants::is(Mutant::BadGroupDropped)) {
            let what = format!("neither a header nor a group says that this is the file of this name: {ADVICE}");
            return Err(StorageError::corrupt(&path, 0, what));
        }
        Ok(())
    }

    fn path(&self, generation: u64) -> String {
        format!("{}/{}", self.dir, file_name(generation))
    }

    fn context(&self, generation: u64) -> GroupContext {
        GroupContext { cluster: self.cluster, shard: self.shard, generation }
    }

    /// Takes valid groups from `from` on until there is none.
    fn follow(&mut self, generation: u64, bytes: &Bytes, from: u64) -> Result<ChainEnd, StorageError> {
        let mut position = from;
        loop {
            let Some(copy) = self.expected(generation, bytes, position) else {
                if let Some(version) = GroupCopy::other_version_at(self.context(generation), bytes, position) {
                    let detail = format!(
                        "at byte {position} stands a group of version {version}, which this dlog doesn't know; nothing was \
                         changed: use the dlog that wrote it"
                    );
                    return Err(StorageError::NeedsOperator { path: self.path(generation), detail });
                }
                return Ok(ChainEnd { position, bad: None, damage: None });
            };
            let writes =
                copy.writes(bytes).map_err(|what| StorageError::corrupt(&self.path(generation), position, what))?;
            if let Some(damage) = damaged_payload(&writes) {
                let damage =
                    format!("frame {} of replica {} does not match its checksum", damage.index, damage.replica);
                return Ok(ChainEnd { position, bad: Some(copy), damage: Some(damage) });
            }
            if mutants::is(Mutant::UnprovedGroupDropped) && !self.is_followed(generation, bytes, &copy) {
                return Ok(ChainEnd { position, bad: None, damage: None });
            }
            self.take(generation, &copy, &writes);
            position = copy.end();
        }
    }

    fn take(&mut self, generation: u64, copy: &GroupCopy, writes: &[ReplicaWrite]) {
        for write in writes {
            let commit = self.commits.entry(write.replica).or_default();
            *commit = (*commit).max(write.commit);
        }
        let (position, bytes, number) = (copy.header.position, copy.header.bytes, copy.header.number);
        let at = GroupAt { generation, position, bytes, number };
        (self.visit)(at, writes);
        self.scan.groups.push(at);
        self.scan.end = JournalPosition { generation, position: copy.end(), number, crc: copy.crc };
    }

    /// A good copy of the next group of the chain at `position`: the one at its head, else the one at its end.
    fn expected(&self, generation: u64, bytes: &Bytes, position: u64) -> Option<GroupCopy> {
        let context = self.context(generation);
        let end = self.scan.end;
        let fits = |copy: &GroupCopy| {
            copy.header.kind == GroupKind::Group
                && copy.header.position == position
                && copy.header.number == end.number + 1
                && copy.header.previous_crc == end.crc
                && copy.end() <= bytes.len() as u64
        };
        if let Some(copy) = GroupCopy::at_head(context, bytes, position).filter(fits) {
            return Some(copy);
        }
        blocks(position, bytes).find_map(|at| GroupCopy::at_tail(context, bytes, at + GROUP_ALIGN).filter(fits))
    }

    /// Proof behind a stop, in its own file.
    fn refuse_proof_behind(&self, generation: u64, bytes: &Bytes, stop: &ChainEnd) -> Result<(), StorageError> {
        let expected = self.scan.end.number + 1;
        for at in blocks(stop.position, bytes) {
            let copies = self.copies_in(generation, bytes, at);
            if mutants::is(Mutant::BadGroupDropped) {
                break;
            }
            if let Some(proof) = copies.into_iter().flatten().find(|copy| proves(copy, expected)) {
                return Err(self.corrupt(generation, stop, &proof));
            }
        }
        Ok(())
    }

    /// Whether a seal or another group stands right behind this one.
    fn is_followed(&self, generation: u64, bytes: &Bytes, group: &GroupCopy) -> bool {
        let behind = blocks(group.end(), bytes).next().map(|at| self.copies_in(generation, bytes, at));
        behind.into_iter().flatten().flatten().any(|copy| proves(&copy, group.header.number))
    }

    /// Proof in a file whose front does not go on with the chain.
    fn refuse_proof(
        &self,
        generation: u64,
        bytes: &Bytes,
        from: u64,
        stops: &[(u64, ChainEnd)],
    ) -> Result<(), StorageError> {
        let Some((stopped_in, stop)) = stops.last().filter(|_| !mutants::is(Mutant::BadGroupDropped)) else {
            return Ok(());
        };
        let expected = self.scan.end.number + 1;
        for at in blocks(from, bytes) {
            for copy in self.copies_in(generation, bytes, at).into_iter().flatten() {
                // The same number with another predecessor, whole: the chain went on from a group that can't be read.
                let other_chain = copy.header.kind == GroupKind::Group
                    && copy.header.number == expected
                    && copy.header.previous_crc != self.scan.end.crc;
                if proves(&copy, expected) || other_chain {
                    return Err(self.corrupt(*stopped_in, stop, &copy));
                }
            }
        }
        Ok(())
    }

    fn copies_in(&self, generation: u64, bytes: &Bytes, at: u64) -> [Option<GroupCopy>; 2] {
        let context = self.context(generation);
        [GroupCopy::at_head(context, bytes, at), GroupCopy::at_tail(context, bytes, at + GROUP_ALIGN)]
    }

    /// A frame in a bad group that is known to be committed was acknowledged by this replica, so its sync had returned.
    fn refuse_committed(&self, generation: u64, stop: &ChainEnd) -> Result<(), StorageError> {
        let Some(copy) = &stop.bad else { return Ok(()) };
        let path = self.path(generation);
        let bytes = read_whole(self.disk, &path)?;
        let writes = copy.writes(&bytes).map_err(|what| StorageError::corrupt(&path, stop.position, what))?;
        for write in &writes {
            let commit = self.commits.get(&write.replica).copied().unwrap_or_default();
            let committed = frames(std::slice::from_ref(write)).find(|frame| frame.index <= commit);
            if let Some(frame) = committed {
                let damage = stop.damage.as_deref().unwrap_or("it can't be read");
                let what = format!(
                    "group {} is damaged ({damage}) and holds frame {} of replica {}, committed up to {commit}: {ADVICE}",
                    copy.header.number, frame.index, write.replica
                );
                return Err(StorageError::corrupt(&path, stop.position, what));
            }
        }
        Ok(())
    }

    fn corrupt(&self, generation: u64, stop: &ChainEnd, proof: &GroupCopy) -> StorageError {
        let kind = match proof.header.kind {
            GroupKind::Group => "group",
            GroupKind::Seal => "the seal of group",
        };
        let damage = stop.damage.as_deref().unwrap_or("no copy of its header is good");
        let what = format!(
            "group {} can't be read ({damage}), yet {kind} {} behind it proves that it was synced: {ADVICE}",
            self.scan.end.number + 1,
            proof.header.number
        );
        StorageError::corrupt(&self.path(generation), stop.position, what)
    }
}

const ADVICE: &str = "nothing was changed; do not delete it, rebuild this node's replicas from their peers";

/// Whether a copy proves that the group `expected` was synced.
fn proves(copy: &GroupCopy, expected: u64) -> bool {
    match copy.header.kind {
        GroupKind::Group => copy.header.number > expected,
        GroupKind::Seal => copy.header.number >= expected,
    }
}

/// Starts of the whole blocks of a file from `from` on.
fn blocks(from: u64, bytes: &Bytes) -> impl Iterator<Item = u64> {
    let end = bytes.len() as u64;
    (0..).map(move |block| from + block * GROUP_ALIGN).take_while(move |at| at + GROUP_ALIGN <= end)
}
