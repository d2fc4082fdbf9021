//! What is asked of a producer's batch before a shard sees it. Pure: everything is in the arguments.

use crate::config::NodeConfig;
use dlog_consensus::Acks;
use dlog_core::batch::{self, BatchHeader, BatchLimits};
use dlog_core::error::{ErrorCode, ErrorDetail, Stage};
use dlog_replication::catalogue::TopicInfo;

/// Checks a batch as its topic wants it: whole, undamaged, not too large, of a kind that clients may write.
///
/// # Errors
/// `batch_too_large`, `invalid_batch` or `unsupported`, always rejected.
pub fn check_batch(bytes: &[u8], topic: &TopicInfo) -> Result<BatchHeader, ErrorDetail> {
    let max = usize::try_from(topic.settings.max_batch_bytes()).unwrap_or(usize::MAX);
    let header = batch::validate(bytes, BatchLimits::of_topic(max)).map_err(|e| e.to_detail(Stage::Admission))?;
    header.check_producible().map_err(|e| e.to_detail(Stage::Admission))?;
    Ok(header)
}

/// The shard's word for when a producer is told.
pub fn shard_acks(acks: dlog_protocol::Acks) -> Acks {
    match acks {
        dlog_protocol::Acks::Quorum => Acks::Quorum,
        dlog_protocol::Acks::Leader => Acks::Leader,
        dlog_protocol::Acks::All => Acks::All,
    }
}

/// A cluster of one that others can reach takes records only if that was asked for: it looks like a cluster but keeps one
/// copy, which is what a node started with a forgotten `--initial-cluster` does. `nodes` is the catalogue's count, since a
/// member of a larger cluster may be started again without its list.
///
/// # Errors
/// `single_not_allowed`.
pub fn single_node_rule(config: &NodeConfig, nodes: usize) -> Result<(), ErrorDetail> {
    if config.single || !config.beyond_loopback() || nodes > 1 {
        return Ok(());
    }
    Err(ErrorDetail::rejected(
        ErrorCode::SingleNotAllowed,
        Stage::Admission,
        "this node is a cluster of one: each record would have one copy; form a cluster with --initial-cluster, or start it \
         with --single if one copy is enough",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServeArgs;
    use crate::service::lookup::tests::catalogue;
    use bytes::Bytes;
    use dlog_core::{BatchBuilder, Codec, Record, TimestampMs};

    fn batch(value_bytes: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(&Record::new(TimestampMs(1), vec![7; value_bytes])).expect("fits");
        builder.build().expect("one record")
    }

    #[test]
    fn batches_are_checked() {
        let catalogue = catalogue();
        let topic = catalogue.topic_by_name("a").expect("made");
        let good = batch(100);
        assert_eq!(check_batch(&good, topic).expect("good").record_count, 1);
        let code = |bytes: &[u8]| check_batch(bytes, topic).expect_err("refused").code;
        assert_eq!(code(&[]), ErrorCode::InvalidBatch, "empty");
        assert_eq!(code(&good[..good.len() - 1]), ErrorCode::InvalidBatch, "cut");
        assert_eq!(code(&batch(1 << 20)), ErrorCode::BatchTooLarge, "the default max.batch.bytes is 1 MiB");
        let mut damaged = good.to_vec();
        *damaged.last_mut().expect("not empty") ^= 1;
        assert_eq!(code(&damaged), ErrorCode::InvalidBatch, "checksum");
    }

    #[test]
    fn batches_that_are_not_for_clients_are_refused() {
        let catalogue = catalogue();
        let topic = catalogue.topic_by_name("a").expect("made");
        for bit in [0x10u8, 0x20] {
            let mut bytes = batch(10).to_vec();
            bytes[22] |= bit;
            let crc = crc_of(&bytes);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let error = check_batch(&bytes, topic).expect_err("transactional or control");
            assert!(matches!(error.code, ErrorCode::Unsupported | ErrorCode::InvalidBatch), "{error}");
        }
    }

    /// CRC32C of a batch's covered part, bit by bit: the crate's own is not a dependency here.
    fn crc_of(batch: &[u8]) -> u32 {
        !batch[21..].iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 })
        })
    }

    #[test]
    fn one_copy_must_be_asked_for_beyond_loopback() {
        let config = |listen: &str, single| {
            let args = ServeArgs {
                name: Some("n1".into()),
                data_dir: Some("d".into()),
                listen: Some(listen.into()),
                advertise: Some("n1:7411".into()),
                insecure: Some(true),
                single: Some(single),
                ..ServeArgs::default()
            };
            args.into_config().expect("valid")
        };
        let open = "0.0.0.0:7411";
        let error = single_node_rule(&config(open, false), 1).expect_err("refused");
        assert_eq!(error.code, ErrorCode::SingleNotAllowed);
        assert!(single_node_rule(&config(open, true), 1).is_ok());
        assert!(single_node_rule(&config("127.0.0.1:7411", false), 1).is_ok());
        assert!(single_node_rule(&config(open, false), 3).is_ok());
    }
}
