//! [`ClusterId`], and the header with which every call names the cluster that it means.
//!
//! An address may be taken over by a node of another cluster; a call that carries the id is then refused instead of
//! reaching the wrong data. A call without it (the first one of a client) is taken.

use bytes::Bytes;
use dlog_core::{ErrorCode, ErrorDetail, Stage};
use std::fmt;
use std::str::FromStr;
use tonic::metadata::{MetadataMap, MetadataValue};

/// The header's name; its value is the id's 32 hex digits.
pub const CLUSTER_ID_HEADER: &str = "dlog-cluster-id";
/// Bytes of a cluster id.
pub const CLUSTER_ID_BYTES: usize = 16;

/// What tells one cluster from every other: the first 16 bytes of the hash of its founders.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; CLUSTER_ID_BYTES]);

impl ClusterId {
    /// The id in a message's field.
    ///
    /// # Errors
    /// `invalid_argument` if it has not 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<ClusterId, ErrorDetail> {
        bytes.try_into().map(ClusterId).map_err(|_| {
            let message = format!("a cluster id has {CLUSTER_ID_BYTES} bytes, this one has {}", bytes.len());
            ErrorDetail::rejected(ErrorCode::InvalidArgument, Stage::Service, message)
        })
    }

    /// The id as a message's field.
    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Names this cluster in a call's headers.
    pub fn attach(self, headers: &mut MetadataMap) {
        let value = MetadataValue::try_from(self.to_string()).expect("hex digits are valid in a header");
        headers.insert(CLUSTER_ID_HEADER, value);
    }

    /// Checks that a call means this cluster, or says nothing of it.
    ///
    /// # Errors
    /// `wrong_cluster` if it means another one, or nothing readable.
    pub fn check(self, headers: &MetadataMap) -> Result<(), ErrorDetail> {
        let Some(value) = headers.get(CLUSTER_ID_HEADER) else { return Ok(()) };
        if value.to_str().ok().and_then(|text| text.parse().ok()) == Some(self) {
            return Ok(());
        }
        let message =
            format!("this node belongs to cluster {self}, the call means another; check the server addresses");
        Err(ErrorDetail::rejected(ErrorCode::WrongCluster, Stage::Service, message))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster:{self}")
    }
}

/// The text is no cluster id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 32 hex digits")]
pub struct NotAClusterId;

impl FromStr for ClusterId {
    type Err = NotAClusterId;

    fn from_str(text: &str) -> Result<ClusterId, NotAClusterId> {
        if text.len() != 2 * CLUSTER_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAClusterId);
        }
        let mut id = [0; CLUSTER_ID_BYTES];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAClusterId)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAClusterId)?;
        }
        Ok(ClusterId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_header_round_trip(id in any::<[u8; 16]>(), other in any::<[u8; 16]>()) {
            let (id, other) = (ClusterId(id), ClusterId(other));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(ClusterId::from_bytes(&id.to_bytes()).expect("16 bytes"), id);
            let mut headers = MetadataMap::new();
            prop_assert!(id.check(&headers).is_ok(), "a call that says nothing is taken");
            id.attach(&mut headers);
            prop_assert!(id.check(&headers).is_ok());
            if id != other {
                prop_assert_eq!(other.check(&headers).expect_err("another cluster").code, ErrorCode::WrongCluster);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            if let Ok(id) = text.parse::<ClusterId>() {
                prop_assert_eq!(id.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn a_header_that_is_no_id_is_refused() {
        let mut headers = MetadataMap::new();
        headers.insert(CLUSTER_ID_HEADER, MetadataValue::from_static("zz"));
        assert_eq!(ClusterId([0; 16]).check(&headers).expect_err("no id").code, ErrorCode::WrongCluster);
        assert!(ClusterId::from_bytes(&[0; 15]).is_err());
    }
}
