//! Whether a stream may begin where it was asked to: below the log start never, above the end only the leader can say, or a
//! replica that has just asked it.

use super::{Consumer, Progress};
use crate::service::offsets::{read_index, readable};
use dlog_consensus::Role;
use dlog_core::Offset;
use dlog_core::error::{ErrorCode, ErrorDetail, Outcome};
use tokio::time::Instant;

impl Consumer {
    /// For a linearizable read: asks where the log ends, and waits until all of it is readable here. What was acked before
    /// the call lies below. `None` for other reads.
    ///
    /// # Errors
    /// Retryable: nobody confirmed the end in time, or this replica hasn't got there.
    pub(super) async fn confirmed_end(&self) -> Result<Option<Offset>, ErrorDetail> {
        if !self.input.linearizable {
            return Ok(None);
        }
        let deadline = Instant::now() + self.input.max_wait;
        let end = read_index(&self.handle, deadline).await.map_err(|error| match error.code {
            // A read changes nothing: whatever the replica says of the question, it was not applied.
            ErrorCode::NotLeader | ErrorCode::Timeout => ErrorDetail { outcome: Outcome::Rejected, ..error },
            _ => error,
        })?;
        readable(&self.handle, end, deadline).await?;
        Ok(Some(end))
    }

    /// Returns once the first offset is at most what is readable here.
    ///
    /// # Errors
    /// `offset_out_of_range` below the log start, or, after a read index (`confirmed`, or a leader's own), above the end;
    /// `not_yet_available` from a replica that hasn't got there in time; the replica's end.
    pub(super) async fn check_start(&self, watch: &mut Progress, confirmed: Option<Offset>) -> Result<(), ErrorDetail> {
        let log_start = self.handle.log_start();
        if self.input.from < log_start {
            return Err(self.out_of_range(self.input.from, log_start, watch.borrow().high_watermark));
        }
        let deadline = Instant::now() + self.input.max_wait;
        let mut end: Option<Offset> = None;
        loop {
            let progress = *watch.borrow_and_update();
            if self.input.from <= progress.read_bound {
                return Ok(());
            }
            if let Some(end) = confirmed.filter(|end| self.input.from > (*end).max(progress.high_watermark)) {
                return Err(self.out_of_range(self.input.from, log_start, end));
            }
            if self.input.from > progress.high_watermark && progress.role == Role::Leader && end.is_none() {
                // An error means that it leads no more, or can't tell: then it waits as any replica does.
                end = read_index(&self.handle, deadline).await.ok();
                match end {
                    Some(end) if self.input.from > end => {
                        return Err(self.out_of_range(self.input.from, log_start, end));
                    }
                    _ => {}
                }
                continue;
            }
            match tokio::time::timeout_at(deadline, watch.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.gone()),
                Err(_) => return Err(self.not_yet(self.input.from, progress.read_bound)),
            }
        }
    }
}
