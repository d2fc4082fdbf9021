//! Who should hold a partition: what a new intent keeps and gives, and which confirmations count.

use crate::catalogue::{Catalogue, PartitionInfo};
use crate::command::{CommandBody, ConfirmReplicas, DeleteTopic, SetMetadataVoters, SetReplicas};
use crate::outcome::{CommandOutcome, RejectionCode};
use crate::support_tests::{apply, cluster, create_topic};
use crate::{Intent, bootstrap::BootstrapSet};
use dlog_core::{LogId, LogIndex, NodeId, ReplicaId};

fn one(nodes: usize, replicas: u32) -> Catalogue {
    let mut catalogue = cluster(&vec![""; nodes]);
    create_topic(&mut catalogue, "a", 1, replicas);
    catalogue
}

fn partition(catalogue: &Catalogue) -> PartitionInfo {
    catalogue.partitions().next().expect("one").clone()
}

fn set(catalogue: &mut Catalogue, nodes: &[u32], intent: u64) -> CommandOutcome {
    let topic = partition(catalogue).topic.0;
    apply(catalogue, CommandBody::SetReplicas(SetReplicas { topic, partition: 0, nodes: nodes.to_vec(), intent }))
}

fn confirm(catalogue: &mut Catalogue, intent: LogIndex, membership: u64, voters: &[ReplicaId]) -> CommandOutcome {
    let voters = voters.iter().map(|replica| replica.0).collect();
    let log = partition(catalogue).log.0;
    apply(catalogue, CommandBody::ConfirmReplicas(ConfirmReplicas { log, intent: intent.0, membership, voters }))
}

fn code(outcome: &CommandOutcome) -> RejectionCode {
    match outcome {
        CommandOutcome::Rejected(rejection) => rejection.code,
        done => panic!("{done:?} is no rejection"),
    }
}

fn holder(catalogue: &Catalogue, node: u32) -> Option<ReplicaId> {
    partition(catalogue).holder_on(NodeId(node))
}

#[test]
fn who_stays_keeps_the_replica_and_who_comes_gets_a_new_one() {
    let mut catalogue = one(4, 3);
    let before = partition(&catalogue);
    let away = (1..=4).find(|node| holder(&catalogue, *node).is_none()).expect("one of four");
    let stay: Vec<u32> = before.intended[1..].iter().map(|replica| replica.node().0).collect();
    let outcome = set(&mut catalogue, &[stay[0], stay[1], away], before.intent.0);
    let after = partition(&catalogue);
    assert_eq!(outcome, CommandOutcome::ReplicasIntended { intent: catalogue.applied() });
    assert_eq!(after.intended[..2], before.intended[1..]);
    assert_eq!((after.intended[2].node(), after.intent), (NodeId(away), catalogue.applied()));
    assert_eq!((&after.confirmed, &after.creation), (&before.confirmed, &before.creation));
    assert_eq!(after.holders.len(), 4);
    assert_eq!(after.preferred, after.intended[0], "who should have led doesn't stay");
    let intent = Intent::of(&catalogue, after.log).expect("known");
    assert!(!intent.confirmed && intent.voters.len() == 3 && intent.learners.is_empty());
}

#[test]
fn only_the_newest_intent_is_confirmed_and_never_from_the_past() {
    let mut catalogue = one(3, 2);
    let old = partition(&catalogue);
    set(&mut catalogue, &[1, 2, 3], 0);
    let new = partition(&catalogue);
    assert_eq!(code(&confirm(&mut catalogue, old.intent, 9, &old.intended)), RejectionCode::StaleIntent);
    assert_eq!(code(&confirm(&mut catalogue, new.intent, 9, &old.intended)), RejectionCode::InvalidArgument);
    let confirmed = CommandOutcome::ReplicasConfirmed { intent: new.intent };
    assert_eq!(confirm(&mut catalogue, new.intent, 9, &new.intended), confirmed);
    assert_eq!(confirm(&mut catalogue, new.intent, 9, &new.intended), confirmed, "once is as good as twice");
    assert!(partition(&catalogue).is_confirmed());
    set(&mut catalogue, &[2, 3], 0);
    let newest = partition(&catalogue);
    assert_eq!(code(&confirm(&mut catalogue, newest.intent, 8, &newest.intended)), RejectionCode::StaleIntent);
    confirm(&mut catalogue, newest.intent, 12, &newest.intended);
    assert_eq!(holder(&catalogue, 1), None);
}

#[test]
fn a_change_taken_back_gives_no_second_replica_on_a_node() {
    let mut catalogue = one(3, 1);
    let home = partition(&catalogue).intended[0];
    let others: Vec<u32> = (1..=3).filter(|node| *node != home.node().0).collect();
    set(&mut catalogue, &[others[0]], 0);
    let first = holder(&catalogue, others[0]);
    set(&mut catalogue, &[home.node().0], 0);
    assert_eq!(partition(&catalogue).intended, [home], "it was never out of use");
    assert_eq!(holder(&catalogue, others[0]), first, "it may still stand");
    set(&mut catalogue, &[others[0]], 0);
    assert_eq!(partition(&catalogue).intended, [first.expect("given")], "and so it isn't given again");
    let now = partition(&catalogue);
    confirm(&mut catalogue, now.intent, 5, &now.intended);
    assert_eq!(holder(&catalogue, home.node().0), None);
    set(&mut catalogue, &[home.node().0], 0);
    let back = holder(&catalogue, home.node().0).expect("intended");
    assert_ne!(back, home, "an id that went out of use never comes back");
}

#[test]
fn impossible_sets_are_refused() {
    let mut catalogue = one(3, 2);
    let intent = partition(&catalogue).intent.0;
    for nodes in [&[][..], &[1, 1], &[1, 9], &[0]] {
        assert_eq!(code(&set(&mut catalogue, nodes, 0)), RejectionCode::InvalidArgument, "{nodes:?}");
    }
    assert_eq!(code(&set(&mut catalogue, &[1, 2, 3], intent + 1)), RejectionCode::StaleIntent);
    let same: Vec<u32> = partition(&catalogue).intended.iter().rev().map(|replica| replica.node().0).collect();
    let already = CommandOutcome::ReplicasIntended { intent: LogIndex(intent) };
    assert_eq!(set(&mut catalogue, &same, intent), already);
    let gone = DeleteTopic { name: "a".to_owned(), ..DeleteTopic::default() };
    let log = partition(&catalogue).log;
    apply(&mut catalogue, CommandBody::DeleteTopic(gone));
    let late = ConfirmReplicas { log: log.0, intent, membership: 3, voters: Vec::new() };
    assert_eq!(code(&apply(&mut catalogue, CommandBody::ConfirmReplicas(late))), RejectionCode::UnknownTopic);
    assert_eq!(Intent::of(&catalogue, log), None);
}

#[test]
fn the_voters_of_group_zero_are_an_intent_too() {
    let members = (1u8..=4).map(|node| (format!("n{node}"), [node; 16]));
    let set = BootstrapSet::new(members).expect("valid");
    let mut catalogue = Catalogue::new();
    assert_eq!(Intent::of(&catalogue, LogId::GROUP_ZERO), None);
    apply(&mut catalogue, CommandBody::FoundCluster(set.found_command()));
    let founded = Intent::of(&catalogue, LogId::GROUP_ZERO).expect("founded");
    let expected = set.group_zero();
    assert_eq!(founded.voters, expected.voters.into_iter().collect());
    assert_eq!(founded.learners, expected.learners.into_iter().collect());
    assert!(founded.confirmed);
    let mut voters = |nodes: &[u32], intent: u64| {
        let set = SetMetadataVoters { nodes: nodes.to_vec(), intent };
        apply(&mut catalogue, CommandBody::SetMetadataVoters(set))
    };
    for nodes in [&[][..], &[1, 1, 2], &[1, 2, 9], &[1, 2, 3, 4, 5, 6]] {
        assert_eq!(code(&voters(nodes, 0)), RejectionCode::InvalidArgument, "{nodes:?}");
    }
    assert_eq!(code(&voters(&[1, 2, 4], 77)), RejectionCode::StaleIntent);
    voters(&[1, 2, 4], founded.version.0);
    let newest = Intent::of(&catalogue, LogId::GROUP_ZERO).expect("founded");
    assert!(newest.version > founded.version && !newest.confirmed);
    assert!(newest.learners.contains(&ReplicaId::new(NodeId(3), 1)));
    let voters = newest.voters.iter().map(|replica| replica.0).collect();
    let confirm = ConfirmReplicas { log: 0, intent: newest.version.0, membership: 8, voters };
    apply(&mut catalogue, CommandBody::ConfirmReplicas(confirm));
    assert!(Intent::of(&catalogue, LogId::GROUP_ZERO).expect("founded").confirmed);
}
