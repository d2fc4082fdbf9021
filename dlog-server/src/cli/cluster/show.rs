//! Health, status and nodes as text and as JSON.

use crate::cli::{table, units};
use dlog_client::ClusterId;
use dlog_client::v1::{HealthResponse, NodeStatus, PartitionCounts, StatusResponse};
use serde_json::{Value, json};

/// `cluster health -o json`.
pub fn health_json(health: &HealthResponse) -> Value {
    let reasons: Vec<Value> = health
        .reasons
        .iter()
        .map(|r| json!({"code": r.code, "subject": r.subject, "detail": r.detail, "next": r.next}))
        .collect();
    let nodes: Vec<Value> = health
        .nodes
        .iter()
        .map(|n| {
            json!({
                "name": n.name, "id": n.id, "alive": n.alive, "role": n.role, "address": n.address, "rack": n.rack,
            })
        })
        .collect();
    json!({
        "healthy": health.healthy,
        "reasons": reasons,
        "nodes": nodes,
        "partitions": counts_json(health.partitions.as_ref()),
    })
}

fn counts_json(counts: Option<&PartitionCounts>) -> Value {
    let counts = counts.copied().unwrap_or_default();
    json!({
        "total": counts.total,
        "without_leader": counts.without_leader,
        "under_replicated": counts.under_replicated,
    })
}

/// `cluster health` for people. What a healthy cluster tells is a warning.
pub fn health_text(health: &HealthResponse) -> String {
    let (mut text, label) = match health.healthy {
        true => ("HEALTHY\n".to_string(), "WARNING"),
        false => ("UNHEALTHY\n".to_string(), "REASON"),
    };
    for reason in &health.reasons {
        text.push_str(&format!("{label} {} {}: {}\n", reason.code, reason.subject, reason.detail));
        if !reason.next.is_empty() {
            text.push_str(&format!("  next: {}\n", reason.next));
        }
    }
    text
}

fn cluster_id(bytes: &[u8]) -> String {
    ClusterId::from_bytes(bytes).map_or_else(|_| "unknown".to_string(), |id| id.to_string())
}

/// `cluster status -o json`.
pub fn status_json(status: &StatusResponse) -> Value {
    json!({
        "cluster_id": cluster_id(&status.cluster_id),
        "cluster_name": status.cluster_name,
        "healthy": status.healthy,
        "metadata_leader": status.metadata_leader,
        "metadata_term": status.metadata_term,
        "topics": status.topics,
        "partitions": counts_json(status.partitions.as_ref()),
        "nodes": nodes_json(&status.nodes),
    })
}

/// `cluster status` for people: one screen.
pub fn status_text(status: &StatusResponse) -> String {
    let counts = status.partitions.unwrap_or_default();
    let name = if status.cluster_name.is_empty() { "(no name)" } else { &status.cluster_name };
    let mut text = format!("cluster     {name}  id {}\n", cluster_id(&status.cluster_id));
    text.push_str(&format!(
        "metadata    leader {}, term {}\n",
        status.metadata_leader.as_deref().unwrap_or("unknown"),
        status.metadata_term
    ));
    text.push_str(&format!(
        "topics      {} with {} partitions: {} without leader, {} under-replicated\n",
        status.topics, counts.total, counts.without_leader, counts.under_replicated
    ));
    let health = if status.healthy { "HEALTHY" } else { "UNHEALTHY: `dlog cluster health` says why" };
    text.push_str(&format!("health      {health}\n\n"));
    text.push_str(&nodes_text(&status.nodes));
    text
}

/// `node list -o json`.
pub fn nodes_json(nodes: &[NodeStatus]) -> Value {
    nodes.iter().map(node_json).collect()
}

/// A node as `node list` gives it.
pub fn node_json(status: &NodeStatus) -> Value {
    let node = status.node.clone().unwrap_or_default();
    json!({
        "name": node.name,
        "id": node.id,
        "alive": status.alive,
        "role": status.role,
        "address": node.client_address,
        "peer_address": node.peer_address,
        "rack": node.rack,
        "version": node.version,
        "shards": node.shards,
        "replicas": status.replicas,
        "leaders": status.leaders,
        "bytes": status.bytes,
        "boot_number": status.boot_number,
    })
}

/// `node list` for people.
pub fn nodes_text(nodes: &[NodeStatus]) -> String {
    let row = |status: &NodeStatus| {
        let node = status.node.clone().unwrap_or_default();
        vec![
            node.name,
            node.id.to_string(),
            if status.alive { "yes" } else { "no" }.to_string(),
            status.role.clone(),
            node.client_address,
            if node.rack.is_empty() { "-".to_string() } else { node.rack },
            node.version,
            status.replicas.to_string(),
            status.leaders.to_string(),
            units::show_bytes(status.bytes),
        ]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let headings = ["NODE", "ID", "ALIVE", "ROLE", "ADDRESS", "RACK", "VERSION", "REPLICAS", "LEADERS", "BYTES"];
    table::render(&headings, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::v1::{HealthReason, Node, NodeHealth};

    fn health() -> HealthResponse {
        HealthResponse {
            healthy: false,
            reasons: vec![HealthReason {
                code: "node_down".into(),
                subject: "n3".into(),
                detail: "does not answer".into(),
                next: "start it".into(),
            }],
            nodes: vec![NodeHealth {
                name: "n1".into(),
                id: 1,
                alive: true,
                role: "leader".into(),
                address: "a:1".into(),
                rack: String::new(),
            }],
            partitions: Some(PartitionCounts { total: 6, without_leader: 0, under_replicated: 6 }),
        }
    }

    #[test]
    fn the_keys_of_health_are_the_contract() {
        assert_eq!(
            health_json(&health()).to_string(),
            "{\"healthy\":false,\"reasons\":[{\"code\":\"node_down\",\"subject\":\"n3\",\"detail\":\"does not answer\",\
             \"next\":\"start it\"}],\"nodes\":[{\"name\":\"n1\",\"id\":1,\"alive\":true,\"role\":\"leader\",\
             \"address\":\"a:1\",\"rack\":\"\"}],\"partitions\":{\"total\":6,\"without_leader\":0,\"under_replicated\":6}}"
        );
    }

    #[test]
    fn health_names_each_reason() {
        assert_eq!(health_text(&health()), "UNHEALTHY\nREASON node_down n3: does not answer\n  next: start it\n");
        let well = HealthResponse { healthy: true, reasons: vec![], ..health() };
        assert_eq!(health_text(&well), "HEALTHY\n");
    }

    #[test]
    fn status_fits_one_screen() {
        let node = NodeStatus {
            node: Some(Node { id: 1, name: "n1".into(), client_address: "a:1".into(), ..Node::default() }),
            alive: true,
            role: "leader".into(),
            ..NodeStatus::default()
        };
        let status = StatusResponse { nodes: vec![node], healthy: true, topics: 2, ..StatusResponse::default() };
        let text = status_text(&status);
        assert!(text.lines().count() < 24 && text.contains("HEALTHY") && text.contains("n1"), "{text}");
        assert_eq!(status_json(&status)["nodes"][0]["name"], "n1");
        assert_eq!(status_json(&status)["metadata_leader"], Value::Null);
    }
}
