//! Topics as tables and as JSON.

use crate::cli::units;
use dlog_client::v1::{PartitionDescription, Placement, TopicDescription, TopicSummary};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `topic list -o json`.
pub fn list_json(topics: &[TopicSummary]) -> Value {
    let topic = |t: &TopicSummary| json!({"name": t.name, "id": t.id, "partitions": t.partitions, "replicas": t.replicas, "bytes": t.bytes});
    topics.iter().map(topic).collect()
}

/// The rows of `topic list`, under [`LIST_HEADINGS`].
pub fn list_rows(topics: &[TopicSummary]) -> Vec<Vec<String>> {
    let row = |t: &TopicSummary| {
        let bytes = units::show_bytes(t.bytes);
        vec![t.name.clone(), t.id.to_string(), t.partitions.to_string(), t.replicas.to_string(), bytes]
    };
    topics.iter().map(row).collect()
}

/// Headings of `topic list`.
pub const LIST_HEADINGS: [&str; 5] = ["NAME", "ID", "PARTITIONS", "REPLICAS", "BYTES"];

/// `topic describe -o json`.
pub fn describe_json(topic: &TopicDescription) -> Value {
    let config: BTreeMap<&String, &String> = topic.config.iter().collect();
    let partitions: Vec<Value> = topic.partitions.iter().map(partition_json).collect();
    json!({"name": topic.name, "id": topic.id, "config": config, "partitions": partitions})
}

/// A partition as `topic describe` and `partition list` give it.
pub fn partition_json(p: &PartitionDescription) -> Value {
    json!({
        "partition": p.partition,
        "leader": p.leader,
        "replicas": p.replicas,
        "in_sync": p.in_sync,
        "log_start": p.log_start,
        "high_watermark": p.high_watermark,
        "term": p.term,
        "bytes": p.bytes,
    })
}

/// Headings over [`partition_row`].
pub const PARTITION_HEADINGS: [&str; 8] =
    ["PARTITION", "LEADER", "REPLICAS", "IN_SYNC", "LOG_START", "HIGH_WATERMARK", "TERM", "BYTES"];

/// A partition for people.
pub fn partition_row(p: &PartitionDescription) -> Vec<String> {
    vec![
        p.partition.to_string(),
        p.leader.clone().unwrap_or_else(|| "-".into()),
        p.replicas.join(","),
        p.in_sync.join(","),
        p.log_start.to_string(),
        p.high_watermark.to_string(),
        p.term.to_string(),
        units::show_bytes(p.bytes),
    ]
}

/// `topic describe` for people.
pub fn describe_text(topic: &TopicDescription) -> String {
    let mut text = format!("{}  id {}\n", topic.name, topic.id);
    let config: BTreeMap<&String, &String> = topic.config.iter().collect();
    for (key, value) in config {
        text.push_str(&format!("  {key} = {value}\n"));
    }
    let rows: Vec<Vec<String>> = topic.partitions.iter().map(partition_row).collect();
    text.push_str(&crate::cli::table::render(&PARTITION_HEADINGS, &rows));
    text
}

/// Where replicas are or would be, for people.
pub fn placement_text(placements: &[Placement]) -> String {
    let rows: Vec<Vec<String>> = placements.iter().map(|p| vec![p.partition.to_string(), p.nodes.join(",")]).collect();
    crate::cli::table::render(&["PARTITION", "REPLICAS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicDescription {
        TopicDescription {
            name: "t".into(),
            id: 4,
            config: [("b".to_string(), "2".to_string()), ("a".to_string(), "1".to_string())].into(),
            partitions: vec![PartitionDescription {
                partition: 0,
                leader: None,
                replicas: vec!["n1".into(), "n2".into()],
                in_sync: vec![],
                log_start: 1,
                high_watermark: 9,
                term: 3,
                bytes: 77,
            }],
        }
    }

    #[test]
    fn the_keys_of_describe_are_the_contract() {
        assert_eq!(
            describe_json(&topic()).to_string(),
            "{\"name\":\"t\",\"id\":4,\"config\":{\"a\":\"1\",\"b\":\"2\"},\"partitions\":[{\"partition\":0,\"leader\":null,\
             \"replicas\":[\"n1\",\"n2\"],\"in_sync\":[],\"log_start\":1,\"high_watermark\":9,\"term\":3,\"bytes\":77}]}"
        );
        assert!(describe_text(&topic()).contains("\n0          -       n1,n2"));
    }

    #[test]
    fn the_keys_of_list_are_the_contract() {
        let topics = [TopicSummary { name: "t".into(), id: 4, partitions: 6, replicas: 3, bytes: 9 }];
        assert_eq!(
            list_json(&topics).to_string(),
            "[{\"name\":\"t\",\"id\":4,\"partitions\":6,\"replicas\":3,\"bytes\":9}]"
        );
        assert_eq!(list_rows(&topics)[0].len(), LIST_HEADINGS.len());
        assert_eq!(list_json(&[]).to_string(), "[]");
    }
}
