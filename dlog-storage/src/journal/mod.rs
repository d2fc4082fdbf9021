//! The journal: what one fdatasync of a shard makes durable, for all its replicas at once.
//!
//! [`mod@format`] has the bytes of a group, [`group`] builds and finds one, [`file`] names and fills a file, [`set`] holds the
//! files of a shard, [`weight`] says how much goes into a group, [`scan`] reads them back and tells torn from corrupt.

pub mod file;
pub mod format;
pub mod group;
pub mod scan;
pub mod set;
pub mod weight;

pub use scan::{GroupAt, JournalScan, scan_journal};
pub use set::{GroupFailure, Journal, JournalOptions, JournalPosition, JournalStart};
pub use weight::GroupWeight;
