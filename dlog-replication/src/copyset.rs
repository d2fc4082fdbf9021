//! Copysets: the few sets of nodes from which replica sets are drawn (Cidon et al., "Copysets: Reducing the Frequency of
//! Data Loss in Cloud Storage", USENIX ATC 2013).
//!
//! If every partition draws its replicas at random, some partition sits on nearly every set of R nodes, and any R that fail
//! together lose data. Drawn from few sets, most failures of R nodes hit none of them. The *scatter width* S, with how many
//! others a node shares data, is what recovery needs: P = S / (R - 1) permutations of the nodes, each cut into sets of R.
//!
//! Two additions. A permutation whose end doesn't fill a set goes on in the next one, so that every node is in as many sets
//! as every other. And a set never has more nodes of one rack than it must.

use dlog_core::NodeId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The scatter width that is aimed at: with how many others each node shares data. Ten, as the paper has it for clusters
/// of a hundred nodes and more; smaller clusters have at most all others.
pub const SCATTER_WIDTH_DEFAULT: usize = 10;

/// A node to draw from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its rack; a node without one is a rack of its own.
    pub rack: Option<String>,
}

/// The sets for one number of replicas.
///
/// Invariants: every set has the same number of distinct nodes, in ascending order; every node is in at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copysets {
    sets: Vec<Vec<NodeId>>,
    nodes: usize,
    replicas: usize,
}

impl Copysets {
    /// The sets of `replicas` nodes for these candidates. The same candidates give the same sets, in whatever order they
    /// come, so that topics share them. No sets if there are fewer candidates than replicas, or no replicas.
    pub fn generate(candidates: &[Candidate], replicas: usize, scatter_width: usize) -> Copysets {
        let candidates: BTreeMap<NodeId, Option<&str>> =
            candidates.iter().map(|candidate| (candidate.node, candidate.rack.as_deref())).collect();
        let nodes = candidates.len();
        if replicas == 0 || nodes < replicas {
            return Copysets { sets: Vec::new(), nodes, replicas };
        }
        let mut generator = Generator::new(&candidates, replicas);
        let permutations = permutations(nodes, replicas, scatter_width);
        let mut sets = Vec::new();
        // Every set takes a node of the least use first, so the least use rises and this ends.
        while generator.least_use() < permutations {
            sets.push(generator.next_set());
        }
        Copysets { sets, nodes, replicas }
    }

    /// The sets in the order in which they were drawn. One may stand more than once where there are few nodes.
    pub fn sets(&self) -> &[Vec<NodeId>] {
        &self.sets
    }

    /// How many different sets there are.
    pub fn distinct(&self) -> usize {
        self.sets.iter().collect::<BTreeSet<_>>().len()
    }

    /// With how many others `node` shares a set.
    pub fn scatter_width(&self, node: NodeId) -> usize {
        let sets = self.sets.iter().filter(|set| set.contains(&node));
        sets.flatten().filter(|&&other| other != node).collect::<BTreeSet<_>>().len()
    }

    /// The chance, 0 to 1, that as many nodes as there are replicas, failing together at random, are all of some set.
    pub fn loss_chance(&self) -> f64 {
        let mut chance = self.distinct() as f64;
        // Divided by the number of choices, n! / (k! (n - k)!), a factor at a time so that nothing overflows.
        for step in 0..self.replicas {
            chance *= (step + 1) as f64 / (self.nodes - step) as f64;
        }
        chance.min(1.0)
    }
}

/// How often each node is to be drawn: the paper's P, and then up to the next number at which the sets come out even.
fn permutations(nodes: usize, replicas: usize, scatter_width: usize) -> usize {
    let others = replicas - 1;
    let width = scatter_width.clamp(1, (nodes - 1).max(1));
    let wanted = if others == 0 { 1 } else { width.div_ceil(others) };
    // At most `replicas` steps: one of so many neighbours is a multiple of `replicas`.
    (wanted..).find(|count| (count * nodes).is_multiple_of(replicas)).unwrap_or(wanted)
}

/// Draws sets: always a node of the least use so far, at random among equals. That is a walk through one random
/// permutation after another, without a rest at the end of each.
struct Generator {
    nodes: Vec<NodeId>,
    /// Rack number of each node.
    racks: Vec<usize>,
    rack_count: usize,
    /// In how many sets each node is.
    uses: Vec<usize>,
    replicas: usize,
    /// How many nodes of one rack a set may have: no more than it must.
    rack_cap: usize,
    random: fastrand::Rng,
}

impl Generator {
    fn new(candidates: &BTreeMap<NodeId, Option<&str>>, replicas: usize) -> Generator {
        let mut numbers: BTreeMap<(Option<&str>, Option<NodeId>), usize> = BTreeMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut racks = Vec::with_capacity(candidates.len());
        for (&node, &rack) in candidates {
            let own = rack.is_none().then_some(node);
            let number = *numbers.entry((rack, own)).or_insert_with(|| {
                sizes.push(0);
                sizes.len() - 1
            });
            sizes[number] += 1;
            racks.push(number);
        }
        let fits = |cap: &usize| sizes.iter().map(|size| size.min(cap)).sum::<usize>() >= replicas;
        let rack_cap = (1..=replicas).find(fits).unwrap_or(replicas);
        Generator {
            nodes: candidates.keys().copied().collect(),
            uses: vec![0; racks.len()],
            racks,
            rack_count: sizes.len(),
            replicas,
            rack_cap,
            random: fastrand::Rng::with_seed(seed(candidates, replicas)),
        }
    }

    fn least_use(&self) -> usize {
        self.uses.iter().copied().min().unwrap_or(usize::MAX)
    }

    fn next_set(&mut self) -> Vec<NodeId> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        // Of nodes of equal use, those whose rack has the most of them first: the last ones left over should not be of one
        // rack. Nodes that were drawn much more often than others don't come to a turn, so they may share a level.
        const LEVELS: usize = 4;
        let least = self.least_use();
        let level = |at: usize| (self.uses[at] - least).min(LEVELS - 1);
        let mut equals = vec![[0usize; LEVELS]; self.rack_count];
        order.iter().for_each(|&at| equals[self.racks[at]][level(at)] += 1);
        // Stable: the shuffle decides the rest.
        order.sort_by_key(|&at| (self.uses[at], Reverse(equals[self.racks[at]][level(at)])));
        let mut in_rack = vec![0; self.rack_count];
        let mut set = Vec::with_capacity(self.replicas);
        for at in order {
            if in_rack[self.racks[at]] < self.rack_cap {
                in_rack[self.racks[at]] += 1;
                self.uses[at] += 1;
                set.push(self.nodes[at]);
            }
            if set.len() == self.replicas {
                break;
            }
        }
        set.sort_unstable();
        set
    }
}

/// A seed from what the sets depend on, by FNV-1a: spelled out here, since every node and version must agree on it.
fn seed(candidates: &BTreeMap<NodeId, Option<&str>>, replicas: usize) -> u64 {
    let mut hash = Fnv::new();
    hash.add(&(replicas as u64).to_le_bytes());
    for (node, rack) in candidates {
        hash.add(&node.0.to_le_bytes());
        let rack = rack.unwrap_or_default();
        hash.add(&(rack.len() as u64).to_le_bytes());
        hash.add(rack.as_bytes());
    }
    hash.0
}

/// FNV-1a with 64 bits: small, and the same everywhere. For seeds, where nobody gains from a collision.
pub(crate) struct Fnv(pub(crate) u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests;
