//! The storage engine: segments, indexes, the journal, checkpoints, recovery, the state store.
//!
//! Synchronous, over a small [`Disk`] trait: [`OsDisk`] is real files, [`SimDisk`] a disk in memory that loses power. A
//! [`ShardStore`] is all that one shard keeps: one journal group is one write and one sync for all its replicas, their
//! frames go to segments unsynced, a checkpoint lets journal files be used again, and [`recovery`] says what a start makes
//! of what a crash left.

mod aside;
pub mod ballast;
pub mod boot_table;
pub mod checkpoint;
pub mod claim;
pub mod directory_lock;
pub mod disk;
#[cfg(test)]
mod disk_conformance;
mod earlier_boots;
pub mod error;
mod faults;
pub mod identity;
pub mod index;
pub mod inspect;
pub mod journal;
pub mod log;
pub mod log_state;
pub mod manifest;
pub mod os_disk;
pub mod producers;
pub mod reader;
pub mod recovery;
mod replica_meta;
pub mod retention;
pub mod segment;
#[cfg(test)]
mod shard_model;
pub mod shard_store;
pub mod sim_disk;
pub mod space;
pub mod space_keeper;
pub mod stall;
pub mod state_store;
pub mod tail_cache;
#[cfg(test)]
mod testing;
pub mod verify;
mod view;
mod walk;
mod whole_file;

pub use ballast::Ballast;
pub use boot_table::{BootTable, BootVerdict};
pub use checkpoint::{Mark, MarkKind};
pub use claim::{Claim, ClaimRefused};
pub use directory_lock::DirectoryLock;
pub use disk::{Disk, DiskFile};
pub use earlier_boots::{EARLIER_BOOTS_MAX, EarlierBoots};
pub use error::StorageError;
pub use identity::{Boot, BootstrapMember, ClusterId, DirectoryId, Identity};
pub use journal::JournalOptions;
pub use log::Log;
pub use log_state::{LogIdentity, LogOptions, LogState, SegmentName, SegmentState};
pub use os_disk::OsDisk;
pub use reader::{BatchRead, LogReader};
pub use recovery::{ShardPicture, inspect_shard};
pub use shard_store::{GroupNumber, GroupZeroOptions, ShardIdentity, ShardStore, StoreOptions, StoreStats, WrittenOut};
pub use sim_disk::{LoseUnsynced, SimDisk, SimDiskOptions};
pub use space::{DiskSpace, SpaceOptions};
pub use space_keeper::SpaceKeeper;
pub use stall::{Stall, StallBounds, StallWatch};
pub use state_store::StateStore;
pub use tail_cache::TailCache;
