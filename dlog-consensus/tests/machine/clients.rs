//! Producers that never give up, and what they were promised.

use crate::cluster::Cluster;
use bytes::Bytes;
use dlog_consensus::{Acks, Input, Reply};
use dlog_core::batch::{BatchBuilder, BatchHeader, decode_records};
use dlog_core::error::Outcome;
use dlog_core::limits::PRODUCER_WINDOW_BATCHES;
use dlog_core::{Codec, FrameKind, Offset, ProducerId, Record, ReplicaId, RequestId, TimestampMs};
use std::collections::{BTreeMap, VecDeque};

/// A batch of `count` records whose values are numbers from `first` on.
pub fn batch(producer: Option<(i64, i16, i32)>, first: u64, count: u32) -> Bytes {
    sized_batch(producer, first, count, 8)
}

/// The same with values of `bytes` bytes.
pub fn sized_batch(producer: Option<(i64, i16, i32)>, first: u64, count: u32, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), epoch, sequence);
    }
    for number in first..first + u64::from(count) {
        let mut value = number.to_be_bytes().to_vec();
        value.resize(bytes.max(8), 0);
        let record = Record { timestamp: TimestampMs(1), value: Some(Bytes::from(value)), ..Record::default() };
        builder.push(&record).expect("fits");
    }
    builder.build().expect("has records")
}

/// The number in a batch's first record.
pub fn first_number(payload: &Bytes) -> u64 {
    let records: Vec<_> = decode_records(payload).expect("a batch").collect();
    let record = records.into_iter().next().expect("a record").expect("a whole record");
    let value = record.record.value.expect("a value");
    u64::from_be_bytes(value[..8].try_into().expect("eight bytes"))
}

#[derive(Clone, Debug)]
struct Batch {
    number: u64,
    /// Its place among the producer's batches.
    place: usize,
    sequence: i32,
    count: u32,
    acks: Acks,
    request: Option<RequestId>,
}

/// An idempotent producer: at most five batches in flight, sent again until they are acked.
struct Producer {
    id: i64,
    next_sequence: i32,
    sent: usize,
    waiting: VecDeque<Batch>,
}

impl Producer {
    /// A partition remembers five batches of a producer: the oldest that isn't acked must stay among them.
    fn may_send(&self) -> bool {
        self.waiting.front().is_none_or(|oldest| self.sent - oldest.place < PRODUCER_WINDOW_BATCHES)
    }
}

/// What became of a batch that was sent once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Unknown,
    Acked(Offset),
    Rejected,
}

pub struct Clients {
    producers: Vec<Producer>,
    next_number: u64,
    /// Acked batches of producers: number to offset.
    acked: BTreeMap<u64, (Offset, u32)>,
    /// The producer of every batch that has one, with its sequence.
    sequences: BTreeMap<u64, (i64, i32)>,
    /// Batches without a producer, sent once.
    plain: BTreeMap<u64, (Fate, Acks)>,
    plain_requests: BTreeMap<RequestId, u64>,
    /// Read indexes asked for, with the end of what was acked before.
    reads: BTreeMap<RequestId, Offset>,
    acked_end: Offset,
    /// Where the log was said to start, at least.
    log_start: Offset,
    pub reads_done: u64,
}

impl Clients {
    pub fn new(producers: i64) -> Clients {
        let producer = |id| Producer { id, next_sequence: 0, sent: 0, waiting: VecDeque::new() };
        Clients {
            producers: (1..=producers).map(producer).collect(),
            next_number: 1,
            acked: BTreeMap::new(),
            sequences: BTreeMap::new(),
            plain: BTreeMap::new(),
            plain_requests: BTreeMap::new(),
            reads: BTreeMap::new(),
            acked_end: Offset::ZERO,
            log_start: Offset::ZERO,
            reads_done: 0,
        }
    }

    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    pub fn is_idle(&self) -> bool {
        self.producers.iter().all(|producer| producer.waiting.is_empty())
    }

    /// Where to send: mostly to the leader.
    fn target(cluster: &mut Cluster) -> Option<ReplicaId> {
        let ids = cluster.ids();
        let any = ids[cluster.random.usize(0..ids.len())];
        let target = if cluster.random.u32(0..10) == 0 { any } else { cluster.leader().unwrap_or(any) };
        cluster.is_up(target).then_some(target)
    }

    /// One thing that a client does. `fresh`: new batches too, not only those that wait.
    pub fn act(&mut self, cluster: &mut Cluster, fresh: bool) {
        self.listen(cluster);
        let Some(target) = Clients::target(cluster) else { return };
        match cluster.random.u32(0..10) {
            0 if fresh => self.send_plain(cluster, target),
            1 if fresh => {
                let request = cluster.ask(target, Acks::Quorum);
                self.reads.insert(request, self.acked_end);
                cluster.step(target, Input::ReadIndex { request });
            }
            _ => self.send(cluster, target, fresh),
        }
        self.listen(cluster);
    }

    fn send_plain(&mut self, cluster: &mut Cluster, target: ReplicaId) {
        let number = self.next_number;
        let count = cluster.random.u32(1..4);
        self.next_number += u64::from(count);
        let acks = [Acks::Quorum, Acks::Leader, Acks::All][cluster.random.usize(0..3)];
        self.plain.insert(number, (Fate::Unknown, acks));
        let request = cluster.propose(target, vec![batch(None, number, count)], acks);
        self.plain_requests.insert(request, number);
    }

    fn send(&mut self, cluster: &mut Cluster, target: ReplicaId, fresh: bool) {
        let at = cluster.random.usize(0..self.producers.len());
        let producer = &mut self.producers[at];
        if fresh && producer.may_send() && cluster.random.bool() {
            let count = cluster.random.u32(1..5);
            let acks = if cluster.random.bool() { Acks::Quorum } else { Acks::All };
            let (number, sequence) = (self.next_number, producer.next_sequence);
            self.next_number += u64::from(count);
            producer.next_sequence += i32::try_from(count).expect("small");
            self.sequences.insert(number, (producer.id, sequence));
            producer.waiting.push_back(Batch { number, place: producer.sent, sequence, count, acks, request: None });
            producer.sent += 1;
        }
        // A request whose node crashed has no answer; some clients don't wait for one, either.
        for waiting in &mut producer.waiting {
            let lost = waiting.request.is_some_and(|request| !cluster.asked.contains_key(&request));
            if lost || cluster.random.u32(0..20) == 0 {
                waiting.request = None;
            }
        }
        let Some(next) = producer.waiting.iter_mut().find(|batch| batch.request.is_none()) else { return };
        let bytes = batch(Some((producer.id, 0, next.sequence)), next.number, next.count);
        next.request = Some(cluster.propose(target, vec![bytes], next.acks));
    }

    /// Takes the answers.
    pub fn listen(&mut self, cluster: &mut Cluster) {
        for answer in std::mem::take(&mut cluster.answers) {
            if let Some(end) = self.reads.remove(&answer.request) {
                if let Ok(Reply::ReadIndex { high_watermark, .. }) = answer.result {
                    assert!(high_watermark >= end, "everything acked before the read lies below its answer");
                    self.reads_done += 1;
                }
                continue;
            }
            if let Some(number) = self.plain_requests.remove(&answer.request) {
                let fate = match &answer.result {
                    Ok(Reply::Appended(batches)) => Fate::Acked(batches[0].base_offset),
                    Err(error) if error.outcome == Outcome::Rejected => Fate::Rejected,
                    _ => Fate::Unknown,
                };
                if let (Fate::Acked(_), Ok(Reply::Appended(batches))) = (fate, &answer.result)
                    && answer.acks != Acks::Leader
                {
                    self.acked_end = self.acked_end.max(batches[0].last_offset.plus(1));
                }
                self.plain.insert(number, (fate, answer.acks));
                continue;
            }
            if let Ok(Reply::LogStart { log_start }) = answer.result {
                self.log_start = self.log_start.max(log_start);
            }
            self.listen_to_producer(answer.request, &answer.result);
        }
    }

    fn listen_to_producer(&mut self, request: RequestId, result: &Result<Reply, dlog_core::error::ErrorDetail>) {
        for producer in &mut self.producers {
            let Some(at) = producer.waiting.iter().position(|batch| batch.request == Some(request)) else { continue };
            let Ok(Reply::Appended(batches)) = result else {
                producer.waiting[at].request = None;
                return;
            };
            let batch = producer.waiting.remove(at).expect("found");
            let answer = batches[0];
            assert_eq!(answer.last_offset.since(answer.base_offset) + 1, u64::from(batch.count));
            self.acked_end = self.acked_end.max(answer.last_offset.plus(1));
            let before = self.acked.insert(batch.number, (answer.base_offset, batch.count));
            assert_eq!(before, None);
            return;
        }
    }

    /// Compares what was promised with the log.
    pub fn check(&self, cluster: &Cluster) {
        let mut found: BTreeMap<u64, Offset> = BTreeMap::new();
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        for frame in cluster.ledger.iter().filter(|frame| frame.kind == FrameKind::Records) {
            let header = BatchHeader::decode(&frame.payload).expect("a batch");
            assert_eq!(header.base_offset, frame.base_offset);
            assert_eq!(header.term(), Some(frame.term));
            let number = first_number(&frame.payload);
            assert_eq!(found.insert(number, frame.base_offset), None, "nothing stands in the log twice");
            if let Some(sequence) = header.producer() {
                let next = sequences.entry(sequence.id.0).or_default();
                assert_eq!(sequence.base_sequence, *next, "batches of a producer stand in order, without a gap");
                *next += i32::try_from(frame.record_count).expect("small");
                assert_eq!(self.sequences[&number], (sequence.id.0, sequence.base_sequence));
            }
        }
        for node in cluster.member_nodes() {
            assert!(node.progress.log_start >= self.log_start, "an acked move of the log start stands");
        }
        for (number, (offset, _)) in &self.acked {
            assert_eq!(found.get(number), Some(offset), "what was acked stands where it was said to stand");
        }
        for (number, (fate, acks)) in &self.plain {
            match fate {
                Fate::Rejected => assert_eq!(found.get(number), None, "what was rejected is not in the log"),
                Fate::Acked(offset) if *acks != Acks::Leader => assert_eq!(found.get(number), Some(offset)),
                // acks=leader may be lost, but stands nowhere else.
                Fate::Acked(offset) => assert!(found.get(number).is_none_or(|at| at == offset)),
                Fate::Unknown => {}
            }
        }
    }
}
