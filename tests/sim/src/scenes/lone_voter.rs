//! A lone voter with a learner, killed before its first sync: it elects itself, and what it says in that term must not reach the
//! learner before the term is durable. Otherwise it leads the same term once more after the start, with other entries.

use crate::clients::batches;
use crate::report::Failure;
use dlog_consensus::{
    Acks, Input, Membership, Output, PeerMessage, Proposal, Replica, ReplicaOptions, WriteId, encode_membership,
};
use dlog_core::write::{Create, LogPoint, WriteOp};
use dlog_core::{Frame, LogId, LogIndex, MonotonicTime, NodeId, ReplicaId, RequestId};

/// Ticks within which a lone voter elects itself, and catches its learner up.
const TICKS: u64 = 60;
const LOG: LogId = LogId(1);

fn voter() -> ReplicaId {
    ReplicaId::new(NodeId(1), 1)
}

fn learner() -> ReplicaId {
    ReplicaId::new(NodeId(2), 1)
}

/// A replica with what it wrote.
struct Member {
    machine: Replica,
    frames: Vec<Frame>,
    unsynced: Option<WriteId>,
    sent: Vec<PeerMessage>,
    now: u64,
}

impl Member {
    /// As its disk knows it: made, and nothing else.
    fn new(id: ReplicaId, seed: u64) -> Member {
        let membership = Membership { learners: [learner()].into(), ..Membership::of_voters([voter()]) };
        let start = LogPoint::default();
        let create = Create { intent: LogIndex(1), membership: encode_membership(&membership), start };
        let (options, mut out) = (ReplicaOptions::default(), Vec::new());
        let machine = Replica::create(options, id, LOG, create, seed, MonotonicTime(0), &mut out);
        let machine = machine.expect("valid options");
        let mut member = Member { machine, frames: Vec::new(), unsynced: None, sent: Vec::new(), now: 0 };
        member.carry_out(out);
        member.sync();
        member
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.step(MonotonicTime(self.now), input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Write { id, write } => {
                    self.unsynced = Some(id);
                    for op in write.ops {
                        match op {
                            WriteOp::Append(more) => self.frames.extend(more),
                            WriteOp::Cut { from } => self.frames.truncate(from.0 as usize - 1),
                            _ => {}
                        }
                    }
                }
                Output::Send { message } => self.sent.push(message),
                _ => {}
            }
        }
    }

    fn sync(&mut self) {
        if let Some(write) = self.unsynced.take() {
            self.step(Input::Persisted { write });
        }
    }

    fn tick(&mut self) {
        self.now += 50_000_000;
        self.step(Input::Tick);
    }

    fn propose(&mut self, random: &mut fastrand::Rng, number: u64) {
        let made = batches::make(random, 0, number, None, 100);
        let (request, acks) = (RequestId(number + 1), Acks::Quorum);
        let proposal = Proposal { request, batches: vec![made.bytes], append_time: None, acks };
        self.step(Input::Propose(proposal));
    }
}

/// What one has sent reaches the other.
fn deliver(from: &mut Member, to: &mut Member) {
    for message in std::mem::take(&mut from.sent) {
        to.step(Input::Peer(message));
    }
}

/// Plays it.
///
/// # Errors
/// What broke.
pub fn play(random: &mut fastrand::Rng) -> Result<(), Failure> {
    let mut other = Member::new(learner(), random.u64(..));
    let mut first = Member::new(voter(), random.u64(..));
    for _ in 0..TICKS {
        first.tick();
    }
    // Its disk is busy: of all this nothing is durable.
    first.propose(random, 0);
    for _ in 0..random.u64(0..3) {
        deliver(&mut first, &mut other);
        other.sync();
        deliver(&mut other, &mut first);
    }
    let mut second = Member::new(voter(), random.u64(..));
    for tick in 0..2 * TICKS {
        second.tick();
        second.sync();
        if tick == TICKS {
            second.propose(random, 1);
            second.sync();
        }
        deliver(&mut second, &mut other);
        other.tick();
        other.sync();
        deliver(&mut other, &mut second);
    }
    let commit = second.machine.progress().commit;
    if commit < LogIndex(2) || other.machine.progress().commit < commit {
        return Err(Failure::liveness(format!("{:?} and {:?} don't go on", second.machine, other.machine)));
    }
    for (one, two) in second.frames.iter().zip(&other.frames) {
        if one != two {
            let text = format!("frame {} was committed as {one:?}, and the learner has {two:?}", one.index);
            return Err(Failure::correctness(text));
        }
    }
    Ok(())
}
