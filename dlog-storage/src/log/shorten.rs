//! What takes frames out of a [`Log`]: cuts, resets, retention, deletion.

use super::{Live, Log, Retired};
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

    /// Ends the active segment, so that what follows begins a new one. No effect if it holds nothing.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn end_segment(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        let holds_some = |live: &Live<D>| !live.at.ended && live.at.last.index > live.at.segment.start.index;
        if !self.segments.last().is_some_and(holds_some) {
            return Ok(());
        }
        self.truncate_tail()?;
        let live = self.segments.last_mut().expect("just seen");
        live.end_here(live.at.end, live.at.last);
        self.renew_ended();
        self.publish();
        Ok(())
    }

    /// Whether the first segment lies wholly below the log start.
    pub fn has_below_log_start(&self) -> bool {
        self.segments.first().is_some_and(|live| self.is_below(&live.at))
    }

    /// Holds a place below the log start and none above. Without offsets (group 0, whose log start is 0) nothing does.
    fn is_below(&self, at: &SegmentView<D>) -> bool {
        at.segment.start.next_offset < self.log_start && at.last.next_offset <= self.log_start
    }

    /// Takes whole segments that lie wholly below the log start, and hold nothing above the index `through`, out of the log;
    /// says whether any went. An active one of these is ended first. The local start moves behind them at once. Their files
    /// stay until [`Log::remove_retired`], for as long as a checkpoint names them. `through` is what the next checkpoint has of the
    /// log's state elsewhere (its producer table): a start from there reads no frame below.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn retire_below_log_start(&mut self, through: LogIndex) -> Result<bool, StorageError> {
        let goes = |live: &&Live<D>| self.is_below(&live.at) && live.at.last.index <= through;
        self.retire_first(self.segments.iter().take_while(goes).count())
    }

    /// The same for a log whose state machine keeps what its entries add up to, synced as of `through`: whole segments go that hold
    /// nothing above it, but of those `keep` entries behind it stay, as far as they have no more than `keep_bytes`. The active
    /// segment stays.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn retire_synced(&mut self, through: LogIndex, keep: u64, keep_bytes: u64) -> Result<bool, StorageError> {
        self.retire_first(self.synced_segments(through, keep, keep_bytes))
    }

    /// How many segments [`Log::retire_synced`] would take.
    pub fn synced_segments(&self, through: LogIndex, keep: u64, keep_bytes: u64) -> usize {
        let is_synced = |live: &&Live<D>| live.at.last.index <= through;
        let closed = self.segments.len().saturating_sub(1);
        let synced = self.segments[..closed].iter().take_while(is_synced).count();
        let mut bytes = 0;
        let kept = self.segments[..synced].iter().rev().take_while(|live| {
            bytes += live.at.end;
            live.at.last.index.0.saturating_add(keep) > through.0 && bytes <= keep_bytes
        });
        synced - kept.count()
    }

    fn retire_first(&mut self, count: usize) -> Result<bool, StorageError> {
        self.usable()?;
        if count == 0 {
            return Ok(false);
        }
        if count == self.segments.len() {
            self.end_segment()?;
        }
        let gone: Vec<Live<D>> = self.segments.drain(..count).collect();
        self.local_start = gone[count - 1].at.last;
        self.clip_term_starts();
        for live in gone {
            let (path, index) = (live.at.segment.path(), live.at.segment.index_path());
            self.retired.push(Retired { path, bytes: live.at.end, unnamed_since: None });
            self.retired.push(Retired { path: index, bytes: 0, unnamed_since: None });
        }
        self.renew_ended();
        self.publish();
        Ok(true)
    }

    /// A checkpoint with this sequence is made of the log as it is now: it doesn't name what is retired.
    pub fn note_checkpoint(&mut self, sequence: u64) {
        for retired in &mut self.retired {
            retired.unnamed_since.get_or_insert(sequence);
        }
    }

    /// Whether files wait for [`Log::remove_retired`].
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Removes the files that the checkpoint before `sequence` didn't name either; `sequence` is durable. Whoever has one open
    /// may read on. Says how many bytes.
    ///
    /// # Errors
    /// [`StorageError::Io`]; call again.
    pub fn remove_retired(&mut self, sequence: u64) -> Result<u64, StorageError> {
        self.usable()?;
        let (mut bytes, mut at) = (0, 0);
        while let Some(retired) = self.retired.get(at) {
            if retired.unnamed_since.is_none_or(|since| since >= sequence) {
                at += 1;
                continue;
            }
            aside::remove_if_there(&self.shared.disk, &retired.path)?;
            bytes += self.retired.remove(at).bytes;
            self.names_unsynced = true;
            self.shared.close_recent();
        }
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
