//! The machine in a cluster that a seed drives: slow disks, a bad network, crashes that lose what wasn't synced. What is
//! checked after every step stands in `cluster/checks.rs`; `chaos.rs` runs seeds, `scenarios.rs` what is aimed at one rule.

mod chaos;
mod clients;
mod cluster;
mod forged;
mod group_zero;
mod membership;
mod membership_chaos;
mod model;
mod node;
mod reads;
mod retention;
mod scenarios;
mod state;
mod work;
