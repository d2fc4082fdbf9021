//! Tests of hellos: what a start must have recovered, and who is told that it is refused for good.

use super::*;

fn identity(node: u32, boot: u64) -> Identity {
    let mut identity = Identity::new(&format!("n{node}"), 2, DirectoryId([node as u8; 16]));
    identity.cluster = ClusterId([9; 16]);
    identity.node = NodeId(node);
    identity.boot = Boot { number: boot, random: boot };
    identity
}

fn check_of(identity: Identity, disk: OsDisk, recovered: [u64; 2]) -> HelloCheck {
    let synced = SyncedGroups::new(2);
    for (shard, group) in (0u16..).zip(recovered) {
        synced.begin(ShardId(shard), GroupNumber(group));
    }
    let boots = BootTable::load(&disk, "").expect("a table");
    HelloCheck::new(identity, String::new(), boots, disk, Arc::new(synced))
}

/// A node in a folder of its own.
fn node(dir: &tempfile::TempDir, number: u32, boot: u64, recovered: [u64; 2]) -> HelloCheck {
    let path = dir.path().join(number.to_string());
    std::fs::create_dir_all(&path).expect("a folder");
    check_of(identity(number, boot), OsDisk::new(&path).expect("a disk"), recovered)
}

fn hello(of: &HelloCheck) -> v1::Hello {
    of.own(v1::StreamPriority::Consensus)
}

#[tokio::test]
async fn a_copy_of_the_same_boot_is_refused_and_learns_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (judge, before) = (node(&dir, 1, 1, [0, 0]), node(&dir, 2, 5, [10, 20]));
    let peer = judge.check(Some(&hello(&before))).expect("a first boot");
    judge.told(peer, &[v1::SyncedGroup { shard: 1, group: 23 }, v1::SyncedGroup { shard: 70_000, group: 1 }]);
    let restarted = node(&dir, 2, 7, [10, 23]);
    let copy = node(&dir, 2, 6, [10, 22]);
    let Refused { error, start } = judge.check(Some(&hello(&copy))).expect_err("it has less than it told");
    assert!(error.message.contains("had told that group 23 is synced"), "{error}");
    // It is told which start is meant, and ends only for its own.
    let start = start.expect("it is refused for good");
    copy.note_refused(NodeId(1), &v1::RefusedStart { boot_value: 99, ..start }, "another one");
    assert!(copy.refused.borrow().is_none());
    copy.note_refused(NodeId(1), &start, &error.message);
    assert!(copy.refused().await.contains("node 1 refuses this start"));
    judge.check(Some(&hello(&restarted))).expect("a plain restart has all of it");
}

#[test]
fn what_was_told_outlives_the_process_once_saved() {
    let dir = tempfile::tempdir().expect("a folder");
    let (judge, before) = (node(&dir, 1, 1, [0, 0]), node(&dir, 2, 5, [10, 20]));
    let peer = judge.check(Some(&hello(&before))).expect("a first boot");
    judge.told(peer, &[v1::SyncedGroup { shard: 0, group: 11 }]);
    judge.save_told();
    drop(judge);
    let judge = node(&dir, 1, 2, [0, 0]);
    judge.check(Some(&hello(&node(&dir, 2, 6, [10, 20])))).expect_err("it has less than it told");
    judge.check(Some(&hello(&node(&dir, 2, 7, [11, 20])))).expect("it has all of it");
}

#[test]
fn a_foreign_node_is_refused_but_not_for_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let judge = node(&dir, 1, 1, [0, 0]);
    let foreign = v1::Hello { cluster_id: vec![1; 16].into(), ..hello(&node(&dir, 2, 1, [0, 0])) };
    assert!(judge.check(Some(&foreign)).expect_err("another cluster").start.is_none());
    assert!(judge.check(None).expect_err("no hello").start.is_none());
}
