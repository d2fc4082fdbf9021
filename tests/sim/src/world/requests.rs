//! Clients at work: what they send, what they are told, and what they do then.

use super::{Event, Phase, World};
use crate::broken::Broken;
use crate::checkers::acks::SentBatch;
use crate::clients::producers::Fate;
use crate::clients::{Answer, Asker};
use crate::network::NODES;
use crate::node::{Inbound, node_of, partition_of, replica_of};
use crate::report::Failure;
use crate::schedule::{MICROSECOND, MILLISECOND};
use dlog_consensus::{Acks, Appended, Proposal};
use dlog_core::error::Outcome;
use dlog_core::{NodeId, Offset, RequestId, TimestampMs};

/// How long a producer waits for an attempt.
const PATIENCE: u64 = 1_500 * MILLISECOND;
/// A wall-clock time that leaders stamp, for partitions that want it.
const APPEND_TIME: TimestampMs = TimestampMs(1_700_000_000_000);
/// The bytes that a reader asks for at most.
const READ_BYTES_MAX: usize = 40_000;

impl World {
    pub(crate) fn on_produce(&mut self, producer: usize) {
        if !matches!(self.phase, Phase::Safety | Phase::Core | Phase::Healed) {
            return;
        }
        let think = self.client_random.u64(0..=2 * self.options.think_us) * MICROSECOND;
        self.schedule.after(think, Event::Produce { producer });
        let partition = self.producers[producer].partition;
        let known = self.checkers.acks[partition].acked_end();
        let since = self.schedule.now();
        let one = &mut self.producers[producer];
        let in_order = one.is_idempotent();
        let Some(request) = one.make(&mut self.client_random, self.options.value_bytes_max, since) else { return };
        let (number, covered) = (request.number, request.acks != Acks::Leader);
        let mut batch = SentBatch { producer, number, records: 0, in_order, covered, known };
        for made in &request.batches {
            batch.records = made.records;
            self.checkers.acks[partition].sent(made.key, batch);
            batch.number += 1;
        }
        self.send(producer, number);
    }

    /// Sends a request, for the first time or again.
    pub(crate) fn send(&mut self, producer: usize, number: u64) {
        let one = &mut self.producers[producer];
        let (partition, node) = (one.partition, one.leader);
        let Some((attempt, request)) = one.attempt(number) else { return };
        let stamped = partition % 2 == 1;
        let proposal = Proposal {
            request: RequestId(0),
            batches: request.batches.iter().map(|made| made.bytes.clone()).collect(),
            append_time: stamped.then_some(APPEND_TIME),
            acks: request.acks,
        };
        let asker = Asker::Producer { producer, number, attempt };
        let inbound = Inbound::Propose { replica: replica_of(node, partition), asker, proposal };
        self.ask(node, inbound);
        self.schedule.after(PATIENCE, Event::Timeout { producer, number, attempt });
    }

    /// A request leaves a client; its connection may break first.
    fn ask(&mut self, node: usize, inbound: Inbound) {
        let delay = self.client_random.u64(50..2_000) * MICROSECOND;
        let broken = self.phase == Phase::Safety && self.client_random.u8(0..100) == 0;
        if !broken {
            self.schedule.after(delay, Event::Ask { node, inbound: Box::new(inbound) });
        } else if let Some(asker) = asker_of(&inbound) {
            self.schedule.after(delay, Event::Answer { asker, answer: Answer::Broken });
        }
    }

    pub(crate) fn on_ask(&mut self, node: usize, inbound: Inbound) {
        if self.nodes[node].process.is_some() {
            self.push(node, inbound);
        } else if let Some(asker) = asker_of(&inbound) {
            self.answer(asker, Answer::Broken);
        }
    }

    /// An answer leaves a node; sometimes the connection breaks first.
    pub(crate) fn answer(&mut self, asker: Asker, answer: Answer) {
        let delay = self.client_random.u64(50..2_000) * MICROSECOND;
        let broken = self.phase == Phase::Safety && self.client_random.u8(0..100) == 0;
        let answer = if broken { Answer::Broken } else { answer };
        self.schedule.after(delay, Event::Answer { asker, answer });
    }

    pub(crate) fn on_answer(&mut self, asker: Asker, answer: Answer) -> Result<(), Failure> {
        self.note(format_args!("answer to {asker:?}: {answer:?}"));
        match (asker, answer) {
            (Asker::Producer { producer, number, .. }, Answer::Appended(batches)) => {
                self.on_acked(producer, number, &batches)
            }
            (Asker::Producer { producer, number, attempt }, answer) => {
                self.on_not_acked(producer, number, attempt, &answer);
                Ok(())
            }
            (Asker::End { partition, known }, Answer::End(end)) => {
                self.counts.ends_told += 1;
                self.readers.iter_mut().for_each(|reader| reader.see_end(partition, end));
                let text = || format!("partition {partition} was said to end at {end}, but {known} was acked before");
                if end >= known { Ok(()) } else { Err(Failure::correctness(text())) }
            }
            (Asker::Retention { partition }, Answer::Start(log_start)) => {
                self.counts.log_start_moves += 1;
                let start = &mut self.checkers.log_starts[partition];
                *start = (*start).max(log_start);
                Ok(())
            }
            (Asker::End { .. } | Asker::Retention { .. }, _) => Ok(()),
        }
    }

    fn on_acked(&mut self, producer: usize, number: u64, batches: &[Appended]) -> Result<(), Failure> {
        let partition = self.producers[producer].partition;
        // An answer to an attempt that was given up is as true as any.
        let Some(request) = self.producers[producer].find(number) else { return Ok(()) };
        if batches.len() != request.batches.len() {
            return Err(Failure::correctness(format!("{} batches were acked as {batches:?}", request.batches.len())));
        }
        for (made, appended) in request.batches.iter().zip(batches) {
            self.counts.duplicates += u64::from(appended.duplicate);
            let acked = self.checkers.acks[partition].acked(made.key, appended.base_offset, appended.last_offset);
            acked.map_err(|what| Failure::correctness(format!("partition {partition}: {what}")))?;
        }
        if request.since >= self.phase_since {
            self.fresh[partition] = true;
        }
        self.producers[producer].done(number, Fate::Acked);
        Ok(())
    }

    fn on_not_acked(&mut self, producer: usize, number: u64, attempt: u64, answer: &Answer) {
        let leader = match answer {
            Answer::Refused(error) => error.leader,
            _ => None,
        };
        let rejected = matches!(answer, Answer::Refused(error) if error.outcome == Outcome::Rejected);
        let one = &mut self.producers[producer];
        if !one.is_current(number, attempt) {
            return;
        }
        let again = one.is_idempotent() || rejected || self.options.broken == Broken::RetryWithoutSequence;
        one.leader = match leader {
            Some(NodeId(id)) if (1..=NODES as u32).contains(&id) => id as usize - 1,
            _ => self.client_random.usize(0..NODES),
        };
        if again {
            one.given_up(number);
            let backoff = self.client_random.u64(5..150) * MILLISECOND;
            self.schedule.after(backoff, Event::Resend { producer, number });
        } else {
            one.done(number, Fate::Unknown);
        }
    }

    pub(crate) fn on_timeout(&mut self, producer: usize, number: u64, attempt: u64) {
        self.on_not_acked(producer, number, attempt, &Answer::Broken);
    }

    /// A reader polls any replica, up to its read bound.
    pub(crate) fn on_poll(&mut self, reader: usize) -> Result<(), Failure> {
        if self.phase == Phase::Over {
            return Ok(());
        }
        let pause = self.client_random.u64(5..60) * MILLISECOND;
        self.schedule.after(pause, Event::Poll { reader });
        let partition = self.client_random.usize(0..self.options.partitions as usize);
        let node = self.client_random.usize(0..NODES);
        self.poll(reader, node, partition)
    }

    fn poll(&mut self, reader: usize, node: usize, partition: usize) -> Result<(), Failure> {
        let replica = replica_of(node, partition);
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let Some(log) = process.readers.get(&replica) else { return Ok(()) };
        let mut bound = process.progress.get(&replica).map_or(Offset::ZERO, |progress| progress.read_bound);
        if self.options.broken == Broken::UncommittedRead {
            bound = log.log_end();
        }
        let log_start = process.progress.get(&replica).map_or(Offset::ZERO, |progress| progress.log_start);
        let at = self.readers[reader].position(partition);
        if at < log_start {
            // What it wanted is no longer kept: it goes on with what is.
            self.counts.skips += 1;
            self.readers[reader].move_to(partition, log_start);
            return Ok(());
        }
        let again = at > log_start && self.client_random.u8(0..8) == 0;
        let from = if again { Offset(self.client_random.u64(log_start.0..at.0)) } else { at };
        if from >= bound {
            // Not readable here yet: not an end, and not a gap.
            return Ok(());
        }
        let bytes = self.client_random.usize(1..READ_BYTES_MAX);
        let read = match log.read_batches(from, bound, bytes) {
            Ok(read) => read,
            Err(_) if self.nodes[node].disk_faulted => return Ok(()),
            // A snapshot was just installed, and the machine doesn't know yet.
            Err(_) if from < log.log_start() => return Ok(()),
            Err(error) => return Err(Failure::correctness(format!("replica {replica} at {from}: {error}"))),
        };
        let text = |what: String| Failure::correctness(format!("a reader of replica {replica}: {what}"));
        if read.batches.is_empty() {
            return Err(text(format!("nothing at {from}, below the bound {bound}")));
        }
        self.checkers.logs[partition].read(from, &read.batches, read.next).map_err(text)?;
        self.counts.batches_read += read.batches.len() as u64;
        self.note(format_args!("reader {reader} read replica {replica} from {from} to {}", read.next));
        if !again {
            self.readers[reader].move_to(partition, read.next);
        }
        Ok(())
    }

    /// Every reader reads on from each replica until its end.
    pub(crate) fn read_to_the_end(&mut self) -> Result<(), Failure> {
        for partition in 0..self.options.partitions as usize {
            let end = self.checkers.logs[partition].end();
            for reader in 0..self.readers.len() {
                let said = self.readers[reader].end_said(partition);
                if said > end {
                    let text = format!("partition {partition} was said to end at {said}, but ends at {end}");
                    return Err(Failure::correctness(text));
                }
                let node = self.client_random.usize(0..NODES);
                for _ in 0..self.checkers.logs[partition].last().0 + 1_000 {
                    if self.readers[reader].position(partition) >= end {
                        break;
                    }
                    self.poll(reader, node, partition)?;
                }
                let at = self.readers[reader].position(partition);
                if at != end {
                    return Err(Failure::liveness(format!("a reader got to {at} of {end} on node {node}")));
                }
            }
        }
        Ok(())
    }

    /// Retention wants a log to start later: anywhere, mostly near its end.
    pub(crate) fn on_retain(&mut self) {
        if !matches!(self.phase, Phase::Safety | Phase::Core | Phase::Healed) {
            return;
        }
        let mean = self.options.retention_ms;
        let pause = self.client_random.u64(mean / 2..=mean * 3 / 2) * MILLISECOND;
        self.schedule.after(pause, Event::Retain);
        let partition = self.client_random.usize(0..self.options.partitions as usize);
        let node = self.leader_of(partition);
        let replica = replica_of(node, partition);
        let least = [0, 900][self.client_random.usize(0..2)];
        let per_mille = self.client_random.u64(least..=1000);
        self.ask(node, Inbound::MoveLogStart { replica, asker: Asker::Retention { partition }, per_mille });
    }

    /// The node that leads a partition, mostly.
    fn leader_of(&mut self, partition: usize) -> usize {
        let leads = |node: &usize| {
            let process = self.nodes[*node].process.as_ref();
            process.is_some_and(|process| process.host.led().iter().any(|led| partition_of(*led) == partition))
        };
        let leader = (0..NODES).rev().find(leads);
        leader.filter(|_| self.client_random.u8(0..4) > 0).unwrap_or(self.client_random.usize(0..NODES))
    }

    /// Somebody asks a node, mostly the leader, where a partition ends.
    pub(crate) fn on_ask_end(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let pause = self.client_random.u64(20..300) * MILLISECOND;
        self.schedule.after(pause, Event::AskEnd);
        let partition = self.client_random.usize(0..self.options.partitions as usize);
        let node = self.leader_of(partition);
        let replica = replica_of(node, partition);
        debug_assert_eq!(node_of(replica), node);
        let known = self.checkers.acks[partition].acked_end();
        self.ask(node, Inbound::ReadIndex { replica, asker: Asker::End { partition, known } });
    }
}

/// Who waits for an answer to it.
fn asker_of(inbound: &Inbound) -> Option<Asker> {
    match inbound {
        Inbound::Propose { asker, .. } | Inbound::ReadIndex { asker, .. } | Inbound::MoveLogStart { asker, .. } => {
            Some(*asker)
        }
        _ => None,
    }
}
