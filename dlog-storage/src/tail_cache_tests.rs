//! Tests of the tail cache.

use super::*;
use crate::testing::FrameMaker;
use dlog_core::write::LogPoint;
use proptest::prelude::*;

const REPLICA: ReplicaId = ReplicaId(1);

fn three_frames() -> Vec<Frame> {
    let mut maker = FrameMaker::new(LogPoint::default());
    vec![maker.records(&[1, 2], 10), maker.no_op(), maker.records(&[3], 10)]
}

#[test]
fn readers_share_the_bytes() {
    let (cache, frames) = (TailCache::new(1 << 20), three_frames());
    cache.push(REPLICA, &frames);
    let (batches, next) = cache.batches(REPLICA, Offset(1), Offset(3), 1 << 20).expect("cached");
    assert_eq!((batches.len(), next), (2, Offset(3)));
    assert_eq!(batches[0].as_ptr(), frames[0].payload.as_ptr(), "no copy");
    assert_eq!(cache.frames(REPLICA, LogIndex(2), LogIndex(9), 1 << 20).expect("cached"), frames[1..]);
}

#[test]
fn bounds_hold() {
    let (cache, frames) = (TailCache::new(1 << 20), three_frames());
    cache.push(REPLICA, &frames);
    assert_eq!(
        cache.batches(REPLICA, Offset(0), Offset(2), 1 << 20).expect("cached").1,
        Offset(2),
        "not beyond the bound"
    );
    assert_eq!(cache.batches(REPLICA, Offset(0), Offset(3), 1).expect("cached").0.len(), 1, "one at least");
    assert_eq!(cache.frames(REPLICA, LogIndex(1), LogIndex(3), 1).expect("cached").len(), 1);
    assert_eq!(cache.batches(REPLICA, Offset(3), Offset(9), 1), None, "not written yet");
    assert_eq!(cache.frames(REPLICA, LogIndex(4), LogIndex(9), 1), None);
    assert_eq!(cache.batches(ReplicaId(2), Offset(0), Offset(9), 1), None, "another log's");
}

#[test]
fn what_is_cut_is_gone_and_a_gap_starts_anew() {
    let (cache, frames) = (TailCache::new(1 << 20), three_frames());
    cache.push(REPLICA, &frames);
    cache.cut(REPLICA, LogIndex(2));
    assert_eq!(cache.batches(REPLICA, Offset(2), Offset(3), 100), None);
    assert!(cache.batches(REPLICA, Offset(0), Offset(3), 100).is_some());
    cache.push(REPLICA, &frames[2..]);
    assert_eq!(cache.batches(REPLICA, Offset(0), Offset(3), 100), None, "frame 2 is missing between");
    assert!(cache.batches(REPLICA, Offset(2), Offset(3), 100).is_some());
    cache.forget(REPLICA);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn a_frame_too_large_to_keep_leaves_no_gap() {
    let mut maker = FrameMaker::new(LogPoint::default());
    let cache = TailCache::new(1000);
    cache.push(REPLICA, &[maker.records(&[1], 10), maker.records(&[2], 2000)]);
    assert_eq!(cache.bytes(), 0);
    TailCache::new(0).push(REPLICA, &[maker.no_op()]);
}

proptest! {
    /// Whatever is pushed and cut: the bound holds, every frame is its own, runs end at the newest, and nothing is lost
    /// while there is room.
    #[test]
    fn never_above_its_bound(
        steps in proptest::collection::vec((1u64..4, 0usize..400, any::<bool>(), 0u64..6), 1..80),
        bytes_max in 0usize..4000,
    ) {
        let cache = TailCache::new(bytes_max);
        let mut makers: BTreeMap<u64, (FrameMaker, Vec<Frame>)> = BTreeMap::new();
        for (replica, bytes, cut, back) in steps {
            let (maker, frames) = makers.entry(replica).or_insert_with(|| (FrameMaker::new(LogPoint::default()), Vec::new()));
            let id = ReplicaId(replica);
            if cut {
                let keep = frames.len().saturating_sub(back as usize);
                frames.truncate(keep);
                cache.cut(id, LogIndex(keep as u64 + 1));
                maker.at = frames.last().map_or(LogPoint::default(), crate::log::point_after);
            } else {
                let frame = maker.records(&[1], bytes);
                cache.push(id, std::slice::from_ref(&frame));
                frames.push(frame);
            }
            prop_assert!(cache.bytes() <= bytes_max);
            let inner = lock(&cache.inner);
            let held: usize = inner.runs.values().flatten().map(|cached| cost(&cached.frame)).sum();
            prop_assert_eq!(held, inner.bytes);
            prop_assert_eq!(inner.order.len(), inner.runs.values().map(VecDeque::len).sum::<usize>());
            for (replica, run) in &inner.runs {
                let frames = &makers[&replica.0].1;
                let expected = &frames[frames.len() - run.len()..];
                prop_assert!(run.iter().map(|cached| &cached.frame).eq(expected));
            }
        }
    }
}
