//! The client library of dlog: producer, consumer, admin. Runs on its caller's tokio.
//!
//! [`Client::connect`] needs the address of any one node and finds the others. A [`Producer`] tells the future of each
//! record its partition and offset; a [`Consumer`] is a stream of records; [`Admin`] is the rest. What may succeed when
//! tried again or elsewhere is tried within one deadline, and nobody is told of it; an [`Error`] says what failed, where, and
//! whether it may have been applied. Any future may be dropped at any moment; each says what that means.
//!
//! ```no_run
//! use dlog_client::{Client, ClientOptions, ConsumerOptions, Error, NewTopic, ProducerOptions, Record, TimestampMs};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Error> {
//!     let client = Client::connect(ClientOptions::new(["127.0.0.1:7411"])).await?;
//!     let topic = NewTopic { name: "greetings".to_owned(), if_not_exists: true, ..NewTopic::default() };
//!     client.admin().create_topic(topic).await?;
//!
//!     let producer = client.producer(ProducerOptions::default())?;
//!     let record = Record::new(TimestampMs::NONE, "hello").with_key("ada");
//!     let at = producer.send("greetings", None, record).await?.await?;
//!     println!("partition {} offset {}", at.partition, at.offset);
//!     producer.close().await;
//!
//!     let mut consumer = client.consumer(ConsumerOptions::new("greetings")).await?;
//!     while let Some(found) = consumer.next().await {
//!         println!("{:?}", found?.record.value);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! `docs/client.md` in the repository is the guide, `examples/tour.rs` a program to begin with.

mod admin;
mod backoff;
mod client;
mod clock;
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

/// The decisions of this crate without sockets, tasks and clocks, so that the simulator runs the very same ones. Hidden, since it
/// is no promise to programs: it changes whenever the library's inside does.
#[doc(hidden)]
pub mod machines {
    pub use crate::consumer::position::Position;
    pub use crate::consumer::turns::{Choice, Turns};
    pub use crate::producer::lane::{Find, Found, Given, Lane, LaneOptions, NewId, Output, Placed, Refused, Send};
    pub use crate::retry::{Next, Retry, Tries};
}

pub use admin::{Admin, NewTopic};
pub use client::Client;
pub use consumer::{ConsumedRecord, Consumer, ConsumerOptions, End, OnGap, ReadLevel, Start};
pub use dlog_core::{Codec, ErrorCode, Header, Offset, Outcome, Record, Stage, TimestampMs};
pub use dlog_protocol::{Acks, ClusterId, v1};
pub use error::Error;
pub use offsets::OffsetsQuery;
pub use options::ClientOptions;
pub use producer::{Delivered, Delivery, Producer, ProducerOptions};

/// The guide, so that its code is compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/client.md")]
struct Guide;
