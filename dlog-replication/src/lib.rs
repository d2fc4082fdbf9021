//! Who should hold what: the catalogue and its commands, copysets, placement, quorums, health. Pure.
//!
//! Group 0 replicates [`command`]s; every node applies them in order to its own [`catalogue`], which turns each into an
//! outcome and a few changed keys for the state store. What a node has to do about it is a plan ([`reconcile`]), and what
//! becomes of a log's members an [`intent`]; what the
//! operator is told is a value ([`health`], [`quorum`]). New replica sets are drawn by [`placement`] from [`copyset`]s.
//!
//! Everything here gives the same answer on every node for the same input: no clock, no map without an order, and
//! randomness only from seeds that are computed from the catalogue.

pub mod bootstrap;
pub mod catalogue;
pub mod command;
pub mod copyset;
pub mod health;
pub mod intent;
pub mod leadership;
pub mod local_replicas;
pub mod outcome;
pub mod placement;
pub mod quorum;
pub mod reconcile;
pub mod settings;
pub mod voters;

#[cfg(test)]
mod support_tests;

pub use catalogue::{Applied, Catalogue, StateChange};
pub use command::{
    AllocateProducerIds, AlterTopic, Command, CommandBody, CommandId, ConfirmReplicas, CreateTopic, DeleteTopic,
    FoundCluster, FoundingMember, PreferLeader, RegisterNode, SetMetadataVoters, SetReplicas,
};
pub use intent::Intent;
pub use local_replicas::LocalReplicas;
pub use outcome::{CommandOutcome, Rejection, RejectionCode};
pub use settings::{SettingChanges, TimestampType, TopicSettings};
