//! Checks a whole data directory without writing: what `dlog verify` says. Every checksum of identity, checkpoints, journal,
//! segments, indexes and producer files is looked at.

use crate::aside::ASIDE;
use crate::boot_table::BootTable;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::identity::Identity;
use crate::index::SparseIndex;
use crate::inspect::{Damage, inspect_replica, replica_pictures};
use crate::log_state::{LogIdentity, SegmentName};
use crate::producers;
use crate::recovery::inspect_shard;
use crate::whole_file;
use dlog_core::{ReplicaId, ShardId};
use std::io;

/// What [`data_directory`] found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Shards looked at.
    pub shards: u64,
    /// Logs looked at.
    pub logs: u64,
    /// Good frames.
    pub frames: u64,
    /// Files that earlier starts set aside: nobody needs them, and none is checked.
    pub set_aside: u64,
    /// What is damaged. Empty: everything that was promised is there.
    pub damage: Vec<Damage>,
}

/// Checks the data directory `root` of `disk` (empty: the disk's own root). The node should be stopped: a running one changes
/// its files meanwhile, which can look like damage.
///
/// # Errors
/// [`StorageError::NeedsOperator`] if it is no data directory; [`StorageError::Io`]. Damage is no error.
pub fn data_directory<D: Disk>(disk: &D, root: &str) -> Result<VerifyReport, StorageError> {
    data_directory_watched(disk, root, &mut |_| {})
}

/// As [`data_directory`]; `good` is told of the bytes of each good frame as it goes.
///
/// # Errors
/// As [`data_directory`].
pub fn data_directory_watched<D: Disk>(
    disk: &D,
    root: &str,
    good: &mut dyn FnMut(u64),
) -> Result<VerifyReport, StorageError> {
    let mut report = VerifyReport::default();
    let identity = match Identity::load(disk, root) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let detail = "there is no file `identity` here, so this is no data directory; check --data-dir".to_string();
            return Err(StorageError::NeedsOperator { path: root.to_string(), detail });
        }
        Err(error) => {
            // Without it nothing else can be read: the cluster id is in every checksum.
            report.damage.push(told(error)?);
            return Ok(report);
        }
    };
    if let Err(error) = BootTable::load(disk, root) {
        report.damage.push(told(error)?);
    }
    for shard in 0..identity.shards {
        let dir = whole_file::join(root, &format!("shard-{shard}"));
        if list(disk, &dir)?.is_empty() {
            continue; // never used
        }
        report.shards += 1;
        report.check_shard(disk, &dir, &identity, ShardId(shard), good)?;
    }
    Ok(report)
}

impl VerifyReport {
    fn check_shard<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        identity: &Identity,
        shard: ShardId,
        good: &mut dyn FnMut(u64),
    ) -> Result<(), StorageError> {
        let picture = match inspect_shard(disk, dir, (identity.cluster, shard)) {
            Ok(picture) => picture,
            Err(error) => {
                self.damage.push(told(error)?);
                return Ok(());
            }
        };
        for error in &picture.damage {
            self.damage.push(told(error.clone())?);
        }
        for (replica, of_replica) in replica_pictures(&picture) {
            let whose = LogIdentity { cluster: identity.cluster, log: of_replica.log, replica };
            let report =
                inspect_replica(disk, dir, &whose, &of_replica, &mut |at| good(at.frame.encoded_bytes() as u64))?;
            self.logs += 1;
            self.frames += report.frames;
            self.damage.extend(report.damage);
            let folder = format!("{dir}/logs/{}/{replica}", whose.log);
            self.check_beside(disk, &folder, replica)?;
        }
        Ok(())
    }

    /// Indexes and producer files of one replica, and what was set aside.
    fn check_beside<D: Disk>(&mut self, disk: &D, folder: &str, replica: ReplicaId) -> Result<(), StorageError> {
        let names = list(disk, folder)?;
        for name in names.iter().filter(|name| name.ends_with(".index") && SegmentName::parse(name).is_some()) {
            let path = format!("{folder}/{name}");
            if let Some(bytes) = whole_file::read(disk, &path)?
                && let Err(error) = SparseIndex::decode(&bytes, 1)
            {
                let damage = told(error)?;
                let detail = format!("{} (nothing is lost: an index is made anew when it is needed)", damage.detail);
                self.damage.push(Damage { path, bytes: bytes.len() as u64, detail, ..damage });
            }
        }
        if names.iter().any(|name| name.ends_with(".producers")) {
            for index in producers::indexes(disk, folder)? {
                let found = producers::load(disk, folder, replica, &[index])?;
                if found.map(|(found, _)| found) != Some(index) {
                    let path = format!("{folder}/{}", producers::file_name(index));
                    self.damage.push(told(StorageError::corrupt(&path, 0, "the producer file is damaged"))?);
                }
            }
        }
        self.set_aside += list(disk, &format!("{folder}/{ASIDE}"))?.len() as u64;
        Ok(())
    }
}

/// What is to be told of an error that means damage; others are given back.
fn told(error: StorageError) -> Result<Damage, StorageError> {
    match error {
        StorageError::NeedsOperator { path, detail } => {
            Ok(Damage { path, position: 0, bytes: 0, index: None, offset: None, detail })
        }
        other => Damage::from_error(other),
    }
}

fn list<D: Disk>(disk: &D, path: &str) -> Result<Vec<String>, StorageError> {
    match disk.list(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|e| StorageError::io("list", path, e)),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
