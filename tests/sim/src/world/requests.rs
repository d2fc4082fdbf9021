//! Clients at work: what they send, what they are told, and what they do then.

use super::clocks::wants_append_time;
use super::{Event, Phase, World};
use crate::broken::Broken;
use crate::checkers::acks::{Order, SentBatch};
use crate::clients::producers::Fate;
use crate::clients::{Answer, Asker};
use crate::node::{Inbound, Lost, number_of};
use crate::options::Shape;
use crate::report::Failure;
use crate::schedule::{MICROSECOND, MILLISECOND};
use dlog_consensus::{Acks, Appended, Proposal};
use dlog_core::error::Outcome;
use dlog_core::{LogId, Offset, RequestId};

/// How long a producer waits for an attempt, at most.
const PATIENCE_MS: u64 = 1_500;
/// Of so many rejections of a producer that isn't idempotent, it gives up after one.
const REJECTED_GIVEN_UP: u8 = 6;
/// How often one node is asked for one end many times in a row, and for how long.
const BURST_EVERY: u64 = 300 * MILLISECOND;
const BURST: u64 = 30 * MILLISECOND;
/// The bytes that a reader asks for at most.
const READ_BYTES_MAX: usize = 40_000;

impl World {
    pub(crate) fn on_produce(&mut self, producer: usize) {
        let log = self.producers[producer].log;
        if self.directory.is_deleted(log) {
            return self.producers[producer].give_up();
        }
        if !matches!(self.phase, Phase::Safety | Phase::Core | Phase::Healed) {
            return;
        }
        let think = self.client_random.u64(0..=2 * self.options.think_us) * MICROSECOND;
        self.schedule.after(think, Event::Produce { producer });
        let known = self.checkers.of(log).acks.acked_end();
        let since = self.schedule.now();
        let one = &mut self.producers[producer];
        let order = if one.is_idempotent() { Order::Gapless } else { Order::Any };
        let Some(request) = one.make(&mut self.client_random, self.options.value_bytes_max, since) else { return };
        let (number, covered) = (request.number, request.acks != Acks::Leader);
        let mut batch = SentBatch { producer, number, records: 0, order, covered, known };
        for made in &request.batches {
            batch.records = made.records;
            self.checkers.of(log).acks.sent(made.key, batch);
            batch.number += 1;
        }
        self.send(producer, number);
    }

    /// Sends a request, for the first time or again.
    pub(crate) fn send(&mut self, producer: usize, number: u64) {
        let one = &mut self.producers[producer];
        let (log, mut node) = (one.log, one.leader);
        let Some((attempt, request)) = one.attempt(number) else { return };
        // Not all clients take the same node for the leader.
        if self.client_random.u8(0..32) == 0 {
            node = self.client_random.usize(0..self.nodes.len());
        }
        let proposal = Proposal {
            request: RequestId(0),
            batches: request.batches.iter().map(|made| made.bytes.clone()).collect(),
            // The node that takes it reads its clock.
            append_time: wants_append_time(log),
            acks: request.acks,
        };
        let asker = Asker::Producer { producer, number, attempt };
        let inbound = Inbound::Propose { log, asker, proposal };
        self.ask(node, inbound);
        let patience = self.client_random.u64(PATIENCE_MS / 4..=PATIENCE_MS) * MILLISECOND;
        self.schedule.after(patience, Event::Timeout { producer, number, attempt });
    }

    /// A request leaves a client; its connection may break first.
    pub(crate) fn ask(&mut self, node: usize, inbound: Inbound) {
        let delay = self.client_random.u64(50..2_000) * MICROSECOND;
        let broken = self.phase == Phase::Safety && self.client_random.u8(0..100) == 0;
        if !broken {
            self.schedule.after(delay, Event::Ask { node, inbound: Box::new(inbound) });
        } else if let Some(asker) = asker_of(&inbound) {
            self.schedule.after(delay, Event::Answer { asker, answer: Answer::Broken });
        }
    }

    pub(crate) fn on_ask(&mut self, node: usize, mut inbound: Inbound) {
        // Nobody asks a node that was told to be lost.
        if self.nodes[node].process.is_some() && !self.is_lost(node) {
            self.stamp(node, &mut inbound);
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
        let log = match asker {
            Asker::Producer { producer, .. } => Some(self.producers[producer].log),
            Asker::Lane { lane, .. } => Some(self.lanes[lane].log),
            Asker::End { log, .. } | Asker::Retention { log } => Some(log),
            Asker::Command { .. } => Some(LogId::GROUP_ZERO),
        };
        self.trace.note(self.schedule.now(), log, format_args!("answer to {asker:?}: {answer:?}"));
        match (asker, answer) {
            (Asker::Producer { producer, number, .. }, Answer::Appended(batches)) => {
                self.on_acked(producer, number, &batches)
            }
            (Asker::Producer { producer, number, attempt }, answer) => {
                self.on_not_acked(producer, number, attempt, &answer)
            }
            (Asker::Lane { lane, link, attempt }, answer) => self.on_lane_answer(lane, link, attempt, answer),
            (Asker::End { log, node, known }, Answer::End(end)) => {
                self.counts.ends_told += 1;
                self.readers.iter_mut().for_each(|reader| reader.see_end(log, end));
                self.want_end(node, log, known);
                let text = || format!("log {log} was said to end at {end}, but {known} was acked before");
                if end >= known { Ok(()) } else { Err(Failure::correctness(text()).about(log)) }
            }
            (Asker::Retention { log }, Answer::Start(log_start)) => {
                self.counts.log_start_moves += 1;
                let start = &mut self.checkers.of(log).log_start;
                *start = (*start).max(log_start);
                Ok(())
            }
            (Asker::Command { number, .. }, Answer::Outcome(outcome)) => self.command_done(number, &outcome),
            (Asker::Command { number, attempt }, answer) => {
                self.command_failed(number, attempt, &answer);
                Ok(())
            }
            (Asker::End { .. } | Asker::Retention { .. }, _) => Ok(()),
        }
    }

    fn on_acked(&mut self, producer: usize, number: u64, batches: &[Appended]) -> Result<(), Failure> {
        let log = self.producers[producer].log;
        // An answer to an attempt that was given up is as true as any.
        let Some(request) = self.producers[producer].find(number) else { return Ok(()) };
        if batches.len() != request.batches.len() {
            return Err(Failure::correctness(format!("{} batches were acked as {batches:?}", request.batches.len())));
        }
        for (made, appended) in request.batches.iter().zip(batches) {
            self.counts.duplicates += u64::from(appended.duplicate);
            let acks = &mut self.checkers.of(log).acks;
            let acked = acks.acked(made.key, appended.base_offset, appended.last_offset);
            acked.map_err(|what| Failure::correctness(format!("log {log}: {what}")).about(log))?;
        }
        if request.since >= self.phase_since {
            self.fresh.insert(log);
        }
        self.producers[producer].done(number, Fate::Acked);
        Ok(())
    }

    fn on_not_acked(&mut self, producer: usize, number: u64, attempt: u64, answer: &Answer) -> Result<(), Failure> {
        let leader = match answer {
            Answer::Refused(error) => error.leader,
            _ => None,
        };
        let rejected = matches!(answer, Answer::Refused(error) if error.outcome == Outcome::Rejected);
        let one = &mut self.producers[producer];
        if !one.is_current(number, attempt) {
            return Ok(());
        }
        one.leader = match leader {
            Some(node) => number_of(node),
            None => self.client_random.choice(self.directory.nodes_of(one.log)).unwrap_or(one.leader),
        };
        if rejected && !one.is_idempotent() && self.client_random.u8(0..REJECTED_GIVEN_UP) == 0 {
            let log = one.log;
            let keys: Vec<u64> =
                one.find(number).iter().flat_map(|request| request.batches.iter().map(|made| made.key)).collect();
            one.done(number, Fate::Rejected);
            self.counts.rejected += keys.len() as u64;
            let acks = &mut self.checkers.of(log).acks;
            let told = keys.into_iter().try_for_each(|key| acks.rejected(key));
            return told.map_err(|what| Failure::correctness(format!("log {log}: {what}")).about(log));
        }
        if one.is_idempotent() || rejected || self.options.broken == Broken::RetryWithoutSequence {
            one.given_up(number);
            let backoff = self.client_random.u64(5..150) * MILLISECOND;
            self.schedule.after(backoff, Event::Resend { producer, number });
        } else {
            one.done(number, Fate::Unknown);
        }
        Ok(())
    }

    pub(crate) fn on_timeout(&mut self, producer: usize, number: u64, attempt: u64) -> Result<(), Failure> {
        self.on_not_acked(producer, number, attempt, &Answer::Broken)
    }

    /// A reader polls any replica, up to its read bound.
    pub(crate) fn on_poll(&mut self, reader: usize) -> Result<(), Failure> {
        if self.phase == Phase::Over {
            return Ok(());
        }
        let pause = self.client_random.u64(5..60) * MILLISECOND;
        self.schedule.after(pause, Event::Poll { reader });
        let Some(log) = self.client_random.choice(self.directory.logs()) else { return Ok(()) };
        if reader % 2 == 1 {
            return self.poll_in_turn(reader, log);
        }
        let Some(node) = self.client_random.choice(self.directory.nodes_of(log)) else { return Ok(()) };
        self.poll(reader, node, log)
    }

    pub(crate) fn poll(&mut self, reader: usize, node: usize, log: LogId) -> Result<(), Failure> {
        let Some(process) = self.nodes[node].process.as_ref().filter(|_| !self.is_lost(node)) else {
            return Ok(());
        };
        let Some(&replica) = process.by_log.get(&log) else { return Ok(()) };
        let Some(segments) = process.readers.get(&replica) else { return Ok(()) };
        let mut bound = process.progress.get(&replica).map_or(Offset::ZERO, |progress| progress.read_bound);
        if self.options.broken == Broken::UncommittedRead {
            bound = segments.log_end();
        }
        let log_start = process.progress.get(&replica).map_or(Offset::ZERO, |progress| progress.log_start);
        let at = self.readers[reader].position(log);
        if at < log_start {
            // What it wanted is no longer kept: it goes on with what is.
            self.counts.skips += 1;
            self.readers[reader].move_to(log, log_start);
            return Ok(());
        }
        let again = at > log_start && self.client_random.u8(0..8) == 0;
        let from = if again { Offset(self.client_random.u64(log_start.0..at.0)) } else { at };
        if from >= bound {
            // Not readable here yet: not an end, and not a gap.
            return Ok(());
        }
        let bytes = self.client_random.usize(1..READ_BYTES_MAX);
        let read = match segments.read_batches(from, bound, bytes) {
            Ok(read) => read,
            Err(_) if self.is_disk_bad(node) => return Ok(()),
            Err(error) if self.is_damage(node, &error) => {
                if !self.repair(node, replica, &error) {
                    self.lose(node, Lost::Damaged);
                }
                return Ok(());
            }
            // A snapshot was just installed, and the machine doesn't know yet.
            Err(_) if from < segments.log_start() => return Ok(()),
            Err(error) => {
                return Err(Failure::correctness(format!("replica {replica} at {from}: {error}")).about(log));
            }
        };
        let text = |what: String| Failure::correctness(format!("a reader of replica {replica}: {what}")).about(log);
        if read.batches.is_empty() {
            return Err(text(format!("nothing at {from}, below the bound {bound}")));
        }
        self.observe(node, replica)?;
        if read.next > self.checkers.of(log).log.end() && self.is_disk_bad(node) {
            // The checkers' own look failed.
            return Ok(());
        }
        self.checkers.of(log).log.read(from, &read.batches, read.next).map_err(text)?;
        self.counts.batches_read += read.batches.len() as u64;
        self.note_of(replica, format_args!("reader {reader} read replica {replica} from {from} to {}", read.next));
        self.take_answer(reader, log, from, &read.batches, read.next).map_err(text)
    }

    /// Every reader reads on from each replica until its end.
    pub(crate) fn read_to_the_end(&mut self) -> Result<(), Failure> {
        for log in self.directory.logs() {
            let (end, last) = (self.checkers.of(log).log.end(), self.checkers.of(log).log.last());
            for reader in 0..self.readers.len() {
                let said = self.readers[reader].end_said(log);
                if said > end {
                    let text = format!("log {log} was said to end at {said}, but ends at {end}");
                    return Err(Failure::correctness(text));
                }
                let Some(node) = self.client_random.choice(self.directory.nodes_of(log)) else { continue };
                for _ in 0..last.0 + 1_000 {
                    if self.readers[reader].position(log) >= end {
                        break;
                    }
                    self.poll(reader, node, log)?;
                }
                let at = self.readers[reader].position(log);
                if at != end {
                    return Err(Failure::liveness(format!(
                        "a reader got to {at} of {end} of log {log} on node {node}"
                    )));
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
        let Some((log, node)) = self.draw_leader(4) else { return };
        let least = [0, 900][self.client_random.usize(0..2)];
        let per_mille = self.client_random.u64(least..=1000);
        self.ask(node, Inbound::MoveLogStart { log, asker: Asker::Retention { log }, per_mille });
    }

    /// A log and the node that leads it; once in `other` draws any node that has it.
    fn draw_leader(&mut self, other: u8) -> Option<(LogId, usize)> {
        let log = self.client_random.choice(self.directory.logs())?;
        let nodes = self.directory.nodes_of(log);
        let leads = |node: &usize| {
            let process = self.nodes[*node].process.as_ref().filter(|_| self.nodes[*node].lost.is_none())?;
            Some(process.host.get(*process.by_log.get(&log)?)?.is_leader())
        };
        let first = self.client_random.usize(0..nodes.len().max(1));
        let leader = nodes.iter().cycle().skip(first).take(nodes.len()).copied().find(|node| leads(node) == Some(true));
        let any = self.client_random.choice(nodes)?;
        Some((log, leader.filter(|_| self.client_random.u8(0..other) > 0).unwrap_or(any)))
    }

    /// Somebody asks a node where a log ends: the leader or another, and sometimes any node, many times in a row.
    pub(crate) fn on_ask_end(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let now = self.schedule.now();
        let asked = self.options.shape == Shape::Asked;
        let in_burst = asked || now % BURST_EVERY < BURST;
        let pause = self.client_random.u64(if in_burst { 1..5 } else { 20..200 });
        self.schedule.after(pause * MILLISECOND, Event::AskEnd);
        let drawn = if asked || in_burst { self.burst_at((now / BURST_EVERY) as usize) } else { self.draw_leader(2) };
        let Some((log, node)) = drawn else { return };
        let known = self.checkers.of(log).acks.acked_end();
        self.ask(node, Inbound::ReadIndex { log, asker: Asker::End { log, node, known } });
    }

    /// The log and node of one burst; where everybody asks all the time, any node.
    fn burst_at(&mut self, burst: usize) -> Option<(LogId, usize)> {
        let logs = self.directory.logs();
        let log = *logs.get(burst / 3 % logs.len().max(1))?;
        let nodes = self.directory.nodes_of(log);
        if self.options.shape == Shape::Asked {
            return Some((log, self.client_random.choice(nodes)?));
        }
        Some((log, *nodes.get(burst % nodes.len().max(1))?))
    }
}

/// Who waits for an answer to it.
fn asker_of(inbound: &Inbound) -> Option<Asker> {
    match inbound {
        Inbound::Propose { asker, .. }
        | Inbound::ReadIndex { asker, .. }
        | Inbound::Command { asker, .. }
        | Inbound::MoveLogStart { asker, .. } => Some(*asker),
        _ => None,
    }
}
