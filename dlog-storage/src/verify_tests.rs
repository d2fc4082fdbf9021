//! Tests of verification.

use super::*;
use crate::identity::{Boot, DirectoryId};
use crate::shard_store::{ShardIdentity, ShardStore, StoreOptions};
use crate::testing::{FrameMaker, IDENTITY, OPTIONS};
use crate::{LoseUnsynced, SimDisk, SimDiskOptions};
use bytes::Bytes;
use dlog_core::write::{Create, LogPoint, ReplicaWrite, WriteOp};
use dlog_core::{LogIndex, NodeId};
use std::collections::BTreeMap;

/// A stopped node's directory with one log of 30 frames.
fn directory() -> SimDisk {
    let lose_unsynced = LoseUnsynced::Nothing;
    let disk = SimDisk::new(SimDiskOptions { lose_unsynced, ..SimDiskOptions::default() });
    let mut identity = Identity::new("n1", 2, DirectoryId([3; 16]));
    identity.cluster = IDENTITY.cluster;
    identity.save(&disk, "").expect("saved");
    let mut boots = BootTable::default();
    boots.note(NodeId(2), Boot { number: 1, random: 2 }, &BTreeMap::new());
    boots.save(&disk, "").expect("saved");
    let shard = ShardIdentity { cluster: IDENTITY.cluster, shard: ShardId(0) };
    let options = StoreOptions { log: OPTIONS, ..StoreOptions::default() };
    let mut store = ShardStore::open(disk.clone(), "", shard, options).expect("opens").0;
    let mut maker = FrameMaker::new(LogPoint::default());
    let create = Create { intent: LogIndex(1), membership: Bytes::new(), start: LogPoint::default() };
    let frames = (0..30).map(|n| maker.records(&[n], 80)).collect();
    let ops = vec![WriteOp::Create(create), WriteOp::Append(frames)];
    let write = ReplicaWrite { replica: IDENTITY.replica, log: IDENTITY.log, commit: LogIndex::ZERO, ops };
    store.commit(vec![write]).expect("committed");
    store.write_out().expect("written out");
    store.close(vec![(IDENTITY.replica, LogIndex(30), Bytes::from_static(b"producers"))]).expect("closed");
    disk
}

#[test]
fn a_good_directory_is_good() {
    let report = data_directory(&directory(), "").expect("readable");
    let expected = VerifyReport { shards: 1, logs: 1, frames: 30, set_aside: 0, damage: Vec::new() };
    assert_eq!(report, expected);
}

#[test]
fn each_kind_of_file_is_checked() {
    let names = ["identity", "boots", "checkpoint-a", "checkpoint-b", ".segment", ".index", ".producers"];
    let mut met = 0;
    for name in names {
        let disk = directory();
        let tree = disk.tree();
        for (path, bytes) in tree.iter().filter(|(path, _)| path.ends_with(name)).take(1) {
            met += 1;
            disk.flip(path, bytes.expect("a file") / 2, 0x10);
            let report = data_directory(&disk, "").expect("readable");
            assert_eq!(report.damage.len(), 1, "{path}: {:?}", report.damage);
            assert_eq!(&report.damage[0].path, path);
        }
    }
    assert!(met >= 6, "only {met} of {} kinds are there", names.len());
}

#[test]
fn nothing_is_written() {
    let disk = directory();
    let (tree, writes) = (disk.tree(), disk.stats().writes);
    data_directory(&disk, "").expect("readable");
    assert_eq!((disk.tree(), disk.stats().writes), (tree, writes));
}

#[test]
fn another_folder_is_refused() {
    let disk = SimDisk::with_seed(1);
    assert!(matches!(data_directory(&disk, ""), Err(StorageError::NeedsOperator { .. })));
}
