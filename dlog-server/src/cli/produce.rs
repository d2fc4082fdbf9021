//! `dlog produce`: one record a line, many in flight, and a report at any end.

pub mod input;
pub mod limit;
pub mod line;
pub mod pick;
pub mod pipeline;
pub mod report;

use super::exit::{Exit, ExitError};
use super::progress::{Counted, Progress};
use super::{ClientArgs, Output, out, problem, runtime, units};
use anyhow::Context;
use bytes::Bytes;
use dlog_client::{Acks, Codec, Header, ProducerOptions};
use dlog_core::TopicName;
use dlog_core::codec::UnknownCodec;
use dlog_core::limits::{BATCH_BYTES_MAX, BATCH_BYTES_MIN};
use limit::Limit;
use line::{KeySource, LineFormat};
use pick::Pointer;
use pipeline::{Pipeline, Reading, Template};
use report::Tally;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Flags of `dlog produce`.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("keys").args(["key", "key_separator", "key_json"])))]
pub struct ProduceArgs {
    /// The topic
    topic: TopicName,
    /// Where the lines are; - or nothing: standard input. An empty line is an empty value
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send everything to this partition [default: by the key; without a key any]
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// The same key for every record
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// The key is the text before this; a line without it is an error
    #[arg(long, value_name = "SEP", value_parser = separator, allow_hyphen_values = true)]
    key_separator: Option<String>,
    /// The key is what this JSON pointer finds in the line: text, a number or a boolean; null or nothing is no key
    #[arg(long, value_name = "/POINTER", value_parser = Pointer::new)]
    key_json: Option<Pointer>,
    /// The time stamp is what this JSON pointer finds in the line: RFC 3339 or epoch milliseconds [default: now]
    #[arg(long, value_name = "/POINTER", value_parser = Pointer::new)]
    timestamp_json: Option<Pointer>,
    /// A header for every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<Header>,
    /// quorum: synced on a majority. leader: synced on the leader alone, may be lost with it. all: on every replica in sync
    #[arg(long, value_name = "quorum|leader|all", default_value_t = Acks::Quorum)]
    acks: Acks,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = codec)]
    compression: Codec,
    /// How long a record may wait for others to share its batch; 0ms: sent at once when nothing is in flight for the partition
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = units::duration)]
    linger: Duration,
    /// A batch is sent when it has so many bytes
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = batch_bytes)]
    batch_bytes: usize,
    /// Print `partition offset line-number` as each ack arrives
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

fn separator(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("the separator is empty; give at least one character".into()) } else { Ok(text.into()) }
}

fn header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(Header { key: key.to_string(), value: Some(Bytes::copy_from_slice(value.as_bytes())) })
        }
        _ => Err(format!("{text:?} is no header: write NAME=VALUE")),
    }
}

fn codec(name: &str) -> Result<Codec, String> {
    name.parse().map_err(|error: UnknownCodec| error.to_string())
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(units::size(text)?).unwrap_or(usize::MAX);
    if (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&bytes) {
        return Ok(bytes);
    }
    let [min, max] = [BATCH_BYTES_MIN, BATCH_BYTES_MAX].map(|bytes| units::show_bytes(bytes as u64));
    Err(format!("{text} is out of range: {min} to {max} are allowed"))
}

impl ProduceArgs {
    fn line_format(&self) -> LineFormat {
        let fixed = self.key.as_ref().map(|key| KeySource::Fixed(Bytes::copy_from_slice(key.as_bytes())));
        let separator = || self.key_separator.clone().map(KeySource::Separator);
        let json = || self.key_json.clone().map(KeySource::Json);
        LineFormat {
            key: fixed.or_else(separator).or_else(json).unwrap_or_default(),
            timestamp_json: self.timestamp_json.clone(),
        }
    }

    fn options(&self) -> ProducerOptions {
        ProducerOptions {
            acks: self.acks,
            codec: self.compression,
            linger: self.linger,
            batch_bytes: self.batch_bytes,
            timeout: self.client.timeout(),
            create_missing: true,
            ..ProducerOptions::default()
        }
    }
}

/// Opens the input and tells its size if it is a file; nothing is read yet.
fn open(file: Option<&Path>) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            out::note("each line is a record; Ctrl-D ends the input");
        }
        return Ok((Box::new(std::io::stdin()), None));
    };
    let cannot = || format!("can't open {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    if metadata.is_dir() {
        return Err(anyhow::anyhow!("it is a folder; name a file of lines").context(cannot()));
    }
    let size = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), size))
}

/// Sends every line.
///
/// # Errors
/// A command line that can't work; everything else is told here, with the report.
pub fn run(args: ProduceArgs) -> anyhow::Result<Exit> {
    if args.linger > args.client.timeout() {
        return Err(ExitError::usage("--linger is longer than --timeout: no record would be sent in time"));
    }
    let (input, size) = match open(args.file.as_deref()) {
        Ok(opened) => opened,
        Err(error) => return end(&args, Some(&error), &Tally::default(), Duration::ZERO, Exit::of_error(&error)),
    };
    runtime::run(async move {
        let topic = args.topic.as_str().to_string();
        let limit = async {
            let client = args.client.connect().await?;
            let limit = Limit::find(&client, &topic, args.compression).await;
            anyhow::Ok((client, limit))
        };
        let found = tokio::select! {
            found = limit => found,
            () = runtime::interrupted() => return end(&args, None, &Tally::default(), Duration::ZERO, Exit::Interrupted),
        };
        let (client, limit) = match found {
            Ok(found) => found,
            Err(error) => return end(&args, Some(&error), &Tally::default(), Duration::ZERO, Exit::of_error(&error)),
        };
        let producer = client.producer(args.options()).context("can't produce")?;
        let template = Template { topic: topic.clone(), partition: args.partition, headers: args.headers.clone() };
        let (input, read) = Counted::new(input);
        // A bar would break into what -v prints.
        let progress = size.filter(|_| !args.verbose).map_or_else(Progress::none, Progress::new);
        let began = Instant::now();
        let pipeline = Pipeline::start(producer, template, limit, args.line_format(), input);
        let ended = pipeline.run(args.verbose, Reading { progress, read }).await;
        if ended.error.as_ref().is_some_and(|error| error.is::<out::Closed>()) {
            return Ok(Exit::Done);
        }
        end(&args, ended.error.as_ref(), &ended.tally, began.elapsed(), ended.exit())
    })
}

/// Tells the error, if there is one, and reports: at any end, so that whoever reads the report always finds one.
fn end(
    args: &ProduceArgs,
    error: Option<&anyhow::Error>,
    tally: &Tally,
    took: Duration,
    exit: Exit,
) -> anyhow::Result<Exit> {
    if let Some(error) = error {
        out::note(problem::text(error));
    }
    let report = tally.report(took);
    if args.output.is_json() {
        out::json(&report)?;
    } else {
        out::note(report.text());
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_taken_by_its_name() {
        for known in Codec::ALL {
            assert_eq!(codec(known.name()), Ok(known));
        }
        assert!(codec("lzma").expect_err("refused").contains("use none, gzip, snappy, lz4 or zstd"));
    }

    #[test]
    fn headers_and_sizes() {
        assert_eq!(header("a=b=c").expect("good").value.as_deref(), Some(&b"b=c"[..]));
        assert_eq!(header("a=").expect("good").value.as_deref(), Some(&b""[..]));
        assert!(header("a").is_err() && header("=b").is_err());
        assert_eq!(batch_bytes("256KiB"), Ok(256 << 10));
        assert!(batch_bytes("1GiB").is_err() && batch_bytes("1").is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = open(Some(Path::new("no/such/file"))).err().expect("no such file");
        assert!(format!("{error:#}").contains("no/such/file"));
        assert_eq!(Exit::of_error(&error), Exit::Failed);
        let error = open(Some(&std::env::temp_dir())).err().expect("a folder");
        assert!(format!("{error:#}").contains("folder"));
    }
}
