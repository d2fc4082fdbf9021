//! The catalogue as a state machine: its rules, and that it is total, deterministic and equal to what it stores.

use super::*;
use crate::bootstrap::BootstrapSet;
use crate::command::{
    AllocateProducerIds, AlterTopic, CommandId, ConfirmReplicas, CreateTopic, DeleteTopic, PreferLeader, RegisterNode,
    SetMetadataVoters, SetReplicas,
};
use crate::settings::TopicSettings;
use crate::support_tests::{apply, cluster, create, create_topic, delete, register};
use dlog_core::ProducerId;
use dlog_core::limits::PARTITIONS_PER_TOPIC_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Store = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(store: &mut Store, changes: Vec<StateChange>) {
    for change in changes {
        match change.value {
            Some(value) => store.insert(change.key, value),
            None => store.remove(&change.key),
        };
    }
}

fn code(outcome: CommandOutcome) -> RejectionCode {
    match outcome {
        CommandOutcome::Rejected(rejection) => rejection.code,
        done => panic!("{done:?} is no rejection"),
    }
}

fn rejection(catalogue: &mut Catalogue, body: CommandBody) -> RejectionCode {
    let before = Catalogue { applied: LogIndex::ZERO, requests: Requests::default(), ..catalogue.clone() };
    let code = code(apply(catalogue, body));
    let after = Catalogue { applied: LogIndex::ZERO, requests: Requests::default(), ..catalogue.clone() };
    assert_eq!(before, after, "a rejected command changes nothing");
    code
}

fn boots(node: u32, boot: u64) -> CommandBody {
    CommandBody::RegisterNode(RegisterNode { boot, ..register(node, "") })
}

#[test]
fn a_node_registers_and_comes_back() {
    let mut catalogue = cluster(&["", "r2"]);
    let info = catalogue.node_by_name("n2").expect("registered");
    assert_eq!((info.node, info.rack.as_deref(), info.boot), (NodeId(2), Some("r2"), 1));
    let moved = RegisterNode { boot: 2, client_address: "elsewhere:1".to_owned(), ..register(2, "") };
    apply(&mut catalogue, CommandBody::RegisterNode(moved));
    let info = catalogue.node(NodeId(2)).expect("registered");
    assert_eq!((info.client_address.as_str(), info.rack.as_deref(), info.boot), ("elsewhere:1", None, 2));
    assert_eq!(rejection(&mut catalogue, boots(2, 1)), RejectionCode::StaleBoot);
    assert_eq!(catalogue.nodes().len(), 2);
}

#[test]
fn a_name_an_id_and_a_directory_belong_together() {
    let mut catalogue = cluster(&["", ""]);
    let mut refused = |register: RegisterNode| rejection(&mut catalogue, CommandBody::RegisterNode(register));
    let renamed = RegisterNode { name: "other".to_owned(), ..register(1, "") };
    assert_eq!(refused(renamed), RejectionCode::NodeConflict);
    let taken = RegisterNode { name: "n1".to_owned(), ..register(3, "") };
    assert_eq!(refused(taken), RejectionCode::NodeConflict);
    let wiped = RegisterNode { directory: vec![99; 16], boot: 2, ..register(1, "") };
    assert_eq!(refused(wiped), RejectionCode::NodeConflict);
}

#[test]
fn nonsense_nodes_are_refused() {
    let mut catalogue = Catalogue::new();
    let good = register(1, "");
    let bad = [
        RegisterNode { node: 0, ..good.clone() },
        RegisterNode { name: String::new(), ..good.clone() },
        RegisterNode { name: "a b".to_owned(), ..good.clone() },
        RegisterNode { client_address: String::new(), ..good.clone() },
        RegisterNode { peer_address: "x".repeat(1000), ..good.clone() },
        RegisterNode { rack: "\n".to_owned(), ..good.clone() },
        RegisterNode { version: "v".repeat(65), ..good.clone() },
        RegisterNode { shards: 0, ..good.clone() },
        RegisterNode { shards: 100_000, ..good.clone() },
        RegisterNode { boot: 0, ..good.clone() },
        RegisterNode { directory: vec![1; 15], ..good },
    ];
    for register in bad {
        assert_eq!(rejection(&mut catalogue, CommandBody::RegisterNode(register)), RejectionCode::InvalidNode);
    }
}

#[test]
fn a_founded_cluster_knows_its_nodes_at_once() {
    let set = BootstrapSet::new((1u8..=3).map(|node| (format!("n{node}"), [node; 16]))).expect("valid");
    let found = || CommandBody::FoundCluster(set.found_command());
    let mut catalogue = cluster(&[""]);
    assert_eq!(apply(&mut catalogue, found()), CommandOutcome::ClusterFounded);
    assert_eq!(catalogue.cluster(), Some(set.cluster_id()));
    assert_eq!(catalogue.nodes().len(), 3);
    assert!(catalogue.node(NodeId(1)).expect("known").is_registered());
    assert!(!catalogue.node(NodeId(3)).expect("known").is_registered());
    assert_eq!(apply(&mut catalogue, found()), CommandOutcome::ClusterFounded, "once is as good as twice");
    create_topic(&mut catalogue, "early", 1, 0);
    assert_eq!(catalogue.topic_by_name("early").expect("made").replicas, 3, "not as many as were quick to register");

    let other = BootstrapSet::new([("n1".to_owned(), [1; 16])]).expect("valid");
    let other = CommandBody::FoundCluster(other.found_command());
    assert_eq!(rejection(&mut catalogue, other), RejectionCode::ClusterConflict);
    let stranger = CommandBody::RegisterNode(register(4, ""));
    assert_eq!(rejection(&mut catalogue, stranger), RejectionCode::NodeConflict);
    assert!(matches!(apply(&mut catalogue, boots(3, 1)), CommandOutcome::NodeRegistered { .. }));
}

#[test]
fn a_bootstrap_set_that_contradicts_itself_or_a_node_is_refused() {
    let mut catalogue = cluster(&["", ""]);
    let set = |members: &[(&str, u8)]| {
        let members = members.iter().map(|(name, id)| ((*name).to_owned(), [*id; 16]));
        BootstrapSet::new(members).expect("valid").found_command()
    };
    let good = set(&[("n1", 1), ("n2", 2)]);
    let mut refused = |found: FoundCluster| rejection(&mut catalogue, CommandBody::FoundCluster(found));
    assert_eq!(refused(set(&[("n1", 1)])), RejectionCode::NodeConflict, "n2 is registered");
    assert_eq!(refused(set(&[("n1", 1), ("n2", 9)])), RejectionCode::NodeConflict, "n2 has another directory");
    assert_eq!(refused(FoundCluster { members: Vec::new(), ..good.clone() }), RejectionCode::InvalidNode);
    assert_eq!(refused(FoundCluster { cluster: vec![1], ..good.clone() }), RejectionCode::Malformed);
    let twice = [good.members.clone(), good.members[..1].to_vec()].concat();
    assert_eq!(refused(FoundCluster { members: twice, ..good }), RejectionCode::NodeConflict);
}

#[test]
fn a_topic_gets_its_partitions() {
    let mut catalogue = cluster(&["", "", ""]);
    let made_at = create_topic(&mut catalogue, "events", 4, 0);
    let topic = catalogue.topic_by_name("events").expect("made").clone();
    assert_eq!((topic.topic, topic.partitions, topic.replicas), (TopicId(1), 4, 3));
    assert_eq!((topic.created_at, topic.first_log), (made_at, LogId(1)));
    let partitions: Vec<&PartitionInfo> = catalogue.partitions_of(topic.topic).collect();
    assert_eq!(partitions.len(), 4);
    for (number, partition) in (0u32..).zip(partitions) {
        assert_eq!((partition.index.0, partition.log.0), (number, u64::from(number) + 1));
        assert_eq!(partition.intended.len(), 3);
        assert_eq!(partition.preferred, partition.intended[0]);
        assert_eq!((&partition.creation, &partition.confirmed), (&partition.intended, &partition.intended));
        assert_eq!((partition.intent, partition.confirmed_intent), (made_at, made_at));
        assert_eq!(catalogue.partition_of_log(partition.log), Some(partition));
        assert_eq!(partition.replica_on(NodeId(9)), None);
    }
    assert_eq!(catalogue.replicas_on(NodeId(2)).count(), 4);
    let numbers: Vec<u32> = catalogue.replicas_on(NodeId(2)).map(|(replica, _)| replica.number()).collect();
    assert_eq!(numbers, [2, 3, 4, 5], "1 is the replica of group 0");
}

#[test]
fn impossible_topics_are_refused() {
    let mut catalogue = cluster(&["", ""]);
    create_topic(&mut catalogue, "events", 1, 2);
    let mut refused = |create: CreateTopic| rejection(&mut catalogue, CommandBody::CreateTopic(create));
    assert_eq!(refused(create("events", 1, 1)), RejectionCode::TopicExists);
    assert_eq!(refused(create("", 1, 1)), RejectionCode::InvalidTopicName);
    assert_eq!(refused(create("a/b", 1, 1)), RejectionCode::InvalidTopicName);
    assert_eq!(refused(create("__mine", 1, 1)), RejectionCode::InvalidTopicName);
    assert_eq!(refused(create("a", 1, 3)), RejectionCode::NotEnoughNodes);
    assert_eq!(refused(create("a", 1, 1000)), RejectionCode::InvalidArgument);
    assert_eq!(refused(create("a", PARTITIONS_PER_TOPIC_MAX + 1, 1)), RejectionCode::InvalidArgument);
    assert_eq!(refused(create("a", u32::MAX, 1)), RejectionCode::InvalidArgument);
    let elsewhere = CreateTopic { namespace: "other".to_owned(), ..create("a", 1, 1) };
    assert_eq!(refused(elsewhere), RejectionCode::InvalidArgument);
    // A value that only a command made by other means could hold: `segment.bytes` 1.
    let settings = TopicSettings::decode(&[0x08, 0x01][..]).expect("the form is right");
    let settings = CreateTopic { settings: Some(settings), ..create("a", 1, 1) };
    assert_eq!(refused(settings), RejectionCode::InvalidSetting);
    assert_eq!(
        rejection(&mut Catalogue::new(), CommandBody::CreateTopic(create("a", 1, 0))),
        RejectionCode::NotEnoughNodes
    );
}

#[test]
fn if_not_exists_finds_the_topic() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "events", 3, 1);
    let again = CreateTopic { if_not_exists: true, ..create("events", 7, 1) };
    let outcome = apply(&mut catalogue, CommandBody::CreateTopic(again));
    assert_eq!(outcome, CommandOutcome::TopicCreated { topic: TopicId(1), partitions: 3, created: false });
}

#[test]
fn a_deleted_topic_leaves_its_mark_and_its_ids_are_not_given_again() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 2, 1);
    create_topic(&mut catalogue, "b", 1, 1);
    assert!(!catalogue.was_deleted(LogId(1)));
    assert_eq!(
        apply(&mut catalogue, CommandBody::DeleteTopic(delete("a"))),
        CommandOutcome::TopicDeleted { topic: TopicId(1) }
    );
    let deleted_at = catalogue.applied();
    assert_eq!(catalogue.deleted_at(LogId(1)), Some(deleted_at));
    assert_eq!(catalogue.deleted_at(LogId(2)), Some(deleted_at));
    assert!(!catalogue.was_deleted(LogId(3)), "b's");
    assert!(!catalogue.was_deleted(LogId(4)), "nobody's so far");
    assert!(!catalogue.was_deleted(LogId::GROUP_ZERO));
    assert!(catalogue.topic_by_name("a").is_none());
    assert!(catalogue.partition_of_log(LogId(1)).is_none());
    create_topic(&mut catalogue, "a", 1, 1);
    let again = catalogue.topic_by_name("a").expect("made again");
    assert_eq!((again.topic, again.first_log), (TopicId(3), LogId(4)));
    let replica = catalogue.partition(TopicId(3), PartitionIndex(0)).expect("made").preferred;
    assert_eq!(replica.number(), 5, "2, 3 and 4 were given before");
    let late = DeleteTopic { topic: 1, ..delete("a") };
    assert_eq!(rejection(&mut catalogue, CommandBody::DeleteTopic(late)), RejectionCode::UnknownTopic);
    assert_eq!(rejection(&mut catalogue, CommandBody::DeleteTopic(delete("zz"))), RejectionCode::UnknownTopic);
}

#[test]
fn settings_are_altered_one_by_one() {
    let mut catalogue = cluster(&[""]);
    create_topic(&mut catalogue, "a", 1, 1);
    let mut alter = |name: &str, pairs: &[&str], defaults: &[&str], topic: u64| {
        let settings = Some(TopicSettings::parse(pairs).expect("valid"));
        let defaults = defaults.iter().map(|name| (*name).to_owned()).collect();
        let alter = AlterTopic { name: name.to_owned(), settings, defaults, topic, ..AlterTopic::default() };
        apply(&mut catalogue, CommandBody::AlterTopic(alter))
    };
    let altered = CommandOutcome::TopicAltered { topic: TopicId(1) };
    assert_eq!(alter("a", &["segment.bytes=1MiB", "retention.ms=7d"], &[], 0), altered);
    assert_eq!(alter("a", &["timestamp.type=append"], &["retention.ms"], 1), altered);
    assert_eq!(code(alter("a", &[], &[], 0)), RejectionCode::InvalidArgument);
    assert_eq!(code(alter("a", &[], &["retention"], 0)), RejectionCode::InvalidSetting);
    assert_eq!(code(alter("a", &["segment.bytes=2MiB"], &["segment.bytes"], 0)), RejectionCode::InvalidSetting);
    assert_eq!(code(alter("a", &["segment.bytes=2MiB"], &[], 2)), RejectionCode::UnknownTopic, "another one");
    assert_eq!(code(alter("b", &["segment.bytes=1MiB"], &[], 0)), RejectionCode::UnknownTopic);
    let expected = TopicSettings::parse(["segment.bytes=1MiB", "timestamp.type=append"]).expect("valid");
    assert_eq!(catalogue.topic_by_name("a").expect("made").settings, expected);
}

#[test]
fn producer_ids_come_in_blocks() {
    let mut catalogue = Catalogue::new();
    let mut allocate = |count| apply(&mut catalogue, CommandBody::AllocateProducerIds(AllocateProducerIds { count }));
    assert_eq!(allocate(10), CommandOutcome::ProducerIds { first: ProducerId(0), count: 10 });
    assert_eq!(allocate(1), CommandOutcome::ProducerIds { first: ProducerId(10), count: 1 });
    assert_eq!(code(allocate(0)), RejectionCode::InvalidArgument);
    assert_eq!(code(allocate(PRODUCER_IDS_MAX + 1)), RejectionCode::InvalidArgument);
    assert_eq!(
        allocate(PRODUCER_IDS_MAX),
        CommandOutcome::ProducerIds { first: ProducerId(11), count: PRODUCER_IDS_MAX }
    );
}

#[test]
fn a_leader_is_chosen_among_the_replicas() {
    let mut catalogue = cluster(&["", "", "", ""]);
    create_topic(&mut catalogue, "a", 2, 3);
    let place = |catalogue: &Catalogue| catalogue.partition(TopicId(1), PartitionIndex(1)).expect("made").clone();
    let before = place(&catalogue);
    let prefer = |topic, partition, node: u32| CommandBody::PreferLeader(PreferLeader { topic, partition, node });
    let chosen = before.intended[2];
    let outcome = apply(&mut catalogue, prefer(1, 1, chosen.node().0));
    assert_eq!(outcome, CommandOutcome::LeaderPreferred { replica: chosen });
    assert_eq!(place(&catalogue), PartitionInfo { preferred: chosen, ..before.clone() }, "and nothing else");
    let outcome = apply(&mut catalogue, prefer(1, 1, chosen.node().0));
    assert_eq!(outcome, CommandOutcome::LeaderPreferred { replica: chosen }, "twice is fine");
    let elsewhere =
        (1..=4).find(|node| before.replica_on(NodeId(*node)).is_none()).expect("four nodes, three replicas");
    assert_eq!(rejection(&mut catalogue, prefer(1, 1, elsewhere)), RejectionCode::InvalidArgument);
    assert_eq!(rejection(&mut catalogue, prefer(1, 2, 1)), RejectionCode::UnknownTopic);
    assert_eq!(rejection(&mut catalogue, prefer(7, 0, 1)), RejectionCode::UnknownTopic);
}

#[test]
fn a_retry_is_told_what_the_first_was() {
    let mut catalogue = cluster(&[""]);
    let allocate = CommandBody::AllocateProducerIds(AllocateProducerIds { count: 10 });
    let command = Command::new(CommandId(77 << 64), allocate).encode();
    let first = catalogue.apply(LogIndex(10), &command);
    let retry = catalogue.apply(LogIndex(11), &command);
    assert_eq!(retry.outcome, first.outcome);
    assert!(retry.changes.is_empty());
    assert_eq!(catalogue.applied(), LogIndex(11));
    let refused = Command::new(CommandId(78), CommandBody::DeleteTopic(delete("later"))).encode();
    let first = catalogue.apply(LogIndex(12), &refused);
    create_topic(&mut catalogue, "later", 1, 1);
    assert_eq!(catalogue.apply(LogIndex(14), &refused).outcome, first.outcome, "a late retry does no harm");
    assert!(catalogue.topic_by_name("later").is_some());
}

#[test]
fn the_table_of_recent_commands_is_bounded() {
    let mut catalogue = Catalogue::new();
    let mut store = Store::new();
    let allocate = || CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1 });
    let commands = REQUESTS_MAX as u64 + 10;
    for index in 1..=commands {
        let command = Command::new(CommandId(u128::from(index)), allocate());
        write(&mut store, catalogue.apply(LogIndex(index), &command.encode()).changes);
    }
    assert_eq!(store.len(), REQUESTS_MAX + 1, "and the ids");
    assert_eq!(Catalogue::load(LogIndex(commands), &store), Ok(catalogue.clone()));
    let forgotten = Command::new(CommandId(10), allocate()).encode();
    let kept = Command::new(CommandId(11), allocate()).encode();
    assert!(catalogue.apply(LogIndex(commands + 1), &kept).changes.is_empty());
    assert!(!catalogue.apply(LogIndex(commands + 2), &forgotten).changes.is_empty());
}

#[test]
fn an_index_is_applied_once() {
    let mut catalogue = cluster(&["", ""]);
    let before = catalogue.clone();
    let command = Command::new(CommandId(9), CommandBody::CreateTopic(create("a", 1, 1))).encode();
    let applied = catalogue.apply(LogIndex(2), &command);
    assert_eq!(code(applied.outcome), RejectionCode::AlreadyApplied);
    assert!(applied.changes.is_empty());
    catalogue.skip(LogIndex(1));
    assert_eq!(catalogue, before);
    catalogue.skip(LogIndex(7));
    assert_eq!(catalogue.applied(), LogIndex(7));
}

#[test]
fn damaged_stores_are_refused() {
    let mut catalogue = cluster(&["", ""]);
    create_topic(&mut catalogue, "a", 2, 2);
    let applied = catalogue.applied();
    let store: Store = catalogue.entries().into_iter().collect();
    assert_eq!(Catalogue::load(applied, &store), Ok(catalogue));
    for lost in
        [&b"ids"[..], b"node/\0\0\0\x01", b"topic/\0\0\0\0\0\0\0\x01", b"partition/\0\0\0\0\0\0\0\x01\0\0\0\x01"]
    {
        let mut store = store.clone();
        assert!(store.remove(lost).is_some(), "{}", lost.escape_ascii());
        let error = Catalogue::load(applied, &store).expect_err("something is missing");
        assert!(matches!(error, LoadError::Inconsistent { .. }), "{error}");
    }
    let with = |key: &[u8], value: &[u8]| {
        let mut store = store.clone();
        store.insert(key.to_vec(), value.to_vec());
        Catalogue::load(applied, &store).expect_err("damaged")
    };
    assert!(matches!(with(b"later/thing", b""), LoadError::Key { .. }));
    assert!(matches!(with(b"ids", b"\xff"), LoadError::Value { .. }));
    assert!(matches!(with(b"cluster", b""), LoadError::Value { .. }));
    assert!(matches!(with(b"deleted/\0\0\0\0\0\0\0\x01", b"\x08\x02"), LoadError::Inconsistent { .. }));
    assert!(matches!(Catalogue::load(LogIndex(1), &store), Err(LoadError::Inconsistent { .. })), "too early");
}

/// The values of version 1 (their keys: see `state`): a change here makes every state store unreadable.
#[test]
fn golden_state() {
    let mut catalogue = Catalogue::new();
    let register = RegisterNode { rack: "r".to_owned(), ..register(1, "") };
    apply(&mut catalogue, CommandBody::RegisterNode(register));
    let settings = Some(TopicSettings::parse(["segment.bytes=65536"]).expect("valid"));
    let create = CreateTopic { settings, requested_at_ms: 1000, ..create("t", 1, 1) };
    apply(&mut catalogue, CommandBody::CreateTopic(create));
    create_topic(&mut catalogue, "u", 1, 1);
    apply(&mut catalogue, CommandBody::DeleteTopic(delete("u")));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> =
        catalogue.entries().iter().map(|(key, value)| format!("{} = {}", key.escape_ascii(), hex(value))).collect();
    assert_eq!(lines.join("\n"), include_str!("golden_state.txt").trim_end());
}

/// One step of a random history: valid, invalid and retried commands, nonsense, and entries that are none.
#[derive(Clone, Debug)]
enum Step {
    Command(u128, CommandBody),
    Retry(usize),
    /// The leader of this log confirms what is intended.
    Confirm(u128, u64, u64),
    Bytes(Vec<u8>),
    Flip(u128, CommandBody, prop::sample::Index),
    Skip,
}

fn any_body() -> impl Strategy<Value = CommandBody> {
    let name = || prop::sample::select(vec!["a", "b", "c", "__x", "bad/name"]).prop_map(str::to_owned);
    let settings = || {
        prop::option::of((0u64..1 << 21, 0u64..1 << 21, 1u64..99)).prop_map(|values| {
            let (segment, batch, ms) = values?;
            let pairs = [format!("segment.bytes={segment}"), format!("max.batch.bytes={batch}")];
            TopicSettings::parse(pairs.into_iter().chain([format!("retention.ms={ms}")])).ok()
        })
    };
    let found = (1u8..6).prop_map(|nodes| {
        let set = BootstrapSet::new((1..=nodes).map(|node| (format!("n{node}"), [node; 16]))).expect("valid");
        CommandBody::FoundCluster(set.found_command())
    });
    prop_oneof![
        3 => (0u32..6, 0u64..4, prop::sample::select(vec!["", "r1", "r2"])).prop_map(|(node, boot, rack)| {
            CommandBody::RegisterNode(RegisterNode { boot, ..register(node, rack) })
        }),
        4 => (name(), 0u32..6, 0u32..5, settings(), any::<bool>()).prop_map(|(name, partitions, replicas, settings, if_not_exists)| {
            CommandBody::CreateTopic(CreateTopic { settings, if_not_exists, ..create(&name, partitions, replicas) })
        }),
        3 => (name(), 0u64..4).prop_map(|(name, topic)| CommandBody::DeleteTopic(DeleteTopic { topic, ..delete(&name) })),
        2 => (name(), settings(), 0u64..4, prop::option::of(0usize..4)).prop_map(|(name, settings, topic, default)| {
            let names = ["retention.ms", "segment.bytes", "timestamp.type", "x"];
            let defaults = default.map(|at| names[at].to_owned()).into_iter().collect();
            CommandBody::AlterTopic(AlterTopic { name, settings, topic, defaults, ..AlterTopic::default() })
        }),
        1 => (0u32..2000).prop_map(|count| CommandBody::AllocateProducerIds(AllocateProducerIds { count })),
        1 => (0u64..4, 0u32..4, 0u32..6).prop_map(|(topic, partition, node)| {
            CommandBody::PreferLeader(PreferLeader { topic, partition, node })
        }),
        3 => (0u64..4, 0u32..3, proptest::collection::vec(0u32..6, 0..5), 0u64..40).prop_map(|(topic, partition, nodes, intent)| {
            // Mostly of the newest intent, whichever that is.
            let intent = if intent < 30 { 0 } else { intent };
            CommandBody::SetReplicas(SetReplicas { topic, partition, nodes, intent })
        }),
        1 => (proptest::collection::vec(0u32..6, 0..4), 0u64..2).prop_map(|(nodes, intent)| {
            CommandBody::SetMetadataVoters(SetMetadataVoters { nodes, intent })
        }),
        1 => (0u64..4, 0u64..40, 0u64..5, proptest::collection::vec(0u64..6, 0..4)).prop_map(|(log, intent, membership, voters)| {
            CommandBody::ConfirmReplicas(ConfirmReplicas { log, intent, membership, voters })
        }),
        1 => found,
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<u128>(), any_body()).prop_map(|(id, body)| Step::Command(id, body)),
        2 => (0usize..8).prop_map(Step::Retry),
        2 => (any::<u128>(), 0u64..4, 0u64..9).prop_map(|(id, log, membership)| Step::Confirm(id, log, membership)),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Step::Bytes),
        2 => (any::<u128>(), any_body(), any::<prop::sample::Index>()).prop_map(|(id, body, bit)| Step::Flip(id, body, bit)),
        1 => Just(Step::Skip),
    ]
}

fn bytes_of(step: &Step, catalogue: &Catalogue, sent: &[Vec<u8>]) -> Option<Vec<u8>> {
    match step {
        Step::Confirm(id, log, membership) => {
            let intent = crate::Intent::of(catalogue, LogId(*log))?;
            let voters = intent.voters.iter().map(|replica| replica.0).collect();
            let confirm = ConfirmReplicas { log: *log, intent: intent.version.0, membership: *membership, voters };
            Some(Command::new(CommandId(*id), CommandBody::ConfirmReplicas(confirm)).encode().to_vec())
        }
        Step::Command(id, body) => Some(Command::new(CommandId(*id), body.clone()).encode().to_vec()),
        Step::Retry(back) => sent.len().checked_sub(back + 1).map(|at| sent[at].clone()),
        Step::Bytes(bytes) => Some(bytes.clone()),
        Step::Flip(id, body, bit) => {
            let mut bytes = Command::new(CommandId(*id), body.clone()).encode().to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Some(bytes)
        }
        Step::Skip => None,
    }
}

proptest! {
    /// Whatever the history: two catalogues agree on every outcome and change, the invariants hold, and what was stored
    /// loads to the same catalogue.
    #[test]
    fn every_history_is_stored_and_agreed_on(steps in proptest::collection::vec(any_step(), 1..60)) {
        let (mut one, mut other) = (Catalogue::new(), Catalogue::new());
        let (mut store, mut sent) = (Store::new(), Vec::new());
        for (index, step) in (1u64..).zip(&steps) {
            let index = LogIndex(index);
            let Some(bytes) = bytes_of(step, &one, &sent) else {
                one.skip(index);
                other.skip(index);
                continue;
            };
            let applied = one.apply(index, &bytes);
            prop_assert_eq!(&applied, &other.apply(index, &bytes));
            if let Step::Retry(_) = step {
                let unanswered = matches!(&applied.outcome, CommandOutcome::Rejected(rejection)
                    if matches!(rejection.code, RejectionCode::Malformed | RejectionCode::UnknownCommand));
                prop_assert!(applied.changes.is_empty() || unanswered, "a retry changes nothing");
            }
            prop_assert!(applied.changes.is_sorted_by(|a, b| a.key < b.key));
            write(&mut store, applied.changes);
            one.assert_invariants();
            sent.push(bytes);
            // A node that starts here goes on from what it stored.
            if index.0.is_multiple_of(7) {
                other = Catalogue::load(index, &store).expect("own entries");
            }
        }
        prop_assert_eq!(&Catalogue::load(one.applied(), &store).expect("own entries"), &one);
        prop_assert_eq!(one.entries().into_iter().collect::<Store>(), store);
    }

    #[test]
    fn any_bytes_get_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut catalogue = cluster(&["", "a", "b"]);
        let index = catalogue.applied().next();
        let _ = catalogue.apply(index, &bytes);
        catalogue.assert_invariants();
        prop_assert_eq!(catalogue.applied(), index);
    }

    #[test]
    fn any_entries_load_or_are_refused(
        entries in proptest::collection::vec((0usize..6, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..5)
    ) {
        let prefixes = [&b"ids"[..], b"node/", b"topic/\0\0\0\0", b"deleted/\0\0\0\0", b"request/\0\0\0\0", b"cluster"];
        let entries = entries.into_iter().map(|(prefix, id, value)| {
            let id = if prefixes[prefix].contains(&b'/') { id.to_be_bytes().to_vec() } else { Vec::new() };
            ([prefixes[prefix], &id].concat(), value)
        });
        if let Ok(catalogue) = Catalogue::load(LogIndex(5), entries) {
            catalogue.assert_invariants();
        }
    }
}

/// What a snapshot of 100,000 partitions holds, as `limits::STATE_BYTES_MAX` says it.
#[test]
fn a_hundred_thousand_partitions_are_nine_mebibytes() {
    let mut catalogue = cluster(&["a", "b", "c", "d", "e"]);
    for topic in 0..10 {
        create_topic(&mut catalogue, &format!("topic-{topic}"), PARTITIONS_PER_TOPIC_MAX, 3);
    }
    let entries = catalogue.entries();
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    assert!((8 << 20..11 << 20).contains(&bytes), "{bytes}");
    println!("{} entries, {bytes} bytes", entries.len());
    let loaded = Catalogue::load(catalogue.applied(), entries).expect("its own entries");
    assert_eq!(loaded, catalogue);
}
