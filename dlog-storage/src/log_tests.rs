//! Tests of the log: against a model, and each way in which a disk can spoil it.

use super::*;
use crate::testing::{FrameMaker, IDENTITY, OPTIONS, point};
use crate::{SimDisk, SimDiskOptions};
use dlog_core::{FrameKind, Term, batch};
use proptest::prelude::*;
use proptest::sample::Index;

pub(crate) const DIR: &str = "shard-0/logs/5/2";

pub(crate) fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::with_seed(seed);
    disk.create_dir(DIR).expect("made");
    for dir in ["shard-0/logs/5", "shard-0/logs", "shard-0", ""] {
        disk.sync_dir(dir).expect("synced");
    }
    disk
}

pub(super) fn create(disk: &SimDisk, cache_bytes: usize) -> Log<SimDisk> {
    Log::create(disk.clone(), DIR, IDENTITY, LogPoint::default(), OPTIONS, TailCache::new(cache_bytes))
        .expect("created")
}

pub(crate) fn open(disk: &SimDisk, state: &LogState, cache_bytes: usize) -> Log<SimDisk> {
    Log::open(disk.clone(), DIR, IDENTITY, state, OPTIONS, TailCache::new(cache_bytes)).expect("opened")
}

/// A log of 30 frames in several segments, and the frames.
pub(crate) fn filled(disk: &SimDisk) -> (Log<SimDisk>, Vec<Frame>) {
    let mut log = create(disk, 0);
    let mut maker = FrameMaker::new(LogPoint::default());
    let frames: Vec<Frame> = (0..30).map(|n| maker.records(&[n * 10, n * 10 - 15], 60)).collect();
    log.append(&frames).expect("appended");
    log.sync().expect("synced");
    assert!(log.state().segments.len() > 3, "several segments");
    (log, frames)
}

/// All batches from `from` on, read in steps of `bytes_max`.
pub(crate) fn read_all(
    reader: &LogReader<SimDisk>,
    mut from: Offset,
    bytes_max: usize,
) -> Result<Vec<bytes::Bytes>, StorageError> {
    let (mut all, end) = (Vec::new(), reader.log_end());
    while from < end {
        let read = reader.read_batches(from, end, bytes_max)?;
        assert!(read.next > from && !read.batches.is_empty(), "each read goes on");
        from = read.next;
        all.extend(read.batches);
    }
    Ok(all)
}

pub(crate) fn payloads(frames: &[Frame]) -> Vec<bytes::Bytes> {
    frames.iter().filter(|frame| frame.kind == FrameKind::Records).map(|frame| frame.payload.clone()).collect()
}

/// What a log must be, in memory.
#[derive(Clone, Debug)]
struct Model {
    start: LogPoint,
    log_start: Offset,
    frames: Vec<Frame>,
    term: Term,
}

impl Model {
    fn last(&self) -> LogPoint {
        self.frames.last().map_or(self.start, point_after)
    }

    fn maker(&self) -> FrameMaker {
        let mut maker = FrameMaker::new(self.last());
        maker.term = self.term;
        maker
    }

    /// Retention drops whole segments: the log says where it begins now.
    fn shortened(&mut self, start: LogPoint) {
        self.frames.retain(|frame| frame.index > start.index);
        self.start = start;
        self.log_start = self.log_start.max(start.next_offset);
    }

    fn check(&self, log: &Log<SimDisk>, at: u64) {
        assert_eq!((log.last(), log.local_start()), (self.last(), self.start));
        let (state, reader) = (log.state(), log.reader());
        state.check().expect("a sound state");
        let mut encoded = Vec::new();
        state.encode_into(&mut encoded);
        assert_eq!(LogState::decode(&mut &encoded[..]), Ok(state.clone()));
        let mut terms: Vec<(Term, LogIndex, Offset)> = Vec::new();
        for frame in &self.frames {
            assert_eq!(state.term_at(frame.index), Some(frame.term));
            if terms.last().is_none_or(|last| last.0 != frame.term) {
                terms.push((frame.term, frame.index, frame.base_offset));
            }
        }
        assert_eq!(state.term_starts.iter().map(|s| (s.term, s.index, s.offset)).collect::<Vec<_>>(), terms);
        self.check_offsets(&reader, at);
        self.check_indexes(log, &reader, at);
        self.check_times(&reader, at);
    }

    fn check_offsets(&self, reader: &LogReader<SimDisk>, at: u64) {
        let (start, end) = (self.log_start, self.last().next_offset);
        assert_eq!((reader.log_start(), reader.log_end()), (start, end));
        if start > end {
            return;
        }
        let readable = |frame: &Frame| frame.next_offset() > start;
        let expected: Vec<_> = payloads(&self.frames.iter().filter(|f| readable(f)).cloned().collect::<Vec<_>>());
        assert_eq!(read_all(reader, start, (at % 700) as usize).expect("readable"), expected);
        let from = start.plus(at % (end.since(start) + 1));
        let read = reader.read_batches(from, end, 300).expect("readable");
        if from < end {
            let first = batch::BatchHeader::decode(&read.batches[0]).expect("a batch");
            assert!(first.base_offset <= from && from < first.base_offset.plus(u64::from(first.record_count)));
        } else {
            assert_eq!((read.batches.len(), read.next), (0, from));
        }
        let above = reader.read_batches(end.plus(1), end.plus(9), 1);
        assert!(matches!(above, Err(StorageError::OutOfRange { .. })), "{above:?}");
    }

    fn check_indexes(&self, log: &Log<SimDisk>, reader: &LogReader<SimDisk>, at: u64) {
        let mut next = self.start.index.next();
        let mut read = Vec::new();
        while next <= self.last().index {
            let frames = reader.read_frames(next, LogIndex(u64::MAX), (at % 900) as usize).expect("readable");
            next = frames.last().expect("one at least").index.next();
            read.extend(frames);
        }
        assert_eq!(read, self.frames);
        if !self.frames.is_empty() {
            let frame = &self.frames[at as usize % self.frames.len()];
            assert_eq!(log.point_at(frame.index).expect("found"), point_after(frame));
        }
        assert_eq!(log.point_at(self.start.index).expect("known"), self.start);
        if self.start.index > LogIndex::ZERO {
            let below = reader.read_frames(self.start.index, next, 1);
            assert!(matches!(below, Err(StorageError::IndexOutOfRange { .. })), "{below:?}");
        }
    }

    fn check_times(&self, reader: &LogReader<SimDisk>, at: u64) {
        let end = self.last().next_offset;
        for bound in [end, Offset(at % (end.0 + 1))] {
            let time = TimestampMs((at % 120) as i64 - 10);
            let records = self.frames.iter().filter(|frame| frame.kind == FrameKind::Records);
            let mut records = records.flat_map(|frame| batch::decode_records(&frame.payload).expect("a batch"));
            let expected = records.find_map(|record| {
                let record = record.expect("a record");
                let in_range = record.offset >= self.log_start && record.offset < bound;
                (in_range && record.record.timestamp >= time).then_some(record.offset)
            });
            assert_eq!(reader.offset_for_time(time, bound).expect("readable"), expected, "{time} below {bound}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(Vec<i64>, usize)>),
    NewTerm,
    Cut(Index),
    Reset(u64),
    LogStart(Index),
    /// Retention, and two checkpoints: the first no longer names what goes, the second has it removed.
    Retire(Index),
    EndSegment,
    SegmentBytes(u64),
    Sync,
    CloseAndOpen,
    /// Everything reaches the disk, but no checkpoint says so.
    SyncAlone,
    /// Power loss; the journal has everything.
    Crash,
    /// Power loss; the journal has nothing behind the last checkpoint, cut or reset, though segments and indexes may.
    CrashBack,
    /// An append that runs out of space after so many bytes.
    FailedAppend(Vec<(Vec<i64>, usize)>, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let frames = || proptest::collection::vec((proptest::collection::vec(0i64..100, 0..4), 0usize..150), 1..8);
    prop_oneof![
        8 => frames().prop_map(Step::Append),
        2 => (frames(), 0u64..1500).prop_map(|(frames, room)| Step::FailedAppend(frames, room)),
        1 => Just(Step::SyncAlone),
        1 => Just(Step::CrashBack),
        1 => Just(Step::NewTerm),
        3 => any::<Index>().prop_map(Step::Cut),
        1 => (1u64..50).prop_map(Step::Reset),
        1 => any::<Index>().prop_map(Step::LogStart),
        1 => any::<Index>().prop_map(Step::Retire),
        1 => Just(Step::EndSegment),
        1 => (300u64..2000).prop_map(Step::SegmentBytes),
        1 => Just(Step::Sync),
        1 => Just(Step::CloseAndOpen),
        2 => Just(Step::Crash),
    ]
}

/// A log with its model, and what the last checkpoint had of both.
struct Run {
    disk: SimDisk,
    cache_bytes: usize,
    log: Log<SimDisk>,
    model: Model,
    kept: (LogState, Model),
    /// What the journal surely has: cuts and resets are done only once they are durable.
    durable: Model,
    checkpoints: u64,
}

impl Run {
    fn new(seed: u64, cache_bytes: usize) -> Run {
        let disk = disk(seed);
        let mut log = create(&disk, cache_bytes);
        log.sync().expect("synced");
        let term = Term(1);
        let model = Model { start: LogPoint::default(), log_start: Offset::ZERO, frames: Vec::new(), term };
        let kept = (log.state(), model.clone());
        Run { disk, cache_bytes, log, durable: model.clone(), model, kept, checkpoints: 0 }
    }

    fn make(&self, shapes: Vec<(Vec<i64>, usize)>) -> Vec<Frame> {
        let mut maker = self.model.maker();
        let make = |(times, bytes): (Vec<i64>, usize)| {
            if times.is_empty() { maker.no_op() } else { maker.records(&times, bytes) }
        };
        shapes.into_iter().map(make).collect()
    }

    fn checkpoint(&mut self) {
        self.checkpoints += 1;
        self.log.note_checkpoint(self.checkpoints);
        let state = self.log.state();
        self.log.sync().expect("synced");
        self.log.remove_retired(self.checkpoints).expect("removed");
        self.log.sync().expect("names synced");
        assert!(!self.log.is_dirty());
        self.kept = (state, self.model.clone());
        self.durable = self.model.clone();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(shapes) => {
                let frames = self.make(shapes);
                self.log.append(&frames).expect("appended");
                self.model.frames.extend(frames);
            }
            Step::FailedAppend(shapes, room) => {
                let frames = self.make(shapes);
                let capacity = SimDiskOptions::default().capacity_bytes;
                let used = capacity - self.disk.free_bytes().expect("known");
                self.disk.set_capacity(used + room);
                match self.log.append(&frames) {
                    Ok(()) => self.model.frames.extend(frames),
                    Err(error) => assert!(matches!(error, StorageError::Full { .. }), "{error}"),
                }
                self.disk.set_capacity(capacity);
            }
            Step::SyncAlone => self.log.sync().expect("synced"),
            Step::CrashBack => {
                self.model = self.durable.clone();
                self.crash();
            }
            Step::NewTerm => self.model.term = Term(self.model.term.0 + 1),
            Step::Cut(at) => {
                let keep = at.index(self.model.frames.len() + 1);
                self.model.frames.truncate(keep);
                self.model.term = Term(self.model.term.0 + 1);
                self.log.cut(self.model.last().index.next()).expect("cut");
                self.durable = self.model.clone();
            }
            Step::Reset(by) => {
                let last = self.model.last();
                let at = point(last.index.0 + by, self.model.term.0, last.next_offset.0 + by, by as u32);
                self.log.reset(at).expect("reset");
                let log_start = self.model.log_start.max(at.next_offset);
                self.model = Model { start: at, log_start, frames: Vec::new(), term: self.model.term };
                self.durable = self.model.clone();
            }
            Step::LogStart(at) => {
                let start = Offset(at.index(self.model.last().next_offset.0 as usize + 1) as u64);
                self.log.set_log_start(start);
                self.model.log_start = self.model.log_start.max(start);
            }
            Step::Retire(at) => {
                let through = LogIndex(at.index(self.model.last().index.0 as usize + 1) as u64);
                self.log.retire_below_log_start(through).expect("retired");
                let start = self.log.local_start();
                assert!(
                    start == self.model.start || start.index <= through && start.next_offset <= self.model.log_start
                );
                self.model.shortened(start);
                self.checkpoint();
            }
            Step::EndSegment => self.log.end_segment().expect("ended"),
            Step::SegmentBytes(bytes) => self.log.set_segment_bytes(bytes),
            Step::Sync => self.checkpoint(),
            Step::CloseAndOpen => {
                self.log.close().expect("closed");
                self.kept = (self.log.state(), self.model.clone());
                self.durable = self.model.clone();
                self.log = open(&self.disk, &self.kept.0, self.cache_bytes);
            }
            Step::Crash => self.crash(),
        }
    }

    /// Power loss and recovery: the checkpoint's state, trimmed by what the journal cuts, then the frames after it again.
    fn crash(&mut self) {
        let Model { start, frames, .. } = self.kept.1.clone();
        let same = |old: &&Frame| self.model.frames.iter().any(|new| new == *old);
        let cut = frames.iter().find(|frame| !same(frame)).map(|frame| frame.index);
        self.disk.crash();
        let mut state = self.kept.0.clone();
        if start != self.model.start {
            let log_start = self.model.log_start;
            state.trim(LogIndex::ZERO);
            self.log = open(&self.disk, &state, self.cache_bytes);
            self.log.reset(self.model.start).expect("reset again");
            self.log.set_log_start(log_start);
        } else {
            if let Some(from) = cut {
                state.trim(from);
            }
            self.log = open(&self.disk, &state, self.cache_bytes);
            if let Some(from) = cut {
                self.log.cut(from).expect("cut again");
            }
            self.log.set_log_start(self.model.log_start);
        }
        assert_eq!(self.log.damage().len(), 0, "{:?}", self.log.damage());
        let known = self.log.last().index;
        let again: Vec<Frame> = self.model.frames.iter().filter(|frame| frame.index > known).cloned().collect();
        self.log.append(&again).expect("rewritten");
        self.log.truncate_tail().expect("truncated");
        self.checkpoint();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a log, and wherever power is lost, it reads as its model does.
    #[test]
    fn reads_as_its_model(
        steps in proptest::collection::vec((any_step(), any::<u32>()), 1..30),
        seed in any::<u64>(),
        cache_bytes in prop_oneof![Just(0usize), Just(1500), Just(1 << 20)],
    ) {
        let mut run = Run::new(seed, cache_bytes);
        for (step, at) in steps {
            run.step(step);
            run.model.check(&run.log, u64::from(at));
        }
    }
}

#[test]
fn frames_that_do_not_follow_are_refused() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    let before = log.state();
    for frame in [&frames[0], &frames[29]] {
        assert!(matches!(log.append(std::slice::from_ref(frame)), Err(StorageError::Invalid { .. })));
    }
    let mut maker = FrameMaker::new(LogPoint { crc: 1, ..log.last() });
    assert!(matches!(log.append(&[maker.no_op()]), Err(StorageError::Invalid { .. })), "another chain");
    assert!(matches!(log.cut(LogIndex(0)), Err(StorageError::Invalid { .. })));
    assert_eq!(log.state(), before);
}

#[test]
fn a_failed_append_changes_nothing_and_can_be_repeated() {
    for fail_at in 0..6 {
        let disk = disk(fail_at);
        let (mut log, mut frames) = filled(&disk);
        let (before, reader) = (log.state(), log.reader());
        let mut maker = FrameMaker::new(log.last());
        let more: Vec<Frame> = (0..20).map(|_| maker.records(&[5], 150)).collect();
        disk.cut_power_after(u64::MAX);
        disk.set_capacity(1 << 40);
        let used = 1 << 40;
        disk.set_capacity(used - disk.free_bytes().expect("known") + 900 * fail_at);
        let failed = log.append(&more);
        assert!(matches!(failed, Err(StorageError::Full { .. })), "{failed:?}");
        let after = log.state();
        assert_eq!((&after.segments, after.last), (&before.segments, before.last));
        assert_eq!(read_all(&reader, Offset(0), 500).expect("readable"), payloads(&frames));
        disk.set_capacity(used);
        log.append(&more).expect("room again");
        log.sync().expect("synced");
        frames.extend(more);
        assert_eq!(read_all(&reader, Offset(0), 500).expect("readable"), payloads(&frames));
    }
}

/// A cut ends the file at a frame: what stood there stays, and new frames go into a new one.
#[test]
fn a_cut_overwrites_nothing() {
    let disk = disk(1);
    let (mut log, frames) = filled(&disk);
    let before = log.state();
    let name = before.segments.last().expect("one").name().file();
    let path = format!("{DIR}/{name}");
    let bytes_of = |path: &str| {
        let file = disk.open(path).expect("there");
        let mut bytes = vec![0; file.len().expect("known") as usize];
        file.read_at(&mut bytes, 0).expect("read");
        bytes
    };
    let whole = bytes_of(&path);
    log.cut(LogIndex(30)).expect("cut");
    let mut maker = FrameMaker::new(log.last());
    maker.term = Term(2);
    let new = maker.records(&[1], 5);
    log.append(std::slice::from_ref(&new)).expect("appended");
    log.truncate_tail().expect("nothing to do");
    assert_eq!(bytes_of(&path), whole, "not a byte has changed");
    let state = log.state();
    let [.., cut, last] = &state.segments[..] else { panic!("two segments at least") };
    assert_eq!((cut.name().file(), cut.ended, cut.last), (name, true, point_after(&frames[28])));
    assert_eq!((last.start.index, last.ended), (LogIndex(29), false));
    assert!(last.generation >= before.next_generation, "a name that never was used");
    log.cut(LogIndex(30)).expect("cut again");
    log.append(std::slice::from_ref(&new)).expect("appended again");
    assert!(log.state().segments.last().expect("one").generation > last.generation);
}

#[test]
fn a_failed_sync_poisons() {
    let disk = disk(1);
    let (mut log, _) = filled(&disk);
    let mut maker = FrameMaker::new(log.last());
    log.append(&[maker.no_op()]).expect("appended");
    disk.fail_syncs(1);
    assert!(matches!(log.sync(), Err(StorageError::SyncFailed { .. })));
    assert!(matches!(log.sync(), Err(StorageError::Poisoned { .. })));
    assert!(matches!(log.append(&[maker.no_op()]), Err(StorageError::Poisoned { .. })));
    assert!(matches!(log.cut(LogIndex(2)), Err(StorageError::Poisoned { .. })));
}

#[test]
fn small_reads_do_not_pin_large_buffers() {
    let disk = disk(1);
    let options = LogOptions { segment_bytes: 1 << 20, index_interval_bytes: 1 << 16 };
    let mut log = Log::create(disk, DIR, IDENTITY, LogPoint::default(), options, TailCache::new(0)).expect("created");
    let mut maker = FrameMaker::new(LogPoint::default());
    let frames: Vec<Frame> = (0..100).map(|_| maker.records(&[1], 500)).collect();
    log.append(&frames).expect("appended");
    let read = log.reader().read_batches(Offset(50), Offset(100), 1).expect("readable");
    assert_eq!(read.batches, payloads(&frames[50..51]));
    let batch = read.batches.into_iter().next().expect("one");
    assert_eq!(batch.try_into_mut().expect("its only owner").capacity(), frames[50].payload.len(), "its own buffer");
    let read = log.reader().read_batches(Offset(0), Offset(100), 1 << 20).expect("readable");
    assert_eq!(read.batches.len(), 100);
    assert!(read.batches[0].clone().try_into_mut().is_err(), "a large read shares one buffer");
}

/// Where the last frame of a buffer was cut off behind its header, a second buffer as large was read for it alone, and then all
/// batches were copied so as not to pin both.
#[test]
fn a_large_read_asks_the_disk_for_little_more_than_it_gives() {
    const BYTES_MAX: usize = 1 << 20;
    for payload_bytes in [1000, 10_000, BYTES_MAX - 200] {
        let disk = disk(1);
        let options = LogOptions { segment_bytes: 1 << 24, index_interval_bytes: 1 << 14 };
        let cache = TailCache::new(0);
        let mut log = Log::create(disk.clone(), DIR, IDENTITY, LogPoint::default(), options, cache).expect("created");
        let mut maker = FrameMaker::new(LogPoint::default());
        let frames: Vec<Frame> =
            (0..4 * BYTES_MAX / payload_bytes).map(|_| maker.records(&[1], payload_bytes)).collect();
        log.append(&frames).expect("appended");
        let before = disk.stats().read_bytes;
        let read = read_all(&log.reader(), Offset(0), BYTES_MAX).expect("readable");
        assert_eq!(read, payloads(&frames));
        let (asked, given) = (disk.stats().read_bytes - before, read.iter().map(bytes::Bytes::len).sum::<usize>());
        assert!(asked <= given as u64 * 5 / 4, "{payload_bytes}: {asked} bytes read for {given}");
    }
}

/// A seek walked over the end of the segment to make its index whole, wrote the index again though nothing was new in it, and by
/// time read a megabyte.
#[test]
fn a_seek_reads_header_index_and_the_place_itself() {
    let disk = disk(1);
    let options = LogOptions { segment_bytes: 1 << 20, index_interval_bytes: 16 << 10 };
    let make = || TailCache::new(0);
    let mut log = Log::create(disk.clone(), DIR, IDENTITY, LogPoint::default(), options, make()).expect("created");
    let mut maker = FrameMaker::new(LogPoint::default());
    let frames: Vec<Frame> = (0..1000).map(|time| maker.records(&[time], 4000)).collect();
    log.append(&frames).expect("appended");
    log.close().expect("closed");
    let state = log.state();
    drop(log);
    for target in (0..1000).step_by(7) {
        for by_time in [false, true] {
            // Nothing is open, nothing of an index in memory.
            let log = Log::open(disk.clone(), DIR, IDENTITY, &state, options, make()).expect("opened");
            let (reader, before) = (log.reader(), disk.stats());
            if by_time {
                let found = reader.offset_for_time(TimestampMs(target), reader.log_end()).expect("readable");
                assert_eq!(found, Some(Offset(target as u64)));
            } else {
                let read = reader.read_batches(Offset(target as u64), reader.log_end(), 1).expect("readable");
                assert_eq!(read.batches, payloads(&frames[target as usize..=target as usize]));
            }
            let after = disk.stats();
            assert!(after.reads - before.reads <= 3, "{target} {by_time}: {} reads", after.reads - before.reads);
            let bytes = after.read_bytes - before.read_bytes;
            assert!(bytes <= 64 << 10, "{target} {by_time}: {bytes} bytes read");
            assert_eq!(after.writes, before.writes, "{target} {by_time}: a read writes nothing");
        }
    }
}

#[test]
fn the_last_records_are_counted_back() {
    let disk = disk(1);
    let (mut log, _) = filled(&disk);
    log.set_log_start(Offset(10));
    let reader = log.reader();
    assert_eq!(reader.offset_of_last(5, Offset(60)), Offset(55));
    assert_eq!(reader.offset_of_last(5, Offset(40)), Offset(35));
    assert_eq!(reader.offset_of_last(500, Offset(60)), Offset(10));
}
