//! [`Turns`]: which replica is read next.
//!
//! Pure: the simulator's readers use it, too.

use dlog_core::{MonotonicTime, NodeId};
use std::time::Duration;

/// Which replica is next: in even turns one of the preferred rack (without one, the leader, who has everything), in odd turns
/// the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    turn: usize,
    /// Since when another than a preferred replica is read.
    elsewhere_since: Option<MonotonicTime>,
}

/// A replica that can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its node.
    pub node: NodeId,
    /// It stands in the rack that is preferred.
    pub in_rack: bool,
}

impl Turns {
    /// The replica to ask now; `None` if there is none.
    pub fn choose(&mut self, now: MonotonicTime, replicas: &[Choice], leader: Option<NodeId>) -> Option<NodeId> {
        let mut replicas = replicas.to_vec();
        // The leader first: it is never behind.
        replicas.sort_by_key(|one| leader != Some(one.node));
        let by_rack = replicas.iter().any(|one| one.in_rack);
        let (preferred, others): (Vec<Choice>, Vec<Choice>) =
            replicas.into_iter().partition(|one| if by_rack { one.in_rack } else { leader == Some(one.node) });
        let round = self.turn / 2;
        let pick = |from: &[Choice]| from.get(round % from.len().max(1)).copied();
        let chosen = match self.turn.is_multiple_of(2) {
            true => pick(&preferred).or_else(|| pick(&others)),
            false => pick(&others).or_else(|| pick(&preferred)),
        };
        let at_home = !by_rack || chosen.is_some_and(|one| one.in_rack);
        self.elsewhere_since = if at_home { None } else { self.elsewhere_since.or(Some(now)) };
        chosen.map(|one| one.node)
    }

    /// The replica failed: another one is next.
    pub fn failed(&mut self) {
        self.turn += 1;
    }

    /// The replica gave something: after its next failure the others are asked from the first on.
    pub fn succeeded(&mut self) {
        self.turn = 0;
    }

    /// Whether another than a preferred replica is read for so long that a preferred one is to be tried again, next.
    pub fn goes_back(&mut self, now: MonotonicTime, recheck: Duration) -> bool {
        let goes_back = self.elsewhere_since.is_some_and(|since| now.since(since) >= recheck);
        if goes_back {
            *self = Turns::default();
        }
        goes_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicTime = MonotonicTime(0);

    fn choices(in_rack: &[u32]) -> Vec<Choice> {
        (1..=3).map(|node| Choice { node: NodeId(node), in_rack: in_rack.contains(&node) }).collect()
    }

    fn order(replicas: &[Choice], leader: Option<NodeId>) -> Vec<u32> {
        let mut turns = Turns::default();
        let mut next = || {
            let chosen = turns.choose(NOW, replicas, leader).expect("there are replicas").0;
            turns.failed();
            chosen
        };
        (0..4).map(|_| next()).collect()
    }

    #[test]
    fn the_preferred_and_the_others_take_turns() {
        assert_eq!(order(&choices(&[]), Some(NodeId(2))), [2, 1, 2, 3]);
        assert_eq!(order(&choices(&[3]), Some(NodeId(2))), [3, 2, 3, 1]);
        assert_eq!(order(&choices(&[]), None), [1, 1, 2, 2], "nobody is preferred");
        assert_eq!(Turns::default().choose(NOW, &[], None), None);
    }

    #[test]
    fn it_goes_back_to_its_rack_after_a_while() {
        let mut turns = Turns::default();
        let later = NOW.plus(Duration::from_secs(5));
        turns.failed();
        assert_eq!(turns.choose(NOW, &choices(&[3]), Some(NodeId(1))), Some(NodeId(1)));
        assert!(!turns.goes_back(NOW, Duration::from_secs(5)) && turns.goes_back(later, Duration::from_secs(5)));
        assert_eq!(turns.choose(later, &choices(&[3]), Some(NodeId(1))), Some(NodeId(3)));
    }
}
