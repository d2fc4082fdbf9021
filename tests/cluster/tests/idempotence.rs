//! A producer's retry is never a second copy: not after its leader was killed, not after all nodes were, not after a planned
//! restart, and not after retention dropped the records themselves. What can't be its next batch is refused by name.

use crate::wire;
use bytes::Bytes;
use dlog_client::ErrorCode;
use dlog_cluster_tests::{Cluster, Input, Node, Producing, Turn, wait};
use dlog_core::{BatchBuilder, Codec, ProducerId, Record, TimestampMs};
use dlog_protocol::status;
use dlog_protocol::v1::{AllocateProducerIdRequest, ProduceOnceResponse};
use std::time::Duration;
use tonic::Status;

const TOPIC: &str = "orders";
/// Records of each batch.
const RECORDS: i32 = 3;

/// One producer, as a client library would hold it.
#[derive(Clone, Copy)]
struct Instance {
    id: ProducerId,
    epoch: i16,
}

impl Instance {
    fn new(cluster: &Cluster) -> Instance {
        let address = cluster.nodes[0].options().client_address();
        let id = wire::run(async {
            let mut admin = wire::admin(&address).await;
            let request = AllocateProducerIdRequest { count: 1 };
            admin.allocate_producer_id(request).await.expect("an id").into_inner().first_producer_id
        });
        Instance { id: ProducerId(id), epoch: 0 }
    }

    /// The batch of this number: the same bytes each time.
    fn batch(self, number: i32) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None).producer(self.id, self.epoch, number * RECORDS);
        for record in 0..RECORDS {
            let value = Bytes::from(format!("{} {number}.{record}", self.epoch));
            builder.push(&Record::new(TimestampMs(1_357_035_300_000), value)).expect("a small record");
        }
        builder.build().expect("a small batch")
    }

    /// Sends a batch to the leader, whichever node that is by now.
    fn send(self, cluster: &Cluster, number: i32) -> Result<ProduceOnceResponse, Status> {
        wait::until_ok("the leader answers", wait::LONG, || {
            let leader = cluster.leader_of(TOPIC, 0);
            let address = cluster.nodes[cluster.index_of(&leader)].options().client_address();
            let answer = wire::run(async {
                let mut log = wire::try_log(&address).await.map_err(|error| error.to_string())?;
                Ok::<_, String>(log.produce_once(wire::once(TOPIC, 0, self.batch(number))).await)
            })?;
            match answer {
                Ok(response) => Ok(Ok(response.into_inner())),
                // What an election brings; a client tries again.
                Err(error) if status::from_status(&error).code.is_retryable() => Err(error.to_string()),
                Err(error) => Ok(Err(error)),
            }
        })
    }

    #[track_caller]
    fn appends(self, cluster: &Cluster, number: i32) -> u64 {
        let answer = self.send(cluster, number).expect("the next batch");
        assert!(!answer.duplicate, "batch {number} was never sent before: {answer:?}");
        assert_eq!(answer.last_offset - answer.base_offset + 1, RECORDS as u64, "{answer:?}");
        answer.base_offset
    }

    #[track_caller]
    fn repeats(self, cluster: &Cluster, number: i32, first: u64, after: &str) {
        let answer = self.send(cluster, number).unwrap_or_else(|error| panic!("{after}: {error}"));
        assert_eq!((answer.base_offset, answer.duplicate), (first, true), "{after}: batch {number}");
    }

    #[track_caller]
    fn is_refused(self, cluster: &Cluster, number: i32, code: ErrorCode) {
        let error = self.send(cluster, number).expect_err("it can't be the next one");
        assert_eq!(status::from_status(&error).code, code, "batch {number}: {error}");
    }
}

fn kill_and_start_all(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(Node::kill);
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.nodes.iter_mut().for_each(Node::wait_ready);
    cluster.wait_in_sync(TOPIC);
}

fn log_start(cluster: &Cluster) -> u64 {
    dlog_cluster_tests::cluster::partitions(&cluster.describe(TOPIC))[0]["log_start"].as_u64().expect("a log start")
}

#[test]
fn a_retry_is_never_a_second_copy() {
    let turn = Turn::take("idempotence");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(
        TOPIC,
        1,
        &["--replicas", "3", "--config", "segment.bytes=128KiB", "--config", "retention.bytes=256KiB"],
    );
    let producer = Instance::new(&cluster);
    let first: Vec<u64> = (0..4).map(|number| producer.appends(&cluster, number)).collect();
    assert_eq!(first, [0, 3, 6, 9]);
    producer.repeats(&cluster, 3, 9, "at once");
    producer.repeats(&cluster, 1, 3, "an older one");
    producer.is_refused(&cluster, 5, ErrorCode::OutOfOrderSequence);

    let leader = cluster.index_of(&cluster.leader_of(TOPIC, 0));
    cluster.nodes[leader].kill();
    producer.repeats(&cluster, 3, 9, "after the leader's death");
    assert_eq!(producer.appends(&cluster, 4), 12);
    cluster.restart(leader);
    kill_and_start_all(&mut cluster);
    producer.repeats(&cluster, 4, 12, "after the death of all");
    for node in 0..3 {
        assert_eq!(cluster.nodes[node].terminate(), 0);
        cluster.restart(node);
        cluster.wait_in_sync(TOPIC);
    }
    producer.repeats(&cluster, 4, 12, "after a planned restart of each");

    // Another producer's records push these out of the log: what is remembered of this one outlives them.
    let input = Input::sample();
    Producing::flights(&cluster, TOPIC, &input, input.len(), &[])
        .finish(Duration::from_secs(120))
        .assert_all_acked(input.len());
    wait::until_ok("retention drops the batches", wait::LONG, || {
        let start = log_start(&cluster);
        if start > 15 { Ok(()) } else { Err(format!("the log starts at {start}")) }
    });
    producer.repeats(&cluster, 4, 12, "after retention");
    kill_and_start_all(&mut cluster);
    producer.repeats(&cluster, 4, 12, "after retention and the death of all");
    let end = input.len() as u64 + 15;
    assert_eq!(producer.appends(&cluster, 5), end, "it goes on where it was");

    let newer = Instance { epoch: 1, ..producer };
    assert_eq!(newer.appends(&cluster, 0), end + 3);
    producer.is_refused(&cluster, 6, ErrorCode::InvalidProducerEpoch);
    let stranger = Instance { id: Instance::new(&cluster).id, epoch: 0 };
    stranger.is_refused(&cluster, 1, ErrorCode::UnknownProducerId);
    let rows = cluster.consume(TOPIC, None);
    assert_eq!(
        rows.last().map(|row| row.offset),
        Some(end + 5),
        "nothing was appended by what was refused or repeated"
    );
    cluster.finish();
}
