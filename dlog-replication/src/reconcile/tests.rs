//! What a node is told to do, and what it is never told.

use super::*;
use crate::command::{AlterTopic, CommandBody, ConfirmReplicas, SetReplicas};
use crate::support_tests::{apply, cluster, create_topic, delete};
use proptest::prelude::*;

const NODE: NodeId = NodeId(1);

fn none() -> BTreeSet<ReplicaId> {
    BTreeSet::new()
}

/// The replicas that stand when the actions, which only start some, are carried out.
fn started(actions: &[LocalAction]) -> Vec<LocalReplica> {
    let mut local = Vec::new();
    for action in actions {
        match action {
            LocalAction::Start(start) => local.push(LocalReplica::started(start)),
            LocalAction::Intend { replica, intent } => {
                let told = local.iter_mut().find(|local| local.replica == *replica).expect("it was started before");
                told.told = Some((intent.version, intent.confirmed));
            }
            other => panic!("{other:?} starts nothing"),
        }
    }
    local
}

#[test]
fn intended_replicas_are_started_once() {
    let mut catalogue = cluster(&["", "", ""]);
    let made_at = create_topic(&mut catalogue, "a", 3, 3);
    let actions = plan(&catalogue, NODE, &[], &none());
    assert_eq!(started(&actions).len(), 3);
    let starts = actions.iter().filter_map(|action| match action {
        LocalAction::Start(start) => Some(start),
        _ => None,
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
    let deleted = LocalAction::Delete { replica: local[0].replica, log: local[0].log, ended: catalogue.applied() };
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
        told: None,
    };
    assert_eq!(plan(&catalogue, NODE, &[local[0].clone(), group_zero], &none()), [], "no cluster was founded");
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

fn set(partition: &PartitionInfo, nodes: &[u32]) -> CommandBody {
    let (topic, index) = (partition.topic.0, partition.index.0);
    CommandBody::SetReplicas(SetReplicas { topic, partition: index, nodes: nodes.to_vec(), intent: 0 })
}

fn confirm(partition: &PartitionInfo, membership: u64) -> CommandBody {
    let voters = partition.intended.iter().map(|replica| replica.0).collect();
    let (log, intent) = (partition.log.0, partition.intent.0);
    CommandBody::ConfirmReplicas(ConfirmReplicas { log, intent, membership, voters })
}

#[test]
fn a_replica_goes_only_when_a_set_without_it_is_confirmed() {
    let mut catalogue = cluster(&["", "", ""]);
    create_topic(&mut catalogue, "a", 1, 2);
    let partition = |catalogue: &Catalogue| catalogue.partitions().next().expect("one").clone();
    let made = partition(&catalogue);
    let (stays, leaves) = (made.intended[0].node(), made.intended[1].node());
    let comes = [1, 2, 3].map(NodeId).into_iter().find(|node| made.holder_on(*node).is_none()).expect("one of three");
    let there = started(&plan(&catalogue, leaves, &[], &none()));
    apply(&mut catalogue, set(&made, &[stays.0, comes.0]));
    let moved = partition(&catalogue);
    assert_eq!(
        plan(&catalogue, leaves, &there, &none()),
        [LocalAction::Intend { replica: there[0].replica, intent: Intent::of(&catalogue, made.log).expect("known") }]
    );
    let new = started(&plan(&catalogue, comes, &[], &none()));
    assert_eq!((new.len(), new[0].replica), (1, moved.intended[1]));
    let start = plan(&catalogue, comes, &[], &none()).remove(0);
    assert!(matches!(start, LocalAction::Start(start) if start.voters == made.creation));
    apply(&mut catalogue, confirm(&moved, 5));
    let delete = LocalAction::Delete { replica: there[0].replica, log: made.log, ended: catalogue.applied() };
    assert_eq!(plan(&catalogue, leaves, &there, &none()), [delete]);
    let later = LocalReplica { intent: catalogue.applied(), ..there[0].clone() };
    assert_eq!(plan(&catalogue, leaves, &[later], &none()), [], "intended above what this catalogue knows");
}

/// A node was down when a topic was made, and comes back when its replica is no longer intended: without it the log has no
/// majority that could ever let it go. Found by the simulator: mixed, seed 120.
#[test]
fn a_replica_that_is_not_confirmed_away_is_started_too() {
    let mut catalogue = cluster(&["", ""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let made = catalogue.partitions().next().expect("one").clone();
    let (home, other) = (made.intended[0], if made.intended[0].node() == NODE { NodeId(2) } else { NODE });
    apply(&mut catalogue, set(&made, &[other.0]));
    let here = started(&plan(&catalogue, home.node(), &[], &none()));
    assert_eq!(here.iter().map(|local| local.replica).collect::<Vec<_>>(), [home]);
    assert_eq!(plan(&catalogue, home.node(), &here, &none()), []);
    let moved = catalogue.partitions().next().expect("one").clone();
    apply(&mut catalogue, confirm(&moved, 3));
    assert_eq!(started(&plan(&catalogue, home.node(), &[], &none())), []);
}

/// One thing that happens to the catalogue.
#[derive(Clone, Debug)]
enum Step {
    Create(u32, u32),
    Delete(u32),
    /// Moves a partition to two nodes.
    Move(usize, u32),
    /// The leader of a partition confirms its newest intent.
    Confirm(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..4, 1u32..4).prop_map(|(topic, partitions)| Step::Create(topic, partitions)),
        (0u32..4).prop_map(Step::Delete),
        (any::<usize>(), 1u32..4).prop_map(|(at, without)| Step::Move(at, without)),
        any::<usize>().prop_map(Step::Confirm),
    ]
}

fn take(catalogue: &mut Catalogue, step: &Step, number: u64) {
    let pick = |at: &usize| {
        let partitions: Vec<&PartitionInfo> = catalogue.partitions().collect();
        (!partitions.is_empty()).then(|| partitions[at % partitions.len()].clone())
    };
    let body = match step {
        Step::Create(topic, partitions) => {
            Some(CommandBody::CreateTopic(crate::support_tests::create(&format!("t{topic}"), *partitions, 2)))
        }
        Step::Delete(topic) => Some(CommandBody::DeleteTopic(delete(&format!("t{topic}")))),
        Step::Move(at, without) => pick(at).map(|partition| {
            let nodes: Vec<u32> = (1..=3).filter(|node| node != without).collect();
            set(&partition, &nodes)
        }),
        Step::Confirm(at) => pick(at).map(|partition| confirm(&partition, number)),
    };
    body.into_iter().for_each(|body| {
        apply(catalogue, body);
    });
}

proptest! {
    /// Nodes that follow their plans end with exactly the replicas that the catalogue intends, whenever they look; and while
    /// an intent isn't confirmed, nobody who may be needed for it is gone.
    #[test]
    fn plans_converge(steps in proptest::collection::vec((any_step(), any::<u8>()), 1..40)) {
        let mut catalogue = cluster(&["", "", ""]);
        let mut local: BTreeMap<NodeId, BTreeMap<ReplicaId, LocalReplica>> = BTreeMap::new();
        let mut marks = none();
        for (number, (step, looks)) in (1u64..).zip(&steps) {
            let confirmed: Vec<PartitionInfo> = catalogue.partitions().cloned().collect();
            take(&mut catalogue, step, number);
            for node in (1..=3).filter(|node| looks & (1 << node) != 0).map(NodeId) {
                follow(&catalogue, node, local.entry(node).or_default(), &mut marks);
            }
            for partition in confirmed.iter().filter(|old| catalogue.partition(old.topic, old.index).is_some()) {
                let now = catalogue.partition(partition.topic, partition.index).expect("just found");
                let needed = now.intended.iter().chain(&now.confirmed);
                prop_assert!(needed.into_iter().all(|replica| !marks.contains(replica)), "{now:?} lost one: {marks:?}");
            }
        }
        let last: Vec<PartitionInfo> = catalogue.partitions().cloned().collect();
        for partition in &last {
            apply(&mut catalogue, confirm(partition, 1_000));
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
                assert!(standing.values().all(|other| other.log != replica.log), "one replica of a log on a node");
                standing.insert(replica.replica, replica);
            }
            LocalAction::Configure { .. } => panic!("nothing was altered"),
            LocalAction::Intend { replica, intent } => {
                standing.get_mut(&replica).expect("it stands").told = Some((intent.version, intent.confirmed));
            }
            LocalAction::Delete { replica, .. } => {
                standing.remove(&replica);
                marks.insert(replica);
            }
        }
    }
}
