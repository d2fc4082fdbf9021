//! Who belongs to the log, by the ledger: changes of membership are read and applied here once more, by other code than the
//! machine's; and what the catalogue would do: intents, new replicas, confirmations, replicas that go.

use super::Cluster;
use crate::node::Node;
use bytes::Bytes;
use dlog_consensus::{Input, Intent, Membership, Output};
use dlog_core::write::WriteOp;
use dlog_core::{Frame, FrameKind, LogIndex, ReplicaId};
use prost::Message as _;
use std::collections::BTreeSet;

/// A replica said that the log is where an intent wants it.
#[derive(Clone, Debug)]
pub struct Confirmation {
    pub intent: LogIndex,
    pub index: LogIndex,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireChange {
    #[prost(int32, tag = "1")]
    transition: i32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<WireTurn>,
    #[prost(uint64, tag = "4")]
    intent: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireTurn {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    replica: u64,
}

/// The membership after a change; the test fails if the change is not a safe one.
fn changed(before: &Membership, frame: &Frame) -> Membership {
    let change = WireChange::decode(frame.payload.clone()).expect("raft's own form");
    let mut after = before.clone();
    let joint = !before.voters_outgoing.is_empty();
    after.intent = after.intent.max(LogIndex(change.intent));
    if change.changes.is_empty() {
        assert!(joint && change.transition == 0, "only a joint state is left");
        after.learners.append(&mut after.learners_next);
        after.voters_outgoing.clear();
        return after;
    }
    assert!(!joint, "one change at a time");
    if change.transition == 2 {
        after.voters_outgoing.clone_from(&before.voters);
    } else {
        assert_eq!((change.transition, change.changes.len()), (0, 1), "one learner at a time");
    }
    for turn in change.changes {
        let id = ReplicaId(turn.replica);
        match (turn.kind, before.voters.contains(&id)) {
            (0, false) => assert!(after.learners.remove(&id) && after.voters.insert(id), "a learner becomes a voter"),
            (1, true) => assert!(after.voters.remove(&id)),
            (1, false) => assert!(after.learners.remove(&id)),
            (2, true) => assert!(after.voters.remove(&id) && after.learners_next.insert(id)),
            // Nothing but the intent.
            (2, false) if id.0 == 0 => assert!(change.intent > before.intent.0 && change.transition == 0),
            (2, false) => assert!(after.learners.insert(id)),
            other => panic!("{other:?}"),
        }
    }
    assert!(joint || after.voters == before.voters || change.transition == 2, "voters change through a joint state");
    after
}

/// The memberships that an output writes down.
pub fn written(output: &Output) -> Vec<(LogIndex, Bytes)> {
    let Output::Write { write, .. } = output else { return Vec::new() };
    let configuration = |op: &WriteOp| match op {
        WriteOp::Configuration { index, membership } => Some((*index, membership.clone())),
        _ => None,
    };
    write.ops.iter().filter_map(configuration).collect()
}

impl Cluster {
    /// The membership as of the entry at `index`.
    pub fn members_as_of(&self, index: LogIndex) -> &Membership {
        let after = self.history.partition_point(|(at, _)| *at <= index);
        &self.history[after - 1].1
    }

    /// The last membership that anybody knows to be committed.
    pub fn members(&self) -> &Membership {
        &self.history.last().expect("that of creation").1
    }

    /// Those who hold the log and run here.
    pub fn member_nodes(&self) -> impl Iterator<Item = &Node> {
        let members = self.members().members();
        self.nodes.values().filter(move |node| members.contains(&node.id))
    }

    /// A committed frame comes into the ledger.
    pub(super) fn note_change(&mut self, frame: &Frame) {
        if frame.kind == FrameKind::NoOp {
            let begins = self.ledger.last().is_none_or(|last| last.term < frame.term);
            assert!(begins, "the crate puts an empty entry in the place of a change that it refuses");
        }
        if frame.kind == FrameKind::Configuration {
            let after = changed(self.members(), frame);
            self.history.push((frame.index, after));
        }
    }

    /// The last membership before the frame, or the one before that if a leader had yet to apply the last: both have a majority
    /// in common with the next.
    pub(super) fn is_durable_on_majority(&self, frame: &Frame) -> bool {
        let before = self.history.partition_point(|(at, _)| *at < frame.index);
        let counted = self.history[before.saturating_sub(2)..before].iter();
        let majority = |voters: &BTreeSet<ReplicaId>| {
            let have = voters.iter().filter(|voter| self.holds(**voter, frame));
            voters.is_empty() || have.count() * 2 > voters.len()
        };
        counted.into_iter().any(|(_, membership)| majority(&membership.voters) && majority(&membership.voters_outgoing))
    }

    /// A new intent: its replicas are started, and it is told to whoever runs.
    pub fn intend(&mut self, voters: &[ReplicaId], learners: &[ReplicaId]) -> LogIndex {
        let version = LogIndex(self.intents.len() as u64 + 1);
        let (voters, learners) = (voters.iter().copied().collect(), learners.iter().copied().collect());
        let intent = Intent { version, voters, learners, confirmed: false };
        for id in intent.voters.union(&intent.learners) {
            if !self.nodes.contains_key(id) {
                self.nodes.insert(*id, Node::new(*id));
                self.start(*id);
            }
        }
        self.intents.push(intent);
        for id in self.ids() {
            self.tell_intent(id);
        }
        version
    }

    /// The newest intent.
    pub fn tell_intent(&mut self, id: ReplicaId) {
        if let Some(intent) = self.intents.last().cloned() {
            self.step(id, Input::Intend(intent));
        }
    }

    /// What was said is true, and the catalogue takes it if it is for the newest intent.
    pub(super) fn check_confirmed(&mut self, intent: LogIndex, index: LogIndex, membership: &Membership) {
        assert!(index.0 <= self.ledger.len() as u64, "as of a committed entry");
        assert_eq!(membership, self.members_as_of(index), "the membership as of {index}");
        let wanted = &self.intents[usize::try_from(intent.0).expect("small") - 1];
        assert_eq!((&membership.voters, &membership.learners), (&wanted.voters, &wanted.learners));
        assert!(membership.voters_outgoing.is_empty(), "no joint state is confirmed");
        assert_eq!(membership.intent, intent, "every later leader knows of it");
        self.confirmations.push(Confirmation { intent, index });
    }

    pub fn is_confirmed(&self, intent: LogIndex) -> bool {
        self.confirmations.iter().any(|confirmation| confirmation.intent == intent)
    }

    /// The newest intent's confirmation reaches the catalogue; replicas that it doesn't name are deleted.
    pub fn take_confirmation(&mut self) {
        let confirmed = self.intents.last().is_some_and(|intent| self.is_confirmed(intent.version));
        let Some(intent) = self.intents.last_mut().filter(|_| confirmed) else { return };
        intent.confirmed = true;
        let named: BTreeSet<ReplicaId> = intent.voters.union(&intent.learners).copied().collect();
        for id in self.ids().into_iter().filter(|id| !named.contains(id)) {
            self.crash(id);
            self.nodes.remove(&id);
        }
    }

    /// Rounds, with the intent told to all, until it is confirmed.
    pub fn run_until_confirmed(&mut self, version: LogIndex) {
        self.run_until("a confirmation", |cluster| {
            for id in cluster.ids() {
                cluster.tell_intent(id);
            }
            cluster.is_confirmed(version)
        });
    }
}
