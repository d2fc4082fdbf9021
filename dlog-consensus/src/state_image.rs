//! [`StateImage`]: all keys of group 0's state as one run of bytes with its CRC, and the parts in which a snapshot carries it.
//!
//! Protobuf: `version = 1` (1), `entries = 2`, each `key = 1`, `value = 2`. A part names the whole (bytes, CRC32C) and where it
//! stands in it, so the receiver knows the parts of one image from those of another, whoever sends them.

use bytes::Bytes;
use dlog_core::LogIndex;
use dlog_core::limits::{STATE_BYTES_MAX, STATE_PART_BYTES};
use dlog_replication::Catalogue;
use prost::Message as _;

/// The version of the image's encoding.
const IMAGE_VERSION: u32 = 1;

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A state, encoded.
///
/// Invariant: `crc` is the CRC32C of `bytes`.
#[derive(Clone, PartialEq, Eq)]
pub struct StateImage {
    bytes: Bytes,
    crc: u32,
}

impl std::fmt::Debug for StateImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateImage({} bytes, {:08x})", self.bytes.len(), self.crc)
    }
}

/// Why bytes are no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateImageError {
    /// Not the encoding.
    #[error("not an encoded state: {0}")]
    Encoding(String),
    /// Another version's.
    #[error("version {0} of an encoded state is not known")]
    Version(u32),
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryProto {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl StateImage {
    /// The image of these keys and values. Costs a copy of all of them: not for the consensus thread.
    pub fn of_entries(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> StateImage {
        let entries = entries.into_iter().map(|(key, value)| EntryProto { key, value }).collect();
        StateImage::of_bytes(Bytes::from(ImageProto { version: IMAGE_VERSION, entries }.encode_to_vec()))
    }

    fn of_bytes(bytes: Bytes) -> StateImage {
        let crc = crc32c::crc32c(&bytes);
        StateImage { bytes, crc }
    }

    /// The keys and values, in the order in which they were given.
    ///
    /// # Errors
    /// [`StateImageError`] if the bytes are another version's, or no state.
    pub fn entries(&self) -> Result<Vec<(Bytes, Bytes)>, StateImageError> {
        let image = ImageProto::decode(self.bytes.clone());
        let image = image.map_err(|error| StateImageError::Encoding(error.to_string()))?;
        if image.version != IMAGE_VERSION {
            return Err(StateImageError::Version(image.version));
        }
        Ok(image.entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
    }

    /// The catalogue that this state is, as of `index`, and its keys and values as the state store takes them.
    ///
    /// # Errors
    /// What of it this version can't read, in words.
    pub fn catalogue(&self, index: LogIndex) -> Result<(Catalogue, Vec<KeyValue>), String> {
        let entries = self.entries().map_err(|error| error.to_string())?;
        let catalogue = Catalogue::load(index, entries.iter().map(|(key, value)| (key, value)));
        let catalogue = catalogue.map_err(|error| error.to_string())?;
        Ok((catalogue, entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
    }

    /// Its bytes, counted.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: the version is always there. Exists for those who expect it beside `len`.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The part that begins at `offset`; empty at the end.
    pub(crate) fn part(&self, offset: usize) -> StatePart {
        let from = offset.min(self.bytes.len());
        let to = self.bytes.len().min(from + STATE_PART_BYTES);
        StatePart { total: self.bytes.len(), crc: self.crc, offset: from, bytes: self.bytes.slice(from..to) }
    }
}

/// A part of an image, on its way.
///
/// Invariants: `offset + bytes.len() <= total <= STATE_BYTES_MAX`; `total > 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatePart {
    /// Bytes of the whole.
    pub(crate) total: usize,
    /// CRC32C of the whole.
    pub(crate) crc: u32,
    pub(crate) offset: usize,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatePartProto {
    #[prost(uint64, tag = "1")]
    total: u64,
    #[prost(fixed32, tag = "2")]
    crc: u32,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(bytes = "bytes", tag = "4")]
    bytes: Bytes,
}

impl StatePart {
    pub(crate) fn to_proto(&self) -> StatePartProto {
        let (total, offset) = (self.total as u64, self.offset as u64);
        StatePartProto { total, crc: self.crc, offset, bytes: self.bytes.clone() }
    }

    pub(crate) fn from_proto(proto: StatePartProto) -> Result<StatePart, &'static str> {
        let known = usize::try_from(proto.total).ok().filter(|total| (1..=STATE_BYTES_MAX).contains(total));
        let total = known.ok_or("the state is too large")?;
        let offset = usize::try_from(proto.offset).ok().filter(|offset| *offset <= total);
        let offset = offset.ok_or("a part of the state lies beyond its end")?;
        if proto.bytes.len() > total - offset || proto.bytes.len() > STATE_PART_BYTES {
            return Err("a part of the state is too long");
        }
        Ok(StatePart { total, crc: proto.crc, offset, bytes: proto.bytes })
    }
}

/// An image whose parts arrive.
///
/// Invariants: `bytes.len() <= total`; `crc` is that of `bytes`. Memory is taken as bytes arrive, not as they are announced.
pub(crate) struct Assembly {
    total: usize,
    crc_wanted: u32,
    bytes: Vec<u8>,
    crc: u32,
}

impl Assembly {
    /// Empty, for the image that `part` is of.
    pub(crate) fn of(part: &StatePart) -> Assembly {
        Assembly { total: part.total, crc_wanted: part.crc, bytes: Vec::new(), crc: 0 }
    }

    /// Whether the part is of this image.
    pub(crate) fn is_of(&self, part: &StatePart) -> bool {
        (self.total, self.crc_wanted) == (part.total, part.crc)
    }

    /// Takes the part if it is the next one. Others come again.
    pub(crate) fn take(&mut self, part: &StatePart) {
        if part.offset == self.bytes.len() {
            self.crc = crc32c::crc32c_append(self.crc, &part.bytes);
            self.bytes.extend_from_slice(&part.bytes);
        }
    }

    /// Bytes that are here.
    pub(crate) fn have(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }

    /// The image, once; `None` if the bytes are not those that were announced.
    pub(crate) fn finish(&mut self) -> Option<StateImage> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        (self.crc == self.crc_wanted).then_some(StateImage { bytes, crc: self.crc })
    }
}

#[cfg(test)]
#[path = "state_image_tests.rs"]
mod tests;
