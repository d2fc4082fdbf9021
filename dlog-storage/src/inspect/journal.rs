//! One journal file: its groups, and what is damaged among them.

use super::Damage;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::GroupAt;
use crate::journal::file::{FIRST_GROUP_AT, HeaderRead, generation_of, read_header, read_whole};
use crate::journal::format::{GROUP_ALIGN, GroupKind};
use crate::journal::group::{GroupContext, GroupCopy, damaged_payload, frames};
use bytes::Bytes;
use dlog_core::ShardId;
use dlog_core::write::ReplicaWrite;

/// What stands in one journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalReport {
    /// The file's generation.
    pub generation: u64,
    /// Good groups.
    pub groups: u64,
    /// The numbers of the first and the last good group.
    pub numbers: Option<(u64, u64)>,
    /// Frames in them.
    pub frames: u64,
    /// Where the last good group ends.
    pub end: u64,
    /// Whether a seal stands behind the last group: its sync had returned.
    pub sealed: bool,
    /// What is damaged. What a torn group left behind the last good one isn't.
    pub damage: Vec<Damage>,
}

/// Reads one journal file, `…/shard-<n>/journal/<generation>.journal`; `visit` sees each good group. Without `cluster` the file's
/// header says whose it is.
///
/// # Errors
/// [`StorageError::Invalid`] if the path isn't such a file's; [`StorageError::Io`]. Damage is no error.
pub fn journal<D: Disk>(
    disk: &D,
    path: &str,
    shard: ShardId,
    cluster: Option<ClusterId>,
    visit: &mut dyn FnMut(GroupAt, &[ReplicaWrite]),
) -> Result<JournalReport, StorageError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some(generation) = generation_of(name) else {
        return Err(StorageError::Invalid { detail: format!("{path} is not named like a journal file") });
    };
    let bytes = read_whole(disk, path)?;
    let (groups, numbers, frames, end) = (0, None, 0, FIRST_GROUP_AT);
    let mut report = JournalReport { generation, groups, numbers, frames, end, sealed: false, damage: Vec::new() };
    let in_header = match read_header(&bytes) {
        HeaderRead::Good(header) => Some(header.cluster),
        HeaderRead::OtherVersion(_) | HeaderRead::Bad => None,
    };
    let Some(cluster) = cluster.or(in_header) else {
        report.damage.push(damage(path, 0, FIRST_GROUP_AT, "the header is none of a journal file".to_string()));
        return Ok(report);
    };
    let context = GroupContext { cluster, shard, generation };
    let mut at = FIRST_GROUP_AT;
    while at < bytes.len() as u64 {
        match group_at(context, &bytes, at) {
            Some(copy) if copy.header.kind == GroupKind::Seal => {
                report.sealed = report.numbers.is_some_and(|(_, last)| last == copy.header.number);
                at += GROUP_ALIGN;
            }
            Some(copy) => {
                report.take(path, &bytes, (context, &copy), visit);
                at = copy.end();
            }
            None => at += GROUP_ALIGN,
        }
    }
    Ok(report)
}

impl JournalReport {
    fn take(
        &mut self,
        path: &str,
        bytes: &Bytes,
        (context, copy): (GroupContext, &GroupCopy),
        visit: &mut dyn FnMut(GroupAt, &[ReplicaWrite]),
    ) {
        let header = copy.header;
        // Groups stand one behind the other: a hole before this one was a group, and was synced.
        if header.position > self.end {
            let detail = format!("no whole group stands here, but group {} follows", header.number);
            self.damage.push(damage(path, self.end, header.position - self.end, detail));
        }
        (self.end, self.sealed) = (copy.end(), false);
        let writes = match copy.writes(bytes) {
            Ok(writes) => writes,
            Err(detail) => return self.damage.push(damage(path, header.position, header.bytes, detail)),
        };
        if let Some(bad) = damaged_payload(&writes) {
            let detail = format!("a frame of replica {} (log {}) does not match its checksum", bad.replica, bad.log);
            let place = damage(path, header.position, header.bytes, detail);
            return self.damage.push(Damage { index: Some(bad.index), ..place });
        }
        let copies = [
            GroupCopy::at_head(context, bytes, header.position),
            GroupCopy::at_tail(context, bytes, header.position + header.bytes),
        ];
        if copies.iter().any(Option::is_none) {
            let detail = format!("one of the two tables of group {} is damaged; the other is good", header.number);
            self.damage.push(damage(path, header.position, header.bytes, detail));
        }
        self.groups += 1;
        self.frames += frames(&writes).count() as u64;
        self.numbers = Some((self.numbers.map_or(header.number, |(first, _)| first), header.number));
        visit(
            GroupAt {
                generation: header.generation,
                position: header.position,
                bytes: header.bytes,
                number: header.number,
            },
            &writes,
        );
    }
}

/// The good copy of the group that begins at `at`, if there is one: from its head, else from its end.
fn group_at(context: GroupContext, bytes: &Bytes, at: u64) -> Option<GroupCopy> {
    let whole = |copy: &GroupCopy| copy.header.position == at && copy.end() <= bytes.len() as u64;
    if let Some(copy) = GroupCopy::at_head(context, bytes, at).filter(whole) {
        return Some(copy);
    }
    let ends = (at + GROUP_ALIGN..=bytes.len() as u64).step_by(GROUP_ALIGN as usize);
    ends.map_while(|end| match GroupCopy::at_head(context, bytes, end - GROUP_ALIGN) {
        // Another group begins here: the one that is looked for can't reach behind it.
        Some(_) if end - GROUP_ALIGN > at => None,
        _ => Some(GroupCopy::at_tail(context, bytes, end)),
    })
    .flatten()
    .find(whole)
}

fn damage(path: &str, position: u64, bytes: u64, detail: String) -> Damage {
    Damage { path: path.to_string(), position, bytes, index: None, offset: None, detail }
}
