//! `kill -STOP` of one node of three: the produce goes on without it. A follower catches up by itself when it wakes; a
//! leader finds itself replaced and acks nothing.

use crate::wire;
use dlog_cluster_tests::{Cluster, Input, Producing, Turn, acks, short_or_full, wait};
use dlog_protocol::status;
use std::time::{Duration, Instant};

const TOPIC: &str = "flights";

fn stopped_for() -> Duration {
    short_or_full(Duration::from_secs(6), Duration::from_secs(30))
}

/// Produces slowly enough to be in the middle for as long as the test stops a node, and some more.
fn produce(cluster: &Cluster, input: &Input) -> Producing {
    let seconds = 2 * usize::try_from(stopped_for().as_secs()).expect("small") + 6;
    Producing::flights(cluster, TOPIC, input, input.len() / seconds, &[])
}

/// The acks go on for as long as the node is stopped.
fn wait_while_stopped(producing: &mut Producing) {
    let start = Instant::now();
    while start.elapsed() < stopped_for() {
        producing.wait_more(50);
    }
}

fn in_sync(cluster: &Cluster) -> Vec<String> {
    let described = cluster.describe(TOPIC);
    let names = described["partitions"][0]["in_sync"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect()
}

#[test]
fn a_follower_catches_up_by_itself() {
    let turn = Turn::take("stopped-follower");
    let input = Input::chosen();
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    let leader = cluster.leader_of(TOPIC, 0);
    let follower = (0..3).find(|i| cluster.nodes[*i].name() != leader).expect("two of three");
    let name = cluster.nodes[follower].name().to_string();

    let mut producing = produce(&cluster, &input);
    producing.wait_acked(input.len() / 10);
    cluster.nodes[follower].pause();
    wait_while_stopped(&mut producing);
    wait::until(&format!("{name} is not in sync any more"), wait::LONG, || {
        (!in_sync(&cluster).contains(&name)).then_some(())
    });
    cluster.nodes[follower].resume();
    wait::until(&format!("{name} is in sync again"), wait::LONG, || in_sync(&cluster).contains(&name).then_some(()));

    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());
    assert_eq!(cluster.leader_of(TOPIC, 0), leader, "a stopped follower is no reason to elect");
    for node in ["n1", "n2", "n3"] {
        input.assert_exact(&format!("what {node} gives"), &cluster.consume(TOPIC, Some(node)));
    }
    cluster.wait_healthy();
    cluster.finish();
}

#[test]
fn a_leader_is_replaced_and_acks_nothing_when_it_wakes() {
    let turn = Turn::take("stopped-leader");
    let input = Input::chosen();
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, 1, &["--replicas", "3"]);
    let leader = cluster.leader_of(TOPIC, 0);
    let old = cluster.index_of(&leader);
    let address = cluster.nodes[old].options().client_address();

    let mut producing = produce(&cluster, &input);
    producing.wait_acked(input.len() / 10);
    let answer = wire::run(async {
        // A connection from before, so that the request lies in the sleeper's socket when it wakes.
        let mut log = wire::log(&address).await;
        cluster.nodes[old].pause();
        let late =
            tokio::spawn(async move { log.produce_once(wire::once(TOPIC, 0, wire::batch(&["too late"]))).await });
        // The request leaves while this thread waits for others.
        tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>()).await.expect_err("a pause");
        wait_while_stopped(&mut producing);
        let others: Vec<String> =
            (0..3).filter(|i| *i != old).map(|i| cluster.nodes[i].options().client_address()).collect();
        let ran = dlog_cluster_tests::Verb::new(&others.join(","), ["topic", "describe", TOPIC, "-o", "json"]).ok();
        let now = ran.json()["partitions"][0]["leader"].as_str().map(str::to_string);
        assert!(now.as_ref().is_some_and(|name| *name != leader), "another one leads while {leader} sleeps: {now:?}");
        cluster.nodes[old].resume();
        late.await.expect("the call doesn't panic")
    });
    let refused = match answer {
        Err(status) => status::from_status(&status),
        Ok(acked) => panic!("the leader that woke acked a record: {:?}", acked.into_inner()),
    };
    eprintln!("the leader that woke said: {refused:?}");

    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());
    cluster.wait_in_sync(TOPIC);
    for node in ["n1", "n2", "n3"] {
        let rows = cluster.consume(TOPIC, Some(node));
        assert!(rows.iter().all(|row| row.value != "too late"), "{node} holds a record that nobody acked");
        input.assert_exact(&format!("what {node} gives"), &rows);
        acks::assert_kept(&produced.acks, &rows, |line| input.events[line - 1].line.clone());
    }
    cluster.wait_healthy();
    cluster.finish();
}
