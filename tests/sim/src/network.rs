//! Who hears whom, how late, and how often. Between nodes anything may be lost, late, twice or out of order; only the bytes
//! of a message are never changed (production puts them behind TCP and checksums).

use crate::options::NetworkOptions;
use crate::schedule::MICROSECOND;

/// The links between all nodes.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    random: fastrand::Rng,
    /// `cut[from][to]`: nothing arrives on this way.
    cut: [[bool; NODES]; NODES],
}

/// Nodes of a simulated cluster.
pub const NODES: usize = 3;

impl Network {
    /// All connected.
    pub fn new(options: NetworkOptions, random: fastrand::Rng) -> Network {
        Network { options, random, cut: [[false; NODES]; NODES] }
    }

    /// The delays after which copies of a message arrive, in nanoseconds: none, one or two.
    pub fn deliveries(&mut self, from: usize, to: usize) -> Vec<u64> {
        let lost = self.cut[from][to] || self.random.u32(0..1000) < self.options.lost_per_mille;
        let copies = match lost {
            true => 0,
            false if self.random.u32(0..1000) < self.options.twice_per_mille => 2,
            false => 1,
        };
        (0..copies).map(|_| self.delay()).collect()
    }

    /// One way's delay, in nanoseconds.
    pub fn delay(&mut self) -> u64 {
        let late = self.random.u32(0..1000) < self.options.late_per_mille;
        let most = self.options.latency_us_max * if late { 50 } else { 1 };
        self.random.u64(self.options.latency_us_min..=most) * MICROSECOND
    }

    /// Whether a message on its way when the link was cut still arrives: it doesn't.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from][to]
    }

    /// Cuts one way.
    pub fn sever(&mut self, from: usize, to: usize) {
        self.cut[from][to] = true;
    }

    /// Connects all.
    pub fn heal(&mut self) {
        self.cut = [[false; NODES]; NODES];
    }

    /// From here on messages arrive, once, though late.
    pub fn become_reliable(&mut self) {
        self.heal();
        self.options.lost_per_mille = 0;
        self.options.twice_per_mille = 0;
        self.options.late_per_mille = 0;
    }
}
