//! `dlog partition transfer`: hands leadership of a partition to another of its replicas.

use crate::cli::args::WAIT_DEFAULT;
use crate::cli::exit::Exit;
use crate::cli::{ClientArgs, out, similar};
use anyhow::Context;
use dlog_client::{Client, ErrorCode};
use dlog_core::TopicName;
use dlog_core::error::{ErrorDetail, Stage};
use std::time::{Duration, Instant};

/// Pause between two looks of `--wait`.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// `--wait` says how it stands this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Flags of `dlog partition transfer`.
#[derive(clap::Args, Debug)]
pub struct TransferArgs {
    /// The partition, like orders/0
    #[arg(value_name = "TOPIC/PARTITION", value_parser = place)]
    partition: (TopicName, u32),
    /// The node that is to lead: it must hold a replica that is in sync. It stays the preferred leader from then on: after
    /// a failure leadership comes back to it
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until that node leads, up to 10m or --timeout
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `TOPIC/PARTITION`.
fn place(text: &str) -> Result<(TopicName, u32), String> {
    let bad = || format!("{text:?} names no partition: write TOPIC/PARTITION, like orders/0");
    let (topic, partition) = text.rsplit_once('/').ok_or_else(bad)?;
    let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
    Ok((topic, partition.parse().map_err(|_| bad())?))
}

/// Hands leadership over.
///
/// # Errors
/// The cluster's; with `--wait` also that the node doesn't lead in time, though it is to.
pub async fn transfer(args: TransferArgs) -> anyhow::Result<Exit> {
    let (topic, partition) = (args.partition.0.as_str(), args.partition.1);
    let (place, to) = (format!("{topic}/{partition}"), args.to.as_str());
    let client = args.client.connect().await?;
    let answer = client.admin().transfer_leadership(topic, partition, to, args.dry_run).await;
    let answer = similar::explain(&client.admin(), topic, answer).await;
    let answer = answer.with_context(|| format!("can't hand {place} over to {to}"))?;
    let from = answer.from;
    if args.dry_run {
        out::line(&match from == to {
            true => format!("{place}: {to} leads already, and would stay the preferred leader"),
            false => format!("{place}: leadership would go from {from} to {to}, the preferred leader from then on"),
        })?;
        out::note("nothing was changed");
        return Ok(Exit::Done);
    }
    if from == to {
        out::note(format!("{to} leads {place} already; it is the preferred leader"));
        return Ok(Exit::Done);
    }
    out::note(format!("leadership of {place} goes from {from} to {to}, usually within a second"));
    if args.wait {
        wait(&client, topic, partition, to, args.client.timeout.unwrap_or(WAIT_DEFAULT)).await?;
    }
    Ok(Exit::Done)
}

/// Returns once `to` leads.
async fn wait(client: &Client, topic: &str, partition: u32, to: &str, timeout: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut told = began;
    loop {
        let leader = leader(client, topic, partition).await;
        if leader.as_deref() == Ok(to) {
            out::note(format!("{to} leads {topic}/{partition} after {:.1} s", began.elapsed().as_secs_f64()));
            return Ok(());
        }
        let state = match leader {
            Ok(leader) => format!("{leader} leads"),
            Err(why) => why,
        };
        if began.elapsed() >= timeout {
            let text = format!(
                "{to} doesn't lead {topic}/{partition} after {timeout:?} ({state}); it is the preferred leader and \
                 gets leadership when it is in sync"
            );
            return Err(ErrorDetail::unknown(ErrorCode::Timeout, Stage::Replication, text).into());
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            out::note(format!("waiting for {to}: {state}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The name of who leads now, or why that can't be told.
async fn leader(client: &Client, topic: &str, partition: u32) -> Result<String, String> {
    let topics = client.admin().list_partitions(Some(topic)).await.map_err(|error| error.to_string())?;
    let mut partitions = topics.into_iter().flat_map(|topic| topic.partitions);
    let found = partitions.find(|entry| entry.partition == partition).and_then(|entry| entry.leader);
    found.ok_or_else(|| "nobody leads".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_topic_and_number() {
        let (topic, partition) = place("a.b-c/12").expect("good");
        assert_eq!((topic.as_str(), partition), ("a.b-c", 12));
        for bad in ["a", "a/", "/1", "a/x", "a/-1", "a b/1", "a/b/1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
