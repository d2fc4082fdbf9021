//! `Stage`: the nodes of a scenario and the messages between them. Nothing happens here but what a command says.

use super::members::Catalogue;
use super::node::Node;
use super::requests::{Asked, Requests};
use super::wire::{Selection, Sent, Wire};
use super::words;
use dlog_consensus::{FetchError, Input, Membership, Proposal, ReplicaOptions};
use dlog_core::{MonotonicTime, ReplicaId, RequestId, Term};
use dlog_storage::{JournalOptions, LogOptions, StoreOptions};
use std::collections::BTreeMap;

/// A tick of production, in nanoseconds.
const TICK_NS: u64 = 50_000_000;
/// Steps after which a cluster that doesn't come to rest never will.
const STEPS_MAX: usize = 20_000;
/// Ticks in which what a script waits for happens.
const ROUNDS_MAX: usize = 200;

/// What a line of output is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A message.
    Message,
    /// Writes and syncs.
    Disk,
    /// How far a replica is.
    Progress,
    /// What somebody outside notices.
    Event,
}

/// The nodes and what is between them.
///
/// Invariant: a line or a broken rule is noted where it happens, and taken by whoever runs the command.
pub struct Stage {
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) wire: Wire,
    pub(super) requests: Requests,
    /// The members that the log was created with.
    pub(super) membership: Membership,
    /// What the catalogue wants of it.
    pub(super) catalogue: Catalogue,
    pub(super) options: ReplicaOptions,
    pub(super) store: StoreOptions,
    /// Who led a term, and in which life.
    pub(super) leaders: BTreeMap<Term, (ReplicaId, u64)>,
    now: u64,
    lines: Vec<(Sort, String)>,
    broken: Vec<String>,
    /// Only events are noted.
    pub(super) quiet: bool,
    /// A text that is waited for, and whether a line held it.
    awaited: Option<(String, bool)>,
}

impl Default for Stage {
    fn default() -> Stage {
        // Small files: nobody should wait for a script.
        let journal = JournalOptions {
            first_file_bytes: 128 << 10,
            file_bytes: 128 << 10,
            files_max: 4,
            reserve_bytes: 16 << 10,
        };
        let log = LogOptions { segment_bytes: 1 << 20, index_interval_bytes: 1024 };
        let options = ReplicaOptions {
            append_bytes_max: 16 << 10,
            in_flight_bytes_max: 64 << 10,
            batch_bytes_max: 16 << 10,
            uncommitted_bytes_max: 64 << 10,
            pinned_bytes_max: 128 << 10,
            ..ReplicaOptions::default()
        };
        Stage {
            nodes: BTreeMap::new(),
            wire: Wire::default(),
            requests: Requests::default(),
            membership: Membership::default(),
            catalogue: Catalogue::default(),
            options,
            store: StoreOptions { journal, log, tail_cache_bytes: 0, ..StoreOptions::default() },
            leaders: BTreeMap::new(),
            now: 0,
            lines: Vec::new(),
            broken: Vec::new(),
            quiet: false,
            awaited: None,
        }
    }
}

impl Stage {
    /// Notes a line.
    pub(super) fn say(&mut self, sort: Sort, line: impl Into<String>) {
        let line = line.into();
        if let Some((text, seen)) = &mut self.awaited {
            *seen |= line.contains(text.as_str());
        }
        if !self.quiet || sort == Sort::Event {
            self.lines.push((sort, line));
        }
    }

    /// Notes that a rule is broken which holds in every scenario.
    pub(super) fn breaks(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// What was noted since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines).into_iter().map(|(_, line)| line).collect()
    }

    /// Which rules were broken since the last call.
    pub fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// The moment, for all nodes alike.
    pub(super) fn now(&self) -> MonotonicTime {
        MonotonicTime(self.now)
    }

    pub(super) fn node(&mut self, node: u32) -> Result<&mut Node, String> {
        self.nodes.get_mut(&node).ok_or_else(|| format!("there is no node {node}"))
    }

    /// The nodes that are up and not paused.
    pub(super) fn awake(&self) -> Vec<u32> {
        let awake = self.nodes.values().filter(|node| node.process.is_some() && !node.paused);
        awake.map(|node| node.id).collect()
    }

    /// Whether a node's process runs; an error if it is down or paused.
    pub(super) fn must_be_awake(&mut self, node: u32) -> Result<(), String> {
        let one = self.node(node)?;
        match &one.process {
            None => Err(format!("{node} is down")),
            Some(_) if one.paused => Err(format!("{node} is paused")),
            Some(_) => Ok(()),
        }
    }

    /// Steps one replica, and carries out what it says.
    pub(super) fn step(&mut self, replica: ReplicaId, input: Input) -> Result<(), String> {
        let (now, node) = (self.now(), replica.node().0);
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let mut outputs = Vec::new();
        if !process.host.step(now, replica, input, &mut outputs) {
            return Err(format!("there is no replica {}", words::replica(replica)));
        }
        if let Some(machine) = process.host.get(replica) {
            machine.assert_invariants();
        }
        self.execute(node, outputs);
        Ok(())
    }

    /// One tick on each of these nodes.
    pub(super) fn tick(&mut self, nodes: &[u32]) -> Result<(), String> {
        self.now += TICK_NS;
        let now = self.now();
        for node in nodes {
            self.must_be_awake(*node)?;
            let process = self.node(*node)?.process.as_mut().expect("it is awake");
            let mut outputs = Vec::new();
            process.host.tick_all(now, &mut outputs);
            self.execute(*node, outputs);
            self.tell_synced(*node);
        }
        Ok(())
    }

    /// A request arrives at a replica.
    pub(super) fn ask(
        &mut self,
        replica: ReplicaId,
        asked: Asked,
        input: impl FnOnce(RequestId) -> Input,
    ) -> Result<(), String> {
        let node = replica.node().0;
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let request = RequestId(process.next_request);
        process.next_request += 1;
        process.waiting.insert(request, asked);
        self.step(replica, input(request))
    }

    /// Several proposals arrive at once.
    pub(super) fn ask_all(&mut self, replica: ReplicaId, proposals: Vec<(String, Proposal)>) -> Result<(), String> {
        let node = replica.node().0;
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let mut all = Vec::new();
        for (value, proposal) in proposals {
            let request = RequestId(process.next_request);
            process.next_request += 1;
            process.waiting.insert(request, Asked::Append(value));
            all.push(Proposal { request, ..proposal });
        }
        self.step(replica, Input::ProposeAll(all))
    }

    /// Delivers what is meant. Messages to a paused node wait in its socket.
    pub(super) fn deliver(&mut self, selection: &Selection) -> Result<(), String> {
        let messages = self.wire.take(selection);
        if messages.is_empty() {
            return Err("no such message is on its way".to_owned());
        }
        for sent in messages {
            if self.nodes.get(&sent.message.to.node().0).is_some_and(|node| node.paused) {
                self.wire.send(sent.message, sent.synced);
                continue;
            }
            let text = words::message(&self.requests, &sent.message);
            self.say(Sort::Message, format!("arrives: {text}"));
            self.arrive(sent);
        }
        Ok(())
    }

    /// A message arrives, with what its sender had synced: at a process that believes its sender, or nowhere.
    fn arrive(&mut self, sent: Sent) {
        let Sent { message, synced, .. } = sent;
        let (from, to, now) = (message.from.node().0, message.to.node().0, self.now());
        if self.wire.is_cut(from, to) || !self.admits(to, from) {
            return;
        }
        self.hear_synced(to, from, synced);
        let Some(process) = self.nodes.get_mut(&to).and_then(|node| node.process.as_mut()) else { return };
        let mut outputs = Vec::new();
        if !process.host.receive(now, message.clone(), &mut outputs) {
            self.say(Sort::Event, format!("{to} has no replica {}", words::replica(message.to)));
            return;
        }
        if let Some(machine) = process.host.get(message.to) {
            machine.assert_invariants();
        }
        self.execute(to, outputs);
    }

    /// Reads what lagging peers wait for.
    pub(super) fn fetch(&mut self, node: u32) -> Result<bool, String> {
        self.must_be_awake(node)?;
        let process = self.node(node)?.process.as_mut().expect("it is awake");
        let fetches = std::mem::take(&mut process.fetches);
        let some = !fetches.is_empty();
        for fetch in fetches {
            let process = self.node(node)?.process.as_mut().expect("it is awake");
            let result = match process.store.reader(fetch.replica) {
                Some(reader) => reader.read_frames(fetch.from, fetch.to, fetch.max_bytes as usize),
                None => return Err(format!("{node} has no segments")),
            };
            let read = match &result {
                Ok(frames) => format!("{} frames from {}", frames.len(), fetch.from.0),
                Err(error) => format!("nothing: {error}"),
            };
            self.say(Sort::Disk, format!("{node} reads {read} for {}", words::replica(fetch.peer)));
            let result = result.map_err(|error| FetchError { reason: error.to_string() });
            self.step(fetch.replica, Input::EntriesRead { fetch: fetch.fetch, result })?;
        }
        Ok(some)
    }

    /// Ticks, delivers, syncs and reads until a line holds this text, and stops right there.
    pub(super) fn run_until(&mut self, text: &str) -> Result<(), String> {
        self.awaited = Some((text.to_owned(), false));
        let mut ran = Ok(());
        for _ in 0..ROUNDS_MAX {
            let awake = self.awake();
            ran = awake.into_iter().try_for_each(|node| if self.has_seen() { Ok(()) } else { self.tick(&[node]) });
            ran = ran.and_then(|()| self.stabilize());
            if ran.is_err() || self.has_seen() {
                break;
            }
        }
        let seen = self.has_seen();
        self.awaited = None;
        if seen { ran } else { ran.and(Err(format!("nobody says `{text}` in {ROUNDS_MAX} ticks"))) }
    }

    fn has_seen(&self) -> bool {
        self.awaited.as_ref().is_some_and(|(_, seen)| *seen)
    }

    /// Delivers, syncs and reads until nothing moves. Slow disks stay slow, paused nodes paused.
    pub(super) fn stabilize(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let mut moved = false;
            let paused: Vec<u32> = self.nodes.values().filter(|node| node.paused).map(|node| node.id).collect();
            while !self.has_seen()
                && let Some(sent) = self.wire.take_next(|node| !paused.contains(&node))
            {
                self.arrive(sent);
                moved = true;
            }
            for node in self.awake() {
                if self.has_seen() {
                    return Ok(());
                }
                let one = &self.nodes[&node];
                let writes = one.process.as_ref().is_some_and(|process| !process.writes.is_empty());
                if writes && !one.slow {
                    self.sync(node)?;
                    moved = true;
                }
                moved |= self.nodes[&node].process.is_some() && self.fetch(node)?;
            }
            if !moved {
                return Ok(());
            }
        }
        Err(format!("it didn't come to rest in {STEPS_MAX} steps"))
    }
}
