//! `dlog consume`: records on standard output, up to the end as it was at the start, or without end.

pub mod format;
pub mod range;
pub mod sink;

use super::exit::{Exit, ExitError};
use super::{ClientArgs, Output, out, runtime, similar};
use anyhow::Context as _;
use dlog_client::{
    ConsumedRecord, Consumer, ConsumerOptions, End, Error, Offset, OnGap, ReadLevel, Start, TimestampMs,
};
use dlog_core::TopicName;
use format::{Format, RecordView};
use range::{From, To};
use sink::Sink;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

/// Flags of `dlog consume`.
#[derive(clap::Args, Debug)]
pub struct ConsumeArgs {
    /// The topic
    topic: TopicName,
    /// Only this partition [default: all; they interleave freely, within one the order holds]
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// earliest, latest, an offset, -N (the last N of each partition), or @TIME: the first record whose time stamp is at or
    /// after it; TIME is RFC 3339, or -1h for an hour ago
    #[arg(long, value_name = "START", default_value = "earliest", value_parser = from, allow_hyphen_values = true)]
    from: From,
    /// End before this offset, or before the first record at or after @TIME [default: where each partition ends at the start]
    #[arg(long, value_name = "N|@TIME", value_parser = to)]
    to: Option<To>,
    /// End after so many records in all
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Don't end: print new records as they come
    #[arg(short = 'F', long)]
    follow: bool,
    /// Read from the replica on this node and from no other; waits, within --timeout, until it has what was asked. With no
    /// leader its own high watermark ends a committed read
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Read from replicas in this rack where there is one that answers, else from any
    #[arg(long, value_name = "RACK", conflicts_with = "node")]
    prefer_rack: Option<String>,
    /// committed: what the replica knows to be committed; linearizable: everything acked before the read began, from any
    /// replica, or an error
    #[arg(long, value_enum, default_value_t, value_name = "committed|linearizable", hide_possible_values = true)]
    read: Read,
    /// Where the next offset is below the log start or above the end: fail, or go on at the log start or at the end, with a
    /// warning
    #[arg(long, value_enum, default_value_t, value_name = "fail|earliest|latest", hide_possible_values = true)]
    on_gap: Gap,
    /// raw (the value and a newline), json, or a string with %t topic %p partition %o offset %T time %k key %v value
    /// %h headers %% \n \t
    #[arg(short, long, value_name = "raw|json|STRING", default_value = "raw")]
    format: Format,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// `--read`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Read {
    /// What the replica knows to be committed.
    #[default]
    Committed,
    /// Everything acked before.
    Linearizable,
}

/// `--on-gap`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gap {
    /// An error.
    #[default]
    Fail,
    /// On to the log start.
    Earliest,
    /// On to the end.
    Latest,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn from(text: &str) -> Result<From, String> {
    From::parse(text, now_ms())
}

fn to(text: &str) -> Result<To, String> {
    To::parse(text, now_ms())
}

impl ConsumeArgs {
    fn options(&self) -> ConsumerOptions {
        let from = match self.from {
            From::Earliest => Start::Earliest,
            From::Latest => Start::Latest,
            From::Offset(offset) => Start::Offset(Offset(offset)),
            From::Last(count) => Start::Last(count),
            From::At(ms) => Start::Time(TimestampMs(ms)),
        };
        let to = self.to.map(|to| match to {
            To::Offset(offset) => End::Offset(Offset(offset)),
            To::At(ms) => End::Time(TimestampMs(ms)),
        });
        ConsumerOptions {
            partitions: self.partition.into_iter().collect(),
            from,
            to,
            follow: self.follow,
            node: self.node.clone(),
            prefer_rack: self.prefer_rack.clone(),
            read: match self.read {
                Read::Committed => ReadLevel::Committed,
                Read::Linearizable => ReadLevel::Linearizable,
            },
            on_gap: match self.on_gap {
                Gap::Fail => OnGap::Fail,
                Gap::Earliest => OnGap::Earliest,
                Gap::Latest => OnGap::Latest,
            },
            timeout: self.client.timeout(),
            ..ConsumerOptions::new(self.topic.as_str())
        }
    }

    fn format(&self) -> anyhow::Result<Format> {
        match (&self.format, self.output.is_json()) {
            (Format::Raw | Format::Json, true) => Ok(Format::Json),
            (Format::Text(_), true) => Err(ExitError::usage("-o json and --format contradict each other; give one")),
            (format, false) => Ok(format.clone()),
        }
    }
}

/// Prints records until the end, the count, an error or Ctrl-C.
///
/// # Errors
/// The cluster's; what was read before is printed.
pub fn run(args: ConsumeArgs) -> anyhow::Result<Exit> {
    let format = args.format()?;
    runtime::run(async move {
        let stop = CancellationToken::new();
        let interrupted = stop.clone();
        tokio::spawn(async move {
            runtime::interrupted().await;
            interrupted.cancel();
            // What was read can't be written while nobody takes it; whoever asks again doesn't want to wait for that.
            runtime::interrupted().await;
            std::process::exit(Exit::Interrupted as i32);
        });
        let topic = args.topic.as_str();
        let opening = async {
            let client = args.client.connect().await?;
            let consumer = client.consumer(args.options()).await;
            similar::explain(&client.admin(), topic, consumer)
                .await
                .with_context(|| format!("can't consume topic {topic}"))
        };
        let mut consumer = tokio::select! {
            consumer = opening => consumer?,
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        };
        warn(&mut consumer);
        let mut printer =
            Printer { topic, format, sink: Sink::new(std::io::stdout()), left: args.count.unwrap_or(u64::MAX) };
        let result = printer.print_all(&mut consumer, &stop).await;
        // What was read is printed before anything is told.
        out::check(printer.sink.flush())?;
        result.with_context(|| format!("can't read on in topic {topic}"))
    })
}

struct Printer<'a, W: Write> {
    topic: &'a str,
    format: Format,
    sink: Sink<W>,
    /// Records still to print.
    left: u64,
}

/// Tells what is no error.
fn warn(consumer: &mut Consumer) {
    for warning in consumer.take_warnings() {
        out::note(format!("warning: {warning}"));
    }
}

/// The next record if it is at hand.
fn at_hand<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

impl<W: Write> Printer<'_, W> {
    async fn print_all(&mut self, consumer: &mut Consumer, stop: &CancellationToken) -> anyhow::Result<Exit> {
        let mut reader_gone = std::pin::pin!(sink::reader_gone());
        while self.left > 0 {
            if stop.is_cancelled() {
                return Ok(Exit::Interrupted);
            }
            let next = match at_hand(consumer) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    // Whoever follows sees a record when it comes, not when a buffer is full.
                    out::check(self.sink.flush())?;
                    tokio::select! {
                        next = consumer.next() => next,
                        () = stop.cancelled() => return Ok(Exit::Interrupted),
                        () = &mut reader_gone => return Err(out::Closed.into()),
                    }
                }
            };
            warn(consumer);
            match next {
                None => break,
                Some(record) => self.print(record)?,
            }
        }
        Ok(Exit::Done)
    }

    fn print(&mut self, record: Result<ConsumedRecord, Error>) -> anyhow::Result<()> {
        let ConsumedRecord { partition, offset, record } = record?;
        let view = RecordView {
            topic: self.topic,
            partition,
            offset: offset.0,
            timestamp_ms: record.timestamp.0,
            key: record.key.as_ref(),
            value: record.value.as_ref(),
            headers: &record.headers,
        };
        self.left -= 1;
        out::check(self.format.write(self.sink.buffer(), &view).and_then(|()| self.sink.settle()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    fn args(line: &[&str]) -> ConsumeArgs {
        Line::try_parse_from([&["consume", "t"], line].concat()).map(|line| line.args).expect("a good line")
    }

    #[test]
    fn flags_become_options() {
        let options =
            args(&["--from", "-3", "-p", "2", "--to", "9", "-F", "--node", "n2", "--timeout", "3s"]).options();
        assert_eq!((options.from, options.to), (Start::Last(3), Some(End::Offset(Offset(9)))));
        assert_eq!((options.partitions.as_slice(), options.follow), (&[2][..], true));
        assert_eq!((options.node.as_deref(), options.timeout.as_secs()), (Some("n2"), 3));
        let options = args(&["--prefer-rack", "r1", "--read", "linearizable", "--on-gap", "latest"]).options();
        assert_eq!((options.prefer_rack.as_deref(), options.read), (Some("r1"), ReadLevel::Linearizable));
        assert_eq!(options.on_gap, OnGap::Latest);
        let options = args(&[]).options();
        assert!(options.partitions.is_empty() && options.prefer_rack.is_none());
        assert_eq!((options.read, options.on_gap), (ReadLevel::Committed, OnGap::Fail));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for bad in [&["--node", "n1", "--prefer-rack", "r"][..], &["--read", "dirty"], &["--on-gap", "skip"]] {
            assert!(Line::try_parse_from([&["consume", "t"], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_format_only() {
        assert_eq!(args(&["-o", "json"]).format().expect("good"), Format::Json);
        assert_eq!(args(&[]).format().expect("good"), Format::Raw);
        let error = args(&["-o", "json", "-f", "%k"]).format().expect_err("two formats");
        assert_eq!(Exit::of_error(&error), Exit::Usage);
    }

    #[test]
    fn records_are_printed_and_counted() {
        let mut written = Vec::new();
        let mut printer = Printer { topic: "t", format: Format::Raw, sink: Sink::new(&mut written), left: 2 };
        let record = dlog_client::Record { value: Some("v".into()), ..Default::default() };
        printer.print(Ok(ConsumedRecord { partition: 0, offset: Offset(1), record })).expect("memory");
        assert_eq!(printer.left, 1);
        printer.sink.flush().expect("memory");
        assert_eq!(written, b"v\n");
    }
}
