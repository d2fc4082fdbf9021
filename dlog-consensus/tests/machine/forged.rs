//! Messages that no honest replica would send: none panics the machine, and a refused one changes nothing.

use crate::clients::batch;
use bytes::Bytes;
use dlog_consensus::{
    Acks, Input, Membership, MessageKind, Output, PeerMessage, Proposal, Replica, ReplicaOptions, WireEntry,
};
use dlog_core::batch::stamp;
use dlog_core::write::{Create, LogPoint};
use dlog_core::{FrameKind, LogId, LogIndex, MonotonicTime, NodeId, ReplicaId, RequestId, Term};
use fastrand::Rng;

const LOG: LogId = LogId(5);

fn id(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

/// A number that is near something, or anything.
fn near(random: &mut Rng, value: u64) -> u64 {
    match random.u32(0..8) {
        0 => random.u64(..),
        1 => 0,
        2 => dlog_consensus::NUMBER_MAX,
        _ => (value + random.u64(0..5)).saturating_sub(2),
    }
}

fn entry(random: &mut Rng, machine: &Replica, index: u64, term: u64) -> WireEntry {
    let kind = FrameKind::from_number(random.u8(1..=6)).expect("a kind");
    let kind = if random.bool() { FrameKind::Records } else { kind };
    let offset = machine.progress().log_end.plus(random.u64(0..2));
    let payload = match random.u32(0..4) {
        0 => Bytes::new(),
        1 => Bytes::from(vec![random.u8(..); random.usize(0..100)]),
        _ => stamp(&batch(None, 1, random.u32(1..3)), offset, Term(term), None),
    };
    WireEntry { term: Term(term), index: LogIndex(index), kind, payload }
}

fn forged(random: &mut Rng, machine: &Replica) -> PeerMessage {
    let status = machine.status();
    let kind = MessageKind::ALL[random.usize(0..MessageKind::ALL.len())];
    let term = if kind == MessageKind::ReadIndex { 0 } else { near(random, status.term.0) };
    let index = near(random, status.last.0);
    let log_term = near(random, status.term.0).min(term);
    let count = if kind == MessageKind::Append { random.u64(0..4) } else { 0 };
    let entries = (1..=count).map(|at| entry(random, machine, index.saturating_add(at), term)).collect();
    let context = [Bytes::new(), Bytes::from_static(b"CampaignTransfer"), Bytes::from(vec![7; 24])];
    PeerMessage {
        log: if random.u32(0..20) == 0 { LogId(6) } else { LOG },
        from: id(random.u32(0..5)),
        to: id(if random.u32(0..20) == 0 { 2 } else { 1 }),
        kind,
        term: Term(term),
        log_term: Term(if index == 0 { 0 } else { log_term }),
        index: LogIndex(index),
        commit: LogIndex(near(random, status.progress.commit.0)),
        commit_term: Term(near(random, status.term.0)),
        entries,
        reject: random.bool(),
        reject_hint: LogIndex(near(random, status.last.0)),
        context: context[random.usize(0..3)].clone(),
        priority: random.i64(..),
        snapshot: None,
    }
}

struct Target {
    machine: Replica,
    now: MonotonicTime,
    last_write: dlog_consensus::WriteId,
    requests: u64,
}

impl Target {
    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.machine.step(self.now, input, &mut out);
        self.machine.assert_invariants();
        for output in &out {
            match output {
                Output::Write { id, .. } => self.last_write = *id,
                Output::Fatal { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        out
    }

    fn forge(&mut self, random: &mut Rng) -> bool {
        let message = forged(random, &self.machine);
        let before = self.machine.status();
        let out = self.step(Input::Peer(message));
        let refused = out.iter().any(|output| matches!(output, Output::Refused { .. }));
        if refused {
            assert_eq!(out.len(), 1, "a refusal is all that is said");
            assert_eq!(self.machine.status(), before, "a refused message changes nothing");
        }
        refused
    }

    fn live(&mut self, random: &mut Rng) {
        match random.u32(0..4) {
            0 => drop(self.step(Input::Persisted { write: self.last_write })),
            1 => {
                let (index, next_offset) = (self.machine.status().persisted, self.machine.progress().log_end);
                self.step(Input::WrittenOut { index, next_offset });
            }
            2 => {
                self.requests += 1;
                let (request, acks) = (RequestId(self.requests), Acks::Quorum);
                let batches = vec![batch(None, 1, 2)];
                self.step(Input::Propose(Proposal { request, batches, append_time: None, acks }));
            }
            _ => drop(self.step(Input::Tick)),
        }
    }
}

fn run(seed: u64, voters: u32) -> (u32, u32) {
    let mut random = Rng::with_seed(seed);
    let membership = Membership::of_voters((1..=voters).map(id)).encode();
    let create = Create { intent: LogIndex(1), membership, start: LogPoint::default() };
    let mut out = Vec::new();
    let now = MonotonicTime(0);
    let machine = Replica::create(ReplicaOptions::default(), id(1), LOG, create, seed, now, &mut out).expect("valid");
    let mut target = Target { machine, now, last_write: dlog_consensus::WriteId(1), requests: 0 };
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..400 {
        match random.u32(0..3) {
            0 => target.live(&mut random),
            _ if target.forge(&mut random) => refused += 1,
            _ => taken += 1,
        }
    }
    (taken, refused)
}

#[test]
fn no_message_panics_and_a_refused_one_changes_nothing() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..400 {
        println!("seed {seed}");
        let (more_taken, more_refused) = run(seed, [1, 3, 5][usize::try_from(seed % 3).expect("small")]);
        taken += more_taken;
        refused += more_refused;
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
}
