//! Group 0: commands and what they do to a catalogue, a stored state, outcomes, settings.

use crate::target::{Mend, Target};
use crate::targets::archive::{list, parts};
use dlog_core::limits::MIB;
use dlog_core::{LogIndex, NodeId, Offset, ProducerId, ReplicaId, TopicId};
use dlog_replication::{
    AllocateProducerIds, AlterTopic, Catalogue, Command, CommandBody, CommandId, CommandOutcome, ConfirmReplicas,
    CreateTopic, DeleteTopic, FoundCluster, FoundingMember, PreferLeader, RegisterNode, Rejection, RejectionCode,
    SetMetadataVoters, SetReplicas, TopicSettings,
};
use std::collections::BTreeMap;

pub(super) const COMMAND: Target = Target {
    name: "command",
    seeds: command_seeds,
    mend: Mend::Nothing,
    check: check_command,
    // A command of a few bytes may ask for a topic of 10,000 partitions.
    memory: 64 * MIB,
    runs: 12_000,
};
pub(super) const STATE: Target = Target {
    name: "state",
    seeds: state_seeds,
    mend: Mend::Nothing,
    check: check_state,
    memory: 64 * MIB,
    runs: 16_000,
};
pub(super) const OUTCOME: Target = Target {
    name: "outcome",
    seeds: outcome_seeds,
    mend: Mend::Nothing,
    check: check_outcome,
    memory: 64 << 10,
    runs: 16_000,
};
pub(super) const SETTINGS: Target = Target {
    name: "settings",
    seeds: settings_seeds,
    mend: Mend::Nothing,
    check: check_settings,
    memory: 64 << 10,
    runs: 16_000,
};

/// The commands of a cluster's life, each kind among them.
fn bodies() -> Vec<CommandBody> {
    let member = |node: u32| FoundingMember { node, name: format!("n{node}"), directory: vec![node as u8; 16] };
    let register = |node: u32| RegisterNode {
        node,
        name: format!("n{node}"),
        rack: format!("r{node}"),
        client_address: format!("n{node}:7411"),
        peer_address: format!("n{node}:7412"),
        version: "0.1.0".to_owned(),
        shards: 1,
        boot: 1,
        directory: vec![node as u8; 16],
    };
    let settings = TopicSettings::parse(["retention.bytes=1GiB", "segment.bytes=64KiB"]).expect("settings");
    let create = |name: &str, partitions| CreateTopic {
        name: name.to_owned(),
        partitions,
        replicas: 2,
        settings: Some(settings.clone()),
        requested_at_ms: 5,
        ..CreateTopic::default()
    };
    let alter = AlterTopic {
        name: "t".to_owned(),
        settings: TopicSettings::parse(["retention.ms=7d"]).ok(),
        defaults: vec!["segment.bytes".to_owned()],
        ..AlterTopic::default()
    };
    let mut bodies =
        vec![CommandBody::FoundCluster(FoundCluster { cluster: vec![9; 16], members: (1..=3).map(member).collect() })];
    bodies.extend((1..=3).map(|node| CommandBody::RegisterNode(register(node))));
    bodies.push(CommandBody::CreateTopic(create("t", 2)));
    bodies.push(CommandBody::CreateTopic(create("gone", 1)));
    bodies.push(CommandBody::DeleteTopic(DeleteTopic { name: "gone".to_owned(), ..DeleteTopic::default() }));
    bodies.push(CommandBody::AlterTopic(alter));
    bodies.push(CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1000 }));
    bodies.push(CommandBody::SetReplicas(SetReplicas { topic: 1, partition: 0, nodes: vec![3, 1, 2], intent: 0 }));
    bodies.push(CommandBody::SetMetadataVoters(SetMetadataVoters { nodes: vec![1, 2, 3], intent: 0 }));
    bodies
}

fn command(number: u128, body: CommandBody) -> Vec<u8> {
    Command::new(CommandId(number), body).encode().to_vec()
}

/// A catalogue after all of these commands.
fn lived() -> Catalogue {
    let mut catalogue = Catalogue::new();
    for (number, body) in (1u128..).zip(bodies()) {
        let applied = catalogue.apply(catalogue.applied().next(), &command(number, body));
        assert!(!matches!(applied.outcome, CommandOutcome::Rejected(_)), "{:?}", applied.outcome);
    }
    catalogue
}

fn command_seeds() -> Vec<Vec<u8>> {
    let mut all = bodies();
    let catalogue = lived();
    let moved = catalogue.partitions().next().expect("a partition");
    let voters = moved.intended.iter().map(|replica| replica.0).collect();
    let (log, intent) = (moved.log.0, moved.intent.0);
    all.push(CommandBody::ConfirmReplicas(ConfirmReplicas { log, intent, membership: 4, voters }));
    all.push(CommandBody::PreferLeader(PreferLeader { topic: 1, partition: 1, node: 2 }));
    // Ids that were not used yet: a used one only tells its outcome again.
    (100u128..).zip(all).map(|(number, body)| command(number, body)).collect()
}

fn check_command(input: &[u8]) -> bool {
    let decoded = Command::decode(input);
    if let Ok(command) = &decoded {
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
    }
    for mut catalogue in [Catalogue::new(), lived()] {
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = catalogue.entries().into_iter().collect();
        let index = catalogue.applied().next();
        let applied = catalogue.apply(index, input);
        catalogue.assert_invariants();
        for change in applied.changes {
            match change.value {
                Some(value) => drop(state.insert(change.key, value)),
                None => drop(state.remove(&change.key)),
            }
        }
        assert_eq!(Catalogue::load(index, &state).as_ref(), Ok(&catalogue), "what is stored is the catalogue");
        if let Ok(command) = &decoded {
            assert_eq!(catalogue.outcome(command.id), Some(&applied.outcome));
        }
    }
    decoded.is_ok()
}

fn state_of(catalogue: &Catalogue) -> Vec<u8> {
    list(catalogue.entries().into_iter().flat_map(|(key, value)| [key, value]))
}

fn state_seeds() -> Vec<Vec<u8>> {
    let mut founded = Catalogue::new();
    for (number, body) in (1u128..).zip(bodies().into_iter().take(5)) {
        founded.apply(founded.applied().next(), &command(number, body));
    }
    vec![state_of(&Catalogue::new()), state_of(&founded), state_of(&lived())]
}

fn check_state(input: &[u8]) -> bool {
    let parts = parts(input);
    let entries = parts.chunks_exact(2).map(|two| (two[0], two[1]));
    let Ok(mut catalogue) = Catalogue::load(LogIndex(50), entries) else { return false };
    catalogue.assert_invariants();
    let again = Catalogue::load(LogIndex(50), catalogue.entries());
    assert_eq!(again.as_ref(), Ok(&catalogue));
    // A state that is taken must bear every command.
    for seed in command_seeds() {
        catalogue.apply(catalogue.applied().next(), &seed);
        catalogue.assert_invariants();
    }
    !parts.is_empty() || input.is_empty()
}

fn outcome_seeds() -> Vec<Vec<u8>> {
    let outcomes = [
        CommandOutcome::ClusterFounded,
        CommandOutcome::NodeRegistered { node: NodeId(3) },
        CommandOutcome::TopicCreated { topic: TopicId(4), partitions: 5, created: true },
        CommandOutcome::TopicDeleted { topic: TopicId(4) },
        CommandOutcome::ProducerIds { first: ProducerId(1000), count: 1000 },
        CommandOutcome::LeaderPreferred { replica: ReplicaId(0x1_0000_0002) },
        CommandOutcome::ReplicasIntended { intent: LogIndex(9) },
        CommandOutcome::Rejected(Rejection::new(RejectionCode::LimitReached, "too many")),
    ];
    outcomes.iter().map(CommandOutcome::encode).collect()
}

fn check_outcome(input: &[u8]) -> bool {
    let Some(outcome) = CommandOutcome::decode(input) else { return false };
    assert_eq!(CommandOutcome::decode(&outcome.encode()), Some(outcome));
    true
}

fn settings_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "segment.bytes=64KiB\nmax.batch.bytes=1 MiB\ntimestamp.type=append",
        "retention.bytes=10GB\nretention.ms=168h",
        "retention.bytes=unlimited\nretention.ms=-1",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn check_settings(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let Ok(settings) = TopicSettings::parse(text.lines()) else { return false };
    assert_eq!(settings.validate(), Ok(()));
    // As they are shown, they can be given again.
    let shown = settings.effective().map(|(key, value)| format!("{key}={value}"));
    let again = TopicSettings::parse(&shown).expect("what is shown can be given");
    assert_eq!(again.effective(), settings.effective());
    assert!(settings.segment_bytes() <= Offset::MAX.0);
    true
}
