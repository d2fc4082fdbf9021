//! What may decay: the files of a disk by their kind, and of the journal's files what is proved.

use dlog_storage::inspect;
use dlog_storage::journal::GroupAt;
use dlog_storage::journal::format::GROUP_ALIGN;
use dlog_storage::{ShardIdentity, SimDisk};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A kind of file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file of the shard's journal.
    Journal,
    /// One of its two checkpoints.
    Checkpoint,
    /// A segment of a log.
    Segment,
    /// The index beside one.
    Index,
    /// A table of producers.
    Producers,
    /// Any other: the note of a clean stop, a file on its way to its name, identity and boots.
    Other,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Journal, Kind::Checkpoint, Kind::Segment, Kind::Index, Kind::Producers, Kind::Other];

    fn of(path: &str) -> Kind {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name {
            "checkpoint-a" | "checkpoint-b" => Kind::Checkpoint,
            _ if name.ends_with(".journal") => Kind::Journal,
            _ if name.ends_with(".segment") => Kind::Segment,
            _ if name.ends_with(".index") => Kind::Index,
            _ if name.ends_with(".producers") => Kind::Producers,
            _ => Kind::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// How far damage of the journal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To what a later group or seal proves, which stays whole.
    Proved,
    /// To the last group too, but not behind it: for who knows that the store rested, so that it must have proved that group.
    Rested,
    /// To segments alone: what is lost of them others have.
    Segments,
}

/// By kind, each file with the ranges that may be damaged. Nobody reads what was set aside.
pub(super) type Files = BTreeMap<Kind, Vec<(String, Vec<Range<u64>>)>>;

/// The files that may be damaged.
pub(super) fn list(disk: &SimDisk, shard: ShardIdentity, reach: Reach, random: &mut fastrand::Rng) -> Files {
    let journal = format!("shard-{}/journal/", shard.shard);
    let tree = disk.tree().into_iter().filter_map(|(path, bytes)| Some((path, bytes.filter(|bytes| *bytes > 0)?)));
    let all: Vec<(String, u64)> =
        tree.filter(|(path, _)| !path.contains("/aside/") && !path.ends_with("/ballast")).collect();
    let groups = groups(
        disk,
        shard,
        all.iter().map(|(path, _)| path).filter(|path| path.starts_with(&journal) && Kind::of(path) == Kind::Journal),
    );
    let kept = groups.as_ref().map(|groups| kept(disk, groups, reach, random));
    // Among all that a journal holds it would seldom be met.
    let last = groups.iter().flatten().last().filter(|_| reach == Reach::Rested && random.bool()).map(place);
    let mut files = Files::new();
    for (path, bytes) in all {
        let kind = Kind::of(&path);
        // Where the journal is damaged already, what proves what isn't known; nor of another shard's.
        if kind == Kind::Journal && (kept.is_none() || !path.starts_with(&journal)) {
            continue;
        }
        let mut ranges: Vec<Range<u64>> = match &last {
            Some((of, range)) if kind == Kind::Journal => (*of == path).then(|| range.clone()).into_iter().collect(),
            _ => std::iter::once(0..bytes).collect(),
        };
        for (_, kept) in kept.iter().flatten().filter(|(of, _)| *of == path) {
            ranges = ranges.into_iter().flat_map(|range| without(range, kept)).collect();
        }
        if !ranges.is_empty() {
            files.entry(kind).or_default().push((path, ranges));
        }
    }
    if reach == Reach::Segments {
        files.retain(|kind, _| *kind == Kind::Segment);
    }
    files
}

/// A group with its file, and whether a seal stands behind it.
struct Group {
    path: String,
    at: GroupAt,
    sealed: bool,
}

/// All groups of the journal, by number; `None` if one is damaged.
fn groups<'a>(disk: &SimDisk, shard: ShardIdentity, paths: impl Iterator<Item = &'a String>) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    for path in paths {
        let mut in_file: Vec<Group> = Vec::new();
        let mut visit = |at, _: &[_]| in_file.push(Group { path: path.clone(), at, sealed: false });
        let report = inspect::journal(disk, path, shard.shard, Some(shard.cluster), &mut visit);
        let report = report.expect("the power is back");
        if !report.damage.is_empty() {
            return None;
        }
        if let Some(last) = in_file.last_mut() {
            last.sealed = report.sealed;
        }
        groups.append(&mut in_file);
    }
    groups.sort_by_key(|group| (group.at.number, group.at.generation));
    Some(groups)
}

/// Where a group stands.
fn place(group: &Group) -> (String, Range<u64>) {
    (group.path.clone(), group.at.position..group.at.position + group.at.bytes)
}

/// Where its seal does, or would.
fn seal(group: &Group) -> (String, Range<u64>) {
    let end = group.at.position + group.at.bytes;
    (group.path.clone(), end..end + GROUP_ALIGN)
}

/// What must stay as it is: the last thing that proves something and that no crash takes back, and what it doesn't prove.
fn kept(disk: &SimDisk, groups: &[Group], reach: Reach, random: &mut fastrand::Rng) -> Vec<(String, Range<u64>)> {
    let is_synced = |(path, range): &(String, Range<u64>)| disk.is_synced(path, range.start, range.end - range.start);
    let Some(last) = groups.last() else { return Vec::new() };
    if reach == Reach::Rested {
        return vec![seal(last)];
    }
    if last.sealed && is_synced(&place(last)) && is_synced(&seal(last)) {
        // Either may be damaged, not both.
        return vec![if random.bool() { seal(last) } else { place(last) }];
    }
    let unsynced = groups.iter().rev().take_while(|group| !is_synced(&place(group))).count();
    groups.iter().rev().take(unsynced + 1).map(place).collect()
}

/// What is left of a range without another.
fn without(range: Range<u64>, kept: &Range<u64>) -> Vec<Range<u64>> {
    let before = range.start..range.end.min(kept.start);
    let behind = range.start.max(kept.end)..range.end;
    [before, behind].into_iter().filter(|part| part.start < part.end).collect()
}
