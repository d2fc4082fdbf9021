//! Whatever the others have and do, a fault ends whole with the frames that stood there, or it is told as lost.

use super::*;
use bytes::Bytes;
use dlog_core::write::LogPoint;
use dlog_core::{FrameKind, NodeId, Offset, Term};
use proptest::prelude::*;

const LOG: LogId = LogId(7);
const OWN: ReplicaId = ReplicaId(1 << 32 | 1);

fn member(number: u32) -> ReplicaId {
    ReplicaId::new(NodeId(number), 1)
}

/// Frames 1 to `count`, without records: what is in them is checked elsewhere.
fn log_of(count: u64, term: u64) -> Vec<Frame> {
    let mut at = LogPoint::default();
    let mut frames = Vec::new();
    for _ in 0..count {
        let frame = Frame::new(LOG, FrameKind::NoOp, Term(term), at.index.next(), Offset(0), 0, at.crc, Bytes::new());
        at = frame.point();
        frames.push(frame);
    }
    frames
}

fn fault(frames: &[Frame], first: usize, last: usize) -> Fault {
    let before = if first == 1 { LogPoint::default() } else { frames[first - 2].point() };
    let position = 128 + 44 * (first as u64 - 1);
    Fault {
        segment: LogIndex(1),
        generation: 1,
        position,
        end: 128 + 44 * last as u64,
        before,
        last: LogIndex(last as u64),
        next_offset: Offset(0),
        crc: frames[last - 1].crc,
    }
}

/// Storage as `Log::mend` has it, over a list of frames.
fn write(frames: &[Frame], part: &Part) -> Mended {
    let mut at = part.place.point;
    for frame in &part.frames {
        if frame.previous_crc != at.crc || frame.index != at.index.next() {
            return Mended::Other;
        }
        at = frame.point();
    }
    let position = part.place.position + 44 * part.frames.len() as u64;
    match at.index.cmp(&part.fault.last) {
        std::cmp::Ordering::Less if !part.frames.is_empty() => Mended::Part(MendPlace { position, point: at }),
        std::cmp::Ordering::Equal if at.crc == frames[at.index.0 as usize - 1].crc => Mended::Whole,
        _ => Mended::Other,
    }
}

/// What a peer does with a question.
#[derive(Clone, Debug, PartialEq)]
enum Peer {
    /// Has all from here on, and gives so many at once.
    Has(u64, usize),
    /// Is never heard of.
    Silent,
    /// Has another log's entries.
    Other,
}

fn any_peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        4 => (0u64..30, 1usize..8).prop_map(|(from, at_once)| Peer::Has(from, at_once)),
        1 => Just(Peer::Silent),
        1 => Just(Peer::Other),
    ]
}

fn answer(peer: &Peer, frames: &[Frame], other: &[Frame], question: Question) -> Option<Option<Vec<WireEntry>>> {
    let after = question.after.0 as usize;
    match peer {
        Peer::Silent => None,
        Peer::Has(from, _) if question.after.0 < *from => Some(None),
        Peer::Has(_, at_once) => Some(Some(frames[after..].iter().take(*at_once).map(WireEntry::of_frame).collect())),
        Peer::Other => Some(Some(other[after..].iter().take(3).map(WireEntry::of_frame).collect())),
    }
}

proptest! {
    #[test]
    fn a_fault_ends_whole_or_lost(
        peers in proptest::collection::vec(any_peer(), 0..5),
        ranges in proptest::collection::btree_set(1usize..30, 1..4),
    ) {
        let (frames, other) = (log_of(30, 3), log_of(30, 4));
        let faults: Vec<Fault> = ranges.iter().map(|first| fault(&frames, *first, *first)).collect();
        let members: Vec<ReplicaId> =
            std::iter::once(OWN).chain((0..peers.len()).map(|number| member(number as u32 + 2))).collect();
        let mut repair = Repair::default();
        repair.add(&faults);
        repair.add(&faults);
        let mut whole = Vec::new();
        for _ in 0..20_000 {
            repair.tick();
            let part = match repair.next(OWN, &members) {
                Some(Next::Ask(question)) => {
                    prop_assert_ne!(question.to, OWN);
                    let peer = &peers[question.to.node().0 as usize - 2];
                    let Some(entries) = answer(peer, &frames, &other, question) else { continue };
                    repair.answered(LOG, question.to, question.after, entries).expect("asked")
                }
                Some(Next::Write(part)) => Some(part),
                None => None,
            };
            if let Some(part) = part {
                let mended = write(&frames, &part);
                if mended == Mended::Whole {
                    whole.push(part.fault);
                }
                repair.wrote(&part.fault, Ok(mended));
            }
        }
        let has = |fault: &Fault| peers.iter().any(|peer| matches!(peer, Peer::Has(from, _) if *from <= fault.before.index.0));
        for fault in &faults {
            prop_assert_eq!(whole.contains(fault), has(fault), "{:?}", fault);
        }
        let silent = peers.contains(&Peer::Silent);
        for left in repair.statuses() {
            prop_assert_eq!(left.lost, !silent, "only who was heard says that it is lost");
        }
        prop_assert_eq!(repair.mended() as usize, whole.len());
    }
}

#[test]
fn nobody_asked_means_nothing_taken() {
    let frames = log_of(5, 1);
    let mut repair = Repair::default();
    repair.add(&[fault(&frames, 2, 3)]);
    let entries = Some(vec![WireEntry::of_frame(&frames[1])]);
    assert_eq!(repair.answered(LOG, member(2), LogIndex(1), entries.clone()), Err(Refusal::Unasked));
    let Some(Next::Ask(question)) = repair.next(OWN, &[OWN, member(2), member(3)]) else { panic!("it asks") };
    assert_eq!((question.after, question.through), (LogIndex(1), LogIndex(3)));
    let another = if question.to == member(2) { member(3) } else { member(2) };
    assert_eq!(repair.answered(LOG, another, LogIndex(1), entries.clone()), Err(Refusal::Unasked));
    assert_eq!(repair.answered(LOG, question.to, LogIndex(2), entries), Err(Refusal::Unasked));
    let gap = Some(vec![WireEntry::of_frame(&frames[2])]);
    assert_eq!(repair.answered(LOG, question.to, LogIndex(1), gap), Err(Refusal::Sequence(LogIndex(3))));
}

#[test]
fn what_a_full_disk_refused_is_tried_again() {
    let frames = log_of(5, 1);
    let mut repair = Repair::default();
    repair.add(&[fault(&frames, 2, 2)]);
    let members = [OWN, member(2)];
    let Some(Next::Ask(question)) = repair.next(OWN, &members) else { panic!("it asks") };
    let entries = Some(vec![WireEntry::of_frame(&frames[1])]);
    let part = repair.answered(LOG, question.to, LogIndex(1), entries).expect("asked").expect("frames");
    repair.wrote(&part.fault, Err("the disk is full".to_owned()));
    assert_eq!(repair.next(OWN, &members), None, "not at once");
    (0..AGAIN_TICKS).for_each(|_| repair.tick());
    assert!(matches!(repair.next(OWN, &members), Some(Next::Ask(_))));
    assert!(repair.is_mending(), "it isn't lost");
}

#[test]
fn below_the_log_start_nothing_is_missed() {
    let frames = log_of(5, 1);
    let mut repair = Repair::default();
    let mut records = fault(&frames, 2, 3);
    records.next_offset = Offset(10);
    // Entries without records at the log's very beginning are below no log start.
    repair.add(&[fault(&frames, 1, 1)]);
    repair.forget_below(Offset(0));
    assert!(!repair.is_empty());
    repair.forget_below(Offset(1));
    assert!(repair.is_empty());
    repair.add(&[records]);
    repair.forget_below(Offset(9));
    assert!(!repair.is_empty());
    repair.forget_below(Offset(10));
    assert!(repair.is_empty());
}
