//! Misuse on the wire: bad batches over gRPC, garbage on every port, forged messages between nodes. Each is refused for
//! itself; whoever else is connected notices nothing.

use crate::misuse::{GUARDED, Guard};
use crate::wire;
use bytes::Bytes;
use dlog_cluster_tests::{Cluster, Random, Turn};
use dlog_core::{ErrorCode, ErrorDetail};
use dlog_protocol::{status, v1};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// The client address of the node that leads partition 0 of the guarded topic.
fn leader(cluster: &Cluster) -> String {
    let leader = cluster.leader_of(GUARDED, 0);
    cluster.nodes[cluster.index_of(&leader)].options().client_address()
}

/// Batches that must not be taken, with the codes that say so.
fn bad_batches() -> Vec<(&'static str, Bytes, &'static [ErrorCode])> {
    use ErrorCode::{BatchTooLarge, InvalidArgument, InvalidBatch};
    let good = wire::batch(&["never"]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let last = good.len() - 1;
    let big = "x".repeat(1 << 20);
    vec![
        ("no bytes at all", Bytes::new(), &[InvalidBatch, InvalidArgument]),
        ("a flipped bit in the value", changed(&|b| b[last - 1] ^= 1), &[InvalidBatch]),
        ("a flipped bit in the checksum", changed(&|b| b[17] ^= 1), &[InvalidBatch]),
        ("another magic", changed(&|b| b[16] = 1), &[InvalidBatch, ErrorCode::Unsupported]),
        ("the last byte cut off", good.slice(..last), &[InvalidBatch]),
        ("a byte too many", changed(&|b| b.push(0)), &[InvalidBatch]),
        ("a header alone", good.slice(..61), &[InvalidBatch]),
        ("half a header", good.slice(..30), &[InvalidBatch]),
        ("a negative length", changed(&|b| b[8] = 0xff), &[InvalidBatch]),
        ("a batch above the topic's bound", wire::batch(&[&big]), &[BatchTooLarge]),
        ("only noise", Bytes::from(Random::of_seed(1).bytes(500)), &[InvalidBatch]),
    ]
}

#[track_caller]
fn assert_refused(what: &str, error: &ErrorDetail, codes: &[ErrorCode]) {
    assert!(codes.contains(&error.code), "{what}: {error:?}, expected one of {codes:?}");
    assert_eq!(error.outcome, dlog_core::Outcome::Rejected, "{what} was not applied: {error:?}");
    assert!(!error.message.is_empty(), "{what}: {error:?}");
}

#[test]
fn of_batches() {
    let turn = Turn::take("misuse-batches");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let address = leader(&cluster);
    cluster.create_topic("open", 1, &[]);
    let open = cluster.leader_of("open", 0);
    let open = cluster.nodes[cluster.index_of(&open)].options().client_address();

    wire::run(async {
        let mut log = wire::log(&address).await;
        for (what, batch, codes) in bad_batches() {
            let error = log.produce_once(wire::once(GUARDED, 0, batch)).await.expect_err(what);
            assert_refused(what, &status::from_status(&error), codes);
        }
        // More than a message may hold at all: that call fails, the connection doesn't.
        let huge = Bytes::from(vec![0; 20 << 20]);
        wire::log(&address)
            .await
            .max_encoding_message_size(64 << 20)
            .produce_once(wire::once(GUARDED, 0, huge))
            .await
            .expect_err("too much");
        for (name, partition, code) in
            [("nowhere", 0, ErrorCode::UnknownTopic), (GUARDED, 99, ErrorCode::UnknownPartition)]
        {
            let request = wire::once(name, partition, wire::batch(&["never"]));
            let error = log.produce_once(request).await.expect_err(name);
            assert_eq!(status::from_status(&error).code, code);
        }

        // In a stream a bad request concerns itself alone: a good one follows each.
        let mut requests = Vec::new();
        for (i, (_, batch, _)) in (0_u64..).zip(bad_batches()) {
            requests.push(wire::request(2 * i, "open", 0, batch));
            requests.push(wire::request(2 * i + 1, "open", 0, wire::batch(&[format!("good {i}")])));
        }
        let mut log = wire::log(&open).await;
        let stream = wire::paced(requests, Duration::ZERO);
        let mut answers = log.produce(stream).await.expect("a stream").into_inner();
        let (mut refused, mut acked) = (0, 0);
        while let Some(answer) = answers.message().await.expect("the stream goes on") {
            match answer.error {
                Some(error) => {
                    let place = usize::try_from(answer.request_id / 2).expect("small");
                    let (what, _, codes) = &bad_batches()[place];
                    assert_eq!(answer.request_id % 2, 0, "a good batch after {what}: {error:?}");
                    assert_refused(what, &status::from_message(error), codes);
                    refused += 1;
                }
                None => {
                    assert_eq!(answer.request_id % 2, 1, "a bad batch was acked: {answer:?}");
                    acked += 1;
                }
            }
        }
        assert_eq!((refused, acked), (bad_batches().len(), bad_batches().len()));
    });
    let ran = cluster.dlog(["consume", "open"]).ok();
    let expected: String = (0..bad_batches().len()).map(|i| format!("good {i}\n")).collect();
    assert_eq!(ran.text(), expected, "the good ones, and no other");
    guard.assert_unchanged(&cluster, "bad batches");
    cluster.finish();
}

/// What is said to a port by somebody who means another protocol, or no good.
fn garbage(random: &mut Random) -> Vec<(&'static str, Vec<u8>)> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let after_preface = |frame: &[u8]| [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], frame].concat();
    vec![
        ("nothing", Vec::new()),
        ("noise", random.bytes(4096)),
        ("much noise", random.bytes(300_000)),
        ("HTTP/1.1", b"GET /no/such/page HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("an endless header", [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 200_000]].concat()),
        ("a TLS hello", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random.bytes(500)].concat()),
        ("a Kafka request", [&[0, 0, 0, 20, 0, 18, 0, 4, 0, 0, 0, 1, 0, 4][..], b"test", &[0; 6]].concat()),
        ("HTTP/2 and noise", after_preface(&random.bytes(4096))),
        ("HTTP/2 with a frame that is too long", after_preface(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        ("HTTP/2 with a window of nothing", after_preface(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("half a preface", PREFACE[..10].to_vec()),
    ]
}

#[test]
fn of_ports() {
    let turn = Turn::take("misuse-ports");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let mut random = Random::new("misuse_wire of_ports");
    let mut open = Vec::new();
    for node in &cluster.nodes {
        for port in [node.options().client, node.options().peer, node.options().ops] {
            for (what, bytes) in garbage(&mut random) {
                let mut stream =
                    TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|e| panic!("{port}, {what}: {e}"));
                stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
                // The other side may close at any moment.
                let _ = stream.write_all(&bytes);
                let mut answer = [0; 1024];
                let _ = stream.read(&mut answer);
                // Some are left open in the middle of what they say, until the end of the test.
                if open.len() % 3 == 0 {
                    let _ = stream.shutdown(Shutdown::Write);
                }
                open.push(stream);
            }
        }
    }
    guard.assert_unchanged(&cluster, "garbage on each port");
    drop(open);
    guard.assert_unchanged(&cluster, "the end of its connections");
    cluster.finish();
}

/// What a forger can find out about the replicas of a node: it is asked as a peer would.
async fn replicas(peer: &str, cluster_id: &Bytes) -> Vec<v1::ReplicaReport> {
    let request = v1::NodeReportRequest { cluster_id: cluster_id.clone(), ..Default::default() };
    let report = wire::peer(peer).await.node_report(request).await.expect("a report").into_inner();
    assert!(!report.replicas.is_empty(), "{report:?}");
    report.replicas
}

/// Messages to replicas, each said to come from another voter of its group, or from a replica of `node`.
fn forged(victims: &[v1::ReplicaReport], node: Option<u64>, kind: v1::RaftMessageKind) -> Vec<v1::RaftMessage> {
    let forge = |victim: &v1::ReplicaReport| {
        let other = victim.voters.iter().copied().find(|voter| *voter != victim.replica);
        v1::RaftMessage {
            log: victim.log,
            from: node.map_or(other.unwrap_or(1), |node| (node << 32) | 1),
            to: victim.replica,
            kind: kind.into(),
            term: 1_000_000,
            log_term: 999_999,
            index: 1 << 40,
            commit: 1 << 40,
            commit_term: 999_999,
            entries: vec![v1::RaftEntry { term: 1_000_000, index: 7, kind: 1, payload: Bytes::from_static(b"forged") }],
            ..v1::RaftMessage::default()
        }
    };
    victims.iter().map(forge).collect()
}

/// Opens a peer stream with this hello, sends the messages, and returns what the other side said: until it ended the
/// stream, or nothing more for so long.
async fn send_forged(
    address: &str,
    hello: Option<v1::Hello>,
    messages: Vec<v1::RaftMessage>,
    patience: Duration,
) -> Vec<Result<v1::PeerNotice, tonic::Status>> {
    let mut peer = wire::peer(address).await;
    let first = v1::PeerBundle { hello, messages: messages.clone(), ..v1::PeerBundle::default() };
    let second = v1::PeerBundle { messages, ..v1::PeerBundle::default() };
    let mut stream = match peer.consensus(wire::paced(vec![first, second], Duration::from_millis(50))).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return vec![Err(status)],
    };
    let mut said = Vec::new();
    while let Ok(notice) = tokio::time::timeout(patience, stream.message()).await {
        match notice {
            Ok(Some(notice)) => said.push(Ok(notice)),
            Ok(None) => break,
            Err(status) => {
                said.push(Err(status));
                break;
            }
        }
    }
    said
}

/// What a forger knows, and says of itself.
struct Forger {
    cluster: Bytes,
    victim: u32,
    friend: v1::Node,
    /// The friend's directory, if bootstrap tells it to everybody.
    directory: Option<Bytes>,
}

impl Forger {
    async fn new(client: &str, peer: &str) -> Forger {
        let metadata = wire::cluster(client).await.metadata(v1::MetadataRequest::default()).await;
        let metadata = metadata.expect("metadata").into_inner();
        let victim = metadata.nodes.iter().find(|n| n.name == "n1").expect("n1").id;
        let friend = metadata.nodes.iter().find(|n| n.id != victim).expect("another node").clone();
        let set = wire::peer(peer).await.bootstrap(v1::BootstrapRequest::default()).await;
        let members = set.ok().and_then(|answer| answer.into_inner().known_set).unwrap_or_default().members;
        let directory = members.into_iter().find(|m| m.node_id == friend.id).map(|m| m.directory_id);
        Forger { cluster: metadata.cluster_id, victim, friend, directory }
    }

    fn hello(&self, node_id: u32, name: &str) -> v1::Hello {
        v1::Hello {
            cluster_id: self.cluster.clone(),
            node_id,
            name: name.to_string(),
            boot_number: 1,
            boot_value: 1,
            version: "0".to_string(),
            priority: v1::StreamPriority::Consensus.into(),
            directory_id: Bytes::from_static(&[7; 16]),
            peer_address: "127.0.0.1:1".to_string(),
            recovered: Vec::new(),
            earlier_boots: Vec::new(),
        }
    }

    /// Hellos that must not be let in at all.
    fn bad_hellos(&self) -> Vec<(&'static str, Option<v1::Hello>)> {
        let (friend, name) = (self.friend.id, self.friend.name.as_str());
        let other = v1::Hello { cluster_id: Bytes::from_static(&[9; 16]), ..self.hello(friend, name) };
        let mut bad = vec![
            ("no hello", None),
            ("another cluster", Some(other)),
            ("the victim itself", Some(self.hello(self.victim, "n1"))),
            ("a founder's name without its directory", Some(self.hello(friend, name))),
            ("a founder's id with another name", Some(self.hello(friend, "else"))),
        ];
        if let Some(directory_id) = self.directory.clone() {
            let copy = v1::Hello { directory_id, ..self.hello(friend, name) };
            bad.push(("a second copy of a founder's directory", Some(copy)));
        }
        bad
    }
}

const KINDS: [v1::RaftMessageKind; 9] = [
    v1::RaftMessageKind::Append,
    v1::RaftMessageKind::AppendResponse,
    v1::RaftMessageKind::Heartbeat,
    v1::RaftMessageKind::RequestVote,
    v1::RaftMessageKind::RequestPreVote,
    v1::RaftMessageKind::TimeoutNow,
    v1::RaftMessageKind::ReadIndexResponse,
    v1::RaftMessageKind::Snapshot,
    v1::RaftMessageKind::Unspecified,
];

async fn send_all_forged(client: &str, peer: &str) {
    let forger = Forger::new(client, peer).await;
    let victims = replicas(peer, &forger.cluster).await;
    eprintln!("forged hellos: {:?}", forger.bad_hellos().iter().map(|(what, _)| *what).collect::<Vec<_>>());
    for kind in KINDS {
        for (what, hello) in forger.bad_hellos() {
            let said = send_forged(peer, hello, forged(&victims, None, kind), Duration::from_secs(10)).await;
            let refused = said.iter().any(|s| s.as_ref().map_or(true, |notice| notice.error.is_some()));
            assert!(refused, "{what} was let in with {kind:?}: {said:?}");
        }
        // A node that nobody knows speaks for itself, and for another node. Whatever it is told, nothing must come of it;
        // a stream that is let in may stay open without a word.
        for speaks_for in [Some(99), None] {
            let messages = forged(&victims, speaks_for, kind);
            send_forged(peer, Some(forger.hello(99, "stranger")), messages, Duration::from_millis(300)).await;
        }
    }
    let mut rpc = wire::peer(peer).await;
    let other_cluster = Bytes::from_static(&[9; 16]);
    let command = Bytes::from_static(b"\xff\xff forged");
    let forward =
        |cluster_id| v1::ForwardRequest { cluster_id, from_node: 99, command: command.clone(), timeout_ms: 1000 };
    rpc.forward(forward(other_cluster.clone())).await.expect_err("another cluster's command");
    eprintln!("a command of noise: {:?}", rpc.forward(forward(forger.cluster.clone())).await);
    let report = v1::NodeReportRequest { cluster_id: other_cluster, ..Default::default() };
    rpc.node_report(report).await.expect_err("another cluster's question");
}

#[test]
fn of_peers() {
    let turn = Turn::take("misuse-peers");
    let cluster = Cluster::start(&turn, 3);
    let guard = Guard::new(&cluster);
    let terms = |cluster: &Cluster| {
        let described = cluster.describe(GUARDED);
        let parts = dlog_cluster_tests::cluster::partitions(&described);
        parts.iter().map(|p| (p["leader"].to_string(), p["term"].to_string())).collect::<Vec<_>>()
    };
    let before = terms(&cluster);
    let client = cluster.nodes[0].options().client_address();
    let peer = format!("127.0.0.1:{}", cluster.nodes[0].options().peer);
    wire::run(send_all_forged(&client, &peer));
    guard.assert_unchanged(&cluster, "forged messages");
    assert_eq!(terms(&cluster), before, "no forged message moved a leader or a term");
    cluster.finish();
}
