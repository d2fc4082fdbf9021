//! The metadata side of a node: group 0's state machine, the way to change it, and what follows from it locally.

pub mod apply_thread;
pub mod confirmations;
pub mod group_zero;
pub mod leadership;
pub mod producer_ids;
pub mod reconciler;
pub mod registration;
pub mod voters;
