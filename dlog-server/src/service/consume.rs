//! Consume: whole batches from this replica, up to what is committed and readable here.
//!
//! A stream is one task: read a chunk, hand it to the transport through a channel of one, go on. At the tail it waits for the
//! replica's progress, but only when its next offset equals the bound that it saw last: no gap, no double read. It ends by
//! itself when the client goes, the node stops, or the replica leaves.

mod start;

use super::errors::{from_storage, shutting_down, to_status};
use super::log::LogService;
use super::lookup;
use crate::context::NodeContext;
use crate::replicas::{ReplicaHandle, ReplicaProgress};
use bytes::Bytes;
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_core::{BatchHeader, Offset, limits};
use dlog_protocol::ConsumeInput;
use dlog_protocol::v1::{ConsumeRequest, ConsumeResponse};
use dlog_storage::{BatchRead, StorageError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Answers read ahead of the client. With the one in the transport's hands it stays within
/// [`limits::CONSUME_WINDOW_BYTES_MAX`] but for two answers of one largest batch each.
const ANSWERS_AHEAD: usize = 1;
/// Pause when the bound says that there is more, but the segment list isn't there yet: the writer is between the two.
const BETWEEN: Duration = Duration::from_millis(2);

/// One stream's wishes and sources.
struct Consumer {
    context: Arc<NodeContext>,
    handle: Arc<ReplicaHandle>,
    input: ConsumeInput,
}

/// What a stream does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Read up to the bound.
    Read,
    /// Everything here was sent: wait for progress.
    Wait,
    /// Everything asked for was sent.
    End,
}

/// Opens a stream.
///
/// # Errors
/// A status with details, if topic, partition or replica aren't there, or too many streams are open.
pub fn start(
    service: &LogService,
    request: ConsumeRequest,
) -> Result<ReceiverStream<Result<ConsumeResponse, Status>>, Status> {
    let context = &service.context;
    let consumer = open(context, request).map_err(|error| to_status(context, error))?;
    let permit = Arc::clone(&service.consumers).try_acquire_owned().map_err(|_| {
        let text =
            format!("{} consume streams are open on this node; try another replica", limits::CONSUME_STREAMS_MAX);
        to_status(context, ErrorDetail::rejected(ErrorCode::Overloaded, Stage::Service, text))
    })?;
    let (answers, receiver) = mpsc::channel(ANSWERS_AHEAD);
    let closing = service.closing.clone();
    tokio::spawn(async move {
        let result = tokio::select! {
            biased;
            () = answers.closed() => Ok(()),
            () = closing.cancelled() => Err(shutting_down()),
            result = consumer.serve(&answers) => result,
        };
        if let Err(error) = result {
            if error.code == ErrorCode::CorruptData {
                tracing::error!(log = %consumer.handle.log, error = error.message, "damaged data was not served");
            }
            // A client that has gone away needs no reason.
            let _ = answers.send(Err(to_status(&consumer.context, error))).await;
        }
        drop(permit);
    });
    Ok(ReceiverStream::new(receiver))
}

fn open(context: &Arc<NodeContext>, request: ConsumeRequest) -> Result<Consumer, ErrorDetail> {
    let input = ConsumeInput::try_from(request)?;
    if context.is_stopping() {
        return Err(shutting_down());
    }
    let catalogue = context.catalogue();
    let topic = lookup::topic(&catalogue, &input.topic)?;
    let partition = lookup::partition(&catalogue, topic, input.partition)?;
    let handle = context.replica(partition.log)?;
    Ok(Consumer { context: Arc::clone(context), handle, input })
}

fn next_step(next: Offset, until: Option<Offset>, read_bound: Offset) -> Step {
    match until {
        Some(end) if next >= end => Step::End,
        _ if next < read_bound => Step::Read,
        _ => Step::Wait,
    }
}

impl Consumer {
    /// Sends everything that was asked for.
    async fn serve(&self, answers: &mpsc::Sender<Result<ConsumeResponse, Status>>) -> Result<(), ErrorDetail> {
        let mut watch = self.handle.watch();
        let confirmed = self.confirmed_end().await?;
        self.check_start(&mut watch, confirmed).await?;
        let until = match (self.input.until, self.input.follow) {
            (None, false) => Some(watch.borrow().read_bound),
            (until, _) => until,
        };
        let mut next = self.input.from;
        let mut silent_until = Instant::now() + self.input.max_wait;
        let mut inline = false;
        loop {
            let progress = *watch.borrow_and_update();
            if watch.has_changed().is_err() {
                return Err(self.gone());
            }
            match next_step(next, until, progress.read_bound) {
                Step::End => return Ok(()),
                Step::Read => {
                    let read = self.read(next, progress.read_bound, inline).await?;
                    if read.batches.is_empty() {
                        tokio::time::sleep(BETWEEN).await;
                        continue;
                    }
                    inline = read.from_cache;
                    let (batches, after) = trim(read, until);
                    self.count(&batches, after.0.saturating_sub(next.0));
                    next = after;
                    let Ok(()) = answers.send(Ok(self.answer(batches, next, &progress))).await else { return Ok(()) };
                    silent_until = Instant::now() + self.input.max_wait;
                }
                Step::Wait => match tokio::time::timeout_at(silent_until, watch.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(self.gone()),
                    Err(_) if self.input.follow => {
                        let marks = self.answer(Vec::new(), next, &progress);
                        let Ok(()) = answers.send(Ok(marks)).await else { return Ok(()) };
                        silent_until = Instant::now() + self.input.max_wait;
                    }
                    Err(_) => return Err(self.not_yet(next, progress.read_bound)),
                },
            }
        }
    }

    /// Counts what is about to be sent; `records`: from the first one asked for on.
    fn count(&self, batches: &[Bytes], records: u64) {
        let bytes = batches.iter().map(Bytes::len).sum::<usize>() as u64;
        for traffic in [&self.context.metrics.consumed, &self.handle.reads] {
            traffic.add(batches.len() as u64, records, bytes);
        }
    }

    fn answer(&self, batches: Vec<Bytes>, next: Offset, progress: &ReplicaProgress) -> ConsumeResponse {
        ConsumeResponse {
            batches,
            next_offset: next.0,
            high_watermark: progress.high_watermark.0,
            log_start: self.handle.log_start().0,
        }
    }

    /// The next chunk; no batches if it isn't readable yet. `inline`: the last chunk came from memory, so this one is expected
    /// to; if it doesn't, one read of the disk is made here and the following ones on a thread that may block.
    async fn read(&self, from: Offset, bound: Offset, inline: bool) -> Result<BatchRead, ErrorDetail> {
        let none = BatchRead { batches: Vec::new(), next: from, from_cache: inline };
        let Some(reader) = self.handle.reader() else { return Ok(none) };
        let result = if inline {
            reader.read_batches(from, bound, self.input.max_bytes)
        } else {
            let (reader, max_bytes) = (reader.clone(), self.input.max_bytes);
            tokio::task::spawn_blocking(move || reader.read_batches(from, bound, max_bytes)).await.map_err(|_| {
                let text = "the read was given up because the node goes down; go on at another one";
                ErrorDetail::rejected(ErrorCode::ShuttingDown, Stage::Storage, text)
            })?
        };
        match result {
            Ok(read) => Ok(read),
            Err(StorageError::OutOfRange { log_start, .. }) if from >= log_start => Ok(none),
            Err(StorageError::OutOfRange { log_start, .. }) => Err(self.out_of_range(from, log_start, bound)),
            Err(error) => {
                self.handle.report(&error);
                Err(from_storage(&error))
            }
        }
    }

    fn out_of_range(&self, from: Offset, log_start: Offset, end: Offset) -> ErrorDetail {
        let text = format!(
            "offset {from} is out of range: the partition begins at {log_start} and ends before {end}; \
             start at one of these two"
        );
        ErrorDetail::rejected(ErrorCode::OffsetOutOfRange, Stage::Service, text)
    }

    fn not_yet(&self, next: Offset, read_bound: Offset) -> ErrorDetail {
        let text = format!(
            "offset {next} is not readable at this replica yet (it has {read_bound}); ask again, or the partition's leader"
        );
        let leader = self.handle.progress().leader.map(dlog_core::ReplicaId::node);
        ErrorDetail::rejected(ErrorCode::NotYetAvailable, Stage::Service, text)
            .with_leader(leader.filter(|node| *node != self.context.node_id()), None)
    }

    /// Why the replica went away under the stream.
    fn gone(&self) -> ErrorDetail {
        if self.context.is_stopping() {
            return shutting_down();
        }
        if self.context.catalogue().was_deleted(self.handle.log) {
            return ErrorDetail::rejected(ErrorCode::UnknownTopic, Stage::Service, "the topic was deleted");
        }
        let text = "the replica has left this node; go on at another one";
        ErrorDetail::rejected(ErrorCode::NotLeader, Stage::Service, text)
    }
}

/// Leaves out the batches that lie wholly at or beyond `until`. Returns what is left and the offset after it.
fn trim(read: BatchRead, until: Option<Offset>) -> (Vec<Bytes>, Offset) {
    let BatchRead { mut batches, next, .. } = read;
    let Some(until) = until.filter(|until| next > *until) else { return (batches, next) };
    let mut next = next;
    // The first batch holds the offset asked for, which is below `until`.
    while let [_, .., last] = &batches[..] {
        let base = BatchHeader::decode(last).map_or(Offset::ZERO, |header| header.base_offset);
        if base < until {
            break;
        }
        next = base;
        batches.pop();
    }
    (batches, next)
}

/// A receiver of one replica's progress.
type Progress = watch::Receiver<ReplicaProgress>;

#[cfg(test)]
mod tests;
