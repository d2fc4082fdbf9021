//! Group 0: commands reach the state machine once and in order, whatever it had kept when the node crashed; its log is shortened,
//! and who was away too long gets the state.

use crate::chaos::fault;
use crate::cluster::{Cluster, Weather, others, replica};
use crate::node::ApplyJob;
use bytes::Bytes;
use dlog_consensus::{Acks, Input, MessageKind, Refusal, ReplicaOptions, Reply, Standing};
use dlog_core::{LogId, LogIndex, ReplicaId, RequestId, limits};
use std::collections::BTreeMap;

/// The apply thread does the next `count` things that it was told.
fn apply(cluster: &mut Cluster, id: ReplicaId, count: usize) {
    for _ in 0..count {
        let node = cluster.node_mut(id);
        let Some(job) = node.apply.pop_front().filter(|_| node.machine.is_some()) else { return };
        let input = match job {
            ApplyJob::Command(frame) => {
                node.store.apply(&frame);
                Input::Applied { index: frame.index }
            }
            ApplyJob::Take => Input::StateTaken { index: node.store.now.applied, state: node.store.image() },
            ApplyJob::Install(index, state, origin) => {
                node.store.install(index, &state, origin);
                cluster.check_state(id);
                Input::StateInstalled { index, result: Ok(()) }
            }
        };
        cluster.step(id, input);
    }
}

/// Every apply thread does some of its work, syncs now and then, and logs are shortened by what is synced.
fn apply_some(cluster: &mut Cluster, keep: u64) {
    for id in cluster.ids() {
        let count = cluster.random.usize(0..4);
        apply(cluster, id, count);
        if cluster.random.u32(0..8) == 0 {
            cluster.node_mut(id).store.sync();
        }
        if cluster.random.u32(0..8) == 0 && cluster.is_up(id) {
            let synced = cluster.node(id).store.synced.applied.0;
            cluster.node_mut(id).shorten(LogIndex(synced.saturating_sub(keep)));
        }
    }
}

/// Good weather: everything is applied, synced and dropped at once.
fn apply_all(cluster: &mut Cluster) {
    for id in cluster.ids() {
        apply(cluster, id, usize::MAX);
        cluster.node_mut(id).store.sync();
    }
}

/// A leader whose own entry is committed and applied; a majority may have to install the state first.
fn elect(cluster: &mut Cluster) {
    cluster.run_until("a leader", |cluster| {
        apply_all(cluster);
        cluster.leader().is_some_and(|id| {
            let (status, commit) = (cluster.machine(id).status(), cluster.node(id).progress.commit);
            let said = &cluster.node(id).said;
            let term = said.frame(commit).map_or(said.start.term, |frame| frame.term);
            term == status.term && status.applied == commit
        })
    });
}

fn converge(cluster: &mut Cluster) {
    cluster.run_until("one log and one state everywhere", |cluster| {
        apply_all(cluster);
        let length = cluster.ledger.len() as u64;
        cluster.member_nodes().all(|node| {
            node.durable.last().index.0 == length && node.progress.commit.0 == length && node.jobs.is_empty()
        })
    });
    apply_all(cluster);
    cluster.check_converged();
    let states: Vec<_> = cluster.member_nodes().map(|node| &node.store.now.entries).collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "one state");
}

/// Three of the five are to vote, the others to follow, as in group 0 of a cluster of five nodes.
fn intend(cluster: &mut Cluster) {
    let mut ids: Vec<ReplicaId> = (1..=5).map(replica).collect();
    cluster.random.shuffle(&mut ids);
    cluster.intend(&ids[..3], &ids[3..]);
}

/// The newest intent is told to all, and reached.
fn confirm(cluster: &mut Cluster) {
    let version = cluster.intents.last().expect("just made").version;
    cluster.run_until("a confirmation", |cluster| {
        apply_all(cluster);
        for id in cluster.ids() {
            cluster.tell_intent(id);
        }
        cluster.is_confirmed(version)
    });
}

/// What a run came to.
#[derive(Default)]
struct Counts {
    acked: usize,
    installs: u64,
    changes: usize,
}

fn run(seed: u64, keep: u64, changes: bool) -> Counts {
    let mut cluster = Cluster::new(seed, LogId::GROUP_ZERO, 3, 2, ReplicaOptions::default());
    cluster.weather = Weather { drop: 10, double: 10, delay: 30, slow_disk: 40, late_segments: 20 };
    let mut sent: BTreeMap<RequestId, Bytes> = BTreeMap::new();
    let mut number = 0u64;
    for _ in 0..300 {
        if cluster.random.u32(0..12) == 0 {
            fault(&mut cluster);
        }
        if let Some(leader) = cluster.leader()
            && cluster.random.bool()
        {
            number += 1;
            let mut command = number.to_be_bytes().to_vec();
            if cluster.random.u32(0..64) == 0 {
                command.resize(limits::STATE_PART_BYTES / 2, 7);
            }
            let command = Bytes::from(command);
            let request = cluster.ask(leader, Acks::Quorum);
            sent.insert(request, command.clone());
            cluster.step(leader, Input::ProposeCommand { request, command });
        }
        apply_some(&mut cluster, keep);
        if changes && cluster.random.u32(0..30) == 0 {
            intend(&mut cluster);
        }
        if changes && cluster.random.u32(0..5) == 0 {
            let one = replica(cluster.random.u32(1..=5));
            cluster.tell_intent(one);
        }
        cluster.round();
    }
    cluster.heal();
    if changes {
        intend(&mut cluster);
        confirm(&mut cluster);
    }
    elect(&mut cluster);
    converge(&mut cluster);
    let mut acked = 0;
    for answer in &cluster.answers {
        if let Ok(Reply::Command { index }) = &answer.result {
            let at = usize::try_from(index.0 - 1).expect("small");
            assert_eq!(cluster.ledger[at].payload, sent[&answer.request]);
            acked += 1;
        }
    }
    let unexpected = cluster.refusals.iter().find(|(_, refusal)| {
        // A snapshot of a leader that is behind the one before, and what the first seeds of `chaos.rs` have too.
        !matches!(refusal, Refusal::NotDurable | Refusal::NotLeader | Refusal::Unasked | Refusal::Snapshot(_))
    });
    assert_eq!(unexpected, None, "honest messages are taken");
    Counts { acked, installs: cluster.installs, changes: cluster.history.len() - 1 }
}

/// As many seeds as said, each with a log that keeps as many entries behind its state as `keep` says.
fn run_seeds(from: u64, count: u64, changes: bool, keep: impl Fn(u64) -> u64) -> Counts {
    let mut sum = Counts::default();
    for seed in from..from + count {
        println!("seed {seed}");
        let one = run(seed, keep(seed), changes);
        sum.acked += one.acked;
        sum.installs += one.installs;
        sum.changes += one.changes;
    }
    let Counts { acked, installs, changes: changed } = sum;
    println!("{acked} acked, {installs} snapshots, {changed} changes");
    assert!(acked as u64 > 10 * count, "only {acked} commands were acked");
    assert_eq!(changes, changed as u64 > 5 * count, "{changed} changes of membership");
    sum
}

#[test]
fn commands_are_applied_once_and_in_order() {
    run_seeds(0, 40, false, |_| u64::MAX);
}

#[test]
fn commands_are_applied_once_and_in_order_while_voters_change() {
    run_seeds(500, 40, true, |_| u64::MAX);
}

/// The same with logs that are shortened as soon as may be: whoever was away gets the state, and faults meet it at every step.
#[test]
fn commands_are_applied_once_with_shortened_logs() {
    let Counts { installs, .. } = run_seeds(100, 120, false, |seed| seed % 3);
    assert!(installs > 60, "only {installs} snapshots were installed");
}

/// And with voters that change: snapshots meet joint states and learners, and a change may be what the log no longer has.
#[test]
fn commands_are_applied_once_with_shortened_logs_while_voters_change() {
    let Counts { installs, .. } = run_seeds(600, 240, true, |seed| seed % 3);
    assert!(installs > 60, "only {installs} snapshots were installed");
}

fn command(cluster: &mut Cluster, leader: ReplicaId, payload: Vec<u8>) {
    let request = cluster.ask(leader, Acks::Quorum);
    cluster.step(leader, Input::ProposeCommand { request, command: payload.into() });
    cluster.run_until("an answer", |cluster| {
        apply_all(cluster);
        cluster.answers.iter().any(|answer| answer.request == request)
    });
    let answer = cluster.take_answer(request).expect("just seen");
    assert!(matches!(answer, Ok(Reply::Command { .. })), "{answer:?}");
}

/// All that may go of these logs goes.
fn shorten(cluster: &mut Cluster, ids: &[ReplicaId]) {
    for id in ids {
        cluster.run_until("applied", |cluster| {
            apply_all(cluster);
            cluster.node(*id).jobs.is_empty() && cluster.node(*id).progress.commit.0 == cluster.ledger.len() as u64
        });
        cluster.tick(*id);
        cluster.disk(*id);
        cluster.node_mut(*id).shorten(LogIndex(u64::MAX));
        cluster.disk(*id);
        assert!(cluster.node(*id).durable.frames.len() < 3, "the log is shortened");
    }
}

/// Three nodes; one was away while `count` commands of `bytes` were committed, and all that may go of the others' logs is gone.
fn with_one_away(seed: u64, count: u32, bytes: usize) -> (Cluster, ReplicaId, ReplicaId) {
    let mut cluster = Cluster::new(seed, LogId::GROUP_ZERO, 3, 0, ReplicaOptions::default());
    let leader = cluster.elect();
    command(&mut cluster, leader, b"before".to_vec());
    let away = others(leader)[0];
    cluster.crash(away);
    for number in 0..count {
        command(&mut cluster, leader, [&number.to_be_bytes()[..], &vec![number as u8; bytes]].concat());
    }
    shorten(&mut cluster, &[leader, others(leader)[1]]);
    (cluster, leader, away)
}

#[test]
fn a_node_that_was_away_too_long_gets_the_state() {
    let (mut cluster, leader, away) = with_one_away(1, 20, 10);
    cluster.start(away);
    converge(&mut cluster);
    let status = cluster.machine(away).status();
    assert_eq!(status.installed_snapshots, 1);
    assert_eq!(status.local_start, cluster.node(leader).store.now.applied, "it goes on behind the last command");
    assert_eq!(cluster.machine(leader).status().sent_snapshots, 1);
    // A start after it goes on with both, and the late one may lead.
    command(&mut cluster, leader, b"after".to_vec());
    cluster.crash(away);
    cluster.start(away);
    cluster.step(leader, Input::TransferLeadership { to: Some(away) });
    cluster.run_until("the late one leads", |cluster| {
        apply_all(cluster);
        cluster.leader() == Some(away)
    });
    elect(&mut cluster);
    command(&mut cluster, away, b"by the late one".to_vec());
    converge(&mut cluster);
}

/// 26 MiB: more than 100,000 partitions take, more than a message may have, and about as much as waits for a peer at most.
#[test]
fn a_large_state_arrives_in_parts() {
    let (mut cluster, leader, away) = with_one_away(2, 13, limits::COMMAND_BYTES_MAX - 4);
    cluster.thorough = false;
    cluster.start(away);
    let mut parts = 0;
    cluster.run_until("installed", |cluster| {
        apply_all(cluster);
        let queued: Vec<usize> =
            cluster.network.iter().filter(|m| m.kind == MessageKind::Snapshot).map(|m| m.approximate_bytes()).collect();
        assert!(queued.len() <= 1 && queued.iter().all(|bytes| *bytes < limits::PEER_BUNDLE_BYTES_MAX), "{queued:?}");
        parts += queued.len();
        cluster.machine(away).status().installed_snapshots == 1
    });
    assert!(parts >= 26, "{parts}");
    assert_eq!(cluster.machine(leader).status().failed_snapshots, 0);
    converge(&mut cluster);
}

/// The power goes at every step of the node that installs, and of the one that sends.
#[test]
fn a_crash_at_any_step_of_an_install_is_mended() {
    let (mut restarts, mut done) = (0, 0);
    for (of_leader, seed) in [(true, 1000), (false, 2000), (false, 3000), (false, 4000)] {
        for steps in 0..60 {
            let (mut cluster, leader, away) = with_one_away(seed + u64::from(steps), 4, limits::STATE_PART_BYTES / 2);
            cluster.thorough = false;
            cluster.weather = Weather { drop: 5, double: 5, delay: 20, slow_disk: 30, late_segments: 20 };
            let doomed = if of_leader { leader } else { away };
            cluster.doomed = Some((doomed, steps));
            cluster.start(away);
            for _ in 0..200 {
                for id in cluster.ids() {
                    let count = cluster.random.usize(0..3);
                    apply(&mut cluster, id, count);
                }
                cluster.round();
                if !cluster.is_up(doomed) {
                    let node = cluster.node(doomed);
                    let behind = node.durable.last().index < node.store.synced.applied;
                    cluster.start(doomed);
                    if behind {
                        restarts += 1;
                        assert_eq!(cluster.node(doomed).said.start.index, cluster.node(doomed).store.synced.applied);
                    }
                }
            }
            assert_eq!(cluster.doomed, None, "the power went");
            cluster.heal();
            elect(&mut cluster);
            converge(&mut cluster);
            done += u64::from(cluster.machine(away).status().local_start > LogIndex(4));
        }
    }
    assert!(restarts > 5, "only {restarts} starts found the state ahead of the log");
    assert_eq!(done, 240);
}

/// The state is in the store, and the sender leads no more: the log isn't reset by it, and what the next leader sends goes on.
#[test]
fn a_state_whose_sender_lost_leadership_does_no_harm() {
    for seed in 0..20 {
        let (mut cluster, leader, away) = with_one_away(200 + seed, 6, 10);
        cluster.start(away);
        cluster.run_until("the state is wanted", |cluster| {
            for id in cluster.ids().into_iter().filter(|id| *id != away) {
                apply(cluster, id, usize::MAX);
            }
            cluster.node(away).apply.iter().any(|job| matches!(job, ApplyJob::Install(..)))
        });
        // The other one leads now, and knows nothing of the snapshot.
        let next = others(leader).into_iter().find(|id| *id != away).expect("the third");
        cluster.crash(leader);
        cluster.run_until("another leads", |cluster| {
            apply(cluster, next, usize::MAX);
            cluster.leader() == Some(next) && cluster.machine(away).role().term == cluster.machine(next).role().term
        });
        apply(&mut cluster, away, usize::MAX);
        assert!(cluster.node(away).store.synced.applied > cluster.node(away).durable.last().index, "ahead of its log");
        if seed % 2 == 0 {
            cluster.crash(away);
            cluster.start(away);
        }
        cluster.start(leader);
        elect(&mut cluster);
        converge(&mut cluster);
    }
}

/// A shell that can't install it says why; it is sent again.
#[test]
fn a_state_that_can_not_be_installed_is_sent_again() {
    let (mut cluster, leader, away) = with_one_away(300, 6, 10);
    cluster.start(away);
    let mut refused = 0;
    cluster.run_until("installed", |cluster| {
        let install = cluster.node(away).apply.iter().find_map(|job| match job {
            ApplyJob::Install(index, ..) => Some(*index),
            _ => None,
        });
        match install.filter(|_| refused < 2) {
            Some(index) => {
                refused += 1;
                cluster.node_mut(away).apply.clear();
                cluster.step(away, Input::StateInstalled { index, result: Err("drawn".to_owned()) });
            }
            None => apply_all(cluster),
        }
        cluster.machine(away).status().installed_snapshots == 1
    });
    assert_eq!((refused, cluster.machine(leader).status().failed_snapshots), (2, 2));
    converge(&mut cluster);
}

/// A node that joins has nothing, and the log no longer begins at 1: it gets the state, also where it is to vote.
#[test]
fn a_new_learner_gets_the_state() {
    for seed in 400..410 {
        let mut cluster = Cluster::new(seed, LogId::GROUP_ZERO, 3, 0, ReplicaOptions::default());
        let leader = cluster.elect();
        for number in 0..8u8 {
            command(&mut cluster, leader, vec![number; 10]);
        }
        shorten(&mut cluster, &[1, 2, 3].map(replica));
        // A learner that stays one, and voters that replace all.
        for (voters, learners) in [([1, 2, 3], vec![replica(4)]), ([4, 5, 6], vec![])] {
            cluster.intend(&voters.map(replica), &learners);
            confirm(&mut cluster);
            elect(&mut cluster);
            converge(&mut cluster);
        }
        assert!(cluster.installs >= 3, "only {} snapshots", cluster.installs);
        for id in [4, 5, 6].map(replica) {
            assert!(cluster.node(id).durable.start.index > LogIndex(8), "it has nothing of what nobody keeps");
            cluster.crash(id);
            cluster.start(id);
        }
        elect(&mut cluster);
        let leader = cluster.leader().expect("elected");
        command(&mut cluster, leader, b"after".to_vec());
        converge(&mut cluster);
    }
}

/// The leader can't leave the joint state before a disk does something; meanwhile a voter on its way out comes back too late. Its
/// power may go between its state and its log: then it finds the joint state with the state.
#[test]
fn a_snapshot_in_a_joint_state_carries_it() {
    for seed in 420..440 {
        let (mut cluster, leader, late) = with_one_away(seed, 6, 10);
        let stays = others(leader).into_iter().find(|id| *id != late).expect("the third");
        cluster.intend(&[leader, stays, replica(4)], &[]);
        cluster.run_until("a joint state", |cluster| {
            apply_all(cluster);
            cluster.members().is_joint()
        });
        cluster.stuck.extend([stays, replica(4)]);
        assert!(cluster.machine(leader).membership().is_joint());
        cluster.start(late);
        assert!(!cluster.machine(late).membership().is_joint(), "it knows of nothing yet");
        cluster.run_until("the state is wanted", |cluster| {
            for id in cluster.ids().into_iter().filter(|id| *id != late) {
                apply(cluster, id, usize::MAX);
            }
            cluster.node(late).apply.iter().any(|job| matches!(job, ApplyJob::Install(..)))
        });
        apply(&mut cluster, late, usize::MAX);
        if seed % 2 == 0 {
            cluster.crash_with(late, 0);
            assert!(
                cluster.node(late).store.synced.applied > cluster.node(late).durable.last().index,
                "ahead of its log"
            );
            cluster.start(late);
            assert!(cluster.machine(late).membership().is_joint(), "it comes with the state");
        }
        cluster.run_until("the log is reset", |cluster| {
            apply_all(cluster);
            let node = cluster.node(late);
            node.jobs.is_empty() && node.durable.start.index >= LogIndex(6)
        });
        let status = cluster.machine(late).status();
        assert!(status.membership.is_joint() && cluster.members().is_joint());
        assert_eq!(status.standing, Some(Standing::Outgoing));
        assert_eq!(status.membership_index, cluster.history.last().expect("the joint one").0.max(status.as_of));
        cluster.stuck.clear();
        confirm(&mut cluster);
        elect(&mut cluster);
        converge(&mut cluster);
        assert!(!cluster.members().contains(late));
    }
}
