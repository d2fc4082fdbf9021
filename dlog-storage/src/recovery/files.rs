//! The files that a start finds: whose they are, what nothing names, and which of the journal can be used again.

use super::net::Nets;
use super::{ShardPaths, list};
use crate::aside;
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::identity::ClusterId;
use crate::journal::file::{FIRST_GROUP_AT, HeaderRead, file_name, read_header};
use crate::journal::set::IdleFile;
use dlog_core::ShardId;
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// Rows 24 and 25: what isn't ours, or can't be read by this dlog, is never used again for something else.
pub(super) fn refuse_foreign<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    (cluster, shard): (ClusterId, ShardId),
    files: &[u64],
) -> Result<(), StorageError> {
    for generation in files {
        let path = format!("{}/{}", paths.journal, file_name(*generation));
        let file = disk.open(&path).map_err(|error| StorageError::io("open", &path, error))?;
        let mut bytes = [0u8; FIRST_GROUP_AT as usize];
        let have = file.read_at(&mut bytes, 0).map_err(|error| StorageError::io("read", &path, error))?;
        let detail = match read_header(&bytes[..have]) {
            HeaderRead::Good(header) if (header.cluster, header.shard) != (cluster, shard) => {
                "it is the journal of another cluster or shard; nothing was changed: put back the file that belongs here, or \
                 replace this node by a new one"
                    .to_string()
            }
            HeaderRead::OtherVersion(version) => format!(
                "it is a journal file of version {version}, which this dlog doesn't know; nothing was changed: use the dlog \
                 that wrote it"
            ),
            HeaderRead::Good(_) | HeaderRead::Bad => continue,
        };
        return Err(StorageError::NeedsOperator { path, detail });
    }
    Ok(())
}

/// The journal's files that are needed, from old to new, and those that can be used again. Unneeded ones of another length, like the
/// small first one, are removed: the journal counts on the length of those it uses. The folder is the caller's to sync.
pub(super) fn sort<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    files: &[u64],
    is_needed: impl Fn(u64) -> bool,
    file_bytes: u64,
) -> Result<(Vec<IdleFile>, Vec<IdleFile>), StorageError> {
    let (mut needed, mut spare) = (Vec::new(), Vec::new());
    for generation in files.iter().copied() {
        let path = format!("{}/{}", paths.journal, file_name(generation));
        let file = disk.open(&path).map_err(|error| StorageError::io("open", &path, error))?;
        let bytes = file.len().map_err(|error| StorageError::io("read the length of", &path, error))?;
        let idle = IdleFile { generation, bytes };
        if is_needed(generation) {
            needed.push(idle);
        } else if bytes == file_bytes {
            spare.push(idle);
        } else {
            aside::remove_if_there(disk, &path)?;
        }
    }
    for name in list(disk, &paths.journal)?.iter().filter(|name| name.ends_with(".journal.tmp")) {
        aside::remove_if_there(disk, &format!("{}/{name}", paths.journal))?;
    }
    Ok((needed, spare))
}

/// Rows 14 and 26.
pub(super) fn set_unknown_aside<D: Disk>(
    disk: &D,
    paths: &ShardPaths,
    checkpoint: &Checkpoint,
    nets: &Nets,
) -> Result<(), StorageError> {
    let mut known: BTreeSet<String> =
        checkpoint.replicas.iter().map(|replica| paths.replica(replica.log, replica.replica)).collect();
    known.extend(nets.created().map(|(log, replica)| paths.replica(log, replica)));
    for log in list(disk, &paths.logs)? {
        let log_dir = format!("{}/{log}", paths.logs);
        match disk.list(&log_dir) {
            Err(error) if error.kind() == ErrorKind::NotADirectory => move_aside(disk, paths, &paths.logs, &log, &log)?,
            Err(error) => return Err(StorageError::io("list", &log_dir, error)),
            Ok(replicas) => {
                for replica in replicas.iter().filter(|replica| !known.contains(&format!("{log_dir}/{replica}"))) {
                    move_aside(disk, paths, &log_dir, replica, &format!("{log}-{replica}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Moves a name of the folder `dir` into the shard's folder `aside`, durably, as `as_name` and a number.
fn move_aside<D: Disk>(disk: &D, paths: &ShardPaths, dir: &str, name: &str, as_name: &str) -> Result<(), StorageError> {
    let aside = format!("{}/aside", paths.dir);
    disk.create_dir(&aside).map_err(|error| StorageError::io("create", &aside, error))?;
    let taken = list(disk, &aside)?;
    let free = (0u64..).map(|n| format!("{as_name}.{n}")).find(|name| !taken.contains(name));
    let (from, to) = (format!("{dir}/{name}"), format!("{aside}/{}", free.expect("some number is free")));
    tracing::warn!(%from, %to, "set aside what nothing names");
    disk.rename(&from, &to).map_err(|error| StorageError::io("rename", &from, error))?;
    for dir in [aside.as_str(), &paths.dir, dir] {
        disk.sync_dir(dir).map_err(|error| StorageError::sync(dir, error))?;
    }
    Ok(())
}
