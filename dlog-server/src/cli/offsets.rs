//! `dlog offsets`: where each partition of a topic begins and ends.

use super::exit::Exit;
use super::{ClientArgs, Output, out, runtime, similar, table, units};
use anyhow::Context;
use dlog_client::OffsetsQuery;
use dlog_client::v1::PartitionOffsets;
use dlog_core::{TimestampMs, TopicName};
use serde_json::{Value, json};

/// Flags of `dlog offsets`.
#[derive(clap::Args, Debug)]
pub struct OffsetsArgs {
    /// The topic
    topic: TopicName,
    /// Also the first record whose time stamp is at or after this time
    #[arg(long, value_name = "RFC3339", value_parser = units::timestamp_ms)]
    at: Option<i64>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Asks the leader of each partition.
///
/// # Errors
/// The cluster's; also if one partition has no leader within the timeout.
pub fn run(args: OffsetsArgs) -> anyhow::Result<Exit> {
    runtime::run_until_interrupted(async move {
        let topic = args.topic.as_str();
        let client = args.client.connect().await?;
        let query = OffsetsQuery { at: args.at.map(TimestampMs), ..OffsetsQuery::default() };
        let offsets = client.admin().offsets(topic, &[], query).await;
        let offsets = similar::explain(&client.admin(), topic, offsets).await;
        let offsets = offsets.with_context(|| format!("can't tell the offsets of topic {topic}"))?;
        if args.output.is_json() {
            out::json(&offsets.iter().map(to_json).collect::<Value>())?;
        } else {
            print_table(&offsets, args.at.is_some())?;
        }
        Ok(Exit::Done)
    })
}

fn to_json(offsets: &PartitionOffsets) -> Value {
    json!({
        "partition": offsets.partition,
        "log_start": offsets.log_start,
        "high_watermark": offsets.high_watermark,
        "at": offsets.at_offset,
    })
}

fn print_table(offsets: &[PartitionOffsets], at: bool) -> anyhow::Result<()> {
    let row = |o: &PartitionOffsets| {
        let mut row = vec![o.partition.to_string(), o.log_start.to_string(), o.high_watermark.to_string()];
        if at {
            row.push(o.at_offset.map_or_else(|| "-".into(), |offset| offset.to_string()));
        }
        row
    };
    let rows: Vec<Vec<String>> = offsets.iter().map(row).collect();
    let headings = ["PARTITION", "LOG_START", "HIGH_WATERMARK", "AT"];
    table::print(if at { &headings } else { &headings[..3] }, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_the_contract() {
        let mut offsets = PartitionOffsets { partition: 1, log_start: 2, high_watermark: 9, ..Default::default() };
        assert_eq!(to_json(&offsets).to_string(), "{\"partition\":1,\"log_start\":2,\"high_watermark\":9,\"at\":null}");
        offsets.at_offset = Some(4);
        assert_eq!(to_json(&offsets)["at"], 4);
    }
}
