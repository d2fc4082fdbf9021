//! `dlog consume --prefer-rack`: a follower in the rack gives the records, any other replica if it is down or the rack is empty.

use dlog_cluster_tests::{Cluster, Scrape, Turn};

const TOPIC: &str = "racks";
const RECORDS: usize = 500;

/// Records that each node has given to readers.
fn given(cluster: &Cluster) -> Vec<u64> {
    let of = |node: &dlog_cluster_tests::Node| Scrape::of(node).sum("dlog_consume_records_total", "") as u64;
    cluster.nodes.iter().map(of).collect()
}

#[test]
fn reads_in_the_rack_and_elsewhere_if_need_be() {
    let turn = Turn::take("consume-rack");
    let racks = [&["--rack", "r1"][..], &["--rack", "r2"], &["--rack", "r3"]];
    let mut cluster = Cluster::start_each(turn.dir(), &racks);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    let lines: String = (0..RECORDS).map(|number| format!("{number}\n")).collect();
    cluster.dlog(["produce", TOPIC]).stdin(lines.clone()).ok();
    let consume = |cluster: &Cluster, rack: &str, flags: &[&str]| {
        let ran = cluster.dlog(["consume", TOPIC, "--prefer-rack", rack]).args(flags).ok();
        assert_eq!(ran.text(), lines, "everything, in order: {ran}");
        ran.stderr
    };
    // Each rack in turn, among them those of two followers.
    for (node, rack) in ["r1", "r2", "r3"].into_iter().enumerate() {
        for flags in [&[][..], &["--read", "linearizable"]] {
            let before = given(&cluster);
            assert_eq!(consume(&cluster, rack, flags), "");
            let mut expected = before;
            expected[node] += RECORDS as u64;
            assert_eq!(given(&cluster), expected, "the replica in {rack} and no other");
        }
    }
    let said = consume(&cluster, "r9", &[]);
    assert!(said.contains("r9"), "an empty rack is told, and no error: {said}");

    let leader = cluster.index_of(&cluster.leader_of(TOPIC, 0));
    let follower = (leader + 1) % 3;
    cluster.nodes[follower].kill();
    consume(&cluster, &format!("r{}", follower + 1), &[]);
    cluster.restart(follower);
    cluster.dlog(["consume", TOPIC, "--prefer-rack", "r1", "--node", "n1"]).run().expect_code(2);
    cluster.finish();
}
