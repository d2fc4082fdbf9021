//! A file of events goes in through the leaders and comes out of each of the three nodes, exactly.

use dlog_cluster_tests::{Cluster, Input, Row, Turn, Verb, flights, short_or_full, wait};
use std::collections::BTreeMap;
use std::time::Duration;

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 6;

/// Every replica of every log has the same digest; returns the sum of the log ends of all logs that hold records.
fn assert_equal_digests(cluster: &Cluster) -> u64 {
    let logs = cluster.log_dirs();
    assert!(logs.len() > PARTITIONS as usize, "the partitions and the metadata group have logs: {:?}", logs.keys());
    let mut records = 0;
    for (log, dirs) in &logs {
        assert_eq!(dirs.len(), 3, "log {log} has three replicas: {dirs:?}");
        // A follower may learn the last commit a moment later than the leader.
        let ends = wait::until_ok(&format!("the replicas of log {log} are equal"), wait::LONG, || {
            let seen: Vec<_> = dirs.iter().map(|dir| cluster.inspect_log(dir)).collect();
            if let Some(bad) = seen.iter().find(|ran| ran.code != Some(0)) {
                return Err(bad.to_string());
            }
            let seen: Vec<_> = seen.iter().map(|ran| ran.json()).collect();
            let same = |key: &str| seen.iter().all(|json| json[key] == seen[0][key]);
            let whole = seen.iter().all(|json| json["damaged"].as_u64() == Some(0) && json["digest"].is_string());
            if same("digest") && whole {
                Ok(seen[0]["log_end"].as_u64().expect("a number"))
            } else {
                Err(format!("{seen:?}"))
            }
        });
        records += ends;
    }
    records
}

/// `consume --from @TIME`: in each partition the first record is at or after the time, every earlier one before it.
fn assert_from_time(cluster: &Cluster, all: &[Row], time: &str) {
    let at = flights::parse_time_ms(time).expect("a time");
    let from = format!("@{time}");
    let args = ["consume", TOPIC, "--from", &from, "--format", flights::ROW_FORMAT];
    let late = flights::parse_rows(&cluster.dlog(args).ok().stdout);
    let late = flights::by_partition(&late);
    let mut checked = 0;
    for (partition, rows) in flights::by_partition(all) {
        let Some(first) = late.get(&partition).and_then(|rows| rows.first()) else {
            assert!(rows.iter().all(|row| row.time_ms < at), "partition {partition} has records at or after {time}");
            continue;
        };
        assert!(first.time_ms >= at, "partition {partition} begins with {first:?}");
        let earlier = rows.iter().take_while(|row| row.offset < first.offset).collect::<Vec<_>>();
        assert!(earlier.iter().all(|row| row.time_ms < at), "partition {partition} has a late record before {first:?}");
        assert_eq!(earlier.len() + late[&partition].len(), rows.len(), "partition {partition} is read to its end");
        checked += 1;
    }
    assert!(checked > 0, "no partition has a record at or after {time}");
}

#[test]
fn comes_out_of_each_node_as_it_went_in() {
    let turn = Turn::take("whole-file");
    let input = Input::chosen();
    let cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);

    let args = ["produce", TOPIC, "-", "--key-json", "/tailnum", "--timestamp-json", "/time", "-o", "json"];
    let produced = cluster.dlog(args).stdin(input.bytes()).bound(Duration::from_secs(900)).ok();
    let report = produced.json();
    eprintln!("produced {} events in {:?}: {report}", input.len(), produced.took);
    assert_eq!(report["records"].as_u64(), Some(input.len() as u64));
    assert_eq!(report["unknown"].as_u64(), Some(0));
    assert_eq!(report["rejected"].as_u64(), Some(0));

    let mut by_node = BTreeMap::new();
    for node in ["n1", "n2", "n3"] {
        let rows = cluster.consume(TOPIC, Some(node));
        input.assert_exact(&format!("what {node} gives"), &rows);
        by_node.insert(node, flights::partitions_of(&rows));
    }
    assert!(by_node.values().all(|partitions| partitions.len() == PARTITIONS as usize), "{by_node:?}");

    let rows = cluster.consume(TOPIC, None);
    input.assert_exact("what the cluster gives", &rows);
    assert_from_time(&cluster, &rows, short_or_full("2013-01-12T00:00:00-05:00", "2013-07-01T00:00:00-05:00"));

    assert!(assert_equal_digests(&cluster) >= input.len() as u64);
    let dirs = cluster.log_dirs();
    cluster.finish();
    // After a stop of all at once the last commit may be known to one node only; but all that is there is whole.
    for dir in dirs.into_values().flatten() {
        let args = ["inspect", "log", &dir.display().to_string(), "-o", "json"];
        let json = Verb::new("", args).ok().json();
        assert_eq!(json["damaged"].as_u64(), Some(0), "{}: {json}", dir.display());
    }
}
