//! What clients call: the gRPC services of one node over its [`NodeContext`](crate::context::NodeContext).
//!
//! Every service checks what it is given ([`lookup`], [`admission`]), asks the shard or the log reader that owns the answer,
//! and says what went wrong in one form ([`errors`]). Nothing here decides about data: a record's fate is the shard's, a
//! topic's is group 0's. [`listener`] bounds what clients may hold open.

pub mod admin;
pub mod admission;
pub mod cluster;
pub mod consume;
pub mod errors;
pub mod listener;
pub mod log;
pub mod lookup;
pub mod offsets;
pub mod produce;
pub mod report;
pub mod view;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
