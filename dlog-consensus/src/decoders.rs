//! Doors to the decoders of entries, tables and states for the fuzz tests: each reads bytes as production does, and writes again
//! what it read.

use crate::configuration::ChangeEntry;
use crate::payload;
use crate::producers::ProducerTable;
use crate::snapshot::Snapshot;
use crate::state_image::{Assembly, StateImage, StatePart, StatePartProto};
use bytes::Bytes;
use dlog_core::limits::PRODUCERS_PER_PARTITION_MAX;
use prost::Message as _;

/// The payload of a configuration entry.
pub fn change(bytes: &[u8]) -> Option<Bytes> {
    ChangeEntry::decode(bytes).ok().map(|entry| entry.encode())
}

/// The payload of an entry that moves the log start.
pub fn log_start(bytes: &[u8]) -> Option<Bytes> {
    payload::decode_log_start(bytes).ok().map(payload::encode_log_start)
}

/// The payload of an entry that forgets producers.
pub fn expiry(bytes: &[u8]) -> Option<Bytes> {
    payload::decode_expiry(bytes).ok().map(|expired| payload::encode_expiry(&expired))
}

/// A producer table.
pub fn producer_table(bytes: &[u8]) -> Option<Bytes> {
    ProducerTable::decode(bytes, PRODUCERS_PER_PARTITION_MAX).ok().map(|table| table.encode())
}

/// A snapshot, as it is kept with the state that it brought.
pub fn snapshot(bytes: &[u8]) -> Option<Bytes> {
    Snapshot::from_origin(&Bytes::copy_from_slice(bytes)).ok().map(|snapshot| snapshot.to_origin())
}

/// A state that comes as one part, and is put together.
pub fn state(bytes: &[u8]) -> Option<Bytes> {
    let part = StatePart::from_proto(StatePartProto::decode(bytes).ok()?).ok()?;
    let mut assembly = Assembly::of(&part);
    assembly.take(&part);
    let image = assembly.is_whole().then(|| assembly.finish()).flatten()?;
    let again = StateImage::of_entries(image.entries().ok()?);
    Some(Bytes::from(again.part(0).to_proto().encode_to_vec()))
}
