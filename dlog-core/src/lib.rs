//! The vocabulary of dlog: what every other crate speaks of, and nothing that acts.
//!
//! Ids and offsets are types, not numbers ([`ids`], [`offset`]); a [`frame`] is one Raft entry as it stands on disk; a
//! [`write`](mod@write) is what one replica must make durable in one step; a [`batch`] is Kafka's RecordBatch v2, the bytes that a
//! producer sends and a reader gets. [`limits`] holds every hard bound with its reason, [`error`] what a client can be told.
//!
//! Pure: no file, socket, thread, wall clock or ambient randomness.

pub mod batch;
mod batch_builder;
mod batch_error;
mod batch_records;
pub mod codec;
pub mod disk_state;
pub mod error;
pub mod fault;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod mutants;
pub mod offset;
pub mod record;
mod snappy;
pub mod time;
pub mod topic_name;
pub mod varint;
pub mod write;

pub use batch::{BatchBuilder, BatchError, BatchHeader, BatchLimits, ProducerSequence};
pub use codec::{Codec, CodecError};
pub use disk_state::{DiskState, Space, SpaceLevel};
pub use error::{ErrorCode, ErrorDetail, Outcome, Stage};
pub use fault::{Fault, MendPlace, Mended};
pub use frame::{Frame, FrameKind};
pub use ids::{LogId, LogIndex, NodeId, PartitionIndex, ProducerId, ReplicaId, RequestId, ShardId, Term, TopicId};
pub use offset::Offset;
pub use record::{Header, Record, RecordError};
pub use time::{MonotonicTime, TimestampMs};
pub use topic_name::{TopicName, TopicNameError};
