//! Nodes among themselves: streams of Raft messages out ([`outbox`], [`outgoing`]) and in ([`incoming`]), unary calls ([`pool`]),
//! and where everybody is ([`address_book`]).

pub mod address_book;
pub mod convert;
pub mod hello;
pub mod incoming;
pub mod outbox;
pub mod outgoing;
pub mod pool;
pub mod synced;
