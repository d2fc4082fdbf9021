//! `dlog node describe`: one node with its addresses, its disk and the partitions that it leads and holds.

use crate::cli::cluster::show;
use crate::cli::exit::Exit;
use crate::cli::{ClientArgs, Output, out, table, units};
use anyhow::Context;
use dlog_client::ErrorCode;
use dlog_client::histogram::quantile_us;
use dlog_client::v1::{NodeStatsResponse, NodeStatus, TopicDescription};
use dlog_core::error::{ErrorDetail, Stage};
use serde_json::{Value, json};

/// Flags of `dlog node describe`.
#[derive(clap::Args, Debug)]
pub struct DescribeArgs {
    /// The node
    name: String,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: Output,
}

/// What is known of a node.
struct Described {
    status: NodeStatus,
    /// What it says of itself, if it answers.
    stats: Option<NodeStatsResponse>,
    held: Vec<Held>,
}

/// A partition of which the node holds a replica.
struct Held {
    topic: String,
    partition: u32,
    leads: bool,
    in_sync: bool,
}

/// Describes the node.
///
/// # Errors
/// `unknown_node`; the cluster's.
pub async fn describe(args: DescribeArgs) -> anyhow::Result<Exit> {
    let name = args.name.as_str();
    let client = args.client.connect().await?;
    let cannot = || format!("can't describe node {name}");
    let nodes = client.admin().nodes().await.with_context(cannot)?;
    let names: Vec<String> = nodes.iter().filter_map(|status| Some(status.node.as_ref()?.name.clone())).collect();
    let found = nodes.into_iter().find(|status| status.node.as_ref().is_some_and(|node| node.name == name));
    let status = found.ok_or_else(|| {
        let text = format!("there is no node {name:?}; the nodes are {}", names.join(", "));
        ErrorDetail::rejected(ErrorCode::UnknownNode, Stage::Client, text)
    });
    let status = status.with_context(cannot)?;
    let topics = client.admin().list_partitions(None).await.with_context(cannot)?;
    // One that is down would only cost its timeout.
    let stats = if status.alive { client.admin().node_stats(name).await.ok() } else { None };
    let described = Described { status, stats, held: held(name, &topics) };
    if args.output.is_json() {
        out::json(&described.to_json())?;
    } else {
        out::print(&described.text())?;
    }
    Ok(Exit::Done)
}

fn held(node: &str, topics: &[TopicDescription]) -> Vec<Held> {
    let mut held = Vec::new();
    for topic in topics {
        for partition in topic.partitions.iter().filter(|p| p.replicas.iter().any(|name| name == node)) {
            held.push(Held {
                topic: topic.name.clone(),
                partition: partition.partition,
                leads: partition.leader.as_deref() == Some(node),
                in_sync: partition.in_sync.iter().any(|name| name == node),
            });
        }
    }
    held
}

impl Described {
    fn sync_ms(&self, share: f64) -> Option<f64> {
        let syncs = self.stats.as_ref()?.journal_sync.as_ref()?;
        quantile_us(syncs, share).map(|us| us as f64 / 1e3)
    }

    /// The keys of `node list`, and more.
    fn to_json(&self) -> Value {
        let mut node = show::node_json(&self.status);
        let held =
            |h: &Held| json!({"topic": h.topic, "partition": h.partition, "leads": h.leads, "in_sync": h.in_sync});
        let more = json!({
            "uptime_ms": self.stats.as_ref().map(|stats| stats.uptime_ms),
            "journal_bytes": self.stats.as_ref().map(|stats| stats.journal_bytes),
            "journal_sync_p50_ms": self.sync_ms(0.5),
            "journal_sync_p99_ms": self.sync_ms(0.99),
            "partitions": self.held.iter().map(held).collect::<Vec<_>>(),
        });
        if let (Value::Object(node), Value::Object(more)) = (&mut node, more) {
            node.extend(more);
        }
        node
    }

    fn text(&self) -> String {
        let status = &self.status;
        let node = status.node.clone().unwrap_or_default();
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"));
        let stat = |show: &dyn Fn(&NodeStatsResponse) -> String| self.stats.as_ref().map_or_else(|| "-".into(), show);
        let alive = if status.alive { "yes" } else { "no: `dlog cluster health` says what helps" };
        let lines = [
            ("node", format!("{}  id {}", node.name, node.id)),
            ("alive", alive.to_owned()),
            ("clients", node.client_address),
            ("peers", node.peer_address),
            ("rack", if node.rack.is_empty() { "-".to_owned() } else { node.rack }),
            ("version", node.version),
            ("metadata", status.role.clone()),
            ("boot", status.boot_number.to_string()),
            ("uptime", stat(&|stats| units::show_duration(std::time::Duration::from_millis(stats.uptime_ms)))),
            ("shards", node.shards.to_string()),
            ("segments", units::show_bytes(status.bytes)),
            ("journal", stat(&|stats| units::show_bytes(stats.journal_bytes))),
            ("sync", format!("p50 {}, p99 {}", ms(self.sync_ms(0.5)), ms(self.sync_ms(0.99)))),
            ("partitions", format!("{} led, {} held", status.leaders, status.replicas)),
        ];
        let mut text: String = lines.iter().map(|(key, value)| format!("{key:<12}{value}\n")).collect();
        if !self.held.is_empty() {
            let yes = |flag| if flag { "yes" } else { "no" }.to_owned();
            let row = |h: &Held| vec![h.topic.clone(), h.partition.to_string(), yes(h.leads), yes(h.in_sync)];
            let rows: Vec<Vec<String>> = self.held.iter().map(row).collect();
            text.push_str(&format!("\n{}", table::render(&["TOPIC", "PARTITION", "LEADS", "IN_SYNC"], &rows)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::v1::{Node, PartitionDescription};

    #[test]
    fn led_and_held_partitions_are_told_apart() {
        let partition = |number, leader: &str| PartitionDescription {
            partition: number,
            leader: Some(leader.to_owned()),
            replicas: vec!["n1".into(), "n2".into()],
            in_sync: vec!["n2".into()],
            ..Default::default()
        };
        let partitions = vec![partition(0, "n2"), partition(1, "n1")];
        let topics = [TopicDescription { name: "t".into(), partitions, ..Default::default() }];
        let node = Node { name: "n2".into(), id: 2, ..Default::default() };
        let status = NodeStatus { node: Some(node), replicas: 2, leaders: 1, ..Default::default() };
        let described = Described { status, stats: None, held: held("n2", &topics) };
        let json = described.to_json();
        assert_eq!(json["name"], "n2");
        assert_eq!(json["uptime_ms"], Value::Null, "it doesn't answer");
        assert_eq!(json["partitions"][0], json!({"topic": "t", "partition": 0, "leads": true, "in_sync": true}));
        assert_eq!(json["partitions"][1]["leads"], json!(false));
        assert!(described.text().contains("1 led, 2 held") && described.text().contains("\nt      0          yes"));
        assert!(held("n3", &topics).is_empty());
    }
}
