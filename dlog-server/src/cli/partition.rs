//! `dlog partition`: where the partitions are and who leads them.

mod transfer;

use super::exit::Exit;
use super::topic::show::{PARTITION_HEADINGS, partition_json, partition_row};
use super::{ClientArgs, Output, out, runtime, similar, table};
use anyhow::Context;
use dlog_client::v1::TopicDescription;
use dlog_core::TopicName;
use serde_json::{Value, json};

/// Verbs of `dlog partition`.
#[derive(clap::Subcommand, Debug)]
pub enum PartitionVerb {
    /// Show partitions with their leaders and replicas
    List(ListArgs),
    /// Hand leadership of a partition to another of its replicas, which then keeps it
    Transfer(transfer::TransferArgs),
}

/// Flags of `dlog partition list`.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// Only of this topic [default: of all]
    topic: Option<TopicName>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// Runs the verb.
///
/// # Errors
/// The cluster's.
pub fn run(verb: PartitionVerb) -> anyhow::Result<Exit> {
    match verb {
        PartitionVerb::List(args) => runtime::run_until_interrupted(list(args)),
        PartitionVerb::Transfer(args) => runtime::run_change("`dlog partition list`", transfer::transfer(args)),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<Exit> {
    let client = args.client.connect().await?;
    let topic = args.topic.as_ref().map(TopicName::as_str);
    let topics = client.admin().list_partitions(topic).await;
    let topics = similar::explain(&client.admin(), topic.unwrap_or_default(), topics).await;
    let topics = topics.context("can't list the partitions")?;
    if args.output.is_json() {
        out::json(&list_json(&topics))?;
    } else {
        let (headings, rows) = list_table(&topics);
        table::print(&headings, &rows)?;
    }
    Ok(Exit::Done)
}

/// A partition as in `topic describe`, with its topic.
fn list_json(topics: &[TopicDescription]) -> Value {
    let mut list = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            let mut entry = json!({"topic": topic.name});
            if let (Value::Object(entry), Value::Object(rest)) = (&mut entry, partition_json(partition)) {
                entry.extend(rest);
            }
            list.push(entry);
        }
    }
    list.into()
}

fn list_table(topics: &[TopicDescription]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut rows = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            let mut row = vec![topic.name.clone()];
            row.extend(partition_row(partition));
            rows.push(row);
        }
    }
    let mut headings = vec!["TOPIC"];
    headings.extend(PARTITION_HEADINGS);
    (headings, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::v1::PartitionDescription;

    #[test]
    fn the_keys_are_those_of_describe_and_the_topic() {
        let partition = PartitionDescription {
            partition: 1,
            leader: Some("n2".into()),
            replicas: vec!["n1".into(), "n2".into()],
            in_sync: vec!["n2".into()],
            log_start: 1,
            high_watermark: 9,
            term: 3,
            bytes: 77,
        };
        let topics = [TopicDescription { name: "t".into(), partitions: vec![partition], ..Default::default() }];
        assert_eq!(
            list_json(&topics).to_string(),
            "[{\"topic\":\"t\",\"partition\":1,\"leader\":\"n2\",\"replicas\":[\"n1\",\"n2\"],\"in_sync\":[\"n2\"],\
             \"log_start\":1,\"high_watermark\":9,\"term\":3,\"bytes\":77}]"
        );
        let (headings, rows) = list_table(&topics);
        assert_eq!((headings.len(), rows[0][..3].join(" ")), (rows[0].len(), "t 1 n2".to_owned()));
        assert_eq!(list_json(&[]).to_string(), "[]");
    }
}
