//! The example of the client library, as it stands, against a cluster.

use crate::wire;
use dlog_cluster_tests::{Cluster, Turn};

#[path = "../../../dlog-client/examples/tour.rs"]
#[expect(dead_code, reason = "the example's main is not called here")]
mod example;

#[test]
fn the_clients_example_runs() {
    let turn = Turn::take("tour");
    let cluster = Cluster::start(&turn, 3);
    let servers = cluster.servers();
    for round in 1..=2 {
        wire::run(example::tour(servers.split(','))).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let records = cluster.dlog(["consume", "tour", "-o", "json"]).ok().json_lines();
        assert_eq!(records.len(), 100 * round, "each record once");
        assert!(records.iter().all(|record| record["key"].as_str().is_some_and(|key| key.starts_with("sensor-"))));
    }
    cluster.finish();
}
