//! Changes of membership, one scene each.

use crate::clients::batch;
use crate::cluster::{Cluster, others, replica, three};
use dlog_consensus::{Acks, ChangeStep, Input, Intent, MessageKind, Refusal, ReplicaOptions, Reply, Role, Standing};
use dlog_core::{FrameKind, LogId, LogIndex, NodeId, Offset, ReplicaId, RequestId};
use std::collections::BTreeSet;

fn append(cluster: &mut Cluster, first: u64) -> RequestId {
    let leader = cluster.elect();
    cluster.propose(leader, vec![batch(None, first, 2)], Acks::Quorum)
}

fn is_acked(cluster: &mut Cluster, request: RequestId) -> bool {
    cluster.run_until("an answer", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    matches!(cluster.take_answer(request), Some(Ok(Reply::Appended(_))))
}

fn ids(nodes: &[u32]) -> Vec<ReplicaId> {
    nodes.iter().copied().map(replica).collect()
}

fn converge(cluster: &mut Cluster) {
    cluster.run_until("one log on all members", |cluster| {
        let length = cluster.ledger.len() as u64;
        cluster.member_nodes().all(|node| {
            node.durable.last().index.0 == length && node.progress.commit.0 == length && node.jobs.is_empty()
        })
    });
    cluster.check_converged();
}

/// Everything that a change of membership owes: its members, its confirmation, one log, and a log that goes on.
fn check_reached(cluster: &mut Cluster, version: LogIndex) {
    cluster.run_until_confirmed(version);
    let wanted = cluster.intents.last().expect("one").clone();
    assert_eq!((&cluster.members().voters, &cluster.members().learners), (&wanted.voters, &wanted.learners));
    let request = append(cluster, 1_000_001);
    assert!(is_acked(cluster, request));
    converge(cluster);
}

#[test]
fn a_replica_moves_in_safe_steps() {
    let (mut cluster, leader) = three(1, ReplicaOptions::default());
    let stays = others(leader)[0];
    let request = append(&mut cluster, 1);
    let version = cluster.intend(&[leader, stays, replica(4)], &[]);
    check_reached(&mut cluster, version);
    assert!(is_acked(&mut cluster, request));
    let lists: Vec<[usize; 3]> =
        cluster.history.iter().map(|(_, m)| [m.voters.len(), m.voters_outgoing.len(), m.learners.len()]).collect();
    assert_eq!(lists, [[3, 0, 0], [3, 0, 1], [3, 3, 0], [3, 0, 1], [3, 0, 0]], "learner, joint, left, gone");
    assert_eq!(cluster.leader(), Some(leader), "nobody else had to lead");
    let status = cluster.machine(leader).status();
    assert_eq!(status.change.map(|change| change.step), Some(ChangeStep::Confirm));
    cluster.take_confirmation();
    cluster.tell_intent(leader);
    let status = cluster.machine(leader).status();
    assert_eq!(status.change.map(|change| change.step), Some(ChangeStep::Done));
    let said = cluster.confirmations.len();
    for _ in 0..300 {
        cluster.round();
    }
    assert_eq!(cluster.confirmations.len(), said, "what is known is not said again");
}

#[test]
fn a_confirmation_is_said_until_it_is_known() {
    let (mut cluster, leader) = three(2, ReplicaOptions::default());
    let mut all = others(leader);
    all.push(leader);
    let version = cluster.intend(&all, &[]);
    cluster.run_until("said again", |cluster| cluster.confirmations.len() >= 3);
    assert!(cluster.confirmations.iter().all(|said| said.intent == version));
    assert!(cluster.confirmations.windows(2).all(|pair| pair[0].index <= pair[1].index));
    assert_eq!(cluster.history.len(), 2, "nothing had to change: the log names the intent");
    assert_eq!(cluster.history[0].1.voters, cluster.history[1].1.voters);
}

#[test]
fn a_leader_that_no_majority_hears_confirms_nothing() {
    let (mut cluster, leader) = three(3, ReplicaOptions::default());
    let mut all = others(leader);
    all.push(leader);
    let version = cluster.intend(&all, &[]);
    cluster.run_until_confirmed(version);
    for id in cluster.ids() {
        cluster.crash(id);
        cluster.start(id);
    }
    // It finds the log where the intent wants it, as soon as it knows the intent.
    let leader = cluster.elect();
    for other in others(leader) {
        cluster.blocked.insert((other, leader));
    }
    cluster.network.clear();
    cluster.confirmations.clear();
    for _ in 0..8 {
        cluster.step(leader, Input::Tick);
        cluster.tell_intent(leader);
    }
    assert_eq!(cluster.machine(leader).role().role, Role::Leader, "it still thinks so");
    assert_eq!(cluster.machine(leader).status().change.map(|change| change.step), Some(ChangeStep::Confirm));
    assert!(!cluster.is_confirmed(version));
    cluster.blocked.clear();
    cluster.run_until_confirmed(version);
}

#[test]
fn a_leader_that_leaves_hands_over_first() {
    for seed in 10..20 {
        let (mut cluster, leader) = three(seed, ReplicaOptions::default());
        let mut voters = others(leader);
        voters.push(replica(4));
        let version = cluster.intend(&voters, &[]);
        check_reached(&mut cluster, version);
        assert_ne!(cluster.leader(), Some(leader));
        // The leave was proposed in the term of a voter that stays.
        for (at, membership) in &cluster.history[1..] {
            if membership.voters_outgoing.is_empty() && !cluster.members_as_of(at.previous()).voters_outgoing.is_empty()
            {
                let term = cluster.ledger[at.0 as usize - 1].term;
                assert_ne!(cluster.leaders[&term], leader);
            }
        }
        assert_eq!(cluster.machine(leader).role().role, Role::Follower);
        let standing = cluster.machine(leader).status().standing;
        assert!(matches!(standing, None | Some(Standing::Learner)), "it heard that it has no vote: {standing:?}");
        cluster.take_confirmation();
        assert!(!cluster.ids().contains(&leader), "it is deleted");
        converge(&mut cluster);
    }
}

#[test]
fn every_voter_is_replaced() {
    for seed in 20..30 {
        let (mut cluster, _) = three(seed, ReplicaOptions::default());
        for number in 0..20 {
            let request = append(&mut cluster, number * 2 + 1);
            assert!(is_acked(&mut cluster, request));
        }
        let version = cluster.intend(&ids(&[4, 5, 6]), &[]);
        check_reached(&mut cluster, version);
        cluster.take_confirmation();
        assert_eq!(cluster.ids(), ids(&[4, 5, 6]));
        let request = append(&mut cluster, 500);
        assert!(is_acked(&mut cluster, request));
        converge(&mut cluster);
    }
}

#[test]
fn a_lone_voter_grows_and_shrinks() {
    let mut cluster = Cluster::new(31, LogId(5), 1, 0, ReplicaOptions::default());
    cluster.elect();
    for wanted in [&[1, 2, 3][..], &[3, 4][..], &[5][..], &[1, 2, 3, 4, 5][..]] {
        let version = cluster.intend(&ids(wanted), &[]);
        check_reached(&mut cluster, version);
    }
}

/// A crash of the leader, of everyone, or of the replica that comes, at every moment of a change.
#[test]
fn a_change_survives_a_crash_in_each_step() {
    let mut joint = 0;
    for (seed, victim) in [(40, 0), (41, 1), (42, 2), (43, 3)] {
        for moment in 0..60 {
            let (mut cluster, leader) = three(seed, ReplicaOptions::default());
            let stays = others(leader)[0];
            // The leader leaves in every other run.
            let voters =
                if moment % 2 == 0 { [leader, stays, replica(4)] } else { [others(leader)[1], stays, replica(4)] };
            let request = append(&mut cluster, 1);
            let version = cluster.intend(&voters, &[]);
            for _ in 0..moment / 2 {
                cluster.round();
            }
            joint += usize::from(cluster.members().is_joint());
            let victims = match victim {
                0 => cluster.leader().into_iter().collect(),
                1 => cluster.ids(),
                2 => vec![replica(4)],
                _ => vec![stays],
            };
            for id in &victims {
                cluster.crash(*id);
            }
            for _ in 0..moment % 7 * 10 {
                cluster.round();
            }
            for id in victims {
                cluster.start(id);
            }
            check_reached(&mut cluster, version);
            assert!(!cluster.asked.contains_key(&request));
        }
    }
    assert!(joint > 10, "only {joint} crashes met a joint state");
}

#[test]
fn a_joint_state_is_left_though_nobody_says_what_is_wanted() {
    let mut met = 0;
    for seed in 50..70 {
        let (mut cluster, leader) = three(seed, ReplicaOptions::default());
        let mut voters = others(leader);
        voters.push(replica(4));
        cluster.intend(&voters, &[]);
        cluster.run_until("a joint state", |cluster| cluster.members().is_joint());
        for id in cluster.ids() {
            cluster.crash(id);
        }
        met += usize::from(cluster.members().is_joint());
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.run_until("the joint state is left", |cluster| !cluster.members().is_joint());
        assert_eq!(cluster.members().voters, voters.into_iter().collect());
        let request = append(&mut cluster, 1);
        assert!(is_acked(&mut cluster, request));
    }
    assert!(met >= 10, "only {met} starts met a joint state");
}

#[test]
fn a_newer_intent_is_followed_from_wherever_the_log_stands() {
    for moment in 0..40 {
        let (mut cluster, leader) = three(71, ReplicaOptions::default());
        let before: Vec<ReplicaId> = cluster.ids();
        cluster.intend(&[leader, replica(4), replica(5)], &[]);
        for _ in 0..moment {
            cluster.round();
        }
        let version = cluster.intend(&before, &[]);
        // A shell that lags says the older one again.
        let older = cluster.intents[0].clone();
        for id in cluster.ids() {
            cluster.step(id, Input::Intend(older.clone()));
        }
        let leads = cluster.elect();
        assert_eq!(cluster.machine(leads).status().change.and_then(|change| change.intent), Some(version));
        check_reached(&mut cluster, version);
        assert!(cluster.members().learners.is_empty(), "learners of no use are gone");
    }
}

#[test]
fn a_replica_that_is_away_is_waited_for_and_told_of() {
    let (mut cluster, leader) = three(72, ReplicaOptions::default());
    let voters = [leader, others(leader)[0], replica(4)];
    cluster.intend(&voters, &[]);
    cluster.crash(replica(4));
    for _ in 0..300 {
        cluster.round();
    }
    let change = cluster.machine(leader).status().change.expect("under way");
    assert_eq!((change.step, change.waits_for), (ChangeStep::CatchUp, vec![replica(4)]));
    let peers = cluster.machine(leader).status().peers;
    let newcomer = peers.iter().find(|peer| peer.replica == replica(4)).expect("a member");
    assert_eq!((newcomer.voter, newcomer.standing), (false, Standing::Learner));
    let request = append(&mut cluster, 1);
    assert!(is_acked(&mut cluster, request), "the log goes on meanwhile");
    cluster.start(replica(4));
    let version = cluster.intents.last().expect("one").version;
    check_reached(&mut cluster, version);
}

/// A leader that was paused finds its voters-to-be in sync, as of before its pause. What it does next must not need one that has
/// gone meanwhile. Found by the simulator: mixed, seed 1038.
#[test]
fn who_was_heard_only_before_the_intent_is_waited_for() {
    let mut cluster = Cluster::new(33, LogId(5), 1, 1, ReplicaOptions::default());
    let leader = cluster.elect();
    for _ in 0..100 {
        cluster.round();
    }
    let learner = replica(2);
    let known = cluster.machine(leader).status().peers;
    assert!(known.iter().any(|peer| peer.replica == learner && peer.in_sync));
    cluster.crash(learner);
    let version = cluster.intend(&[learner], &[]);
    for _ in 0..300 {
        cluster.round();
    }
    assert!(!cluster.members().is_joint(), "the log would need who is gone");
    let request = append(&mut cluster, 1);
    assert!(is_acked(&mut cluster, request), "the log goes on meanwhile");
    cluster.start(learner);
    check_reached(&mut cluster, version);
}

#[test]
fn dangerous_intents_are_not_followed() {
    let (mut cluster, leader) = three(73, ReplicaOptions::default());
    let all = cluster.ids();
    let good = cluster.intend(&all, &[]);
    cluster.run_until_confirmed(good);
    let many: Vec<ReplicaId> = (1..=10).map(replica).collect();
    for (voters, learners) in [(vec![], vec![leader]), (many, vec![]), (vec![leader], vec![leader])] {
        let version = LogIndex(good.0 + 1);
        let (voters, learners) = (voters.into_iter().collect(), learners.into_iter().collect());
        let intent = Intent { version, voters, learners, confirmed: false };
        cluster.step(leader, Input::Intend(intent));
    }
    for _ in 0..100 {
        cluster.round();
    }
    assert_eq!(cluster.history.len(), 2);
    assert_eq!(cluster.machine(leader).status().change.and_then(|change| change.intent), Some(good));
}

#[test]
fn learners_decide_nothing() {
    let mut cluster = Cluster::new(74, LogId(5), 3, 2, ReplicaOptions::default());
    let leader = cluster.elect();
    converge(&mut cluster);
    // acks=all waits for no learner, though all of them are in sync: no tick passes.
    let request = cluster.propose(leader, vec![batch(None, 1, 1)], Acks::All);
    for _ in 0..3 {
        cluster.deliver();
        for voter in ids(&[1, 2, 3]) {
            cluster.disk(voter);
        }
    }
    assert!(matches!(cluster.take_answer(request), Some(Ok(_))));
    converge(&mut cluster);
    for other in others(leader) {
        cluster.crash(other);
    }
    let request = cluster.propose(leader, vec![batch(None, 3, 1)], Acks::Quorum);
    for _ in 0..200 {
        cluster.round();
    }
    assert!(!matches!(cluster.take_answer(request), Some(Ok(_))), "one voter and two learners are no majority");
    assert_eq!(cluster.leader(), None);
}

/// Killed before its first sync it may use the same term again, with other entries: nothing of the first life may have left.
#[test]
fn a_lone_voter_with_learners_that_is_killed_before_its_first_sync_told_nobody() {
    let mut cluster = Cluster::new(75, LogId(5), 1, 2, ReplicaOptions::default());
    for id in cluster.ids() {
        cluster.disk(id);
    }
    cluster.stuck.insert(replica(1));
    for _ in 0..60 {
        cluster.tick(replica(1));
    }
    assert_eq!(cluster.machine(replica(1)).role().role, Role::Leader);
    cluster.propose(replica(1), vec![batch(None, 1, 1)], Acks::Quorum);
    assert!(cluster.network.is_empty(), "its term isn't durable");
    cluster.crash_with(replica(1), 0);
    cluster.stuck.clear();
    cluster.start(replica(1));
    let request = append(&mut cluster, 3);
    assert!(is_acked(&mut cluster, request));
    let version = cluster.intend(&ids(&[1, 2, 3]), &[]);
    check_reached(&mut cluster, version);
}

#[test]
fn a_replica_that_comes_back_is_another_one() {
    let (mut cluster, leader) = three(76, ReplicaOptions::default());
    let (stays, old) = (others(leader)[0], others(leader)[1]);
    let request = append(&mut cluster, 1);
    assert!(is_acked(&mut cluster, request));
    cluster.run_until("an ack on its way", |cluster| {
        cluster.step(old, Input::Tick);
        cluster.network.iter().any(|message| message.from == old && message.kind.is_response())
    });
    let late: Vec<_> =
        cluster.network.iter().filter(|message| message.from == old || message.to == old).cloned().collect();
    let version = cluster.intend(&[leader, stays, replica(4)], &[]);
    check_reached(&mut cluster, version);
    cluster.take_confirmation();
    let new = ReplicaId::new(old.node(), 2);
    assert_eq!(new.node(), NodeId(old.node().0));
    let version = cluster.intend(&[leader, stays, new], &[]);
    check_reached(&mut cluster, version);
    cluster.take_confirmation();
    cluster.refusals.clear();
    let before = cluster.machine(leader).role();
    for message in late {
        cluster.step(message.to, Input::Peer(message.clone()));
        // As if it had been meant for its successor.
        cluster.step(new, Input::Peer(message));
    }
    assert!(cluster.refusals.iter().any(|(_, refusal)| *refusal == Refusal::NotAMember(old)));
    assert!(cluster.refusals.iter().filter(|(id, _)| *id == new).all(|(_, r)| matches!(r, Refusal::NotForUs(_))));
    for _ in 0..50 {
        cluster.round();
    }
    assert_eq!(cluster.machine(leader).role(), before);
    converge(&mut cluster);
}

#[test]
fn a_removed_replica_disturbs_nobody() {
    let (mut cluster, leader) = three(77, ReplicaOptions::default());
    let (stays, gone) = (others(leader)[0], others(leader)[1]);
    // It hears nothing of the change, and goes on to think that it has a vote.
    for other in [leader, stays] {
        cluster.blocked.extend([(other, gone), (gone, other)]);
    }
    let version = cluster.intend(&[leader, stays, replica(4)], &[]);
    cluster.run_until_confirmed(version);
    let term = cluster.machine(leader).role().term;
    cluster.blocked.clear();
    for _ in 0..600 {
        cluster.round();
    }
    assert_eq!(cluster.machine(gone).status().standing, Some(Standing::Voter), "as far as it knows");
    assert_eq!((cluster.leader(), cluster.machine(leader).role().term), (Some(leader), term));
}

/// A start looks for changes behind the producer table alone: a table may not be durable before the memberships below it are.
#[test]
fn a_producer_table_waits_for_the_membership() {
    let (mut cluster, leader) = three(70, ReplicaOptions::default());
    cluster.intend(&[leader, others(leader)[0], replica(4)], &[]);
    let tables = |cluster: &Cluster| {
        cluster.node(leader).jobs.iter().filter(|job| matches!(job, crate::node::Job::Producers(..))).count()
    };
    cluster.run_until("a change", |cluster| cluster.machine(leader).status().membership_index > LogIndex::ZERO);
    cluster.stuck.insert(leader);
    assert!(cluster.node(leader).durable.membership.is_none(), "the membership waits for the disk");
    cluster.step(leader, Input::TakeProducers);
    assert_eq!((tables(&cluster), cluster.machine(leader).producer_table()), (0, None));
    cluster.stuck.clear();
    cluster.run_until("the table", |cluster| tables(cluster) > 0);
    assert!(cluster.node(leader).durable.membership.is_some());
}

/// A membership is known after a start from its entry alone: the power goes before it is written.
#[test]
fn a_membership_survives_a_crash_between_its_entry_and_its_write() {
    let (mut cluster, leader) = three(78, ReplicaOptions::default());
    let version = cluster.intend(&[leader, others(leader)[0], replica(4)], &[]);
    cluster.run_until_confirmed(version);
    converge(&mut cluster);
    for id in cluster.ids() {
        cluster.crash(id);
        let mut durable = cluster.node(id).durable.clone();
        durable.membership = None;
        cluster.node_mut(id).durable = durable.clone();
        cluster.node_mut(id).said = durable;
    }
    for id in cluster.ids() {
        // The start compares it with the ledger.
        cluster.start(id);
    }
    check_reached(&mut cluster, version);
}

#[test]
fn the_crates_own_steps_are_never_seen() {
    let (mut cluster, leader) = three(79, ReplicaOptions::default());
    let version = cluster.intend(&[others(leader)[0], replica(4), replica(5)], &[]);
    check_reached(&mut cluster, version);
    let left = cluster.history.windows(2).filter(|pair| pair[0].1.is_joint() && !pair[1].1.is_joint()).count();
    let changes = cluster.ledger.iter().filter(|frame| frame.kind == FrameKind::Configuration).count();
    assert_eq!((left, changes), (1, cluster.history.len() - 1), "one joint state was left once");
    let votes = cluster.network.iter().filter(|message| message.kind == MessageKind::RequestVote).count();
    assert_eq!(votes, 0);
}

/// Batches that every member has, then a log start behind most of them, and nothing kept below it.
fn cut_off(cluster: &mut Cluster) {
    for number in 0..20 {
        let request = append(cluster, number * 2 + 1);
        assert!(is_acked(cluster, request));
    }
    let leader = cluster.elect();
    let request = cluster.move_log_start(leader, Offset(35));
    cluster.run_until("an answer", |cluster| cluster.answers.iter().any(|answer| answer.request == request));
    for id in cluster.ids().into_iter().filter(|id| cluster.is_up(*id)).collect::<Vec<_>>() {
        cluster.step(id, Input::TakeProducers);
        for _ in 0..3 {
            cluster.disk(id);
        }
        cluster.node_mut(id).drop_through(LogIndex(u64::MAX));
        cluster.disk(id);
    }
    assert!(cluster.node(leader).durable.start.index > LogIndex(10), "the log no longer begins at 1");
}

#[test]
fn a_new_replica_of_a_log_that_no_longer_begins_at_one_gets_a_snapshot() {
    for seed in 80..90 {
        let (mut cluster, _) = three(seed, ReplicaOptions::default());
        cut_off(&mut cluster);
        // A learner that stays one, and voters that replace all.
        for (voters, learners) in [(ids(&[1, 2, 3]), ids(&[4])), (ids(&[4, 5, 6]), vec![])] {
            let version = cluster.intend(&voters, &learners);
            check_reached(&mut cluster, version);
        }
        assert!(cluster.installs >= 3, "only {} snapshots", cluster.installs);
        for id in ids(&[4, 5, 6]) {
            assert!(cluster.node(id).durable.start.index > LogIndex(10), "it has nothing of what nobody keeps");
            cluster.crash(id);
            cluster.start(id);
        }
        cluster.elect();
        converge(&mut cluster);
    }
}

/// The leader can't leave the joint state before a disk does something; meanwhile a voter comes back that is too far behind.
#[test]
fn a_snapshot_is_sent_in_a_joint_state() {
    for seed in 90..100 {
        let (mut cluster, leader) = three(seed, ReplicaOptions::default());
        let (stays, late) = (others(leader)[0], others(leader)[1]);
        cluster.crash(late);
        cut_off(&mut cluster);
        let version = cluster.intend(&[leader, stays, replica(4)], &[]);
        cluster.run_until("a joint state", |cluster| cluster.members().is_joint());
        cluster.stuck.extend([stays, replica(4)]);
        assert!(cluster.machine(leader).membership().is_joint());
        let installs = cluster.installs;
        cluster.start(late);
        cluster.run_until("a snapshot", |cluster| cluster.installs > installs);
        cluster.run_until("installed", |cluster| cluster.machine(late).status().installed_snapshots > 0);
        assert_eq!(cluster.machine(late).status().standing, Some(Standing::Outgoing));
        cluster.stuck.clear();
        check_reached(&mut cluster, version);
    }
}

/// A confirmation may reach the catalogue late. Until then a leader that only knows an older intent must not take the log away
/// from where it was said to be: the replicas that it took it to would be deleted.
#[test]
fn an_intent_that_was_confirmed_is_never_undone_by_an_older_one() {
    for seed in 110..120 {
        let (mut cluster, _) = three(seed, ReplicaOptions::default());
        let voters = ids(&[4, 5, 6]).into_iter().collect();
        let old = Intent { version: LogIndex(1), voters, learners: BTreeSet::new(), confirmed: false };
        // It is taken back before anything was done: the log is where the newer one wants it.
        cluster.intents.push(old.clone());
        let version = cluster.intend(&ids(&[1, 2, 3]), &[]);
        cluster.run_until_confirmed(version);
        for id in cluster.ids() {
            cluster.crash(id);
            cluster.start(id);
            cluster.step(id, Input::Intend(old.clone()));
        }
        let leader = cluster.elect();
        for _ in 0..100 {
            cluster.round();
        }
        assert!(cluster.members().learners.is_empty(), "nothing is changed for the older one");
        assert_eq!(cluster.machine(leader).status().change, None);
        check_reached(&mut cluster, version);
    }
}
