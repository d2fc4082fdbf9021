//! The client library of dlog: producer, consumer, admin. Runs on its caller's tokio.
//!
//! [`Client::connect`] needs the address of any one node and finds the others. A [`Producer`] tells the future of each
//! record its partition and offset; a [`Consumer`] is a stream of records; [`Admin`] is the rest. What may succeed when
//! tried again or elsewhere is tried within one deadline, and nobody is told of it; an [`Error`] says what failed, where, and
//! whether it may have been applied.

mod admin;
mod backoff;
mod client;
mod connection;
mod consumer;
mod deadline;
mod error;
pub mod histogram;
mod metadata;
mod offsets;
mod options;
pub mod partitioner;
mod producer;
mod retry;

pub use admin::{Admin, NewTopic};
pub use client::Client;
pub use consumer::{ConsumedRecord, Consumer, ConsumerOptions, End, OnGap, ReadLevel, Start};
pub use dlog_core::{Codec, ErrorCode, Header, Offset, Outcome, Record, Stage, TimestampMs};
pub use dlog_protocol::{Acks, ClusterId, v1};
pub use error::Error;
pub use offsets::OffsetsQuery;
pub use options::ClientOptions;
pub use producer::{Delivered, Delivery, Producer, ProducerOptions};
