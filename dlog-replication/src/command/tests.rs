//! The commands' bytes: golden, there and back, and anything at all.

use super::*;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn commands() -> Vec<(CommandBody, &'static str)> {
    let text = |text: &str| text.to_owned();
    let settings = TopicSettings::parse(["timestamp.type=append"]).expect("valid");
    let member = FoundingMember { node: 1, name: text("n1"), directory: vec![7; 16] };
    let register = RegisterNode {
        node: 2,
        name: text("n2"),
        rack: text("r"),
        client_address: text("h:1"),
        peer_address: text("h:2"),
        version: text("0.1.0"),
        shards: 1,
        boot: 3,
        directory: vec![8; 16],
    };
    let create = CreateTopic {
        name: text("events"),
        partitions: 4,
        replicas: 3,
        settings: Some(settings.clone()),
        if_not_exists: true,
        requested_at_ms: 1000,
        namespace: text("default"),
    };
    vec![
        (
            CommandBody::FoundCluster(FoundCluster { cluster: vec![9; 16], members: vec![member] }),
            "522c0a10090909090909090909090909090909091218080112026e311a1007070707070707070707070707070707",
        ),
        (
            CommandBody::RegisterNode(register),
            "5a30080212026e321a01722203683a312a03683a323205302e312e30380140034a1008080808080808080808080808080808",
        ),
        (CommandBody::CreateTopic(create), "621e0a066576656e74731004180322021802280130e8073a0764656661756c74"),
        (
            CommandBody::DeleteTopic(DeleteTopic { name: text("events"), topic: 5, namespace: text("") }),
            "6a0a0a066576656e74731005",
        ),
        (
            CommandBody::AlterTopic(AlterTopic {
                name: text("events"),
                settings: Some(settings),
                ..AlterTopic::default()
            }),
            "720c0a066576656e747312021802",
        ),
        (
            CommandBody::AlterTopic(AlterTopic {
                name: text("events"),
                defaults: vec![text("retention.ms")],
                topic: 5,
                ..AlterTopic::default()
            }),
            "72180a066576656e7473220c726574656e74696f6e2e6d732805",
        ),
        (CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1000 }), "7a0308e807"),
        (CommandBody::PreferLeader(PreferLeader { topic: 5, partition: 1, node: 2 }), "820106080510011802"),
    ]
}

/// The bytes of version 1: a change here makes every group 0 log unreadable.
#[test]
fn golden_bytes() {
    for (body, expected) in commands() {
        let command = Command::new(CommandId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10), body);
        let bytes = command.encode();
        let id = "090807060504030201".to_owned() + "11100f0e0d0c0b0a09";
        assert_eq!(hex(&bytes), id + expected);
        assert_eq!(Command::decode(&bytes).expect("own bytes"), command);
    }
}

#[test]
fn what_is_no_command_is_refused_with_its_reason() {
    let code = |bytes: &[u8]| Command::decode(bytes).expect_err("refused").code;
    assert_eq!(code(&[]), RejectionCode::Malformed, "no id");
    assert_eq!(code(&[0xff]), RejectionCode::Malformed);
    assert_eq!(code(&vec![0; COMMAND_BYTES_MAX + 1]), RejectionCode::Malformed);
    let body = CommandBody::AllocateProducerIds(AllocateProducerIds { count: 1 });
    assert_eq!(code(&Command::new(CommandId(0), body).encode()), RejectionCode::Malformed, "the id is 0");
}

#[test]
fn a_kind_of_a_later_version_is_named_as_such() {
    // Id 1, then field 99 with an empty message.
    let bytes = [&[0x11, 1, 0, 0, 0, 0, 0, 0, 0][..], &[0x9a, 0x06, 0x00]].concat();
    let rejection = Command::decode(&bytes).expect_err("unknown");
    assert_eq!(rejection.code, RejectionCode::UnknownCommand);
    assert!(rejection.message.contains("version"));
}

proptest! {
    #[test]
    fn round_trip(id in 1u128.., name in "\\PC{0,40}", numbers in any::<[u32; 3]>(), time in any::<i64>()) {
        let create = CreateTopic {
            name,
            partitions: numbers[0],
            replicas: numbers[1],
            settings: None,
            if_not_exists: numbers[2] & 1 == 1,
            requested_at_ms: time,
            namespace: String::new(),
        };
        let command = Command::new(CommandId(id), CommandBody::CreateTopic(create));
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert!(command.id.0 != 0);
        }
    }
}
