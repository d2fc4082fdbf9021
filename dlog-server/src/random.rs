//! The process's randomness: the one place where the server draws a seed.

/// A seed that no other process and no other call draws.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hashers from the operating system's generator.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A generator with a seed of its own.
pub fn random() -> fastrand::Rng {
    fastrand::Rng::with_seed(random_seed())
}
