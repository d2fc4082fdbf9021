//! [`View`]: what a log looked like at one moment. The writer publishes a new one with each change; a reader takes the latest
//! and works on it undisturbed, whatever the writer does meanwhile.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::log_state::LogIdentity;
use crate::segment::{OpenSegment, Segment, lock};
use crate::tail_cache::TailCache;
use dlog_core::write::LogPoint;
use dlog_core::{Offset, TimestampMs};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

/// Ended segments that a log keeps open after a read: a file handle and an index (about 64 KiB) each.
const RECENT_SEGMENTS: usize = 2;
/// How often a reader takes a newer view when a file of its own is gone. Retention would have to overtake it each time.
const VIEW_TRIES: usize = 4;

/// What a log's writer and its readers share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: Arc<str>,
    pub(crate) identity: LogIdentity,
    pub(crate) index_interval: u64,
    pub(crate) cache: TailCache,
    view: Mutex<Arc<View<D>>>,
    recent: Mutex<VecDeque<Arc<OpenSegment<D>>>>,
}

/// A log at one moment.
///
/// Invariants: those of [`LogState`](crate::log_state::LogState); `active` is the last segment, if it isn't ended.
pub(crate) struct View<D: Disk> {
    pub(crate) local_start: LogPoint,
    pub(crate) log_start: Offset,
    pub(crate) last: LogPoint,
    pub(crate) ended: Arc<Vec<SegmentView<D>>>,
    pub(crate) active: Option<SegmentView<D>>,
}

/// A segment at one moment.
pub(crate) struct SegmentView<D: Disk> {
    pub(crate) segment: Arc<Segment<D>>,
    pub(crate) end: u64,
    pub(crate) last: LogPoint,
    pub(crate) greatest_time: TimestampMs,
    pub(crate) ended: bool,
}

impl<D: Disk> Clone for SegmentView<D> {
    fn clone(&self) -> SegmentView<D> {
        let SegmentView { segment, end, last, greatest_time, ended } = self;
        SegmentView {
            segment: Arc::clone(segment),
            end: *end,
            last: *last,
            greatest_time: *greatest_time,
            ended: *ended,
        }
    }
}

impl<D: Disk> View<D> {
    /// The segments from the first for which `before` doesn't hold; it must hold for a first part of them.
    pub(crate) fn segments_from(
        &self,
        before: impl Fn(&SegmentView<D>) -> bool,
    ) -> impl Iterator<Item = &SegmentView<D>> {
        let first = self.ended.partition_point(&before);
        self.ended[first..].iter().chain(self.active.iter().filter(move |active| !before(active)))
    }
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(
        disk: D,
        dir: &str,
        identity: LogIdentity,
        index_interval: u64,
        cache: TailCache,
        view: View<D>,
    ) -> Shared<D> {
        let (view, recent) = (Mutex::new(Arc::new(view)), Mutex::default());
        Shared { disk, dir: Arc::from(dir), identity, index_interval, cache, view, recent }
    }

    /// The log now.
    pub(crate) fn view(&self) -> Arc<View<D>> {
        Arc::clone(&lock(&self.view))
    }

    /// What readers see from here on.
    pub(crate) fn publish(&self, view: View<D>) {
        *lock(&self.view) = Arc::new(view);
    }

    /// Lets go of segments that were removed.
    pub(crate) fn close_recent(&self) {
        lock(&self.recent).clear();
    }

    /// Opens a segment, or shares it if it is open, and keeps it open for a while.
    pub(crate) fn open(&self, at: &SegmentView<D>) -> Result<Arc<OpenSegment<D>>, StorageError> {
        let open = at.segment.open(&self.disk, &self.identity, self.index_interval, at)?;
        let mut recent = lock(&self.recent);
        if !recent.iter().any(|other| Arc::ptr_eq(other, &open)) {
            if recent.len() == RECENT_SEGMENTS {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(&open));
        }
        Ok(open)
    }

    /// Runs `read` on a segment, and once more with a new index if it met damage: the index may have led astray.
    pub(crate) fn in_segment<T>(
        &self,
        at: &SegmentView<D>,
        read: impl Fn(&OpenSegment<D>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let open = self.open(at)?;
        match read(&open) {
            Err(e) if e.is_corrupt() && open.distrust_index(at.end) => read(&open),
            done => done,
        }
    }

    /// Runs `read` on the latest view, and again on a newer one if a file of it was removed meanwhile.
    pub(crate) fn with_view<T>(&self, read: impl Fn(&View<D>) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match read(&self.view()) {
                Err(StorageError::Io { op: "open", path, source }) if source.kind() == io::ErrorKind::NotFound => {
                    if tries == VIEW_TRIES {
                        return Err(StorageError::corrupt(&path, 0, "the file is missing"));
                    }
                }
                done => return done,
            }
        }
    }
}
