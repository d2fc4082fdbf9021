//! `dlog bench`: simple but true measurements. What it says of the cluster stands beside what each node's disk took.

pub mod disk;
pub mod figures;
pub mod load;
pub mod own_topic;
pub mod reading;

use super::exit::Exit;
use super::{ClientArgs, Output, out, runtime, units};
use dlog_client::{Acks, Client};
use dlog_core::TopicName;
use dlog_core::limits::{PARTITIONS_PER_TOPIC_MAX, RECORD_VALUE_BYTES_MAX};
use figures::Figures;
use load::{Load, Pace};
use reading::Reading;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Partitions of a topic of its own where none are asked for.
const PARTITIONS_DEFAULT: u32 = 3;
/// Records in flight at most.
const WINDOW_MAX: i64 = 1_000_000;

/// Verbs of `dlog bench`.
#[derive(clap::Subcommand, Debug)]
pub enum BenchVerb {
    /// How fast records go in: a closed loop, each record waits for its ack, --window at a time
    Produce(ProduceArgs),
    /// How fast records come out: a topic is read from its beginning, again and again
    Consume(ConsumeArgs),
    /// How long an ack takes at a given rate: an open loop, timed from when each record was due, sent late or not
    Latency(LatencyArgs),
    /// What this machine's disk can do: fdatasync and bytes per second
    Disk(disk::DiskArgs),
}

/// Flags of both loads.
#[derive(clap::Args, Debug, Clone)]
pub struct LoadArgs {
    /// An existing topic [default: a new one, deleted at the end]
    #[arg(long, value_name = "NAME")]
    topic: Option<TopicName>,
    /// Bytes of each record that is written
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = record_bytes)]
    record_bytes: usize,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How many partitions [default: 3, or all of --topic]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_PER_TOPIC_MAX)))]
    partitions: Option<u32>,
    /// When a record counts: synced on a majority, on the leader alone, or on every replica in sync
    #[arg(long, value_name = "quorum|leader|all", default_value_t = Acks::Quorum)]
    acks: Acks,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Flags of `dlog bench produce`.
#[derive(clap::Args, Debug)]
pub struct ProduceArgs {
    /// Records in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    window: u32,
    /// At most so many records a second [default: as many as go]
    #[arg(long, value_name = "N", value_parser = units::rate)]
    rate: Option<f64>,
    #[command(flatten)]
    load: LoadArgs,
}

/// Flags of `dlog bench consume`.
#[derive(clap::Args, Debug)]
pub struct ConsumeArgs {
    /// Records in flight while a topic of its own is filled, before the measurement
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    window: u32,
    /// At most so many records a second [default: as many as come]
    #[arg(long, value_name = "N", value_parser = units::rate)]
    rate: Option<f64>,
    #[command(flatten)]
    load: LoadArgs,
}

/// Flags of `dlog bench latency`.
#[derive(clap::Args, Debug)]
pub struct LatencyArgs {
    /// Records a second
    #[arg(long, value_name = "N", default_value = "100/s", value_parser = units::rate)]
    rate: f64,
    /// Records in flight at most; one that has to wait for room is timed from when it was due
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    window: u32,
    #[command(flatten)]
    load: LoadArgs,
}

fn record_bytes(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        bytes if (1..=RECORD_VALUE_BYTES_MAX as u64).contains(&bytes) => Ok(bytes as usize),
        _ => Err(format!("{text} is out of range: 1B to {RECORD_VALUE_BYTES_MAX} bytes are allowed")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        duration if duration.is_zero() => Err("a measurement of no time says nothing; give 1s or more".into()),
        duration => Ok(duration),
    }
}

/// Measures and prints.
///
/// # Errors
/// What kept it from measuring.
pub fn run(verb: BenchVerb) -> anyhow::Result<Exit> {
    match verb {
        BenchVerb::Produce(args) => run_load(args.load, args.window, args.rate.map_or(Pace::Closed, Pace::ClosedAt)),
        BenchVerb::Latency(args) => run_load(args.load, args.window, Pace::Open(args.rate)),
        BenchVerb::Consume(args) => run_reading(args),
        BenchVerb::Disk(args) => disk::run(args),
    }
}

fn run_load(args: LoadArgs, window: u32, pace: Pace) -> anyhow::Result<Exit> {
    let load = Load {
        topic: args.topic.as_ref().map(|topic| topic.as_str().to_string()),
        partitions: args.partitions,
        record_bytes: args.record_bytes,
        duration: args.duration,
        window,
        pace,
        acks: args.acks,
        timeout: args.client.timeout(),
    };
    measure(args, async move |client: &Client, stop: &CancellationToken| load.run(client, stop).await)
}

fn run_reading(args: ConsumeArgs) -> anyhow::Result<Exit> {
    let (window, rate, args) = (args.window, args.rate, args.load);
    let reading = Reading {
        topic: args.topic.as_ref().map(|topic| topic.as_str().to_string()),
        partitions: args.partitions,
        record_bytes: args.record_bytes,
        duration: args.duration,
        window,
        rate,
        acks: args.acks,
        timeout: args.client.timeout(),
    };
    measure(args, async move |client: &Client, stop: &CancellationToken| reading.run(client, stop).await)
}

/// Runs a measurement until its end or Ctrl-C, and prints what it found either way.
fn measure(
    args: LoadArgs,
    work: impl AsyncFnOnce(&Client, &CancellationToken) -> anyhow::Result<Figures>,
) -> anyhow::Result<Exit> {
    runtime::run(async move {
        let stop = CancellationToken::new();
        let interrupted = stop.clone();
        tokio::spawn(async move {
            runtime::interrupted().await;
            interrupted.cancel();
        });
        let client = tokio::select! {
            client = args.client.connect() => client?,
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        };
        let figures = match work(&client, &stop).await {
            Err(error) if stop.is_cancelled() => {
                out::note(format!("{error:#}"));
                return Ok(Exit::Interrupted);
            }
            figures => figures?,
        };
        if args.output.is_json() {
            out::json(&figures.to_json())?;
        } else {
            out::print(&figures.text())?;
        }
        Ok(match figures.records {
            _ if stop.is_cancelled() => Exit::Interrupted,
            0 => Exit::Failed,
            _ => Exit::Done,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(record_bytes("1KiB"), Ok(1024));
        assert!(record_bytes("0").is_err() && record_bytes("1GiB").is_err());
        assert!(duration("0").is_err() && duration("1s").is_ok());
    }
}
