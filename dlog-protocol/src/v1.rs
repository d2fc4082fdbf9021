//! The package `dlog.v1` as Rust: messages, clients and server traits, generated from the .proto files, whose comments
//! are the documentation. Payloads are shared buffers ([`bytes::Bytes`]).

tonic::include_proto!("dlog.v1");
