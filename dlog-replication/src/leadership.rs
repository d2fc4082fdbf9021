//! [`Balancer`]: when a leader hands over to the replica that the catalogue prefers. After a restart, which hands everything over,
//! leadership goes back, so that the load doesn't stay on the others for ever; at once where an operator has just chosen.

use crate::catalogue::Catalogue;
use dlog_core::{LogId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// The preferred replica must have been in sync for so many looks in a row: a node that has just come back catches up first.
const LOOKS_BEFORE_TRANSFER: u32 = 5;
/// Transfers begun in one look: each costs its partition some milliseconds without a leader.
const TRANSFERS_PER_LOOK: usize = 8;

/// A replica that leads here though another one, in sync, is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The log.
    pub log: LogId,
    /// Which leads it here.
    pub replica: ReplicaId,
    /// Which should.
    pub preferred: ReplicaId,
}

impl Wish {
    /// What is wished of `replica`, which leads `log`, if anything.
    pub fn of(
        catalogue: &Catalogue,
        log: LogId,
        replica: ReplicaId,
        in_sync: impl FnOnce(ReplicaId) -> bool,
    ) -> Option<Wish> {
        let preferred = catalogue.partition_of_log(log)?.preferred;
        (preferred != replica && in_sync(preferred)).then_some(Wish { log, replica, preferred })
    }
}

/// For how many looks each wish has stood.
#[derive(Clone, Debug, Default)]
pub struct Balancer {
    steady: BTreeMap<ReplicaId, u32>,
}

impl Balancer {
    /// The wishes that are to be fulfilled now: those whose log an operator has just `chosen` a leader for, and those that have stood
    /// long enough. `counts` says for how many looks this one stands.
    pub fn look(&mut self, wishes: &[Wish], chosen: &BTreeSet<LogId>, counts: u32) -> Vec<Wish> {
        self.steady.retain(|replica, _| wishes.iter().any(|wish| wish.replica == *replica));
        let mut due = Vec::new();
        for wish in wishes {
            let looks = self.steady.entry(wish.replica).or_default();
            *looks += counts;
            let is_due = *looks >= LOOKS_BEFORE_TRANSFER || chosen.contains(&wish.log);
            if is_due && due.len() < TRANSFERS_PER_LOOK {
                *looks = 0;
                due.push(*wish);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlog_core::NodeId;

    fn wish(number: u64) -> Wish {
        let replica = |node| ReplicaId::new(NodeId(node), number as u32);
        Wish { log: LogId(number), replica: replica(1), preferred: replica(2) }
    }

    #[test]
    fn a_wish_must_stand_for_some_looks_in_a_row() {
        let mut balancer = Balancer::default();
        let none = BTreeSet::new();
        for _ in 1..LOOKS_BEFORE_TRANSFER {
            assert_eq!(balancer.look(&[wish(1)], &none, 1), []);
        }
        assert_eq!(balancer.look(&[], &none, 1), [], "it fell behind");
        for _ in 1..LOOKS_BEFORE_TRANSFER {
            assert_eq!(balancer.look(&[wish(1)], &none, 1), []);
        }
        assert_eq!(balancer.look(&[wish(1)], &none, 1), [wish(1)]);
        assert_eq!(balancer.look(&[wish(1)], &none, 1), [], "it begins anew");
    }

    #[test]
    fn what_an_operator_chose_goes_at_once_and_a_look_begins_few() {
        let mut balancer = Balancer::default();
        assert_eq!(balancer.look(&[wish(1), wish(2)], &BTreeSet::from([LogId(2)]), 0), [wish(2)]);
        let many: Vec<Wish> = (0..20).map(wish).collect();
        let chosen = (0..20).map(LogId).collect();
        assert_eq!(balancer.look(&many, &chosen, 0).len(), TRANSFERS_PER_LOOK);
    }
}
