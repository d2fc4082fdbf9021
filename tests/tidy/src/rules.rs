//! The rules, one noun a file.

pub mod arrows;
pub mod attributes;
pub mod code_map;
pub mod docs;
pub mod markdown;
pub mod mutants;
pub mod paths;
pub mod purity;
pub mod sizes;
pub mod words;
