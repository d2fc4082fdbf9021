//! [`EarlierBoots`]: the starts of a directory before its newest one, by which an old copy that was put back is told from the
//! directory that went on, however often the copy is started.

use crate::identity::Boot;

/// Starts that are remembered. Bounds a hello (512 bytes) and for how many starts in a row that a peer didn't see it still knows
/// their line; beyond that it asks only what was recovered.
pub const EARLIER_BOOTS_MAX: usize = 64;

/// The random values of the starts before one, the latest first.
///
/// Invariant: at most [`EARLIER_BOOTS_MAX`] values.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EarlierBoots(Vec<u64>);

impl EarlierBoots {
    /// Of these values, the latest first; what is too much is left out.
    pub fn new(mut values: Vec<u64>) -> EarlierBoots {
        values.truncate(EARLIER_BOOTS_MAX);
        EarlierBoots(values)
    }

    /// The values, the latest first.
    pub fn values(&self) -> &[u64] {
        &self.0
    }

    /// One more start is over.
    pub fn push(&mut self, random: u64) {
        self.0.insert(0, random);
        self.0.truncate(EARLIER_BOOTS_MAX);
    }

    /// Whether `boot`, before which these were, is `other` or came after it in the same directory. `None` where they don't reach so
    /// far back, or `other` is the later one.
    pub fn follows(&self, boot: Boot, other: Boot) -> Option<bool> {
        match boot.number.checked_sub(other.number)? {
            0 => Some(boot.random == other.random),
            back => self.0.get(usize::try_from(back - 1).ok()?).map(|random| *random == other.random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_goes_on_is_another_line() {
        let boot = |number, random| Boot { number, random };
        let mut earlier = EarlierBoots::default();
        for number in 1..=4 {
            earlier.push(number * 10);
        }
        let now = boot(5, 50);
        assert_eq!(earlier.follows(now, now), Some(true));
        assert_eq!(earlier.follows(now, boot(5, 51)), Some(false));
        assert_eq!(earlier.follows(now, boot(3, 30)), Some(true));
        assert_eq!(earlier.follows(now, boot(3, 31)), Some(false));
        assert_eq!(earlier.follows(now, boot(6, 60)), None, "a later one");
        assert_eq!(EarlierBoots::default().follows(now, boot(3, 30)), None, "an older version says nothing");
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut earlier = EarlierBoots::default();
        (0..100).for_each(|random| earlier.push(random));
        assert_eq!(earlier.values().len(), EARLIER_BOOTS_MAX);
        assert_eq!(earlier.follows(Boot { number: 100, random: 100 }, Boot { number: 36, random: 36 }), Some(true));
        assert_eq!(earlier.follows(Boot { number: 100, random: 100 }, Boot { number: 35, random: 35 }), None);
    }
}
