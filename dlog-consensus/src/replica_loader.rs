//! From what storage restored to a running replica: which frames must be read again, and what is made of them.

use crate::error::LoadError;
use crate::log_view::LogView;
use crate::membership::Membership;
use crate::options::ReplicaOptions;
use crate::producers::Producers;
use crate::replica::{Parts, Replica};
use dlog_core::batch::BatchHeader;
use dlog_core::write::RestoredReplica;
use dlog_core::{Frame, FrameKind, LogId, LogIndex, Offset};
use std::ops::Range;

/// A replica on its way up. Give it every frame of [`ReplicaLoader::wanted`] in order, then [`ReplicaLoader::finish`].
pub struct ReplicaLoader {
    restored: RestoredReplica,
    membership: Membership,
    commit: LogIndex,
    applied: LogIndex,
    producers: Producers,
    view: LogView,
    next: LogIndex,
    high_watermark: Offset,
}

impl ReplicaLoader {
    /// Begins with what storage gave. `state_applied` is how far group 0's state machine is; 0 for every other log.
    ///
    /// # Errors
    /// [`LoadError`] if it contradicts itself.
    pub fn new(
        restored: RestoredReplica,
        state_applied: LogIndex,
        options: &ReplicaOptions,
    ) -> Result<ReplicaLoader, LoadError> {
        let replica = restored.replica;
        let first = restored.local_start.index;
        let membership = Membership::decode(&restored.membership)
            .map_err(|error| LoadError::Membership { replica, reason: error.to_string() })?;
        let commit = restored.commit.max(state_applied).max(first);
        let is_group_zero = restored.log == LogId::GROUP_ZERO;
        let applied = if is_group_zero { state_applied.max(first).min(commit) } else { commit };
        let last = restored.last.index;
        if commit > last || first > last {
            return Err(LoadError::Indexes { replica, first, last, commit, applied });
        }
        let (producers, table_index) = match &restored.producers {
            Some((index, bytes)) if !is_group_zero && *index >= first && *index <= commit => {
                let table = Producers::decode(bytes, options.producers_max)
                    .map_err(|reason| LoadError::Producers { replica, reason })?;
                (table, *index)
            }
            _ => (Producers::new(options.producers_max), first),
        };
        let start = if is_group_zero { applied } else { table_index };
        let view = LogView::new(&restored, applied);
        let high_watermark = restored.local_start.next_offset;
        let mut loader = ReplicaLoader {
            next: start.next(),
            restored,
            membership,
            commit,
            applied,
            producers,
            view,
            high_watermark,
        };
        if loader.commit == loader.restored.last.index {
            loader.high_watermark = loader.restored.last.next_offset;
        }
        Ok(loader)
    }

    /// The frames to give, end excluded; may be empty.
    pub fn wanted(&self) -> Range<LogIndex> {
        // The frame at the commit index tells the high watermark.
        let from = self.next.min(self.commit.max(LogIndex(1))).max(self.restored.local_start.index.next());
        from..self.restored.last.index.next().max(from)
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`LoadError::Frame`] if it isn't the next one.
    pub fn replay(&mut self, frame: Frame) -> Result<(), LoadError> {
        let index = frame.index;
        if index < self.next && index == self.commit {
            self.high_watermark = frame.next_offset();
            return Ok(());
        }
        if index != self.next {
            let reason = "frames are given in order".to_owned();
            return Err(LoadError::Frame { replica: self.restored.replica, expected: self.next, found: index, reason });
        }
        self.next = index.next();
        if index <= self.commit {
            self.high_watermark = frame.next_offset();
            if frame.kind == FrameKind::Records {
                let header = BatchHeader::decode(&frame.payload).map_err(|error| LoadError::Frame {
                    replica: self.restored.replica,
                    expected: index,
                    found: index,
                    reason: error.to_string(),
                })?;
                if let Some(sequence) = header.producer() {
                    self.producers.apply(sequence, header.record_count, frame.base_offset, index);
                }
            }
        }
        if index > self.applied {
            self.view.pin_restored(frame);
        }
        Ok(())
    }

    /// The replica.
    ///
    /// # Errors
    /// [`LoadError::Incomplete`] if frames are missing, [`LoadError::Options`].
    pub fn finish(self, options: ReplicaOptions, seed: u64) -> Result<Replica, LoadError> {
        if self.next <= self.restored.last.index {
            return Err(LoadError::Incomplete { replica: self.restored.replica, missing: self.next });
        }
        Replica::from_parts(Parts {
            options,
            commit: self.commit,
            applied: self.applied,
            membership: self.membership,
            view: self.view,
            producers: self.producers,
            high_watermark: self.high_watermark,
            seed,
            restored: self.restored,
        })
    }
}
