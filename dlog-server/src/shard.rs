//! A shard of a node: three threads over one journal, and the handle through which the rest of the server reaches them.

pub mod consensus_thread;
pub mod disk_health;
pub mod disk_thread;
pub mod inbox;
pub mod read_thread;
pub mod repair;
pub mod restore;
pub mod retention;
pub mod room;
pub mod start;
pub mod sync_times;

use consensus_thread::ShardStatus;
use disk_health::DiskHealth;
use inbox::Inbox;
use std::sync::Arc;
use sync_times::SyncTimes;

/// One shard, as services see it.
#[derive(Clone)]
pub struct ShardHandle {
    /// The way into its consensus thread.
    pub inbox: Inbox,
    /// Its replicas at the last tick.
    pub status: ShardStatus,
    /// Its disk thread.
    pub disk: std::sync::mpsc::Sender<disk_thread::DiskMessage>,
    /// Its journal's sync times.
    pub sync_times: Arc<SyncTimes>,
    /// What is known of its disk.
    pub disk_health: Arc<DiskHealth>,
}
