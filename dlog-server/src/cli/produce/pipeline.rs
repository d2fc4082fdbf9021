//! The way of the lines: a thread reads and cuts them up, a task gives them to the producer, tasks wait for the acks (one for
//! each chunk of lines, whatever its partitions), and the caller counts what becomes of them. What is in flight is bounded by
//! the producer, what is read ahead by a channel.

use super::input::Lines;
use super::limit::Limit;
use super::line::{Line, LineFormat};
use super::report::Tally;
use crate::cli::consume::sink::Sink;
use crate::cli::exit::Exit;
use crate::cli::progress::Progress;
use crate::cli::{out, runtime};
use bytes::Bytes;
use dlog_client::{Delivered, Delivery, Error, Header, Outcome, Producer, Record, TimestampMs};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chunks read ahead of the producer. A chunk is what one read of the input gave.
const CHUNKS_AHEAD: usize = 2;

/// What every record has in common.
#[derive(Clone, Debug)]
pub struct Template {
    /// The topic.
    pub topic: String,
    /// The partition, if it was chosen.
    pub partition: Option<u32>,
    /// Headers.
    pub headers: Vec<Header>,
}

impl Template {
    fn record(&self, line: Line) -> Record {
        Record {
            timestamp: line.timestamp_ms.map_or(TimestampMs::NONE, TimestampMs),
            key: line.key,
            value: Some(line.value),
            headers: self.headers.clone(),
        }
    }
}

/// Lines that were read and understood.
struct Parsed {
    first_line: u64,
    lines: Vec<Line>,
}

/// A record that was sent.
struct Waiting {
    line: u64,
    bytes: u64,
    delivery: Delivery,
}

/// What became of it.
struct Settled {
    line: u64,
    bytes: u64,
    result: Result<Delivered, Error>,
}

/// What tasks tell the caller.
enum Event {
    /// So many more records were given to the producer.
    Sent(u64),
    /// What became of some.
    Settled(Vec<Settled>),
    /// A record was refused before it was sent.
    Refused { line: u64, error: Error },
    /// The input is wrong; nothing behind this is sent.
    BadInput(anyhow::Error),
}

/// How far the input was read, and who shows it.
pub struct Reading {
    /// The bar.
    pub progress: Progress,
    /// Bytes read.
    pub read: Arc<AtomicU64>,
}

/// Lines on their way.
pub struct Pipeline {
    events: mpsc::UnboundedReceiver<Event>,
    stop: CancellationToken,
}

/// How it ended.
///
/// Invariant: every record given to the producer is in the tally.
pub struct Ended {
    /// What became of the records.
    pub tally: Tally,
    /// What went wrong first.
    pub error: Option<anyhow::Error>,
    /// Ctrl-C ended it.
    pub interrupted: bool,
}

impl Ended {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match &self.error {
            _ if self.interrupted => Exit::Interrupted,
            _ if self.tally.unknown_count() > 0 => Exit::OutcomeUnknown,
            Some(error) => match Exit::of_error(error) {
                Exit::Unsafe => Exit::Unsafe,
                _ => Exit::Failed,
            },
            None if self.tally.rejected_count() > 0 => Exit::Failed,
            None => Exit::Done,
        }
    }
}

impl Pipeline {
    /// Starts to read and to send.
    pub fn start(
        producer: Producer,
        template: Template,
        limit: Limit,
        format: LineFormat,
        input: impl Read + Send + 'static,
    ) -> Pipeline {
        let (chunks, parsed) = mpsc::channel(CHUNKS_AHEAD);
        // Not a task: a read of standard input may never return.
        std::thread::spawn(move || read(input, &format, &chunks));
        let (events_to, events) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let to = Target { producer, template, limit };
        tokio::spawn(send(to, parsed, events_to, stop.clone()));
        Pipeline { events, stop }
    }

    /// Counts until everything is settled. The first Ctrl-C or error stops the sending, a second Ctrl-C the waiting.
    pub async fn run(mut self, verbose: bool, mut reading: Reading) -> Ended {
        let mut ended = Ended { tally: Tally::default(), error: None, interrupted: false };
        let mut sink = Sink::new(std::io::stdout());
        let mut open = 0u64;
        let mut interrupt = Box::pin(runtime::interrupted());
        loop {
            if self.events.is_empty() && sink.is_dirty() {
                let flushed = out::check(sink.flush());
                self.note(&mut ended, flushed.err());
            }
            reading.progress.at(reading.read.load(Ordering::Relaxed));
            tokio::select! {
                event = self.events.recv() => match event {
                    None => break,
                    Some(Event::Sent(count)) => open += count,
                    Some(Event::Settled(settled)) => {
                        open -= settled.len() as u64;
                        for one in settled {
                            let error = self.count(&mut ended.tally, verbose.then_some(&mut sink), one);
                            self.note(&mut ended, error);
                        }
                    }
                    Some(Event::Refused { line, error }) => {
                        ended.tally.rejected();
                        self.note(&mut ended, Some(anyhow::Error::new(error).context(format!("line {line} was not sent"))));
                    }
                    Some(Event::BadInput(error)) => self.note(&mut ended, Some(error)),
                },
                () = &mut interrupt => {
                    if ended.interrupted {
                        break;
                    }
                    ended.interrupted = true;
                    self.stop.cancel();
                    interrupt = Box::pin(runtime::interrupted());
                }
            }
        }
        reading.progress.finish();
        // Only a second Ctrl-C leaves some open: they may be in the log or not.
        for _ in 0..open {
            ended.tally.unknown();
        }
        ended
    }

    /// Keeps the first error and stops the sending.
    fn note(&self, ended: &mut Ended, error: Option<anyhow::Error>) {
        if let Some(error) = error {
            self.stop.cancel();
            ended.error.get_or_insert(error);
        }
    }

    fn count(
        &self,
        tally: &mut Tally,
        sink: Option<&mut Sink<std::io::Stdout>>,
        settled: Settled,
    ) -> Option<anyhow::Error> {
        let Settled { line, bytes, result } = settled;
        match result {
            Ok(Delivered { partition, offset }) => {
                tally.acked(partition, offset.0, bytes);
                let sink = sink?;
                let printed = writeln!(sink.buffer(), "{partition} {offset} {line}").and_then(|()| sink.settle());
                out::check(printed).err()
            }
            Err(error) => {
                let text = match error.outcome() {
                    Outcome::Unknown => {
                        tally.unknown();
                        format!("line {line} may have been appended or not")
                    }
                    Outcome::Rejected => {
                        tally.rejected();
                        format!("line {line} was not appended")
                    }
                };
                Some(anyhow::Error::new(error).context(text))
            }
        }
    }
}

/// The reading thread: ends with the input, with a bad line, or when nobody wants more.
fn read(input: impl Read, format: &LineFormat, chunks: &mpsc::Sender<anyhow::Result<Parsed>>) {
    let mut lines = Lines::new(input);
    loop {
        let chunk = match lines.next_chunk() {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return,
            // Nobody listening any more means that the verb has ended.
            Err(error) => return chunks.blocking_send(Err(error.into())).unwrap_or(()),
        };
        let mut parsed = Parsed { first_line: chunk.first_line, lines: Vec::with_capacity(chunk.lines.len()) };
        let mut bad = None;
        for line in chunk.lines {
            match format.parse(line) {
                Ok(line) => parsed.lines.push(line),
                Err(why) => {
                    let number = chunk.first_line + parsed.lines.len() as u64;
                    bad = Some(anyhow::anyhow!("line {number}: {why}; the lines before it were sent, none after it"));
                    break;
                }
            }
        }
        if chunks.blocking_send(Ok(parsed)).is_err() {
            return;
        }
        if let Some(bad) = bad {
            return chunks.blocking_send(Err(bad)).unwrap_or(());
        }
    }
}

/// Where the records go.
struct Target {
    producer: Producer,
    template: Template,
    limit: Limit,
}

/// The sending task: ends with the lines, with a refusal, or when told to stop.
async fn send(
    mut to: Target,
    mut parsed: mpsc::Receiver<anyhow::Result<Parsed>>,
    events: mpsc::UnboundedSender<Event>,
    stop: CancellationToken,
) {
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            chunk = parsed.recv() => chunk,
        };
        let parsed = match chunk {
            None => break,
            Some(Ok(parsed)) => parsed,
            Some(Err(error)) => {
                events.send(Event::BadInput(error)).unwrap_or(());
                break;
            }
        };
        let mut waiting = Vec::with_capacity(parsed.lines.len());
        let refused = send_chunk(&mut to, parsed, &mut waiting, &stop).await;
        events.send(Event::Sent(waiting.len() as u64)).unwrap_or(());
        tokio::spawn(settle(waiting, events.clone()));
        if let Some((line, error)) = refused {
            events.send(Event::Refused { line, error }).unwrap_or(());
            break;
        }
    }
    // What lingers goes out now.
    to.producer.flush().await;
}

async fn send_chunk(
    to: &mut Target,
    parsed: Parsed,
    waiting: &mut Vec<Waiting>,
    stop: &CancellationToken,
) -> Option<(u64, Error)> {
    for (line, number) in parsed.lines.into_iter().zip(parsed.first_line..) {
        let bytes = (line.value.len() + line.key.as_ref().map_or(0, Bytes::len)) as u64;
        let record = to.template.record(line);
        let sending = async {
            to.limit.check(&record).await?;
            to.producer.send(&to.template.topic, to.template.partition, record).await
        };
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            () = stop.cancelled() => return None,
        };
        match sent {
            Ok(delivery) => waiting.push(Waiting { line: number, bytes, delivery }),
            Err(error) => return Some((number, to.limit.explain(error).await)),
        }
    }
    None
}

/// Waits for the acks of one chunk, and passes them on as they arrive, in any order of partitions.
async fn settle(mut waiting: Vec<Waiting>, events: mpsc::UnboundedSender<Event>) {
    while !waiting.is_empty() {
        let settled = poll_fn(|context| poll_some(&mut waiting, context)).await;
        events.send(Event::Settled(settled)).unwrap_or(());
    }
}

/// Takes out those that are settled; pending without any. Acks come by the batch, so few looks settle many.
fn poll_some(waiting: &mut Vec<Waiting>, context: &mut Context<'_>) -> Poll<Vec<Settled>> {
    let mut settled = Vec::new();
    waiting.retain_mut(|one| match Pin::new(&mut one.delivery).poll(context) {
        Poll::Pending => true,
        Poll::Ready(result) => {
            settled.push(Settled { line: one.line, bytes: one.bytes, result });
            false
        }
    });
    if settled.is_empty() { Poll::Pending } else { Poll::Ready(settled) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::produce::line::KeySource;

    fn read_all(format: LineFormat, input: &'static [u8]) -> (Vec<(u64, usize)>, Option<String>) {
        let (chunks, mut parsed) = mpsc::channel(8);
        read(input, &format, &chunks);
        drop(chunks);
        let (mut good, mut bad) = (Vec::new(), None);
        while let Some(chunk) = parsed.blocking_recv() {
            match chunk {
                Ok(parsed) => good.push((parsed.first_line, parsed.lines.len())),
                Err(error) => bad = Some(error.to_string()),
            }
        }
        (good, bad)
    }

    #[test]
    fn a_bad_line_is_named_and_those_before_it_are_kept() {
        let format = LineFormat { key: KeySource::Separator(":".into()), timestamp_json: None };
        let (good, bad) = read_all(format, b"a:1\nb:2\nnothing\nc:3\n");
        assert_eq!(good, [(1, 2)]);
        assert!(bad.expect("a bad line").starts_with("line 3: no key separator"));
        assert_eq!(read_all(LineFormat::default(), b"x\n\n"), (vec![(1, 2)], None));
    }

    #[test]
    fn exit_codes() {
        let end = |tally: Tally, error: Option<anyhow::Error>, interrupted| Ended { tally, error, interrupted }.exit();
        let unknown = || {
            let mut tally = Tally::default();
            tally.unknown();
            tally
        };
        assert_eq!(end(Tally::default(), None, false), Exit::Done);
        assert_eq!(end(Tally::default(), Some(anyhow::anyhow!("bad line")), false), Exit::Failed);
        assert_eq!(end(unknown(), Some(anyhow::anyhow!("bad line")), false), Exit::OutcomeUnknown);
        assert_eq!(end(unknown(), None, true), Exit::Interrupted);
    }
}
