//! What takes frames out of a [`Log`]: cuts, resets, retention, deletion.

use super::{Live, Log};
use crate::aside;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::view::SegmentView;
use dlog_core::write::LogPoint;
use dlog_core::{LogIndex, Offset};

impl<D: Disk> Log<D> {
    /// Takes every frame at and above `from` out of the log; nothing is overwritten. No effect if there is none. Only once
    /// that is durable in the journal.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] at or below the local start; [`StorageError::Corrupt`] if the place can't be found for
    /// damage; [`StorageError::Io`].
    pub fn cut(&mut self, from: LogIndex) -> Result<(), StorageError> {
        self.usable()?;
        if from > self.last.index {
            return Ok(());
        }
        if from <= self.local_start.index {
            let detail = format!("{}: a cut at {from:?} is below the local start", self.shared.dir);
            return Err(StorageError::Invalid { detail });
        }
        let keep = self.segments.partition_point(|live| live.at.segment.start.index.next() < from);
        let end = match keep.checked_sub(1) {
            Some(at) => Some(self.find_end(&self.segments[at].at, from.previous())?),
            None => None,
        };
        let gone = self.segments.split_off(keep);
        if let (Some(live), Some((point, position))) = (self.segments.last_mut(), end) {
            if let Some(open) = &live.open {
                open.forget_from(position);
            }
            live.end_here(position, point);
        }
        self.last = end.map_or(self.local_start, |(point, _)| point);
        while self.term_starts.last().is_some_and(|start| start.index >= from) {
            self.term_starts.pop();
        }
        self.shared.cache.cut(self.shared.identity.replica, from);
        self.renew_ended();
        self.publish();
        self.remove(gone)
    }

    /// Empties the log; it goes on after `at`. Only once that is durable in the journal.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn reset(&mut self, at: LogPoint) -> Result<(), StorageError> {
        self.usable()?;
        let gone = std::mem::take(&mut self.segments);
        (self.local_start, self.last) = (at, at);
        self.log_start = self.log_start.max(at.next_offset);
        self.term_starts.clear();
        self.shared.cache.forget(self.shared.identity.replica);
        self.renew_ended();
        self.publish();
        self.remove(gone)
    }

    /// Moves the first readable offset; never back. Deletes nothing.
    pub fn set_log_start(&mut self, offset: Offset) {
        self.log_start = self.log_start.max(offset);
        self.publish();
    }

    /// Deletes whole ended segments that hold nothing at or above `offset`, nor above the log start; says how many bytes. The
    /// log start must be that of the *older* checkpoint at least, else a start from it would miss files.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn drop_segments_below(&mut self, offset: Offset) -> Result<u64, StorageError> {
        let floor = offset.min(self.log_start);
        self.drop_front(|at| at.last.next_offset <= floor)
    }

    /// Deletes whole ended segments that hold nothing above `index`: for logs whose state is kept elsewhere (group 0), up to
    /// what the older checkpoint doesn't need. Says how many bytes.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn drop_segments_through(&mut self, index: LogIndex) -> Result<u64, StorageError> {
        self.drop_front(|at| at.last.index <= index)
    }

    fn drop_front(&mut self, goes: impl Fn(&SegmentView<D>) -> bool) -> Result<u64, StorageError> {
        self.usable()?;
        let count = self.segments.iter().take_while(|live| live.at.ended && goes(&live.at)).count();
        if count == 0 {
            return Ok(0);
        }
        let gone: Vec<Live<D>> = self.segments.drain(..count).collect();
        self.local_start = gone[count - 1].at.last;
        self.log_start = self.log_start.max(self.local_start.next_offset);
        self.clip_term_starts();
        self.renew_ended();
        self.publish();
        let bytes = gone.iter().map(|live| live.at.end).sum();
        self.remove(gone)?;
        Ok(bytes)
    }

    /// The first term start says where its term begins *here*.
    pub(super) fn clip_term_starts(&mut self) {
        let first = self.local_start.index.next();
        let below = self.term_starts.partition_point(|start| start.index <= first);
        if below > 0 {
            self.term_starts.drain(..below - 1);
            if first > self.last.index {
                self.term_starts.clear();
            } else if self.term_starts[0].index < first {
                self.term_starts[0].index = first;
                self.term_starts[0].offset = self.local_start.next_offset;
            }
        }
    }

    /// Unlinks segments; whoever has one open may read on.
    fn remove(&mut self, gone: Vec<Live<D>>) -> Result<(), StorageError> {
        self.shared.close_recent();
        for live in gone {
            self.names_unsynced = true;
            aside::remove_if_there(&self.shared.disk, &live.at.segment.path())?;
            aside::remove_if_there(&self.shared.disk, &live.at.segment.index_path())?;
        }
        Ok(())
    }

    /// Deletes the folder and all that is in it; whoever has a segment open may read on. The name of the folder is the
    /// caller's to sync.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn delete(mut self) -> Result<(), StorageError> {
        self.shared.cache.forget(self.shared.identity.replica);
        self.segments.clear();
        (self.last, self.term_starts) = (self.local_start, Vec::new());
        self.renew_ended();
        self.publish();
        self.shared.close_recent();
        aside::remove_folder(&self.shared.disk, &self.shared.dir)
    }

    /// Deletes what was set aside; says how many bytes. Never done by itself: it is the last copy of whatever it is.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn remove_aside(&mut self) -> Result<u64, StorageError> {
        aside::remove_aside(&self.shared.disk, &self.shared.dir)
    }
}
