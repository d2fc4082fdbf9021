//! Which partition a record goes to: by its key as Kafka's own clients choose it, so that the same key meets the same
//! partition from any client; without a key one partition for a while, then another, so that batches fill.

use std::collections::BTreeMap;

/// Kafka's seed.
const SEED: u32 = 0x9747_b28c;
/// Murmur2's multiplier.
const MULTIPLIER: u32 = 0x5bd1_e995;

/// Murmur2 (32 bits) as Kafka's Java client has it.
pub fn murmur2(key: &[u8]) -> u32 {
    // Java's lengths are ints, and no key is that long.
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (number, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * number);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition, from 0, of a record with this key in a topic of `partitions`: Kafka's `toPositive(murmur2(key)) % n`.
///
/// # Panics
/// If `partitions` is 0.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Chooses for records without a key: stays with a partition until it got a batch's worth of bytes.
///
/// Invariant: an entry's `left` is what its partition may still get.
#[derive(Debug)]
pub(crate) struct Sticky<K> {
    chosen: BTreeMap<K, Chosen>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Chosen {
    partition: u32,
    left: usize,
}

impl<K: Ord> Sticky<K> {
    pub(crate) fn new(seed: u64) -> Sticky<K> {
        Sticky { chosen: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// The partition for `bytes` more of `topic`; `usable` (never empty) are those to choose from, a partition that is no
    /// longer among them is left at once.
    pub(crate) fn choose(&mut self, topic: K, usable: &[u32], bytes: usize, batch_bytes: usize) -> u32 {
        if let Some(chosen) = self.chosen.get_mut(&topic)
            && chosen.left > 0
            && usable.contains(&chosen.partition)
        {
            chosen.left = chosen.left.saturating_sub(bytes);
            return chosen.partition;
        }
        let last = self.chosen.get(&topic).map(|chosen| chosen.partition);
        let others: Vec<u32> = usable.iter().copied().filter(|partition| Some(*partition) != last).collect();
        let from = if others.is_empty() { usable } else { &others[..] };
        let partition = from[self.random.usize(..from.len())];
        self.chosen.insert(topic, Chosen { partition, left: batch_bytes.saturating_sub(bytes) });
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vectors of Kafka's own tests (UtilsTest.testMurmur2).
    #[test]
    fn murmur2_is_kafkas() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn partitions_follow_from_the_positive_hash() {
        assert_eq!(partition_for_key(b"abc", 10), 7);
        assert_eq!(partition_for_key(b"foobar", 10), ((-790_332_482i32 & 0x7fff_ffff) % 10) as u32);
        assert_eq!(partition_for_key(b"", 1), 0);
    }

    proptest! {
        #[test]
        fn every_key_has_a_partition(key in proptest::collection::vec(any::<u8>(), 0..64), partitions in 1u32..1000) {
            let chosen = partition_for_key(&key, partitions);
            prop_assert!(chosen < partitions);
            prop_assert_eq!(chosen, partition_for_key(&key, partitions));
        }
    }

    #[test]
    fn sticky_stays_for_a_batch_then_moves() {
        let mut sticky = Sticky::new(1);
        let first = sticky.choose("t", &[0, 1, 2], 40, 100);
        assert_eq!(sticky.choose("t", &[0, 1, 2], 40, 100), first);
        assert_eq!(sticky.choose("t", &[0, 1, 2], 40, 100), first, "20 bytes were left");
        let second = sticky.choose("t", &[0, 1, 2], 40, 100);
        assert_ne!(second, first);
        let usable: Vec<u32> = [0, 1, 2].into_iter().filter(|partition| *partition != second).collect();
        assert_ne!(sticky.choose("t", &usable, 1, 100), second, "left at once when it can't be used");
        assert_eq!(sticky.choose("u", &[7], 200, 100), 7);
        assert_eq!(sticky.choose("u", &[7], 200, 100), 7, "the only one there is");
    }
}
