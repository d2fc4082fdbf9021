//! `check …`: what must have come of a scenario, whatever its script expects to be printed.

use super::commands::{members_of, node_of, number, replica_of};
use super::stage::{Sort, Stage};
use super::words;
use dlog_consensus::Role;
use dlog_core::{Frame, FrameKind, LogIndex, NodeId, Offset, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of frames read at once.
const READ_BYTES: usize = 1 << 20;

/// A replica's committed frames, as a reader of it would see them.
struct Seen {
    replica: ReplicaId,
    start: LogIndex,
    log_start: Offset,
    frames: Vec<Frame>,
}

impl Stage {
    /// Runs a check.
    pub(super) fn check(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["leader", node] => self.check_leader(replica_of(node)?),
            ["no", "leader"] => self.check_no_leader(),
            ["term", term] => self.check_term(term.parse().map_err(|_| format!("`{term}` is no term"))?),
            ["equal", nodes @ ..] => self.check_equal(nodes),
            ["acked", "everywhere"] => self.check_acked_present(&[]),
            ["acked", "on", nodes @ ..] => self.check_acked_present(nodes),
            ["acked", values @ ..] => self.check_acked(values, true),
            ["unacked", values @ ..] => self.check_acked(values, false),
            ["refused", value, code] => self.check_refused(value, code),
            ["nowhere", values @ ..] => self.check_nowhere(values),
            ["read", read, "ends", end] => self.check_read(read, Some(end)),
            ["read", read, "unanswered"] => self.check_read(read, None),
            ["keeps", node, "after", index] => self.check_start(replica_of(node)?, index),
            ["members", members @ ..] => self.check_members(&members_of(members)?),
            ["confirmed", version] => self.check_confirmed(number(version)?, true),
            ["unconfirmed", version] => self.check_confirmed(number(version)?, false),
            ["down", node] => {
                let down = self.node(node_of(node)?)?.process.is_none();
                if down { Ok(()) } else { Err(format!("{node} is up")) }
            }
            ["knows", node, "nothing", "of", other] => self.check_unheard(node, other),
            _ => Err(format!("there is no check `{}`", words.join(" "))),
        }?;
        self.say(Sort::Event, "ok");
        Ok(())
    }

    /// It leads, it alone of those that are up, and all others that are up follow it.
    fn check_leader(&mut self, wanted: ReplicaId) -> Result<(), String> {
        let mut term = None;
        for process in self.nodes.values().filter_map(|node| node.process.as_ref()) {
            for machine in process.host.replicas() {
                let (id, role) = (machine.id(), machine.role());
                if (role.role == Role::Leader) != (id == wanted) || role.leader != Some(wanted) {
                    return Err(format!("{} {}", words::replica(id), words::role(&role)));
                }
                if *term.get_or_insert(role.term) != role.term {
                    return Err(format!("{} is in term {}", words::replica(id), role.term.0));
                }
            }
        }
        if term.is_some() { Ok(()) } else { Err("nobody is up".to_owned()) }
    }

    fn check_no_leader(&mut self) -> Result<(), String> {
        let machines = self.nodes.values().filter_map(|node| node.process.as_ref());
        let led: Vec<ReplicaId> = machines.flat_map(|process| process.host.led()).collect();
        if led.is_empty() { Ok(()) } else { Err(format!("{} leads", words::replicas(&led))) }
    }

    fn check_term(&mut self, term: u64) -> Result<(), String> {
        let processes = self.nodes.values().filter_map(|node| node.process.as_ref());
        let mut machines = processes.flat_map(|process| process.host.replicas());
        match machines.find(|machine| machine.role().term.0 != term) {
            Some(other) => Err(format!("{} is in term {}", words::replica(other.id()), other.role().term.0)),
            None => Ok(()),
        }
    }

    /// What readers of these nodes see (all that are up, if none is named).
    fn seen(&mut self, nodes: &[&str]) -> Result<Vec<Seen>, String> {
        let named = nodes.iter().map(|node| node_of(node)).collect::<Result<BTreeSet<u32>, _>>()?;
        let mut all = Vec::new();
        for (id, node) in &self.nodes {
            let Some(process) = node.process.as_ref() else {
                if named.contains(id) {
                    return Err(format!("{id} is down"));
                }
                continue;
            };
            if !named.is_empty() && !named.contains(id) {
                continue;
            }
            for machine in process.host.replicas() {
                let (replica, status) = (machine.id(), machine.status());
                let mut frames = Vec::new();
                let (mut next, to) = (status.local_start.next(), status.progress.commit.min(status.written).next());
                let reader = process.store.reader(replica);
                while let (Some(reader), true) = (&reader, next < to) {
                    let read = reader.read_frames(next, to, READ_BYTES);
                    frames.extend(read.map_err(|error| format!("{}: {error}", words::replica(replica)))?);
                    next = frames.last().map_or(to, |frame| frame.index.next());
                }
                let (start, log_start) = (status.local_start, status.progress.log_start);
                all.push(Seen { replica, start, log_start, frames });
            }
        }
        if all.is_empty() { Err("nobody is up".to_owned()) } else { Ok(all) }
    }

    /// Byte by byte the same, and none further than the others.
    fn check_equal(&mut self, nodes: &[&str]) -> Result<(), String> {
        let seen = self.seen(nodes)?;
        let last = |seen: &Seen| seen.frames.last().map_or(seen.start, |frame| frame.index);
        let mut known: BTreeMap<LogIndex, (&Frame, ReplicaId)> = BTreeMap::new();
        for one in &seen {
            if last(one) != last(&seen[0]) {
                let (a, b) = (words::replica(seen[0].replica), words::replica(one.replica));
                return Err(format!("{a} has committed up to {}, {b} up to {}", last(&seen[0]), last(one)));
            }
            for frame in &one.frames {
                let (other, whose) = known.entry(frame.index).or_insert((frame, one.replica));
                if *other != frame {
                    let (a, b) = (words::replica(*whose), words::replica(one.replica));
                    return Err(format!("{a} and {b} differ at {}", frame.index));
                }
            }
        }
        Ok(())
    }

    /// Every acked value stands where its ack said, once, unless retention has dropped it.
    fn check_acked_present(&mut self, nodes: &[&str]) -> Result<(), String> {
        let seen = self.seen(nodes)?;
        let acked = self.requests.all_acked();
        if acked.is_empty() {
            return Err("nothing was acked: there is nothing to check".to_owned());
        }
        for one in &seen {
            let who = words::replica(one.replica);
            let records = one.frames.iter().filter(|frame| frame.kind == FrameKind::Records);
            let here: BTreeMap<Offset, &str> =
                records.clone().map(|frame| (frame.base_offset, self.requests.name(&frame.payload))).collect();
            for (offset, value) in acked.iter().filter(|(offset, _)| **offset >= one.log_start) {
                match here.get(offset) {
                    Some(found) if found == value => {}
                    Some(found) => return Err(format!("{who} has {found} at {offset}, where {value} was acked")),
                    None => return Err(format!("{who} doesn't have {value}, acked at {offset}")),
                }
            }
            let mut once = BTreeSet::new();
            for frame in records {
                let value = self.requests.name(&frame.payload);
                if !once.insert(value) {
                    return Err(format!("{who} has {value} twice"));
                }
            }
        }
        Ok(())
    }

    fn check_acked(&mut self, values: &[&str], wanted: bool) -> Result<(), String> {
        for value in values {
            let told = self.requests.value(value).ok_or_else(|| format!("{value} was never sent"))?;
            if told.acked.is_some() != wanted {
                return Err(format!("{value}: acked at {:?} by {:?}", told.acked, told.by));
            }
        }
        Ok(())
    }

    fn check_refused(&mut self, name: &str, code: &str) -> Result<(), String> {
        let value = self.requests.value(name).map(|told| told.refused.clone());
        let read = self.requests.read(name).map(|read| read.refused.iter().cloned().collect());
        let codes = value.or(read).ok_or_else(|| format!("{name} was never sent"))?;
        if codes.iter().any(|found| found == code) { Ok(()) } else { Err(format!("{name} was refused with {codes:?}")) }
    }

    /// No replica that is up has committed it.
    fn check_nowhere(&mut self, values: &[&str]) -> Result<(), String> {
        for one in self.seen(&[])? {
            for frame in one.frames.iter().filter(|frame| frame.kind == FrameKind::Records) {
                let found = self.requests.name(&frame.payload);
                if values.contains(&found) {
                    return Err(format!("{} has {found} at {}", words::replica(one.replica), frame.base_offset));
                }
            }
        }
        Ok(())
    }

    fn check_read(&mut self, read: &str, end: Option<&str>) -> Result<(), String> {
        let state = self.requests.read(read).ok_or_else(|| format!("{read} was never asked"))?;
        let wanted = match end {
            Some(end) => Some(Offset(end.parse().map_err(|_| format!("`{end}` is no offset"))?)),
            None => None,
        };
        if state.end == wanted { Ok(()) } else { Err(format!("{read}: {:?}, refused {:?}", state.end, state.refused)) }
    }

    fn check_start(&mut self, replica: ReplicaId, index: &str) -> Result<(), String> {
        let node = self.node(replica.node().0)?;
        let machine = node.process.as_ref().and_then(|process| process.host.get(replica));
        let start = machine.ok_or_else(|| format!("{} isn't up", words::replica(replica)))?.status().local_start;
        if start.0.to_string() == index { Ok(()) } else { Err(format!("it keeps its log after {start}")) }
    }

    /// A node has never admitted the other's present boot.
    fn check_unheard(&mut self, node: &str, other: &str) -> Result<(), String> {
        let other = node_of(other)?;
        let boot = self.node(other)?.identity.boot;
        let seen = self.node(node_of(node)?)?.boots.seen(NodeId(other));
        if seen == Some(boot) { Err(format!("{node} has admitted boot {} of {other}", boot.number)) } else { Ok(()) }
    }
}
