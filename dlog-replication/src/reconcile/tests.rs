//! What a node is told to do, and what it is never told.

use super::*;
use crate::command::{AlterTopic, CommandBody};
use crate::support_tests::{apply, cluster, create_topic, delete};
use proptest::prelude::*;

const NODE: NodeId = NodeId(1);

fn none() -> BTreeSet<ReplicaId> {
    BTreeSet::new()
}

fn started(actions: &[LocalAction]) -> Vec<LocalReplica> {
    let local = |action: &LocalAction| match action {
        LocalAction::Start(start) => LocalReplica {
            replica: start.replica,
            log: start.log,
            intent: start.intent,
            settings: Some(start.settings.clone()),
        },
        other => panic!("{other:?} starts nothing"),
    };
    actions.iter().map(local).collect()
}

#[test]
fn intended_replicas_are_started_once() {
    let mut catalogue = cluster(&["", "", ""]);
    let made_at = create_topic(&mut catalogue, "a", 3, 3);
    let actions = plan(&catalogue, NODE, &[], &none());
    assert_eq!(actions.len(), 3);
    let starts = actions.iter().map(|action| match action {
        LocalAction::Start(start) => start,
        other => panic!("{other:?}"),
    });
    let mut preferred = 0;
    for start in starts {
        let partition = catalogue.partition_of_log(start.log).expect("known");
        assert_eq!(start.voters, partition.creation);
        assert_eq!((start.intent, start.replica.node()), (made_at, NODE));
        assert_eq!((start.topic, start.partition), (partition.topic, partition.index));
        preferred += usize::from(start.preferred);
    }
    assert_eq!(preferred, 1, "one of three partitions should be led here");
    assert_eq!(plan(&catalogue, NODE, &started(&actions), &none()), []);
    assert_eq!(plan(&catalogue, NodeId(9), &[], &none()), [], "a node that holds nothing");
}

#[test]
fn a_marked_replica_is_never_started_again() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let marks = BTreeSet::from([catalogue.replicas_on(NODE).next().expect("one").0]);
    assert_eq!(plan(&catalogue, NODE, &[], &marks), []);
}

#[test]
fn replicas_of_deleted_topics_go() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let local = started(&plan(&catalogue, NODE, &[], &none()));
    apply(&mut catalogue, CommandBody::DeleteTopic(delete("a")));
    let deleted = LocalAction::Delete { replica: local[0].replica, log: local[0].log };
    assert_eq!(plan(&catalogue, NODE, &local, &none()), [deleted]);
    // Intended above the deletion: this catalogue can't speak of it.
    let later = LocalReplica { intent: catalogue.applied(), ..local[0].clone() };
    assert_eq!(plan(&catalogue, NODE, &[later], &none()), []);
}

#[test]
fn what_the_catalogue_does_not_know_is_left_alone() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let local = started(&plan(&catalogue, NODE, &[], &none()));
    assert_eq!(plan(&Catalogue::new(), NODE, &local, &none()), [], "an empty catalogue deletes nothing");
    let group_zero = LocalReplica {
        replica: ReplicaId::new(NODE, 1),
        log: LogId::GROUP_ZERO,
        intent: LogIndex::ZERO,
        settings: None,
    };
    assert_eq!(plan(&catalogue, NODE, &[local[0].clone(), group_zero], &none()), []);
}

#[test]
fn new_settings_reach_running_replicas() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let mut local = started(&plan(&catalogue, NODE, &[], &none()));
    let settings = TopicSettings::parse(["segment.bytes=1MiB"]).expect("valid");
    let alter = AlterTopic { name: "a".to_owned(), settings: Some(settings.clone()), ..AlterTopic::default() };
    apply(&mut catalogue, CommandBody::AlterTopic(alter));
    let configure = LocalAction::Configure { replica: local[0].replica, settings };
    assert_eq!(plan(&catalogue, NODE, &local, &none()), std::slice::from_ref(&configure));
    local[0].settings = None;
    assert_eq!(plan(&catalogue, NODE, &local, &none()), [configure], "after a restart they are told again");
}

proptest! {
    /// Nodes that follow their plans end with exactly the replicas that the catalogue intends, whenever they look.
    #[test]
    fn plans_converge(steps in proptest::collection::vec((any::<bool>(), 0u32..4, 1u32..4, any::<u8>()), 1..25)) {
        let mut catalogue = cluster(&["", "", ""]);
        let mut local: BTreeMap<NodeId, BTreeMap<ReplicaId, LocalReplica>> = BTreeMap::new();
        let mut marks = none();
        for (make, topic, partitions, looks) in steps {
            let name = format!("t{topic}");
            if make {
                let body = CommandBody::CreateTopic(crate::support_tests::create(&name, partitions, 2));
                apply(&mut catalogue, body);
            } else {
                apply(&mut catalogue, CommandBody::DeleteTopic(delete(&name)));
            }
            for node in (1..=3).filter(|node| looks & (1 << node) != 0).map(NodeId) {
                follow(&catalogue, node, local.entry(node).or_default(), &mut marks);
            }
        }
        for node in [1, 2, 3].map(NodeId) {
            let standing = local.entry(node).or_default();
            follow(&catalogue, node, standing, &mut marks);
            prop_assert_eq!(plan(&catalogue, node, &standing.values().cloned().collect::<Vec<_>>(), &marks), []);
            let intended: BTreeSet<ReplicaId> = catalogue.replicas_on(node).map(|(replica, _)| replica).collect();
            prop_assert_eq!(standing.keys().copied().collect::<BTreeSet<_>>(), intended);
        }
    }
}

fn follow(
    catalogue: &Catalogue,
    node: NodeId,
    standing: &mut BTreeMap<ReplicaId, LocalReplica>,
    marks: &mut BTreeSet<ReplicaId>,
) {
    let local: Vec<LocalReplica> = standing.values().cloned().collect();
    for action in plan(catalogue, node, &local, marks) {
        match action {
            LocalAction::Start(_) => {
                let replica = started(&[action]).remove(0);
                assert!(!marks.contains(&replica.replica), "a replica id is started empty once");
                standing.insert(replica.replica, replica);
            }
            LocalAction::Configure { .. } => panic!("nothing was altered"),
            LocalAction::Delete { replica, .. } => {
                standing.remove(&replica);
                marks.insert(replica);
            }
        }
    }
}
