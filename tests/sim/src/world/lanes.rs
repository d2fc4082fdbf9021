//! What the task of a client's lane does, as events: the production machine decides, this carries out what it says.

use super::clocks::wants_append_time;
use super::{Event, Phase, World};
use crate::checkers::acks::{Order, SentBatch};
use crate::clients::batches::key_of;
use crate::clients::lanes::{FIRST_NUMBER, LaneProducer, Link, Sealed};
use crate::clients::{Answer, Asker};
use crate::node::{Inbound, node_of, number_of};
use crate::report::Failure;
use crate::schedule::{MICROSECOND, MILLISECOND};
use bytes::Bytes;
use dlog_client::machines::{Find, Found, Output, Placed, Refused, Send};
use dlog_consensus::{Acks, Proposal};
use dlog_core::batch::decode_records;
use dlog_core::error::{ErrorDetail, Outcome};
use dlog_core::{ErrorCode, LogId, MonotonicTime, Offset, ProducerId, RequestId, Stage};

/// By how much less lanes are given while the cluster heals. A lane's record expires after seconds, also in a log that has a
/// backlog of more seconds than that: with as much work as ever nothing new would be acked in time (seed 801340).
const HEALING_SLOWER: u64 = 4;

impl World {
    /// A producer for a log, that runs the client library's lane.
    pub(crate) fn make_lane(&mut self, log: LogId, id: ProducerId) {
        let lane = self.lanes.len();
        let bytes = self.options.value_bytes_max;
        self.lanes.push(LaneProducer::new(&mut self.client_random, FIRST_NUMBER + lane, log, id, bytes));
        let wait = self.client_random.u64(0..20) * MILLISECOND;
        self.schedule.after(wait, Event::LaneGive { lane });
    }

    /// A producer's program gives records.
    pub(crate) fn on_lane_give(&mut self, lane: usize) -> Result<(), Failure> {
        if self.directory.is_deleted(self.lanes[lane].log) {
            self.lanes[lane].give_up();
            return Ok(());
        }
        if !matches!(self.phase, Phase::Safety | Phase::Core | Phase::Healed) {
            return Ok(());
        }
        // Who has the time to heal isn't kept busy with more than the disks can take: what waits behind it would expire.
        let slower = if self.phase == Phase::Safety { 1 } else { HEALING_SLOWER };
        let think = slower * self.client_random.u64(0..=2 * self.options.think_us) * MICROSECOND;
        self.schedule.after(think, Event::LaneGive { lane });
        let now = self.schedule.now();
        for _ in 0..self.client_random.usize(1..=4) {
            self.lanes[lane].give(&mut self.client_random, self.options.value_bytes_max, now);
        }
        if self.client_random.u8(0..8) == 0 {
            self.lanes[lane].lane.flush();
        }
        self.lane_turn(lane)
    }

    pub(crate) fn on_lane_wake(&mut self, lane: usize, at: u64) -> Result<(), Failure> {
        if self.lanes[lane].wake != Some(at) {
            return Ok(());
        }
        self.lanes[lane].wake = None;
        self.lane_turn(lane)
    }

    /// The lane decides, and what it says is done.
    fn lane_turn(&mut self, lane: usize) -> Result<(), Failure> {
        let now = self.schedule.now();
        if self.lanes[lane].has_given_up() {
            return Ok(());
        }
        self.lanes[lane].lane.turn(MonotonicTime(now));
        self.lane_outputs(lane)?;
        let one = &mut self.lanes[lane];
        let wake = one.lane.wake_at(MonotonicTime(now)).map(|at| at.0.max(now + 1));
        if wake.is_some() && one.wake != wake {
            one.wake = wake;
            let at = wake.unwrap_or(now);
            self.schedule.after(at - now, Event::LaneWake { lane, at });
        }
        Ok(())
    }

    fn lane_outputs(&mut self, lane: usize) -> Result<(), Failure> {
        let mut unsent = Vec::new();
        for output in self.lanes[lane].lane.outputs() {
            match output {
                Output::Tell(record, result) => self.lane_told(lane, record, result)?,
                Output::Find(find) => {
                    let wait = self.client_random.u64(100..20_000) * MICROSECOND;
                    self.lanes[lane].finding = Some(find);
                    self.schedule.after(wait, Event::LaneFind { lane });
                }
                Output::Send(send) => unsent.extend(self.lane_send(lane, send)?),
                Output::Release(_) => {}
                Output::Abandon(attempt) => self.lanes[lane].out.retain(|out| *out != attempt),
            }
        }
        if unsent.is_empty() {
            return Ok(());
        }
        let refused = connection_error(Outcome::Rejected, "the link has ended");
        self.lanes[lane].lane.unsent(MonotonicTime(self.schedule.now()), &unsent, refused);
        self.lane_turn(lane)
    }

    /// A batch goes out. Gives the attempt back if the link has ended.
    fn lane_send(&mut self, lane: usize, send: Send) -> Result<Option<u64>, Failure> {
        self.lane_sealed(lane, &send.batch)?;
        let now = self.schedule.now();
        let safety = self.phase == Phase::Safety;
        let delay = match self.client_random.u8(..) {
            // A connection on which nothing moves for a while.
            0 if safety => self.client_random.u64(500..4_000) * MILLISECOND,
            _ => self.client_random.u64(50..2_000) * MICROSECOND,
        };
        let (log, acks) = (self.lanes[lane].log, self.lanes[lane].acks);
        let Some(link) = self.lanes[lane].link.as_mut().filter(|link| link.open) else { return Ok(Some(send.attempt)) };
        link.arrives = link.arrives.max(now + delay);
        let (number, node, arrives) = (link.number, link.node, link.arrives);
        self.lanes[lane].out.push(send.attempt);
        let asker = Asker::Lane { lane, link: number, attempt: send.attempt };
        let proposal =
            Proposal { request: RequestId(0), batches: vec![send.batch], append_time: wants_append_time(log), acks };
        if safety && self.client_random.u8(0..100) == 0 {
            self.schedule.after(delay, Event::Answer { asker, answer: Answer::Broken });
            if self.client_random.bool() {
                return Ok(None);
            }
        }
        let inbound = Box::new(Inbound::Propose { log, asker, proposal });
        self.schedule.after(arrives - now, Event::Ask { node, inbound });
        Ok(None)
    }

    /// Notes a batch that is sent for the first time.
    fn lane_sealed(&mut self, lane: usize, batch: &Bytes) -> Result<(), Failure> {
        let key = key_of(batch);
        let one = &mut self.lanes[lane];
        if !one.known.insert(key) {
            return Ok(());
        }
        let decoded = decode_records(batch).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let decoded =
            decoded.map_err(|error| Failure::correctness(format!("a lane made a batch that is none: {error}")))?;
        let records = decoded.len() as u64;
        for (place, found) in decoded.into_iter().enumerate() {
            let number = found.record.key.as_deref().and_then(LaneProducer::record_of);
            let sealed = Sealed { key, place: place as u64, records, since: self.schedule.now() };
            one.sealed.extend(number.map(|number| (number, sealed)));
        }
        let (log, producer, number) = (one.log, one.number, one.batches);
        one.batches += 1;
        let covered = one.acks != Acks::Leader;
        let acks = &mut self.checkers.of(log).acks;
        let known = acks.acked_end();
        let order = Order::Rising;
        acks.sent(key, SentBatch { producer, number, records: records as u32, order, covered, known });
        Ok(())
    }

    /// A record's caller learns its fate: that must be true.
    fn lane_told(
        &mut self,
        lane: usize,
        record: u64,
        result: Result<Offset, dlog_client::Error>,
    ) -> Result<(), Failure> {
        let one = &mut self.lanes[lane];
        if one.has_given_up() {
            return Ok(());
        }
        let log = one.log;
        let sealed = one.told(record).map_err(Failure::correctness)?;
        self.trace.note(self.schedule.now(), Some(log), format_args!("lane {lane} record {record}: {result:?}"));
        let acks = &mut self.checkers.of(log).acks;
        let told = match (sealed, result) {
            (Some(sealed), Ok(at)) => {
                if sealed.since >= self.phase_since {
                    self.fresh.insert(log);
                }
                let impossible = || format!("record {record} was acked at {at}, before its batch's first");
                sealed.offsets(at).ok_or_else(impossible).and_then(|(first, last)| acks.acked(sealed.key, first, last))
            }
            (None, Ok(at)) => Err(format!("record {record} was acked at {at}, and never sent")),
            (Some(sealed), Err(error)) if error.outcome() == Outcome::Rejected => {
                self.counts.rejected += 1;
                acks.rejected(sealed.key)
            }
            (None, Err(error)) if error.outcome() == Outcome::Unknown => {
                Err(format!("record {record} was never sent, and its fate is said to be unknown"))
            }
            (_, Err(_)) => Ok(()),
        };
        told.map_err(|what| Failure::correctness(format!("log {log}: lane {lane}: {what}")).about(log))
    }

    /// The search for the leader is over: a hint is believed, else any replica's word for it.
    pub(crate) fn on_lane_find(&mut self, lane: usize) -> Result<(), Failure> {
        let Some(find) = self.lanes[lane].finding.take() else { return Ok(()) };
        let log = self.lanes[lane].log;
        let known = self.lanes[lane].leader.filter(|_| find.stale_since.is_none());
        let leader = known.or_else(|| self.leader_said(log));
        self.lanes[lane].leader = leader;
        let result = match leader {
            Some(node) if self.nodes[node].process.is_some() => Ok(self.lane_found(lane, node, &find)),
            Some(_) => Err(connection_error(Outcome::Rejected, "no connection")),
            None => {
                let error = ErrorDetail::rejected(ErrorCode::NoLeader, Stage::Replication, "nobody leads just now");
                Err(Refused { error: error.into(), hinted: false })
            }
        };
        self.lanes[lane].lane.found(MonotonicTime(self.schedule.now()), result);
        self.lane_turn(lane)
    }

    fn lane_found(&mut self, lane: usize, node: usize, find: &Find) -> Found {
        let one = &mut self.lanes[lane];
        if one.link.is_none_or(|link| !link.open || link.node != node) {
            one.links += 1;
            one.link = Some(Link { number: one.links, node, open: true, arrives: self.schedule.now() });
            one.out.clear();
        }
        Found { link: one.links, node: crate::node::id_of(node), id: find.id.map(|_| one.id) }
    }

    /// Whom one of a log's replicas takes for the leader.
    pub(crate) fn leader_said(&mut self, log: LogId) -> Option<usize> {
        let node = self.client_random.choice(self.directory.nodes_of(log))?;
        let process = self.nodes[node].process.as_ref()?;
        let replica = process.host.get(*process.by_log.get(&log)?)?;
        replica.status().leader.map(node_of)
    }

    pub(crate) fn on_lane_answer(
        &mut self,
        lane: usize,
        link: u64,
        attempt: u64,
        answer: Answer,
    ) -> Result<(), Failure> {
        let one = &mut self.lanes[lane];
        if one.has_given_up() || one.link.is_none_or(|one| one.number != link || !one.open) {
            return Ok(());
        }
        let result = match answer {
            Answer::Appended(batches) => {
                let Some(batch) = batches.first() else { return Ok(()) };
                self.counts.duplicates += u64::from(batch.duplicate);
                Ok(Placed { first: batch.base_offset, last: batch.last_offset })
            }
            Answer::Refused(error) => {
                let hint = error.leader.map(number_of);
                one.leader = hint.or(one.leader);
                Err(Refused { error: (*error).into(), hinted: hint.is_some() })
            }
            _ => return self.lane_broke(lane),
        };
        one.out.retain(|out| *out != attempt);
        one.lane.answered(MonotonicTime(self.schedule.now()), attempt, result);
        self.lane_turn(lane)
    }

    /// The link has ended: nobody knows what became of what is out on it.
    fn lane_broke(&mut self, lane: usize) -> Result<(), Failure> {
        let now = MonotonicTime(self.schedule.now());
        let one = &mut self.lanes[lane];
        if let Some(link) = &mut one.link {
            link.open = false;
        }
        one.lane.link_closed();
        for attempt in std::mem::take(&mut one.out) {
            one.lane.answered(now, attempt, Err(connection_error(Outcome::Unknown, "the link broke")));
        }
        self.lane_turn(lane)
    }
}

fn connection_error(outcome: Outcome, message: &str) -> Refused {
    let error = ErrorDetail::new(ErrorCode::Unavailable, Stage::Connection, outcome, message);
    Refused { error: error.into(), hinted: false }
}
