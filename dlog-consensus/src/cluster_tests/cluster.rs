//! A cluster in one thread: carries out what the machines say, over a network that may lose, double and reorder, and checks
//! after every step what must hold.

use super::node::Node;
use crate::message::MessageKind;
use crate::{Acks, Input, Membership, Output, PeerMessage, Proposal, ReplicaOptions, Reply, Role};
use bytes::Bytes;
use dlog_core::batch::{BATCH_CRC_START, BatchBuilder};
use dlog_core::error::{ErrorDetail, Outcome};
use dlog_core::{
    Codec, Frame, FrameKind, LogId, LogIndex, MonotonicTime, NodeId, Offset, ProducerId, Record, ReplicaId, RequestId,
    Term, TimestampMs,
};
use std::collections::BTreeMap;

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Waiting,
    Acked(Reply),
    Failed(ErrorDetail),
}

/// A request and what it was about.
pub(super) struct Request {
    pub(super) node: usize,
    pub(super) acks: Acks,
    /// Empty for reads.
    pub(super) batches: Vec<Bytes>,
    /// The end of what was acked when a read began.
    acked_before: Offset,
    pub(super) fate: Fate,
}

/// The cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) membership: Membership,
    pub(super) random: fastrand::Rng,
    pub(super) network: Vec<PeerMessage>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) now: MonotonicTime,
    /// Every committed frame that any replica told of: they must never differ.
    pub(super) committed: BTreeMap<LogIndex, Frame>,
    leaders: BTreeMap<Term, ReplicaId>,
    pub(super) acked_end: Offset,
    /// Everything said, to compare two runs.
    pub(super) trace: Vec<String>,
    pub(super) keep_trace: bool,
    pub(super) refused: usize,
}

pub(super) fn replica_id(number: usize) -> ReplicaId {
    ReplicaId::new(NodeId(number as u32 + 1), 7)
}

/// A batch with one record, told apart by `text`.
pub(super) fn batch(text: &str, producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), epoch, sequence);
    }
    let value = Some(Bytes::from(text.to_owned()));
    builder.push(&Record { timestamp: TimestampMs(1), key: None, value, headers: Vec::new() }).expect("fits");
    builder.build().expect("a batch")
}

impl Cluster {
    pub(super) fn new(count: usize, options: &ReplicaOptions, seed: u64) -> Cluster {
        Cluster::of_log(LogId(9), count, 0, options, seed)
    }

    /// `learners` of the `count` replicas have no vote: the last ones.
    pub(super) fn of_log(log: LogId, count: usize, learners: usize, options: &ReplicaOptions, seed: u64) -> Cluster {
        let node = |number| Node::new(replica_id(number), log, options.clone(), seed);
        let mut cluster = Cluster {
            nodes: (0..count).map(node).collect(),
            membership: Membership {
                learners: (count - learners..count).map(replica_id).collect(),
                ..Membership::of_voters((0..count - learners).map(replica_id))
            },
            random: fastrand::Rng::with_seed(seed),
            network: Vec::new(),
            requests: BTreeMap::new(),
            now: MonotonicTime(0),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acked_end: Offset::ZERO,
            trace: Vec::new(),
            keep_trace: false,
            refused: 0,
        };
        for number in 0..count {
            cluster.start(number);
        }
        cluster
    }

    pub(super) fn start(&mut self, number: usize) {
        let out = self.nodes[number].start(&self.membership, self.now);
        self.carry_out(number, out);
    }

    pub(super) fn crash(&mut self, number: usize) {
        self.nodes[number].crash();
        for request in self.requests.values_mut() {
            if request.node == number && matches!(request.fate, Fate::Waiting) {
                let text = "the node crashed";
                let error = ErrorDetail::unknown(dlog_core::ErrorCode::Unavailable, dlog_core::Stage::Connection, text);
                request.fate = Fate::Failed(error);
            }
        }
    }

    /// Steps a node, if it is up, and carries out what it says.
    pub(super) fn step(&mut self, number: usize, input: Input) {
        let now = self.now;
        let Some(replica) = self.nodes[number].replica.as_mut() else { return };
        let mut out = Vec::new();
        replica.step(now, input, &mut out);
        replica.assert_invariants();
        self.carry_out(number, out);
    }

    fn carry_out(&mut self, number: usize, out: Vec<Output>) {
        for output in out {
            if self.keep_trace {
                self.trace.push(format!("{number} {output:?}"));
            }
            match output {
                Output::Write { id, write } => self.nodes[number].take_write(id, write),
                Output::Send { message } => {
                    self.check_sent(number, &message);
                    self.network.push(message);
                }
                Output::ReadEntries { fetch, from, to, max_bytes, .. } => {
                    self.nodes[number].fetches.push_back((fetch, from, to, max_bytes));
                }
                Output::Progress(progress) => {
                    self.check_committed(number, progress.commit);
                    self.check_readable(number, progress.read_bound);
                }
                Output::Reply { request, result } => self.on_reply(number, request, result),
                Output::Role(role) if role.role == Role::Leader => {
                    let leader = *self.leaders.entry(role.term).or_insert(self.nodes[number].id);
                    assert_eq!(leader, self.nodes[number].id, "two leaders in {:?}", role.term);
                }
                Output::Apply { frames } => self.nodes[number].applied.extend(frames),
                Output::Refused { .. } => self.refused += 1,
                Output::Role(_) | Output::Producers { .. } | Output::Confirmed { .. } | Output::Stopped => {}
                Output::TakeState | Output::InstallState { .. } => panic!("no log is shortened here"),
                Output::Mend { .. } | Output::Whole => panic!("no disk is damaged here"),
                Output::Fatal { reason } => panic!("node {number}: {reason}"),
            }
        }
    }

    /// Nothing that claims durability may leave before it is durable.
    fn check_sent(&self, number: usize, message: &PeerMessage) {
        let disk = &self.nodes[number].disk;
        assert!(disk.created.is_some(), "a replica spoke before it was created");
        match message.kind {
            MessageKind::AppendResponse if !message.reject && message.term >= disk.term => {
                assert!(disk.last().index >= message.index, "an ack left before the sync");
                assert_eq!(disk.term, message.term, "an ack left before the term was durable");
            }
            MessageKind::RequestVoteResponse if !message.reject && message.term >= disk.term => {
                assert_eq!((disk.term, disk.vote), (message.term, Some(message.to)), "a vote left before the sync");
            }
            MessageKind::RequestVote if message.term >= disk.term => {
                assert_eq!((disk.term, disk.vote), (message.term, Some(message.from)), "own vote before the sync");
            }
            MessageKind::Append | MessageKind::Heartbeat => {
                assert!(disk.term >= message.term, "a leader spoke before its term was durable");
            }
            _ => {}
        }
    }

    /// Every frame up to `commit` is the one that every other replica has there.
    fn check_committed(&mut self, number: usize, commit: LogIndex) {
        for frame in self.nodes[number].memory.iter().rev().skip_while(|frame| frame.index > commit) {
            match self.committed.get(&frame.index) {
                Some(known) => {
                    assert_eq!(known, frame, "replicas differ at {:?}", frame.index);
                    break;
                }
                None => drop(self.committed.insert(frame.index, frame.clone())),
            }
        }
    }

    /// Readers find below the read bound what is committed, and nothing else.
    fn check_readable(&self, number: usize, read_bound: Offset) {
        let segments = &self.nodes[number].segments;
        assert!(segments.last().map_or(Offset::ZERO, Frame::next_offset) >= read_bound, "bound above the segments");
        let records = segments.iter().rev().filter(|frame| frame.kind == FrameKind::Records);
        for frame in records.skip_while(|frame| frame.next_offset() > read_bound).take(3) {
            assert_eq!(self.committed.get(&frame.index), Some(frame), "a reader would see what isn't committed");
        }
    }

    fn on_reply(&mut self, number: usize, id: RequestId, result: Result<Reply, ErrorDetail>) {
        let request = &self.requests[&id];
        assert!(matches!(request.fate, Fate::Waiting), "one reply for each request");
        if let Ok(reply) = &result {
            match reply {
                Reply::Appended(appended) => {
                    assert_eq!(appended.len(), request.batches.len());
                    let all = appended.iter().zip(&request.batches);
                    let ends: Vec<Offset> =
                        all.map(|(a, b)| self.check_acked(number, request.acks, a.base_offset, b)).collect();
                    if request.acks != Acks::Leader {
                        self.acked_end = ends.into_iter().fold(self.acked_end, Offset::max);
                    }
                }
                Reply::ReadIndex { high_watermark, .. } => {
                    assert!(*high_watermark >= request.acked_before, "a read missed what was acked before it");
                }
                Reply::Command { .. } | Reply::LogStart { .. } => {}
            }
        }
        let fate = match result {
            Ok(reply) => Fate::Acked(reply),
            Err(error) => Fate::Failed(error),
        };
        self.requests.get_mut(&id).expect("known").fate = fate;
    }

    /// An acked batch is on the disks that its acks name, at the offset told.
    fn check_acked(&self, number: usize, acks: Acks, base_offset: Offset, batch: &Bytes) -> Offset {
        let holds = |node: &Node| {
            let frames = node.disk.frames.iter().rev();
            frames.clone().any(|frame| frame.base_offset == base_offset && is_batch(frame, batch))
        };
        if acks == Acks::Leader {
            assert!(holds(&self.nodes[number]), "acked before the leader's own sync");
        } else {
            let voters = || self.nodes.iter().filter(|node| self.membership.voters.contains(&node.id));
            let copies = voters().filter(|node| holds(node)).count();
            assert!(copies > voters().count() / 2, "acked with {copies} durable copies");
        }
        base_offset.plus(1)
    }

    pub(super) fn propose(&mut self, number: usize, acks: Acks, batches: Vec<Bytes>) -> RequestId {
        let request = self.note_request(number, acks, batches.clone());
        let proposal = Proposal { request, batches, append_time: None, acks };
        self.step(number, Input::Propose(proposal));
        request
    }

    pub(super) fn read(&mut self, number: usize) -> RequestId {
        let request = self.note_request(number, Acks::Quorum, Vec::new());
        self.step(number, Input::ReadIndex { request });
        request
    }

    pub(super) fn command(&mut self, number: usize, command: Bytes) -> RequestId {
        let request = self.note_request(number, Acks::Quorum, Vec::new());
        self.step(number, Input::ProposeCommand { request, command });
        request
    }

    pub(super) fn move_log_start(&mut self, number: usize, to: Offset) -> RequestId {
        let request = self.note_request(number, Acks::Quorum, Vec::new());
        self.step(number, Input::MoveLogStart { request, to });
        request
    }

    fn note_request(&mut self, number: usize, acks: Acks, batches: Vec<Bytes>) -> RequestId {
        let id = RequestId(self.requests.len() as u64 + 1);
        assert!(self.nodes[number].replica.is_some(), "requests go to nodes that are up");
        let request = Request { node: number, acks, batches, acked_before: self.acked_end, fate: Fate::Waiting };
        self.requests.insert(id, request);
        id
    }

    pub(super) fn fate(&self, request: RequestId) -> &Fate {
        &self.requests[&request].fate
    }

    pub(super) fn appended(&self, request: RequestId) -> Vec<crate::Appended> {
        match self.fate(request) {
            Fate::Acked(Reply::Appended(appended)) => appended.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn error(&self, request: RequestId) -> ErrorDetail {
        match self.fate(request) {
            Fate::Failed(error) => error.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Delivers one message, if its receiver is up.
    pub(super) fn deliver(&mut self, message: PeerMessage) {
        let to = (0..self.nodes.len()).find(|number| self.nodes[*number].id == message.to);
        if let Some(number) = to {
            self.step(number, Input::Peer(message));
        }
    }

    /// Tells a node's machine the first thing that its disk thread has said.
    pub(super) fn tell(&mut self, number: usize) -> bool {
        let told = self.nodes[number].told.pop_front();
        let is_told = told.is_some();
        if let Some(input) = told {
            self.step(number, input);
        }
        is_told
    }

    /// Syncs and tells at once.
    pub(super) fn sync(&mut self, number: usize, count: usize) {
        self.nodes[number].sync(count);
        while self.tell(number) {}
    }

    pub(super) fn write_out(&mut self, number: usize) {
        self.nodes[number].write_out();
        while self.tell(number) {}
    }

    pub(super) fn answer_fetch(&mut self, number: usize) {
        if let Some(input) = self.nodes[number].answer_fetch() {
            self.step(number, input);
        }
    }

    pub(super) fn tick(&mut self, number: usize) {
        self.now = MonotonicTime(self.now.0 + 1_000_000);
        self.step(number, Input::Tick);
    }

    /// Disks, reads and the network do everything that is queued, until nothing is left. `reaches(from, to)` cuts links.
    pub(super) fn settle(&mut self, slow_disks: &[usize], reaches: impl Fn(ReplicaId, ReplicaId) -> bool) {
        for _ in 0..10_000 {
            let mut idle = true;
            for number in 0..self.nodes.len() {
                if !slow_disks.contains(&number) {
                    idle &= self.nodes[number].writes.is_empty();
                    self.sync(number, usize::MAX);
                    self.write_out(number);
                }
                idle &= self.nodes[number].fetches.is_empty();
                self.answer_fetch(number);
            }
            let messages = std::mem::take(&mut self.network);
            idle &= messages.is_empty();
            for message in messages {
                if reaches(message.from, message.to) {
                    self.deliver(message);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }

    /// Ticks of all nodes with everything else at once, until `done`.
    pub(super) fn run_until(&mut self, what: &str, mut done: impl FnMut(&Cluster) -> bool) {
        for _ in 0..400 {
            if done(self) {
                return;
            }
            for number in 0..self.nodes.len() {
                self.tick(number);
            }
            self.settle(&[], |_, _| true);
        }
        panic!("never: {what}");
    }

    /// Runs until a node's machine asks for frames, without answering.
    pub(super) fn run_until_fetch(&mut self, number: usize) {
        for _ in 0..200 {
            for other in 0..self.nodes.len() {
                self.tick(other);
                self.sync(other, usize::MAX);
                self.write_out(other);
            }
            for message in std::mem::take(&mut self.network) {
                self.deliver(message);
            }
            if !self.nodes[number].fetches.is_empty() {
                return;
            }
        }
        panic!("no fetch");
    }

    /// The leader of the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leaders = (0..self.nodes.len()).filter(|number| self.nodes[*number].leads());
        leaders.max_by_key(|number| self.nodes[*number].replica.as_ref().map(|replica| replica.status().term))
    }

    /// Runs until someone leads and has committed in its term; gives its number.
    pub(super) fn elect(&mut self) -> usize {
        self.run_until("a leader", |cluster| {
            cluster.leader().is_some_and(|leader| {
                let status = cluster.nodes[leader].replica.as_ref().expect("up").status();
                status.applied == status.last && status.last > LogIndex::ZERO
            })
        });
        self.leader().expect("elected")
    }

    /// Starts what is down and runs until all logs are the same; then checks every request against the log.
    pub(super) fn heal_and_check(&mut self) {
        for number in 0..self.nodes.len() {
            if self.nodes[number].replica.is_none() {
                self.start(number);
            }
        }
        self.network.clear();
        self.elect();
        self.run_until("equal logs", |cluster| {
            let whole = |node: &Node| {
                let status = node.replica.as_ref().expect("up").status();
                node.writes.is_empty()
                    && status.progress.commit == status.last
                    && node.disk.last() == cluster.nodes[0].disk.last()
            };
            cluster.nodes.iter().all(whole)
        });
        for node in &self.nodes {
            assert_eq!(node.disk.frames, self.nodes[0].disk.frames, "all replicas hold the same frames");
        }
        let log = &self.nodes[0].disk.frames;
        for (index, frame) in &self.committed {
            assert_eq!(log.get(index.0 as usize - 1), Some(frame), "a committed frame is gone");
        }
        for (id, request) in &self.requests {
            for batch in &request.batches {
                let copies = log.iter().filter(|frame| is_batch(frame, batch)).count();
                match &request.fate {
                    Fate::Acked(_) if request.acks != Acks::Leader => assert_eq!(copies, 1, "{id:?} was acked"),
                    Fate::Failed(error) if error.outcome == Outcome::Rejected && is_unique(&self.requests, batch) => {
                        assert_eq!(copies, 0, "{id:?} was rejected: {error}");
                    }
                    _ => assert!(copies <= 1, "{id:?} is in the log {copies} times"),
                }
            }
        }
    }
}

/// Whether only one request had this batch (retries send it again).
fn is_unique(requests: &BTreeMap<RequestId, Request>, batch: &Bytes) -> bool {
    requests.values().filter(|request| request.batches.contains(batch)).count() == 1
}

/// Whether a frame holds this batch: all but what the leader stamps.
pub(super) fn is_batch(frame: &Frame, batch: &Bytes) -> bool {
    frame.kind == FrameKind::Records && frame.payload[BATCH_CRC_START..] == batch[BATCH_CRC_START..]
}
