//! The gRPC protocol of dlog, package dlog.v1, and what it converts to.
//!
//! The .proto files under `proto/` are the published contract; [`v1`] is generated from them. [`convert`] turns messages
//! into checked values, [`status`] errors into gRPC statuses and back (one table), [`services`] makes clients and servers
//! with the same message bounds on both sides, [`cluster_id`] pins every call to one cluster.

pub mod cluster_id;
pub mod convert;
pub mod services;
pub mod status;
pub mod v1;

pub use cluster_id::ClusterId;
pub use convert::{Acks, ConsumeInput, ListOffsetsInput, OnceBody, ProduceInput, ProduceOnceInput, TopicRef};

/// The compiled .proto files, for gRPC reflection and for those who read the protocol at run time.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dlog_descriptor.bin"));
