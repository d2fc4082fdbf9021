//! The only place that touches `Ready` and the crate's `advance_*`: order lives here.
//!
//! For each ready, in this order: frames enter the view (the crate reads them back through its storage), the write is said,
//! messages leave or are held, committed entries are applied. A follower's messages wait for everything written before them;
//! a leader's wait only for the hard state of its term, since followers may have its entries before its own disk does.

use crate::message::{PeerMessage, kind_of};
use crate::output::Output;
use crate::replica::Replica;
use dlog_core::batch::BatchHeader;
use dlog_core::write::{ReplicaWrite, WriteOp};
use dlog_core::{Frame, FrameKind, LogId, LogIndex, MonotonicTime, Offset, ReplicaId, Term};
use raft::eraftpb::{Entry, HardState, Message};

/// Takes everything out of the crate that it has to say.
pub(crate) fn drain(replica: &mut Replica, now: MonotonicTime, out: &mut Vec<Output>) {
    replica.election.settle(&mut replica.raw.raft);
    while !replica.fatal && replica.raw.has_ready() {
        one(replica, now, out);
        replica.election.settle(&mut replica.raw.raft);
    }
    say_commit(replica, out);
}

fn one(replica: &mut Replica, now: MonotonicTime, out: &mut Vec<Output>) {
    let mut ready = replica.raw.ready();
    let number = ready.number();
    let mut ops = Vec::new();
    let hard_state = ready.hs().and_then(|hs| take_hard_state(replica, hs));
    ops.extend(hard_state);
    let has_hard_state = !ops.is_empty();
    let cut = take_entries(replica, ready.take_entries(), &mut ops);
    let early = ready.take_messages();
    let held = ready.take_persisted_messages();
    let read_states = ready.take_read_states();
    let committed = ready.take_committed_entries();
    replica.raw.advance_append_async(ready);

    if ops.is_empty() {
        if !replica.writes.attach_number(number) {
            replica.raw.on_persist_ready(number);
        }
    } else {
        let id = replica.writes.next_id();
        replica.writes.push(id, number, has_hard_state, cut, now);
        out.push(Output::Write { id, write: write(replica, ops) });
    }
    let log = replica.log;
    let early = replica.writes.hold_behind_hard_state(convert(log, early));
    let held = replica.writes.hold_behind_all(convert(log, held));
    out.extend(early.into_iter().chain(held).map(|message| Output::Send { message }));
    replica.on_read_states(read_states, out);
    apply(replica, &committed, out);
}

fn convert(log: LogId, messages: Vec<Message>) -> Vec<PeerMessage> {
    messages.into_iter().filter_map(|message| PeerMessage::from_raft(log, message)).collect()
}

/// A write with the commit index known now: no record of a replica goes without it.
fn write(replica: &mut Replica, ops: Vec<WriteOp>) -> ReplicaWrite {
    let commit = replica.committed();
    replica.commit_said = commit;
    ReplicaWrite { replica: replica.replica, log: replica.log, commit, ops }
}

/// A commit index alone needs no sync, but must not be forgotten.
fn say_commit(replica: &mut Replica, out: &mut Vec<Output>) {
    if replica.committed() > replica.commit_said {
        let id = replica.writes.next_id();
        out.push(Output::Write { id, write: write(replica, Vec::new()) });
    }
}

fn take_hard_state(replica: &mut Replica, hs: &HardState) -> Option<WriteOp> {
    let term = Term(hs.term);
    let vote = Some(hs.vote).filter(|vote| *vote != 0).map(ReplicaId);
    let changed = replica.hard_state != (term, vote);
    replica.hard_state = (term, vote);
    changed.then_some(WriteOp::HardState { term, vote })
}

/// Makes frames of the entries and puts them into the view; says whether a conflicting suffix was cut.
fn take_entries(replica: &mut Replica, entries: Vec<Entry>, ops: &mut Vec<WriteOp>) -> bool {
    let Some(first) = entries.first() else { return false };
    let (log, from) = (replica.log, LogIndex(first.index));
    let view = &mut replica.raw.mut_store().view;
    let cut = from <= view.last().index;
    if cut {
        view.cut(from);
        ops.push(WriteOp::Cut { from });
    }
    let mut frames = Vec::with_capacity(entries.len());
    for entry in entries {
        let last = view.last();
        let kind = kind_of(&entry);
        let count = match kind {
            FrameKind::Records => {
                let header = BatchHeader::decode(&entry.data).expect("batches are validated before they are stepped");
                assert_eq!(header.base_offset, last.next_offset, "a batch's base offset is the log's end");
                header.record_count
            }
            _ => 0,
        };
        let (term, index) = (Term(entry.term), LogIndex(entry.index));
        let frame = Frame::new(log, kind, term, index, last.next_offset, count, last.crc, entry.data);
        view.push(frame.clone());
        frames.push(frame);
    }
    ops.push(WriteOp::Append(frames));
    cut
}

/// Applies committed entries: the producer table here, commands by the apply thread.
fn apply(replica: &mut Replica, committed: &[Entry], out: &mut Vec<Output>) {
    let Some(last) = committed.last() else { return };
    let mut commands = Vec::new();
    for entry in committed {
        let index = LogIndex(entry.index);
        let frame = replica.view().frame(index).expect("unapplied frames are pinned").clone();
        match frame.kind {
            FrameKind::NoOp => {}
            FrameKind::Records => apply_records(replica, &frame.payload, frame.base_offset, index),
            FrameKind::Command => commands.push(frame),
            kind => {
                let text = format!("frame {index} is of kind {kind:?}, which this version can't apply; start the newer one");
                return replica.fail(text, out);
            }
        }
    }
    if !commands.is_empty() {
        out.push(Output::Apply { frames: commands });
    }
    replica.raw.mut_store().view.set_applied(LogIndex(last.index));
    replica.raw.advance_apply_to(last.index);
}

fn apply_records(replica: &mut Replica, payload: &[u8], base_offset: Offset, index: LogIndex) {
    let header = BatchHeader::decode(payload).expect("batches are validated before they are stepped");
    if let Some(sequence) = header.producer() {
        replica.producers.apply(sequence, header.record_count, base_offset, index);
    }
}
