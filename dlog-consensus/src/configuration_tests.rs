//! The bytes of a change, and that it makes of a membership what the raft crate makes of it.

use super::*;
use dlog_core::NodeId;
use proptest::prelude::*;
use raft::prelude::ConfState;
use raft::storage::MemStorage;
use raft::{Config, RawNode};

/// The raft crate with this membership.
fn crate_of(membership: &Membership) -> RawNode<MemStorage> {
    let storage = MemStorage::new_with_conf_state(membership.to_conf_state());
    let config = Config { id: replica(1).0, ..Config::default() };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, storage, &logger).expect("a valid membership")
}

fn replica(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

fn entry(change: &Change, intent: u64) -> ChangeEntry {
    ChangeEntry { change: change.clone(), intent: LogIndex(intent) }
}

fn hex(change: &Change) -> String {
    entry(change, 0).encode().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    assert_eq!(hex(&Change::Leave), "");
    assert_eq!(hex(&Change::Note), "12020802");
    assert_eq!(entry(&Change::Leave, 300).encode()[..], [0x20, 0xac, 0x02]);
    assert_eq!(hex(&Change::AddLearner(replica(1))), "1208080210818080801 0".replace(' ', ""));
    assert_eq!(hex(&Change::RemoveLearner(replica(1))), "12080801108180808010");
    let enter = Change::Enter(vec![(replica(1), Turn::Learner), (replica(2), Turn::Voter), (replica(3), Turn::Gone)]);
    assert_eq!(hex(&enter), "0802120808021081808080101206108180808020120808011081808080 30".replace(' ', ""));
}

#[test]
fn the_crate_writes_the_same() {
    let enter = Change::Enter(vec![(replica(1), Turn::Learner), (replica(2), Turn::Voter), (replica(3), Turn::Gone)]);
    for change in [Change::AddLearner(replica(9)), Change::RemoveLearner(replica(9)), Change::Note, enter] {
        let mut node = crate_of(&Membership::of_voters([replica(1)]));
        node.campaign().expect("a lone voter");
        node.propose_conf_change(Vec::new(), change.to_raft()).expect("it leads");
        let entry = node.raft.raft_log.unstable_entries().last().expect("what was proposed").clone();
        assert_eq!(entry.get_entry_type(), raft::prelude::EntryType::EntryConfChangeV2);
        assert_eq!(&entry.data[..], &self::entry(&change, 0).encode()[..], "{change:?}");
        let joint = matches!(change, Change::Enter(_)).then_some(false);
        assert_eq!(change.to_raft().enter_joint(), joint, "a joint state is never left by the crate");
    }
    assert!(Change::Leave.to_raft().leave_joint());
}

#[test]
fn other_forms_are_refused() {
    let written = |transition, turns: &[(i32, u64)]| {
        let changes = turns.iter().map(|(kind, replica)| TurnProto { kind: *kind, replica: *replica }).collect();
        ChangeProto { transition, changes, intent: 0 }.encode_to_vec()
    };
    let (one, two) = (replica(1).0, replica(2).0);
    let refused = [
        written(SIMPLE, &[(0, one)]),
        written(SIMPLE, &[(2, one), (2, two)]),
        written(1, &[(0, one)]),
        written(JOINT, &[]),
        written(JOINT, &[(0, two), (1, one)]),
        written(JOINT, &[(0, one), (1, one)]),
        written(JOINT, &[(3, one)]),
        written(SIMPLE, &[(2, 5)]),
        written(JOINT, &(0..=TURNS_MAX).map(|node| (0, replica(node as u32 + 1).0)).collect::<Vec<_>>()),
        written(JOINT, &[(2, 0)]),
        ChangeProto { transition: SIMPLE, changes: Vec::new(), intent: NUMBER_MAX + 1 }.encode_to_vec(),
        // The context of a `ConfChangeV2`.
        [&written(SIMPLE, &[(2, one)])[..], &[0x1a, 0x01, 0x78]].concat(),
        // The same in more bytes.
        vec![0x08, 0x80, 0x00],
    ];
    for bytes in refused {
        assert!(ChangeEntry::decode(&bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(ChangeEntry::decode(&[]), Ok(entry(&Change::Leave, 0)));
}

fn change(members: u32) -> impl Strategy<Value = Change> {
    let one = 1..=members;
    let turn = prop_oneof![Just(Turn::Voter), Just(Turn::Gone), Just(Turn::Learner)];
    let turns = proptest::collection::btree_map(one.clone(), turn, 1..5);
    prop_oneof![
        one.clone().prop_map(|node| Change::AddLearner(replica(node))),
        one.prop_map(|node| Change::RemoveLearner(replica(node))),
        turns.prop_map(|turns| Change::Enter(turns.into_iter().map(|(node, turn)| (replica(node), turn)).collect())),
        Just(Change::Leave),
        Just(Change::Leave),
        Just(Change::Note),
    ]
}

fn as_sets(state: &ConfState) -> [BTreeSet<u64>; 4] {
    let set = |ids: &[u64]| ids.iter().copied().collect();
    [
        set(state.get_voters()),
        set(state.get_learners()),
        set(state.get_voters_outgoing()),
        set(state.get_learners_next()),
    ]
}

proptest! {
    #[test]
    fn round_trip(change in change(30), intent in 0..=NUMBER_MAX) {
        let entry = entry(&change, intent);
        prop_assert_eq!(ChangeEntry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(entry) = ChangeEntry::decode(&bytes) {
            prop_assert_eq!(&entry.encode()[..], &bytes[..]);
        }
    }

    /// Whatever fits here fits the crate, and makes the same membership, over any history.
    #[test]
    fn the_crate_makes_the_same_membership(changes in proptest::collection::vec(change(6), 0..30)) {
        let mut membership = Membership::of_voters([replica(1), replica(2)]);
        let mut node = crate_of(&membership);
        for change in changes {
            let Ok(after) = change.applied_to(&membership) else { continue };
            prop_assert!(after.validate().is_ok());
            let made = node.apply_conf_change(&change.to_raft()).expect("the crate takes it too");
            prop_assert_eq!(as_sets(&made), as_sets(&after.to_conf_state()));
            let tracked: BTreeSet<u64> = node.raft.prs().iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(tracked, after.members().into_iter().map(|id| id.0).collect::<BTreeSet<u64>>());
            // What is written can be read back, also by the crate.
            let stored = Membership::decode(&after.encode()).expect("own bytes");
            let restored = crate_of(&stored);
            prop_assert_eq!(as_sets(&restored.raft.prs().conf().to_conf_state()), as_sets(&made));
            membership = after;
        }
    }
}
