//! What a load found, for people and for programs.

use crate::cli::table;
use dlog_client::histogram::{between, quantile_us};
use dlog_client::v1::NodeStatsResponse;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// The result of a load.
pub struct Figures {
    /// Records acked, or read.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that failed.
    pub errors: u64,
    /// The time that all of it took.
    pub took: Duration,
    /// What `latencies` are of, in a word or two.
    pub what: &'static str,
    /// From sending (or from when it was due) to the ack, or the wait for a record that is read, in microseconds.
    pub latencies: Histogram<u64>,
    /// What an ack meant.
    pub durability: String,
    /// Each node's own journal.
    pub nodes: Vec<NodeSync>,
}

/// How long one node's journal syncs took during the load, in microseconds; `None` if it can't be told.
pub struct NodeSync {
    /// The node's name.
    pub name: String,
    /// Half of them took at most this.
    pub p50_us: Option<u64>,
    /// 99 of 100 took at most this.
    pub p99_us: Option<u64>,
}

impl NodeSync {
    /// Of two answers of the node, before and after the load; `None` where it didn't answer.
    pub fn new(name: String, before: Option<&NodeStatsResponse>, after: Option<&NodeStatsResponse>) -> NodeSync {
        let before = before.and_then(|stats| stats.journal_sync.as_ref());
        let after = after.and_then(|stats| stats.journal_sync.as_ref());
        let during = before.zip(after).map(|(before, after)| between(before, after));
        let quantile = |share| during.as_ref().and_then(|histogram| quantile_us(histogram, share));
        NodeSync { name, p50_us: quantile(0.5), p99_us: quantile(0.99) }
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Figures {
    fn per_second(&self, amount: f64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { amount / seconds } else { 0.0 }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let at = |share| ms(self.latencies.value_at_quantile(share));
        let node = |node: &NodeSync| {
            json!({
                "name": node.name,
                "journal_sync_p50_ms": node.p50_us.map(ms),
                "journal_sync_p99_ms": node.p99_us.map(ms),
            })
        };
        json!({
            "records": self.records,
            "seconds": self.took.as_secs_f64(),
            "records_per_s": self.per_second(self.records as f64),
            "mb_per_s": self.per_second(self.bytes as f64 / 1e6),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "p999_ms": at(0.999),
            "max_ms": ms(self.latencies.max()),
            "errors": self.errors,
            "durability": self.durability,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let at = |share| ms(self.latencies.value_at_quantile(share));
        let mut text = format!(
            "{} records in {:.1} s: {:.0} records/s, {:.1} MB/s, {} errors\n\
             {}  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms\n\
             durability {}\n\n",
            self.records,
            self.took.as_secs_f64(),
            self.per_second(self.records as f64),
            self.per_second(self.bytes as f64 / 1e6),
            self.errors,
            self.what,
            at(0.5),
            at(0.99),
            at(0.999),
            ms(self.latencies.max()),
            self.durability,
        );
        let cell = |us: Option<u64>| us.map_or_else(|| "-".to_string(), |us| format!("{:.2}", ms(us)));
        let rows: Vec<Vec<String>> =
            self.nodes.iter().map(|node| vec![node.name.clone(), cell(node.p50_us), cell(node.p99_us)]).collect();
        text.push_str(&table::render(&["NODE", "JOURNAL_SYNC_P50_MS", "P99_MS"], &rows));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_client::v1;

    fn stats(counts: &[u64]) -> NodeStatsResponse {
        let journal_sync = v1::Histogram { bounds_us: vec![1000, 2000], counts: counts.to_vec(), max_us: 1500 };
        NodeStatsResponse { journal_sync: Some(journal_sync), ..NodeStatsResponse::default() }
    }

    #[test]
    fn the_keys_are_the_contract() {
        let mut latencies = Histogram::new_with_bounds(1, 1_000_000, 3).expect("good bounds");
        latencies.saturating_record(2000);
        let figures = Figures {
            records: 10,
            bytes: 5_000_000,
            errors: 1,
            took: Duration::from_secs(2),
            what: "ack after",
            latencies,
            durability: "d".into(),
            nodes: vec![
                NodeSync::new("n1".into(), Some(&stats(&[1, 0])), Some(&stats(&[2, 9]))),
                NodeSync::new("n2".into(), None, Some(&stats(&[2, 9]))),
            ],
        };
        let json = figures.to_json();
        assert_eq!((&json["records_per_s"], &json["mb_per_s"], &json["errors"]), (&json!(5.0), &json!(2.5), &json!(1)));
        for key in ["p50_ms", "p99_ms", "p999_ms", "max_ms", "durability"] {
            assert!(!json[key].is_null(), "{key}");
        }
        assert_eq!(json["nodes"][0]["journal_sync_p50_ms"], json!(1.5));
        assert_eq!(json["nodes"][1]["journal_sync_p99_ms"], Value::Null);
        assert!(figures.text().contains("5 records/s, 2.5 MB/s, 1 errors"));
    }
}
