//! [`Log`]: the segments of one replica, as the shard's disk thread writes them. Readers use a [`LogReader`].
//!
//! Writes are not synced: the journal makes them durable, [`Log::sync`] is for checkpoints. A cut overwrites nothing: it ends
//! the segment at that frame, and what follows begins a new one. After [`Log::open`] appends go to where the state says that
//! the log ends, over whatever bytes stand there: that is how recovery rewrites what a crash may have spoiled.

mod mend;
mod shorten;

use crate::aside;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::index::greatest_time;
use crate::log_state::{LogIdentity, LogOptions, LogState, SegmentState};
use crate::reader::LogReader;
use crate::segment::{OpenSegment, SCAN_BYTES, SEGMENT_HEADER_BYTES, Segment};
use crate::tail_cache::TailCache;
use crate::view::{SegmentView, Shared, View};
use dlog_core::frame::FRAME_HEADER_BYTES;
use dlog_core::mutants::{self, Mutant};
use dlog_core::write::{LogPoint, TermStart};
use dlog_core::{Frame, LogIndex, Offset, TimestampMs};
use std::sync::Arc;

/// One replica's segments, for writing. Only one at a time may exist for a folder.
///
/// Invariants: those of [`LogState::check`], which `assert_invariants` runs; what readers see is what is here.
pub struct Log<D: Disk> {
    shared: Arc<Shared<D>>,
    segment_bytes: u64,
    segments: Vec<Live<D>>,
    local_start: LogPoint,
    log_start: Offset,
    last: LogPoint,
    term_starts: Vec<TermStart>,
    next_generation: u64,
    /// The ended ones among `segments` as readers see them: made anew only when one ends or goes.
    ended: Arc<Vec<SegmentView<D>>>,
    /// Files from before the local start, until no checkpoint names them.
    retired: Vec<Retired>,
    names_unsynced: bool,
    damage: Vec<StorageError>,
    poisoned: Option<String>,
}

/// A file that this log no longer reads.
struct Retired {
    path: String,
    bytes: u64,
    /// The first checkpoint that doesn't name it; `None` before one is begun.
    unnamed_since: Option<u64>,
}

/// A segment and what the writer must still do for it.
struct Live<D: Disk> {
    at: SegmentView<D>,
    /// Open while it is active or has unsynced bytes: a file that is closed before its sync may lose its write error.
    open: Option<Arc<OpenSegment<D>>>,
    unsynced: bool,
    index_owed: bool,
}

impl<D: Disk> Clone for Live<D> {
    fn clone(&self) -> Live<D> {
        let Live { at, open, unsynced, index_owed } = self;
        Live { at: at.clone(), open: open.clone(), unsynced: *unsynced, index_owed: *index_owed }
    }
}

/// What an append changes, to take it back if a write fails.
struct Undo<D: Disk> {
    segments: usize,
    tail: Option<Live<D>>,
    last: LogPoint,
    term_starts: usize,
}

impl<D: Disk> Log<D> {
    /// A log that holds nothing and goes on after `start`. `dir` may be there already (a crash before): its segments are set
    /// aside. The names of `dir` and of the folders above are the caller's to sync.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::Full`].
    pub fn create(
        disk: D,
        dir: &str,
        identity: LogIdentity,
        start: LogPoint,
        options: LogOptions,
        cache: TailCache,
    ) -> Result<Log<D>, StorageError> {
        disk.create_dir(dir).map_err(|e| StorageError::io("create", dir, e))?;
        Log::open(disk, dir, identity, &LogState::empty(start), options, cache)
    }

    /// The log that `state` names. Files that it doesn't name are set aside first. A segment that is missing, too short or
    /// another's is no error here: [`Log::damage`] lists it, reads of it fail, and appends go on in a new segment.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if the state contradicts itself; [`StorageError::Io`], [`StorageError::SyncFailed`].
    pub fn open(
        disk: D,
        dir: &str,
        identity: LogIdentity,
        state: &LogState,
        options: LogOptions,
        cache: TailCache,
    ) -> Result<Log<D>, StorageError> {
        state.check().map_err(|detail| StorageError::Invalid { detail: format!("{dir}: {detail}") })?;
        cache.forget(identity.replica);
        let stays = aside::set_aside(&disk, dir, state)?;
        let shared_dir: Arc<str> = Arc::from(dir);
        let live = |segment: &SegmentState| Live {
            at: SegmentView {
                segment: Arc::new(Segment::new(Arc::clone(&shared_dir), segment.start, segment.generation)),
                end: segment.bytes,
                last: segment.last,
                greatest_time: segment.greatest_time,
                ended: segment.ended,
            },
            open: None,
            unsynced: false,
            index_owed: false,
        };
        let segments: Vec<Live<D>> = state.segments.iter().map(live).collect();
        let view = View {
            local_start: state.local_start,
            log_start: state.log_start,
            last: state.last,
            ended: Arc::default(),
            active: None,
        };
        let mut log = Log {
            shared: Arc::new(Shared::new(disk, dir, identity, options.index_interval_bytes, cache, view)),
            segment_bytes: options.segment_bytes,
            segments,
            local_start: state.local_start,
            log_start: state.log_start,
            last: state.last,
            term_starts: state.term_starts.clone(),
            next_generation: state.next_generation,
            ended: Arc::default(),
            retired: Vec::new(),
            names_unsynced: false,
            damage: Vec::new(),
            poisoned: None,
        };
        let retired = |name: &String| Retired { path: format!("{dir}/{name}"), bytes: 0, unnamed_since: None };
        log.retired = stays.before_start.iter().map(retired).collect();
        log.find_damage(&stays.names)?;
        log.renew_ended();
        log.publish();
        Ok(log)
    }

    /// Notes missing files, and opens the last segment if it goes on.
    fn find_damage(&mut self, present: &[String]) -> Result<(), StorageError> {
        for live in &mut self.segments {
            let path = live.at.segment.path();
            if !present.contains(&live.at.segment.name().file()) {
                self.damage.push(StorageError::corrupt(&path, 0, "the file is missing"));
                live.at.ended = true;
            } else if !live.at.ended {
                match open_active(&self.shared, &live.at) {
                    Ok(open) => live.open = Some(open),
                    Err(e) if e.is_corrupt() => {
                        self.damage.push(e);
                        live.at.ended = true;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// What [`Log::open`] found missing, short or foreign. Empty in a healthy log.
    pub fn damage(&self) -> &[StorageError] {
        &self.damage
    }

    /// The last frame; what stands before the first in an empty log.
    pub fn last(&self) -> LogPoint {
        self.last
    }

    /// What stands before the first frame kept here.
    pub fn local_start(&self) -> LogPoint {
        self.local_start
    }

    /// The first readable offset.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Bytes of its segments, those included that only an older checkpoint still names.
    pub fn bytes(&self) -> u64 {
        let retired: u64 = self.retired.iter().map(|retired| retired.bytes).sum();
        retired + self.segments.iter().map(|live| live.at.end).sum::<u64>()
    }

    /// Whether a sync is owed.
    pub fn is_dirty(&self) -> bool {
        self.names_unsynced || self.segments.iter().any(|live| live.unsynced)
    }

    /// A reader of this log.
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// From when on a segment is full; takes effect with the next append.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// What a checkpoint keeps. Take it at the journal position that the checkpoint is as of, then [`Log::sync`], then write
    /// the checkpoint.
    pub fn state(&self) -> LogState {
        let segment = |live: &Live<D>| SegmentState {
            start: live.at.segment.start,
            generation: live.at.segment.generation,
            bytes: live.at.end,
            last: live.at.last,
            greatest_time: live.at.greatest_time,
            ended: live.at.ended,
        };
        LogState {
            local_start: self.local_start,
            log_start: self.log_start,
            last: self.last,
            next_generation: self.next_generation,
            segments: self.segments.iter().map(segment).collect(),
            term_starts: self.term_starts.clone(),
        }
    }

    /// Writes frames behind the last one, unsynced, and puts them into the tail cache. On an error nothing has changed and
    /// the call may be repeated.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] if the frames don't follow; [`StorageError::Full`] or [`StorageError::Io`].
    pub fn append(&mut self, frames: &[Frame]) -> Result<(), StorageError> {
        self.usable()?;
        self.check_follows(frames)?;
        let undo = Undo {
            segments: self.segments.len(),
            tail: self.segments.last().cloned(),
            last: self.last,
            term_starts: self.term_starts.len(),
        };
        let mut rest = frames;
        while !rest.is_empty() {
            match self.append_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) => {
                    self.undo(undo);
                    return Err(e);
                }
            }
        }
        if self.segments.len() > undo.segments {
            self.renew_ended();
        }
        self.publish();
        self.shared.cache.push(self.shared.identity.replica, frames);
        Ok(())
    }

    fn check_follows(&self, frames: &[Frame]) -> Result<(), StorageError> {
        let mut at = self.last;
        for frame in frames {
            let follows =
                frame.index == at.index.next() && frame.base_offset == at.next_offset && frame.previous_crc == at.crc;
            if !follows || frame.term < at.term {
                let (dir, index, offset) = (&self.shared.dir, frame.index, frame.base_offset);
                let detail = format!("{dir}: the frame {index:?} at {offset:?} does not follow {at:?}");
                return Err(StorageError::Invalid { detail });
            }
            at = point_after(frame);
        }
        Ok(())
    }

    /// Writes the first frames, as many as go into one segment; says how many.
    fn append_some(&mut self, frames: &[Frame]) -> Result<usize, StorageError> {
        let first = frames[0].encoded_bytes() as u64;
        let room = self.segments.last().is_some_and(|live| {
            let empty = live.at.end == SEGMENT_HEADER_BYTES as u64;
            !live.at.ended && (empty || live.at.end + first <= self.segment_bytes)
        });
        if !room {
            self.roll()?;
        }
        let live = self.segments.last_mut().expect("there is one, or roll made one");
        let open = live.open.as_ref().expect("an active segment is open");
        let (mut count, mut end) = (0, live.at.end);
        for frame in frames {
            let bytes = frame.encoded_bytes() as u64;
            if count > 0 && end + bytes > self.segment_bytes {
                break;
            }
            count += 1;
            end += bytes;
        }
        let headers: Vec<[u8; FRAME_HEADER_BYTES]> = frames[..count].iter().map(Frame::encode_header).collect();
        let parts: Vec<&[u8]> =
            headers.iter().zip(frames).flat_map(|(header, frame)| [&header[..], &frame.payload[..]]).collect();
        live.unsynced = true;
        if !mutants::is(Mutant::EqualBytesSkipped) || !holds(&open.file, &parts, live.at.end) {
            open.file.write_at(&parts, live.at.end).map_err(|e| StorageError::io("write", &open.path, e))?;
        }
        for frame in &frames[..count] {
            open.note(frame, live.at.end);
            live.at.end += frame.encoded_bytes() as u64;
            live.at.last = point_after(frame);
            if let Some(time) = greatest_time(frame) {
                live.at.greatest_time = live.at.greatest_time.max(time);
            }
            if self.last.term != frame.term || self.term_starts.is_empty() {
                let (term, index, offset) = (frame.term, frame.index, frame.base_offset);
                self.term_starts.push(TermStart { term, index, offset });
            }
            self.last = live.at.last;
        }
        debug_assert_eq!(live.at.end, end);
        Ok(count)
    }

    /// Ends the active segment, if there is one, and opens the next.
    fn roll(&mut self) -> Result<(), StorageError> {
        self.truncate_tail()?;
        let segment = Segment::new(Arc::clone(&self.shared.dir), self.last, self.next_generation);
        // The number is spent even if the file can't be made: a name is never tried twice.
        self.next_generation += 1;
        let open =
            segment.create(&self.shared.disk, &self.shared.identity, self.shared.index_interval).inspect_err(|_| {
                // Best effort: what stays behind is set aside at the next start.
                let _ = self.shared.disk.remove(&segment.path());
            })?;
        if let Some(live) = self.segments.last_mut() {
            live.end_here(live.at.end, live.at.last);
        }
        self.names_unsynced = true;
        self.segments.push(Live {
            at: SegmentView {
                segment: Arc::new(segment),
                end: SEGMENT_HEADER_BYTES as u64,
                last: self.last,
                greatest_time: TimestampMs::NONE,
                ended: false,
            },
            open: Some(open),
            unsynced: true,
            index_owed: false,
        });
        Ok(())
    }

    fn undo(&mut self, undo: Undo<D>) {
        for live in self.segments.drain(undo.segments..) {
            // Best effort, as in roll.
            let _ = self.shared.disk.remove(&live.at.segment.path());
        }
        self.segments.pop();
        self.segments.extend(undo.tail);
        if let Some(live) = self.segments.last_mut()
            && let Some(open) = &live.open
        {
            open.forget_from(live.at.end);
            live.unsynced = true;
        }
        self.last = undo.last;
        self.term_starts.truncate(undo.term_starts);
        self.assert_invariants();
    }

    /// Cuts off bytes that stand behind the last frame of the active segment: what a crash left there and recovery did not
    /// overwrite. Recovery's last step for a log.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn truncate_tail(&mut self) -> Result<(), StorageError> {
        let Some(live) = self.segments.last_mut().filter(|live| !live.at.ended) else { return Ok(()) };
        let open = live.open.as_ref().expect("an active segment is open");
        let have = open.file.len().map_err(|e| StorageError::io("read the length of", &open.path, e))?;
        if have > live.at.end {
            live.unsynced = true;
            open.file.set_len(live.at.end).map_err(|e| StorageError::io("truncate", &open.path, e))?;
        }
        Ok(())
    }

    /// The point after the frame at `index`, which may be the one at the local start.
    ///
    /// # Errors
    /// [`StorageError::IndexOutOfRange`]; [`StorageError::Corrupt`] if the way to it is damaged; [`StorageError::Io`].
    pub fn point_at(&self, index: LogIndex) -> Result<LogPoint, StorageError> {
        if index == self.last.index {
            return Ok(self.last);
        }
        if index < self.local_start.index || index > self.last.index {
            let (first, last) = (self.local_start.index.next(), self.last.index);
            return Err(StorageError::IndexOutOfRange { first, last });
        }
        if index == self.local_start.index {
            return Ok(self.local_start);
        }
        let at = self.segments.partition_point(|live| live.at.last.index < index);
        self.find_end(&self.segments[at].at, index).map(|(point, _)| point)
    }

    /// The point after the frame at `index` of a segment, and the position behind it.
    fn find_end(&self, at: &SegmentView<D>, index: LogIndex) -> Result<(LogPoint, u64), StorageError> {
        if index == at.last.index {
            return Ok((at.last, at.end));
        }
        let found = self.shared.in_segment(at, |open| {
            let mut walk = open.walk_to(&self.shared.disk, at.end, SCAN_BYTES, |entry| entry.index <= index);
            while let Some((_, frame)) = walk.next()? {
                if frame.index == index {
                    return Ok((point_after(&frame), walk.position()));
                }
            }
            Err(walk.damaged(format!("the segment ends before index {index}")))
        });
        found.map_err(|error| match error {
            StorageError::Io { op: "open", path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                StorageError::corrupt(&path, 0, "the file is missing")
            }
            other => other,
        })
    }

    /// Makes everything written so far durable: segments, then names. Also writes the indexes of segments that ended.
    ///
    /// # Errors
    /// [`StorageError::SyncFailed`]: the log is unusable from then on, and the process must end.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        for at in 0..self.segments.len() {
            let live = &mut self.segments[at];
            let Some(open) = live.open.clone() else { continue };
            if live.unsynced {
                if let Err(e) = open.file.sync_data() {
                    return Err(self.poison(StorageError::sync(&open.path, e)));
                }
                self.segments[at].unsynced = false;
            }
            let live = &mut self.segments[at];
            if live.index_owed {
                live.index_owed = false;
                self.names_unsynced = true;
                save_index(&self.shared.disk, &open);
            }
            let live = &mut self.segments[at];
            if live.at.ended {
                live.open = None;
            }
        }
        if self.names_unsynced && !mutants::is(Mutant::DirectoryUnsynced) {
            if let Err(e) = self.shared.disk.sync_dir(&self.shared.dir) {
                return Err(self.poison(StorageError::sync(&self.shared.dir, e)));
            }
            self.names_unsynced = false;
        }
        Ok(())
    }

    /// Syncs, and writes the active segment's index too, so that the next start need not walk over it.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn close(&mut self) -> Result<(), StorageError> {
        self.sync()?;
        if let Some(open) = self.segments.last().and_then(|live| live.open.as_ref()) {
            save_index(&self.shared.disk, open);
            if let Err(e) = self.shared.disk.sync_dir(&self.shared.dir) {
                return Err(self.poison(StorageError::sync(&self.shared.dir, e)));
            }
        }
        Ok(())
    }

    fn usable(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: StorageError) -> StorageError {
        self.poisoned = Some(error.to_string());
        error
    }

    fn renew_ended(&mut self) {
        let ended = self.segments.iter().filter(|live| live.at.ended).map(|live| live.at.clone());
        self.ended = Arc::new(ended.collect());
    }

    fn publish(&self) {
        self.assert_invariants();
        self.shared.publish(View {
            local_start: self.local_start,
            log_start: self.log_start,
            last: self.last,
            ended: Arc::clone(&self.ended),
            active: self.segments.last().filter(|live| !live.at.ended).map(|live| live.at.clone()),
        });
    }

    fn assert_invariants(&self) {
        if cfg!(debug_assertions) {
            let last = self.segments.last();
            assert_eq!(last.map_or(self.local_start, |live| live.at.last), self.last, "the last segment ends the log");
            assert!(last.is_none_or(|live| live.at.ended || live.open.is_some()), "an active segment is open");
            assert!(self.segments.iter().rev().skip(1).all(|live| live.at.ended), "only the last may be active");
        }
    }
}

impl<D: Disk> Live<D> {
    fn end_here(&mut self, position: u64, last: LogPoint) {
        self.at.end = position;
        self.at.last = last;
        self.at.ended = true;
        self.index_owed = self.open.is_some();
    }
}

/// Whether a file has these bytes here already, as far as a reader can tell.
fn holds<F: DiskFile>(file: &F, parts: &[&[u8]], position: u64) -> bool {
    let wanted = parts.concat();
    let mut found = vec![0; wanted.len()];
    file.read_at(&mut found, position).is_ok_and(|count| count == wanted.len() && found == wanted)
}

/// The point behind a frame.
pub(crate) fn point_after(frame: &Frame) -> LogPoint {
    frame.point()
}

fn open_active<D: Disk>(shared: &Shared<D>, at: &SegmentView<D>) -> Result<Arc<OpenSegment<D>>, StorageError> {
    let open = at.segment.open(&shared.disk, &shared.identity, shared.index_interval, at)?;
    let have = open.file.len().map_err(|e| StorageError::io("read the length of", &open.path, e))?;
    if have < at.end {
        let detail = format!("the file ends here, {} bytes early", at.end - have);
        return Err(StorageError::corrupt(&open.path, have, detail));
    }
    Ok(open)
}

/// An index is a cache: failing to write it costs a walk later, nothing else.
fn save_index<D: Disk>(disk: &D, open: &OpenSegment<D>) {
    if let Err(error) = open.save_index(disk) {
        tracing::debug!(%error, "an index was not written; it will be made anew when it is needed");
    }
}

#[cfg(test)]
#[path = "log_damage_tests.rs"]
mod damage_tests;
#[cfg(test)]
#[path = "log_retention_tests.rs"]
mod retention_tests;
#[cfg(test)]
#[path = "log_tests.rs"]
pub(crate) mod tests;
