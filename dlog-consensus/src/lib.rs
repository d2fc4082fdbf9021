//! How replicas of a log agree: Raft, as a machine without I/O.
//!
//! A [`Replica`] is one placement of a partition. Its shell (the server's consensus thread, or the simulator) hands it one
//! [`Input`] at a time with [`Replica::step`], and carries out the [`Output`]s in order: writes to the journal, messages to
//! peers, replies to requests. A [`Host`] holds all replicas of a shard.
//!
//! The path of a record: a leader takes a [`Proposal`], looks whether it is a retry (`producers.rs`), stamps each batch with
//! the offset where it will stand (`replica/propose.rs`) and gives it to the raft crate. `ready.rs`, the only place that touches
//! the crate's `Ready`, makes a frame of the entry, puts it into the [`log view`](log_view), says the write and lets the
//! messages go: a leader's at once (its followers' disks work in parallel with its own), a follower's ack only once its
//! write is durable ([`Input::Persisted`]). When a majority has it, the high watermark moves, and `proposal.rs` answers.
//!
//! Followers check every message (`replica/guard.rs`) before the crate sees it: the crate panics on bad input, and a batch that
//! is damaged, or doesn't begin at the log's end, must not be appended.
//!
//! Caveats. Snapshots, membership changes, log-start moves and the expiry of producers as entries aren't built: a message
//! or entry of those kinds is refused, and a peer that needs entries that are no longer kept can't catch up. Reads are answered
//! by the leader alone. The commit index is broadcast by the crate after each commit, at eight messages a record.

mod election;
mod error;
mod host;
mod input;
mod log_view;
mod membership;
mod message;
pub mod options;
mod output;
mod producers;
mod proposal;
mod raft_storage;
mod ready;
mod replica;
mod replica_loader;
mod status;
mod writes;

pub use error::{LoadError, Refusal};
pub use host::Host;
pub use input::{Acks, FetchError, Input, Proposal};
pub use membership::{Membership, MembershipError, decode_membership, encode_membership};
pub use message::{MessageKind, NUMBER_MAX, PeerMessage, WireEntry};
pub use options::ReplicaOptions;
pub use output::{Appended, FetchId, Output, Progress, Reply, Role, RoleChange, WriteId};
pub use replica::Replica;
pub use replica_loader::ReplicaLoader;
pub use status::{PeerStatus, Status};
