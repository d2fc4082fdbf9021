//! The consensus thread: a turn takes what has queued, steps the host, and carries out what it says, in order.

use super::door::Letter;
use super::{Event, World};
use crate::checkers::log_matching::Seen;
use crate::checkers::{bounds, progress};
use crate::clients::batches::key_of;
use crate::clients::{Answer, Asker};
use crate::node::{ApplyMessage, DiskMessage, Inbound, Lost, Process, node_of};
use crate::report::Failure;
use crate::schedule::MICROSECOND;
use dlog_consensus::{
    FetchError, FetchId, Host, Input, MessageKind, Output, PeerMessage, Proposal, Reply, Role, WriteId,
};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, RequestId, Term};
use dlog_storage::LoseUnsynced;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 512;
/// Bytes of proposals in one step: with one request more they still fit into a group of the small journal files.
const PROPOSED_BYTES_PER_STEP: usize = 32 << 10;
/// Bytes of frames that the checkers read at once.
const OBSERVE_BYTES: usize = 64 << 10;
/// Every so many turns the whole of a replica is checked, not only what is cheap.
const TURNS_PER_CHECK: u64 = 4;

impl World {
    pub(crate) fn on_turn(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if !self.is_alive(node, life) {
            return Ok(());
        }
        let (schedule_now, paused) = (self.schedule.now(), self.nodes[node].paused_until);
        if paused > schedule_now {
            self.schedule.after(paused - schedule_now, Event::Turn { node, life });
            return Ok(());
        }
        let now = self.nodes[node].clock(schedule_now);
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        process.turn_due = false;
        process.turns += 1;
        self.check_bounds(node, &process)?;
        let stop = self.take_all(node, now, &mut process)?;
        // One last tick notes every commit index that no write has carried yet.
        if std::mem::take(&mut process.tick_due) || stop {
            process.host.tick_all(now, &mut process.outputs);
            campaign(&mut process, now);
        }
        let outputs = std::mem::take(&mut process.outputs);
        self.nodes[node].process = Some(process);
        self.execute(node, outputs)?;
        if stop {
            let tables = self.tables(node);
            self.queue_for_disk(node, DiskMessage::Stop(tables));
        }
        Ok(())
    }

    /// One replica after the other is checked whole, and an inbox that got long.
    fn check_bounds(&self, node: usize, process: &Process) -> Result<(), Failure> {
        let text = |what| Failure::correctness(format!("node {node}: {what}"));
        let replicas = process.by_log.len();
        if process.inbox.len() > MESSAGES_PER_TURN {
            let bytes = process.inbox.iter().map(Inbound::bytes).sum();
            bounds::inbox(bytes, replicas, &self.options.replica).map_err(text)?;
        }
        if process.turns.is_multiple_of(TURNS_PER_CHECK) {
            let at = (process.turns / TURNS_PER_CHECK) as usize % replicas.max(1);
            if let Some(machine) = process.host.replicas().nth(at) {
                machine.assert_invariants();
                bounds::replica(&machine.status(), &self.options.replica).map_err(text)?;
            }
        }
        Ok(())
    }

    /// Steps what has queued; true if the thread is to end.
    fn take_all(&mut self, node: usize, now: MonotonicTime, process: &mut Process) -> Result<bool, Failure> {
        let mut proposals: BTreeMap<ReplicaId, Vec<Proposal>> = BTreeMap::new();
        let mut proposed_bytes = 0;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(inbound) = process.inbox.pop_front() else { break };
            match inbound {
                Inbound::Propose { log, asker, mut proposal } => {
                    let Some(replica) = self.replica_here(process, log, asker) else { continue };
                    proposal.request = wait(process, asker);
                    proposed_bytes += proposal.batches.iter().map(bytes::Bytes::len).sum::<usize>();
                    proposals.entry(replica).or_default().push(proposal);
                    if proposed_bytes < PROPOSED_BYTES_PER_STEP {
                        continue;
                    }
                    propose(process, now, &mut proposals);
                    proposed_bytes = 0;
                }
                Inbound::Stop => return Ok(true),
                other => {
                    propose(process, now, &mut proposals);
                    proposed_bytes = 0;
                    self.take(node, now, process, other)?;
                }
            }
        }
        propose(process, now, &mut proposals);
        if !process.inbox.is_empty() {
            let life = self.nodes[node].life;
            process.turn_due = true;
            self.schedule.after(MICROSECOND, Event::Turn { node, life });
        }
        Ok(false)
    }

    fn take(
        &mut self,
        node: usize,
        now: MonotonicTime,
        process: &mut Process,
        inbound: Inbound,
    ) -> Result<(), Failure> {
        let (host, outputs) = (&mut process.host, &mut process.outputs);
        match inbound {
            Inbound::Propose { .. } | Inbound::Stop => unreachable!("taken by the caller"),
            Inbound::Disk(disk) => host.set_disk(now, disk, outputs),
            Inbound::LocalStarts(_) | Inbound::Persisted(_) | Inbound::WrittenOut(_) => {
                take_from_disk(host, now, inbound, outputs);
            }
            Inbound::Applied(..) | Inbound::StateTaken(..) | Inbound::StateInstalled(..) => {
                take_from_apply(host, now, inbound, outputs);
            }
            Inbound::ReadIndex { log, asker } => {
                let Some(replica) = self.replica_here(process, log, asker) else { return Ok(()) };
                let request = wait(process, asker);
                process.host.step(now, replica, Input::ReadIndex { request }, &mut process.outputs);
            }
            Inbound::MoveLogStart { log, asker, per_mille } => {
                let Some(replica) = self.replica_here(process, log, asker) else { return Ok(()) };
                let request = wait(process, asker);
                let end = process.host.get(replica).map_or(0, |machine| machine.progress().high_watermark.0);
                let to = Offset(end * per_mille / 1000);
                process.host.step(now, replica, Input::MoveLogStart { request, to }, &mut process.outputs);
            }
            Inbound::Peer(message) => {
                host.receive(now, *message, outputs);
            }
            Inbound::EntriesRead { replica, fetch, result } => {
                host.step(now, replica, Input::EntriesRead { fetch, result }, outputs);
            }
            Inbound::Faulty(replica, faults) => {
                host.step(now, replica, Input::Faulty { faults }, outputs);
            }
            Inbound::Mended(replica, told) => self.take_mended(process, now, replica, *told),
            Inbound::Unreachable(node) => host.unreachable(now, node, outputs),
            Inbound::Transfer(log) => {
                if let Some(replica) = process.by_log.get(&log) {
                    host.step(now, *replica, Input::TransferLeadership { to: None }, outputs);
                }
            }
            Inbound::Prefer { replica, to } => {
                host.step(now, replica, Input::TransferLeadership { to: Some(to) }, outputs);
            }
            Inbound::Command { asker, command } => {
                let Some(replica) = self.replica_here(process, LogId::GROUP_ZERO, asker) else { return Ok(()) };
                let request = wait(process, asker);
                process.host.step(now, replica, Input::ProposeCommand { request, command }, &mut process.outputs);
            }
            Inbound::Start(start) => return self.start_replica(node, now, process, start),
            Inbound::Delete(replica, ended) => return self.delete_replica(node, process, replica, ended),
            Inbound::Intend(replica, intent) => {
                host.step(now, replica, Input::Intend(*intent), outputs);
            }
            Inbound::HandOver => {
                for replica in host.led() {
                    host.step(now, replica, Input::TransferLeadership { to: None }, outputs);
                }
            }
            Inbound::TakeProducers => return self.take_producers(node, process),
        }
        Ok(())
    }

    /// The replica of a log on this node. A request for one that isn't here is answered so.
    fn replica_here(&mut self, process: &Process, log: LogId, asker: Asker) -> Option<ReplicaId> {
        let replica = process.by_log.get(&log).copied();
        if replica.is_none() {
            let text = "the replica has left this node";
            let gone = ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Admission, text);
            self.answer(asker, Answer::Refused(Box::new(gone)));
        }
        replica
    }

    /// The tables for a checkpoint. What was said before must reach the disk thread before the tables that include it.
    fn take_producers(&mut self, node: usize, process: &mut Process) -> Result<(), Failure> {
        let said = std::mem::take(&mut process.outputs);
        let tables = process.host.producer_tables();
        for (replica, index, table) in &tables {
            let Some(log) = self.directory.log_of(*replica).filter(|_| !self.is_lost(node)) else {
                continue;
            };
            let told = self.checkers.of(log).tables.told(*index, table);
            told.map_err(|what| Failure::correctness(format!("replica {replica}: {what}")))?;
        }
        let mut writes = Vec::new();
        for (replica, output) in said {
            match output {
                Output::Write { id, write } => writes.push((id, write)),
                other => process.outputs.push((replica, other)),
            }
        }
        let queue = &mut process.disk.queue;
        queue.push_back(DiskMessage::Writes(writes));
        queue.push_back(DiskMessage::Producers(tables));
        self.wake_disk(node, process);
        Ok(())
    }

    fn tables(&self, node: usize) -> Vec<crate::node::ProducerTable> {
        self.nodes[node].process.as_ref().map_or_else(Vec::new, |process| process.host.producer_tables())
    }

    pub(crate) fn queue_for_disk(&mut self, node: usize, message: DiskMessage) {
        let Some(mut process) = self.nodes[node].process.take() else { return };
        process.disk.queue.push_back(message);
        self.wake_disk(node, &mut process);
        self.nodes[node].process = Some(process);
    }

    /// Carries out what was said in a turn.
    fn execute(&mut self, node: usize, outputs: Vec<(ReplicaId, Output)>) -> Result<(), Failure> {
        let mut writes: Vec<(WriteId, ReplicaWrite)> = Vec::new();
        for (replica, output) in outputs {
            if self.nodes[node].process.is_none() {
                // What was said last made it end.
                return Ok(());
            }
            match output {
                Output::Write { id, write } => writes.push((id, write)),
                Output::Send { message } => self.post(node, message)?,
                Output::ReadEntries { fetch, from, to, max_bytes, .. } => {
                    let (life, delay) = (self.nodes[node].life, self.random.u64(50..3_000) * MICROSECOND);
                    self.schedule.after(delay, Event::Read { node, life, replica, fetch, from, to, max_bytes });
                }
                Output::Progress(now) => {
                    let process = self.nodes[node].process.as_mut().expect("it speaks");
                    let before = process.progress.insert(replica, now).unwrap_or_default();
                    let text = |what| Failure::correctness(format!("replica {replica}: {what}"));
                    progress::moved(&before, &now).map_err(|what| text(what).about(self.directory.log_of(replica)))?;
                    self.note_of(replica, format_args!("{replica} progress {now:?}"));
                    self.observe(node, replica)?;
                }
                Output::Reply { request, result } => self.reply(node, replica, request, result)?,
                Output::Role(now) => {
                    self.note_of(replica, format_args!("{replica} role {now:?}"));
                    if let Some(process) = self.nodes[node].process.as_mut().filter(|_| now.leader.is_some()) {
                        process.preferred.remove(&replica);
                    }
                }
                Output::Refused { from, refusal } => {
                    self.note_of(replica, format_args!("{replica} refuses a message of {from}: {refusal}"));
                }
                Output::Confirmed { .. } if self.is_lost(node) => {}
                Output::Confirmed { intent, membership_index, membership } => {
                    self.note_of(
                        replica,
                        format_args!("{replica} confirms {intent} as of {membership_index}: {membership:?}"),
                    );
                    self.confirm(node, replica, intent, membership_index, &membership);
                }
                Output::Fatal { .. } if self.is_lost(node) => {
                    // It got what it should not have been given, and noticed.
                    self.kill(node, LoseUnsynced::Nothing);
                    return Ok(());
                }
                Output::Fatal { reason } => {
                    let log = self.directory.log_of(replica);
                    return Err(Failure::crash(format!("replica {replica}: {reason}")).about(log));
                }
                Output::Apply { frames } => self.queue_for_apply(node, replica, ApplyMessage::Commands(frames)),
                Output::TakeState => self.queue_for_apply(node, replica, ApplyMessage::TakeState),
                Output::InstallState { index, state, origin } => {
                    self.queue_for_apply(node, replica, ApplyMessage::Install { index, state, origin });
                }
                Output::Mend { fault, place, frames } => self.queue_mend(node, replica, (fault, place, frames)),
                Output::Whole => {
                    if let Err(failed) = self.start_whole(node, replica) {
                        return self.on_failed(node, failed);
                    }
                }
                Output::Producers { .. } | Output::Stopped => {}
            }
        }
        self.queue_writes(node, writes);
        Ok(())
    }

    fn queue_writes(&mut self, node: usize, writes: Vec<(WriteId, ReplicaWrite)>) {
        if !writes.is_empty() {
            let cuts = writes.iter().flat_map(|(_, write)| &write.ops).filter(|op| matches!(op, WriteOp::Cut { .. }));
            self.counts.cuts += cuts.count() as u64;
            let resets = writes.iter().flat_map(|(_, write)| &write.ops).filter(|op| matches!(op, WriteOp::Reset(_)));
            self.counts.installs += resets.count() as u64;
            self.queue_for_disk(node, DiskMessage::Writes(writes));
        }
    }

    /// A message leaves.
    fn post(&mut self, node: usize, message: PeerMessage) -> Result<(), Failure> {
        if !self.options.broken.spares_promises() && !self.is_lost(node) {
            let log = self.directory.log_of(message.from);
            self.checkers.promises.sent(&message).map_err(|what| Failure::correctness(what).about(log))?;
        }
        if matches!(message.kind, MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot) {
            self.leads(node, message.from, message.term)?;
        }
        let to = node_of(message.to);
        let [one, other] = self.network.deliveries(node, to);
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let synced = process.store.as_ref().map(dlog_storage::ShardStore::last_group).unwrap_or_default();
        let letter = Letter { message, claim: Rc::clone(&process.door.claim), synced };
        if let Some(delay) = other {
            self.schedule.after(delay, Event::Arrive(Box::new(letter.clone())));
        }
        if let Some(delay) = one {
            self.schedule.after(delay, Event::Arrive(Box::new(letter)));
        }
        Ok(())
    }

    /// A replica leads, as somebody is told: before that it may have taken the lead, lost its power, and forgotten it.
    fn leads(&mut self, node: usize, replica: ReplicaId, term: Term) -> Result<(), Failure> {
        if self.is_lost(node) {
            return Ok(());
        }
        let Some(log) = self.directory.log_of(replica) else { return Ok(()) };
        let led = self.checkers.leaders.leads(log, term, replica, self.nodes[node].life);
        led.map_err(|what| Failure::correctness(what).about(log))
    }

    pub(crate) fn on_arrive(&mut self, letter: Letter) -> Result<(), Failure> {
        let (from, to) = (node_of(letter.message.from), node_of(letter.message.to));
        if self.network.is_cut(from, to) {
            return Ok(());
        }
        let up = self.nodes[to].process.is_some();
        if up && !self.is_admitted(&letter)? {
            return Ok(());
        }
        let message = letter.message;
        let PeerMessage { kind, term, index, commit, reject, .. } = &message;
        self.trace.note(
            self.schedule.now(),
            self.directory.log_of(message.to),
            format_args!(
                "node {from} -> node {to}: {kind:?} term {} index {} commit {} entries {} reject {reject}, to {}",
                term.0,
                index.0,
                commit.0,
                message.entries.len(),
                message.to.0,
            ),
        );
        if up {
            self.push(to, Inbound::Peer(Box::new(message)));
        } else if self.random.u8(0..8) == 0 {
            self.push(from, Inbound::Unreachable(message.to.node()));
        }
        Ok(())
    }

    /// The read thread.
    pub(crate) fn on_read(
        &mut self,
        node: usize,
        life: u64,
        replica: ReplicaId,
        fetch: FetchId,
        range: Range<LogIndex>,
        max_bytes: u64,
    ) {
        if !self.is_alive(node, life) {
            return;
        }
        self.counts.catch_up_reads += 1;
        let Some(process) = &self.nodes[node].process else { return };
        let read = process.readers.get(&replica).map(|reader| {
            let read = reader.read_frames(range.start, range.end, max_bytes as usize);
            read.map_err(|error| (self.is_damage(node, &error), error))
        });
        let result = match read {
            Some(Err((true, error))) if !self.repair(node, replica, &error) => return self.lose(node, Lost::Damaged),
            Some(read) => read.map_err(|(_, error)| error.to_string()),
            None => Err("no segments here yet".to_owned()),
        };
        self.note_of(replica, format_args!("{replica} read {range:?}: {:?}", result.as_ref().map(Vec::len)));
        let result = result.map_err(|reason| FetchError { reason });
        self.push(node, Inbound::EntriesRead { replica, fetch, result });
    }

    fn reply(
        &mut self,
        node: usize,
        replica: ReplicaId,
        request: RequestId,
        result: Result<Reply, dlog_core::ErrorDetail>,
    ) -> Result<(), Failure> {
        let process = self.nodes[node].process.as_mut().expect("it speaks");
        let Some(asker) = process.waiting.remove(&request) else {
            return Err(Failure::correctness(format!("node {node} answered request {request} twice, or unasked")));
        };
        let machine = process.host.get(replica);
        let known = machine.map(|machine| machine.progress().high_watermark);
        let led = machine.map(dlog_consensus::Replica::role).filter(|now| now.role == Role::Leader);
        if let (Some(now), Ok(Reply::Appended(_))) = (led, &result) {
            self.leads(node, replica, now.term)?;
        }
        let answer = match result {
            Ok(Reply::ReadIndex { high_watermark, .. }) if known.is_some_and(|known| known < high_watermark) => {
                let text = format!("replica {replica} says that the log ends at {high_watermark}, and knows {known:?}");
                return Err(Failure::correctness(text));
            }
            Ok(Reply::Appended(batches)) => Answer::Appended(batches),
            Ok(Reply::ReadIndex { high_watermark, .. }) => Answer::End(high_watermark),
            Ok(Reply::LogStart { log_start }) => Answer::Start(log_start),
            Ok(Reply::Command { index }) => return self.command_committed(node, index, asker),
            Err(error) => {
                self.counts.disk_full += u64::from(error.code == ErrorCode::DiskFull);
                Answer::Refused(Box::new(error))
            }
        };
        self.answer(asker, answer);
        Ok(())
    }

    /// Shows the checkers what a replica has committed and written out since the last look.
    pub(crate) fn observe(&mut self, node: usize, replica: ReplicaId) -> Result<(), Failure> {
        if self.is_lost(node) {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let reader = process.readers.get(&replica).cloned();
        let status = process.host.get(replica).map(dlog_consensus::Replica::status);
        if let (Some(log), Some(status)) = (self.directory.log_of(replica), &status) {
            let seen = self.checkers.of(log).members.seen(status.membership_index, &status.membership);
            seen.map_err(|what| Failure::correctness(format!("replica {replica}: {what}")).about(Some(log)))?;
        }
        // Without room on its disk it may have no segment yet.
        let Some(reader) = reader else { return Ok(()) };
        // Segments may still hold frames that the machine has cut: it knows how far they are its own.
        let start = status.as_ref().map_or(LogIndex::ZERO, |status| status.local_start).max(reader.local_start().index);
        let to = status.as_ref().map_or(LogIndex::ZERO, |status| status.progress.commit.min(status.written));
        // While a snapshot is installed the segments are of before, or already gone.
        if reader.last().index < to {
            return Ok(());
        }
        let mut at = process.observed.get(&replica).copied().unwrap_or(LogIndex::ZERO).max(start);
        let local_start = reader.local_start();
        if let Some(log) = self.directory.log_of(replica)
            && local_start.index > self.checkers.of(log).log.last()
        {
            let checks = self.checkers.of(log);
            let passed = checks.log.pass_over(local_start);
            checks.acks.pass_over(passed);
        }
        while at < to {
            let frames = match reader.read_frames(at.next(), to.next(), OBSERVE_BYTES) {
                Ok(frames) => frames,
                Err(_) if self.is_disk_bad(node) => return Ok(()),
                Err(error) if self.is_damage(node, &error) => {
                    if !self.repair(node, replica, &error) {
                        self.lose(node, Lost::Damaged);
                    }
                    return Ok(());
                }
                Err(error) => {
                    let log = self.directory.log_of(replica);
                    return Err(Failure::correctness(format!("replica {replica} can't be read: {error}")).about(log));
                }
            };
            let Some(log) = self.directory.log_of(replica) else { return Ok(()) };
            for frame in &frames {
                let seen = self.checkers.of(log).log.observe(frame);
                let text = |what| Failure::correctness(format!("replica {replica}: {what}")).about(log);
                if seen.map_err(text)? == Seen::New && frame.kind == FrameKind::Records {
                    let acks = &mut self.checkers.of(log).acks;
                    acks.committed(key_of(&frame.payload), frame.base_offset, frame.record_count).map_err(text)?;
                    let back = self.checkers.of(log).stamps.committed(frame).map_err(text)?;
                    self.counts.stamps_back += u64::from(back);
                }
            }
            let Some(last) = frames.last() else {
                return Err(Failure::correctness(format!("replica {replica} has no frame after {at}")));
            };
            at = last.index;
        }
        if let Some(process) = &mut self.nodes[node].process {
            process.observed.insert(replica, at);
        }
        Ok(())
    }
}

fn wait(process: &mut Process, asker: Asker) -> RequestId {
    let request = RequestId(process.next_request);
    process.next_request += 1;
    process.waiting.insert(request, asker);
    request
}

fn propose(process: &mut Process, now: MonotonicTime, proposals: &mut BTreeMap<ReplicaId, Vec<Proposal>>) {
    for (replica, all) in std::mem::take(proposals) {
        process.host.step(now, replica, Input::ProposeAll(all), &mut process.outputs);
    }
}

/// Lets new preferred replicas ask for votes until someone leads.
fn campaign(process: &mut Process, now: MonotonicTime) {
    process.preferred.retain(|_, ticks| {
        *ticks -= 1;
        *ticks > 0
    });
    for replica in process.preferred.keys() {
        process.host.step(now, *replica, Input::Campaign, &mut process.outputs);
    }
}

/// What the apply thread says of group 0's state.
fn take_from_apply(host: &mut Host, now: MonotonicTime, inbound: Inbound, outputs: &mut Vec<(ReplicaId, Output)>) {
    let (replica, input) = match inbound {
        Inbound::Applied(replica, index) => (replica, Input::Applied { index }),
        Inbound::StateTaken(replica, index, state) => (replica, Input::StateTaken { index, state }),
        Inbound::StateInstalled(replica, index, result) => (replica, Input::StateInstalled { index, result }),
        _ => unreachable!("the caller has looked"),
    };
    host.step(now, replica, input, outputs);
}

/// What the disk thread says.
fn take_from_disk(host: &mut Host, now: MonotonicTime, inbound: Inbound, outputs: &mut Vec<(ReplicaId, Output)>) {
    match inbound {
        Inbound::LocalStarts(starts) => {
            for (replica, start) in starts {
                host.step(now, replica, Input::LocalStart { start }, outputs);
            }
        }
        Inbound::Persisted(writes) => {
            for (replica, write) in writes {
                host.step(now, replica, Input::Persisted { write }, outputs);
            }
        }
        Inbound::WrittenOut(written) => {
            for out in written {
                let input = Input::WrittenOut { index: out.index, next_offset: out.next_offset };
                host.step(now, out.replica, input, outputs);
            }
        }
        _ => unreachable!("asked by the caller"),
    }
}
