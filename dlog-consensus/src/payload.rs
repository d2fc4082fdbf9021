//! What entries without records say: moves of the log start, and producers that are forgotten. Their bytes are on disk and on
//! the wire; both are protobuf.
//!
//! Reading never panics: a payload that isn't what its kind promises is refused before it is appended.

use bytes::Bytes;
use dlog_core::{LogIndex, Offset, ProducerId};
use prost::Message as _;

/// Producers that one expiry entry may name: about 20 bytes each. More follow with the next entry.
pub(crate) const EXPIRED_PRODUCERS_MAX: usize = 1024;

/// Why bytes are no payload of their kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{0}")]
    Encoding(String),
    #[error("{0}")]
    Invalid(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct LogStartProto {
    #[prost(uint64, tag = "1")]
    offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExpiryProto {
    #[prost(message, repeated, tag = "1")]
    producers: Vec<ExpiredProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExpiredProto {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(uint64, tag = "2")]
    last_index: u64,
}

/// A producer that was silent for too long, as its leader saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) id: ProducerId,
    /// The entry of its last batch. The producer is forgotten only if that still is the last one.
    pub(crate) last_index: LogIndex,
}

/// The payload of an entry that moves the log start to `offset`.
pub(crate) fn encode_log_start(offset: Offset) -> Bytes {
    Bytes::from(LogStartProto { offset: offset.0 }.encode_to_vec())
}

/// The offset that a log start entry names.
pub(crate) fn decode_log_start(bytes: &[u8]) -> Result<Offset, PayloadError> {
    let proto = LogStartProto::decode(bytes).map_err(|error| PayloadError::Encoding(error.to_string()))?;
    if proto.offset == 0 || proto.offset > Offset::MAX.0 {
        return Err(PayloadError::Invalid("the log start is out of range"));
    }
    Ok(Offset(proto.offset))
}

/// The payload of an entry that forgets producers, in rising order of their ids.
pub(crate) fn encode_expiry(producers: &[Expired]) -> Bytes {
    let expired = |producer: &Expired| ExpiredProto { id: producer.id.0, last_index: producer.last_index.0 };
    Bytes::from(ExpiryProto { producers: producers.iter().map(expired).collect() }.encode_to_vec())
}

/// The producers that an expiry entry names.
pub(crate) fn decode_expiry(bytes: &[u8]) -> Result<Vec<Expired>, PayloadError> {
    let proto = ExpiryProto::decode(bytes).map_err(|error| PayloadError::Encoding(error.to_string()))?;
    if proto.producers.is_empty() || proto.producers.len() > EXPIRED_PRODUCERS_MAX {
        return Err(PayloadError::Invalid("an expiry names no producer, or too many"));
    }
    if proto.producers.windows(2).any(|pair| pair[0].id >= pair[1].id) || proto.producers[0].id < 0 {
        return Err(PayloadError::Invalid("an expiry's producers are not in order"));
    }
    let expired =
        |producer: ExpiredProto| Expired { id: ProducerId(producer.id), last_index: LogIndex(producer.last_index) };
    Ok(proto.producers.into_iter().map(expired).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(hex(&encode_log_start(Offset(300))), "08ac02");
        let expired = |id, last_index| Expired { id: ProducerId(id), last_index: LogIndex(last_index) };
        assert_eq!(hex(&encode_expiry(&[expired(0, 5), expired(7, 300)])), "0a0210050a05080710ac02");
    }

    #[test]
    fn what_no_leader_writes_is_refused() {
        assert!(decode_log_start(&[]).is_err(), "offset 0 is no move");
        assert!(decode_log_start(&encode_log_start(Offset(u64::MAX))).is_err());
        assert!(decode_expiry(&[]).is_err());
        let same = Expired { id: ProducerId(1), last_index: LogIndex(1) };
        assert!(decode_expiry(&encode_expiry(&[same, same])).is_err());
        let negative = Expired { id: ProducerId(-1), last_index: LogIndex(1) };
        assert!(decode_expiry(&encode_expiry(&[negative])).is_err());
        let many = |count: usize| -> Vec<Expired> {
            (0..count).map(|id| Expired { id: ProducerId(id as i64), last_index: LogIndex(1) }).collect()
        };
        assert!(decode_expiry(&encode_expiry(&many(EXPIRED_PRODUCERS_MAX))).is_ok());
        assert!(decode_expiry(&encode_expiry(&many(EXPIRED_PRODUCERS_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn log_starts_round_trip(offset in 1..Offset::MAX.0) {
            prop_assert_eq!(decode_log_start(&encode_log_start(Offset(offset))), Ok(Offset(offset)));
        }

        #[test]
        fn expiries_round_trip(ids in proptest::collection::btree_map(0i64.., any::<u64>(), 1..40)) {
            let expired: Vec<Expired> =
                ids.into_iter().map(|(id, at)| Expired { id: ProducerId(id), last_index: LogIndex(at) }).collect();
            prop_assert_eq!(decode_expiry(&encode_expiry(&expired)), Ok(expired));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(offset) = decode_log_start(&bytes) {
                prop_assert!(offset > Offset(0) && offset <= Offset::MAX);
            }
            if let Ok(expired) = decode_expiry(&bytes) {
                prop_assert!((1..=EXPIRED_PRODUCERS_MAX).contains(&expired.len()));
            }
        }
    }
}
