//! Tests of claims.

use super::*;
use crate::identity::BootstrapMember;
use crate::sim_disk::SimDisk;
use std::io::ErrorKind;

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn directory(number: u8) -> DirectoryId {
    DirectoryId([number; 16])
}

fn own() -> Identity {
    let mut own = Identity::new("a", 1, directory(1));
    (own.cluster, own.node) = (CLUSTER, NodeId(1));
    let member = |name: &str, number| BootstrapMember { name: name.to_string(), directory: directory(number) };
    own.bootstrap = vec![member("a", 1), member("b", 2)];
    own
}

fn claim(number: u64, random: u64) -> Claim {
    let boot = Boot { number, random };
    Claim {
        cluster: CLUSTER,
        node: NodeId(2),
        name: "b".to_string(),
        directory: directory(2),
        boot,
        earlier: EarlierBoots::default(),
        recovered: BTreeMap::new(),
    }
}

#[test]
fn a_new_boot_is_durable_before_it_is_believed() {
    let disk = SimDisk::with_seed(1);
    let mut boots = BootTable::default();
    assert_eq!(boots.admit(&disk, "", &own(), &claim(3, 9)).expect("a first boot"), NodeId(2));
    disk.crash();
    let mut boots = BootTable::load(&disk, "").expect("a table");
    boots.admit(&disk, "", &own(), &claim(3, 9)).expect("the same boot");
    let older = boots.admit(&disk, "", &own(), &claim(2, 9)).expect_err("an older one");
    assert!(matches!(older, ClaimRefused::OldCopy { number: 2, seen: 3, .. }), "{older}");
    let twin = boots.admit(&disk, "", &own(), &claim(3, 8)).expect_err("a second one");
    assert!(matches!(twin, ClaimRefused::Twin(NodeId(2))), "{twin}");
}

#[test]
fn a_boot_that_could_not_be_noted_is_not_believed_the_next_time_either() {
    let disk = SimDisk::with_seed(1);
    let mut boots = BootTable::default();
    disk.fail_writes(2, ErrorKind::StorageFull);
    for _ in 0..2 {
        let refused = boots.admit(&disk, "", &own(), &claim(3, 9)).expect_err("the disk is full");
        assert!(matches!(refused, ClaimRefused::NotNoted { .. }), "{refused}");
        assert_eq!(boots.seen(NodeId(2)), None);
    }
    boots.admit(&disk, "", &own(), &claim(3, 9)).expect("there is room again");
    assert_eq!(BootTable::load(&disk, "").expect("a table").seen(NodeId(2)).map(|boot| boot.number), Some(3));
}

#[test]
fn what_is_known_is_not_overruled() {
    let disk = SimDisk::with_seed(1);
    let mut boots = BootTable::default();
    let mut refused = |change: &dyn Fn(&mut Claim)| {
        let mut claim = claim(1, 1);
        change(&mut claim);
        boots.admit(&disk, "", &own(), &claim).expect_err("it contradicts what is known")
    };
    assert!(matches!(refused(&|claim| claim.cluster = ClusterId([8; 16])), ClaimRefused::Cluster(_)));
    assert!(matches!(refused(&|claim| claim.node = NodeId(1)), ClaimRefused::Myself { .. }));
    assert!(matches!(refused(&|claim| claim.directory = directory(3)), ClaimRefused::Directory(_)));
    assert!(matches!(refused(&|claim| claim.name = "c".to_string()), ClaimRefused::Directory(_)));
    // One that joined later stands in no bootstrap set.
    let joined = Claim { node: NodeId(9), name: "j".to_string(), directory: directory(9), ..claim(1, 1) };
    boots.admit(&disk, "", &own(), &joined).expect("it joined later");
}

/// What a start recovered of its shards.
fn recovered(groups: &[u64]) -> BTreeMap<ShardId, GroupNumber> {
    groups.iter().enumerate().map(|(shard, group)| (ShardId(shard as u16), GroupNumber(*group))).collect()
}

#[test]
fn a_start_with_less_than_was_told_is_refused() {
    let disk = SimDisk::with_seed(1);
    let (node, shard) = (NodeId(2), ShardId(1));
    let mut boots = BootTable::default();
    let with = |number, groups: &[u64]| Claim { recovered: recovered(groups), ..claim(number, number) };
    boots.admit(&disk, "", &own(), &with(5, &[10, 20])).expect("a first boot");
    assert!(boots.told(node, Boot { number: 5, random: 5 }, shard, GroupNumber(23)));
    // Its own hello of the same boot, for another stream, says what was recovered.
    boots.admit(&disk, "", &own(), &with(5, &[10, 20])).expect("the same boot");
    for (number, groups) in [(6, [10, 22]), (7, [11, 20]), (8, [99, 0])] {
        let refused = boots.admit(&disk, "", &own(), &with(number, &groups)).expect_err("it has less");
        let ClaimRefused::BelowTold { shard: ShardId(1), recovered, told: GroupNumber(23), .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(recovered.0, groups[1]);
        assert!(refused.to_string().contains("replace the node as a new one"), "{refused}");
    }
    // A shard that was recovered when the boot was admitted counts as told, and none may be missing.
    let refused = boots.admit(&disk, "", &own(), &with(9, &[9, 23])).expect_err("it has less of the other");
    assert!(matches!(refused, ClaimRefused::BelowTold { shard: ShardId(0), .. }), "{refused}");
    let refused = boots.admit(&disk, "", &own(), &with(10, &[10])).expect_err("it lacks one");
    assert!(matches!(refused, ClaimRefused::BelowTold { recovered: GroupNumber(0), .. }), "{refused}");
    assert_eq!(boots.seen(node).map(|boot| boot.number), Some(5), "no refused boot is noted");
    // The directory itself may have written more than it told.
    let whole = Claim { recovered: recovered(&[10, 24]), ..claim(6, 66) };
    boots.admit(&disk, "", &own(), &whole).expect("it has all that it told");
    assert_eq!(boots.highest_told(node, shard), Some(GroupNumber(24)));
}

#[test]
fn what_was_told_is_durable_with_the_next_boot_and_with_a_save() {
    let disk = SimDisk::with_seed(1);
    let (node, shard, boot) = (NodeId(2), ShardId(0), Boot { number: 1, random: 1 });
    let mut boots = BootTable::default();
    let first = Claim { recovered: recovered(&[7]), ..claim(1, 1) };
    boots.admit(&disk, "", &own(), &first).expect("a first boot");
    boots.told(node, boot, shard, GroupNumber(9));
    disk.crash();
    let mut boots = BootTable::load(&disk, "").expect("a table");
    assert_eq!(boots.highest_told(node, shard), Some(GroupNumber(7)), "only what was saved");
    boots.told(node, boot, shard, GroupNumber(9));
    boots.save(&disk, "").expect("saved");
    disk.crash();
    let mut boots = BootTable::load(&disk, "").expect("a table");
    let old = Claim { recovered: recovered(&[8]), ..claim(2, 2) };
    boots.admit(&disk, "", &own(), &old).expect_err("it has less");
}

/// Found by the simulator: a copy that was refused as an old one was believed once it had been started often enough, for its
/// boots rise like any others'.
#[test]
fn a_refused_copy_is_refused_however_often_it_is_started() {
    let disk = SimDisk::with_seed(1);
    let mut boots = BootTable::default();
    let mut went_on = own();
    (went_on.node, went_on.name, went_on.directory) = (NodeId(2), "b".to_string(), directory(2));
    let start = |identity: &mut Identity, random, group| {
        identity.begin_boot(random);
        Claim::of(identity, recovered(&[group]))
    };
    let mut ask = |claim: &Claim| boots.admit(&disk, "", &own(), claim);
    ask(&start(&mut went_on, 1, 5)).expect("a first boot");
    let mut copy = went_on.clone();
    ask(&start(&mut went_on, 2, 9)).expect("the directory goes on");
    for (number, random) in (2..200).zip(100..) {
        let claim = start(&mut copy, random, 1000);
        assert_eq!(claim.boot.number, number);
        let refused = ask(&claim).expect_err("a copy");
        assert!(matches!(refused, ClaimRefused::Twin(_) | ClaimRefused::OtherLine { .. }), "{refused}");
    }
    ask(&start(&mut went_on, 3, 10)).expect("the directory that went on");
    // One that was taken within a boot lost what was told, and writes more of its own then.
    let mut copy = went_on.clone();
    let refused = ask(&start(&mut copy, 300, 9)).expect_err("it has less");
    assert!(matches!(refused, ClaimRefused::BelowTold { .. }), "{refused}");
    let refused = ask(&start(&mut copy, 301, 50)).expect_err("it has more, but not that");
    assert!(matches!(refused, ClaimRefused::OtherLine { .. }), "{refused}");
    // Those who refuse remember it.
    let mut boots = BootTable::load(&disk, "").expect("a table");
    boots.admit(&disk, "", &own(), &start(&mut copy, 302, 50)).expect_err("a copy");
    boots.admit(&disk, "", &own(), &start(&mut went_on, 4, 10)).expect("the directory that went on");
}

#[test]
fn a_version_that_does_not_say_what_it_recovered_is_not_checked() {
    let disk = SimDisk::with_seed(1);
    let mut boots = BootTable::default();
    boots.admit(&disk, "", &own(), &Claim { recovered: recovered(&[7]), ..claim(1, 1) }).expect("a first boot");
    boots.admit(&disk, "", &own(), &claim(2, 2)).expect("it says nothing");
    let less = Claim { recovered: recovered(&[6]), ..claim(3, 3) };
    boots.admit(&disk, "", &own(), &less).expect_err("what was told before is not forgotten");
}
