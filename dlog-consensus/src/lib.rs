//! How the replicas of one log agree. Pure: no file, socket, thread, wall clock or ambient randomness.
//!
//! # The protocol
//!
//! A [`Replica`] is a machine around the raft crate's `RawNode`. [`Replica::step`] takes one [`Input`] and appends [`Output`]s; the
//! shell executes them in order and as dumbly as it likes, since what must wait is held back in here. A [`Host`] steps many of
//! them on one thread.
//!
//! *Append.* A producer's batches come in as [`Input::Propose`]. The leader checks sequence and bounds, gives base offsets, stamps
//! each batch in one copy, and hands them to raft as entries. Each entry becomes a frame whose bytes follow from the entry and
//! the log before it alone, so all replicas hold the same bytes. The frames go out in one [`Output::Write`] and, at the same
//! time, in messages to the followers. A follower checks every entry (contiguity, batch CRC, base offset = its own log end)
//! before raft sees it, writes, and answers only when the write is durable ([`Input::Persisted`]).
//!
//! *Commit.* Raft's commit index passes an entry once a majority has it durable; the leader's own sync is one vote among them, so a
//! slow disk of the leader delays nothing while a majority of others is faster. Replies leave in the order of requests, when the
//! acks asked for are met. The high watermark is the offset after the commit index; readers stop at the read bound, which
//! is also written out here.
//!
//! *Before the sync.* A leader's messages may leave before its own sync only if no hard state waits for the disk: then term and vote
//! are durable, and no later life of it can lead the same term with other entries. So may a follower's answer to a heartbeat,
//! which promises nothing about the log. Everything else waits for every write before it (`ready.rs`).
//!
//! *Elections.* Pre-vote and check-quorum; timeouts drawn from the replica's own seeded generator; a replica that waits for its disk
//! doesn't campaign. On loss of leadership every waiting request fails with `not_leader`, outcome unknown.
//!
//! *Catch-up.* Frames that aren't both applied and written are in memory. Older ones, for a peer that lags, are asked for by
//! [`Output::ReadEntries`], one outstanding for each peer.
//!
//! *Exactly once.* The producer table follows from the committed log; the leader lays its in-flight batches over it. A duplicate
//! waits for the original's ack and returns its offsets.
//!
//! *Retention.* The leader appends an entry that moves the log start; whoever applies it writes that out and reads no lower. What
//! storage then drops is gone from the view ([`Input::LocalStart`]); a peer that needs it gets a snapshot without records
//! (`snapshot.rs`): where the log goes on, and what it had added up to. Producers are forgotten by entries too.
//!
//! *Membership.* An [`Intent`] says who is to belong to the log; every replica may be told, and the leader drives the log there:
//! learner, catch-up, joint change, learners that nobody wants go. The next step follows from the applied membership and the
//! newest intent alone (`replica/change_step.rs`), so a new leader goes on wherever the last one stopped. A joint state is left
//! whether or not an intent is known. A leader whose vote ends hands over first. When the log is there, and a majority has said
//! since that this replica leads, it says [`Output::Confirmed`]. The log names the newest intent that it was changed for, before
//! that is confirmed: an older one is not followed any more. An entry of configuration counts when it is committed and
//! durable here, as everything else; up to C of a snapshot it counts for nothing, for C's membership has it.
//!
//! *Start.* Storage gives a `RestoredReplica`; a [`ReplicaLoader`] says which frames it must see, replays them, and checks everything
//! on which the raft crate would panic.
//!
//! # What the shell must keep
//!
//! Writes of a replica are made durable in the order of their ids. [`Input::WrittenOut`] and [`Input::Persisted`] arrive in the
//! order in which they happened. The authenticated peer node of a message owns its `from`. Two starts of a node use different
//! seeds.
//!
//! # Caveats
//!
//! * A change waits without end for a new voter that never comes; [`Status::change`] says for whom, and a newer intent ends it.
//! * A removed replica isn't told: it stops hearing of the log, and asks for votes in vain if it was cut off before it lost its own.
//! * A state of group 0 above 256 MiB ([`dlog_core::limits::STATE_BYTES_MAX`]) isn't sent: whoever needs it stays behind.
//! * Commit indexes are broadcast at once: one record costs eight messages among three replicas, not four.
//! * A forged message from an authenticated member can still lie: raft trusts its members. It can't panic the machine, open a gap
//!   or replace committed frames.
//! * A full producer table forgets whoever was silent longest, however short that is; a producer that then repeats its very first
//!   batch is taken for a new one.
//! * An ack of `acks=all` counts as in sync who was heard within an election timeout; a replica that fell silent just now delays it
//!   until then.
//! * Group 0's commands are handed to the apply thread as they commit; what queues there is not bounded here.

#[cfg(test)]
mod cluster_tests;
mod configuration;
#[doc(hidden)]
pub mod decoders;
mod election;
pub mod error;
pub mod host;
pub mod input;
pub mod log_view;
pub mod membership;
pub mod mending;
pub mod message;
pub mod options;
pub mod output;
mod payload;
mod producers;
mod proposal;
mod raft_storage;
mod ready;
mod repair;
mod replica;
pub mod replica_loader;
pub mod snapshot;
pub mod state_image;
pub mod status;

pub use dlog_replication::Intent;
pub use error::{LoadError, Refusal};
pub use host::{Host, HostOutputs};
pub use input::{Acks, FetchError, Input, Proposal};
pub use membership::{Membership, MembershipError, Standing, decode_membership, encode_membership};
pub use mending::{Mending, Whole};
pub use message::{MessageKind, NUMBER_MAX, PeerMessage, WireEntry, WireSnapshot};
pub use options::ReplicaOptions;
pub use output::{Appended, FetchId, Output, Progress, Reply, Role, RoleChange, WriteId};
pub use repair::FaultStatus;
pub use replica::Replica;
pub use replica_loader::{ReplicaLoader, StateFound};
pub use state_image::{StateImage, StateImageError};
pub use status::{ChangeStatus, ChangeStep, PeerStatus, Status};
