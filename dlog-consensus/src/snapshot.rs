//! A snapshot of a data partition: where a replica goes on whose next entries are no longer kept, and what the entries before
//! that place, up to an index C, have added up to. It carries no records: those follow as ordinary appends.
//!
//! C lies at or above the place. The membership and the producers of just that place are gone for good (a running replica keeps
//! only its newest state), so the receiver takes a newer state and lets the entries up to C change neither. That is sound since
//! everything up to C is committed: whatever a later leader appends there is what the sender had.
//!
//! A snapshot of group 0 has no producers. Its place is the last command of the state that comes with it, in parts
//! (`state_image.rs`); each part is a snapshot message of its own, with the same head.

use crate::membership::Membership;
use crate::message::{NUMBER_MAX, WireSnapshot};
use crate::producers::ProducerTable;
use crate::state_image::{StatePart, StatePartProto};
use bytes::Bytes;
use dlog_core::limits;
use dlog_core::write::{LogPoint, WriteOp};
use dlog_core::{LogId, LogIndex, Offset, Term};
use prost::Message as _;

/// Bytes of a snapshot's membership and data together; a full producer table has about half of it.
pub const SNAPSHOT_BYTES_MAX: usize = limits::GRPC_MESSAGE_BYTES_MAX / 4;

const _: () =
    assert!(SNAPSHOT_BYTES_MAX <= limits::FRAME_PAYLOAD_BYTES_MAX, "what has room for a batch has room for it");

/// The version of the data's encoding.
const DATA_VERSION: u32 = 1;

/// A snapshot that was checked.
///
/// Invariants: `point.index >= 1` and `point.term >= 1`; `as_of >= point.index`; `log_start >= point.next_offset`; the membership
/// is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// What stands before the first entry that follows.
    pub(crate) point: LogPoint,
    /// C: membership and producers are as of this entry.
    pub(crate) as_of: LogIndex,
    pub(crate) log_start: Offset,
    pub(crate) membership: Membership,
    pub(crate) table: ProducerTable,
    /// Just with group 0.
    pub(crate) state: Option<StatePart>,
}

/// Why a snapshot from the wire is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("it has {0} bytes")]
    Size(usize),
    #[error("{0}")]
    Encoding(String),
    #[error("version {0} is not known")]
    Version(u32),
    #[error("{0}")]
    Invalid(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct DataProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    as_of: u64,
    #[prost(uint64, tag = "3")]
    log_start: u64,
    #[prost(uint64, tag = "4")]
    next_offset: u64,
    #[prost(fixed32, tag = "5")]
    crc: u32,
    #[prost(bytes = "bytes", tag = "6")]
    producers: Bytes,
    #[prost(message, optional, tag = "7")]
    state: Option<StatePartProto>,
}

/// What is kept with a state that was installed.
#[derive(Clone, PartialEq, prost::Message)]
struct OriginProto {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(bytes = "bytes", tag = "3")]
    membership: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

impl Snapshot {
    pub(crate) fn encode(&self) -> WireSnapshot {
        let data = DataProto {
            version: DATA_VERSION,
            as_of: self.as_of.0,
            log_start: self.log_start.0,
            next_offset: self.point.next_offset.0,
            crc: self.point.crc,
            producers: self.table.encode(),
            state: self.state.as_ref().map(StatePart::to_proto),
        };
        WireSnapshot {
            index: self.point.index,
            term: self.point.term,
            membership: self.membership.encode(),
            data: Bytes::from(data.encode_to_vec()),
        }
    }

    /// Reads what [`Snapshot::encode`] wrote and checks all that the type promises. `producers_max`: the receiver's bound.
    pub(crate) fn decode(wire: &WireSnapshot, producers_max: usize) -> Result<Snapshot, SnapshotError> {
        let bytes = wire.bytes();
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Size(bytes));
        }
        let data = DataProto::decode(wire.data.clone()).map_err(|error| SnapshotError::Encoding(error.to_string()))?;
        if data.version != DATA_VERSION {
            return Err(SnapshotError::Version(data.version));
        }
        let rules = [
            ((1..=NUMBER_MAX).contains(&wire.index.0), "the index is out of range"),
            ((1..=NUMBER_MAX).contains(&wire.term.0), "the term is out of range"),
            ((wire.index.0..=NUMBER_MAX).contains(&data.as_of), "the state is older than the place"),
            (data.log_start >= data.next_offset, "the log start lies below the place"),
            (data.log_start <= Offset::MAX.0, "the log start is out of range"),
        ];
        if let Some((_, broken)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(SnapshotError::Invalid(broken));
        }
        let membership =
            Membership::decode(&wire.membership).map_err(|error| SnapshotError::Encoding(error.to_string()))?;
        let table = ProducerTable::decode(&data.producers, producers_max)
            .map_err(|error| SnapshotError::Encoding(error.to_string()))?;
        let (index, term) = (wire.index, wire.term);
        let point = LogPoint { index, term, next_offset: Offset(data.next_offset), crc: data.crc };
        let (as_of, log_start) = (LogIndex(data.as_of), Offset(data.log_start));
        let state = data.state.map(StatePart::from_proto).transpose().map_err(SnapshotError::Invalid)?;
        Ok(Snapshot { point, as_of, log_start, membership, table, state })
    }

    /// What a state store keeps with the state of this snapshot: all but the state.
    pub(crate) fn to_origin(&self) -> Bytes {
        let WireSnapshot { index, term, membership, data } = Snapshot { state: None, ..self.clone() }.encode();
        Bytes::from(OriginProto { index: index.0, term: term.0, membership, data }.encode_to_vec())
    }

    /// Reads what [`Snapshot::to_origin`] wrote.
    pub(crate) fn from_origin(bytes: &Bytes) -> Result<Snapshot, SnapshotError> {
        let origin = OriginProto::decode(bytes.clone()).map_err(|error| SnapshotError::Encoding(error.to_string()))?;
        let (index, term) = (LogIndex(origin.index), Term(origin.term));
        let wire = WireSnapshot { index, term, membership: origin.membership, data: origin.data };
        Snapshot::decode(&wire, limits::PRODUCERS_PER_PARTITION_MAX)
    }

    /// What makes it durable, to be written in one step. Group 0 keeps no producers.
    pub(crate) fn ops(&self, log: LogId) -> Vec<WriteOp> {
        let mut ops = vec![
            WriteOp::Reset(self.point),
            WriteOp::LogStart(self.log_start),
            WriteOp::Configuration { index: self.as_of, membership: self.membership.encode() },
        ];
        if log != LogId::GROUP_ZERO {
            ops.push(WriteOp::Producers { index: self.as_of, table: self.table.encode() });
        }
        ops
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
