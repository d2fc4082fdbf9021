//! The marks and their bands, by chosen figures and by drawn ones.

use super::*;
use proptest::prelude::*;

const RESERVE: u64 = 1000;

fn space() -> DiskSpace {
    DiskSpace::new(SpaceOptions::of_reserve(RESERVE, 1))
}

#[test]
fn a_disk_fills_and_is_emptied() {
    let mut space = space();
    let seen: Vec<SpaceLevel> = [5000, 1000, 999, 1249, 500, 499, 749, 750, 1249, 1250, 1000]
        .into_iter()
        .map(|free| space.look(free, 0).level)
        .collect();
    use SpaceLevel::{Ample, Exhausted, Full};
    assert_eq!(seen, [Ample, Ample, Full, Full, Full, Exhausted, Exhausted, Full, Full, Ample, Ample]);
}

#[test]
fn what_is_on_its_way_counts_as_used() {
    let mut space = space();
    let seen = space.look(1500, 501);
    assert_eq!((seen.level, seen.free_bytes, seen.reserve_bytes), (SpaceLevel::Full, 999, RESERVE));
    assert_eq!(space.look(10, 20).free_bytes, 0, "more may be owed than there is");
}

#[test]
fn without_a_reserve_nothing_is_refused() {
    let mut space = DiskSpace::new(SpaceOptions::of_reserve(0, 1));
    assert_eq!(space.look(0, 0).level, SpaceLevel::Ample);
    assert_eq!(space.options().ballast_bytes, 0);
}

#[test]
fn the_reserve_of_a_disk_nobody_speaks_of() {
    let reserve = SpaceOptions::default_reserve;
    assert_eq!(reserve(1 << 40), 1 << 30, "a large disk");
    assert_eq!(reserve(10 << 30), (10 << 30) / 20);
    assert_eq!(reserve(800 << 20), 64 << 20, "a small one");
    assert_eq!(reserve(80 << 20), 10 << 20, "a tiny one");
    assert_eq!(SpaceOptions::of_reserve(64 << 30, 1).ample_from(), (64 << 30) + (256 << 20));
    assert_eq!(SpaceOptions::of_reserve(1 << 30, 2).ballast_bytes, 32 << 20);
    assert_eq!(SpaceOptions::of_reserve(64 << 20, 2).ballast_bytes, 8 << 20);
}

proptest! {
    /// Never ample below the reserve; never refused above both marks; inside a band nothing changes but for the worse.
    #[test]
    fn levels_hold_their_marks(reserve in 0u64..4000, looks in prop::collection::vec((0u64..6000, 0u64..1000), 1..60)) {
        let mut space = DiskSpace::new(SpaceOptions::of_reserve(reserve, 1));
        for (free, owed) in looks {
            let before = space.level();
            let after = space.look(free, owed);
            let left = free.saturating_sub(owed);
            prop_assert_eq!(after.level, space.level());
            prop_assert!(left >= reserve || after.level > SpaceLevel::Ample);
            prop_assert!(left >= reserve / 2 || after.level == SpaceLevel::Exhausted);
            prop_assert!(left < reserve + reserve / 4 || after.level == SpaceLevel::Ample);
            if (reserve..reserve + reserve / 4).contains(&left) && before <= SpaceLevel::Full {
                prop_assert_eq!(before, after.level, "no flapping inside the band");
            }
            if (reserve / 2..reserve / 2 + reserve / 4).contains(&left) && before >= SpaceLevel::Full {
                prop_assert_eq!(before, after.level, "nor inside the lower one");
            }
        }
    }

    /// Figures that stay within one band never make the level change twice.
    #[test]
    fn no_flapping_inside_a_band(start in 0u64..6000, looks in prop::collection::vec(1000u64..1250, 2..40)) {
        let mut space = space();
        space.look(start, 0);
        let first = space.look(looks[0], 0).level;
        for free in looks {
            prop_assert_eq!(space.look(free, 0).level, first);
        }
    }
}
