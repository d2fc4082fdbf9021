//! For one lone record: fdatasync of its journal write returned on two nodes before the ack left the leader.

use dlog_cluster_tests::trace::{self, Call, Tracer};
use dlog_cluster_tests::{Cluster, Turn, skip};
use std::path::Path;

const TOPIC: &str = "lone";
/// In the record's value, so that its journal write is known from all others.
const MARK: &str = "lone-record-7f3ad1c6";
/// Records before the lone one: its offset is then a number whose encoding in the ack is known from all other bytes.
const BEFORE: usize = 20_000;

/// When fdatasync of the journal returned for the first write that holds the mark.
fn synced(calls: &[Call]) -> Option<f64> {
    let mark = trace::hex(MARK.as_bytes());
    let is_journal = |call: &Call| Path::new(&call.target).extension().is_some_and(|e| e == "journal");
    let write = calls.iter().find(|c| c.name.contains("write") && is_journal(c) && c.args.contains(&mark))?;
    let is_sync =
        |c: &&Call| c.name == "fdatasync" && c.target == write.target && c.begin >= write.end && c.result == 0;
    calls.iter().find(is_sync).map(|sync| sync.end)
}

/// When the leader began to send the ack: base offset (field 2) and last offset (field 3) of the answer.
fn ack_left(calls: &[Call]) -> Option<f64> {
    let mut answer = Vec::new();
    for field in [0x10, 0x18] {
        answer.push(field);
        let mut rest = BEFORE;
        while rest >= 0x80 {
            answer.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
            rest >>= 7;
        }
        answer.push(u8::try_from(rest).expect("seven bits"));
    }
    let answer = trace::hex(&answer);
    let is_ack = |c: &&Call| c.target.starts_with("TCP") && c.args.contains(&answer);
    calls.iter().filter(is_ack).map(|c| c.begin).min_by(f64::total_cmp)
}

#[test]
fn on_two_nodes() {
    let turn = Turn::take("sync-before-ack");
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    cluster.dlog(["produce", TOPIC, "-p", "0"]).stdin("\n".repeat(BEFORE)).ok();
    let leader = cluster.leader_of(TOPIC, 0);
    let leader = cluster.index_of(&leader);
    // The followers have caught up: what they sync next is the lone record.
    for node in ["n1", "n2", "n3"] {
        assert_eq!(cluster.consume(TOPIC, Some(node)).len(), BEFORE);
    }

    let mut tracers = Vec::new();
    for node in &mut cluster.nodes {
        let pid = node.process().pid();
        match Tracer::attach(pid, &turn.dir().join(format!("{}.trace", node.name()))) {
            Ok(tracer) => tracers.push(tracer),
            Err(why) => {
                drop(tracers);
                skip("sync_before_ack", &why);
                return cluster.finish();
            }
        }
    }
    let ran = cluster.dlog(["produce", TOPIC, "-p", "0", "-v", "--timeout", "60s"]).stdin(format!("{MARK}\n")).ok();
    assert_eq!(ran.text().trim(), format!("0 {BEFORE} 1"), "the lone record follows the others: {ran}");
    let calls: Vec<Vec<Call>> = tracers.into_iter().map(Tracer::finish).collect();

    let ack = ack_left(&calls[leader]).expect("the trace of the leader shows the ack leave");
    let mut synced: Vec<f64> = calls.iter().filter_map(|calls| synced(calls)).collect();
    synced.sort_by(f64::total_cmp);
    let shown: Vec<String> = synced.iter().map(|t| format!("{:+.3} ms", (t - ack) * 1e3)).collect();
    eprintln!("fdatasync returned, against the ack's leaving: {}", shown.join(", "));
    assert!(synced.len() >= 2, "the traces show the record's sync on {} nodes only", synced.len());
    assert!(synced[1] < ack, "the ack left before the second sync returned: {shown:?}");
    cluster.finish();
}
