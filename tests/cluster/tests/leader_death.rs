//! `kill -9` of a leader, again and again, in the middle of a produce: it ends with 0, and nothing is missing, doubled or
//! out of order.

use dlog_cluster_tests::{Cluster, Input, Producing, Random, Turn, acks, short_or_full};
use std::time::{Duration, Instant};

const TOPIC: &str = "flights";
const PARTITIONS: u32 = 6;
/// How long the lines between two deaths take to hand over: a new leader is found in the middle of them.
const LINES_FOR: Duration = Duration::from_secs(4);
/// Acks that the dead node had sent arrive within this.
const UNDER_WAY: Duration = Duration::from_millis(300);

#[test]
fn loses_doubles_and_reorders_nothing() {
    let turn = Turn::take("leader-death");
    let deaths = short_or_full(3, 20);
    let mut random = Random::new("leader_death");
    let input = Input::chosen();
    let mut cluster = Cluster::start(&turn, 3);
    cluster.create_topic(TOPIC, PARTITIONS, &["--replicas", "3"]);

    let share = input.len() / (deaths + 1);
    let rate = share / LINES_FOR.as_secs() as usize;
    let mut producing = Producing::flights(&cluster, TOPIC, &input, rate, &[]);
    let mut killed = Vec::new();
    for death in 0..deaths {
        // The share may be used up while the dead node comes back, but not before a new leader has taken some of it.
        producing.allow(share * (death + 1));
        producing.wait_acked(share * death + random.below(share / 2));
        let leader = cluster.leader_of(TOPIC, 0);
        let led = cluster.leaders(TOPIC).remove(&leader).unwrap_or_default();
        let node = cluster.index_of(&leader);
        let at = Instant::now();
        cluster.nodes[node].kill();
        let acked = producing.acked();
        // All of the share: what was led by the dead node goes on elsewhere while it is away.
        producing.wait_acked(share * (death + 1));
        eprintln!("death {}: {leader}, which led {led:?}, after {acked} acks", death + 1);
        killed.push((at, led));
        cluster.restart(node);
        cluster.wait_in_sync(TOPIC);
    }
    let produced = producing.finish(Duration::from_secs(300));
    produced.assert_all_acked(input.len());

    let gaps: Vec<Duration> =
        killed.iter().flat_map(|(at, led)| acks::gaps(&produced.acks, *at, UNDER_WAY, led)).collect();
    let (median, worst) = acks::median_and_worst(gaps.clone()).expect("gaps were seen");
    eprintln!(
        "{deaths} deaths; gap until the next ack of a partition that the dead node led: median {median:?}, worst {worst:?} of {}",
        gaps.len()
    );

    for node in ["n1", "n2", "n3"] {
        let rows = cluster.consume(TOPIC, Some(node));
        input.assert_exact(&format!("what {node} gives"), &rows);
        acks::assert_kept(&produced.acks, &rows, |line| input.events[line - 1].line.clone());
    }
    cluster.wait_healthy();
    cluster.finish();
}
