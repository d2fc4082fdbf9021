//! What the tests of this crate share: clusters that are quick to make.

use crate::catalogue::Catalogue;
use crate::command::{Command, CommandBody, CommandId, CreateTopic, DeleteTopic, RegisterNode};
use crate::outcome::CommandOutcome;
use dlog_core::LogIndex;

/// Applies at the next index, under an id of its own.
pub(crate) fn apply(catalogue: &mut Catalogue, body: CommandBody) -> CommandOutcome {
    let index = catalogue.applied().next();
    let command = Command::new(CommandId(u128::from(index.0)), body);
    let outcome = catalogue.apply(index, &command.encode()).outcome;
    catalogue.assert_invariants();
    outcome
}

pub(crate) fn register(node: u32, rack: &str) -> RegisterNode {
    RegisterNode {
        node,
        name: format!("n{node}"),
        rack: rack.to_owned(),
        client_address: format!("n{node}:7411"),
        peer_address: format!("n{node}:7412"),
        version: "0.1.0".to_owned(),
        shards: 1,
        boot: 1,
        directory: vec![node as u8; 16],
    }
}

pub(crate) fn create(name: &str, partitions: u32, replicas: u32) -> CreateTopic {
    CreateTopic { name: name.to_owned(), partitions, replicas, ..CreateTopic::default() }
}

pub(crate) fn delete(name: &str) -> DeleteTopic {
    DeleteTopic { name: name.to_owned(), ..DeleteTopic::default() }
}

/// A catalogue with nodes 1 to the number of racks, each in its rack (none if empty).
pub(crate) fn cluster(racks: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for (node, rack) in (1u32..).zip(racks) {
        let outcome = apply(&mut catalogue, CommandBody::RegisterNode(register(node, rack)));
        assert!(matches!(outcome, CommandOutcome::NodeRegistered { .. }), "{outcome:?}");
    }
    catalogue
}

/// Makes a topic, which must work.
pub(crate) fn create_topic(catalogue: &mut Catalogue, name: &str, partitions: u32, replicas: u32) -> LogIndex {
    let outcome = apply(catalogue, CommandBody::CreateTopic(create(name, partitions, replicas)));
    assert!(matches!(outcome, CommandOutcome::TopicCreated { created: true, .. }), "{outcome:?}");
    catalogue.applied()
}
