//! [`Random`]: drawn moments that can be drawn again.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64). Its seed is printed, and `DLOG_TEST_SEED` sets it: processes and clocks don't repeat
/// themselves, but the drawn moments do.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Draws a seed, or takes the one that is set, and prints it.
    pub fn new(test: &str) -> Random {
        let given = std::env::var("DLOG_TEST_SEED").ok().map(|text| {
            text.parse().unwrap_or_else(|_| panic!("DLOG_TEST_SEED is {text:?}, it must be a number of 64 bits"))
        });
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_secs() ^ u64::from(now.subsec_nanos()) << 20
        });
        eprintln!("{test}: DLOG_TEST_SEED={seed}");
        Random { state: seed }
    }

    /// The generator of this seed.
    pub fn of_seed(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).expect("below a usize")
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself() {
        let (mut a, mut b) = (Random::of_seed(7), Random::of_seed(7));
        assert_eq!(a.bytes(100), b.bytes(100));
        assert!((0..1000).all(|_| a.below(3) < 3));
    }
}
