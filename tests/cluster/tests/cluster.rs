//! The cluster tests: one module for each thing that must hold. Run one with `cargo test -p dlog-cluster-tests seed`.

mod bench_memory;
mod changes;
mod cli_verbs;
mod death_of_all;
mod dev;
mod errors_teach;
mod flood;
mod graceful_stop;
mod idempotence;
mod leader_death;
mod linearizable;
mod metrics;
mod misuse;
mod misuse_start;
mod misuse_wire;
mod retention;
mod seed;
mod segments;
mod shards;
mod soak;
mod stopped_minority;
mod sync_before_ack;
mod two_down;
mod whole_file;
mod wire;
