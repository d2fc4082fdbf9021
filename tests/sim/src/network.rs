//! Who hears whom, how late, and how often. Between nodes anything may be lost, late, twice or out of order; only the bytes
//! of a message are never changed (production puts them behind TCP and checksums).

use crate::options::NetworkOptions;
use crate::schedule::MICROSECOND;

/// The links between all nodes.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    random: fastrand::Rng,
    nodes: usize,
    /// At `from * nodes + to`: nothing arrives on this way.
    cut: Vec<bool>,
}

/// Ways that are cut: from a node, to a node.
pub type Cuts = Vec<(usize, usize)>;

impl Network {
    /// So many nodes, all connected.
    pub fn new(options: NetworkOptions, nodes: usize, random: fastrand::Rng) -> Network {
        Network { options, random, nodes, cut: vec![false; nodes * nodes] }
    }

    /// The delays after which copies of a message arrive, in nanoseconds: none, one or two.
    pub fn deliveries(&mut self, from: usize, to: usize) -> [Option<u64>; 2] {
        let lost = self.is_cut(from, to) || self.random.u32(0..1000) < self.options.lost_per_mille;
        if lost {
            return [None, None];
        }
        let twice = self.random.u32(0..1000) < self.options.twice_per_mille;
        [Some(self.delay()), twice.then(|| self.delay())]
    }

    /// One way's delay, in nanoseconds.
    pub fn delay(&mut self) -> u64 {
        let late = self.random.u32(0..1000) < self.options.late_per_mille;
        let most = self.options.latency_us_max * if late { 50 } else { 1 };
        self.random.u64(self.options.latency_us_min..=most) * MICROSECOND
    }

    /// Whether a message on its way when the link was cut still arrives: it doesn't.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from * self.nodes + to]
    }

    /// Whether anything is cut.
    pub fn is_whole(&self) -> bool {
        !self.cut.contains(&true)
    }

    /// Cuts these ways.
    pub fn sever(&mut self, ways: &[(usize, usize)]) {
        for (from, to) in ways {
            self.cut[from * self.nodes + to] = true;
        }
    }

    /// Connects all.
    pub fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// From here on messages arrive, once, though late.
    pub fn become_reliable(&mut self) {
        self.heal();
        self.options.lost_per_mille = 0;
        self.options.twice_per_mille = 0;
        self.options.late_per_mille = 0;
    }
}

/// A partition of so many nodes (at least two), in any of its forms. Those of one node are of `first`, or of any.
pub fn draw_cuts(random: &mut fastrand::Rng, nodes: usize, first: Option<usize>) -> Cuts {
    let mut order: Vec<usize> = (0..nodes).collect();
    random.shuffle(&mut order);
    if let Some(at) = order.iter().position(|node| Some(*node) == first) {
        order.swap(0, at);
    }
    let first = order[0];
    let others = &order[1..];
    let pairs = |left: &[usize], right: &[usize]| -> Cuts {
        left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))).collect()
    };
    let both = |left: &[usize], right: &[usize]| [pairs(left, right), pairs(right, left)].concat();
    let half = random.usize(1..nodes);
    match random.u8(0..6) {
        // Alone.
        0 => both(&[first], others),
        // Two don't hear each other, the others hear both.
        1 => both(&[first], &others[..1]),
        // It hears, and isn't heard.
        2 => pairs(&[first], others),
        // It speaks, and hears nothing.
        3 => pairs(others, &[first]),
        // Two parts.
        4 => both(&order[..half], &order[half..]),
        // A bridge: two parts that only one node connects.
        _ => {
            let half = random.usize(0..=others.len());
            both(&others[..half], &others[half..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Options, Shape};

    #[test]
    fn what_is_cut_is_not_delivered_and_what_is_healed_is() {
        let mut network = Network::new(Options::draw(1, Shape::Mixed).network, 3, fastrand::Rng::with_seed(1));
        network.become_reliable();
        network.sever(&[(0, 2)]);
        assert_eq!(network.deliveries(0, 2), [None, None]);
        assert!(network.deliveries(2, 0)[0].is_some() && !network.is_whole());
        network.heal();
        assert!(network.deliveries(0, 2)[0].is_some() && network.is_whole());
    }

    #[test]
    fn every_form_of_a_partition_names_other_nodes_only() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..500 {
            let nodes = 2 + round % 6;
            let cuts = draw_cuts(&mut random, nodes, [None, Some(round % 2)][round % 3 / 2]);
            assert!(cuts.iter().all(|(from, to)| from != to && *from < nodes && *to < nodes), "{cuts:?}");
        }
    }
}
