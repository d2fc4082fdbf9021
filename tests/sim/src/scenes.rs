//! Small worlds for what a simulated cluster doesn't meet: each is played from a seed, and says what broke.

pub mod decay;
pub mod lone_voter;

use crate::report::Failure;
use std::fmt;

/// Which small world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// One store whose synced bytes decay.
    Decay,
    /// A lone voter with a learner, killed before its first sync.
    LoneVoter,
}

impl Scene {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Scene::Decay => "decay",
            Scene::LoneVoter => "lone-voter",
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What broke.
    pub fn play(self, seed: u64) -> Result<(), Failure> {
        let mut random = fastrand::Rng::with_seed(seed);
        match self {
            Scene::Decay => decay::play(&mut random),
            Scene::LoneVoter => lone_voter::play(&mut random),
        }
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_loses_nothing_unnoticed() {
        let failed: Vec<String> = (0..400)
            .filter_map(|seed| Scene::Decay.play(seed).err().map(|failure| format!("seed {seed}: {failure}")))
            .collect();
        assert!(failed.is_empty(), "{} of 400: {}", failed.len(), failed.join("\n"));
    }
}
