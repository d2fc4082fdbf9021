//! Whole clusters of machines in memory: chosen scenes here, random schedules in `chaos.rs`, forged messages in `forged.rs`.

mod chaos;
mod cluster;
mod disks;
mod forged;
mod node;
mod scenes;
