//! Fuzz tests: every decoder of bytes from disk or network, against valid bytes that were damaged and made to look whole again.
//!
//! A [`Target`] is one decoder with what must hold for any bytes: no panic, no more memory than it may have, an end within a bounded
//! time, and whatever is taken is written and read again as the same. Inputs come from a corpus of valid encodings in
//! `corpus/<target>/`; [`mutate`] damages them, the target *mends* their checksums, since behind a checksum that doesn't match
//! nothing is reached, and [`run`] does so a given number of times from a seed.

pub mod bound;
pub mod corpus;
pub mod mutate;
pub mod run;
pub mod target;
pub mod targets;

pub use run::{Failure, RunReport, random, replay};
pub use target::Target;
pub use targets::TARGETS;
