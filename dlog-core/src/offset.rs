//! [`Offset`]: the number of a record in its partition. The only place that does arithmetic on offsets.

use std::fmt;

/// The number of a record in its partition, from 0, gapless, never given twice. At most `i64::MAX`, as in Kafka's format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Offset = Offset(0);
    /// The greatest offset that Kafka's format can carry.
    pub const MAX: Offset = Offset(i64::MAX as u64);

    /// The offset `count` records later.
    pub const fn plus(self, count: u64) -> Offset {
        Offset(self.0 + count)
    }

    /// How many records lie between `earlier` (inclusive) and `self` (exclusive); 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_records() {
        assert_eq!(Offset(3).plus(4), Offset(7));
        assert_eq!(Offset(7).since(Offset(3)), 4);
        assert_eq!(Offset(3).since(Offset(7)), 0);
    }
}
